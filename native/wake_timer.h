// A timer that ends a blocking system call of the thread it belongs to, by a signal. Waiting for it
// costs nothing while there is something to do: it is set about once per deadline, not once per call.

#pragma once

#include <time.h>

#include <cstdint>

class WakeTimer {
 public:
  WakeTimer() = default;
  WakeTimer(const WakeTimer&) = delete;
  WakeTimer& operator=(const WakeTimer&) = delete;
  ~WakeTimer();

  /** Makes it a timer of this thread, which gets `signal`. @returns zero or a negative errno. */
  int start(int signal);

  /**
   * Lets the signal come at `deadline` (of `nowMs`) at the latest; perhaps earlier as well, and from
   * then on again and again, since the first may come just before the call that it is meant for.
   */
  void wakeAt(int64_t deadline);
  /** No signal is needed any more. */
  void stop();

 private:
  void set(int64_t when);

  static constexpr int64_t NEVER = INT64_MAX;

  bool made_ = false;
  timer_t timer_{};
  int64_t setFor_ = NEVER;
};
