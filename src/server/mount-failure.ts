/** Why there is no mount, in the words that people who asked for it are told. */
import { getSystemErrorMap } from "node:util";

/** The mount cannot be made. The message is one line, without the image's name. */
export class MountFailure extends Error {
  override readonly name = "MountFailure";
}

/** `"permission denied (EACCES)"` for 13. */
export function errnoText(errno: number): string {
  const [name, text] = getSystemErrorMap().get(-errno) ?? [`error ${errno}`, undefined];
  return text === undefined ? name : `${text} (${name})`;
}
