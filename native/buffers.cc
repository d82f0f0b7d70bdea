// Memory straight from the kernel, and pipes of the size that a reply needs.

#include "buffers.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

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
  const size_t pagesMax = bytes_ / PIPE_PAGE_BYTES + 2;
  for (size_t pages = pagesMax; pages > 1; pages /= 2)
    if (fcntl(ends[1], F_SETPIPE_SZ, pages * PIPE_PAGE_BYTES) > 0) break;
  const int capacity = fcntl(ends[1], F_GETPIPE_SZ);
  pages_ = capacity > 0 ? static_cast<size_t>(capacity) / PIPE_PAGE_BYTES : 0;
}
