// The request loop. `next` writes a reply, blocks in read(/dev/fuse), and comes back with a request
// that TypeScript has to answer; a READ or WRITE whose place on the device is known never gets that
// far.
//
//   request ──► READ, WRITE with known mappings ──► mover ──► reply       (stays here)
//          └──► anything else ──► TypeScript ──► next(replyLength), or SERVE_BY_SHIM
//
// A request arrives in two parts: the headers, as long as those of a WRITE, where JavaScript looks
// for them, and what follows in memory of the shim's own, from a page boundary on. The data of a
// WRITE goes to the device from there; the rest of any other request is copied behind its headers.
//
// A WRITE into blocks that were allocated for it (`fresh_`) is carried out before the next request is
// received, with zeros in what it leaves of them: nobody ever sees what the blocks held before.

#include "channel.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/uio.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <tuple>

#include "monotonic.h"

namespace {

/** Headers of a WRITE: its data starts behind them. */
constexpr size_t HEAD_BYTES = sizeof(fuse_in_header) + sizeof(fuse_write_in);
/** Offsets stay below this, so that sums of two never overflow. */
constexpr double OFFSET_MAX = 0x1p53;
/** A flag of a mapping; IOMAP_F_NEW of include/linux/iomap.h. */
constexpr double MAPPING_NEW = 1;

/** How long to wait for a request that is refused. */
constexpr int REFUSE_MS = 1;

/** Ends a blocking read of the thread it is sent to. */
int wakeSignal() {
  return SIGRTMIN + 2;
}

void onWake(int) {}

std::optional<MappingType> mappingType(double number) {
  for (const MappingType type : {MappingType::Hole, MappingType::Mapped, MappingType::Unwritten})
    if (number == static_cast<double>(type)) return type;
  return std::nullopt;
}

uint64_t endOf(const Mapping& mapping) {
  return mapping.offset + mapping.length;
}

/**
 * Where requests of `opcode` are counted: those of iomap, which are the last below 4096, in the
 * last places, what does not fit under 0, which is no opcode.
 */
uint32_t counterOf(uint32_t opcode) {
  constexpr uint32_t IOMAP_FIRST = 4089;
  constexpr uint32_t IOMAP_END = 4096;
  constexpr uint32_t IOMAP_COUNTERS = OPCODES_MAX - (IOMAP_END - IOMAP_FIRST);
  if (opcode < IOMAP_COUNTERS) return opcode;
  return opcode >= IOMAP_FIRST && opcode < IOMAP_END ? opcode - IOMAP_FIRST + IOMAP_COUNTERS : 0;
}

/** `mapping` from the start of its first block to the end of its last. */
Mapping wholeBlocks(const Mapping& mapping, uint32_t blockBytes) {
  const uint64_t before = std::min(mapping.offset % blockBytes, mapping.address);
  const uint64_t behind = (blockBytes - endOf(mapping) % blockBytes) % blockBytes;
  return {mapping.offset - before, before + mapping.length + behind, mapping.address - before,
          mapping.type};
}

}  // namespace

bool isOffset(double value) {
  return value >= 0 && value <= OFFSET_MAX && value == std::floor(value);
}

Channel::Channel(const ChannelOptions& options)
    : options_(options),
      invalidator_(options.fuseFd, [this] { return waiting_ && mover_.isIdle(); }),
      mover_({options.fuseFd, options.deviceFd, options.deviceDirect, options.bodyBytesMax,
              options.ioThreads},
             invalidator_),
      thread_(pthread_self()) {}

Channel::~Channel() {
  mover_.stop();
  invalidator_.stop();
  while (!invalidator_.hasEnded()) refuse();
}

/** Refuses the next request, if one comes soon. */
void Channel::refuse() {
  pollfd fuse{options_.fuseFd, POLLIN, 0};
  poll(&fuse, 1, REFUSE_MS);
  setBlocking(false);
  const ssize_t length = read(options_.fuseFd, body_->data(), options_.bodyBytesMax + HEAD_BYTES);
  if (length < static_cast<ssize_t>(sizeof held_)) {
    usleep(REFUSE_MS * 1000);
    return;
  }
  held_ = *reinterpret_cast<const fuse_in_header*>(body_->data());
  if (held_.opcode == FUSE_FORGET || held_.opcode == FUSE_BATCH_FORGET) return;
  sendReply(options_.fuseFd, held_.unique, -ENOTCONN, nullptr, 0);
}

