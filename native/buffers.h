// Memory and pipes that carry file data. JavaScript never sees either.

#pragma once

#include <cstddef>
#include <cstdint>

#include "descriptor.h"

/** Page-aligned memory, zeroed. Pages come with first use. */
class AlignedBuffer {
 public:
  explicit AlignedBuffer(size_t bytes);
  AlignedBuffer(const AlignedBuffer&) = delete;
  AlignedBuffer& operator=(const AlignedBuffer&) = delete;
  ~AlignedBuffer();
  /** Null when there was no memory. */
  uint8_t* data() const { return data_; }

 private:
  size_t bytes_;
  uint8_t* data_;
};

/** A pipe that carries pages of the page cache from the device to /dev/fuse. Empty between uses. */
class PagePipe {
 public:
  /** Makes it as large as `bytes` of reply need, or as the system allows. */
  explicit PagePipe(size_t bytes) : bytes_(bytes) { open(); }
  /** Pages that it holds; zero when there was no pipe to be had. */
  size_t pages() const { return pages_; }
  int in() const { return in_.get(); }
  int out() const { return out_.get(); }
  /** Throws away what is in it. */
  void empty() { open(); }

 private:
  void open();

  const size_t bytes_;
  size_t pages_ = 0;
  Descriptor in_;
  Descriptor out_;
};

/** A pipe counts pages. Where they are larger than this, we only ask for too many. */
constexpr size_t PIPE_PAGE_BYTES = 4096;
