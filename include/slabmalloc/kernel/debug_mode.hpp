// SPDX-License-Identifier: MIT
//
// DebugMode: what a CpuZones does beside its work while its configuration has a debug mode.
//
//   allocate ─► context, failure plan ─► the heap's allocate ─► check, record, shadow, trace
//   free     ─► find, check, record, shadow, trace ─► delayed ─► check ─► the heap's free
//
// DebugCore has what object caches share (debug_core.hpp); these have a mode of their own
// (debug_cache.hpp). A free in the middle of a section, as in an NMI, is checked as all others are,
// but its block is not delayed.
//
// Invariants: D1 to D4 of each block (block_record.hpp), and those of DebugCore.
#pragma once

#include <cstddef>
#include <cstdint>

#include "slabmalloc/base/result.hpp"
#include "slabmalloc/kernel/block_lookup.hpp"
#include "slabmalloc/kernel/debug_core.hpp"
#include "slabmalloc/kernel/debug_frames.hpp"

namespace slabmalloc {

/// Without a debug mode: nothing, in no bytes.
template <KernelHooks Hooks, class Zone, class Config>
class DebugMode {
 public:
  struct Caller {};

  template <class Life>
  using Frames = Life;

  template <class Life>
  [[gnu::always_inline]] constexpr explicit DebugMode(const Life&) noexcept {}

