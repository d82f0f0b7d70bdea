// The request loop of one mount. `next` writes a reply, blocks in read(/dev/fuse), and comes back
// with a request that TypeScript has to answer; a READ whose place on the device is known never
// gets that far.
//
//   request ──► READ with known mappings ──► mover ──► reply       (stays here)
//          └──► anything else ──► TypeScript ──► next(replyLength), or SERVE_BY_SHIM
//
// Everything runs on the thread that made the channel, except `interrupt`.

#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <time.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <iterator>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <tuple>
#include <unordered_map>

#include "addon.h"
#include "descriptor.h"
#include "mover.h"

namespace {

/** src/fuse/channel.ts has the same. */
constexpr int32_t CLOSED = 0;
constexpr int32_t TIMED_OUT = -1;
constexpr int32_t SERVE_BY_SHIM = -1;
constexpr uint32_t MAPPING_STRIDE = 4;

/** More than the pieces of a 1 MiB READ in a file of scattered 1 KiB blocks. */
constexpr uint32_t MAPPINGS_MAX = 2048;
/** Opcodes from here on are counted under 0, which is no opcode. */
constexpr uint32_t OPCODES_MAX = 128;
/** Room for the headers of a request or reply; the kernel asks for a request buffer of 8 KiB. */
constexpr size_t HEADER_ROOM_BYTES = 8192;
constexpr uint32_t IO_THREADS_MAX = 64;
constexpr uint32_t BODY_BYTES_MAX = 256 * 1024 * 1024;
/** Offsets stay below this, so that sums of two never overflow. */
constexpr double OFFSET_MAX = 0x1p53;

int64_t nowMs() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return int64_t{now.tv_sec} * 1000 + now.tv_nsec / 1'000'000;
}

/** Ends a blocking read of the thread it is sent to. */
int wakeSignal() {
  return SIGRTMIN + 2;
}

void onWake(int) {}

bool isOffset(double value) {
  return value >= 0 && value <= OFFSET_MAX && value == std::floor(value);
}

std::optional<MappingType> mappingType(double number) {
  for (const MappingType type : {MappingType::Hole, MappingType::Mapped, MappingType::Unwritten})
    if (number == static_cast<double>(type)) return type;
  return std::nullopt;
}

struct Options {
  int fuseFd;
  int deviceFd;
  bool deviceDirect;
  uint64_t deviceOffsetBytes;
  uint32_t bodyBytesMax;
  uint32_t ioThreads;
  bool traceReads;
};

/** Memory of an ArrayBuffer that the channel keeps alive. */
template <typename T>
struct Shared {
  T* data = nullptr;
  size_t count = 0;
  napi_ref array = nullptr;
};

class Channel {
 public:
  explicit Channel(const Options& options)
      : options_(options),
        mover_({options.fuseFd, options.deviceFd, options.deviceDirect, options.bodyBytesMax,
                options.ioThreads}),
        thread_(pthread_self()) {}

  int start();
  int32_t next(int32_t replyLength, int32_t timeoutMs);
  void map(double node, double sizeBytes, double count);
  void interrupt();
  int32_t closedBy() const { return closedBy_; }

  Shared<uint8_t> request;
  Shared<uint8_t> reply;
  Shared<double> mappings;
  Shared<double> requestCounts;
  Shared<double> scriptCounts;

 private:
  void blockReads(bool block);
  bool waitForRequest(int64_t deadline);
  ssize_t receive();
  bool serve(size_t length);
  bool serveRead();
  void forget(const uint8_t* body, size_t length);
  void answer(int32_t replyLength);
  bool takeMapping(const double* from);

  const Options options_;
  Mover mover_;
  MappingCache cache_;
  ReadJob job_{};
  std::vector<Mapping> taken_;
  /** The request in hand, kept apart from memory that JavaScript can write. */
  fuse_in_header held_{};
  fuse_read_in heldRead_{};

