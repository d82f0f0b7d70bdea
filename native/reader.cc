// Reading for a READ: through a buffer, or with the pages of the page cache passing through a pipe
// to /dev/fuse, which spares one of two copies.

#include "reader.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cstring>

#include "device.h"

namespace {

/** Below this a copy is cheaper. */
constexpr uint32_t SPLICE_BYTES_MIN = 64 * 1024;
/** On average. Smaller pieces are cheaper to copy than to splice. */
constexpr uint32_t SPLICE_SEGMENT_BYTES_MIN = 16 * 1024;

}  // namespace

bool Reader::copy(const Transfer& job, const AlignedBuffer& buffer, Wait wait) const {
  const int error = buffer.data() == nullptr ? -EIO : fill(job, buffer.data(), wait);
  if (error == -EAGAIN) return false;
  sendReply(ends_.fuseFd, job.unique, error, buffer.data(), error == 0 ? job.bytes : 0);
  return true;
}

bool Reader::splice(const Transfer& job, PagePipe& pipe) const {
  if (job.bytes < SPLICE_BYTES_MIN || job.segments.size() > job.bytes / SPLICE_SEGMENT_BYTES_MIN)
    return false;
  size_t pages = 1;
  for (const Segment& segment : job.segments) {
    if (segment.zeros) return false;
    pages += (segment.address + segment.length - 1) / PIPE_PAGE_BYTES -
             segment.address / PIPE_PAGE_BYTES + 1;
  }
  if (pages > pipe.pages()) return false;
  if (!fillPipe(job, pipe)) {
    pipe.empty();
    return false;
  }
  const size_t length = sizeof(fuse_out_header) + job.bytes;
  if (::splice(pipe.out(), nullptr, ends_.fuseFd, nullptr, length, 0) >= 0) return true;
  const bool interrupted = errno == ENOENT;
  pipe.empty();
  return interrupted;
}

/** Puts the header and the pages of a reply into the pipe. @returns false when one is missing. */
bool Reader::fillPipe(const Transfer& job, PagePipe& pipe) const {
  fuse_out_header header{};
  header.len = static_cast<uint32_t>(sizeof header + job.bytes);
  header.unique = job.unique;
  if (write(pipe.in(), &header, sizeof header) != sizeof header) return false;
  for (const Segment& segment : job.segments) {
    auto at = static_cast<off_t>(segment.address);
    const off_t end = at + segment.length;
    while (at < end) {
      const auto rest = static_cast<size_t>(end - at);
      if (::splice(ends_.deviceFd, &at, pipe.in(), nullptr, rest, 0) <= 0) return false;
    }
  }
  return true;
}

/** Gathers the bytes of `job`. @returns zero, -EIO, or -EAGAIN when it had to wait and may not. */
int Reader::fill(const Transfer& job, uint8_t* into, Wait wait) const {
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
int Reader::readSegment(const Segment& segment, uint8_t* into, Wait wait) const {
  const auto at = static_cast<off_t>(segment.address);
  if (wait == Wait::No) {
    const iovec place{into, segment.length};
    const int flags = ends_.neverWaits ? 0 : RWF_NOWAIT;
    const ssize_t got = preadv2(ends_.deviceFd, &place, 1, at, flags);
    return got == static_cast<ssize_t>(segment.length) ? 0 : -EAGAIN;
  }
  const uint32_t alignment = ends_.alignment;
  const bool inPlace =
      segment.address % alignment == 0 && reinterpret_cast<uintptr_t>(into) % alignment == 0;
  if (ends_.deviceDirect && inPlace) {
    const size_t rounded = (segment.length + alignment - 1) / alignment * alignment;
    const ssize_t got = pread(ends_.deviceFd, into, rounded, at);
    if (got >= static_cast<ssize_t>(segment.length)) return 0;
  }
  const int64_t got = readDeviceFully(ends_.deviceFd, segment.address, into, segment.length);
  return got == static_cast<int64_t>(segment.length) ? 0 : -EIO;
}
