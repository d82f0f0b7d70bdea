// Mounts and unmounts. As root through the mount API, mount(2) where the kernel has no other.
// Without root, and for auto_unmount, through fusermount3, which passes the connected descriptor
// back.
//
// A block device can be mounted as type fuseblk: the kernel claims it then, hands sync(2) on, and lets
// umount(2) wait until the server has answered DESTROY.

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "addon.h"
#include "descriptor.h"

extern char** environ;

namespace {

/** MISC_MAJOR and FUSE_MINOR; include/linux/miscdevice.h. */
constexpr unsigned FUSE_MAJOR = 10;
constexpr unsigned FUSE_MINOR = 229;
/** The longest value that fsconfig(2) takes. */
constexpr size_t FSCONFIG_VALUE_MAX = 255;
constexpr const char* HELPER = "fusermount3";
constexpr const char* UNMOUNT_PROGRAM = "umount";
/** The highest errno that has a text; include/uapi/asm-generic/errno.h. */
constexpr int ERRNO_MAX = 133;

struct Request {
  std::string mountpoint;
  std::string fsname;
  std::string subtype;
  /** Not zero: `fsname` is a block device, to be mounted as one with blocks of this size. */
  uint32_t deviceBlockBytes;
  bool readOnly;
  bool allowOther;
  bool defaultPermissions;
  uint32_t maxReadBytes;
  std::vector<std::string> flags;
  bool autoUnmount;
};

struct Result {
  int fd;
  std::string message;
  /** The program that is to unmount it; none where umount2(2) does. */
  std::string unmounter = "";
};

Result failure(int error, std::string message) {
  return {-error, std::move(message)};
}

/** A mount flag: `set` and `clear` are MS_ flags of mount(2). */
struct Flag {
  std::string_view name;
  unsigned long set;
  unsigned long clear;
};

constexpr Flag FLAGS[] = {
    {"ro", MS_RDONLY, 0},
    {"rw", 0, MS_RDONLY},
    {"suid", 0, MS_NOSUID},
    {"nosuid", MS_NOSUID, 0},
    {"dev", 0, MS_NODEV},
    {"nodev", MS_NODEV, 0},
    {"exec", 0, MS_NOEXEC},
    {"noexec", MS_NOEXEC, 0},
    {"async", 0, MS_SYNCHRONOUS},
    {"sync", MS_SYNCHRONOUS, 0},
    {"dirsync", MS_DIRSYNC, 0},
    {"atime", 0, MS_NOATIME},
    {"noatime", MS_NOATIME, MS_STRICTATIME},
    {"diratime", 0, MS_NODIRATIME},
    {"nodiratime", MS_NODIRATIME, 0},
    {"relatime", MS_RELATIME, MS_NOATIME | MS_STRICTATIME},
    {"norelatime", 0, MS_RELATIME},
    {"strictatime", MS_STRICTATIME, MS_NOATIME | MS_RELATIME},
    {"nostrictatime", 0, MS_STRICTATIME},
    {"lazytime", MS_LAZYTIME, 0},
    {"nolazytime", 0, MS_LAZYTIME},
};

/** Adds the flags up, a later one over an earlier one. @returns the first unknown name, or "". */
std::string addFlags(const Request& request, unsigned long& flags) {
  flags = request.readOnly ? MS_RDONLY : 0;
  for (const std::string& name : request.flags) {
    const Flag* found = nullptr;
    for (const Flag& flag : FLAGS)
      if (flag.name == name) found = &flag;
    if (found == nullptr) return name;
    flags = (flags & ~found->clear) | found->set;
  }
  return "";
}

bool isDevice(const Request& request) {
  return request.deviceBlockBytes > 0;
}

const char* typeOf(const Request& request) {
  return isDevice(request) ? "fuseblk" : "fuse";
}

std::string octal(unsigned value) {
  char digits[16];
  snprintf(digits, sizeof digits, "%o", value);
  return digits;
}

#if defined(FSOPEN_CLOEXEC)

/** The per-mount part of the flags, as fsmount(2) names them. */
unsigned attributes(unsigned long flags) {
  unsigned result = 0;
  if ((flags & MS_RDONLY) != 0) result |= MOUNT_ATTR_RDONLY;
  if ((flags & MS_NOSUID) != 0) result |= MOUNT_ATTR_NOSUID;
  if ((flags & MS_NODEV) != 0) result |= MOUNT_ATTR_NODEV;
  if ((flags & MS_NOEXEC) != 0) result |= MOUNT_ATTR_NOEXEC;
  if ((flags & MS_NODIRATIME) != 0) result |= MOUNT_ATTR_NODIRATIME;
  if ((flags & MS_NOATIME) != 0) return result | MOUNT_ATTR_NOATIME;
  if ((flags & MS_STRICTATIME) != 0) return result | MOUNT_ATTR_STRICTATIME;
  return result | MOUNT_ATTR_RELATIME;
}

/** Sets the options of a filesystem being made, and remembers the first error. */
class Configuration {
 public:
  explicit Configuration(int fd) : fd_(fd) {}