  /** The errno that ended the connection, or zero. */
  int32_t closedBy_ = 0;
  const pthread_t thread_;
  std::optional<bool> readsBlock_;
  Descriptor readFd_;  // a duplicate of fuseFd, until `interrupt` puts endFd_ in its place
  Descriptor endFd_;   // always at its end of file
  std::atomic<bool> interrupted_{false};
  std::atomic<bool> waiting_{false};
};

/** @returns zero or a negative errno. */
int Channel::start() {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return -errno;
  endFd_ = Descriptor(ends[0]);
  close(ends[1]);
  readFd_ = Descriptor(fcntl(options_.fuseFd, F_DUPFD_CLOEXEC, 0));
  if (!readFd_.valid()) return -errno;

  struct sigaction action {};
  action.sa_handler = onWake;
  sigaction(wakeSignal(), &action, nullptr);
  sigset_t wake;
  sigemptyset(&wake);
  sigaddset(&wake, wakeSignal());
  pthread_sigmask(SIG_UNBLOCK, &wake, nullptr);
  return mover_.start();
}

int32_t Channel::next(int32_t replyLength, int32_t timeoutMs) {
  answer(replyLength);
  held_ = {};
  const bool timed = timeoutMs >= 0;
  blockReads(!timed);
  const int64_t deadline = timed ? nowMs() + timeoutMs : INT64_MAX;
  for (;;) {
    const ssize_t length = receive();
    if (interrupted_) return CLOSED;
    if (length == -EAGAIN) {
      if (!waitForRequest(deadline)) return TIMED_OUT;
    } else if (length >= static_cast<ssize_t>(sizeof held_)) {
      if (!serve(static_cast<size_t>(length))) return static_cast<int32_t>(length);
      if (timed && nowMs() >= deadline) return TIMED_OUT;
    } else if (length != -EINTR && length != -ENOENT) {
      closedBy_ = static_cast<int32_t>(-length);
      return CLOSED;
    }
  }
}

/** Lets `read` block, or return at once so that waiting can have an end. */
void Channel::blockReads(bool block) {
  if (readsBlock_ == block) return;
  const int flags = fcntl(options_.fuseFd, F_GETFL);
  fcntl(options_.fuseFd, F_SETFL, block ? flags & ~O_NONBLOCK : flags | O_NONBLOCK);
  readsBlock_ = block;
}

/** Waits until there may be a request. @returns false when the time has come instead. */
bool Channel::waitForRequest(int64_t deadline) {
  const int64_t rest = std::clamp<int64_t>(deadline - nowMs(), 0, INT32_MAX);
  pollfd fuse{readFd_.get(), POLLIN, 0};
  waiting_ = true;
  const int ready = poll(&fuse, 1, static_cast<int>(rest));
  waiting_ = false;
  return ready != 0;
}

/** Counts the request in hand. @returns true when TypeScript need not see it. */
bool Channel::serve(size_t length) {
  held_ = *reinterpret_cast<const fuse_in_header*>(request.data);
  const uint8_t* body = request.data + sizeof held_;
  const size_t bodyLength = length - sizeof held_;
  const uint32_t index = held_.opcode < OPCODES_MAX ? held_.opcode : 0;
  requestCounts.data[index]++;
  if (held_.opcode == FUSE_READ && bodyLength >= sizeof heldRead_) {
    heldRead_ = *reinterpret_cast<const fuse_read_in*>(body);
    if (!options_.traceReads && serveRead()) return true;
  }
  if (held_.opcode == FUSE_FORGET) cache_.drop(held_.nodeid);
  if (held_.opcode == FUSE_BATCH_FORGET) forget(body, bodyLength);
  scriptCounts.data[index]++;
  return false;
}

/** Reads one request. @returns its length, zero at the end, or a negative errno. */
ssize_t Channel::receive() {
  waiting_ = true;
  const ssize_t length = read(readFd_.get(), request.data, request.count);
  const int error = errno;
  waiting_ = false;
  return length < 0 ? -error : length;
}

