/** Where the contents of regular files are, for those moments in which they are ours to move. */
import type { WritableDevice } from "../../base/block-device.ts";
import type { Filesystem } from "../filesystem.ts";

/** What file contents are read from and written to by a filesystem that may be changed. */
export function contentsDevice({ writer: { kernelData, device } }: Filesystem): WritableDevice {
  return kernelData?.device ?? device;
}
