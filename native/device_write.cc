// Writes devices and image files for TypeScript and for WRITEs: bytes, flushes, discards and zeros.

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <memory>

#include "addon.h"
#include "device.h"

namespace {

/** Most bytes that go through an aligned buffer, and zeros written, at a time. */
constexpr size_t BOUNCE_BYTES_MAX = 1024 * 1024;
/** Up to here, zeros that are written are cheaper than those that a device makes. */
constexpr uint64_t PLAIN_ZERO_BYTES_MAX = 64 * 1024;
constexpr double OFFSET_MAX = 0x1p53;

using Memory = std::unique_ptr<void, decltype(&free)>;

/** Writes at most `length` bytes by way of whole sectors: reads them, changes them, writes them. */
int64_t writeAligned(int fd, uint64_t offset, const uint8_t* bytes, size_t length) {
  const size_t alignment = deviceAlignment(fd);
  const size_t skip = offset % alignment;
  const size_t rounded = (skip + length + alignment - 1) / alignment * alignment;
  const Memory bounce(aligned_alloc(alignment, rounded), &free);
  if (bounce == nullptr) return -ENOMEM;
  auto* const sectors = static_cast<uint8_t*>(bounce.get());
  const uint64_t start = offset - skip;
  if (skip != 0 || rounded != length) {
    memset(sectors, 0, rounded);
    const int64_t got = readDeviceFully(fd, start, sectors, rounded);
    if (got < 0) return got;
  }
  memcpy(sectors + skip, bytes, length);
  const ssize_t put = pwrite(fd, sectors, rounded, static_cast<off_t>(start));
  if (put < 0) return -errno;
  const size_t useful = static_cast<size_t>(put) > skip ? static_cast<size_t>(put) - skip : 0;
  return static_cast<int64_t>(std::min(useful, length));
}

/** Writes zeros as any other bytes. @returns zero or a negative errno. */
int writeZeros(int fd, uint64_t offset, uint64_t length) {
  const size_t piece = static_cast<size_t>(std::min<uint64_t>(length, BOUNCE_BYTES_MAX));
  const Memory zeros(calloc(1, piece), &free);
  if (zeros == nullptr) return -ENOMEM;
  while (length > 0) {
    const size_t bytes = static_cast<size_t>(std::min<uint64_t>(length, piece));
    const int error =
        writeDeviceFully(fd, offset, static_cast<const uint8_t*>(zeros.get()), bytes);
    if (error != 0) return error;
    offset += bytes;
    length -= bytes;
  }
  return 0;
}

bool isBlockDevice(int fd) {
  struct stat status;
  return fstat(fd, &status) == 0 && S_ISBLK(status.st_mode);
}

/** Makes the device, or the filesystem under the image, do it. @returns zero or a negative errno. */
int ask(int fd, unsigned long blockRequest, int fileMode, uint64_t offset, uint64_t length) {
  int result;
  if (isBlockDevice(fd)) {
    uint64_t range[2] = {offset, length};
    result = ioctl(fd, blockRequest, range);
  } else {
    do {
      result = fallocate(fd, fileMode | FALLOC_FL_KEEP_SIZE, static_cast<off_t>(offset),
                         static_cast<off_t>(length));
    } while (result != 0 && errno == EINTR);
  }
  return result == 0 ? 0 : -errno;
}

int discard(int fd, uint64_t offset, uint64_t length) {
  return ask(fd, BLKDISCARD, FALLOC_FL_PUNCH_HOLE, offset, length);
}

int zero(int fd, uint64_t offset, uint64_t length) {
  if (length > PLAIN_ZERO_BYTES_MAX &&
      ask(fd, BLKZEROOUT, FALLOC_FL_ZERO_RANGE, offset, length) == 0)
    return 0;
  return writeZeros(fd, offset, length);
}

/** The descriptor and the offset that a call starts with. @returns false when they are none. */
bool takePlace(napi_env env, const napi_value* arguments, int32_t& fd, uint64_t& offset) {
  double number = -1;
  if (napi_get_value_int32(env, arguments[0], &fd) != napi_ok ||
      napi_get_value_double(env, arguments[1], &number) != napi_ok)
    return false;
  if (!(number >= 0 && number <= OFFSET_MAX)) return false;
  offset = static_cast<uint64_t>(number);
  return true;
}

napi_value resultOf(napi_env env, int error) {
  napi_value result;
  napi_create_int32(env, error, &result);
  return result;
}

napi_value writeDevice(napi_env env, napi_callback_info info) {
  napi_value arguments[3];
  size_t count = 3;
  napi_get_cb_info(env, info, &count, arguments, nullptr, nullptr);
  int32_t fd = -1;
  uint64_t offset = 0;
  size_t length = 0;
  void* bytes = nullptr;
  napi_typedarray_type type = napi_int8_array;
  napi_get_typedarray_info(env, arguments[2], &type, &length, &bytes, nullptr, nullptr);
  if (!takePlace(env, arguments, fd, offset) || type != napi_uint8_array)
    return resultOf(env, -EINVAL);
  return resultOf(env, writeDeviceFully(fd, offset, static_cast<const uint8_t*>(bytes), length));
}

napi_value flushDevice(napi_env env, napi_callback_info info) {
  napi_value argument;
  size_t count = 1;
  int32_t fd = -1;
  napi_get_cb_info(env, info, &count, &argument, nullptr, nullptr);
  napi_get_value_int32(env, argument, &fd);
  int result;
  do {
    result = fdatasync(fd);
  } while (result != 0 && errno == EINTR);
  return resultOf(env, result == 0 ? 0 : -errno);
}

/** A call `(fd, offset, length)` that does `action` there. */
template <int (*action)(int, uint64_t, uint64_t)>
napi_value onRange(napi_env env, napi_callback_info info) {
  napi_value arguments[3];
  size_t count = 3;
  napi_get_cb_info(env, info, &count, arguments, nullptr, nullptr);
  int32_t fd = -1;
  uint64_t offset = 0;
  double length = -1;
  napi_get_value_double(env, arguments[2], &length);
  if (!takePlace(env, arguments, fd, offset) || !(length >= 0 && length <= OFFSET_MAX))
    return resultOf(env, -EINVAL);
  return resultOf(env, length == 0 ? 0 : action(fd, offset, static_cast<uint64_t>(length)));
}

}  // namespace

int writeDeviceFully(int fd, uint64_t offset, const uint8_t* bytes, size_t length) {
  size_t done = 0;
  bool bounces = false;
  while (done < length) {
    const uint64_t at = offset + done;
    const size_t rest = length - done;
    const int64_t put = bounces
                            ? writeAligned(fd, at, bytes + done, std::min(rest, BOUNCE_BYTES_MAX))
                            : pwrite(fd, bytes + done, rest, static_cast<off_t>(at));
    const int error = put >= 0 ? 0 : bounces ? static_cast<int>(-put) : errno;
    if (put == 0) return -EIO;
    if (put > 0) {
      done += static_cast<size_t>(put);
    } else if (error == EINVAL && !bounces) {
      bounces = true;
    } else if (error != EINTR) {
      return -error;
    }
  }
  return 0;
}

void registerDeviceWrites(Napi::Env env, Napi::Object exports) {
  exportFunction(env, exports, "writeDevice", writeDevice);
  exportFunction(env, exports, "flushDevice", flushDevice);
  exportFunction(env, exports, "discardDevice", onRange<discard>);
  exportFunction(env, exports, "zeroDevice", onRange<zero>);
}