int Channel::start() {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return -errno;
  endFd_ = Descriptor(ends[0]);
  close(ends[1]);
  readFd_ = Descriptor(fcntl(options_.fuseFd, F_DUPFD_CLOEXEC, 0));
  if (!readFd_.valid()) return -errno;

  struct sigaction action {};
  action.sa_handler = onWake;
  sigaction(wakeSignal(), &action, nullptr);
  sigset_t wake;
  sigemptyset(&wake);
  sigaddset(&wake, wakeSignal());
  pthread_sigmask(SIG_UNBLOCK, &wake, nullptr);
  // Whoever made the descriptor may have wanted to poll it.
  setBlocking(true);
  const int error = timer_.start(wakeSignal());
  if (error != 0) return error;
  body_ = mover_.takeBuffer();
  return body_ == nullptr ? -ENOMEM : mover_.start();
}

int32_t Channel::next(int32_t replyLength, int32_t timeoutMs) {
  answer(replyLength);
  if (!fresh_.empty()) zeroFresh();
  held_ = {};
  stored_ = 0;
  const bool timed = timeoutMs >= 0;
  const int64_t deadline = timed ? nowMs() + timeoutMs : INT64_MAX;
  if (!timed) timer_.stop();
  for (;;) {
    if (timeoutMs == 0 && !isReady()) return interrupted_ ? CLOSED : TIMED_OUT;
    if (timed) timer_.wakeAt(deadline);
    const ssize_t length = receive();
    if (interrupted_) return CLOSED;
    if (length == -EINTR) {
      if (timed && nowMs() >= deadline) return TIMED_OUT;
    } else if (length >= static_cast<ssize_t>(sizeof held_)) {
      if (!serve(static_cast<size_t>(length))) return static_cast<int32_t>(length);
      if (timed && nowMs() >= deadline) return TIMED_OUT;
    } else if (length != -ENOENT && length != -EAGAIN) {
      closedBy_ = static_cast<int32_t>(-length);
      return CLOSED;
    }
  }
}

/** Whether a request is waiting, or the end of the connection. */
bool Channel::isReady() const {
  pollfd fuse{readFd_.get(), POLLIN, 0};
  return poll(&fuse, 1, 0) != 0;
}

/** Waits for a request. @returns its length, zero at the end, or a negative errno. */
ssize_t Channel::receive() {
  const int64_t start = nowNs();
  ssize_t length = -EAGAIN;
  if (spin_.pays()) {
    setBlocking(false);
    while ((length = readRequest()) == -EAGAIN && !interrupted_ && !spin_.isOver(start)) relax();
  }
  if (length == -EAGAIN) {
    setBlocking(true);
    length = readRequest();
  }
  spin_.waited(nowNs() - start);
  return length;
}

void Channel::setBlocking(bool blocking) {
  if (blocking == blocking_) return;
  blocking_ = blocking;
  const int others = fcntl(options_.fuseFd, F_GETFL) & ~O_NONBLOCK;
  fcntl(options_.fuseFd, F_SETFL, blocking ? others : others | O_NONBLOCK);
}

/** Reads one request. @returns its length, zero at the end, or a negative errno. */
ssize_t Channel::readRequest() {
  const iovec parts[2] = {{request.data, HEAD_BYTES}, {body_->data(), request.count - HEAD_BYTES}};
  waiting_ = true;
  const ssize_t length = readv(readFd_.get(), parts, 2);
  const int error = errno;
  waiting_ = false;
  return length < 0 ? -error : length;
}

/**
 * Counts the request in hand. Only one that goes past the page cache names an owner of locks
 * (fuse_send_read and fuse_send_write of the kernel's fs/fuse/file.c). O_DIRECT among its flags would
 * not tell: pages are read and written through such files, too.
 *
 * @returns true when TypeScript need not see it.
 */
