// The data mover. A READ takes one of three ways:
//
//   inline   a small one that the page cache has: the request loop reads with RWF_NOWAIT and
//            replies; no other thread, no waiting
//   splice   a large one: a thread of the pool lets the pages of the page cache pass through a pipe
//            to /dev/fuse, which spares one of two copies
//   copy     all others: a thread of the pool reads, waiting for the device, and replies
//
// Each thread has a buffer and a pipe for one reply. Large ones go to the pool even when the page
// cache has them, so that processors share the work of several readers.

#include "mover.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <linux/magic.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <cstring>

#include "device.h"

namespace {

/** Rounding up a read for O_DIRECT may go this far beyond the reply. */
constexpr size_t SLACK_BYTES = ALIGNMENT_BYTES_MAX;
/** From this size on it pays to wake a thread for a READ, and to splice. */
constexpr uint32_t LARGE_BYTES = 64 * 1024;
/** On average. Smaller pieces are cheaper to copy than to splice. */
constexpr uint32_t SPLICE_SEGMENT_BYTES_MIN = 16 * 1024;
/** A pipe counts pages. Where they are larger than this, we only ask for too many. */
constexpr size_t PAGE_BYTES = 4096;

/** True when the file lies in memory: reading it never waits, and may not know RWF_NOWAIT. */
bool liesInMemory(int fd) {
  struct statfs filesystem;
  if (fstatfs(fd, &filesystem) != 0) return false;
  return filesystem.f_type == TMPFS_MAGIC || filesystem.f_type == RAMFS_MAGIC;
}

}  // namespace

AlignedBuffer::AlignedBuffer(size_t bytes) : bytes_(bytes) {
  void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  data_ = memory == MAP_FAILED ? nullptr : static_cast<uint8_t*>(memory);
}

AlignedBuffer::~AlignedBuffer() {
  if (data_ != nullptr) munmap(data_, bytes_);
}

void PagePipe::open() {
  pages_ = 0;
  in_.reset();
  out_.reset();
  int ends[2];
  if (bytes_ == 0 || pipe2(ends, O_CLOEXEC | O_NONBLOCK) != 0) return;
  out_ = Descriptor(ends[0]);
  in_ = Descriptor(ends[1]);
  const size_t pagesMax = bytes_ / PAGE_BYTES + 2;
  for (size_t pages = pagesMax; pages > 1; pages /= 2)
    if (fcntl(ends[1], F_SETPIPE_SZ, pages * PAGE_BYTES) > 0) break;
  const int capacity = fcntl(ends[1], F_GETPIPE_SZ);
  pages_ = capacity > 0 ? static_cast<size_t>(capacity) / PAGE_BYTES : 0;
}

int sendReply(int fuseFd, uint64_t unique, int error, const uint8_t* data, size_t bytes) {
  fuse_out_header header{};
  header.len = static_cast<uint32_t>(sizeof header + bytes);
  header.error = error;
  header.unique = unique;
  iovec parts[2] = {{&header, sizeof header}, {const_cast<uint8_t*>(data), bytes}};
  while (writev(fuseFd, parts, bytes == 0 ? 1 : 2) < 0) {
    if (errno == ENOENT) return 0;
    if (errno != EINTR) return -errno;
  }
  return 0;
}

Mover::Mover(const MoverOptions& options)
    : options_(options),
      alignment_(deviceAlignment(options.deviceFd)),
      neverWaits_(liesInMemory(options.deviceFd)),
      buffer_(options.bodyBytesMax + SLACK_BYTES) {}

Mover::~Mover() {
  {
    const std::lock_guard<std::mutex> guard(lock_);
    stopping_ = true;
  }
  changed_.notify_all();
  for (const pthread_t thread : threads_) pthread_join(thread, nullptr);
}

int Mover::start() {
  if (buffer_.data() == nullptr) return -ENOMEM;
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  int error = 0;
  while (error == 0 && threads_.size() < options_.threads) {
    pthread_t thread;
    error = pthread_create(&thread, nullptr, threadMain, this);
    if (error == 0) threads_.push_back(thread);
  }
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  return threads_.empty() ? -error : 0;
}

