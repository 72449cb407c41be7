// SPDX-License-Identifier: MIT
//
// CpuPart: what one CPU has of a CpuZones, and the section in which it is used.
//
//   part pointer ──► | zone: classes, queue, remote buffer | frame cache of empty frames | reserve of objects |
//     ▲        ▲                                     ▲                       ▲
//     │        └── in a section only ────────────────┘                       └── anyone takes, in any context
//     └── a pointer of the CPU's; null for as long as a section lasts
//
// A section saves interrupts, takes the part from the part pointer, and puts it back. What comes in between nevertheless, an
// NMI, or a handler where the hooks keep away other threads alone, finds nothing behind the part pointer and goes another way.
// Handlers end before the code that they interrupt goes on, so plain loads and stores in program order are enough.
#pragma once

#include <cstddef>
#include <cstdint>

#include "slabmalloc/kernel/frame_cache.hpp"
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
template <KernelHooks Hooks, class Config>
class CpuPartPointers;

/// The pager of a CPU's zone: its own frame cache, then those of the others, then reserved frames if the
/// allocation may have them. Thread: its CPU, inside a section.
template <KernelHooks Hooks, class Config>
class FrameCachePager {
 public:
  using Part = CpuPart<Hooks, Config>;
  using Caches = FrameCaches<Hooks, typename Config::Pages>;

  constexpr FrameCachePager() noexcept = default;

  /// Pre: `parts` has Hooks::maximum_cpus elements, of which number `own` has this.
  constexpr void attach(Part* parts, std::uint32_t own) noexcept {
    parts_ = parts;
    own_ = own;
  }

  Frame allocate_frame(std::size_t bytes) noexcept {
    if (handed_ != nullptr) {
      return take_back();
    }
    std::uint32_t number = own_;
    do {
      if (void* const frame = parts_[number].frame_cache.pop(bytes)) {
        return frame;
      }
      number = number + 1 < Hooks::maximum_cpus ? number + 1 : 0;
    } while (number != own_);
    return reserved_frames_ != nullptr ? reserved_frames_->take(bytes) : nullptr;
  }
  /// Takes from `reserved` what the frame caches do not have, until the next call, with null. A reserved frame
  /// thus becomes a page of the zone in one step: no other CPU takes it on the way.
  void use_reserved(Caches* kept) noexcept { reserved_frames_ = kept; }
  /// The next frame that is asked for is `frame`, unless it is taken back before. Nobody else takes it on the way either.
  void hand(void* frame) noexcept { handed_ = frame; }
  void* take_back() noexcept {
    void* const frame = handed_;
    handed_ = nullptr;
    return frame;
  }

  void deallocate_frame(void* frame, std::size_t bytes) noexcept {
    parts_[own_].frame_cache.push(frame, bytes);
  }

 private:
  Part* parts_ = nullptr;
  Caches* reserved_frames_ = nullptr;
  void* handed_ = nullptr;
  std::uint32_t own_ = 0;
};

/// One CPU's part. Its address must not change.
template <KernelHooks Hooks, class Config>
struct alignas(64) CpuPart {
  using Atomics = typename Config::Atomics;
  using Zone = PagedZone<FrameCachePager<Hooks, Config>, Config>;
  using Caches = FrameCaches<Hooks, typename Config::Pages>;
  using Reserve = ObjectReserve<Atomics, Zone::class_count, Config::reserve_objects>;
  using Frees = FreeCounts<Atomics, Zone::class_count, Config::counts_frees>;
  template <class T>
  using Cell = typename Atomics::template Cell<T>;

  constexpr CpuPart() noexcept : zone(own_pager()) {}

  // The slow ways of the zone, with what is counted of them. In a section of this part's.

  /// An object of class `index`, or null. Takes less in of what others freed where something else is left to do.
  void* allocate(std::uint32_t index) noexcept {
    return zone.allocate_class(index, is_behind() ? 1 : Config::drain_pages).value_or(nullptr);
  }
  void deallocate(void* object, std::uint32_t index) noexcept {
    zone.deallocate_class(object, index);
    frees.add(index, object);
  }
  /// See ObjectReserve.
  bool adjust_reserve(std::uint32_t index) noexcept {
    return reserve.adjust(index, getter(), giver());
  }
  /// True while a drain is wanted or goes on.
  bool is_draining() const noexcept {
    return drain_is_wanted.load(Order::relaxed) || next_to_drain != Zone::class_count;
  }
  bool is_behind() const noexcept { return is_draining() || reserve.has_work(); }
  bool adjust_some_reserve() noexcept { return reserve.adjust_one(getter(), giver()); }

  Zone zone;  ///< First: its address is then the tag of its pages.
  FrameCachePager<Hooks, Config> pager;
  Cell<CpuPartPointers<Hooks, Config>*> pointers;  ///< Null until its part pointer is opened first.
  Cell<bool> drain_is_wanted;
  /// The class with which draining goes on; Zone::class_count while it does not.
  std::uint32_t next_to_drain = Zone::class_count;
  // What the last steps of searches did.
  bool search_drained = false;
  bool search_gave = false;  ///< A run or a frame back.
  bool search_ended_round = false;
  std::uint32_t turns = 0;  ///< Calls that did, or tried, some of what waits.
  Caches frame_cache;
  Reserve reserve;
  Frees frees;
  Cell<std::size_t> nested_allocations;  ///< Calls that came in the middle of a section.

