// The timer of a blocking call, by timer_create(2).

#include "wake_timer.h"

#include <errno.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>

#include "monotonic.h"

namespace {

/** Deadlines are computed over and over from what is left to wait: so much they differ. */
constexpr int64_t TOLERANCE_MS = 1;
constexpr int64_t REPEAT_MS = 20;

timespec toTimespec(int64_t ms) {
  return {static_cast<time_t>(ms / 1000), static_cast<long>(ms % 1000 * 1'000'000)};
}

}  // namespace

WakeTimer::~WakeTimer() {
  if (made_) timer_delete(timer_);
}

int WakeTimer::start(int signal) {
  sigevent event{};
  event.sigev_notify = SIGEV_THREAD_ID;
  event.sigev_signo = signal;
  event._sigev_un._tid = static_cast<pid_t>(syscall(SYS_gettid));
  if (timer_create(CLOCK_MONOTONIC, &event, &timer_) != 0) return -errno;
  made_ = true;
  return 0;
}

void WakeTimer::wakeAt(int64_t deadline) {
  // One that comes too early is set anew by whoever it wakes.
  if (setFor_ > deadline + TOLERANCE_MS || setFor_ <= nowMs()) set(deadline);
}

void WakeTimer::stop() {
  if (setFor_ != NEVER) set(NEVER);
}

void WakeTimer::set(int64_t when) {
  setFor_ = when;
  itimerspec time{};
  if (when != NEVER) {
    time.it_value = toTimespec(std::max<int64_t>(when, 1));
    time.it_interval = toTimespec(REPEAT_MS);
  }
  timer_settime(timer_, TIMER_ABSTIME, &time, nullptr);
}
