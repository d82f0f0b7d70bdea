// Moves file data: answers a READ whose place on the device is known, at once when the page cache
// has the bytes, and from a thread that may wait for the device otherwise.

#pragma once

#include <pthread.h>
#include <sys/types.h>

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <mutex>
#include <vector>

#include "descriptor.h"
#include "mapping_cache.h"

/** Page-aligned memory that is never touched by JavaScript. Pages come with first use. */
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

/** A READ to be answered: where its bytes are. */
struct ReadJob {
  uint64_t unique;
  uint32_t bytes;
  std::vector<Segment> segments;
};

/** What all transfers of a channel have in common. The descriptors belong to the caller. */
struct MoverOptions {
  int fuseFd;
  int deviceFd;
  bool deviceDirect;
  uint32_t bodyBytesMax;
  uint32_t threads;
};

class Mover {
 public:
  explicit Mover(const MoverOptions& options);
  /** Finishes what was begun, then ends the threads. */
  ~Mover();
  Mover(const Mover&) = delete;
  Mover& operator=(const Mover&) = delete;

  /** Starts the threads. @returns zero or a negative errno. To be called once, before `serve`. */
  int start();

  /** Answers `job`, now or soon. Called by the thread of the request loop only; does not wait. */
  void serve(ReadJob& job);

 private:
  /** Whether reading may wait for the device. */
  enum class Wait : bool { No, Yes };

  static void* threadMain(void* mover);
  void work();
  void hand(ReadJob& job);
  bool splice(const ReadJob& job, PagePipe& pipe) const;
  bool fillPipe(const ReadJob& job, PagePipe& pipe) const;
  int fill(const ReadJob& job, uint8_t* into, Wait wait) const;
  int readSegment(const Segment& segment, uint8_t* into, Wait wait) const;

  const MoverOptions options_;
  const uint32_t alignment_;
  const bool neverWaits_;
  AlignedBuffer buffer_;

  std::mutex lock_;
  std::condition_variable changed_;
  std::deque<ReadJob> queue_;
  bool stopping_ = false;
  std::vector<pthread_t> threads_;
};

/**
 * Sends a reply of `error` (zero or a negative errno) with `bytes` of data to the kernel.
 *
 * A request that was interrupted meanwhile is no failure. @returns zero or a negative errno.
 */
int sendReply(int fuseFd, uint64_t unique, int error, const uint8_t* data, size_t bytes);
