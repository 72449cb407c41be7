// SPDX-License-Identifier: MIT
//
// TagAccounts: the blocks and bytes of each tag of a heap, and the limits on them.
//
//   has_room ──► the heap allocates ──► charge ─┬─► the block has the tag   …   ──► discharge
//                                               └─► others took the room: it is freed again
//
// Only blocks that exist are charged. So an allocation that waits for memory, or finds none, takes
// no room from others, and the high water counts no byte that never came.
//
//   tag 0   | bytes | objects | high water | refused | limit | callback | argument | name |
//   tag 1   | …                                                       a cache line each
//
// A tag's bytes never exceed its limit, not for a moment and on no CPU: one word counts them, and a
// compare-exchange adds to it. That costs a charge and a discharge two atomic operations each, on a
// line that the CPUs of a tag share. Counts for each CPU would avoid the sharing. But then a limit
// holds with a slack alone, or each CPU must return what it holds as the limit comes near (Linux:
// obj_stock).
//
// All orders are relaxed: a number leads to no other memory.
//
// Invariant, with its line in validate():
//   X1  bytes <= the most that they ever were; a tag without objects has no bytes
#pragma once

#include <cstddef>
#include <cstdint>

#include "slabmalloc/kernel/frame_account.hpp"
#include "slabmalloc/kernel/hooks.hpp"
#include "slabmalloc/kernel/tag_statistics.hpp"

namespace slabmalloc {

/// The accounts of `Count` tags. Thread: any, in any context, where not said otherwise.
template <KernelHooks Hooks, class Atomics, std::uint32_t Count>
class TagAccounts {
 public:
  static constexpr std::uint32_t no_tag = Count;

  constexpr TagAccounts() noexcept = default;
  TagAccounts(const TagAccounts&) = delete;
  TagAccounts& operator=(const TagAccounts&) = delete;

  // ---- for clients. Pre, here and below: `tag` is less than Count. ------------------------------

  /// Thread: while nobody reports. Pre: `name` outlives the accounts.
  constexpr void set_name(std::uint32_t tag, const char* name) noexcept { at_[tag].name = name; }
  /// Thread: any, with the callback as before; another one while nobody allocates with the tag.
  void set_limit(std::uint32_t tag, std::size_t bytes, LimitCallback callback,
                 void* argument) noexcept {
    at_[tag].callback = callback;
    at_[tag].argument = argument;
    at_[tag].limit.store(bytes, Order::relaxed);
  }
  TagStatistics statistics(std::uint32_t tag) const noexcept {
    const Account& one = at_[tag];
    TagStatistics result;
    result.name = one.name;
    result.tag = tag;
    result.objects = one.objects.load(Order::relaxed);
    result.bytes = one.bytes.load(Order::relaxed);
    result.bytes_high_water = one.high_water.load(Order::relaxed);
    result.limit_bytes = one.limit.load(Order::relaxed);
    result.refused = one.refused.load(Order::relaxed);
    return result;
  }

  // ---- for the heap -----------------------------------------------------------------------------

  /// Whether the limit has room for a block of `bytes`. Others may take it.
  bool has_room(std::uint32_t tag, std::size_t bytes) const noexcept {
    const std::size_t now = at_[tag].bytes.load(Order::relaxed);
    const std::size_t limit = at_[tag].limit.load(Order::relaxed);
    return now <= limit && bytes <= limit - now;
  }
  /// Charges a block of `bytes`. False if the limit has no room for it.
  bool charge(std::uint32_t tag, std::size_t bytes) noexcept {
    const UpdateGuard<Hooks, Atomics> guard;
    Account& one = at_[tag];
    std::size_t before = one.bytes.load(Order::relaxed);
    do {
      const std::size_t limit = one.limit.load(Order::relaxed);
      if (before > limit || bytes > limit - before) {
        return false;
      }
    } while (!one.bytes.compare_exchange(before, before + bytes, Order::relaxed));
    one.objects.fetch_add(1, Order::relaxed);
    std::size_t highest = one.high_water.load(Order::relaxed);
    while (before + bytes > highest &&
           !one.high_water.compare_exchange(highest, before + bytes, Order::relaxed)) {
    }
    return true;
  }
  /// Calls the callback; false if there is none. Thread: any that holds nothing.
  bool call_back(std::uint32_t tag) noexcept {
    const Account& one = at_[tag];
    if (one.callback == nullptr) {
      return false;
    }
    one.callback(one.argument);
    return true;
  }
  /// Counts an allocation that the limit refused; returns false.
  bool refuse(std::uint32_t tag) noexcept {
    const UpdateGuard<Hooks, Atomics> guard;
    at_[tag].refused.fetch_add(1, Order::relaxed);
    return false;
  }
  /// Ends the charge of a block.
  void discharge(std::uint32_t tag, std::size_t bytes) noexcept {
    const UpdateGuard<Hooks, Atomics> guard;
    at_[tag].objects.fetch_sub(1, Order::relaxed);
    at_[tag].bytes.fetch_sub(bytes, Order::relaxed);
  }

  /// A word for the tag that no other accounts have; for no_tag one of a block without a charge.
  std::uintptr_t word_of(std::uint32_t tag) const noexcept {
    return reinterpret_cast<std::uintptr_t>(&at_[tag]);
  }
  /// The tag with that word, or no_tag.
  std::uint32_t tag_of(std::uintptr_t word) const noexcept {
    const std::uintptr_t offset = word - reinterpret_cast<std::uintptr_t>(at_);
    return offset < sizeof(at_) && offset % sizeof(Account) == 0
               ? static_cast<std::uint32_t>(offset / sizeof(Account))
               : no_tag;
  }

  /// True if `word` is one of word_of(), that of no_tag included.
  bool has_word(std::uintptr_t word) const noexcept {
    return word == word_of(no_tag) || tag_of(word) != no_tag;
  }

  /// The sum over all tags.
  std::size_t bytes() const noexcept {
    std::size_t sum = 0;
    for (const Account& one : at_) {
      sum += one.bytes.load(Order::relaxed);
    }
    return sum;
  }
  /// X1, or null. Pre: nobody uses it.
  const char* validate() const noexcept {
    for (std::uint32_t tag = 0; tag < Count; ++tag) {
      const TagStatistics now = statistics(tag);
      if (now.bytes > now.bytes_high_water || (now.objects == 0) != (now.bytes == 0)) {
        return "X1: bytes <= the most they ever were; no objects, no bytes";
      }
    }
    return nullptr;
  }

 private:
  using Cell = typename Atomics::template Cell<std::size_t>;

  struct alignas(64) Account {
    Cell bytes;
    Cell objects;
    Cell high_water;
    Cell refused;
    Cell limit{TagStatistics::no_limit};
    LimitCallback callback = nullptr;
    void* argument = nullptr;
    const char* name = nullptr;
  };

  Account at_[Count];
};

}  // namespace slabmalloc
