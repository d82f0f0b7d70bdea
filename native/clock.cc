// The time of day as the kernel would stamp files with it: Date.now() counts milliseconds only, and
// would let a file that the shim wrote to go back in time.

#include <time.h>

#include "addon.h"

namespace {

napi_value readClock(napi_env env, napi_callback_info info) {
  napi_value argument;
  size_t count = 1;
  size_t length = 0;
  void* into = nullptr;
  napi_typedarray_type type = napi_int8_array;
  napi_get_cb_info(env, info, &count, &argument, nullptr, nullptr);
  napi_get_typedarray_info(env, argument, &type, &length, &into, nullptr, nullptr);
  if (type != napi_float64_array || length < 2) return nullptr;
  timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  static_cast<double*>(into)[0] = static_cast<double>(now.tv_sec);
  static_cast<double*>(into)[1] = static_cast<double>(now.tv_nsec);
  return nullptr;
}

}  // namespace

void registerClock(napi_env env, napi_value exports) {
  exportFunction(env, exports, "readClock", readClock);
}
