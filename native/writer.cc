// Writing for a WRITE. Pieces that lie next to each other on the device go in one call, with the
// zeros around them.
//
// On a device behind the page cache only two things wait: the rest of a page that is not cached, when
// a part of it is written, and the kernel's throttle on dirty pages, which is meant to. With O_DIRECT
// everything waits. Unaligned O_DIRECT writes read a sector and write it back, so they are left to
// the thread of the request loop: there, nothing comes between.

#include "writer.h"

#include <errno.h>
#include <sys/uio.h>

#include <algorithm>
#include <cstddef>

#include "device.h"

namespace {

/** From this size on it pays to wake a thread. */
constexpr uint32_t LARGE_BYTES = 64 * 1024;
constexpr size_t PAGE_BYTES = 4096;
/** Pieces in one call, and the longest run of zeros among them: the rest of a large block. */
constexpr size_t PIECES_MAX = 64;
constexpr size_t ZEROS_BYTES = 64 * 1024;

const uint8_t zeros[ZEROS_BYTES] = {};

uint64_t endOf(const Segment& segment) {
  return segment.address + segment.length;
}

}  // namespace

bool Writer::isWorthAThread(const Transfer& job) const {
  if (ends_.deviceDirect) return isAligned(job);
  return job.bytes >= LARGE_BYTES || !(ends_.neverWaits || isCached(job));
}

/** Whether O_DIRECT takes the pieces as they are. */
bool Writer::isAligned(const Transfer& job) const {
  return std::all_of(job.segments.begin(), job.segments.end(), [this](const Segment& segment) {
    return segment.address % ends_.alignment == 0 && segment.length % ends_.alignment == 0;
  });
}

/** Whether no page has to be read, of which only a part is written. */
bool Writer::isCached(const Transfer& job) const {
  for (const Segment& segment : job.segments) {
    const uint64_t end = endOf(segment);
    if (segment.address % PAGE_BYTES != 0 && !isPageCached(segment.address)) return false;
    if (end % PAGE_BYTES != 0 && !isPageCached(end)) return false;
  }
  return true;
}

bool Writer::isPageCached(uint64_t address) const {
  uint8_t byte;
  const iovec place{&byte, 1};
  return preadv2(ends_.deviceFd, &place, 1, static_cast<off_t>(address), RWF_NOWAIT) == 1;
}

int Writer::store(const Transfer& job, const uint8_t* data) const {
  const Segment* const end = job.segments.data() + job.segments.size();
  for (const Segment* first = job.segments.data(); first < end;) {
    const Segment* last = first;
    while (last + 1 < end && last - first + 1 < static_cast<ptrdiff_t>(PIECES_MAX) &&
           endOf(*last) == last[1].address)
      ++last;
    const int error = storeRun(first, last, data);
    if (error != 0) return error;
    first = last + 1;
  }
  return 0;
}

/** Stores pieces that lie next to each other, and moves `data` behind what they used up. */
int Writer::storeRun(const Segment* first, const Segment* last, const uint8_t*& data) const {
  const uint8_t* const start = data;
  iovec pieces[PIECES_MAX];
  int count = 0;
  bool fits = true;
  for (const Segment* segment = first; segment <= last; ++segment) {
    const uint8_t* from = segment->zeros ? zeros : data;
    pieces[count++] = {const_cast<uint8_t*>(from), segment->length};
    if (segment->zeros) fits = fits && segment->length <= ZEROS_BYTES;
    else data += segment->length;
  }
  const auto at = static_cast<off_t>(first->address);
  const auto bytes = static_cast<ssize_t>(endOf(*last) - first->address);
  if (fits && pwritev(ends_.deviceFd, pieces, count, at) == bytes) return 0;
  return storeEach(first, last, start);
}

/** The same, one after the other and as often as it takes. */
int Writer::storeEach(const Segment* first, const Segment* last, const uint8_t* data) const {
  for (const Segment* segment = first; segment <= last; ++segment) {
    uint32_t done = 0;
    while (done < segment->length) {
      const size_t rest = segment->length - done;
      const size_t bytes = segment->zeros ? std::min(rest, ZEROS_BYTES) : rest;
      const uint8_t* from = segment->zeros ? zeros : data + done;
      if (writeDeviceFully(ends_.deviceFd, segment->address + done, from, bytes) != 0) return -EIO;
      done += static_cast<uint32_t>(bytes);
    }
    if (!segment->zeros) data += segment->length;
  }
  return 0;
}