  [[gnu::always_inline]] static Caller caller() noexcept { return {}; }
  [[gnu::always_inline]] static constexpr Layout extend(Layout layout) noexcept { return layout; }
  template <class Life>
  constexpr Life frames(Life life) noexcept {
    return life;
  }
};

template <KernelHooks Hooks, class Zone, class Atomics>
using HeapChecks = BlockChecks<Hooks, ClassSlots<Zone>, BlockLayout<Atomics>>;

/// The debug mode of one heap, a `Heap` that is its friend.
/// Thread: any, in any context, where not said otherwise.
template <KernelHooks Hooks, class Zone, class Config>
  requires(Config::Debug::is_on && Config::SizeClasses::max_size != 0)
class DebugMode<Hooks, Zone, Config>
    : public DebugCore<Hooks, Config, HeapChecks<Hooks, Zone, typename Config::Atomics>> {
  using Core = DebugCore<Hooks, Config, HeapChecks<Hooks, Zone, typename Config::Atomics>>;

 public:
  using SizeClasses = typename Config::SizeClasses;
  using Core::name;
  using typename Core::Block;
  using typename Core::Blocks;
  using typename Core::Caller;
  using typename Core::Checks;
  using typename Core::State;
  template <class Life>
  using Frames = DebugFrames<Hooks, Life, Checks>;

  static_assert(
      [] {
        for (std::uint32_t index = 0; index < SizeClasses::count; ++index) {
          const std::size_t bytes = SizeClasses::size_of(index);
          if (bytes > Blocks::overhead_bytes && bytes % alignof(typename Blocks::Record) != 0) {
            return false;
          }
        }
        return SizeClasses::max_size > Blocks::overhead_bytes;
      }(),
      "a debug mode keeps a record behind each block: size classes are multiples of a pointer's "
      "alignment");

  template <class Life>
  constexpr explicit DebugMode(const Life&) noexcept {}

  /// The life of the heap's frames.
  template <class Life>
  constexpr Frames<Life> frames(Life life) noexcept {
    return {life, checks_};
  }
  /// The layout of the slot of a block. A layout that is too large stays.
  static constexpr Layout extend(Layout layout) noexcept {
    return Blocks::extend(layout).value_or(layout);
  }

  // ---- allocation ------------------------------------------------------------------------------

  template <class Heap>
  [[gnu::noinline]] Result<void*> allocate(Heap& heap, Layout layout, Context context,
                                           Caller caller, typename Heap::Tag tag) noexcept {
    const Result<void*> result = allocate_checked(heap, layout, context, caller, tag);
    trace_event<Hooks>({HeapEvent::Kind::Allocate, result.value_or(nullptr), layout.size(), context,
                        caller, name()});
    return result;
  }

  // ---- free ------------------------------------------------------------------------------------

  template <class Heap>
  [[gnu::noinline]] void deallocate(Heap& heap, void* object, Layout layout, Context context,
                                    Caller caller) noexcept {
    if (object == nullptr) {
      return;
    }
    const BlockUser user = block_user<Hooks>(caller);
    const std::uint32_t index = Zone::class_for(extend(layout));
    const std::size_t size = Blocks::size_of(layout);
    if (index != SizeClasses::no_class) {
      const Block block = checks_.find(object, index, size, user);
      end_use(heap, block, index, layout, context, user);
      return;
    }
    this->check_context(heap, context, user);
    deallocate_run(heap, object, layout, context, user);
  }

  /// By the address alone. Pre: the pager finds blocks.
  template <class Heap>
  [[gnu::noinline]] void deallocate(Heap& heap, void* object, Context context,
                                    Caller caller) noexcept {
    const BlockUser user = block_user<Hooks>(caller);
    const Found found = find_any(heap, object, user);
    if (found.block.is_run) {
      this->check_context(heap, context, user);
    }
    end_use(heap, found.block, found.index, layout_of(found.block), context, user);
  }

  /// The bytes that the client of `object` asked for; 0 after misuse. Pre: the pager finds blocks.
  template <class Heap>
  [[gnu::noinline]] std::size_t usable_size(Heap& heap, void* object, Caller caller) noexcept {
    const Found found = find_any(heap, object, block_user<Hooks>(caller));
    return found.block ? found.block.record->size() : 0;
  }

  /// See CpuZones. Pre: `object` is not null, and the pager finds blocks.
  template <class Heap>
  [[gnu::noinline]] Result<void*> reallocate(Heap& heap, void* object, Layout layout,
                                             Context context, Caller caller) noexcept {
    const BlockUser user = block_user<Hooks>(caller);
    const Found found = find_any(heap, object, user);
    const Block& block = found.block;
    if (!block) {
      return AllocationError::InvalidLayout;
    }
    checks_.check_block(block, user);
    const std::uint32_t index = Zone::class_for(extend(layout));
    const bool stays =
        index == found.index && (!block.is_run || (extend_run<Heap>(layout).size() == block.bytes &&
                                                   is_aligned(object, layout.align())));
    if (stays) {
      resize(block, Blocks::size_of(layout));
      return object;
    }
    const std::size_t size = block.record->size();
    using Kind = FoundBlock::Kind;
    const Result<void*> moved =
        allocate(heap, layout, context, caller,
                 heap.tag_of(object, block.is_run ? Kind::Run : Kind::Object, found.index));
    if (moved) {
      __builtin_memcpy(moved.value(), object, size < layout.size() ? size : layout.size());
      end_use(heap, block, found.index, layout_of(block), context, user);
    }
    return moved;
  }

 private:
  using Core::checks_;
  struct Found {
    Block block;
    std::uint32_t index = SizeClasses::no_class;  ///< Of a run, no_class.
  };

  static bool is_aligned(const void* object,
                         std::size_t align = alignof(typename Blocks::Record)) noexcept {
    return reinterpret_cast<std::uintptr_t>(object) % align == 0;
  }
  /// The layout of the run for a block of `layout`.
  template <class Heap>
  static constexpr Layout extend_run(Layout layout) noexcept {
    std::size_t unit = alignof(typename Blocks::Record);
    if constexpr (requires { Heap::Pager::base_bytes; }) {
      unit = Heap::Pager::base_bytes;
    }
    return Blocks::extend_run(layout, unit).value_or(layout);
  }
  static Layout layout_of(const Block& block) noexcept {
    return Layout::from_size_align(block.bytes, 1).value_or({});
  }

  /// Frees a run of which the client gives the layout.
  template <class Heap>
  void deallocate_run(Heap& heap, void* object, Layout layout, Context context,
                      const BlockUser& user) noexcept {
    const Layout extended = extend_run<Heap>(layout);
    const std::size_t size = Blocks::size_of(layout);
    if (!Heap::Memory::Runs::exist || !is_aligned(object)) {
      heap.memory_.runs().deallocate(object, extended, context);  // It reports.
      return;
    }
    if constexpr (FindingPager<typename Heap::Pager>) {
      if (may_call_pager(context) || takes_in_handlers(heap.pager_, object)) {
        const Found found = find_any(heap, object, user, size);
        end_use(heap, found.block, found.index, layout_of(found.block), context, user);
        return;
      }
    }
    // The record lies behind the run, so a size that no run of the heap can have is not believed.
    if (extended.size() > heap.memory_.runs().bytes()) {
      checks_.report({MisuseKind::ForeignPointer, object, extended.size(), 0}, user);
      return;
    }
    end_use(heap, checks_.find_run(object, extended.size(), size, false, user),
            SizeClasses::no_class, extended, context, user);
  }

  template <class Heap>
  Result<void*> allocate_checked(Heap& heap, Layout layout, Context context, Caller caller,
                                 typename Heap::Tag tag) noexcept {
    const BlockUser user = block_user<Hooks>(caller);
    const std::uint32_t index = Zone::class_for(extend(layout));
    const bool is_run = index == SizeClasses::no_class;
    this->check_allocation(heap, context, is_run, user);
    this->flush_if_wanted(heap);
    if (this->plan_.is_due()) {
      return AllocationError::OutOfMemory;
    }
    if (!Blocks::extend(layout)) {
      return AllocationError::InvalidLayout;
    }
    const Layout extended = is_run ? extend_run<Heap>(layout) : extend(layout);
    const Result<void*> object = this->allocate_or_flush(
        heap, context, [&](Context one) { return heap.allocate_plain(extended, one, tag); });
    if (object) {
      const std::size_t bytes = is_run ? extended.size() : SizeClasses::size_of(index);
      begin_use(Block(object.value(), bytes, is_run), Blocks::size_of(layout), user);
    }
    return object;
  }

  /// Hands a block that was free to a client.
  void begin_use(const Block& block, std::size_t size, const BlockUser& user) noexcept {
    if (!block.is_run) {
      this->check_free(block, user);
    }
    __builtin_memset(block.begin + size, red_byte, block.room() - size);
    block.record->begin_use(&checks_.owner(), size, user);
    if (block.is_run) {
      poison_shadow<Hooks>(block.begin + size, block.bytes - size);
    }
    unpoison_shadow<Hooks>(block.begin, size);
  }
  void resize(const Block& block, std::size_t size) noexcept {
    block.record->set_size(size);
    __builtin_memset(block.begin + size, red_byte, block.room() - size);
    poison_shadow<Hooks>(block.begin + size, block.room() - size);
    unpoison_shadow<Hooks>(block.begin, size);
  }

  /// Ends the use of a live block of class `index`, or of a run that the pager knows by `layout`;
  /// of none it does nothing.
  template <class Heap>
  void end_use(Heap& heap, const Block& block, std::uint32_t index, Layout layout, Context context,
               const BlockUser& user) noexcept {
    if (!block || !this->begin_free(block, context, user)) {
      return;
    }
    const std::size_t size = block.record->size();
    if (block.is_run) {
      block.record->end_use(user);
      unpoison_shadow<Hooks>(block.begin, block.bytes);
      heap.memory_.runs().deallocate(block.begin, layout, context);
      return;
    }
    if constexpr (Heap::has_tags) {
      heap.tags_.take(heap, block.begin, index);
    }
    __builtin_memset(block.begin, free_byte, block.room());
    block.record->end_use(user);
    poison_shadow<Hooks>(block.begin, size);
    this->flush_if_wanted(heap);
    this->delay(heap, {block.begin, index, static_cast<std::uint32_t>(block.bytes)});
  }

  /// The live block or run at `object`, of `size` if that is known; none for a null pointer or
  /// after a report.
  template <class Heap>
  Found find_any(Heap& heap, void* object, const BlockUser& user,
                 std::size_t size = Checks::any_size) noexcept {
    if (object == nullptr) {
      return {};
    }
    const FoundBlock found = find_block<Zone>(
        heap.pager_, object, [&](const Misuse& misuse) { checks_.report(misuse, user); });
    if (found.kind == FoundBlock::Kind::Object) {
      return {checks_.find(object, found.index, size, user), found.index};
    }
    if (found.kind == FoundBlock::Kind::Run && is_aligned(object)) {
      return {checks_.find_run(object, found.bytes, size, true, user), SizeClasses::no_class};
    }
    return {};
  }
};

}  // namespace slabmalloc
