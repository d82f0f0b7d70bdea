// What every part of the addon has in common with addon.cc: a function that adds its exports.

#pragma once

#include <napi.h>

void registerChannel(napi_env env, napi_value exports);
void registerChecksum(napi_env env, napi_value exports);
void registerClock(napi_env env, napi_value exports);
void registerDevice(Napi::Env env, Napi::Object exports);
void registerDeviceWrites(Napi::Env env, Napi::Object exports);
void registerFuseControl(Napi::Env env, Napi::Object exports);
void registerLoop(Napi::Env env, Napi::Object exports);
void registerMount(Napi::Env env, Napi::Object exports);

/** Adds the function `name` to `exports`. For the calls that must be cheap: no wrapper around it.
 */
inline void exportFunction(napi_env env, napi_value exports, const char* name,
                           napi_callback callback) {
  napi_value function;
  if (napi_create_function(env, name, NAPI_AUTO_LENGTH, callback, nullptr, &function) == napi_ok)
    napi_set_named_property(env, exports, name, function);
}
