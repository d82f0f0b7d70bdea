// How the bytes of a READ get from the device to the kernel.

#pragma once

#include "transfer.h"

class Reader {
 public:
  explicit Reader(const TransferEnds& ends) : ends_(ends) {}

  /**
   * Reads into `buffer` and replies.
   *
   * @returns false when that would have to wait for the device and may not; then nothing was sent.
   */
  bool copy(const Transfer& job, const AlignedBuffer& buffer, Wait wait) const;

  /** Replies without copying, if that is worth it. @returns false when nothing was sent. */
  bool splice(const Transfer& job, PagePipe& pipe) const;

 private:
  bool fillPipe(const Transfer& job, PagePipe& pipe) const;
  int fill(const Transfer& job, uint8_t* into, Wait wait) const;
  int readSegment(const Segment& segment, uint8_t* into, Wait wait) const;

  const TransferEnds ends_;
};
