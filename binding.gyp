{
  "targets": [
    {
      "target_name": "fuse4fs",
      "sources": [
        "native/addon.cc",
        "native/buffers.cc",
        "native/channel.cc",
        "native/channel_exports.cc",
        "native/clock.cc",
        "native/crc32c.cc",
        "native/device.cc",
        "native/device_write.cc",
        "native/fuse_control.cc",
        "native/invalidator.cc",
        "native/loop.cc",
        "native/mapping_cache.cc",
        "native/mount.cc",
        "native/mover.cc",
        "native/reader.cc",
        "native/spin.cc",
        "native/wake_timer.cc",
        "native/writer.cc",
      ],
      "defines": ["NAPI_VERSION=8", "NAPI_DISABLE_CPP_EXCEPTIONS", "_FILE_OFFSET_BITS=64"],
      "cflags": ["-O2", "-Wall", "-Wextra", "-Werror", "-fvisibility=hidden"],
      "configurations": {"Release": {"cflags!": ["-O3"]}},
      "include_dirs": ["<!(node -p \"require('node-addon-api').include_dir\")"],
      "cflags_cc": ["-std=c++17"],
      "cflags_cc!": ["-std=gnu++17", "-std=gnu++20"],
    }
  ]
}
