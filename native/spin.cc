// How many processors there are, and a pause.

#include "spin.h"

#include <sched.h>

namespace {

constexpr int PAUSES = 16;

}  // namespace

void relax() {
  for (int i = 0; i < PAUSES; i++) {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("isb");
#endif
  }
}

Spin::Spin() {
  cpu_set_t processors;
  possible_ = sched_getaffinity(0, sizeof processors, &processors) == 0 && CPU_COUNT(&processors) > 1;
}
