// Registers what the addon exports; src/native/binding.ts is the contract. The addon is loaded once
// per thread that requires it, and keeps no JavaScript value outside the objects it hands out.

#include "addon.h"

static Napi::Object initialize(Napi::Env env, Napi::Object exports) {
  registerChannel(env, exports);
  registerChecksum(env, exports);
  registerClock(env, exports);
  registerDevice(env, exports);
  registerDeviceWrites(env, exports);
  registerFuseControl(env, exports);
  registerLoop(env, exports);
  registerMount(env, exports);
  return exports;
}

NODE_API_MODULE(fuse4fs, initialize)
