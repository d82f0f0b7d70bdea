// Opens devices and image files, says what they are and can do, and reads them for TypeScript.

#include "device.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>

#include "addon.h"
#include "descriptor.h"

namespace {

/** The flags of `openDevice`; src/native/binding.ts has the same. */
constexpr uint32_t OPEN_WRITE = 1;
constexpr uint32_t OPEN_DIRECT = 2;
constexpr uint32_t OPEN_EXCLUSIVE = 4;

/** O_DIRECT alignment of files on filesystems that do not say. */
constexpr uint32_t FILE_ALIGNMENT_BYTES = 4096;
constexpr uint32_t SECTOR_BYTES = 512;
/** Most bytes that go through an aligned buffer at a time. */
constexpr size_t BOUNCE_BYTES_MAX = 1024 * 1024;

/** A copy of descriptor `fd` where it already allows what the open `mode` asks for; else -1. */
int duplicate(int fd, int mode) {
  const int has = fcntl(fd, F_GETFL);
  if (has < 0 || (has & O_ACCMODE) == O_WRONLY) return -1;
  if ((mode & O_ACCMODE) == O_RDWR && (has & O_ACCMODE) != O_RDWR) return -1;
  if ((mode & O_DIRECT) != 0 && (has & O_DIRECT) == 0) return -1;
  return fcntl(fd, F_DUPFD_CLOEXEC, 0);
}

/** Refuses what neither is a block device nor a file. @returns zero or a negative errno. */
int refuseKind(const struct stat& status) {
  if (S_ISREG(status.st_mode) || S_ISBLK(status.st_mode)) return 0;
  return S_ISDIR(status.st_mode) ? -EISDIR : -EINVAL;
}

/** Whether a block device refuses writes, which it may do no sooner than they come. */
bool isReadOnly(int fd) {
  int readOnly = 0;
  return ioctl(fd, BLKROGET, &readOnly) == 0 && readOnly != 0;
}

int open(const std::string& path, uint32_t flags) {
  const int inherited = descriptorOf(path);
  struct stat status;
  if ((inherited >= 0 ? fstat(inherited, &status) : stat(path.c_str(), &status)) != 0)
    return -errno;
  const int refusal = refuseKind(status);
  if (refusal != 0) return refusal;

  const bool exclusive = (flags & OPEN_EXCLUSIVE) != 0;
  int mode = O_CLOEXEC | ((flags & OPEN_WRITE) != 0 ? O_RDWR : O_RDONLY);
  if ((flags & OPEN_DIRECT) != 0) mode |= O_DIRECT;
  if (exclusive && S_ISBLK(status.st_mode)) mode |= O_EXCL;
  Descriptor fd(::open(path.c_str(), mode));
  if (!fd.valid()) {
    const int error = errno;
    if (inherited >= 0 && (error == EACCES || error == EPERM || error == ENOENT))
      fd = Descriptor(duplicate(inherited, mode));
    if (!fd.valid()) return -error;
  }

  if ((flags & OPEN_WRITE) != 0 && S_ISBLK(status.st_mode) && isReadOnly(fd.get())) return -EROFS;
  if (exclusive && S_ISREG(status.st_mode)) {
    const int lock = (flags & OPEN_WRITE) != 0 ? LOCK_EX : LOCK_SH;
    if (flock(fd.get(), lock | LOCK_NB) != 0 && errno == EWOULDBLOCK) return -EBUSY;
  }
  return fd.release();
}

/**
 * Exchanges what `fd` stands for, the same device with another claim. The claim of the old one ends
 * with its last use.
 */
int claim(int fd, bool exclusive) {
  const int has = fcntl(fd, F_GETFL);
  if (has < 0) return -errno;
  const std::string path = "/proc/self/fd/" + std::to_string(fd);
  const int mode = (has & (O_ACCMODE | O_DIRECT)) | O_CLOEXEC | (exclusive ? O_EXCL : 0);
  const Descriptor other(::open(path.c_str(), mode));
  if (!other.valid()) return -errno;
  return dup3(other.get(), fd, O_CLOEXEC) < 0 ? -errno : 0;
}

/** Reads at most `length` bytes at once into memory of the right alignment. */
int64_t readAligned(int fd, uint64_t offset, uint8_t* into, size_t length) {
  const size_t alignment = deviceAlignment(fd);
  const size_t skip = offset % alignment;
  const size_t rounded = (skip + length + alignment - 1) / alignment * alignment;
  const std::unique_ptr<void, decltype(&free)> bounce(aligned_alloc(alignment, rounded), &free);
  if (bounce == nullptr) return -ENOMEM;
  const ssize_t got = pread(fd, bounce.get(), rounded, static_cast<off_t>(offset - skip));
  if (got < 0) return -errno;
  if (static_cast<size_t>(got) <= skip) return 0;
  const size_t useful = std::min(static_cast<size_t>(got) - skip, length);
  memcpy(into, static_cast<const uint8_t*>(bounce.get()) + skip, useful);
  return static_cast<int64_t>(useful);
}

/** What O_DIRECT wants, and what is written in one piece or not at all; zeros where unknown. */
struct DirectLimits {
  uint32_t memoryAlignment;
  uint32_t offsetAlignment;
  uint32_t atomicMin;
  uint32_t atomicMax;
};

/** By position: headers have had these fields of struct statx for a shorter time than kernels. */
DirectLimits directLimits(int fd) {
  constexpr unsigned WANTS_DIRECT = 0x2000;   // STATX_DIOALIGN, since Linux 6.1
  constexpr unsigned WANTS_ATOMIC = 0x10000;  // STATX_WRITE_ATOMIC, since Linux 6.11
  struct statx details {};
  static_assert(sizeof details == 256);
  DirectLimits limits{};
  if (statx(fd, "", AT_EMPTY_PATH, WANTS_DIRECT | WANTS_ATOMIC, &details) != 0) return limits;
  const auto* const bytes = reinterpret_cast<const uint8_t*>(&details);
  if ((details.stx_mask & WANTS_DIRECT) != 0) {
    memcpy(&limits.memoryAlignment, bytes + 152, sizeof limits.memoryAlignment);
    memcpy(&limits.offsetAlignment, bytes + 156, sizeof limits.offsetAlignment);
  }
  if ((details.stx_mask & WANTS_ATOMIC) != 0) {
    memcpy(&limits.atomicMin, bytes + 168, sizeof limits.atomicMin);
    memcpy(&limits.atomicMax, bytes + 172, sizeof limits.atomicMax);
  }
  return limits;
}

Napi::Value openDevice(const Napi::CallbackInfo& info) {
  const std::string path = info[0].As<Napi::String>();
  const uint32_t flags = info[1].As<Napi::Number>().Uint32Value();
  return Napi::Number::New(info.Env(), open(path, flags));
}

Napi::Value deviceInfo(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const int fd = info[0].As<Napi::Number>().Int32Value();
  struct stat status;
  if (fstat(fd, &status) != 0) return Napi::Number::New(env, -errno);
  const int refusal = refuseKind(status);
  if (refusal != 0) return Napi::Number::New(env, refusal);
  uint64_t bytes = static_cast<uint64_t>(status.st_size);
  if (S_ISBLK(status.st_mode) && ioctl(fd, BLKGETSIZE64, &bytes) != 0)
    return Napi::Number::New(env, -errno);

  Napi::Object result = Napi::Object::New(env);
  result["sizeBytes"] = static_cast<double>(bytes);
  result["isBlockDevice"] = Napi::Boolean::New(env, S_ISBLK(status.st_mode));
  result["alignmentBytes"] = deviceAlignment(fd);
  const DirectLimits limits = directLimits(fd);
  result["directMemoryBytes"] = limits.memoryAlignment;
  result["directOffsetBytes"] = limits.offsetAlignment;
  result["atomicWriteMinBytes"] = limits.atomicMin;
  result["atomicWriteMaxBytes"] = limits.atomicMax;
  return result;
}

Napi::Value claimDevice(const Napi::CallbackInfo& info) {
  const int fd = info[0].As<Napi::Number>().Int32Value();
  return Napi::Number::New(info.Env(), claim(fd, info[1].ToBoolean()));
}

Napi::Value blockSize(const Napi::CallbackInfo& info) {
  int bytes = 0;
  const int error = ioctl(info[0].ToNumber().Int32Value(), BLKBSZGET, &bytes);
  return Napi::Number::New(info.Env(), error == 0 ? bytes : -errno);
}

Napi::Value setBlockSize(const Napi::CallbackInfo& info) {
  int bytes = info[1].ToNumber().Int32Value();
  const int error = ioctl(info[0].ToNumber().Int32Value(), BLKBSZSET, &bytes);
  return Napi::Number::New(info.Env(), error == 0 ? 0 : -errno);
}

void closeDescriptor(const Napi::CallbackInfo& info) {
  close(info[0].As<Napi::Number>().Int32Value());
}

napi_value readDevice(napi_env env, napi_callback_info info) {
  napi_value arguments[3];
  size_t count = 3;
  napi_get_cb_info(env, info, &count, arguments, nullptr, nullptr);
  int32_t fd = -1;
  double offset = -1;
  size_t length = 0;
  void* into = nullptr;
  napi_typedarray_type type = napi_int8_array;
  napi_get_value_int32(env, arguments[0], &fd);
  napi_get_value_double(env, arguments[1], &offset);
  napi_get_typedarray_info(env, arguments[2], &type, &length, &into, nullptr, nullptr);

  int64_t got = -EINVAL;
  if (type == napi_uint8_array && offset >= 0 && offset <= 0x1p53)
    got = readDeviceFully(fd, static_cast<uint64_t>(offset), static_cast<uint8_t*>(into), length);
  napi_value result;
  napi_create_int64(env, got, &result);
  return result;
}

}  // namespace

