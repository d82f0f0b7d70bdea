// The request loop of one mount.

#pragma once

#include <linux/fuse.h>
#include <node_api.h>
#include <pthread.h>
#include <sys/types.h>
#include <time.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <unordered_map>
#include <vector>

#include "buffers.h"
#include "descriptor.h"
#include "invalidator.h"
#include "mapping_cache.h"
#include "mover.h"
#include "spin.h"
#include "wake_timer.h"

/** What `Channel::next` returns besides lengths; src/fuse/channel.ts has the same. */
constexpr int32_t CLOSED = 0;
constexpr int32_t TIMED_OUT = -1;
/** A reply length that is none. */
constexpr int32_t SERVE_BY_SHIM = -1;

/** Numbers per mapping: file offset, device offset, length, type, flags. */
constexpr uint32_t MAPPING_STRIDE = 5;
/** More than the pieces of a 1 MiB READ in a file of scattered 1 KiB blocks. */
constexpr uint32_t MAPPINGS_MAX = 2048;
/** Of each counter. */
constexpr uint32_t OPCODES_MAX = 128;
/** Numbers per node that was written to: node id, seconds, nanoseconds. */
constexpr uint32_t WRITTEN_STRIDE = 3;
/** Nodes that fit into the shared array at a time, behind their count. */
constexpr uint32_t WRITTEN_MAX = 256;
/** Room for the headers of a request or reply; the kernel asks for a request buffer of 8 KiB. */
constexpr size_t HEADER_ROOM_BYTES = 8192;

struct ChannelOptions {
  int fuseFd;
  int deviceFd;
  bool deviceDirect;
  uint64_t deviceOffsetBytes;
  /** The block size of the filesystem. */
  uint32_t blockBytes;
  uint32_t bodyBytesMax;
  uint32_t ioThreads;
  bool traceTransfers;
};

/** Memory of an ArrayBuffer that the channel keeps alive. */
template <typename T>
struct Shared {
  T* data = nullptr;
  size_t count = 0;
  napi_ref array = nullptr;
};

/** Everything runs on the thread that made the channel, except `interrupt`. */
class Channel {
 public:
  explicit Channel(const ChannelOptions& options);
  /** Finishes transfers, and refuses requests for as long as any thread depends on their answers. */
  ~Channel();

  /** @returns zero or a negative errno. */
  int start();

  int32_t next(int32_t replyLength, int32_t timeoutMs);
  void loadData();
  void map(double node, double sizeBytes, double count, uint32_t access);
  void invalidate(double node, double offset, double end);
  void drain() { mover_.awaitWrites(); }
  int storeMapped();
  void forgetNode(double node, bool withPages);
  void noteForgotten(double node);
  uint32_t takeWritten();
  int notify(double code, const uint8_t* payload, size_t bytes);
  /** From any thread. */
  void interrupt();
  int32_t closedBy() const { return closedBy_; }

  Shared<uint8_t> request;
  Shared<uint8_t> reply;
  Shared<double> mappings;
  Shared<double> written;
  Shared<double> requestCounts;
  Shared<double> scriptCounts;

 private:
  bool isReady() const;
  ssize_t receive();
  ssize_t readRequest();
  void setBlocking(bool blocking);
  bool serve(size_t length);
  bool serveRead();
  bool serveWrite();
  bool prepareWrite();
  bool finishWrite();
  void zeroFresh();
  void addFreshZeros(uint64_t offset, uint64_t end);
  void noteWritten();
  void forget(size_t length);
  void answer(int32_t replyLength);
  bool answerWritten(size_t length);
  void refuse();
  std::optional<Mapping> takeMapping(const double* from);

  const ChannelOptions options_;
  Invalidator invalidator_;
  Mover mover_;
  MappingCache cache_;
  Transfer job_{};
  std::vector<Mapping> taken_;
  /** What was mapped for the WRITE in hand and never written to: whole blocks. */
  std::vector<Mapping> fresh_;
  /** When the shim last wrote to a node by itself, until `takeWritten`. */
  std::unordered_map<uint64_t, timespec> writtenAt_;

  /** The request in hand, kept apart from memory that JavaScript can write. */
  fuse_in_header held_{};
  fuse_read_in heldRead_{};
  fuse_write_in heldWrite_{};
  /** Where what follows the first bytes of a request arrives: the data of a WRITE. */
  std::unique_ptr<AlignedBuffer> body_;
  size_t bodyBytes_ = 0;
  /** What the WRITE in hand changes behind the back of the kernel's page cache. */
  FileRange uncached_{};
  /** Bytes of the WRITE in hand that are on the device already. */
  uint32_t stored_ = 0;

  /** The errno that ended the connection, or zero. */
  int32_t closedBy_ = 0;
  const pthread_t thread_;
  WakeTimer timer_;
  Spin spin_;
  /** Whether `readFd_` waits for a request; not known at first. */
  std::optional<bool> blocking_;
  Descriptor readFd_;  // a duplicate of fuseFd, until `interrupt` puts endFd_ in its place
  Descriptor endFd_;   // always at its end of file
  std::atomic<bool> interrupted_{false};
  std::atomic<bool> waiting_{false};
};

/** Whether a number from JavaScript is a byte offset; sums of two never overflow. */
bool isOffset(double value);
