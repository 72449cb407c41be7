// SPDX-License-Identifier: MIT
//
// MappedAddresses: the virtual addresses of a MappedRuns (mapped_runs.hpp): which of them are free,
// and a word of the client's for each page.
//
//   | guard | span: pages that are used or free | span … | in no span yet          |
//           first_                                       next_                     end_
//
// A page of addresses is a frame of a span (frame_span.hpp) without memory. Spans come in address
// order as runs need addresses, and never go before release(). A span's meta-data is a run of the
// frame allocator: 9.3 bytes a page on 64 bits, one frame for the least span. A span has a block
// for the run that needs it, or a quarter of the pages so far, so there are few.
//
// Its invariants are those of the spans and their table.
#pragma once

#include <cstddef>
#include <cstdint>

#include "slabmalloc/kernel/hooks.hpp"
#include "slabmalloc/kernel/memory_map.hpp"
#include "slabmalloc/kernel/span_table.hpp"
#include "slabmalloc/kernel/spin_lock.hpp"
#include "slabmalloc/zone/pager.hpp"
#include "slabmalloc/zone/statistics.hpp"

namespace slabmalloc {

/// Pages by number, which is address / base frame bytes. Thread: any, where not said otherwise.
template <KernelHooks Hooks, class FramesT, class Atomics>
class MappedAddresses {
 public:
  static constexpr std::size_t base_bytes = FramesT::base_bytes;
  static constexpr std::uint32_t base_bits = highest_bit(base_bytes);
  using Lock = SpinLock<Hooks, Atomics>;

  /// Pre: `frames` outlives it.
  constexpr explicit MappedAddresses(FramesT& frames) noexcept : frames_(frames) {}

  /// Pre: nothing was taken yet.
  void set_range(MemoryRegion range) noexcept {
    const FrameRange pages = MemoryMap<base_bytes>(&range, 1).next(0);
    first_ = pages.first + 1;
    next_ = first_;
    end_ = pages.end;
    require<Hooks>(first_ < end_, "0 < pages of the range");
  }
  /// True if `page` lies in the range.
  bool has(std::uintptr_t page) const noexcept { return page - first_ < pages(); }
  /// The pages of the range, without the first.
  std::size_t pages() const noexcept { return end_ - first_; }
  /// True if the whole range has `pages` pages in a row, aligned to 2^alignment.
  bool can_hold(std::size_t pages, std::uint32_t alignment) const noexcept {
    const std::uintptr_t rest =
        alignment < word_bits ? (std::uintptr_t{1} << alignment) - 1 : ~std::uintptr_t{0};
    const std::uintptr_t skipped = (0 - first_) & rest;
    return skipped < this->pages() && pages <= this->pages() - skipped;
  }

  /// The lock of spans and words.
  Lock& lock() const noexcept { return lock_; }
  /// The block in which `page` lies. Thread: holder of the lock.
  FrameBlock block_at(std::uintptr_t page) const noexcept { return spans_.block_at(page); }
  /// The word of a page in a span. It is 0 when the page is taken if it was when it was given back.
  /// Thread: holder of the lock.
  Word& word_of(std::uintptr_t page) const noexcept { return spans_.find(page)->owner(page); }

  /// Calls f(page, word) for each of `pages` until it says false. Thread: whoever has the pages,
  /// with nothing held: spans stay where they are.
  template <class F>
  void for_each_word(FrameRange pages, F&& f) noexcept {
    while (!pages.is_empty()) {
      Span* span = nullptr;
      {
        const typename Lock::Guard guard(lock_);
        span = spans_.find(pages.first);
      }
      const std::uintptr_t end = pages.end < span->range().end ? pages.end : span->range().end;
      for (; pages.first != end; ++pages.first) {
        if (!f(pages.first, span->owner(pages.first))) {
          return;
        }
      }
    }
  }

