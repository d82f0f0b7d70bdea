// When to keep asking for a request instead of sleeping until one comes.
//
// A client that wakes a sleeping server sends an interrupt to another processor, which may have to
// leave a halt first: on a virtual machine that takes longer than most requests (docs/performance.md).
// As long as requests follow each other closely, the server asks again and again in between.

#pragma once

#include <cstdint>

#include "monotonic.h"

/** Lets other hardware threads of the core run for about half a microsecond. */
void relax();

class Spin {
 public:
  /** Never pays where there is one processor for both sides. */
  Spin();

  /** Whether the next request is likely to come before asking for it `isOver`. */
  bool pays() const { return possible_ && pays_; }
  /** Whether to go to sleep, after having asked since `start` (of `nowNs`). */
  bool isOver(int64_t start) const { return nowNs() - start >= NS_MAX; }
  /** A request has come, `ns` after the server was ready for it. */
  void waited(int64_t ns) { pays_ = ns < NS_MAX; }

 private:
  /** Longer than most programs take from one call to the next; wasted once for each pause of theirs. */
  static constexpr int64_t NS_MAX = 50'000;

  bool possible_;
  bool pays_ = false;
};
