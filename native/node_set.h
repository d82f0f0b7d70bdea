// A set of nodes. Their ids are inode numbers, which lie close together: 64 of them share a word.

#pragma once

#include <cstdint>
#include <unordered_map>

class NodeSet {
 public:
  void add(uint64_t node) { words_[node / BITS] |= bitOf(node); }

  void remove(uint64_t node) {
    const auto found = words_.find(node / BITS);
    if (found == words_.end()) return;
    found->second &= ~bitOf(node);
    if (found->second == 0) words_.erase(found);
  }

  bool has(uint64_t node) const {
    const auto found = words_.find(node / BITS);
    return found != words_.end() && (found->second & bitOf(node)) != 0;
  }

 private:
  static constexpr uint64_t BITS = 64;

  static uint64_t bitOf(uint64_t node) { return uint64_t{1} << node % BITS; }

  std::unordered_map<uint64_t, uint64_t> words_;
};
