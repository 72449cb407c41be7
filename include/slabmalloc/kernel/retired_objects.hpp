// SPDX-License-Identifier: MIT
//
// RetiredObjects: frees objects of a heap or cache after a grace period, since readers may still
// look at them (kfree_rcu).
//
//   struct Route { …; RetiredLink retired; };
//   static constexpr RetiredKind route_kind = RetiredKind::of<Route>(offsetof(Route, retired));
//   constinit RetiredObjects retired(heap);
//   …
//   unlink(route);                              // no reader finds it from here on
//   retired.retire(route, route_kind);          // any context, no memory, no failure
//
//   retire(object, kind) ────── link in the object ──────────────┐
//   retire(object, layout) ──► open block of pointers ──is full──┴─► GraceList ──► heap: deallocate
//                                  one for each CPU                  one for each CPU
//
// Readers may read a retired object, so nothing is written to it but its RetiredLink. An object
// without one goes into a block of pointers, which the heap supplies. Without memory for a block
// the caller waits for a grace period.
//
// Objects are freed a few at a time: by retire() itself where the context allows it, by slow paths
// (CpuZones::set_deferred_work), by reclaim, and by idle loops. Each CPU has its own part, so CPUs
// that retire objects share nothing.
//
// Each part counts its objects from before they enter it until they are free. So drain() knows of
// those that another CPU has taken out to free them, or to add to their block.
//
// Invariants, beside that of the lists (V1), with their lines in validate():
//   V2  an open block holds 1 to block_entries - 1 objects
//   V3  unfinished = 0 exactly if the list is empty and no block is open
#pragma once

#include <cstddef>
#include <cstdint>
#include <new>

#include "slabmalloc/base/layout.hpp"
#include "slabmalloc/base/result.hpp"
#include "slabmalloc/kernel/cpu_zones.hpp"
#include "slabmalloc/kernel/grace_list.hpp"
#include "slabmalloc/kernel/reclaim_request.hpp"

namespace slabmalloc {

/// How objects of one type are retired. It outlives them.
struct RetiredKind {
  Layout layout;
  std::size_t link_offset = 0;  ///< Bytes from the object to its RetiredLink.

  template <class T>
  static constexpr RetiredKind of(std::size_t link_offset) noexcept {
    return {Layout::of<T>(), link_offset};
  }
};

/// Two words of an object. Its readers do not look there.
struct RetiredLink {
  RetiredLink* next = nullptr;
  const RetiredKind* kind = nullptr;
};

/// The retired objects of a heap: of a CpuZones, or of the zones() of an ObjectCache.
/// Thread: any, where not said otherwise. Context: one that may call the pager, where not said
/// otherwise; in such a context it calls the heap with nothing held.
template <class Zones>
class RetiredObjects {
 public:
  using Hooks = typename Zones::Hooks;
  using Atomics = typename Zones::Atomics;

  static_assert(GraceHooks<Hooks>,
                "retired objects need the hooks grace_period_begin() and has_passed(number)");

  /// Objects that a block of pointers holds.
  static constexpr std::uint32_t block_entries = 8;
  /// A step of deferred work stops after so many objects. If the last one was a block, all its
  /// objects are freed too.
  static constexpr std::uint32_t step_objects = 8;

  /// Pre: `zones` outlives it.
  constexpr explicit RetiredObjects(Zones& zones) noexcept : zones_(zones) {}
  RetiredObjects(const RetiredObjects&) = delete;
  RetiredObjects& operator=(const RetiredObjects&) = delete;

  /// Frees `object` after a grace period. Where `context` allows calls of the pager, it also frees
  /// up to two objects whose grace period has passed, so that they do not pile up. If the second is
  /// a block, all its objects are freed: up to 1 + block_entries.
  /// Pre: no read section that opens from here on finds it; `kind` describes it. Context: any.
  /// Fails: as CpuZones::deallocate(), when the object is freed.
  void retire(void* object, const RetiredKind& kind, Context context = Context::MayWait) noexcept {
    auto* const link =
        ::new (static_cast<std::byte*>(object) + kind.link_offset) RetiredLink{nullptr, &kind};
    Part& part = part_of_this_cpu();
    part.begin();
    part.list.push(link);
    free_two(part, context);
  }

  /// The same for an object without a link, a run for example, but not for one of a cache.
  /// `context` says how it may get a block of pointers. Without memory for one, MayWait waits for a
  /// grace period.
  /// Fails: OutOfMemory, and the object is still the caller's.
  Result<void> retire(void* object, Layout layout, Context context = Context::MayWait) noexcept
    requires(Zones::has_layouts)
  {
    Part& part = part_of_this_cpu();
    part.begin();
    Block* block = part.take_open();
    if (block == nullptr) {
      block = make_block(context);
      if (block == nullptr) {
        const Result<void> freed = retire_by_waiting(object, layout, context);
        part.end(1);
        return freed;
      }
    }
    block->entries[block->count++] = {object, layout};
    if (block->count == block_entries || !part.leave_open(block)) {
      part.list.push(&block->link);
    }
    free_two(part, context);
    return {};
  }

