/** What a user typed cannot be carried out. The message is one line, without the program's name. */
export class UsageError extends Error {
  override readonly name = "UsageError";
}
