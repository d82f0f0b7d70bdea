// Makes a block device of an image file: a loop device that goes away when its last descriptor is
// closed. The kernel's end of iomap takes nothing but block devices.

#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <linux/fs.h>
#include <linux/loop.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#include <algorithm>
#include <cstdint>
#include <string>

#include "addon.h"
#include "descriptor.h"

namespace {

/** Flags of `attachLoop`; src/native/binding.ts has the same. */
constexpr uint32_t OPEN_WRITE = 1;
constexpr uint32_t OPEN_DIRECT = 2;

/** The shortest device there can be. */
constexpr int64_t SECTOR_BYTES = 512;
/** How often somebody else may be quicker to take the device that was free. */
constexpr int ATTEMPTS_MAX = 64;
constexpr double OFFSET_MAX = 0x1p53;
constexpr const char* ATTACHED_DEVICES = "/sys/block/loop*/loop/backing_file";

struct Attached {
  /** A descriptor or a negative errno. */
  int fd;
  std::string path = "";
};

/** `/dev/loopN` for the `/sys/block/loopN/…` of an attached device. */
std::string devicePathOf(const std::string& attribute) {
  const std::string start = "/sys/block/";
  const size_t end = attribute.find('/', start.size());
  return "/dev/" + attribute.substr(start.size(), end - start.size());
}

bool isBackedBy(const std::string& device, const struct stat& image) {
  const Descriptor fd(open(device.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  loop_info64 info{};
  return fd.valid() && ioctl(fd.get(), LOOP_GET_STATUS64, &info) == 0 &&
         info.lo_device == image.st_dev && info.lo_inode == image.st_ino;
}

/**
 * Whether a loop device shows the file already. Its path would not do: it may be gone, or be
 * another file's where the device was attached.
 */
bool isAttached(const struct stat& image) {
  glob_t found{};
  bool attached = false;
  if (glob(ATTACHED_DEVICES, GLOB_NOSORT, nullptr, &found) == 0)
    attached = std::any_of(
        found.gl_pathv, found.gl_pathv + found.gl_pathc,
        [&](const char* attribute) { return isBackedBy(devicePathOf(attribute), image); });
  globfree(&found);
  return attached;
}

/** @returns zero or a negative errno. */
int configure(int loopFd, loop_config& config) {
  return ioctl(loopFd, LOOP_CONFIGURE, &config) == 0 ? 0 : -errno;
}

uint32_t sectorBytes(int loopFd) {
  int bytes = 0;
  return ioctl(loopFd, BLKSSZGET, &bytes) == 0 && bytes > 0 ? static_cast<uint32_t>(bytes) : 0;
}

/**
 * Attaches the image, past the page cache of its filesystem if that takes no larger sectors than
 * may be: whoever asks for sectors of 512 bytes has the kernel go without where the filesystem
 * needs more.
 *
 * @returns zero or a negative errno, EBUSY when somebody else has just taken the device.
 */
int configureFor(int loopFd, loop_config config, uint32_t sectorBytesMax) {
  config.info.lo_flags |= LO_FLAGS_DIRECT_IO;
  const int error = configure(loopFd, config);
  if (error == 0 && sectorBytes(loopFd) > sectorBytesMax) {
    uint32_t sector = SECTOR_BYTES;
    return ioctl(loopFd, LOOP_SET_BLOCK_SIZE, sector) == 0 ? 0 : -errno;
  }
  if (error != -EINVAL) return error;
  config.info.lo_flags &= ~LO_FLAGS_DIRECT_IO;
  return configure(loopFd, config);
}

Attached attachTo(const std::string& path, const loop_config& config, int mode,
                  uint32_t sectorBytesMax) {
  Descriptor fd(open(path.c_str(), mode));
  if (!fd.valid()) return {-errno};
  const int error = configureFor(fd.get(), config, sectorBytesMax);
  if (error != 0) return {error};
  return {fd.release(), path};
}

Attached attach(int imageFd, const std::string& name, uint64_t offset, uint32_t flags,
                uint32_t sectorBytesMax) {
  struct stat image;
  if (fstat(imageFd, &image) != 0) return {-errno};
  if (!S_ISREG(image.st_mode)) return {-EINVAL};
  if (image.st_size - SECTOR_BYTES < static_cast<int64_t>(offset)) return {-EINVAL};
  if (isAttached(image)) return {-EBUSY};

  const Descriptor control(open("/dev/loop-control", O_RDWR | O_CLOEXEC));
  if (!control.valid()) return {-errno};
  loop_config config{};
  config.fd = static_cast<uint32_t>(imageFd);
  config.info.lo_offset = offset;
  config.info.lo_flags = LO_FLAGS_AUTOCLEAR;
  name.copy(reinterpret_cast<char*>(config.info.lo_file_name), LO_NAME_SIZE - 1);
  // The claim lasts as long as the descriptor: nobody else mounts or formats the device meanwhile.
  int mode = O_CLOEXEC | O_EXCL | ((flags & OPEN_WRITE) != 0 ? O_RDWR : O_RDONLY);
  if ((flags & OPEN_WRITE) == 0) config.info.lo_flags |= LO_FLAGS_READ_ONLY;
  if ((flags & OPEN_DIRECT) != 0) mode |= O_DIRECT;

  Attached result{-EBUSY};
  for (int attempt = 0; attempt < ATTEMPTS_MAX && result.fd == -EBUSY; attempt++) {
    const int number = ioctl(control.get(), LOOP_CTL_GET_FREE);
    if (number < 0) return {-errno};
    result = attachTo("/dev/loop" + std::to_string(number), config, mode, sectorBytesMax);
  }
  // EBUSY is kept for an image that is attached already.
  return result.fd == -EBUSY ? Attached{-EAGAIN} : result;
}

Napi::Value attachLoop(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const double offset = info[2].ToNumber().DoubleValue();
  if (!(offset >= 0 && offset <= OFFSET_MAX)) return Napi::Number::New(env, -EINVAL);
  const Attached attached =
      attach(info[0].ToNumber().Int32Value(), info[1].ToString(), static_cast<uint64_t>(offset),
             info[3].ToNumber().Uint32Value(), info[4].ToNumber().Uint32Value());
  if (attached.fd < 0) return Napi::Number::New(env, attached.fd);
  Napi::Object result = Napi::Object::New(env);
  result["fd"] = attached.fd;
  result["path"] = attached.path;
  return result;
}

}  // namespace

void registerLoop(Napi::Env env, Napi::Object exports) {
  exports["attachLoop"] = Napi::Function::New<attachLoop>(env, "attachLoop");
}