 private:
  constexpr FrameCachePager<Hooks, Config>& own_pager() noexcept { return pager; }
  auto getter() noexcept {
    return [this](std::uint32_t index) { return allocate(index); };
  }
  auto giver() noexcept {
    return [this](std::uint32_t index, void* object) { deallocate(object, index); };
  }
};

/// The part pointers of all CPUs. Null at first: a CPU's first slow path opens its own.
template <KernelHooks Hooks, class Config>
class CpuPartPointers {
 public:
  using Part = CpuPart<Hooks, Config>;
  using Cell = typename Config::Atomics::template Cell<Part*>;

  /// The part pointer of the CPU that runs the caller. Pre: interrupts are saved.
  class PartPointer {
   public:
    [[gnu::always_inline]] explicit PartPointer(CpuPartPointers& pointers) noexcept
        : part_(pointers.cell_of(Hooks::cpu())) {}
    [[gnu::always_inline]] Part* load() const noexcept {
      return part_ != nullptr ? part_->load(Order::relaxed) : nullptr;
    }
    /// Pre: the CPU has a part.
    [[gnu::always_inline]] void store(Part* part) const noexcept {
      part_->store(part, Order::relaxed);
    }

   private:
    Cell* part_;
  };

 private:
  struct alignas(64) Own {
    Cell part;
  };
  /// Null for a number that is too large: who finds no part goes to a slow path, which says so (own_part()).
  [[gnu::always_inline]] Cell* cell_of(std::uint32_t number) noexcept {
    return number < Hooks::maximum_cpus ? &part_pointers_[number].part : nullptr;
  }

  Own part_pointers_[Hooks::maximum_cpus];
};

/// The same in memory that each CPU has for itself.
template <KernelHooks Hooks, class Config>
  requires(Config::local_slot != Config::no_local_slot)
class CpuPartPointers<Hooks, Config> {
  static_assert(LocalHooks<Hooks>,
                "local_slot needs hooks with local<slot>() and set_local<slot>()");

 public:
  using Part = CpuPart<Hooks, Config>;

  class PartPointer {
   public:
    [[gnu::always_inline]] explicit PartPointer(CpuPartPointers&) noexcept {}
    [[gnu::always_inline]] Part* load() const noexcept {
      return static_cast<Part*>(Hooks::template local<Config::local_slot>());
    }
    [[gnu::always_inline]] void store(Part* part) const noexcept {
      Hooks::template set_local<Config::local_slot>(part);
    }
  };
};

/// Takes the part from behind `pointer`, so that nobody else finds it there until put_back(). Null if it is in use.
template <class PartPointer>
[[gnu::always_inline]] inline auto* take_from(const PartPointer& pointer) noexcept {
  auto* const part = pointer.load();
  if (part != nullptr) [[likely]] {
    pointer.store(nullptr);
    compiler_fence();
  }
  return part;
}
template <class PartPointer, class Part>
[[gnu::always_inline]] inline void put_back(const PartPointer& pointer, Part* part) noexcept {
  compiler_fence();
  pointer.store(part);
}

/// The part of the CPU that runs the caller, for slow paths. Pre: interrupts are saved. Panics if there is none.
template <KernelHooks Hooks, class Part>
Part& own_part(Part* parts) noexcept {
  const std::uint32_t number = Hooks::cpu();
  require<Hooks>(number < Hooks::maximum_cpus, "cpu() < maximum_cpus");
  return parts[number];
}

/// The use of the part of the CPU that runs the caller; false, and nothing else, if that is in use already.
template <KernelHooks Hooks, class Config>
class CpuSection {
 public:
  using Part = CpuPart<Hooks, Config>;
  using Pointers = CpuPartPointers<Hooks, Config>;

  [[gnu::always_inline]] explicit CpuSection(Pointers& pointers) noexcept
      : interrupts_(Hooks::save_interrupts()), pointer_(pointers), part_(take_from(pointer_)) {}
  /// As above, for slow paths: opens a part pointer that was never opened. `parts` has one for each CPU.
  CpuSection(Pointers& pointers, Part* parts) noexcept : CpuSection(pointers) {
    if (part_ == nullptr) {
      Part& own = own_part<Hooks>(parts);
      // A handler may come in between, and open it: one exchange tells who was first.
      if (own.pointers.load(Order::relaxed) == nullptr &&
          own.pointers.exchange(&pointers, Order::relaxed) == nullptr) {
        part_ = &own;
      } else {
        part_ = take_from(pointer_);
      }
    }
  }
  /// Goes on with a section that was begun without it: `part` was taken, `interrupts` were saved.
  CpuSection(Part* part, typename Hooks::InterruptState interrupts) noexcept
      : interrupts_(interrupts), pointer_(*part->pointers.load(Order::relaxed)), part_(part) {}
  [[gnu::always_inline]] ~CpuSection() {
    if (part_ != nullptr) [[likely]] {
      put_back(pointer_, part_);
    }
    Hooks::restore_interrupts(interrupts_);
  }
  CpuSection(const CpuSection&) = delete;
  CpuSection& operator=(const CpuSection&) = delete;

  [[gnu::always_inline]] explicit operator bool() const noexcept { return part_ != nullptr; }
  [[gnu::always_inline]] Part* operator->() const noexcept { return part_; }
  [[gnu::always_inline]] Part* part() const noexcept { return part_; }

 private:
  typename Hooks::InterruptState interrupts_;
  [[no_unique_address]] typename Pointers::PartPointer pointer_;
  Part* part_;
};

}  // namespace slabmalloc