void Mover::serve(ReadJob& job) {
  if (options_.deviceDirect || job.bytes >= LARGE_BYTES) {
    hand(job);
    return;
  }
  const int error = fill(job, buffer_.data(), Wait::No);
  if (error == -EAGAIN) {
    hand(job);
    return;
  }
  sendReply(options_.fuseFd, job.unique, error, buffer_.data(), error == 0 ? job.bytes : 0);
}

void Mover::hand(ReadJob& job) {
  {
    const std::lock_guard<std::mutex> guard(lock_);
    queue_.push_back(std::move(job));
  }
  changed_.notify_one();
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
    changed_.wait(guard, [this] { return stopping_ || !queue_.empty(); });
    if (queue_.empty()) return;
    const ReadJob job = std::move(queue_.front());
    queue_.pop_front();
    guard.unlock();
    if (!splice(job, pipe)) {
      const int error = buffer.data() == nullptr ? -EIO : fill(job, buffer.data(), Wait::Yes);
      sendReply(options_.fuseFd, job.unique, error, buffer.data(), error == 0 ? job.bytes : 0);
    }
    guard.lock();
  }
}

/** Answers `job` without copying, if that is worth it. @returns false when it was not answered. */
bool Mover::splice(const ReadJob& job, PagePipe& pipe) const {
  if (job.bytes < LARGE_BYTES || job.segments.size() > job.bytes / SPLICE_SEGMENT_BYTES_MIN)
    return false;
  size_t pages = 1;
  for (const Segment& segment : job.segments) {
    if (segment.zeros) return false;
    pages += (segment.address + segment.length - 1) / PAGE_BYTES - segment.address / PAGE_BYTES + 1;
  }
  if (pages > pipe.pages()) return false;
  if (!fillPipe(job, pipe)) {
    pipe.empty();
    return false;
  }
  const size_t length = sizeof(fuse_out_header) + job.bytes;
  if (::splice(pipe.out(), nullptr, options_.fuseFd, nullptr, length, 0) >= 0) return true;
  const bool interrupted = errno == ENOENT;
  pipe.empty();
  return interrupted;
}

/** Puts the header and the pages of a reply into the pipe. @returns false when one is missing. */
bool Mover::fillPipe(const ReadJob& job, PagePipe& pipe) const {
  fuse_out_header header{};
  header.len = static_cast<uint32_t>(sizeof header + job.bytes);
  header.unique = job.unique;
  if (write(pipe.in(), &header, sizeof header) != sizeof header) return false;
  for (const Segment& segment : job.segments) {
    auto at = static_cast<off_t>(segment.address);
    const off_t end = at + segment.length;
    while (at < end) {
      const auto rest = static_cast<size_t>(end - at);
      if (::splice(options_.deviceFd, &at, pipe.in(), nullptr, rest, 0) <= 0) return false;
    }
  }
  return true;
}

/** Gathers the bytes of `job`. @returns zero, -EIO, or -EAGAIN when it had to wait and may not. */
int Mover::fill(const ReadJob& job, uint8_t* into, Wait wait) const {
  for (const Segment& segment : job.segments) {
    if (segment.zeros) {
      memset(into, 0, segment.length);
    } else {
      const int error = readSegment(segment, into, wait);
      if (error != 0) return error;
    }
    into += segment.length;
  }
  return 0;
}

/** Reads one mapped piece. What it overwrites behind the piece is filled in later. */
int Mover::readSegment(const Segment& segment, uint8_t* into, Wait wait) const {
  const auto at = static_cast<off_t>(segment.address);
  if (wait == Wait::No) {
    const iovec place{into, segment.length};
    const int flags = neverWaits_ ? 0 : RWF_NOWAIT;
    const ssize_t got = preadv2(options_.deviceFd, &place, 1, at, flags);
    return got == static_cast<ssize_t>(segment.length) ? 0 : -EAGAIN;
  }
  const bool inPlace =
      segment.address % alignment_ == 0 && reinterpret_cast<uintptr_t>(into) % alignment_ == 0;
  if (options_.deviceDirect && inPlace) {
    const size_t rounded = (segment.length + alignment_ - 1) / alignment_ * alignment_;
    const ssize_t got = pread(options_.deviceFd, into, rounded, at);
    if (got >= static_cast<ssize_t>(segment.length)) return 0;
  }
  const int64_t got = readDeviceFully(options_.deviceFd, segment.address, into, segment.length);
  return got == static_cast<int64_t>(segment.length) ? 0 : -EIO;
}