bool Channel::serve(size_t length) {
  held_ = *reinterpret_cast<const fuse_in_header*>(request.data);
  const uint8_t* body = request.data + sizeof held_;
  bodyBytes_ = length > HEAD_BYTES ? length - HEAD_BYTES : 0;
  const uint32_t index = counterOf(held_.opcode);
  requestCounts.data[index]++;
  if (held_.opcode == FUSE_READ && length >= sizeof held_ + sizeof heldRead_) {
    heldRead_ = *reinterpret_cast<const fuse_read_in*>(body);
    if ((heldRead_.read_flags & FUSE_READ_LOCKOWNER) == 0) invalidator_.noteCached(held_.nodeid);
    if (!options_.traceTransfers && serveRead()) return true;
  }
  if (held_.opcode == FUSE_WRITE && length >= HEAD_BYTES) {
    heldWrite_ = *reinterpret_cast<const fuse_write_in*>(body);
    const bool isDirect = (heldWrite_.write_flags & FUSE_WRITE_LOCKOWNER) != 0;
    uncached_ = {held_.nodeid, heldWrite_.offset, isDirect ? heldWrite_.size : 0};
    if (!isDirect) invalidator_.noteCached(held_.nodeid);
    if (!options_.traceTransfers && serveWrite()) return true;
  } else {
    memcpy(request.data + HEAD_BYTES, body_->data(), bodyBytes_);
  }
  if (held_.opcode == FUSE_FORGET) cache_.drop(held_.nodeid);
  if (held_.opcode == FUSE_BATCH_FORGET) forget(length);
  scriptCounts.data[index]++;
  return false;
}

/** Copies the data of the WRITE in hand to where the rest of any other request is. */
void Channel::loadData() {
  if (held_.opcode == FUSE_WRITE) memcpy(request.data + HEAD_BYTES, body_->data(), bodyBytes_);
}

/** Answers the READ in hand. @returns false when the cache does not know where its bytes are. */
bool Channel::serveRead() {
  if (heldRead_.size > options_.bodyBytesMax ||
      heldRead_.offset > static_cast<uint64_t>(OFFSET_MAX))
    return false;
  const int64_t bytes = cache_.find(held_.nodeid, heldRead_.offset, heldRead_.size, job_.segments);
  if (bytes < 0) return false;
  job_.kind = TransferKind::Read;
  job_.unique = held_.unique;
  job_.node = held_.nodeid;
  job_.bytes = static_cast<uint32_t>(bytes);
  mover_.read(job_);
  return true;
}

/**
 * Carries out the WRITE in hand, if that changes nothing but bytes in place.
 *
 * @returns false when TypeScript is needed: to allocate, to extend the file, to check, or to take
 * set-id bits away.
 */
bool Channel::serveWrite() {
  const uint32_t size = heldWrite_.size;
  const bool clears = (heldWrite_.write_flags & FUSE_WRITE_KILL_SUIDGID) != 0;
  if (size == 0 || size > bodyBytes_ || size > options_.bodyBytesMax ||
      heldWrite_.offset > static_cast<uint64_t>(OFFSET_MAX))
    return false;
  const WriteAccess access = cache_.accessOf(held_.nodeid);
  if (access == WriteAccess::Ask || (clears && access != WriteAccess::Free)) return false;
  if (cache_.findWritable(held_.nodeid, heldWrite_.offset, size, job_.segments) < size)
    return false;
  job_.kind = TransferKind::Write;
  job_.unique = held_.unique;
  job_.node = held_.nodeid;
  job_.bytes = size;
  job_.uncached = uncached_;
  noteWritten();
  mover_.write(job_, body_);
  return true;
}

/** Makes `job_` what is left of the WRITE in hand and mapped. @returns false when that is nothing. */
bool Channel::prepareWrite() {
  const uint64_t offset = heldWrite_.offset + stored_;
  if (heldWrite_.size > bodyBytes_ || offset > static_cast<uint64_t>(OFFSET_MAX)) return false;
  const uint32_t bytes =
      cache_.findWritable(held_.nodeid, offset, heldWrite_.size - stored_, job_.segments);
  if (bytes == 0) return false;
  job_.kind = TransferKind::Write;
  job_.unique = held_.unique;
  job_.node = held_.nodeid;
  job_.bytes = bytes;
  job_.uncached = uncached_;
  if (!fresh_.empty()) addFreshZeros(offset, offset + bytes);
  return true;
}

/** Stores what of the WRITE in hand is mapped and not stored yet. @returns zero or -EIO. */
int Channel::storeMapped() {
  if (held_.opcode != FUSE_WRITE || !prepareWrite()) return -EIO;
  fresh_.clear();
  const int error = mover_.store(job_, body_->data() + stored_);
  if (error != 0) {
    cache_.drop(held_.nodeid);
    return error;
  }
  stored_ += job_.bytes;
  return 0;
}

/** Sends FUSE_NOTIFY_INVAL_INODE. A negative offset leaves the pages of the node alone. */
void Channel::forgetNode(double node, bool withPages) {
  if (!isOffset(node)) return;
  const fuse_notify_inval_inode_out what{static_cast<uint64_t>(node), withPages ? 0 : -1, 0};
  sendReply(options_.fuseFd, 0, FUSE_NOTIFY_INVAL_INODE, &what, sizeof what);
}

