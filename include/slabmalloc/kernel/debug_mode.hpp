// SPDX-License-Identifier: MIT
//
// DebugMode: what a CpuZones does beside its work while its configuration has a debug mode.
//
//   allocate ─► context, failure plan ─► the heap's allocate ─► check, record, shadow, trace
//   free     ─► find, check, record, shadow, trace ─► delayed ─► check ─► the heap's free
//
// It owns the heap's name, its plan of failures, and the freed blocks that each CPU keeps from
// reuse. A free in the middle of a section, as in an NMI, is checked as all others are, but its
// block is not delayed.
//
// Invariants: D1 to D4 of each block (block_record.hpp), D5 of each CPU (delayed_frees.hpp).
#pragma once

#include <cstddef>
#include <cstdint>

#include "slabmalloc/base/result.hpp"
#include "slabmalloc/kernel/block_checks.hpp"
#include "slabmalloc/kernel/block_lookup.hpp"
#include "slabmalloc/kernel/cpu_parts.hpp"
#include "slabmalloc/kernel/debug_frames.hpp"
#include "slabmalloc/kernel/delayed_frees.hpp"
#include "slabmalloc/kernel/failure_plan.hpp"
#include "slabmalloc/kernel/leak_scan.hpp"

namespace slabmalloc {

/// Without a debug mode: nothing, in no bytes.
template <KernelHooks Hooks, class Zone, class Config>
class DebugMode {
 public:
  struct Caller {};

  template <class Life>
  using Frames = Life;

  [[gnu::always_inline]] static Caller caller() noexcept { return {}; }
  [[gnu::always_inline]] static constexpr Layout extend(Layout layout) noexcept { return layout; }
  template <class Life>
  constexpr Life frames(Life life) noexcept {
    return life;
  }
};

/// The debug mode of one heap, a `Heap` that is its friend.
/// Thread: any, in any context, where not said otherwise.
template <KernelHooks Hooks, class Zone, class Config>
  requires(Config::Debug::is_on)
class DebugMode<Hooks, Zone, Config> {
 public:
  using Atomics = typename Config::Atomics;
  using Debug = typename Config::Debug;
  using SizeClasses = typename Config::SizeClasses;
  using Checks = BlockChecks<Hooks, Zone, Atomics>;
  using Block = typename Checks::Block;
  using Blocks = typename Checks::Blocks;
  using State = typename Checks::State;
  using Caller = const void*;
  template <class Life>
  using Frames = DebugFrames<Hooks, Life>;

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

  /// The address of the client's code that calls a function of the heap, inlined there.
  [[gnu::always_inline]] static Caller caller() noexcept { return code_address(); }
  /// The life of the heap's frames.
  template <class Life>
  constexpr Frames<Life> frames(Life life) noexcept {
    return {life, checks_.owner()};
  }
  /// The layout of the slot of a block. A layout that is too large stays.
  static constexpr Layout extend(Layout layout) noexcept {
    return Blocks::extend(layout).value_or(layout);
  }

  // ---- for clients -----------------------------------------------------------------------------

  /// Gives reports the heap's name. Pre: `name` outlives the heap.
  constexpr void set_name(const char* name) noexcept { checks_.set_name(name); }
  const char* name() const noexcept { return checks_.owner().name; }
  FailurePlan<Atomics>& failure_plan() noexcept { return plan_; }
  /// The freed blocks that do not serve again yet. They count as in use. Pre: no CPU frees.
  std::size_t delayed_blocks() const noexcept {
    std::size_t blocks = 0;
    for (const Own& own : own_) {
      blocks += own.frees.size();
    }
    return blocks;
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
    check_context(heap, context, user);
    deallocate_run(heap, object, layout, context, user);
  }