  void text(const char* key, const std::string& value) {
    call(FSCONFIG_SET_STRING, key, value.c_str());
  }
  void flag(const char* key, bool set) {
    if (set) call(FSCONFIG_SET_FLAG, key, nullptr);
  }
  void create() { call(FSCONFIG_CMD_CREATE, nullptr, nullptr); }
  int error() const { return error_; }

 private:
  void call(unsigned command, const char* key, const void* value) {
    if (error_ == 0 && fsconfig(fd_, command, key, value, 0) != 0) error_ = errno;
  }

  const int fd_;
  int error_ = 0;
};

/** Mounts through fsopen(2) and its family. @returns zero or an errno. */
int mountByParts(const Request& request, int fuseFd, unsigned long flags, unsigned rootMode) {
  const Descriptor context(fsopen(typeOf(request), FSOPEN_CLOEXEC));
  if (!context.valid()) return errno;
  Configuration configuration(context.get());
  configuration.text("source", request.fsname);
  if (!request.subtype.empty()) configuration.text("subtype", request.subtype);
  configuration.text("fd", std::to_string(fuseFd));
  configuration.text("rootmode", octal(rootMode));
  configuration.text("user_id", std::to_string(geteuid()));
  configuration.text("group_id", std::to_string(getegid()));
  configuration.flag("default_permissions", request.defaultPermissions);
  configuration.flag("allow_other", request.allowOther);
  if (request.maxReadBytes > 0)
    configuration.text("max_read", std::to_string(request.maxReadBytes));
  if (isDevice(request))
    configuration.text("blksize", std::to_string(request.deviceBlockBytes));
  configuration.flag("ro", (flags & MS_RDONLY) != 0);
  configuration.flag("sync", (flags & MS_SYNCHRONOUS) != 0);
  configuration.flag("dirsync", (flags & MS_DIRSYNC) != 0);
  configuration.flag("lazytime", (flags & MS_LAZYTIME) != 0);
  configuration.create();
  if (configuration.error() != 0) return configuration.error();

  const Descriptor made(fsmount(context.get(), FSMOUNT_CLOEXEC, attributes(flags)));
  if (!made.valid()) return errno;
  const int moved =
      move_mount(made.get(), "", AT_FDCWD, request.mountpoint.c_str(), MOVE_MOUNT_F_EMPTY_PATH);
  return moved == 0 ? 0 : errno;
}

bool canMountByParts(const Request& request) {
  if (request.fsname.size() > FSCONFIG_VALUE_MAX || request.subtype.size() > FSCONFIG_VALUE_MAX)
    return false;
  const Descriptor context(fsopen("fuse", FSOPEN_CLOEXEC));
  return context.valid() || errno != ENOSYS;
}

#else

int mountByParts(const Request&, int, unsigned long, unsigned) {
  return ENOSYS;
}
bool canMountByParts(const Request&) {
  return false;
}

#endif

/** Mounts through mount(2). No option here can hold a comma. @returns zero or an errno. */
int mountAtOnce(const Request& request, int fuseFd, unsigned long flags, unsigned rootMode) {
  std::string options = "fd=" + std::to_string(fuseFd) + ",rootmode=" + octal(rootMode) +
                        ",user_id=" + std::to_string(geteuid()) +
                        ",group_id=" + std::to_string(getegid());
  if (request.defaultPermissions) options += ",default_permissions";
  if (request.allowOther) options += ",allow_other";
  if (request.maxReadBytes > 0) options += ",max_read=" + std::to_string(request.maxReadBytes);
  if (isDevice(request)) options += ",blksize=" + std::to_string(request.deviceBlockBytes);
  std::string type = typeOf(request);
  if (!request.subtype.empty()) type += "." + request.subtype;
  const int made = mount(request.fsname.c_str(), request.mountpoint.c_str(), type.c_str(), flags,
                         options.c_str());
  return made == 0 ? 0 : errno;
}

/** An option value as fusermount3 reads it: a backslash before a comma or backslash. */
std::string escaped(const std::string& value) {
  std::string result;
  for (const char each : value) {
    if (each == ',' || each == '\\') result += '\\';
    result += each;
  }
  return result;
}

std::string helperOptions(const Request& request) {
  std::string options = "fsname=" + escaped(request.fsname);
  if (!request.subtype.empty()) options += ",subtype=" + escaped(request.subtype);
  options += request.readOnly ? ",ro" : ",rw";
  if (geteuid() == 0) options += ",suid,dev";
  if (request.defaultPermissions) options += ",default_permissions";
  if (request.allowOther) options += ",allow_other";
  if (request.maxReadBytes > 0) options += ",max_read=" + std::to_string(request.maxReadBytes);
  if (request.autoUnmount) options += ",auto_unmount";
  for (const std::string& flag : request.flags) options += "," + escaped(flag);
  return options;
}

/** A child process that runs a program; what it prints is kept. */
class Helper {
 public:
  /** `socket` becomes the descriptor that the child finds in _FUSE_COMMFD; -1 for none. */
  int start(const std::vector<std::string>& arguments, int socket = -1) {
    output_ = Descriptor(memfd_create(HELPER, MFD_CLOEXEC));
    std::vector<char*> argv;
    for (const std::string& each : arguments) argv.push_back(const_cast<char*>(each.c_str()));
    argv.push_back(nullptr);
    std::string commFd = "_FUSE_COMMFD=" + std::to_string(COMM_FD);
    std::vector<char*> environment;
    for (char** each = environ; *each != nullptr; each++) environment.push_back(*each);
    if (socket >= 0) environment.push_back(commFd.data());
    environment.push_back(nullptr);

    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    if (output_.valid()) posix_spawn_file_actions_adddup2(&actions, output_.get(), STDERR_FILENO);
    if (socket >= 0) posix_spawn_file_actions_adddup2(&actions, socket, COMM_FD);
    const int error =
        posix_spawnp(&pid_, argv[0], &actions, nullptr, argv.data(), environment.data());
    posix_spawn_file_actions_destroy(&actions);
    return error;
  }

