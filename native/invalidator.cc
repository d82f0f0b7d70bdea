// Linux drops the pages of what is written with O_DIRECT before it sends the WRITE, and once more
// after the answer, but for asynchronous writes only before. A page that a READ brings in between
// may hold what was there before. So that it does not stay, we have the range dropped ourselves,
// between the data and the answer:
//
//     WRITE ──► data on the device ──► FUSE_NOTIFY_INVAL_INODE ──► answer
//
// WRITEs to nodes of which the kernel has never read a page are answered at once. That is decided
// when the data is written: a READ that arrives later finds the new bytes. After many WRITEs in a
// row without such a READ all pages of the node are dropped, and it counts as never read: a file
// that was filled through the page cache, and then is written past it. It takes twice as many each
// time, so that a file that lies in the page cache for good is not thrown out over and over.
//
// The write(2) that notifies sleeps, and cannot be interrupted, while a page of the range is
// locked, which is until its READ is answered. So it happens on threads that nothing else depends
// on: one, and more of them when it sleeps for long and others wait.
//
// Such a READ may not even have been sent. The kernel counts asynchronous WRITEs and read-ahead
// together, and sends no more than `max_background` of both at a time: when all of these are WRITEs
// that wait here for pages of read-ahead that waits for them, one is answered before the kernel
// comes back. What is read then is new; only the rest of its range may be old for another moment.
//
// A process that is killed while such a thread sleeps ends when the READ is over. Its connection
// would not, if the sleeping write(2) were on the descriptor that the READ came from; so it is on a
// clone.

#include "invalidator.h"

#include <fcntl.h>
#include <linux/fuse.h>
#include <sys/ioctl.h>

#include <chrono>
#include <iterator>

#include "quiet_thread.h"

namespace {

/** WRITEs in a row after which it is tried for the first time to do without asking. */
constexpr uint64_t STREAK = 1024;
/** Threads that ask the kernel. */
constexpr size_t WORKERS_MAX = 8;
/** How often it is looked at whether anything moves; if not, another thread helps. */
constexpr std::chrono::milliseconds TICK{10};
/** After so many times at which nothing has moved and nobody was at work, nothing will. */
constexpr uint32_t IDLE_TICKS_MAX = 3;

/** Another descriptor of the connection `fuseFd`. It stays invalid where there is none to be had.
 */
Descriptor cloneOf(int fuseFd) {
  Descriptor clone(open("/dev/fuse", O_RDWR | O_CLOEXEC));
  auto original = static_cast<uint32_t>(fuseFd);
  if (clone.valid() && ioctl(clone.get(), FUSE_DEV_IOC_CLONE, &original) != 0) clone.reset();
  return clone;
}

}  // namespace

Invalidator::~Invalidator() {
  for (const pthread_t thread : threads_) pthread_join(thread, nullptr);
}

void Invalidator::noteCached(uint64_t node) {
  if (node == lastCached_ && !hasStreaks_) return;
  lastCached_ = node;
  const std::lock_guard<std::mutex> guard(lock_);
  cached_.add(node);
  const auto streak = streaks_.find(node);
  if (streak != streaks_.end()) streak->second.length = streak->second.dropping = 0;
}

void Invalidator::noteForgotten(uint64_t node) {
  if (node == lastCached_) lastCached_ = 0;
  const std::lock_guard<std::mutex> guard(lock_);
  cached_.remove(node);
  streaks_.erase(node);
  hasStreaks_ = !streaks_.empty();
}

void Invalidator::answer(const WriteReply& reply, const FileRange& written) {
  if (written.length != 0) {
    const std::lock_guard<std::mutex> guard(lock_);
    if (!stopping_ && cached_.has(written.node) && isStarted()) {
      waiting_.push_back({written, reply, countWrite(written.node), false});
      queued_.notify_one();
      if (!watching_) watched_.notify_one();
      return;
    }
  }
  sendWriteReply(fuseFd_, reply);
}

/**
 * Counts a WRITE. Called with the lock held.
 *
 * @returns the number of the streak that it ends, or zero.
 */
uint64_t Invalidator::countWrite(uint64_t node) {
  hasStreaks_ = true;
  Streak& streak = streaks_.try_emplace(node, Streak{STREAK, 0, 0}).first->second;
  if (++streak.length < streak.enough) return 0;
  streak = {streak.enough * 2, 0, ++streaksEnded_};
  return streak.dropping;
}