/** Answers the READ in hand. @returns false when the cache does not know where its bytes are. */
bool Channel::serveRead() {
  if (heldRead_.size > options_.bodyBytesMax ||
      heldRead_.offset > static_cast<uint64_t>(OFFSET_MAX))
    return false;
  const int64_t bytes = cache_.find(held_.nodeid, heldRead_.offset, heldRead_.size, job_.segments);
  if (bytes < 0) return false;
  job_.unique = held_.unique;
  job_.bytes = static_cast<uint32_t>(bytes);
  mover_.serve(job_);
  return true;
}

/** Drops the mappings of nodes that the kernel forgets: their ids may get new meanings. */
void Channel::forget(const uint8_t* body, size_t length) {
  if (length < sizeof(fuse_batch_forget_in)) return;
  const auto* nodes = reinterpret_cast<const fuse_forget_one*>(body + sizeof(fuse_batch_forget_in));
  const size_t room = (length - sizeof(fuse_batch_forget_in)) / sizeof *nodes;
  const size_t count = reinterpret_cast<const fuse_batch_forget_in*>(body)->count;
  for (size_t i = 0; i < std::min(count, room); i++) cache_.drop(nodes[i].nodeid);
}

/** Deals with the request in hand as `next` was told. It never stays without an answer. */
void Channel::answer(int32_t replyLength) {
  if (replyLength == 0 || held_.unique == 0) return;
  if (replyLength == SERVE_BY_SHIM) {
    if (held_.opcode == FUSE_READ && serveRead()) return;
  } else if (replyLength > 0 && static_cast<size_t>(replyLength) <= reply.count) {
    for (;;) {
      const ssize_t sent = write(options_.fuseFd, reply.data, static_cast<size_t>(replyLength));
      if (sent >= 0 || errno == ENOENT) return;
      if (errno != EINTR) break;
    }
  }
  sendReply(options_.fuseFd, held_.unique, -EIO, nullptr, 0);
}

void Channel::map(double node, double sizeBytes, double count) {
  if (!isOffset(node) || !isOffset(sizeBytes) || !isOffset(count) || count > MAPPINGS_MAX) return;
  taken_.clear();
  const auto whole = static_cast<uint32_t>(count);
  for (uint32_t i = 0; i < whole; i++)
    if (!takeMapping(mappings.data + i * MAPPING_STRIDE)) return;
  cache_.insert(static_cast<uint64_t>(node), static_cast<uint64_t>(sizeBytes), taken_);
}

/** Checks one mapping of the shared array. @returns false when it cannot be meant seriously. */
bool Channel::takeMapping(const double* from) {
  const auto [offset, address, length] = std::tuple(from[0], from[1], from[2]);
  const std::optional<MappingType> type = mappingType(from[3]);
  if (!isOffset(offset) || !isOffset(length) || length == 0 || !type) return false;
  Mapping mapping{static_cast<uint64_t>(offset), static_cast<uint64_t>(length), 0, *type};
  if (type != MappingType::Hole) {
    if (!isOffset(address)) return false;
    mapping.address = static_cast<uint64_t>(address) + options_.deviceOffsetBytes;
  }
  taken_.push_back(mapping);
  return true;
}

/** From any thread. A `read` that begins after the dup3 finds the end; the others get the signal.
 */
void Channel::interrupt() {
  interrupted_ = true;
  dup3(endFd_.get(), readFd_.get(), O_CLOEXEC);
  if (waiting_) pthread_kill(thread_, wakeSignal());
}

/** All open channels of the process, so that another thread can interrupt one by its number. */
std::mutex channelsLock;
std::unordered_map<uint32_t, Channel*> channels;
uint32_t channelsMade = 0;

uint32_t enlist(Channel* channel) {
  const std::lock_guard<std::mutex> guard(channelsLock);
  channels[++channelsMade] = channel;
  return channelsMade;
}

