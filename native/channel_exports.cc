// The JavaScript face of a channel: the class `Channel` of src/native/binding.ts, and
// `interruptChannel`, which reaches a channel from another thread.

#include <errno.h>

#include <algorithm>
#include <cstring>
#include <iterator>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>

#include "addon.h"
#include "channel.h"

namespace {

constexpr uint32_t IO_THREADS_MAX = 64;
constexpr uint32_t BODY_BYTES_MAX = 256 * 1024 * 1024;

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
                           channel->written.array, channel->requestCounts.array,
                           channel->scriptCounts.array})
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
  napi_value arguments[4];
  double numbers[3] = {-1, -1, -1};
  uint32_t access = 0;
  Channel* channel = receiver(env, info, 4, arguments);
  if (channel == nullptr) return nullptr;
  for (int i = 0; i < 3; i++) napi_get_value_double(env, arguments[i], &numbers[i]);
  napi_get_value_uint32(env, arguments[3], &access);
  channel->map(numbers[0], numbers[1], numbers[2], access);
  return nullptr;
}

napi_value invalidate(napi_env env, napi_callback_info info) {
  napi_value arguments[3];
  double numbers[3] = {-1, -1, -1};
  Channel* channel = receiver(env, info, 3, arguments);
  if (channel == nullptr) return nullptr;
  for (int i = 0; i < 3; i++) napi_get_value_double(env, arguments[i], &numbers[i]);
  channel->invalidate(numbers[0], numbers[1], numbers[2]);
  return nullptr;
}

napi_value loadData(napi_env env, napi_callback_info info) {
  Channel* channel = receiver(env, info, 0, nullptr);
  if (channel != nullptr) channel->loadData();
  return nullptr;
}

napi_value drain(napi_env env, napi_callback_info info) {
  Channel* channel = receiver(env, info, 0, nullptr);
  if (channel != nullptr) channel->drain();
  return nullptr;
}

napi_value storeMapped(napi_env env, napi_callback_info info) {
  Channel* channel = receiver(env, info, 0, nullptr);
  napi_value result;
  napi_create_int32(env, channel == nullptr ? -EBADF : channel->storeMapped(), &result);
  return result;
}

void forgetNode(napi_env env, napi_callback_info info, bool withPages) {
  napi_value argument;
  double node = -1;
  Channel* channel = receiver(env, info, 1, &argument);
  if (channel == nullptr) return;
  napi_get_value_double(env, argument, &node);
  channel->forgetNode(node, withPages);
}

napi_value forgetAttributes(napi_env env, napi_callback_info info) {
  forgetNode(env, info, false);
  return nullptr;
}

napi_value forgetContents(napi_env env, napi_callback_info info) {
  forgetNode(env, info, true);
  return nullptr;
}

napi_value noteForgotten(napi_env env, napi_callback_info info) {
  napi_value argument;
  double node = -1;
  Channel* channel = receiver(env, info, 1, &argument);
  if (channel == nullptr) return nullptr;
  napi_get_value_double(env, argument, &node);
  channel->noteForgotten(node);
  return nullptr;
}

napi_value takeWritten(napi_env env, napi_callback_info info) {
  Channel* channel = receiver(env, info, 0, nullptr);
  napi_value result;
  napi_create_uint32(env, channel == nullptr ? 0 : channel->takeWritten(), &result);
  return result;
}

napi_value notify(napi_env env, napi_callback_info info) {
  napi_value arguments[2];
  double code = 0;
  size_t bytes = 0;
  void* payload = nullptr;
  napi_typedarray_type type = napi_int8_array;
  Channel* channel = receiver(env, info, 2, arguments);
  int error = -EBADF;
  if (channel != nullptr) {
    napi_get_value_double(env, arguments[0], &code);
    napi_get_typedarray_info(env, arguments[1], &type, &bytes, &payload, nullptr, nullptr);
    error = type != napi_uint8_array
                ? -EINVAL
                : channel->notify(code, static_cast<const uint8_t*>(payload), bytes);
  }
  napi_value result;
  napi_create_int32(env, error, &result);
  return result;
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
         share(self, "written", napi_float64_array, 1 + WRITTEN_MAX * WRITTEN_STRIDE,
               channel.written) &&
         share(self, "requestCounts", napi_float64_array, OPCODES_MAX, channel.requestCounts) &&
         share(self, "scriptCounts", napi_float64_array, OPCODES_MAX, channel.scriptCounts);
}

/** @returns false when an option is out of its range. */
bool readOptions(const Napi::Object& given, ChannelOptions& options) {
  options.fuseFd = given.Get("fuseFd").ToNumber().Int32Value();
  options.deviceFd = given.Get("deviceFd").ToNumber().Int32Value();
  options.deviceDirect = given.Get("deviceDirect").ToBoolean();
  const double offset = given.Get("deviceOffsetBytes").ToNumber().DoubleValue();
  if (!isOffset(offset)) return false;
  options.deviceOffsetBytes = static_cast<uint64_t>(offset);
  options.blockBytes = given.Get("blockBytes").ToNumber().Uint32Value();
  options.bodyBytesMax = given.Get("bodyBytesMax").ToNumber().Uint32Value();
  options.ioThreads =
      std::clamp(given.Get("ioThreads").ToNumber().Uint32Value(), 1u, IO_THREADS_MAX);
  options.traceTransfers = given.Get("traceTransfers").ToBoolean();
  if (options.blockBytes == 0) return false;
  return options.bodyBytesMax > 0 && options.bodyBytesMax <= BODY_BYTES_MAX;
}

napi_value construct(napi_env env, napi_callback_info info) {
  napi_value argument;
  napi_value self;
  size_t count = 1;
  napi_get_cb_info(env, info, &count, &argument, &self, nullptr);
  ChannelOptions options{};
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
      {"invalidate", nullptr, invalidate, nullptr, nullptr, nullptr, napi_default, nullptr},
      {"loadData", nullptr, loadData, nullptr, nullptr, nullptr, napi_default, nullptr},
      {"drain", nullptr, drain, nullptr, nullptr, nullptr, napi_default, nullptr},
      {"storeMapped", nullptr, storeMapped, nullptr, nullptr, nullptr, napi_default, nullptr},
      {"forgetAttributes", nullptr, forgetAttributes, nullptr, nullptr, nullptr, napi_default,
       nullptr},
      {"forgetContents", nullptr, forgetContents, nullptr, nullptr, nullptr, napi_default, nullptr},
      {"noteForgotten", nullptr, noteForgotten, nullptr, nullptr, nullptr, napi_default, nullptr},
      {"takeWritten", nullptr, takeWritten, nullptr, nullptr, nullptr, napi_default, nullptr},
      {"notify", nullptr, notify, nullptr, nullptr, nullptr, napi_default, nullptr},
      {"closedBy", nullptr, closedBy, nullptr, nullptr, nullptr, napi_default, nullptr},
      {"close", nullptr, closeChannel, nullptr, nullptr, nullptr, napi_default, nullptr},
  };
  napi_value constructor;
  if (napi_define_class(env, "Channel", NAPI_AUTO_LENGTH, construct, nullptr, std::size(methods),
                        methods, &constructor) == napi_ok)
    napi_set_named_property(env, exports, "Channel", constructor);
  exportFunction(env, exports, "interruptChannel", interruptChannel);
}