  /// The first of `pages` pages in a row, aligned to 2^alignment, or 0. They are a block of `order`
  /// if there is one. The word of the last one is `last_word`.
  std::uintptr_t take(std::size_t pages, std::uint32_t order, std::uint32_t alignment,
                      Word last_word) noexcept {
    const typename Lock::Guard guard(lock_);
    std::uintptr_t first = spans_.allocate(order, pages);
    first = first != 0 ? first : spans_.allocate_across(alignment, pages);
    if (first != 0) {
      word_of(first + pages - 1) = last_word;
    }
    return first;
  }
  /// Frees pages that take() gave. Thread: holder of the lock.
  void give_back(FrameRange pages) noexcept { spans_.deallocate(pages.first, pages.frames()); }

  /// Adds a span, in which a block of `order` is free if the range has one. A quarter of the pages
  /// so far bounds the number of spans. False if nothing was added.
  bool grow(std::uint32_t order, Context context) noexcept {
    if (order >= Span::order_limit) {
      return false;
    }
    const std::uintptr_t next = next_page();
    const std::size_t size = std::size_t{1} << order;
    const std::size_t room = end_ - next;
    const std::size_t needed = smaller(align_up(next, size) - next + size, room);
    const std::size_t share = (next - first_) / 4;
    const std::size_t wanted = smaller(share < least_pages ? least_pages : share, room);
    return room != 0 && ((wanted > needed && add_span({next, next + wanted}, context)) ||
                         add_span({next, next + needed}, context));
  }

  /// Gives all meta-data back, and starts anew. Pre: nothing is taken.
  void release() noexcept {
    spans_.clear([this](Span* span) {
      frames_.deallocate_run(span, Span::metadata_bytes(span->range()), base_bytes);
    });
    metadata_bytes_.set(0);
    next_ = first_;
  }

  std::size_t metadata_bytes() const noexcept { return metadata_bytes_.get(); }
  /// Calls f(block) for each block of the spans, in address order. Thread: holder of the lock.
  template <class F>
  void for_each_block(F&& f) const noexcept {
    for (std::uintptr_t page = first_; page < next_;) {
      const FrameBlock block = block_at(page);
      f(block);
      page = block.first + block.frames;
    }
  }
  /// The first invariant that does not hold, or null. Thread: holder of the lock.
  const char* validate() const noexcept {
    const char* broken = spans_.validate();
    spans_.for_each(
        [&](const Span& span) { broken = broken != nullptr ? broken : span.validate(); });
    return broken;
  }

 private:
  using Spans = SpanTable<base_bytes, true>;
  using Span = typename Spans::Span;
  /// The least pages of a span: their meta-data fills a base frame.
  static constexpr std::size_t least_pages = base_bytes / 12;

  /// False without memory for the meta-data. True also if others added a span meanwhile.
  bool add_span(FrameRange range, Context context) noexcept {
    const std::size_t bytes = Span::metadata_bytes(range);
    void* const memory = allocate_metadata(bytes, context);
    if (memory == nullptr) {
      return false;
    }
    Span* const span = Span::create(memory, range);
    span->fill(range);
    {
      const typename Lock::Guard guard(lock_);
      if (next_ == range.first) {
        next_ = range.end;
        spans_.insert(span);
        metadata_bytes_.add(align_up(bytes, base_bytes));
        return true;
      }
    }
    frames_.deallocate_run(memory, bytes, base_bytes);
    return true;
  }
  void* allocate_metadata(std::size_t bytes, [[maybe_unused]] Context context) noexcept {
    if constexpr (requires { frames_.allocate_run(bytes, base_bytes, context).address; }) {
      return frames_.allocate_run(bytes, base_bytes, context).address;
    } else {
      return frames_.allocate_run(bytes, base_bytes).address;
    }
  }
  std::uintptr_t next_page() const noexcept {
    const typename Lock::Guard guard(lock_);
    return next_;
  }
  static constexpr std::size_t smaller(std::size_t one, std::size_t other) noexcept {
    return one < other ? one : other;
  }

  FramesT& frames_;
  mutable Lock lock_;
  Spans spans_;
  std::uintptr_t first_ = 0;  ///< Behind the guard at the begin of the range.
  std::uintptr_t next_ = 0;   ///< The first page in no span.
  std::uintptr_t end_ = 0;
  SharedCounter<Atomics> metadata_bytes_;
};

}  // namespace slabmalloc