uint32_t deviceAlignment(int fd) {
  struct stat status;
  if (fstat(fd, &status) != 0) return FILE_ALIGNMENT_BYTES;
  uint32_t wanted = FILE_ALIGNMENT_BYTES;
  if (S_ISBLK(status.st_mode)) {
    int sector = 0;
    wanted = ioctl(fd, BLKSSZGET, &sector) == 0 && sector > 0 ? static_cast<uint32_t>(sector)
                                                              : FILE_ALIGNMENT_BYTES;
  }
#if defined(STATX_DIOALIGN)
  struct statx details;
  if (S_ISREG(status.st_mode) && statx(fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &details) == 0 &&
      (details.stx_mask & STATX_DIOALIGN) != 0 && details.stx_dio_offset_align > 0)
    wanted = std::max(details.stx_dio_offset_align, details.stx_dio_mem_align);
#endif
  const bool powerOfTwo = (wanted & (wanted - 1)) == 0;
  return powerOfTwo ? std::clamp(wanted, SECTOR_BYTES, ALIGNMENT_BYTES_MAX) : FILE_ALIGNMENT_BYTES;
}

int64_t readDeviceFully(int fd, uint64_t offset, uint8_t* into, size_t length) {
  size_t done = 0;
  bool bounces = false;
  while (done < length) {
    const uint64_t at = offset + done;
    const size_t rest = length - done;
    const int64_t got = bounces ? readAligned(fd, at, into + done, std::min(rest, BOUNCE_BYTES_MAX))
                                : pread(fd, into + done, rest, static_cast<off_t>(at));
    const int error = got >= 0 ? 0 : bounces ? static_cast<int>(-got) : errno;
    if (got == 0) break;
    if (got > 0) {
      done += static_cast<size_t>(got);
    } else if (error == EINVAL && !bounces) {
      bounces = true;
    } else if (error != EINTR) {
      return -error;
    }
  }
  return static_cast<int64_t>(done);
}

void registerDevice(Napi::Env env, Napi::Object exports) {
  exports["openDevice"] = Napi::Function::New<openDevice>(env, "openDevice");
  exports["deviceInfo"] = Napi::Function::New<deviceInfo>(env, "deviceInfo");
  exports["claimDevice"] = Napi::Function::New<claimDevice>(env, "claimDevice");
  exports["blockSize"] = Napi::Function::New<blockSize>(env, "blockSize");
  exports["setBlockSize"] = Napi::Function::New<setBlockSize>(env, "setBlockSize");
  exports["closeDescriptor"] = Napi::Function::New<closeDescriptor>(env, "closeDescriptor");
  exportFunction(env, exports, "readDevice", readDevice);
}
