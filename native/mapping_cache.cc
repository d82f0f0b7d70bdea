// The mapping cache. Everything takes O(log n) per interval it adds or removes.

#include "mapping_cache.h"

#include <algorithm>
#include <iterator>

namespace {

uint64_t distance(uint64_t from, uint64_t to) {
  return to > from ? to - from : 0;
}

}  // namespace

/** Finds a node and makes it the most recently used one; null when it is not known. */
MappingCache::Node* MappingCache::touch(uint64_t node) {
  if (!nodes_.empty() && nodes_.front().id == node) return &nodes_.front();
  const auto found = byId_.find(node);
  if (found == byId_.end()) return nullptr;
  nodes_.splice(nodes_.begin(), nodes_, found->second);
  return &nodes_.front();
}

void MappingCache::insert(uint64_t node, uint64_t fileSizeBytes, WriteAccess access,
                          const std::vector<Mapping>& mappings) {
  Node* known = touch(node);
  if (known == nullptr) {
    if (mappings.empty()) return;
    nodes_.push_front({node, fileSizeBytes, access, {}});
    byId_[node] = nodes_.begin();
    entries_++;
    known = &nodes_.front();
  }
  known->fileSizeBytes = fileSizeBytes;
  known->access = access;
  if (mappings.empty()) return;

  uint64_t from = UINT64_MAX;
  uint64_t to = 0;
  entries_ -= known->intervals.size();
  for (const Mapping& mapping : mappings) {
    assign(known->intervals, mapping);
    from = std::min(from, mapping.offset);
    to = std::max(to, mapping.offset + mapping.length);
  }
  entries_ += known->intervals.size();
  trim(from, to);
}

int64_t MappingCache::find(uint64_t node, uint64_t offset, uint32_t length,
                           std::vector<Segment>& segments) {
  segments.clear();
  const Node* known = touch(node);
  if (known == nullptr) return -1;
  if (offset >= known->fileSizeBytes) return 0;
  const uint64_t end = offset + std::min<uint64_t>(length, known->fileSizeBytes - offset);

  auto next = known->intervals.upper_bound(offset);
  if (next == known->intervals.begin()) return -1;
  uint64_t at = offset;
  for (auto it = std::prev(next); at < end; ++it) {
    if (it == known->intervals.end() || it->first > at) return -1;
    const uint64_t into = at - it->first;
    const Interval& interval = it->second;
    if (into >= interval.length) return -1;
    const uint64_t bytes = std::min<uint64_t>(interval.length - into, end - at);
    const bool mapped = interval.type == static_cast<uint64_t>(MappingType::Mapped);
    segments.push_back(
        {mapped ? interval.address + into : 0, static_cast<uint32_t>(bytes), !mapped});
    at += bytes;
  }
  return static_cast<int64_t>(end - offset);
}

WriteAccess MappingCache::accessOf(uint64_t node) {
  const Node* known = touch(node);
  return known == nullptr ? WriteAccess::Ask : known->access;
}

uint32_t MappingCache::findWritable(uint64_t node, uint64_t offset, uint32_t length,
                                    std::vector<Segment>& segments) {
  segments.clear();
  const Node* known = touch(node);
  if (known == nullptr || offset >= known->fileSizeBytes) return 0;
  const uint64_t end = offset + std::min<uint64_t>(length, known->fileSizeBytes - offset);

  auto it = known->intervals.upper_bound(offset);
  if (it == known->intervals.begin()) return 0;
  uint64_t at = offset;
  for (--it; at < end && it != known->intervals.end() && it->first <= at; ++it) {
    const uint64_t into = at - it->first;
    const Interval& interval = it->second;
    if (into >= interval.length) break;
    if (interval.type != static_cast<uint64_t>(MappingType::Mapped)) break;
    const uint64_t bytes = std::min<uint64_t>(interval.length - into, end - at);
    segments.push_back({interval.address + into, static_cast<uint32_t>(bytes), false});
    at += bytes;
  }
  return static_cast<uint32_t>(at - offset);
}

void MappingCache::invalidate(uint64_t node, uint64_t offset, uint64_t end) {
  const auto found = byId_.find(node);
  if (found == byId_.end() || offset >= end) return;
  Intervals& intervals = found->second->intervals;
  entries_ -= intervals.size();
  cut(intervals, offset, end);
  entries_ += intervals.size();
}

void MappingCache::drop(uint64_t node) {
  const auto found = byId_.find(node);
  if (found == byId_.end()) return;
  entries_ -= 1 + found->second->intervals.size();
  nodes_.erase(found->second);
  byId_.erase(found);
}

/** True when `right`, starting at `offset`, goes on where `left` ends, in the file and on disk. */
bool MappingCache::continues(const Intervals::value_type& left, uint64_t offset,
                             const Interval& right) {
  const Interval& interval = left.second;
  if (left.first + interval.length != offset || interval.type != right.type) return false;
  return interval.type == static_cast<uint64_t>(MappingType::Hole) ||
         interval.address + interval.length == right.address;
}

/** Takes `start` up to `end` out of `intervals`. @returns the first one behind. */
MappingCache::Intervals::iterator MappingCache::cut(Intervals& intervals, uint64_t start,
                                                    uint64_t end) {
  auto right = intervals.lower_bound(start);
  if (right != intervals.begin()) {
    const auto left = std::prev(right);
    const uint64_t leftEnd = left->first + left->second.length;
    if (leftEnd > end) {
      const uint64_t gone = end - left->first;
      right = intervals.emplace_hint(
          right, end,
          Interval{left->second.length - gone, left->second.type, left->second.address + gone});
    }
    if (leftEnd > start) left->second.length = start - left->first;
  }
  while (right != intervals.end() && right->first < end) {
    const uint64_t rightEnd = right->first + right->second.length;
    if (rightEnd <= end) {
      right = intervals.erase(right);
      continue;
    }
    const uint64_t gone = end - right->first;
    const Interval rest{rightEnd - end, right->second.type, right->second.address + gone};
    right = intervals.emplace_hint(intervals.erase(right), end, rest);
  }
  return right;
}

/** Sets one interval: cuts what is there, then joins it with its neighbours where they continue. */
void MappingCache::assign(Intervals& intervals, const Mapping& mapping) {
  const uint64_t start = mapping.offset;
  const uint64_t end = start + mapping.length;
  Interval added{mapping.length, static_cast<uint64_t>(mapping.type), mapping.address};

  auto right = cut(intervals, start, end);
  if (right != intervals.end() && right->first == end) {
    if (continues({start, added}, end, right->second)) {
      added.length += right->second.length;
      right = intervals.erase(right);
    }
  }
  if (right != intervals.begin() && continues(*std::prev(right), start, added)) {
    std::prev(right)->second.length += added.length;
    return;
  }
  intervals.emplace_hint(right, start, added);
}

/** Gets below the bound again without touching `keepFrom`..`keepTo` of the newest node. */
void MappingCache::trim(uint64_t keepFrom, uint64_t keepTo) {
  while (entries_ > ENTRIES_MAX && nodes_.size() > 1) {
    const uint64_t oldest = nodes_.back().id;
    drop(oldest);
  }
  Intervals& intervals = nodes_.front().intervals;
  while (entries_ > ENTRIES_MAX) {
    const auto first = intervals.begin();
    const auto last = std::prev(intervals.end());
    const bool lastIsFarther = distance(keepTo, last->first) > distance(first->first, keepFrom);
    intervals.erase(lastIsFarther ? last : first);
    entries_--;
  }
}
