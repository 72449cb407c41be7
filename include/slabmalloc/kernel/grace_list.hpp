// SPDX-License-Identifier: MIT
//
// GraceList: memory that readers may still look at. It waits here for a grace period, batch by
// batch.
//
//   push ──► incoming ──grace_period_begin()──► waiting ──has_passed()──► passed ──take──► caller
//            any number                          one batch, one number     one batch
//
// The memory itself holds the link, in a place where no reader looks: `Node` has a member `next` of
// type Node*. A batch closes when the one before has passed. Its grace period begins after all its
// nodes were unlinked from readers, so one number covers the batch. A node waits for two grace
// periods at most, beside the time that nobody calls take().
//
// push() takes no lock, so handlers and NMIs may call it. The other operations take the batches by
// one exchange. A caller that finds them taken returns with nothing, and never waits.
//
// Invariant, with its line in validate():
//   V1  size() = incoming + waiting + passed nodes
#pragma once

#include <cstddef>
#include <cstdint>

#include "slabmalloc/kernel/grace_period.hpp"

namespace slabmalloc {

/// Nodes that wait for grace periods. Thread: any, where not said otherwise.
template <GraceHooks Hooks, class Atomics, class Node>
class GraceList {
  static_assert(atomics_suffice<Hooks, Atomics>,
                "SingleCpuAtomics are for one CPU: say maximum_cpus = 1, or take HardwareAtomics");

 public:
  /// Puts `node` here. Pre: no read section that opens from here on finds it. Context: any.
  /// Order: release, with the acquire in close_batch(): the caller that takes the node sees its
  /// link, and that it was unlinked.
  void push(Node* node) noexcept {
    const InterruptGuard<Hooks> interrupts;  // For handlers, where there are no atomics.
    size_.fetch_add(1, Order::relaxed);
    Node* top = incoming_.load(Order::relaxed);
    do {
      node->next = top;
    } while (!incoming_.compare_exchange(top, node, Order::release));
  }

  /// Takes up to `most` nodes whose grace period has passed, and begins the next one. Returns the
  /// first; the others follow by `next`, up to null. Pre: `most` is at least 1.
  /// Context: any in which the hooks may be called. Cost: O(most), and one call of each hook.
  Node* take(std::uint32_t most) noexcept {
    return is_empty() ? nullptr : with_batches([&] {
      advance();
      return unlink(passed_, most);
    });
  }

  /// Takes a node whether its grace period has passed or not, or returns null: for memory that may
  /// be used again while readers still look at it. Context and cost: as take().
  Node* take_any() noexcept {
    return is_empty() ? nullptr : with_batches([&] {
      advance();
      return unlink(passed_.load(Order::relaxed) != nullptr ? passed_ : waiting_, 1);
    });
  }

  /// Waits until the batch that waits has passed, if there is one. So after it take() finds a node,
  /// closes a batch, or has nothing to do. False if that took too long. It first waits for a caller
  /// that has the batches, but not for long: that one wakes nobody.
  /// Context: one that may wait, with nothing held, in no read section.
  bool wait() noexcept {
    for (std::uint32_t look = 0; look < looks_at_taken && is_taken(); ++look) {
      relax<Hooks>();
    }
    return wait_until<Hooks>({&GraceList::is_ready, this});
  }

  /// Nodes in it; the figure may lag behind others.
  std::size_t size() const noexcept { return size_.load(Order::relaxed); }
  bool is_empty() const noexcept { return size() == 0; }
  /// True if another caller has the batches, for a short time; a hint.
  bool is_taken() const noexcept { return is_taken_.load(Order::relaxed) != 0; }
  /// False if the next take() closes a batch; a hint.
  bool has_batch() const noexcept { return waiting_.load(Order::relaxed) != nullptr; }

  /// V1, or null. Pre: nobody uses it. Cost: O(nodes).
  const char* validate() const noexcept {
    std::size_t linked = 0;
    const Link* const lists[] = {&incoming_, &waiting_, &passed_};
    for (const Link* const list : lists) {
      for (const Node* node = list->load(Order::relaxed); node != nullptr && linked <= size();
           node = node->next) {
        ++linked;
      }
    }
    return linked == size() ? nullptr : "V1: size = incoming + waiting + passed nodes";
  }

 private:
  static constexpr std::uint32_t looks_at_taken = std::uint32_t{1} << 14;
  using Link = typename Atomics::template Cell<Node*>;

  /// Calls use() while no other caller does, or returns null at once. With interrupts saved: the
  /// holder is not preempted, and a handler that comes nevertheless finds the batches taken.
  /// Order: acquire and release, with each other: the caller sees the last one's batches.
  template <class Use>
  Node* with_batches(Use&& use) noexcept {
    const InterruptGuard<Hooks> interrupts;
    if (is_taken_.exchange(1, Order::acquire) != 0) {
      return nullptr;
    }
    Node* const first = use();
    is_taken_.store(0, Order::release);
    return first;
  }

  // Thread, from here on: inside with_batches().
  void advance() noexcept {
    Node* const batch = waiting_.load(Order::relaxed);
    if (batch != nullptr && passed_.load(Order::relaxed) == nullptr &&
        Hooks::has_passed(number_.load(Order::relaxed))) {
      passed_.store(batch, Order::relaxed);
      waiting_.store(nullptr, Order::relaxed);
    }
    if (!has_batch() && incoming_.load(Order::relaxed) != nullptr) {
      close_batch();
    }
  }
  /// Order: acquire, with the release in push().
  void close_batch() noexcept {
    Node* const batch = incoming_.exchange(nullptr, Order::acquire);
    // After the exchange: a node that comes later belongs to the next batch.
    number_.store(Hooks::grace_period_begin(), Order::relaxed);
    waiting_.store(batch, Order::relaxed);
  }
  Node* unlink(Link& list, std::uint32_t most) noexcept {
    Node* const first = list.load(Order::relaxed);
    Node* last = nullptr;
    std::uint32_t count = 0;
    for (Node* node = first; node != nullptr && count < most; node = node->next) {
      last = node;
      ++count;
    }
    if (last != nullptr) {
      list.store(last->next, Order::relaxed);
      last->next = nullptr;
      size_.fetch_sub(count, Order::relaxed);
    }
    return first;
  }

  /// Reads hints alone.
  static bool is_ready(const void* argument) noexcept {
    const auto& self = *static_cast<const GraceList*>(argument);
    const InterruptGuard<Hooks> interrupts;
    return self.passed_.load(Order::relaxed) != nullptr || !self.has_batch() ||
           Hooks::has_passed(self.number_.load(Order::relaxed));
  }

  Link incoming_;
  Link waiting_;
  Link passed_;
  typename Atomics::template Cell<std::uintptr_t> number_;  ///< The grace period of `waiting_`.
  typename Atomics::template Cell<std::uint32_t> is_taken_;
  typename Atomics::template Cell<std::size_t> size_;
};

}  // namespace slabmalloc