  /** @returns true when the child ended with exit code zero. */
  bool succeeds() const {
    int status = 0;
    while (waitpid(pid_, &status, 0) < 0)
      if (errno != EINTR) return false;
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
  }

  /** What the child complained of in its first line: the errno that it names, and the rest. */
  Result complaint() const {
    char text[512];
    const ssize_t length = pread(output_.get(), text, sizeof text, 0);
    std::string line(text, length > 0 ? static_cast<size_t>(length) : 0);
    line = line.substr(0, line.find('\n'));
    const std::string program = std::string(HELPER) + ": ";
    if (line.rfind(program, 0) == 0) line.erase(0, program.size());
    if (line.empty()) return failure(EPERM, "fusermount3 refused to mount");
    for (int error = 1; error <= ERRNO_MAX; error++) {
      const std::string reason = std::string(": ") + strerror(error);
      const size_t rest = line.size() < reason.size() ? 0 : line.size() - reason.size();
      if (rest > 0 && line.compare(rest, reason.size(), reason) == 0)
        return failure(error, line.substr(0, rest));
    }
    return failure(EPERM, line);
  }

 private:
  static constexpr int COMM_FD = 3;
  pid_t pid_ = -1;
  Descriptor output_;
};

/** Receives the one descriptor that comes over `socket`; none when the sender closed it. */
Descriptor receiveDescriptor(int socket) {
  char byte;
  iovec part{&byte, 1};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))];
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  ssize_t length;
  do length = recvmsg(socket, &message, MSG_CMSG_CLOEXEC);
  while (length < 0 && errno == EINTR);
  const cmsghdr* first = length > 0 ? CMSG_FIRSTHDR(&message) : nullptr;
  if (first == nullptr || first->cmsg_level != SOL_SOCKET || first->cmsg_type != SCM_RIGHTS)
    return {};
  int fd = -1;
  memcpy(&fd, CMSG_DATA(first), sizeof fd);
  return Descriptor(fd);
}

/** With auto_unmount the helper stays, and unmounts when it finds our end of the socket closed. */
Result mountByHelper(const Request& request) {
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0)
    return failure(errno, "cannot make a socket for fusermount3");
  Descriptor ours(ends[0]);
  Descriptor theirs(ends[1]);
  Helper helper;
  const int error =
      helper.start({HELPER, "-o", helperOptions(request), "--", request.mountpoint}, theirs.get());
  if (error == ENOENT) return failure(ENOENT, "fusermount3 is not installed");
  if (error != 0) return failure(error, "cannot run fusermount3");
  theirs.reset();

  Descriptor fuse = receiveDescriptor(ours.get());
  if (fuse.valid() && request.autoUnmount) {
    ours.release();
    return {fuse.release(), "", HELPER};
  }
  if (helper.succeeds() && fuse.valid()) return {fuse.release(), "", HELPER};
  return helper.complaint();
}

Result useInherited(int fd, const std::string& path) {
  struct stat status;
  if (fstat(fd, &status) != 0) return failure(errno, "no descriptor " + path);
  if (!S_ISCHR(status.st_mode) || status.st_rdev != makedev(FUSE_MAJOR, FUSE_MINOR))
    return failure(EINVAL, path + " is not an open /dev/fuse");
  return {fd, ""};
}

