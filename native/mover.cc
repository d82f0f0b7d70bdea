// The data mover. A READ takes one of three ways:
//
//   inline   a small one that the page cache has: the request loop reads with RWF_NOWAIT and
//            replies; no other thread, no waiting
//   splice   a large one: a thread of the pool passes on the pages of the page cache
//   copy     all others: a thread of the pool reads, waiting for the device, and replies
//
// A WRITE is carried out by the request loop when it is small and does not have to wait, or when the
// next request may depend on it; by a thread of the pool otherwise, which gets the buffer that the
// data arrived in.
//
// Each thread has a buffer and a pipe for one reply. Large transfers go to the pool even when the
// page cache has everything, so that processors share the work of several clients.

#include "mover.h"

#include <errno.h>
#include <linux/fuse.h>
#include <linux/magic.h>
#include <sys/uio.h>
#include <sys/vfs.h>

#include <algorithm>

#include "device.h"
#include "quiet_thread.h"

namespace {

/** Rounding up a transfer for O_DIRECT may go this far beyond it. */
constexpr size_t SLACK_BYTES = ALIGNMENT_BYTES_MAX;
/** From this size on it pays to wake a thread for a READ. */
constexpr uint32_t LARGE_BYTES = 64 * 1024;
/** Buffers for WRITEs, besides one for each thread: one that is being filled, and some in a queue. */
constexpr size_t QUEUED_BUFFERS = 8;

/** True when the file lies in memory: reading it never waits, and may not know RWF_NOWAIT. */
bool liesInMemory(int fd) {
  struct statfs filesystem;
  if (fstatfs(fd, &filesystem) != 0) return false;
  return filesystem.f_type == TMPFS_MAGIC || filesystem.f_type == RAMFS_MAGIC;
}

}  // namespace

int sendReply(int fuseFd, uint64_t unique, int error, const void* data, size_t bytes) {
  fuse_out_header header{};
  header.len = static_cast<uint32_t>(sizeof header + bytes);
  header.error = error;
  header.unique = unique;
  iovec parts[2] = {{&header, sizeof header}, {const_cast<void*>(data), bytes}};
  while (writev(fuseFd, parts, bytes == 0 ? 1 : 2) < 0) {
    if (errno == ENOENT) return 0;
    if (errno != EINTR) return -errno;
  }
  return 0;
}

int sendWriteReply(int fuseFd, const WriteReply& reply) {
  const fuse_write_out result{reply.bytes, 0};
  return sendReply(fuseFd, reply.unique, reply.error, &result,
                   reply.error == 0 ? sizeof result : 0);
}

Mover::Mover(const MoverOptions& options, Invalidator& invalidator)
    : options_(options),
      ends_{options.fuseFd, options.deviceFd, options.deviceDirect,
            deviceAlignment(options.deviceFd), liesInMemory(options.deviceFd)},
      reader_(ends_),
      writer_(ends_),
      invalidator_(invalidator),
      buffer_(options.bodyBytesMax + SLACK_BYTES) {}

void Mover::stop() {
  {
    const std::lock_guard<std::mutex> guard(lock_);
    stopping_ = true;
  }
  queued_.notify_all();
  for (const pthread_t thread : threads_) pthread_join(thread, nullptr);
  threads_.clear();
}

int Mover::start() {
  if (buffer_.data() == nullptr) return -ENOMEM;
  int error = 0;
  while (error == 0 && threads_.size() < options_.threads) {
    pthread_t thread;
    error = startQuietThread(&thread, threadMain, this);
    if (error == 0) threads_.push_back(thread);
  }
  return threads_.empty() ? -error : 0;
}

void Mover::read(Transfer& job) {
  const bool alone = !ends_.deviceDirect && job.bytes < LARGE_BYTES;
  if (!alone || !reader_.copy(job, buffer_, Wait::No)) hand(job);
}

void Mover::write(Transfer& job, std::unique_ptr<AlignedBuffer>& data) {
  std::unique_ptr<AlignedBuffer> next;
  if (writer_.isWorthAThread(job)) next = takeBuffer();
  if (next == nullptr) {
    carryOut(job, data->data());
    return;
  }
  job.data = std::move(data);
  data = std::move(next);
  hand(job);
}

std::unique_ptr<AlignedBuffer> Mover::takeBuffer() {
  const std::lock_guard<std::mutex> guard(lock_);
  std::unique_ptr<AlignedBuffer> buffer;
  if (!spare_.empty()) {
    buffer = std::move(spare_.back());
    spare_.pop_back();
  } else if (buffersMade_ < options_.threads + QUEUED_BUFFERS) {
    buffer = std::make_unique<AlignedBuffer>(options_.bodyBytesMax + SLACK_BYTES);
    if (buffer->data() == nullptr) return nullptr;
    buffersMade_++;
  }
  return buffer;
}

void Mover::awaitNode(uint64_t node) {
  std::unique_lock<std::mutex> guard(lock_);
  finished_.wait(guard, [this, node] {
    return std::none_of(underWay_.begin(), underWay_.end(),
                        [node](const UnderWay& each) { return each.node == node; });
  });
}

void Mover::awaitWrites() {
  std::unique_lock<std::mutex> guard(lock_);
  finished_.wait(guard, [this] {
    return std::none_of(underWay_.begin(), underWay_.end(), [](const UnderWay& each) {
      return each.kind == TransferKind::Write;
    });
  });
}

bool Mover::isIdle() {
  const std::lock_guard<std::mutex> guard(lock_);
  return underWay_.empty();
}

void Mover::hand(Transfer& job) {
  {
    const std::lock_guard<std::mutex> guard(lock_);
    underWay_.push_back({job.node, job.kind});
    queue_.push_back(std::move(job));
  }
  queued_.notify_one();
}

void* Mover::threadMain(void* mover) {
  static_cast<Mover*>(mover)->work();
  return nullptr;
}

void Mover::work() {
  const AlignedBuffer buffer(options_.bodyBytesMax + SLACK_BYTES);
  PagePipe pipe(options_.deviceDirect ? 0 : options_.bodyBytesMax);
  std::unique_lock<std::mutex> guard(lock_);
  for (;;) {
    queued_.wait(guard, [this] { return stopping_ || !queue_.empty(); });
    if (queue_.empty()) return;
    Transfer job = std::move(queue_.front());
    queue_.pop_front();
    guard.unlock();
    if (job.kind == TransferKind::Write) {
      carryOut(job, job.data->data());
    } else if (!reader_.splice(job, pipe)) {
      reader_.copy(job, buffer, Wait::Yes);
    }
    guard.lock();
    finish(job);
  }
}

void Mover::carryOut(const Transfer& job, const uint8_t* data) {
  const int error = writer_.store(job, data);
  invalidator_.answer({job.unique, error, job.bytes}, job.uncached);
}

/** Called with the lock held, when the kernel has its reply, or pages to drop before a WRITE's. */
void Mover::finish(Transfer& job) {
  const auto found = std::find_if(
      underWay_.begin(), underWay_.end(),
      [&job](const UnderWay& each) { return each.node == job.node && each.kind == job.kind; });
  if (found != underWay_.end()) {
    *found = underWay_.back();
    underWay_.pop_back();
  }
  if (job.data != nullptr) spare_.push_back(std::move(job.data));
  finished_.notify_all();
}