void Channel::noteForgotten(double node) {
  if (isOffset(node)) invalidator_.noteForgotten(static_cast<uint64_t>(node));
}

/**
 * Tells the kernel something that is no answer. Other than the answer to a request that was
 * interrupted, it fails when the kernel does not know what it is about.
 *
 * @returns zero or a negative errno.
 */
int Channel::notify(double code, const uint8_t* payload, size_t bytes) {
  if (!(code >= 1 && code <= INT32_MAX)) return -EINVAL;
  fuse_out_header header{};
  header.len = static_cast<uint32_t>(sizeof header + bytes);
  header.error = static_cast<int32_t>(code);
  const iovec parts[2] = {{&header, sizeof header}, {const_cast<uint8_t*>(payload), bytes}};
  while (writev(options_.fuseFd, parts, bytes == 0 ? 1 : 2) < 0)
    if (errno != EINTR) return -errno;
  return 0;
}

/**
 * Carries out the WRITE in hand as far as TypeScript has mapped it, all of it when nothing prevents.
 *
 * @returns false when not even its first byte was.
 */
bool Channel::finishWrite() {
  if (fresh_.empty() && stored_ == 0) {
    if (!prepareWrite()) return false;
    mover_.write(job_, body_);
    return true;
  }
  while (stored_ < heldWrite_.size && storeMapped() == 0) continue;
  if (stored_ == 0) return false;
  invalidator_.answer({held_.unique, 0, stored_}, uncached_);
  return true;
}

/** Adds to `job_` the zeros for all of `fresh_` that a WRITE from `offset` up to `end` leaves out. */
void Channel::addFreshZeros(uint64_t offset, uint64_t end) {
  std::vector<Segment> before;
  for (const Mapping& mapping : fresh_) {
    if (mapping.offset < offset) {
      const uint64_t length = std::min(offset, endOf(mapping)) - mapping.offset;
      before.push_back({mapping.address, static_cast<uint32_t>(length), true});
    }
    if (endOf(mapping) > end) {
      const uint64_t from = std::max(end, mapping.offset);
      const uint64_t address = mapping.address + (from - mapping.offset);
      job_.segments.push_back({address, static_cast<uint32_t>(endOf(mapping) - from), true});
    }
  }
  job_.segments.insert(job_.segments.begin(), before.begin(), before.end());
}

/** Writes zeros to what was mapped as fresh, for want of data. */
void Channel::zeroFresh() {
  job_.segments.clear();
  for (const Mapping& mapping : fresh_)
    job_.segments.push_back({mapping.address, static_cast<uint32_t>(mapping.length), true});
  fresh_.clear();
  mover_.store(job_, nullptr);
}

/** Remembers that the node of the request in hand has new contents, for its timestamps. */
void Channel::noteWritten() {
  timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  writtenAt_[held_.nodeid] = now;
  written.data[0] = static_cast<double>(writtenAt_.size());
}

/** Moves what `noteWritten` remembers to the shared array, as far as it has room. */
uint32_t Channel::takeWritten() {
  uint32_t count = 0;
  for (auto it = writtenAt_.begin(); it != writtenAt_.end() && count < WRITTEN_MAX; count++) {
    double* into = written.data + 1 + count * WRITTEN_STRIDE;
    into[0] = static_cast<double>(it->first);
    into[1] = static_cast<double>(it->second.tv_sec);
    into[2] = static_cast<double>(it->second.tv_nsec);
    it = writtenAt_.erase(it);
  }
  written.data[0] = static_cast<double>(writtenAt_.size());
  return count;
}

/** Drops the mappings of nodes that the kernel forgets: their ids may get new meanings. */
void Channel::forget(size_t length) {
  const uint8_t* body = request.data + sizeof held_;
  const size_t bytes = length - sizeof held_;
  if (bytes < sizeof(fuse_batch_forget_in)) return;
  const auto* nodes = reinterpret_cast<const fuse_forget_one*>(body + sizeof(fuse_batch_forget_in));
  const size_t room = (bytes - sizeof(fuse_batch_forget_in)) / sizeof *nodes;
  const size_t count = reinterpret_cast<const fuse_batch_forget_in*>(body)->count;
  for (size_t i = 0; i < std::min(count, room); i++) cache_.drop(nodes[i].nodeid);
}