  /// By the address alone. Pre: the pager finds blocks.
  template <class Heap>
  [[gnu::noinline]] void deallocate(Heap& heap, void* object, Context context,
                                    Caller caller) noexcept {
    const BlockUser user = block_user<Hooks>(caller);
    const Found found = find_any(heap, object, user);
    if (found.block.is_run) {
      check_context(heap, context, user);
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

  // ---- contexts --------------------------------------------------------------------------------

  /// Reports WrongContext if `context` may call the pager, and the caller interrupts a section or
  /// may not sleep as `context` says. False then.
  template <class Heap>
  bool check_context(Heap& heap, Context context, const BlockUser& user) noexcept {
    if (!may_call_pager(context)) {
      return true;
    }
    bool is_nested = false;
    {
      const typename Heap::Section part = heap.parts_.enter(PartWait::Unbounded);
      is_nested = !part;
    }
    const bool is_right = !is_nested && (context != Context::MayWait || may_sleep<Hooks>());
    if (!is_right) {
      checks_.report_context(user);
    }
    return is_right;
  }
  /// The same for functions of the heap that may call the pager, but do not wait.
  template <class Heap>
  void check_pager_call(Heap& heap, Caller caller) noexcept {
    check_context(heap, Context::MayNotWait, block_user<Hooks>(caller));
  }

  // ---- delayed blocks --------------------------------------------------------------------------

  /// Frees all blocks that the caller's CPU delays. False if there were none, or its part is in
  /// use.
  template <class Heap>
  bool flush_this_cpu(Heap& heap) noexcept {
    // Others may delay more meanwhile.
    std::uint32_t count = 0;
    for (; count <= Debug::delayed_blocks; ++count) {
      DelayedBlock block;
      {
        const typename Heap::Section part = heap.parts_.enter();
        if (part) {
          block = own().frees.pop();
        }
      }
      if (block.address == nullptr) {
        break;
      }
      release(heap, block);
    }
    return count != 0;
  }
  /// Makes each CPU do so in its next call. An idle CPU has none, and others leave delayed blocks
  /// alone.
  void flush_later() noexcept {
    for (Own& own : own_) {
      own.is_flush_wanted.store(true, Order::relaxed);
    }
  }
  /// See CpuZones. Post: an idle CPU delays no block.
  template <class Heap>
  bool enter_idle(Heap& heap) noexcept {
    bool is_idle = false;
    do {
      if (delays_some()) {
        flush_this_cpu(heap);
      }
      is_idle = heap.slow_path_.enter_idle();
      // A handler may delay a block between the two.
    } while (is_idle && delays_some());
    return is_idle;
  }
  /// Frees the delayed blocks of all CPUs. Pre: nobody else uses the heap.
  template <class Heap>
  void flush_all(Heap& heap) noexcept {
    for (Own& own : own_) {
      for (DelayedBlock block = own.frees.pop(); block.address != nullptr;
           block = own.frees.pop()) {
        release(heap, block);
      }
    }
  }

  // ---- all blocks ------------------------------------------------------------------------------

  /// Calls visitor(Block) for each block of the size classes, live, delayed, or claimed for the
  /// next allocations. Pre: nobody else uses the heap. Cost: O(pages).
  template <class Heap, class Visitor>
  void for_each_block(Heap& heap, Visitor&& visitor) noexcept {
    for (auto& part : heap.parts_) {
      part.zone.visit_live([&](void* object, std::size_t bytes) noexcept {
        if (bytes > Blocks::overhead_bytes) {
          visitor(Block(object, bytes, false));
        }
      });
    }
  }
  /// Checks those; returns how many were damaged, with a report of each.
  template <class Heap>
  std::size_t check_blocks(Heap& heap, Caller caller) noexcept {
    const BlockUser user = block_user<Hooks>(caller);
    std::size_t damaged = 0;
    for_each_block(
        heap, [&](const Block& block) { damaged += checks_.check_block(block, user) ? 0u : 1u; });
    return damaged;
  }

  /// Calls callback(Leak) for each live block that no root leads to; returns their number. See
  /// CpuZones.
  template <class Heap, class Callback>
  std::size_t find_leaks(Heap& heap, const LeakRoot* roots, std::size_t count,
                         Callback&& callback) noexcept {
    LeakScan<Zone, typename Heap::Pager, Atomics> scan(heap.pager_, checks_.owner());
    for (std::size_t number = 0; number < count; ++number) {
      scan.mark(roots[number]);
    }
    std::size_t leaks = 0;
    for_each_block(heap, [&](const Block& block) {
      if (scan.sweep(block)) {
        ++leaks;
        callback(Leak{block.begin, block.record->size(), name(), block.record->allocated()});
      }
    });
    scan.sweep_runs();
    return leaks;
  }

  /// D5, or null. Pre: no CPU allocates or frees.
  const char* validate() const noexcept {
    for (const Own& own : own_) {
      if (const char* const broken = own.frees.validate()) {
        return broken;
      }
    }
    return nullptr;
  }

 private:
  struct Own {
    DelayedFrees<Debug::delayed_blocks, Debug::delayed_bytes> frees;
    typename Atomics::template Cell<bool> is_flush_wanted;
  };
  struct Found {
    Block block;
    std::uint32_t index = SizeClasses::no_class;  ///< Of a run, no_class.
  };

  /// Pre: the caller saved interrupts.
  Own& own() noexcept { return own_part<Hooks>(own_); }

  /// True if the caller's CPU delays blocks. No other CPU changes that.
  bool delays_some() noexcept {
    const InterruptGuard<Hooks> interrupts;
    return own().frees.size() != 0;
  }

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
      if (may_call_pager(context)) {
        const Found found = find_any(heap, object, user, size);
        end_use(heap, found.block, found.index, layout_of(found.block), context, user);
        return;
      }
    }
    end_use(heap, checks_.find_run(object, extended.size(), size, false, user),
            SizeClasses::no_class, extended, context, user);
  }

