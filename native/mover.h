// Moves file data: carries out READs and WRITEs whose place on the device is known, at once when
// nothing has to wait, and by a thread that may wait for the device otherwise.

#pragma once

#include <pthread.h>
#include <sys/types.h>

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <vector>

#include "invalidator.h"
#include "reader.h"
#include "transfer.h"
#include "writer.h"

struct MoverOptions {
  int fuseFd;
  int deviceFd;
  bool deviceDirect;
  /** The longest READ or WRITE. */
  uint32_t bodyBytesMax;
  uint32_t threads;
};

/** All calls come from the thread of the request loop, unless they say otherwise. */
class Mover {
 public:
  /** @param invalidator answers WRITEs. */
  Mover(const MoverOptions& options, Invalidator& invalidator);
  ~Mover() { stop(); }
  Mover(const Mover&) = delete;
  Mover& operator=(const Mover&) = delete;

  /** Starts the threads. @returns zero or a negative errno. To be called once, before all else. */
  int start();

  /** Finishes what was begun, then ends the threads. */
  void stop();

  /** Answers the READ `job`, now or soon. Does not wait. */
  void read(Transfer& job);

  /**
   * Carries out the WRITE `job`, now or soon.
   *
   * @param data what is to be stored; it may be taken, and replaced by another buffer.
   */
  void write(Transfer& job, std::unique_ptr<AlignedBuffer>& data);

  /** Stores the `data` of the WRITE `job`, and replies nothing. @returns zero or -EIO. */
  int store(const Transfer& job, const uint8_t* data) const { return writer_.store(job, data); }

  /** Waits until no transfer of `node` is under way. */
  void awaitNode(uint64_t node);
  /** Waits until no WRITE is under way. */
  void awaitWrites();

  /** Whether no transfer is under way. From any thread. */
  bool isIdle();

  /** A buffer for the data of a WRITE; null when too many are in use, or there is no memory. */
  std::unique_ptr<AlignedBuffer> takeBuffer();

 private:
  /** A transfer that is queued, or in the hands of a thread. */
  struct UnderWay {
    uint64_t node;
    TransferKind kind;
  };

  static void* threadMain(void* mover);
  void work();
  void hand(Transfer& job);
  void carryOut(const Transfer& job, const uint8_t* data);
  void finish(Transfer& job);

  const MoverOptions options_;
  const TransferEnds ends_;
  const Reader reader_;
  const Writer writer_;
  Invalidator& invalidator_;
  AlignedBuffer buffer_;

  std::mutex lock_;
  std::condition_variable queued_;
  std::condition_variable finished_;
  std::deque<Transfer> queue_;
  std::vector<UnderWay> underWay_;
  std::vector<std::unique_ptr<AlignedBuffer>> spare_;
  size_t buffersMade_ = 0;
  bool stopping_ = false;
  std::vector<pthread_t> threads_;
};
