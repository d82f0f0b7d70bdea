/**
 * Linux error numbers, as positive numbers.
 *
 * @see include/uapi/asm-generic/errno-base.h and errno.h
 */
// biome-ignore format: a table
export const Errno = {
  EPERM: 1, ENOENT: 2, EINTR: 4, EIO: 5, ENXIO: 6, E2BIG: 7, EBADF: 9, EAGAIN: 11, ENOMEM: 12,
  EACCES: 13, EFAULT: 14, EBUSY: 16, EEXIST: 17, EXDEV: 18, ENODEV: 19, ENOTDIR: 20, EISDIR: 21,
  EINVAL: 22, ENFILE: 23, EMFILE: 24, ENOTTY: 25, EFBIG: 27, ENOSPC: 28, ESPIPE: 29, EROFS: 30,
  EMLINK: 31, EPIPE: 32, EDOM: 33, ERANGE: 34, ENAMETOOLONG: 36, ENOSYS: 38, ENOTEMPTY: 39,
  ELOOP: 40, ENODATA: 61, ETIME: 62, EPROTO: 71, EBADMSG: 74, EOVERFLOW: 75, EUSERS: 87,
  EOPNOTSUPP: 95, ECONNABORTED: 103, ENOTCONN: 107, ETIMEDOUT: 110, ESTALE: 116, EUCLEAN: 117,
  EDQUOT: 122, EKEYREJECTED: 129, ENOKEY: 126,
} as const;

export type Errno = (typeof Errno)[keyof typeof Errno];

const names = new Map<number, string>(Object.entries(Errno).map(([name, value]) => [value, name]));

/** `"ENOENT"` for 2; the number itself where we have no name for it. */
export function errnoName(errno: number): string {
  return names.get(errno) ?? String(errno);
}
