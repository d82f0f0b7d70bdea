// Where the bytes of files lie on the device, as TypeScript said: per node, intervals of the file
// that do not overlap. Used by one thread, the one that runs the request loop.

#pragma once

#include <cstddef>
#include <cstdint>
#include <list>
#include <map>
#include <unordered_map>
#include <vector>

#include "transfer.h"

/** The iomap types that can be cached; include/linux/iomap.h. */
enum class MappingType : uint8_t { Hole = 0, Mapped = 2, Unwritten = 3 };

/** Which WRITEs of a node need not be asked for; src/fuse/channel.ts explains them. */
enum class WriteAccess : uint8_t { Ask = 0, AskToClear = 1, Free = 2 };

/** A range of a file. `address` is a byte offset on the device and means nothing for a hole. */
struct Mapping {
  uint64_t offset;
  uint64_t length;
  uint64_t address;
  MappingType type;
};

class MappingCache {
 public:
  /** Most intervals plus nodes kept. At 64 bytes each, about 32 MiB. */
  static constexpr size_t ENTRIES_MAX = 500'000;

  /**
   * Takes `mappings` for `node`; what they overlap is replaced. Other nodes are dropped to make
   * room, the longest unused first, and then intervals of this one that lie far from the new ones.
   * Without any mappings, only what is known of the node already changes.
   */
  void insert(uint64_t node, uint64_t fileSizeBytes, WriteAccess access,
              const std::vector<Mapping>& mappings);

  /**
   * Finds where `length` bytes from `offset` on lie, up to the end of the file.
   *
   * @param segments emptied, then filled in file order.
   * @returns the number of bytes they make, or -1 when a part is not known.
   */
  int64_t find(uint64_t node, uint64_t offset, uint32_t length, std::vector<Segment>& segments);

  /** Which WRITEs of `node` need not be asked for. */
  WriteAccess accessOf(uint64_t node);

  /**
   * Finds where `length` bytes from `offset` on can be overwritten in place.
   *
   * @param segments emptied, then filled in file order.
   * @returns the number of bytes they make, from `offset` on: zero when the first one cannot be.
   */
  uint32_t findWritable(uint64_t node, uint64_t offset, uint32_t length,
                        std::vector<Segment>& segments);

  /** Forgets all about `node`. */
  void drop(uint64_t node);
  /** Forgets where the bytes of `node` from `offset` up to `end` lie. */
  void invalidate(uint64_t node, uint64_t offset, uint64_t end);

 private:
  /** Keyed by file offset. Length and type share a word, so that an entry takes 64 bytes. */
  struct Interval {
    uint64_t length : 56;
    uint64_t type : 8;
    uint64_t address;
  };
  using Intervals = std::map<uint64_t, Interval>;
  struct Node {
    uint64_t id;
    uint64_t fileSizeBytes;
    WriteAccess access;
    Intervals intervals;
  };

  Node* touch(uint64_t node);
  static Intervals::iterator cut(Intervals& intervals, uint64_t start, uint64_t end);
  static void assign(Intervals& intervals, const Mapping& mapping);
  static bool continues(const Intervals::value_type& left, uint64_t offset, const Interval& right);
  void trim(uint64_t keepFrom, uint64_t keepTo);

  std::list<Node> nodes_;  // the most recently used one first
  std::unordered_map<uint64_t, std::list<Node>::iterator> byId_;
  size_t entries_ = 0;
};
