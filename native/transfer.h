// What is to be done for one READ or WRITE once its place on the device is known.

#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "buffers.h"

/**
 * A piece of a transfer: bytes of the device. `zeros` means, in a READ, that the answer has zeros
 * there whatever the device holds, and in a WRITE, that zeros are stored and no data is used up.
 */
struct Segment {
  uint64_t address;
  uint32_t length;
  bool zeros;
};

/** Bytes of a file; none when `length` is zero. */
struct FileRange {
  uint64_t node;
  uint64_t offset;
  uint64_t length;
};

/** What a WRITE is answered: zero or a negative errno, and how many bytes it has stored. */
struct WriteReply {
  uint64_t unique;
  int32_t error;
  uint32_t bytes;
};

enum class TransferKind : uint8_t { Read, Write };

struct Transfer {
  TransferKind kind;
  /** The number that pairs the request with its reply. */
  uint64_t unique;
  uint64_t node;
  /** Bytes of the file that it is about. */
  uint32_t bytes;
  /** In file order. */
  std::vector<Segment> segments;
  /** What a WRITE changes behind the back of the kernel's page cache. */
  FileRange uncached;
  /** The data of a WRITE that a thread of the pool carries out. */
  std::unique_ptr<AlignedBuffer> data;
};

/** The two ends of all transfers of a channel. The descriptors belong to whoever made the channel. */
struct TransferEnds {
  int fuseFd;
  int deviceFd;
  /** The device was opened with O_DIRECT, and wants `alignment`. */
  bool deviceDirect;
  uint32_t alignment;
  /** The device lies in memory. */
  bool neverWaits;
};

/** Whether a transfer may wait for the device. */
enum class Wait : bool { No, Yes };

/**
 * Sends a reply of `error` (zero or a negative errno) with `bytes` of data to the kernel.
 *
 * A request that was interrupted meanwhile is no failure. @returns zero or a negative errno.
 */
int sendReply(int fuseFd, uint64_t unique, int error, const void* data, size_t bytes);
int sendWriteReply(int fuseFd, const WriteReply& reply);