  template <class Heap>
  Result<void*> allocate_checked(Heap& heap, Layout layout, Context context, Caller caller,
                                 typename Heap::Tag tag) noexcept {
    const BlockUser user = block_user<Hooks>(caller);
    check_context(heap, context, user);
    flush_if_wanted(heap);
    if (plan_.is_due()) {
      return AllocationError::OutOfMemory;
    }
    if (!Blocks::extend(layout)) {
      return AllocationError::InvalidLayout;
    }
    const std::uint32_t index = Zone::class_for(extend(layout));
    const bool is_run = index == SizeClasses::no_class;
    const Layout extended = is_run ? extend_run<Heap>(layout) : extend(layout);
    // Where it would sleep until memory is free, delayed blocks come first.
    const bool sleeps = context == Context::MayWait && heap.account().waiters().is_enabled();
    Result<void*> object =
        heap.allocate_plain(extended, sleeps ? Context::MayNotWait : context, tag);
    if (!object && object.error() == AllocationError::OutOfMemory) {
      flush_later();
      if (flush_this_cpu(heap) || sleeps) {
        heap.slow_path_.retract_failure();
        object = heap.allocate_plain(extended, context, tag);
      }
    }
    if (object) {
      const std::size_t bytes = is_run ? extended.size() : SizeClasses::size_of(index);
      begin_use(Block(object.value(), bytes, is_run), Blocks::size_of(layout), user);
    }
    return object;
  }

  /// Hands a block that was free to a client.
  void begin_use(const Block& block, std::size_t size, const BlockUser& user) noexcept {
    if (!block.is_run) {
      const State state = block.record->state();
      if (state == State::NeverAllocated || state == State::Freed) {
        checks_.check_block(block, user);
      } else {
        checks_.report_lost_record(block, user);
      }
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
    if (!block) {
      return;
    }
    if (!block.record->change_state(State::Live, State::Freeing)) {
      checks_.report_double_free(block, user);
      return;
    }
    checks_.check_block(block, user);
    const std::size_t size = block.record->size();
    trace_event<Hooks>({HeapEvent::Kind::Free, block.begin, size, context, user.caller, name()});
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
    flush_if_wanted(heap);
    delay(heap, {block.begin, index, static_cast<std::uint32_t>(block.bytes)});
  }

  /// Keeps `block` from reuse, and frees older ones beyond the bounds. Frees it at once in the
  /// middle of a section, or if it is larger than all that a CPU delays.
  template <class Heap>
  void delay(Heap& heap, const DelayedBlock& block) noexcept {
    DelayedBlock oldest = block;
    do {
      oldest = block;
      {
        const typename Heap::Section part = heap.parts_.enter();
        if (part && own().frees.has_room_for(block.bytes)) {
          own().frees.push(block);
          return;
        }
        if (part && own().frees.size() != 0) {
          oldest = own().frees.pop();
        }
      }
      release(heap, oldest);
    } while (oldest.address != block.address);
  }
  /// Frees a block that nobody delays any more.
  template <class Heap>
  void release(Heap& heap, const DelayedBlock& delayed) noexcept {
    const Block block(delayed.address, delayed.bytes, false);
    if (block.record->state() == State::Freed) {
      checks_.check_block(block, {});
    } else {
      checks_.report_lost_record(block, {});
      block.record->set_state(State::Freed);
    }
    heap.deallocate_of(typename Heap::Numbered{delayed.index}, delayed.address);
  }
  template <class Heap>
  void flush_if_wanted(Heap& heap) noexcept {
    bool is_wanted = false;
    {
      const InterruptGuard<Hooks> interrupts;
      auto& wanted = own().is_flush_wanted;
      is_wanted = wanted.load(Order::relaxed);
      if (is_wanted) {
        wanted.store(false, Order::relaxed);
      }
    }
    if (is_wanted) {
      flush_this_cpu(heap);
    }
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

  Checks checks_;
  FailurePlan<Atomics> plan_;
  Own own_[Hooks::maximum_cpus];
};

}  // namespace slabmalloc
