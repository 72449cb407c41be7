// SPDX-License-Identifier: MIT
//
// CpuPart: what one CPU has of a CpuZones, and the section in which it is used.
//
//   | occupied | zone: classes, inbox, remote buffer | stash of empty frames | reserve of objects |
//       ▲          ▲                                     ▲                       ▲
//       │          └── in a section only ────────────────┘                       └── anyone takes,
//       in any context └── set for as long as a section lasts
//
// A section saves interrupts and finds `occupied` clear; what comes in between nevertheless, an
// NMI, or a handler where the hooks keep away other threads alone, finds it set and goes another
// way. Handlers end before the code that they interrupt goes on, so plain loads and stores in
// program order are enough.
#pragma once

#include <cstddef>
#include <cstdint>

#include "slabmalloc/kernel/frame_stash.hpp"
#include "slabmalloc/kernel/hooks.hpp"
#include "slabmalloc/kernel/object_reserve.hpp"
#include "slabmalloc/zone/zone_allocator.hpp"

namespace slabmalloc {

/// The frees of each size class that a CPU made; those in sections only if `InSections`.
template <class Atomics, std::uint32_t Classes, bool InSections>
class FreeCounts {
 public:
  /// Counts the free of `object`, if that is one. Thread: its CPU, in a section.
  [[gnu::always_inline]] void add(std::uint32_t index, const void* object) noexcept {
    if constexpr (InSections) {
      auto& count = in_sections_[index];
      count.store(count.load(Order::relaxed) + (object != nullptr ? 1 : 0), Order::relaxed);
    }
  }
  /// Counts one that came while the part was occupied. Thread: any.
  void add_nested(std::uint32_t index, const void* object) noexcept {
    if (object != nullptr) {
      nested_[index].fetch_add(1, Order::relaxed);
    }
  }

  std::size_t nested(std::uint32_t index) const noexcept {
    return nested_[index].load(Order::relaxed);
  }
  std::size_t nested() const noexcept {
    std::size_t sum = 0;
    for (std::uint32_t index = 0; index < Classes; ++index) {
      sum += nested(index);
    }
    return sum;
  }
  std::size_t all(std::uint32_t index) const noexcept requires InSections {
    return in_sections_[index].load(Order::relaxed) + nested(index);
  }

 private:
  using Count = typename Atomics::template Cell<std::size_t>;

  Count in_sections_[InSections ? Classes : 1];
  Count nested_[Classes];
};

template <KernelHooks Hooks, class Config>
struct CpuPart;

/// The pager of a CPU's zone: its own stash, then those of the others, then kept frames if the
/// allocation may have them. Thread: its CPU, inside a section.
template <KernelHooks Hooks, class Config>
class StashPager {
 public:
  using Part = CpuPart<Hooks, Config>;
  using Stashes = FrameStashes<Hooks, typename Config::Pages>;

  constexpr StashPager() noexcept = default;

  /// Pre: `parts` has Hooks::maximum_cpus elements, of which number `own` has this.
  constexpr void attach(Part* parts, std::uint32_t own) noexcept {
    parts_ = parts;
    own_ = own;
  }

  Frame allocate_frame(std::size_t bytes) noexcept {
    for (std::uint32_t number = own_; number < Hooks::maximum_cpus; ++number) {
      if (void* const frame = parts_[number].stash.pop(bytes)) {
        return frame;
      }
    }
    for (std::uint32_t number = 0; number < own_; ++number) {
      if (void* const frame = parts_[number].stash.pop(bytes)) {
        return frame;
      }
    }
    return kept_ != nullptr ? kept_->take(bytes) : nullptr;
  }
  /// Takes from `kept` what the stashes do not have, until the next call, with null. A kept frame
  /// thus becomes a page of the zone in one step: no other CPU takes it on the way.
  void use_kept(Stashes* kept) noexcept { kept_ = kept; }

  void deallocate_frame(void* frame, std::size_t bytes) noexcept {
    parts_[own_].stash.push(frame, bytes);
  }

 private:
  Part* parts_ = nullptr;
  Stashes* kept_ = nullptr;
  std::uint32_t own_ = 0;
};

/// One CPU's part. Its address must not change.
template <KernelHooks Hooks, class Config>
struct alignas(64) CpuPart {
  using Atomics = typename Config::Atomics;
  using Zone = PagedZone<StashPager<Hooks, Config>, Config>;
  using Stashes = FrameStashes<Hooks, typename Config::Pages>;
  using Reserve = ObjectReserve<Atomics, Zone::class_count, Config::reserve_objects>;
  using Frees = FreeCounts<Atomics, Zone::class_count, Config::counts_frees>;

  constexpr CpuPart() noexcept : zone(pager) {}

  typename Atomics::template Cell<bool> occupied;
  typename Atomics::template Cell<bool> drain_is_wanted;
  StashPager<Hooks, Config> pager;
  Zone zone;
  Stashes stash;
  Reserve reserve;
  Frees frees;
  /// Those that came while the part was occupied.
  typename Atomics::template Cell<std::size_t> nested_allocations;
};

/// The use of the part of the CPU that runs the caller; false, and nothing else, if that is
/// occupied.
template <KernelHooks Hooks, class Config>
class CpuSection {
 public:
  using Part = CpuPart<Hooks, Config>;

  [[gnu::always_inline]] explicit CpuSection(Part* parts) noexcept
      : part_(parts + Hooks::cpu()), is_entered_(!part_->occupied.load(Order::relaxed)) {
    if (is_entered_) [[likely]] {
      part_->occupied.store(true, Order::relaxed);
      compiler_fence();
    }
  }
  [[gnu::always_inline]] ~CpuSection() {
    if (is_entered_) [[likely]] {
      compiler_fence();
      part_->occupied.store(false, Order::relaxed);
    }
  }
  CpuSection(const CpuSection&) = delete;
  CpuSection& operator=(const CpuSection&) = delete;

  [[gnu::always_inline]] explicit operator bool() const noexcept { return is_entered_; }
  [[gnu::always_inline]] Part* operator->() const noexcept { return part_; }

 private:
  InterruptGuard<Hooks> interrupts_;
  Part* part_;
  bool is_entered_;
};

}  // namespace slabmalloc
