// The ioctls of /dev/fuse beside its requests: whether the kernel has iomap, which block devices
// and files it may use without asking us, and that a thread which serves it must not wait for it.
//
// No released header has those of iomap: numbers and layouts are those of the patch series as
// posted in February 2026. A kernel without them answers ENOTTY.

#include <errno.h>
#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>

#include "addon.h"
#include "descriptor.h"

namespace {

constexpr unsigned FUSE_MAGIC = 229;

struct IomapSupport {
  uint64_t flags;
  uint64_t padding;
};

/** The last field is padding, or which operations go to a backing file: `1 << (opcode - 1)`. */
struct BackingMap {
  int32_t fd;
  uint32_t flags;
  uint64_t opsMask;
};

struct BackingBlockSize {
  uint32_t id;
  uint32_t bytes;
};

static_assert(sizeof(IomapSupport) == 16 && sizeof(BackingMap) == 16 &&
              sizeof(BackingBlockSize) == 8);

constexpr unsigned long BACKING_OPEN = _IOW(FUSE_MAGIC, 1, BackingMap);
constexpr unsigned long BACKING_CLOSE = _IOW(FUSE_MAGIC, 2, uint32_t);
constexpr unsigned long IOMAP_SUPPORT = _IOR(FUSE_MAGIC, 99, IomapSupport);
constexpr unsigned long SET_NOFS = _IOW(FUSE_MAGIC, 100, uint32_t);
constexpr unsigned long ADD_IOMAP = _IO(FUSE_MAGIC, 101);
constexpr unsigned long IOMAP_SET_BLOCKSIZE = _IOW(FUSE_MAGIC, 102, BackingBlockSize);

#if !defined(PR_SET_IO_FLUSHER)
constexpr int PR_SET_IO_FLUSHER = 57;
#endif

/** No number in JavaScript is exact beyond; the opcodes of FUSE end at 53. */
constexpr double MASK_MAX = 0x1p53;

/** @returns what the ioctl gives, or a negative errno. */
template <typename T>
int ask(int fd, unsigned long request, T argument) {
  const int result = ioctl(fd, request, argument);
  return result < 0 ? -errno : result;
}

uint32_t supportOf(int fd) {
  IomapSupport support{};
  return ask(fd, IOMAP_SUPPORT, &support) == 0 ? static_cast<uint32_t>(support.flags) : 0;
}

/** A descriptor that is none asks a `/dev/fuse` that is opened for the question. */
uint32_t iomapSupport(int fuseFd) {
  if (fuseFd >= 0) return supportOf(fuseFd);
  const Descriptor fuse(open("/dev/fuse", O_RDONLY | O_CLOEXEC));
  return fuse.valid() ? supportOf(fuse.get()) : 0;
}

/** As far as it goes, that is: what neither way can do is no worse than it was. */
int avoidRecursion(int fuseFd) {
  uint32_t set = 1;
  if (ask(fuseFd, SET_NOFS, &set) == 0) return 0;
  return prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0) == 0 ? 0 : -errno;
}

int32_t number(const Napi::CallbackInfo& info, size_t index) {
  return info[index].ToNumber().Int32Value();
}

Napi::Value iomapSupportFromScript(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), iomapSupport(number(info, 0)));
}

Napi::Value addIomap(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), ask(number(info, 0), ADD_IOMAP, nullptr));
}

Napi::Value openBacking(const Napi::CallbackInfo& info) {
  const double mask = info[3].ToNumber().DoubleValue();
  if (!(mask >= 0 && mask <= MASK_MAX)) return Napi::Number::New(info.Env(), -EINVAL);
  BackingMap map{number(info, 1), info[2].ToNumber().Uint32Value(), static_cast<uint64_t>(mask)};
  return Napi::Number::New(info.Env(), ask(number(info, 0), BACKING_OPEN, &map));
}

Napi::Value closeBacking(const Napi::CallbackInfo& info) {
  uint32_t id = info[1].ToNumber().Uint32Value();
  return Napi::Number::New(info.Env(), ask(number(info, 0), BACKING_CLOSE, &id));
}

Napi::Value setBackingBlockSize(const Napi::CallbackInfo& info) {
  BackingBlockSize size{info[1].ToNumber().Uint32Value(), info[2].ToNumber().Uint32Value()};
  return Napi::Number::New(info.Env(), ask(number(info, 0), IOMAP_SET_BLOCKSIZE, &size));
}

Napi::Value avoidRecursionFromScript(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), avoidRecursion(number(info, 0)));
}

}  // namespace

void registerFuseControl(Napi::Env env, Napi::Object exports) {
  exports["iomapSupport"] = Napi::Function::New<iomapSupportFromScript>(env, "iomapSupport");
  exports["addIomap"] = Napi::Function::New<addIomap>(env, "addIomap");
  exports["openBacking"] = Napi::Function::New<openBacking>(env, "openBacking");
  exports["closeBacking"] = Napi::Function::New<closeBacking>(env, "closeBacking");
  exports["setBackingBlockSize"] =
      Napi::Function::New<setBackingBlockSize>(env, "setBackingBlockSize");
  exports["avoidRecursion"] = Napi::Function::New<avoidRecursionFromScript>(env, "avoidRecursion");
}