/** What JavaScript holds: the channel until `close`, then nothing. */
struct Handle {
  std::unique_ptr<Channel> channel;
  uint32_t id = 0;

  void closeChannel(napi_env env) {
    if (channel == nullptr) return;
    {
      const std::lock_guard<std::mutex> guard(channelsLock);
      channels.erase(id);
    }
    for (napi_ref array : {channel->request.array, channel->reply.array, channel->mappings.array,
                           channel->requestCounts.array, channel->scriptCounts.array})
      if (array != nullptr) napi_delete_reference(env, array);
    channel.reset();
  }
};

void finalizeHandle(napi_env env, void* handle, void*) {
  static_cast<Handle*>(handle)->closeChannel(env);
  delete static_cast<Handle*>(handle);
}

/** The receiver and the first `count` arguments of a call; null when it is no open channel. */
Channel* receiver(napi_env env, napi_callback_info info, size_t count, napi_value* arguments) {
  napi_value self;
  void* handle = nullptr;
  if (napi_get_cb_info(env, info, &count, arguments, &self, nullptr) != napi_ok) return nullptr;
  if (napi_unwrap(env, self, &handle) != napi_ok) return nullptr;
  return static_cast<Handle*>(handle)->channel.get();
}

napi_value next(napi_env env, napi_callback_info info) {
  napi_value arguments[2];
  Channel* channel = receiver(env, info, 2, arguments);
  int32_t replyLength = 0;
  int32_t timeoutMs = -1;
  int32_t length = CLOSED;
  if (channel != nullptr && napi_get_value_int32(env, arguments[0], &replyLength) == napi_ok &&
      napi_get_value_int32(env, arguments[1], &timeoutMs) == napi_ok)
    length = channel->next(replyLength, timeoutMs);
  napi_value result;
  napi_create_int32(env, length, &result);
  return result;
}

napi_value map(napi_env env, napi_callback_info info) {
  napi_value arguments[3];
  double numbers[3] = {-1, -1, -1};
  Channel* channel = receiver(env, info, 3, arguments);
  if (channel == nullptr) return nullptr;
  for (int i = 0; i < 3; i++) napi_get_value_double(env, arguments[i], &numbers[i]);
  channel->map(numbers[0], numbers[1], numbers[2]);
  return nullptr;
}

napi_value closedBy(napi_env env, napi_callback_info info) {
  const Channel* channel = receiver(env, info, 0, nullptr);
  napi_value result;
  napi_create_int32(env, channel == nullptr ? 0 : channel->closedBy(), &result);
  return result;
}

napi_value closeChannel(napi_env env, napi_callback_info info) {
  napi_value self;
  void* handle = nullptr;
  size_t count = 0;
  napi_get_cb_info(env, info, &count, nullptr, &self, nullptr);
  if (napi_unwrap(env, self, &handle) == napi_ok) static_cast<Handle*>(handle)->closeChannel(env);
  return nullptr;
}

napi_value interruptChannel(napi_env env, napi_callback_info info) {
  napi_value argument;
  size_t count = 1;
  uint32_t id = 0;
  napi_get_cb_info(env, info, &count, &argument, nullptr, nullptr);
  napi_get_value_uint32(env, argument, &id);
  const std::lock_guard<std::mutex> guard(channelsLock);
  const auto found = channels.find(id);
  if (found != channels.end()) found->second->interrupt();
  return nullptr;
}

/** Makes a typed array, keeps it alive, and sets it as property `name`. @returns false on failure.
 */
template <typename T>
bool share(Napi::Object self, const char* name, napi_typedarray_type type, size_t count,
           Shared<T>& shared) {
  const Napi::Env env = self.Env();
  void* data = nullptr;
  napi_value buffer;
  napi_value array;
  if (napi_create_arraybuffer(env, count * sizeof(T), &data, &buffer) != napi_ok ||
      napi_create_typedarray(env, type, count, buffer, 0, &array) != napi_ok ||
      napi_create_reference(env, array, 1, &shared.array) != napi_ok)
    return false;
  shared.data = static_cast<T*>(data);
  shared.count = count;
  return napi_set_named_property(env, self, name, array) == napi_ok;
}

