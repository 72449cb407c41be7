// SPDX-License-Identifier: MIT
//
// HeapTags: what a CpuZones does beside its work while its configuration has tags. A tag is a small
// number for a client of the heap, such as a driver: blocks are charged to it (tag_accounts.hpp).
//
//   allocate ─► room? ─► the heap's allocate ─► charge the tag, write it beside the block
//   free     ─► find the tag, write 0 ─► discharge ─► the heap's free
//
// Where the tag of a block lies:
//
//   object   in a byte of its page (tagged_page.hpp)
//   run      in its word at the pager (OwnerPager), as the address of the tag's account
//
// An exchange reads the tag and writes 0. So of two frees of one object one alone discharges. The
// pager tells the word of a run as it takes the run back. A run that waits (run_supply.hpp) stays
// charged, as it is part of the heap's limit, too. So an allocation gives waiting runs back before
// the limit of its tag refuses it, if its context may call the pager.
//
// A run whose word is another heap's, or nobody's, is no run of this heap. The word is asked before
// the pager takes a run back, so that neither heap's accounts change.
//
// Objects that a CPU keeps for handlers, and those that a debug mode keeps from reuse, have no tag.
//
// Invariant, beside that of the accounts, with its line in validate():
//   X2  bytes of all tags = bytes of the slots with a tag + bytes of runs
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "slabmalloc/base/misuse.hpp"
#include "slabmalloc/base/result.hpp"
#include "slabmalloc/classes/slot_geometry.hpp"
#include "slabmalloc/kernel/block_lookup.hpp"
#include "slabmalloc/kernel/cpu_parts.hpp"
#include "slabmalloc/kernel/run_supply.hpp"
#include "slabmalloc/kernel/tag_accounts.hpp"
#include "slabmalloc/page/page_header.hpp"

namespace slabmalloc {

/// Gives the runs of a heap with tags back.
template <class Accounts>
struct TaggedRunReturn {
  Accounts* accounts = nullptr;

  template <class PagerT>
  bool operator()(PagerT& pager, void* run, Layout layout, std::size_t bytes,
                  Context) const noexcept {
    if constexpr (OwnerPager<PagerT>) {
      std::uintptr_t word = 0;
      if (run == nullptr || !check_owner(pager, run) ||
          !pager.deallocate_run(run, layout.size(), layout.align(), word)) {
        return false;
      }
      const std::uint32_t tag = accounts->tag_of(word);
      if (tag != Accounts::no_tag) {
        accounts->discharge(tag, bytes);
      }
      return true;
    } else {
      return PagerRuns<PagerT>::deallocate(&pager, run, layout);
    }
  }

  /// False, and a report, for a run of the pager that is no run of this heap. Where no run is, the
  /// pager will find that.
  template <OwnerPager PagerT>
  bool check_owner(PagerT& pager, void* run) const noexcept {
    const std::uintptr_t word = pager.owner(run);
    bool is_ours = accounts->has_word(word);
    if (word == 0) {
      is_ours = true;
      if constexpr (FindingPager<PagerT>) {
        is_ours = pager.block_at(run).use != PagerUse::Run;
      }
    }
    if (!is_ours) [[unlikely]] {
      report_misuse({MisuseKind::MismatchedFree, run, 0, 0, run});
    }
    return is_ours;
  }
};

/// Without tags: nothing, in no bytes.
template <KernelHooks Hooks, class Config>
class HeapTags {
 public:
  struct Tag {};
  using RunReturn = PlainRunReturn;

  static constexpr bool are_on = false;

  constexpr RunReturn run_return() noexcept { return {}; }
};

/// The tags of one heap, a `Heap` that is its friend.
/// Thread: any, in any context, where not said otherwise.
template <KernelHooks Hooks, class Config>
  requires(Config::tags != 0)
class HeapTags<Hooks, Config> {
  static_assert(Config::tags <= 255, "tags is from 1 to 255, or 0: none");

