// How the bytes of a WRITE get from the kernel to the device.

#pragma once

#include "transfer.h"

class Writer {
 public:
  explicit Writer(const TransferEnds& ends) : ends_(ends) {}

  /** Whether another thread should carry out `job`: it is long, or the device may keep it waiting. */
  bool isWorthAThread(const Transfer& job) const;

  /** Stores all pieces of `job`, with `data` in those that are not zeros. @returns zero or -EIO. */
  int store(const Transfer& job, const uint8_t* data) const;

 private:
  bool isAligned(const Transfer& job) const;
  bool isCached(const Transfer& job) const;
  bool isPageCached(uint64_t address) const;
  int storeRun(const Segment* first, const Segment* last, const uint8_t*& data) const;
  int storeEach(const Segment* first, const Segment* last, const uint8_t* data) const;

  const TransferEnds ends_;
};
