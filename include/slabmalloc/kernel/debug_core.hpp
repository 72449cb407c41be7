// SPDX-License-Identifier: MIT
//
// DebugCore: the debug mode that heaps and object caches share: the name, the plan of failures, the
// freed blocks that each CPU keeps from reuse, contexts, and walks over all blocks.
//
//   free ─► delay ─► | newest | … | oldest | ─► release: check ─► the heap's free
//                      one queue for each CPU
//
// Invariants: D5 of each CPU (delayed_frees.hpp).
#pragma once

#include <cstddef>
#include <cstdint>

#include "slabmalloc/base/result.hpp"
#include "slabmalloc/kernel/block_checks.hpp"
#include "slabmalloc/kernel/cpu_parts.hpp"
#include "slabmalloc/kernel/delayed_frees.hpp"
#include "slabmalloc/kernel/failure_plan.hpp"
#include "slabmalloc/kernel/leak_scan.hpp"

namespace slabmalloc {

/// What `ChecksT` checks, of one heap, a `Heap` that is its friend.
/// Thread: any, in any context, where not said otherwise.
template <KernelHooks Hooks, class Config, class ChecksT>
class DebugCore {
 public:
  using Atomics = typename Config::Atomics;
  using Debug = typename Config::Debug;
  using Checks = ChecksT;
  using Block = typename Checks::Block;
  using Blocks = typename Checks::Blocks;
  using State = typename Checks::State;
  using Caller = const void*;

  constexpr DebugCore() noexcept = default;
  template <class... Arguments>
  constexpr explicit DebugCore(const Arguments&... of_checks) noexcept : checks_(of_checks...) {}

  /// The address of the client's code that calls a function of the heap, inlined there.
  [[gnu::always_inline]] static Caller caller() noexcept { return code_address(); }

  // ---- for clients -----------------------------------------------------------------------------

  /// Gives reports the heap's name. Pre: `name` outlives the heap.
  constexpr void set_name(const char* name) noexcept { checks_.set_name(name); }
  const char* name() const noexcept { return checks_.owner().name; }
  FailurePlan<Hooks, Atomics>& failure_plan() noexcept { return plan_; }
  /// The freed blocks that do not serve again yet. They count as in use. Pre: no CPU frees.
  std::size_t delayed_blocks() const noexcept {
    std::size_t blocks = 0;
    for (const Own& own : own_) {
      blocks += own.frees.size();
    }
    return blocks;
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
  /// The same for an allocation. With MayNotWait, an allocation in the middle of a section gets
  /// what its CPU keeps for handlers; a run comes from the pager alone.
  template <class Heap>
  void check_allocation(Heap& heap, Context context, bool is_run, const BlockUser& user) noexcept {
    if (context == Context::MayWait || is_run) {
      check_context(heap, context, user);
    }
  }
  /// The same for functions of the heap that may call the pager, but do not wait.
  template <class Heap>
  void check_pager_call(Heap& heap, Caller caller) noexcept {
    check_context(heap, Context::MayNotWait, block_user<Hooks>(caller));
  }

  // ---- delayed blocks --------------------------------------------------------------------------

  /// Frees all blocks that the caller's CPU delays. False if there were none, or its part is in
  /// use: then its next call does it.
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
        } else {
          own().is_flush_wanted.store(true, Order::relaxed);
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
  /// Checks those and the free ones of all pages; returns how many were damaged, with a report of
  /// each.
  template <class Heap>
  std::size_t check_blocks(Heap& heap, Caller caller) noexcept {
    const BlockUser user = block_user<Hooks>(caller);
    std::size_t damaged = 0;
    for (auto& part : heap.parts_) {
      part.zone.visit_slots([&](void* object, std::size_t bytes) noexcept {
        if (bytes > Blocks::overhead_bytes) {
          damaged += checks_.check_block(Block(object, bytes, false), user) ? 0u : 1u;
        }
      });
    }
    return damaged;
  }

  /// Calls callback(Leak) for each live block that no root leads to; returns their number. See
  /// CpuZones.
  template <class Heap, class Callback>
  std::size_t find_leaks(Heap& heap, const LeakRoot* roots, std::size_t count,
                         Callback&& callback) noexcept {
    using Slots = typename Checks::Slots;
    LeakScan<Slots, typename Heap::Pager, Blocks> scan(heap.pager_, checks_.slots(),
                                                       checks_.owner());
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

 protected:
  struct Own {
    DelayedFrees<Debug::delayed_blocks, Debug::delayed_bytes> frees;
    typename Atomics::template Cell<bool> is_flush_wanted;
  };

  /// Pre: the caller saved interrupts.
  Own& own() noexcept { return own_part<Hooks>(own_); }

  /// True if the caller's CPU delays blocks. No other CPU changes that.
  bool delays_some() noexcept {
    const InterruptGuard<Hooks> interrupts;
    return own().frees.size() != 0;
  }

  /// Calls allocate(context), and again after delayed blocks were freed if it finds no memory.
  template <class Heap, class Allocate>
  Result<void*> allocate_or_flush(Heap& heap, Context context, Allocate&& allocate) noexcept {
    // Where it would sleep until memory is free, delayed blocks come first.
    const bool sleeps = context == Context::MayWait && heap.account().waiters().is_enabled();
    Result<void*> object = allocate(sleeps ? Context::MayNotWait : context);
    if (!object && object.error() == AllocationError::OutOfMemory) {
      flush_later();
      if (flush_this_cpu(heap) || sleeps) {
        heap.slow_path_.retract_failure();
        object = allocate(context);
      }
    }
    return object;
  }
  /// Checks a block that was free until now.
  void check_free(const Block& block, const BlockUser& user) noexcept {
    const State state = block.record->state();
    if (state == State::NeverAllocated || state == State::Freed) {
      checks_.check_block(block, user);
    } else {
      checks_.report_lost_record(block, user);
    }
  }
  /// Claims and checks a live block for the free by `user`. False, with a report, if another free
  /// did so.
  bool begin_free(const Block& block, Context context, const BlockUser& user) noexcept {
    if (!block.record->change_state(State::Live, State::Freeing)) {
      checks_.report_double_free(block, user);
      return false;
    }
    checks_.check_block(block, user);
    trace_event<Hooks>(
        {HeapEvent::Kind::Free, block.begin, block.record->size(), context, user.caller, name()});
    return true;
  }

  /// Keeps `block` from reuse, and frees older ones beyond the bounds. Frees it at once in the
  /// middle of a section, if it is larger than all that a CPU delays, or if a caller waits for
  /// memory.
  template <class Heap>
  void delay(Heap& heap, const DelayedBlock& block) noexcept {
    if (heap.account().waiters().has_some()) {
      flush_this_cpu(heap);
      release(heap, block);
      return;
    }
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

  Checks checks_;
  FailurePlan<Hooks, Atomics> plan_;
  Own own_[Hooks::maximum_cpus];
};

}  // namespace slabmalloc
