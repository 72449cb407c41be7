// SPDX-License-Identifier: MIT
//
// FirstSweep: how far a page has come into use again after it was idle.
//
//   words                       ├──── visited ────┼──── untouched, all ones ────┤
//                                             untouched_
//   slots, if they came zeroed  ├──── issued ────┼──── claimed last ────┼──── never claimed ────┤
//                                           zero_from_              swept_to_
//
// The sweep goes through the words in order. Before it first touches a word since the page was
// idle, it looks at two of the words before. A word that has become mostly free serves again. So a
// class with few live objects stays within a few cache lines and OS pages of a large page.
//
// Slots are known to be zero for a second reason too: their memory was a hole of the page
// (allocable_page.hpp). Such a claim is zero as a whole.
//
// Invariant, with its line in validate():
//   U1  every bit of the untouched words of local is set
#pragma once

#include <cstddef>
#include <cstdint>

#include "slabmalloc/base/atomics.hpp"
#include "slabmalloc/base/bits.hpp"

namespace slabmalloc {

/// The first sweep of a size class's current page, or none. Thread: the owner.
class FirstSweep {
 public:
  constexpr FirstSweep() noexcept = default;

  /// Begins with a page that was idle, whose slots begin at `slots` and are all zero if `fresh`.
  void begin(std::byte* slots, bool fresh) noexcept {
    untouched_ = 0;
    looked_at_ = 0;
    fresh_ = fresh;
    swept_to_ = slots;
    zero_from_ = nowhere();
  }

  /// Begins with a page of `words` words that has been swept before.
  void skip(std::uint32_t words) noexcept {
    untouched_ = words;
    end();
  }

  /// Ends the sweep when the page is no longer current.
  void end() noexcept {
    fresh_ = false;
    zero_from_ = nowhere();
  }

  /// True if a page of `words` words has an untouched one.
  bool has_untouched(std::uint32_t words) const noexcept { return untouched_ < words; }

  /// The word to sweep next: an earlier one with three quarters free, or the first untouched one.
  /// It looks at two, in turn. Pre: has_untouched().
  template <class Header>
  std::uint32_t next_word(Header* page) noexcept {
    constexpr std::uint32_t mostly = word_bits / 4 * 3;
    for (std::uint32_t looks = untouched_ < 2 ? untouched_ : 2; looks != 0; --looks) {
      looked_at_ = looked_at_ + 1 < untouched_ ? looked_at_ + 1 : 0;
      // In most first sweeps nothing of the words before is free.
      const Word free = page->local(looked_at_).load(Order::relaxed);
      if (free != 0 && count_ones(free) >= mostly) {
        return looked_at_;
      }
    }
    return untouched_++;
  }

  /// True if the page came zeroed, and claim_to() must record claims.
  bool is_fresh() const noexcept { return fresh_; }

  /// Records that the slots below `end` are claimed.
  void claim_to(std::byte* end) noexcept {
    zero_from_ = swept_to_;
    swept_to_ = end > swept_to_ ? end : swept_to_;
  }

  /// Records a claim of a page that did not come zeroed: its slots are all zero, or not known to
  /// be.
  void claim(bool zero) noexcept { zero_from_ = zero ? nullptr : nowhere(); }

  /// True if `object`, which was allocated just now, is known to be zero.
  bool is_zero(const void* object) const noexcept { return object >= zero_from_; }

  /// True if no slot of word `word` was claimed since the page was idle.
  bool is_untouched(std::uint32_t word) const noexcept { return word >= untouched_; }

  /// True if no client used `object`, which is free, since the page came zeroed: it was never
  /// claimed, or is claimed now for the first time. Pre: is_fresh().
  bool was_never_issued(const void* object, bool is_claimed) const noexcept {
    return object >= swept_to_ || (is_claimed && object >= zero_from_);
  }

  /// The broken invariant of `page` of `words` words, as an equation, or null.
  template <class Header>
  const char* validate(Header* page, std::uint32_t words) const noexcept {
    for (std::uint32_t word = untouched_; word < words; ++word) {
      if (page->local(word).load(Order::relaxed) != ~Word{0}) {
        return "U1: every bit of the current page's untouched words is set";
      }
    }
    return nullptr;
  }

 private:
  /// Above every object.
  static std::byte* nowhere() noexcept { return reinterpret_cast<std::byte*>(~std::uintptr_t{0}); }

  std::byte* zero_from_ = nullptr;  ///< The slots of the latest claim from here on are zero.
  std::byte* swept_to_ = nullptr;   ///< While fresh_: the end of all slots ever claimed.
  std::uint32_t untouched_ = 0;  ///< The first word that was not selected since the page was idle.
  std::uint32_t looked_at_ = 0;  ///< The earlier word that the sweep considered last.
  bool fresh_ = false;           ///< The page came zeroed and is on its first sweep.
};

}  // namespace slabmalloc