 public:
  using Tag = std::uint32_t;
  using Atomics = typename Config::Atomics;
  using SizeClasses = typename Config::SizeClasses;
  using Accounts = TagAccounts<Hooks, Atomics, Config::tags>;
  using RunReturn = TaggedRunReturn<Accounts>;

  static constexpr bool are_on = true;

  constexpr RunReturn run_return() noexcept { return {&accounts_}; }
  constexpr Accounts& accounts() noexcept { return accounts_; }
  const Accounts& accounts() const noexcept { return accounts_; }

  /// Panics unless the heap has `tag`.
  static void require_tag(std::uint32_t tag) noexcept {
    require<Hooks>(tag < Config::tags, "a tag < Config::tags");
  }

  /// A block of `layout`, which has the record of a debug mode if there is one. Fails: as the heap
  /// does; OutOfMemory beyond the tag's limit.
  template <class Heap>
  [[gnu::noinline]] Result<void*> allocate(Heap& heap, Layout layout, Context context,
                                           Tag tag) noexcept {
    using Runs = typename Heap::Memory::Runs;
    static_assert(!Runs::exist || OwnerPager<typename Heap::Pager>,
                  "a heap with tags keeps those of its runs at the pager, which must be an "
                  "OwnerPager: FrameAllocator or NodeFrames with has_owners, or one without runs");
    require_tag(tag);
    const std::uint32_t index = Heap::class_of_slot(layout);
    const bool is_run = index == SizeClasses::no_class;
    if (is_run && !Runs::exist) {
      return AllocationError::InvalidLayout;
    }
    const std::size_t bytes = is_run ? Runs::charged_bytes(layout) : SizeClasses::size_of(index);
    if (!make_room(heap, tag, context, [&] { return accounts_.has_room(tag, bytes); })) {
      return heap.slow_path_.out_of_memory();
    }
    const Result<void*> block = heap.allocate_untagged(layout, context);
    if (!block) {
      return block;
    }
    // Others may have taken the room meanwhile.
    const bool is_charged =
        make_room(heap, tag, context, [&] { return accounts_.charge(tag, bytes); });
    if (!is_run && is_charged) {
      put<Heap>(block.value(), index, tag);
    } else if (!is_run) {
      heap.deallocate_of(typename Heap::Numbered{index}, block.value());
    } else if constexpr (OwnerPager<typename Heap::Pager>) {
      heap.pager_.set_owner(block.value(), accounts_.word_of(is_charged ? tag : accounts_.no_tag));
      if (!is_charged) {
        heap.memory_.runs().deallocate(block.value(), layout, context);
      }
    }
    return is_charged ? block : heap.slow_path_.out_of_memory();
  }

  /// Discharges the object of class `index` at `object`, which the caller then frees. False after
  /// misuse, and then the caller frees nothing.
  /// Fails: ForeignPointer, SizeMismatch, MisalignedFree to the misuse hook; MismatchedFree if the
  /// object is another heap's, whose accounts these are not. The free itself finds a double one.
  template <class Heap>
  bool take(Heap& heap, void* object, std::uint32_t index) noexcept {
    bool is_ours = object == nullptr;
    Heap::Zone::with_slot(
        object, index,
        [&]<class Page>(auto* page, std::uint32_t slot, const SlotGeometry& geometry) {
          is_ours = heap.is_own_page(page);
          if (!is_ours) [[unlikely]] {
            report_misuse({MisuseKind::MismatchedFree, object, geometry.object_size, slot, object});
            return;
          }
          const UpdateGuard<Hooks, Atomics> guard;
          discharge(Page::exchange_tag(page, geometry.words, slot, 0), geometry.object_size);
        });
    return is_ours;
  }

  /// False, and a report, if the run at `run` is another heap's. Pre: the pager finds blocks.
  template <class Heap>
  bool check_run(Heap& heap, void* run) noexcept {
    if constexpr (OwnerPager<typename Heap::Pager>) {
      return run_return().check_owner(heap.pager_, run);
    } else {
      return true;
    }
  }