/** Makes what JavaScript and the channel share. @returns false when there was no memory for it. */
bool shareAll(Napi::Object self, Channel& channel, uint32_t bodyBytesMax) {
  const size_t room = bodyBytesMax + HEADER_ROOM_BYTES;
  const size_t numbers = MAPPINGS_MAX * MAPPING_STRIDE;
  return share(self, "request", napi_uint8_array, room, channel.request) &&
         share(self, "reply", napi_uint8_array, room, channel.reply) &&
         share(self, "mappings", napi_float64_array, numbers, channel.mappings) &&
         share(self, "requestCounts", napi_float64_array, OPCODES_MAX, channel.requestCounts) &&
         share(self, "scriptCounts", napi_float64_array, OPCODES_MAX, channel.scriptCounts);
}

/** @returns false when an option is out of its range. */
bool readOptions(const Napi::Object& given, Options& options) {
  options.fuseFd = given.Get("fuseFd").ToNumber().Int32Value();
  options.deviceFd = given.Get("deviceFd").ToNumber().Int32Value();
  options.deviceDirect = given.Get("deviceDirect").ToBoolean();
  const double offset = given.Get("deviceOffsetBytes").ToNumber().DoubleValue();
  if (!isOffset(offset)) return false;
  options.deviceOffsetBytes = static_cast<uint64_t>(offset);
  options.bodyBytesMax = given.Get("bodyBytesMax").ToNumber().Uint32Value();
  options.ioThreads =
      std::clamp(given.Get("ioThreads").ToNumber().Uint32Value(), 1u, IO_THREADS_MAX);
  options.traceReads = given.Get("traceReads").ToBoolean();
  return options.bodyBytesMax > 0 && options.bodyBytesMax <= BODY_BYTES_MAX;
}

napi_value construct(napi_env env, napi_callback_info info) {
  napi_value argument;
  napi_value self;
  size_t count = 1;
  napi_get_cb_info(env, info, &count, &argument, &self, nullptr);
  Options options{};
  if (!Napi::Value(env, argument).IsObject() ||
      !readOptions(Napi::Object(env, argument), options)) {
    napi_throw_range_error(env, nullptr, "impossible options for a channel");
    return nullptr;
  }
  auto handle = std::make_unique<Handle>();
  handle->channel = std::make_unique<Channel>(options);
  Napi::Object object(env, self);
  int error = handle->channel->start();
  if (error == 0 && !shareAll(object, *handle->channel, options.bodyBytesMax)) error = -ENOMEM;
  if (error != 0) {
    handle->closeChannel(env);
    const std::string message = std::string("cannot open a channel: ") + strerror(-error);
    napi_throw_error(env, nullptr, message.c_str());
    return nullptr;
  }

  handle->id = enlist(handle->channel.get());
  object.Set("id", handle->id);
  napi_wrap(env, self, handle.release(), finalizeHandle, nullptr, nullptr);
  return self;
}

}  // namespace

void registerChannel(napi_env env, napi_value exports) {
  const napi_property_descriptor methods[] = {
      {"next", nullptr, next, nullptr, nullptr, nullptr, napi_default, nullptr},
      {"map", nullptr, map, nullptr, nullptr, nullptr, napi_default, nullptr},
      {"closedBy", nullptr, closedBy, nullptr, nullptr, nullptr, napi_default, nullptr},
      {"close", nullptr, closeChannel, nullptr, nullptr, nullptr, napi_default, nullptr},
  };
  napi_value constructor;
  if (napi_define_class(env, "Channel", NAPI_AUTO_LENGTH, construct, nullptr, std::size(methods),
                        methods, &constructor) == napi_ok)
    napi_set_named_property(env, exports, "Channel", constructor);
  exportFunction(env, exports, "interruptChannel", interruptChannel);
}