/** All pages of `node` were dropped. Called with the lock held. */
void Invalidator::noteDropped(uint64_t node, uint64_t streak) {
  const auto found = streaks_.find(node);
  if (found != streaks_.end() && found->second.dropping == streak) cached_.remove(node);
}

/** Called with the lock held. @returns false when there are no threads, and none to be had. */
bool Invalidator::isStarted() {
  if (!threads_.empty()) return true;
  notifyFd_ = cloneOf(fuseFd_);
  return startThread(workMain) && startThread(watchMain);
}

/** Called with the lock held. */
bool Invalidator::startThread(void* (*main)(void*)) {
  pthread_t thread;
  if (startQuietThread(&thread, main, this) != 0) return false;
  threads_.push_back(thread);
  running_++;
  return true;
}

void* Invalidator::workMain(void* invalidator) {
  static_cast<Invalidator*>(invalidator)->work();
  return nullptr;
}

void* Invalidator::watchMain(void* invalidator) {
  static_cast<Invalidator*>(invalidator)->watch();
  return nullptr;
}

void Invalidator::work() {
  std::unique_lock<std::mutex> guard(lock_);
  for (;;) {
    queued_.wait(guard, [this] { return stopping_ || !waiting_.empty(); });
    if (stopping_) break;
    asked_.splice(asked_.end(), waiting_, waiting_.begin());
    const auto mine = std::prev(asked_.end());
    guard.unlock();
    drop(*mine);
    guard.lock();
    returned_++;
    if (mine->streak != 0) noteDropped(mine->written.node, mine->streak);
    const bool answered = mine->answered;
    const WriteReply reply = mine->reply;
    asked_.erase(mine);
    if (answered) continue;
    guard.unlock();
    sendWriteReply(fuseFd_, reply);
    guard.lock();
  }
  running_--;
}

void Invalidator::drop(const Held& held) const {
  const auto [node, offset, length] = held.written;
  fuse_notify_inval_inode_out what{node, static_cast<int64_t>(offset),
                                   static_cast<int64_t>(length)};
  if (held.streak != 0) what.off = what.len = 0;  // to the end
  const int fd = notifyFd_.valid() ? notifyFd_.get() : fuseFd_;
  sendReply(fd, 0, FUSE_NOTIFY_INVAL_INODE, &what, sizeof what);
}

/** Sees to it that something moves as long as something waits. */
void Invalidator::watch() {
  std::unique_lock<std::mutex> guard(lock_);
  uint32_t idleTicks = 0;
  while (!stopping_) {
    watching_ = !waiting_.empty() || !asked_.empty();
    if (!watching_) {
      watched_.wait(guard);
      continue;
    }
    const uint64_t before = returned_;
    watched_.wait_for(guard, TICK);
    const bool moves = returned_ != before;
    idleTicks = !moves && isIdle_() ? idleTicks + 1 : 0;
    if (moves || stopping_) continue;
    const bool helps = !asked_.empty() && !waiting_.empty();
    if (helps && threads_.size() <= WORKERS_MAX)
      startThread(workMain);
    else if (idleTicks >= IDLE_TICKS_MAX)
      answerOldest();
  }
  running_--;
}

/** Answers the WRITE that has waited for longest. Called with the lock held. */
void Invalidator::answerOldest() {
  for (std::list<Held>* const each : {&asked_, &waiting_}) {
    for (Held& held : *each) {
      if (held.answered) continue;
      held.answered = true;
      sendWriteReply(fuseFd_, held.reply);
      return;
    }
  }
}

void Invalidator::stop() {
  const std::lock_guard<std::mutex> guard(lock_);
  stopping_ = true;
  for (std::list<Held>* const each : {&asked_, &waiting_}) {
    for (Held& held : *each) {
      if (!held.answered) sendWriteReply(fuseFd_, held.reply);
      held.answered = true;
    }
  }
  waiting_.clear();
  queued_.notify_all();
  watched_.notify_all();
}

bool Invalidator::hasEnded() {
  const std::lock_guard<std::mutex> guard(lock_);
  return running_ == 0;
}