  /// Frees a few objects of the caller's CPU whose grace period has passed. False if there was
  /// none. As CpuZones::set_deferred_work() wants it.
  static bool step(void* self) noexcept {
    auto& retired = *static_cast<RetiredObjects*>(self);
    std::size_t bytes = 0;
    return retired.free_some(retired.part_of_this_cpu(), step_objects, bytes);
  }

  /// Frees all objects of all CPUs whose grace period has passed; returns their bytes.
  std::size_t free_passed() noexcept {
    std::size_t bytes = 0;
    for (Part& part : parts_) {
      free_passed(part, bytes);
    }
    return bytes;
  }

  /// Frees all objects that were retired before, and waits for those that other CPUs are freeing:
  /// rcu_barrier(). False if a grace period or another CPU took too long, or others retire objects
  /// meanwhile.
  /// Context: MayWait, in no read section.
  bool drain() noexcept {
    for (std::uint32_t round = 0; !is_empty(); ++round) {
      if (round == drain_rounds) {
        return false;
      }
      free_passed();
      bool has_some = false;
      for (Part& part : parts_) {
        if (!part.list.wait()) {
          return false;
        }
        has_some = has_some || part.has_some();
      }
      if (!has_some && !wait_for_others()) {
        return false;
      }
    }
    return true;
  }

  /// Frees what has passed, and if that is less than requested, waits for one more batch of each
  /// CPU; returns the bytes. For Reclaimable::set_shrink(). Context: MayWait, in no read section.
  static std::size_t shrink(void* self, const ReclaimRequest& request) noexcept {
    auto& retired = *static_cast<RetiredObjects*>(self);
    std::size_t bytes = retired.free_passed();
    for (Part& part : retired.parts_) {
      if (bytes < request.bytes && !part.list.is_empty() && part.list.wait()) {
        retired.free_passed(part, bytes);
      }
    }
    return bytes;
  }
  /// The same for CpuZones::set_reclaim().
  static bool reclaim(void* self, const ReclaimRequest& request) noexcept {
    return shrink(self, request) != 0;
  }

  /// True if no object waits, and none is being freed. Thread: any; the answer covers all objects
  /// whose retire() happened before.
  bool is_empty() const noexcept {
    for (const Part& part : parts_) {
      if (!part.is_done()) {
        return false;
      }
    }
    return true;
  }

  /// The first broken invariant, as an equation, or null. Pre: nobody uses it.
  const char* validate() const noexcept {
    for (const Part& part : parts_) {
      if (const char* const broken = part.list.validate()) {
        return broken;
      }
      const Block* const open = part.open.load(Order::relaxed);
      if (open != nullptr && (open->count == 0 || open->count >= block_entries)) {
        return "V2: an open block holds 1 to block_entries - 1 objects";
      }
      if (part.is_done() == part.has_some()) {
        return "V3: unfinished = 0 exactly if the list is empty and no block is open";
      }
    }
    return nullptr;
  }

 private:
  struct Entry {
    void* object;
    Layout layout;
  };
  /// Pointers to objects that have no link; a retired object itself.
  struct Block {
    RetiredLink link;
    std::uint32_t count = 0;
    Entry entries[block_entries];
  };
  static constexpr RetiredKind block_kind = RetiredKind::of<Block>(0);
  /// Four rounds free all that is in a part: one batch has passed, one waits, one is to come, and
  /// the open block joins a later one. The others are for objects in the hands of other CPUs.
  static constexpr std::uint32_t drain_rounds = 16;

  struct alignas(64) Part {
    GraceList<Hooks, Atomics, RetiredLink> list;
    /// Null while somebody adds to it.
    typename Atomics::template Cell<Block*> open;
    /// Objects that are retired, and not free yet, wherever they are.
    typename Atomics::template Cell<std::size_t> unfinished;

    /// Counts an object, before anyone can find it here.
    void begin() noexcept {
      const InterruptGuard<Hooks> interrupts;  // For handlers, where there are no atomics.
      unfinished.fetch_add(1, Order::relaxed);
    }
    /// Takes `count` objects off, after they are free.
    /// Order: release, with the acquire in is_done(): the caller of drain() sees them free.
    void end(std::size_t count) noexcept {
      const InterruptGuard<Hooks> interrupts;
      unfinished.fetch_sub(count, Order::release);
    }
    /// Order: acquire, with the release in end().
    bool is_done() const noexcept { return unfinished.load(Order::acquire) == 0; }
    /// True if somebody may take an object here; a hint.
    bool has_some() const noexcept {
      return !list.is_empty() || open.load(Order::relaxed) != nullptr;
    }

