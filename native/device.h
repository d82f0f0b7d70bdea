// What the mover and the exported device calls share.

#pragma once

#include <cstddef>
#include <cstdint>

/** No device asks for more. */
constexpr uint32_t ALIGNMENT_BYTES_MAX = 64 * 1024;

/** What O_DIRECT wants offsets, lengths and addresses to be multiples of, on the device `fd`. */
uint32_t deviceAlignment(int fd);

/**
 * Reads up to `length` bytes into memory of any alignment, from any offset, also where `fd` was
 * opened with O_DIRECT. @returns bytes read, fewer only at the end, or a negative errno.
 */
int64_t readDeviceFully(int fd, uint64_t offset, uint8_t* into, size_t length);

/**
 * Writes all `length` bytes, from memory of any alignment, to any offset, also where `fd` was opened
 * with O_DIRECT: then what shares a sector with either end must not change meanwhile.
 *
 * @returns zero or a negative errno.
 */
int writeDeviceFully(int fd, uint64_t offset, const uint8_t* bytes, size_t length);
