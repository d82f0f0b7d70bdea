// The clock that waiting is measured by; it never jumps.

#pragma once

#include <time.h>

#include <cstdint>

inline int64_t nowNs() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec;
}

inline int64_t nowMs() {
  return nowNs() / 1'000'000;
}
