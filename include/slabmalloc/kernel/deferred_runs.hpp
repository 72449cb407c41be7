// SPDX-License-Identifier: MIT
//
// DeferredRuns: runs freed in a context that cannot call the pager. They wait for a caller that may
// call it.
//
//   a handler, an NMI ──push──► run ► run ► run ──pop──► a caller that may call the pager
//
// Each waiting run begins with its link:
//
//   | next | bytes | alignment | sum of the three | mark |      mark: its own address, disguised
//
// A Treiber list (Systems Programming: Coping with Parallelism, 1986). Callers that pop take turns:
// after one of them looked at a run, no other pops and pushes it again before the first is done (no
// ABA).
//
// Invariant, with its line in validate():
//   K4  bytes of the waiting runs <= bytes(); the rest is lost to writes after a free
#pragma once

#include <cstddef>
#include <cstdint>

#include "slabmalloc/base/layout.hpp"
#include "slabmalloc/base/misuse.hpp"
#include "slabmalloc/kernel/spin_lock.hpp"

namespace slabmalloc {

template <KernelHooks Hooks, class Atomics>
class DeferredRuns {
 public:
  struct Run {
    void* address = nullptr;
    Layout layout;
  };

  /// The layout to ask of the pager to serve `layout`: it has room for a link. `layout` itself if
  /// it is too large.
  static constexpr Layout with_link(Layout layout) noexcept {
    const std::size_t size = layout.size() > sizeof(Link) ? layout.size() : sizeof(Link);
    const std::size_t align = layout.align() > alignof(Link) ? layout.align() : alignof(Link);
    return Layout::from_size_align(size, align).value_or(layout);
  }

  /// Marks `run`, which comes from the pager, as not waiting anywhere: memory may outlive a restart
  /// in which it waited.
  /// Pre: it is as large as with_link() says.
  static void begin(void* run) noexcept { static_cast<Link*>(run)->mark.store(0, Order::relaxed); }

  /// True if `run`, which the caller wants to free, waits here already. Thread: any, in any
  /// context.
  bool holds(const void* run) const noexcept {
    const Link* const link = static_cast<const Link*>(run);
    const bool is_aligned = reinterpret_cast<std::uintptr_t>(run) % alignof(Link) == 0;
    // While no run waits, it reads nothing of memory that is no run.
    return !is_empty() && is_aligned && link->mark.load(Order::relaxed) == mark_of(link);
  }

  /// Puts `run` here, which was allocated for `layout`. Pre: with_link(layout) == layout. Thread:
  /// any, in any context; without a lock. Fails: false if it waits here already.
  /// Order: release, with the acquire in unlink_top(): the caller that pops it sees the link and
  /// the last writes of its client.
  bool push(void* run, Layout layout) noexcept {
    const UpdateGuard<Hooks, Atomics> guard;
    Link* const link = static_cast<Link*>(run);
    // One exchange tells two frees of the same run at the same time apart.
    if (link->mark.exchange(mark_of(link), Order::relaxed) == mark_of(link)) {
      return false;
    }
    bytes_.fetch_add(layout.size(), Order::relaxed);
    link->bytes = layout.size();
    link->alignment = layout.align();
    Link* top = top_.load(Order::relaxed);
    do {
      link->next = top;
      link->sum = sum_of(*link);
    } while (!top_.compare_exchange(top, link, Order::release));
    return true;
  }

  /// Takes a run out; its address is null if there is none. Thread: any, inside a section.
  /// Fails: DoubleFree to the misuse hook if a write after the free overwrote the run's link. Then
  /// this run and those behind it are lost, and stay counted for ever.
  Run pop() noexcept {
    bool was_intact = false;
    Link* const link = unlink_top(was_intact);
    if (link == nullptr) {
      return {};
    }
    if (!was_intact) [[unlikely]] {
      report_misuse({MisuseKind::DoubleFree, link, 0, 0});
      return {};
    }
    const Layout layout = Layout::from_size_align(link->bytes, link->alignment).value_or({});
    link->mark.store(0, Order::relaxed);
    bytes_.fetch_sub(layout.size(), Order::relaxed);
    return {link, layout};
  }

  /// True if there is none. Thread: any; a hint.
  bool is_empty() const noexcept { return top_.load(Order::relaxed) == nullptr; }
  /// Bytes of the waiting runs. Thread: any; the figure may lag behind others.
  std::size_t bytes() const noexcept { return bytes_.load(Order::relaxed); }

  /// K4, or null. Pre: nobody uses it. Cost: O(runs).
  const char* validate() const noexcept {
    std::size_t waiting = 0;
    for (const Link* link = top_.load(Order::relaxed);
         link != nullptr && is_intact(*link) && waiting <= bytes(); link = link->next) {
      waiting += link->bytes;
    }
    return waiting <= bytes() ? nullptr : "K4: bytes of the waiting runs <= those counted";
  }

 private:
  struct Link {
    Link* next;
    std::size_t bytes;
    std::size_t alignment;
    std::uintptr_t sum;
    typename Atomics::template Cell<std::uintptr_t> mark;
  };

  // No address is its own disguise, and a client is unlikely to write it.
  static std::uintptr_t mark_of(const Link* link) noexcept {
    constexpr auto disguise = static_cast<std::uintptr_t>(0x5ab0'f4ee'd1f7'3a95u);
    return reinterpret_cast<std::uintptr_t>(link) ^ disguise;
  }
  static std::uintptr_t sum_of(const Link& link) noexcept {
    return mark_of(link.next) + link.bytes + link.alignment;
  }
  static bool is_intact(const Link& link) noexcept {
    return link.mark.load(Order::relaxed) == mark_of(&link) && link.sum == sum_of(link);
  }
  /// Unlinks and returns the top run, or null.
  /// Order: acquire, with the release in push(); others' turns between the two do not break their
  /// pairing.
  Link* unlink_top(bool& was_intact) noexcept {
    const typename SpinLock<Hooks, Atomics>::Guard guard(lock_);
    for (;;) {
      Link* link = top_.load(Order::acquire);
      if (link == nullptr) {
        return nullptr;
      }
      was_intact = is_intact(*link);
      Link* const next = was_intact ? link->next : nullptr;
      // If another caller pushed a run meanwhile, that one is on top.
      if (top_.compare_exchange(link, next, Order::relaxed)) {
        return link;
      }
    }
  }

  SpinLock<Hooks, Atomics> lock_;
  typename Atomics::template Cell<Link*> top_;
  typename Atomics::template Cell<std::size_t> bytes_;
};

}  // namespace slabmalloc