/** Answers the WRITE in hand with what TypeScript says. @returns false when that is no such answer. */
bool Channel::answerWritten(size_t length) {
  if (length < sizeof(fuse_out_header)) return false;
  const auto* header = reinterpret_cast<const fuse_out_header*>(reply.data);
  const auto* result = reinterpret_cast<const fuse_write_out*>(header + 1);
  const int32_t error = header->error;
  if (length != sizeof *header + (error == 0 ? sizeof *result : 0)) return false;
  invalidator_.answer({held_.unique, error, error == 0 ? result->size : 0}, uncached_);
  return true;
}

/** Deals with the request in hand as `next` was told. It never stays without an answer. */
void Channel::answer(int32_t replyLength) {
  const bool byShim = replyLength == SERVE_BY_SHIM;
  if (replyLength == 0 || held_.unique == 0) return;
  if (byShim) {
    if (held_.opcode == FUSE_READ && serveRead()) return;
    if (held_.opcode == FUSE_WRITE && finishWrite()) return;
  } else if (replyLength > 0 && static_cast<size_t>(replyLength) <= reply.count) {
    if (held_.opcode == FUSE_WRITE && answerWritten(static_cast<size_t>(replyLength))) return;
    for (;;) {
      const ssize_t sent = write(options_.fuseFd, reply.data, static_cast<size_t>(replyLength));
      if (sent >= 0 || errno == ENOENT) return;
      if (errno != EINTR) break;
    }
  }
  if (held_.opcode == FUSE_WRITE) invalidator_.answer({held_.unique, -EIO, 0}, uncached_);
  else sendReply(options_.fuseFd, held_.unique, -EIO, nullptr, 0);
}

void Channel::map(double node, double sizeBytes, double count, uint32_t access) {
  if (!isOffset(node) || !isOffset(sizeBytes) || !isOffset(count) || count > MAPPINGS_MAX) return;
  if (access > static_cast<uint32_t>(WriteAccess::Free)) return;
  const auto id = static_cast<uint64_t>(node);
  const bool isWrite = held_.opcode == FUSE_WRITE && held_.nodeid == id;
  taken_.clear();
  std::vector<Mapping> fresh;
  const auto whole = static_cast<uint32_t>(count);
  for (uint32_t i = 0; i < whole; i++) {
    const double* from = mappings.data + i * MAPPING_STRIDE;
    std::optional<Mapping> mapping = takeMapping(from);
    if (!mapping) return;
    if (from[4] == MAPPING_NEW) {
      if (!isWrite || mapping->type != MappingType::Mapped) return;
      mapping = wholeBlocks(*mapping, options_.blockBytes);
      if (mapping->length > UINT32_MAX) return;
      fresh.push_back(*mapping);
    }
    taken_.push_back(*mapping);
  }
  cache_.insert(id, static_cast<uint64_t>(sizeBytes), static_cast<WriteAccess>(access), taken_);
  fresh_.insert(fresh_.end(), fresh.begin(), fresh.end());
}

void Channel::invalidate(double node, double offset, double end) {
  if (!isOffset(node) || !isOffset(offset)) return;
  const auto id = static_cast<uint64_t>(node);
  cache_.invalidate(id, static_cast<uint64_t>(offset),
                    isOffset(end) ? static_cast<uint64_t>(end) : UINT64_MAX);
  mover_.awaitNode(id);
}

/** Checks one mapping of the shared array. @returns nothing when it cannot be meant seriously. */
std::optional<Mapping> Channel::takeMapping(const double* from) {
  const auto [offset, address, length, number, flags] =
      std::tuple(from[0], from[1], from[2], from[3], from[4]);
  const std::optional<MappingType> type = mappingType(number);
  if (!isOffset(offset) || !isOffset(length) || length == 0 || !type) return std::nullopt;
  if (flags != 0 && flags != MAPPING_NEW) return std::nullopt;
  Mapping mapping{static_cast<uint64_t>(offset), static_cast<uint64_t>(length), 0, *type};
  if (type != MappingType::Hole) {
    if (!isOffset(address)) return std::nullopt;
    mapping.address = static_cast<uint64_t>(address) + options_.deviceOffsetBytes;
  }
  return mapping;
}

/** A `read` that begins after the dup3 finds the end; the others get the signal. */
void Channel::interrupt() {
  interrupted_ = true;
  dup3(endFd_.get(), readFd_.get(), O_CLOEXEC);
  if (waiting_) pthread_kill(thread_, wakeSignal());
}