Result mountAsRoot(const Request& request, unsigned rootMode) {
  unsigned long flags = 0;
  const std::string unknown = addFlags(request, flags);
  if (!unknown.empty()) return failure(EINVAL, "unknown mount flag " + unknown);
  Descriptor fuse(open("/dev/fuse", O_RDWR | O_CLOEXEC));
  if (!fuse.valid()) return failure(errno, "cannot open /dev/fuse");
  const int error = canMountByParts(request) ? mountByParts(request, fuse.get(), flags, rootMode)
                                             : mountAtOnce(request, fuse.get(), flags, rootMode);
  if (error != 0)
    return failure(error, "cannot mount " + request.fsname + " on " + request.mountpoint);
  return {fuse.release(), "", isDevice(request) ? UNMOUNT_PROGRAM : ""};
}

Result mountRequest(const Request& request) {
  const std::string& path = request.mountpoint;
  const int inherited = descriptorOf(path);
  if (inherited >= 0) return useInherited(inherited, path);

  struct stat status;
  if (stat(path.c_str(), &status) != 0) {
    const int error = errno;
    if (error == ENOENT) return failure(error, "mount point " + path + " does not exist");
    if (error == ENOTCONN)
      return failure(error, "mount point " + path + " is a mount whose server is gone");
    return failure(error, "cannot look at mount point " + path);
  }
  if (!S_ISDIR(status.st_mode))
    return failure(ENOTDIR, "mount point " + path + " is not a directory");

  if ((geteuid() != 0 || request.autoUnmount) && !isDevice(request)) return mountByHelper(request);
  return mountAsRoot(request, status.st_mode & S_IFMT);
}

std::string text(const Napi::Object& object, const char* name) {
  return object.Get(name).ToString();
}

Napi::Value mountFromScript(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const Napi::Object given = info[0].As<Napi::Object>();
  Request request{};
  request.mountpoint = text(given, "mountpoint");
  request.fsname = text(given, "fsname");
  request.subtype = text(given, "subtype");
  request.deviceBlockBytes = given.Get("deviceBlockBytes").ToNumber().Uint32Value();
  request.readOnly = given.Get("readOnly").ToBoolean();
  request.allowOther = given.Get("allowOther").ToBoolean();
  request.defaultPermissions = given.Get("defaultPermissions").ToBoolean();
  request.maxReadBytes = given.Get("maxReadBytes").ToNumber().Uint32Value();
  request.autoUnmount = given.Get("autoUnmount").ToBoolean();
  const Napi::Array flags = given.Get("flags").As<Napi::Array>();
  for (uint32_t i = 0; i < flags.Length(); i++)
    request.flags.push_back(flags.Get(i).ToString().Utf8Value());

  const Result result = mountRequest(request);
  Napi::Object answer = Napi::Object::New(env);
  answer["fd"] = result.fd;
  answer["message"] = result.message;
  answer["unmounter"] = result.unmounter;
  return answer;
}

/** Has the kernel write what it holds back: pages that were changed through shared mappings. */
int syncMount(const std::string& mountpoint) {
  const Descriptor root(open(mountpoint.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  return root.valid() && syncfs(root.get()) == 0 ? 0 : -errno;
}

Napi::Value syncMountFromScript(const Napi::CallbackInfo& info) {
  const std::string mountpoint = info[0].As<Napi::String>();
  return Napi::Number::New(info.Env(), syncMount(mountpoint));
}

/**
 * The unmount of a block device waits until the server has answered, which is this process: a thread
 * of it that waited in the kernel could never be killed, so another process waits.
 */
int unmount(const std::string& mountpoint, const std::string& unmounter) {
  if (descriptorOf(mountpoint) >= 0) return 0;
  Helper helper;
  int error = ENOENT;
  if (unmounter == HELPER) error = helper.start({HELPER, "-u", "-z", "--", mountpoint});
  if (unmounter == UNMOUNT_PROGRAM)
    error = helper.start({UNMOUNT_PROGRAM, "-i", "-l", "--", mountpoint});
  if (error == 0) return helper.succeeds() ? 0 : -EINVAL;
  if (unmounter == HELPER) return -error;
  return umount2(mountpoint.c_str(), MNT_DETACH | UMOUNT_NOFOLLOW) == 0 ? 0 : -errno;
}

Napi::Value unmountFromScript(const Napi::CallbackInfo& info) {
  const std::string mountpoint = info[0].As<Napi::String>();
  return Napi::Number::New(info.Env(), unmount(mountpoint, info[1].ToString()));
}

}  // namespace

void registerMount(Napi::Env env, Napi::Object exports) {
  exports["mount"] = Napi::Function::New<mountFromScript>(env, "mount");
  exports["syncMount"] = Napi::Function::New<syncMountFromScript>(env, "syncMount");
  exports["unmount"] = Napi::Function::New<unmountFromScript>(env, "unmount");
}