    /// Order: acquire, with the release in leave_open(): the caller sees the entries.
    Block* take_open() noexcept {
      const InterruptGuard<Hooks> interrupts;
      return open.load(Order::relaxed) != nullptr ? open.exchange(nullptr, Order::acquire)
                                                  : nullptr;
    }
    /// False if another block is there: a handler, or a thread of another CPU, came in between.
    /// Order: release, with the acquire in take_open().
    bool leave_open(Block* block) noexcept {
      const InterruptGuard<Hooks> interrupts;
      Block* found = nullptr;
      while (!open.compare_exchange(found, block, Order::release)) {
        if (found != nullptr) {
          return false;
        }
      }
      return true;
    }
    void flush() noexcept {
      if (Block* const block = take_open()) {
        list.push(&block->link);
      }
    }
  };

  /// The caller may move to another CPU at once: that costs time, and breaks nothing.
  Part& part_of_this_cpu() noexcept {
    const InterruptGuard<Hooks> interrupts;
    return own_part<Hooks>(parts_);
  }

  Block* make_block(Context context) noexcept {
    // A block is no reason to search all memory: there is another way.
    const Context most = context == Context::MayWait ? Context::MayNotWait : context;
    void* const memory = zones_.allocate(Layout::of<Block>(), most).value_or(nullptr);
    return memory != nullptr ? ::new (memory) Block{{nullptr, &block_kind}, 0, {}} : nullptr;
  }
  Result<void> retire_by_waiting(void* object, Layout layout, Context context) noexcept {
    if (context != Context::MayWait || !wait_for_grace_period<Hooks>()) {
      return AllocationError::OutOfMemory;
    }
    free_object(object, layout, context);
    return {};
  }

  void free_object(void* object, Layout layout, Context context) noexcept {
    if constexpr (Zones::has_layouts) {
      zones_.deallocate(object, layout, context);
    } else if constexpr (Zones::is_debugged) {
      zones_.debug().deallocate(zones_, object, Zones::Mode::caller());
    } else {
      zones_.deallocate_of(NumberedClass{0}, object);
    }
  }
  void free_two(Part& part, Context context) noexcept {
    if (may_call_pager(context)) {
      std::size_t bytes = 0;
      free_some(part, 2, bytes);
    }
  }
  /// Frees all objects of `part` that have passed, and begins the grace period of the others.
  void free_passed(Part& part, std::size_t& bytes) noexcept {
    // A bound, since other CPUs may retire as fast as this frees.
    for (std::size_t most = part.list.size() + 1; most != 0; --most) {
      if (!free_some(part, 1, bytes) && !part.list.is_taken()) {
        break;
      }
    }
  }
  /// Gives other CPUs time to free the objects that they have taken. None calls wake() for that, so
  /// a sleep until a grace period ends is what lets a thread of this CPU go on, too. False if that
  /// took too long.
  bool wait_for_others() noexcept {
    for (std::uint32_t look = 0; look < bounded_looks; ++look) {
      if (is_empty()) {
        return true;
      }
      relax<Hooks>();
    }
    return wait_for_grace_period<Hooks>();
  }
  /// Frees up to `most` objects of `part`, or a block of them more, and adds their bytes to
  /// `bytes`. False if there was none.
  bool free_some(Part& part, std::uint32_t most, std::size_t& bytes) noexcept {
    if (!part.list.has_batch()) {
      part.flush();
    }
    std::uint32_t freed = 0;
    while (freed < most) {
      RetiredLink* const link = part.list.take(1);
      if (link == nullptr) {
        break;
      }
      const std::uint32_t count = free_one(link, bytes);
      part.end(count);
      freed += count;
    }
    return freed != 0;
  }
  /// Frees an object, or those of a block with the block; returns how many.
  std::uint32_t free_one(RetiredLink* link, std::size_t& bytes) noexcept {
    const RetiredKind& kind = *link->kind;
    void* const object = reinterpret_cast<std::byte*>(link) - kind.link_offset;
    std::uint32_t count = 1;
    if (&kind == &block_kind) {
      const Block& block = *static_cast<Block*>(object);
      for (std::uint32_t index = 0; index < block.count; ++index) {
        const Entry& entry = block.entries[index];
        free_object(entry.object, entry.layout, Context::MayNotWait);
        bytes += entry.layout.size();
      }
      count = block.count;
    }
    free_object(object, kind.layout, Context::MayNotWait);
    bytes += kind.layout.size();
    return count;
  }

  Zones& zones_;
  Part parts_[Hooks::maximum_cpus];
};

}  // namespace slabmalloc
