// Has the kernel drop pages that a WRITE past its page cache has made stale, before the WRITE is
// answered.

#pragma once

#include <pthread.h>

#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <list>
#include <mutex>
#include <unordered_map>
#include <utility>
#include <vector>

#include "descriptor.h"
#include "node_set.h"
#include "transfer.h"

class Invalidator {
 public:
  /**
   * @param isIdle whether all requests that were received are carried out, but for the answers that
   *   are sent here. Asked from any thread.
   */
  Invalidator(int fuseFd, std::function<bool()> isIdle)
      : fuseFd_(fuseFd), isIdle_(std::move(isIdle)) {}
  /** `stop` must have been called. Waits until all threads have ended. */
  ~Invalidator();
  Invalidator(const Invalidator&) = delete;
  Invalidator& operator=(const Invalidator&) = delete;

  /** From now on the kernel may have pages of `node`. On the thread of the request loop. */
  void noteCached(uint64_t node);
  /** The kernel has no pages of `node`. On the thread of the request loop. */
  void noteForgotten(uint64_t node);

  /**
   * Sends `reply`, after the kernel has dropped the pages of what was `written`, if it may have
   * any. To be called when the data is on the device, from any thread. Does not wait.
   */
  void answer(const WriteReply& reply, const FileRange& written);

  /** Answers all that waits, and from now on everything, without asking for anything before. */
  void stop();
  /** Whether, after `stop`, no thread sleeps in the kernel any more. */
  bool hasEnded();

 private:
  /** A WRITE that is carried out. */
  struct Held {
    FileRange written;
    WriteReply reply;
    /** Not zero: all pages of the file are dropped, for the streak that has this number. */
    uint64_t streak;
    bool answered;
  };
  /** WRITEs to a node since a page of it was read, or since all of them were dropped. */
  struct Streak {
    /** At which length they are dropped. */
    uint64_t enough;
    uint64_t length;
    /** Not zero: that is being done, and no page was read meanwhile. */
    uint64_t dropping;
  };

  static void* workMain(void* invalidator);
  static void* watchMain(void* invalidator);
  bool startThread(void* (*main)(void*));
  bool isStarted();
  uint64_t countWrite(uint64_t node);
  void noteDropped(uint64_t node, uint64_t streak);
  void work();
  void watch();
  void answerOldest();
  void drop(const Held& held) const;

  const int fuseFd_;
  const std::function<bool()> isIdle_;
  /** The last node that was noted: the request loop's own. */
  uint64_t lastCached_ = 0;
  std::atomic<bool> hasStreaks_{false};

  std::mutex lock_;
  std::condition_variable queued_;
  std::condition_variable watched_;
  NodeSet cached_;
  /** Of nodes that were ever in `cached_` at a WRITE, until the kernel forgets them. */
  std::unordered_map<uint64_t, Streak> streaks_;
  uint64_t streaksEnded_ = 0;
  Descriptor notifyFd_;
  std::list<Held> waiting_;
  /** In the hands of threads, the oldest first. */
  std::list<Held> asked_;
  /** How many times the kernel has come back. */
  uint64_t returned_ = 0;
  bool watching_ = false;
  bool stopping_ = false;
  std::vector<pthread_t> threads_;
  size_t running_ = 0;
};
