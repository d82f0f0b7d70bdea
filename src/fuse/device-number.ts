/**
 * Device numbers as they cross the border between kernel and programs: 12 bits of major number, 20
 * of minor number.
 *
 *     31        20 19      8 7       0
 *     | minor hi   | major   | minor lo |
 *
 * @see new_encode_dev() and new_decode_dev() in include/linux/kdev_t.h
 */
export function encodeDevice(major: number, minor: number): number {
  return (minor & 0xff) | (major << 8) | ((minor & ~0xff) << 12);
}

export function decodeDevice(device: number): { major: number; minor: number } {
  return { major: (device >>> 8) & 0xfff, minor: (device & 0xff) | ((device >>> 12) & 0xfff00) };
}