  /// The tag of a block of this heap at `object`; 0 if it has none. Pre: the pager finds blocks.
  template <class Heap>
  Tag tag_of(const Heap& heap, void* object, FoundBlock::Kind kind,
             std::uint32_t index) const noexcept {
    Tag tag = 0;
    if (kind == FoundBlock::Kind::Object) {
      Heap::Zone::with_slot(
          object, index,
          [&]<class Page>(auto* page, std::uint32_t slot, const SlotGeometry& geometry) {
            const std::uint32_t code = Page::tag_code(page, geometry.words, slot);
            tag = is_tag(code) ? code - 1 : 0;
          });
    } else if constexpr (OwnerPager<typename Heap::Pager>) {
      const std::uint32_t of_run = accounts_.tag_of(heap.pager_.owner(object));
      tag = of_run != Accounts::no_tag ? of_run : 0;
    }
    return tag;
  }

  /// Discharges all objects: their pages go. Runs stay charged. Pre: nobody else uses the heap.
  template <class Heap>
  void release_objects(Heap& heap) noexcept {
    for (auto& part : heap.parts_) {
      part.zone.visit_live([&](void* object, std::size_t bytes) noexcept {
        take(heap, object, SizeClasses::index_for(bytes));
      });
    }
  }

  /// X1, X2, or null. Pre: no CPU allocates or frees. Cost: O(pages).
  template <class Heap>
  const char* validate(const Heap& heap) const noexcept {
    std::size_t bytes = heap.run_bytes();
    for (const auto& part : heap.parts_) {
      part.zone.visit_live([&](void* object, std::size_t object_bytes) noexcept {
        Heap::Zone::with_slot(
            object, SizeClasses::index_for(object_bytes),
            [&]<class Page>(auto* page, std::uint32_t slot, const SlotGeometry& geometry) {
              bytes += Page::tag_code(page, geometry.words, slot) != 0 ? object_bytes : 0;
            });
      });
    }
    const char* const broken = accounts_.validate();
    if (broken != nullptr || bytes == accounts_.bytes()) {
      return broken;
    }
    return "X2: bytes of all tags = bytes of the slots with a tag + bytes of runs";
  }

 private:
  /// True if the byte of a slot is that of a tag. A write that left the last object of the page may
  /// have made it another one.
  static constexpr bool is_tag(std::uint32_t code) noexcept { return code - 1 < Config::tags; }
  void discharge(std::uint32_t code, std::size_t bytes) noexcept {
    if (is_tag(code)) {
      accounts_.discharge(code - 1, bytes);
    }
  }

  template <class Heap>
  void put(void* object, std::uint32_t index, Tag tag) noexcept {
    Heap::Zone::with_slot(
        object, index,
        [&]<class Page>(auto* page, std::uint32_t slot, const SlotGeometry& geometry) {
          const UpdateGuard<Hooks, Atomics> guard;
          // A double free may have freed the last block here just after it looked for the tag.
          discharge(Page::exchange_tag(page, geometry.words, slot, tag + 1), geometry.object_size);
        });
  }

  /// True once `fits()`. If need be, runs that wait go back, and the callback may free blocks;
  /// neither in the middle of a section.
  template <class Heap, class Fits>
  bool make_room(Heap& heap, Tag tag, Context context, Fits&& fits) noexcept {
    if (fits()) [[likely]] {
      return true;
    }
    if (!may_call_pager(context) || !heap.parts_.enter(PartWait::Unbounded)) {
      return accounts_.refuse(tag);
    }
    // Bounded by the runs that wait now: others may add more.
    const std::size_t waiting =
        context == Context::MayWait ? heap.memory_.runs().deferred_bytes() : 1;
    for (std::size_t given = 0; given < waiting;) {
      const std::size_t run = heap.memory_.give_back_run();
      if (run == 0) {
        break;
      }
      if (fits()) {
        return true;
      }
      given += run;
    }
    return (accounts_.call_back(tag) && fits()) || accounts_.refuse(tag);
  }

  Accounts accounts_;
};

}  // namespace slabmalloc
