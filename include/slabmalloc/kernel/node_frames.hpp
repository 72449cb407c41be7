// SPDX-License-Identifier: MIT
//
// NodeFrames: the page frames of a machine whose memory is not all alike. Some is nearer to a CPU
// than other memory (NUMA nodes), and devices reach only what lies below a limit.
//
//   struct MyMachine : slabmalloc::NodeOptions {
//     static constexpr std::uint32_t nodes = 2;
//     static constexpr std::uint32_t limits = 1;
//   };
//   constinit slabmalloc::NodeFrames<MyKernel, MyMachine> frames;
//   frames.set_limit(0, four_gibibytes, slabmalloc::LowMemory::Last);
//   frames.set_node(region, 1) … frames.set_distance(0, 1, 20) …
//   if (!frames.add(regions, count)) …
//
// It owns a FrameAllocator for each *bank*: the memory of one node between two limits. Linux calls
// a bank a zone.
//
//              limit 0
//   node 0   | bank A | bank B      |          |          CPUs of node 0 allocate from B D A
//   node 1   |        |             | bank D   |          CPUs of node 1 allocate from D B A
//
// Each node has an order of all banks, made when limits and distances are set:
//
//   1. banks whose memory is not kept for last, the nearest node first, high addresses first
//   2. banks whose memory is kept for last: high ones first, the nearest node first
//
// A free finds the bank by the address alone, so memory always goes back to its own node. Nothing
// in a bank crosses into another.
//
// Invariants, with their lines in validate(), beside those of each bank:
//   J1  ranges are sorted by address and do not overlap, and their nodes exist
//   J2  an order has each bank once
//   J3  local_allocations + remote_allocations of a node <= allocations of its banks; the rest was
//       allocated at an address
#pragma once

#include <cstddef>
#include <cstdint>

#include "slabmalloc/base/bits.hpp"
#include "slabmalloc/base/result.hpp"
#include "slabmalloc/kernel/frame_allocator.hpp"
#include "slabmalloc/kernel/guarded_counter.hpp"
#include "slabmalloc/kernel/hooks.hpp"
#include "slabmalloc/kernel/memory_map.hpp"
#include "slabmalloc/kernel/node_statistics.hpp"
#include "slabmalloc/zone/pager.hpp"

namespace slabmalloc {

/// True if `order` has each of the numbers 0 … count - 1 once.
template <std::size_t count>
bool has_each_once(const std::uint16_t (&order)[count]) noexcept {
  Word seen[(count + word_bits - 1) / word_bits] = {};
  for (const std::uint16_t number : order) {
    if (number >= count || test_and_set(seen[number / word_bits], number % word_bits)) {
      return false;
    }
  }
  return true;
}

/// Options of NodeFrames. To change one, inherit from it and shadow the member.
struct NodeOptions : FrameOptions {
  static constexpr std::uint32_t nodes = 1;
  static constexpr std::uint32_t limits = 0;   ///< Such as 16 MiB and 4 GiB.
  static constexpr std::uint32_t ranges = 32;  ///< Stretches of memory that set_node() names.
};

/// Who gets memory below a limit.
enum class LowMemory : std::uint8_t {
  Last,    ///< Who asks for it, and others when all other memory of all nodes is used up.
  Shared,  ///< Everyone, but of two banks of a node the higher one is first.
};

/// The memory that an allocation may have.
struct NodeChoice {
  static constexpr std::uint32_t here = ~std::uint32_t{0};

  std::uint32_t node = here;                  ///< The nearest to this one; by default the caller's.
  std::uintptr_t below = ~std::uintptr_t{0};  ///< It ends there; of the limits set, the next lower.
  bool only = false;                          ///< Of that node alone.
};

/// A pager over several FrameAllocators. Thread, misuse: as FrameAllocator. Cost: as that, for each
/// bank that has too little; a free adds O(ranges) loads. Its set-up functions come before add(),
/// on one CPU. It has a hook of its own, NodeHooks; without that each CPU is on node 0.
template <class HooksT, class Options = NodeOptions, std::size_t BaseBytes = 4096,
          class Atomics = HardwareAtomics>
class NodeFrames {
  static_assert(sizeof(HooksMessage<HooksT>) != 0);
  using Hooks = CheckedHooks<HooksT>;

 public:
  using Bank = FrameAllocator<HooksT, BaseBytes, Atomics, Options>;
  static constexpr std::size_t base_bytes = BaseBytes;
  static constexpr std::uint32_t nodes = Options::nodes;
  static constexpr bool has_owners = Options::has_owners;
  /// Banks of a node.
  static constexpr std::uint32_t bands = Options::limits + 1;
  static_assert(nodes != 0 && nodes * bands <= 65536, "there are 1 … 65536 banks");

  constexpr NodeFrames() noexcept { make_orders(); }
  NodeFrames(const NodeFrames&) = delete;
  NodeFrames& operator=(const NodeFrames&) = delete;

  // ---- set-up ----------------------------------------------------------------------------------

  /// Makes `address` limit `index`; a limit that is not set has no memory below it. Pre: `index` is
  /// below Options::limits, and limits ascend.
  void set_limit(std::uint32_t index, std::uintptr_t address, LowMemory use) noexcept {
    limits_[index] = address;
    uses_[index] = use;
    make_orders();
  }
  /// Tells on which node the memory of a region is; it is on node 0 if nothing is told.
  /// Fails: TooMany if Options::ranges are told already, or there is no such node; InvalidLayout if
  /// the region overlaps an earlier one of another node.
  Result<void> set_node(MemoryRegion region, std::uint32_t node) noexcept {
    if (node >= nodes) {
      return AllocationError::TooMany;
    }
    Range range{region.address, end_of(region), node};
    if (range.first == range.end) {
      return {};
    }
    std::uint32_t index = 0;
    const auto is_below = [&](const Range& other) {
      return other.end < range.first || (other.end == range.first && other.node != node);
    };
    while (index < range_count_ && is_below(ranges_[index])) {
      ++index;
    }
    // Ranges of a node that adjoin or overlap are one.
    std::uint32_t joined = index;
    for (; joined < range_count_ && ranges_[joined].first <= range.end; ++joined) {
      const Range& other = ranges_[joined];
      if (other.node != node) {
        if (other.first < range.end && range.first < other.end) {
          return AllocationError::InvalidLayout;
        }
        break;
      }
      range.first = other.first < range.first ? other.first : range.first;
      range.end = other.end > range.end ? other.end : range.end;
    }
    return put_range(range, index, joined);
  }
  /// Sets how far the memory of node `to` is from CPUs of node `from`, as in a SLIT of ACPI or a
  /// distance map of a device tree. By default it is 10 for the same node, and 20 for others.
  /// Pre: both are below `nodes`.
  void set_distance(std::uint32_t from, std::uint32_t to, std::uint8_t distance) noexcept {
    distances_[from][to] = distance;
    make_orders();
  }

  /// Adds memory to the banks in which it lies, see FrameAllocator::add(). The memory of a bank
  /// stays out if it is too little for its meta-data.
  /// Fails: OutOfMemory if none was added for that reason.
  Result<void> add(const MemoryRegion* regions, std::size_t count) noexcept {
    bool is_any_added = false;
    bool is_any_left_out = false;
    for (std::uintptr_t first = 0; first != none;) {
      const std::uintptr_t end = boundary_above(first);
      Bank& bank = frames_at(first);
      const std::size_t before = bank.statistics().managed_bytes;
      const bool is_in = static_cast<bool>(bank.add(regions, count, {first, end - first}));
      is_any_left_out = is_any_left_out || !is_in;
      if (bank.statistics().managed_bytes != before) {
        is_any_added = true;
        has_memory_[index_of(first)].store(true, Order::relaxed);
      }
      first = end;
    }
    return is_any_left_out && !is_any_added ? Result<void>(AllocationError::OutOfMemory)
                                            : Result<void>();
  }

  // ---- frames and runs -------------------------------------------------------------------------

  /// As those of FrameAllocator, from the first bank in the order of the node that has it.
  Frame allocate_frame(std::size_t bytes, NodeChoice choice = {}) noexcept {
    void* frame = nullptr;
    allocate_frames(bytes, &frame, 1, choice);
    return frame;
  }
  std::size_t allocate_frames(std::size_t bytes, void** frames, std::size_t count,
                              NodeChoice choice = {}) noexcept {
    std::size_t got = 0;
    for_each_choice(choice, [&](Bank& bank) {
      const std::size_t more = bank.allocate_frames(bytes, frames + got, count - got);
      got += more;
      return Tried{more, got == count};
    });
    return got;
  }
  void deallocate_frame(void* frame, std::size_t bytes) noexcept {
    frames_at(frame).deallocate_frame(frame, bytes);
  }
  Frame allocate_run(std::size_t bytes, std::size_t alignment, NodeChoice choice = {}) noexcept {
    Frame run;
    for_each_choice(choice, [&](Bank& bank) {
      run = bank.allocate_run(bytes, alignment);
      const bool has_run = run.address != nullptr;
      return Tried{has_run ? 1u : 0u, has_run};
    });
    return run;
  }
  bool deallocate_run(void* run, std::size_t bytes, std::size_t alignment) noexcept {
    return frames_at(run).deallocate_run(run, bytes, alignment);
  }
  /// Clang 14 compiles this and the words below in an explicit instantiation without owners, too.
  bool deallocate_run(void* run, std::size_t bytes, std::size_t alignment,
                      std::uintptr_t& owner) noexcept
    requires(Options::has_owners)
  {
    if constexpr (has_owners) {
      return frames_at(run).deallocate_run(run, bytes, alignment, owner);
    } else {
      return false;
    }
  }

  // ---- by address ------------------------------------------------------------------------------

  bool owns(const void* address) const noexcept { return frames_at(address).owns(address); }
  PagerBlock block_at(const void* address) const noexcept {
    return frames_at(address).block_at(address);
  }
  bool set_owner(const void* address, std::uintptr_t word) noexcept
    requires(Options::has_owners)
  {
    if constexpr (has_owners) {
      return frames_at(address).set_owner(address, word);
    } else {
      return false;
    }
  }
  std::uintptr_t owner(const void* address) const noexcept
    requires(Options::has_owners)
  {
    if constexpr (has_owners) {
      return frames_at(address).owner(address);
    } else {
      return 0;
    }
  }
  /// The bank in which `address` lies, with memory or without: for memory at an address and
  /// offlining.
  Bank& frames_at(const void* address) noexcept {
    return frames_at(reinterpret_cast<std::uintptr_t>(address));
  }
  const Bank& frames_at(const void* address) const noexcept {
    return banks_[index_of(reinterpret_cast<std::uintptr_t>(address))];
  }
  /// The node in which `address` lies.
  std::uint32_t node_at(const void* address) const noexcept {
    return node_at(reinterpret_cast<std::uintptr_t>(address));
  }
  /// The node of the CPU that runs the caller, which may be on another one by the time it knows.
  std::uint32_t node_here() const noexcept {
    if constexpr (NodeHooks<Hooks>) {
      const InterruptGuard<Hooks> interrupts;
      const std::uint32_t node = Hooks::node(Hooks::cpu());
      require<Hooks>(node < nodes, "the node of a CPU < nodes");
      return node;
    } else {
      return 0;
    }
  }

  // ---- statistics and checks -------------------------------------------------------------------

  /// Of one node. Each bank's figures are of one moment.
  NodeStatistics statistics(std::uint32_t node) const noexcept {
    NodeStatistics result;
    for (std::uint32_t band = 0; band < bands; ++band) {
      const FrameStatistics bank = banks_[node * bands + band].statistics();
      add_counters<FrameStatistics>(result, bank);
      for (std::uint32_t order = 0; order < FrameStatistics::orders; ++order) {
        result.free_blocks[order] += bank.free_blocks[order];
      }
    }
    result.local_allocations = local_[node].get();
    result.remote_allocations = remote_[node].get();
    return result;
  }
  /// Of all nodes.
  NodeStatistics statistics() const noexcept {
    NodeStatistics result;
    for (std::uint32_t node = 0; node < nodes; ++node) {
      const NodeStatistics one = statistics(node);
      add_counters(result, one);
      for (std::uint32_t order = 0; order < FrameStatistics::orders; ++order) {
        result.free_blocks[order] += one.free_blocks[order];
      }
    }
    return result;
  }
  /// Calls f(address, bytes, FrameUse) for the blocks of all banks, in address order within each:
  /// see FrameAllocator.
  template <class F>
  void for_each_block(F&& f) const noexcept {
    for (const Bank& bank : banks_) {
      bank.for_each_block(f);
    }
  }
  /// The first invariant that does not hold, or null. Pre: no CPU allocates; else J3 may not hold.
  const char* validate() const noexcept {
    for (std::uint32_t index = 0; index < range_count_; ++index) {
      const Range& range = ranges_[index];
      if (range.first >= range.end || range.node >= nodes ||
          (index != 0 && ranges_[index - 1].end > range.first)) {
        return "J1: ranges are sorted, do not overlap, and their nodes exist";
      }
    }
    for (std::uint32_t node = 0; node < nodes; ++node) {
      if (!has_each_once(orders_[node])) {
        return "J2: an order has each bank once";
      }
      if (statistics(node).allocations < local_[node].get() + remote_[node].get()) {
        return "J3: local + remote allocations of a node <= allocations of its banks";
      }
    }
    const char* broken = nullptr;
    for (const Bank& bank : banks_) {
      broken = broken != nullptr ? broken : bank.validate();
    }
    return broken;
  }

 private:
  static constexpr std::uintptr_t none = ~std::uintptr_t{0};

  /// Addresses first … end - 1 are memory of the node.
  struct Range {
    std::uintptr_t first;
    std::uintptr_t end;
    std::uint32_t node;
  };
  /// What came of a bank.
  struct Tried {
    std::size_t allocations;
    bool is_done;
  };

  static constexpr std::uintptr_t end_of(MemoryRegion region) noexcept {
    const std::uintptr_t room = none - region.address;
    return region.address + (region.bytes < room ? region.bytes : room);
  }
  /// Puts `range` in the place of those from `index` to `end` - 1.
  Result<void> put_range(const Range& range, std::uint32_t index, std::uint32_t end) noexcept {
    if (end == index && range_count_ == Options::ranges) {
      return AllocationError::TooMany;
    }
    if (end == index) {
      for (std::uint32_t moved = range_count_++; moved > index; --moved) {
        ranges_[moved] = ranges_[moved - 1];
      }
    } else {
      for (std::uint32_t moved = end; moved < range_count_; ++moved) {
        ranges_[index + 1 + moved - end] = ranges_[moved];
      }
      range_count_ -= end - index - 1;
    }
    ranges_[index] = range;
    return {};
  }

  // ---- banks -----------------------------------------------------------------------------------

  std::uint32_t node_at(std::uintptr_t address) const noexcept {
    for (std::uint32_t index = 0; index < range_count_ && ranges_[index].first <= address;
         ++index) {
      if (address < ranges_[index].end) {
        return ranges_[index].node;
      }
    }
    return 0;
  }
  /// Limits that lie at or below `address`.
  std::uint32_t limits_below(std::uintptr_t address) const noexcept {
    std::uint32_t band = 0;
    while (band < Options::limits && limits_[band] <= address) {
      ++band;
    }
    return band;
  }
  std::uint32_t index_of(std::uintptr_t address) const noexcept {
    return node_at(address) * bands + limits_below(address);
  }
  Bank& frames_at(std::uintptr_t address) noexcept { return banks_[index_of(address)]; }
  /// The next address above `address` where another bank may begin.
  std::uintptr_t boundary_above(std::uintptr_t address) const noexcept {
    std::uintptr_t next = none;
    const auto consider = [&](std::uintptr_t boundary) {
      next = boundary > address && boundary < next ? boundary : next;
    };
    for (std::uint32_t index = 0; index < range_count_; ++index) {
      consider(ranges_[index].first);
      consider(ranges_[index].end);
    }
    for (std::uint32_t index = 0; index < Options::limits; ++index) {
      consider(limits_[index]);
    }
    return next;
  }

  // ---- orders ----------------------------------------------------------------------------------

  constexpr bool is_last(std::uint32_t band) const noexcept {
    return band < Options::limits && uses_[band] == LowMemory::Last;
  }
  /// True if CPUs of node `from` try bank `one` before bank `other`.
  constexpr bool is_before(std::uint32_t from, std::uint32_t one,
                           std::uint32_t other) const noexcept {
    const std::uint32_t bands_of[] = {one % bands, other % bands};
    const std::uint32_t nodes_of[] = {one / bands, other / bands};
    const bool is_one_last = is_last(bands_of[0]);
    if (is_one_last != is_last(bands_of[1])) {
      return !is_one_last;
    }
    if (is_one_last && bands_of[0] != bands_of[1]) {
      return bands_of[0] > bands_of[1];
    }
    const std::uint32_t far[] = {distances_[from][nodes_of[0]], distances_[from][nodes_of[1]]};
    if (far[0] != far[1]) {
      return far[0] < far[1];
    }
    // Of nodes at the same distance, CPUs of different nodes prefer different ones.
    const std::uint32_t on[] = {(nodes_of[0] + nodes - from) % nodes,
                                (nodes_of[1] + nodes - from) % nodes};
    return on[0] != on[1] ? on[0] < on[1] : bands_of[0] > bands_of[1];
  }
  constexpr void make_orders() noexcept {
    for (std::uint32_t node = 0; node < nodes; ++node) {
      for (std::uint32_t bank = 0; bank < nodes * bands; ++bank) {
        std::uint32_t place = bank;
        for (; place != 0 && is_before(node, bank, orders_[node][place - 1]); --place) {
          orders_[node][place] = orders_[node][place - 1];
        }
        orders_[node][place] = static_cast<std::uint16_t>(bank);
      }
    }
  }

  /// Calls try_bank(bank) for each bank that `choice` allows, until it is done; counts allocations.
  template <class F>
  void for_each_choice(NodeChoice choice, F&& try_bank) noexcept {
    const std::uint32_t here = node_here();
    const std::uint32_t from = choice.node == NodeChoice::here ? here : choice.node;
    const std::uint32_t end_of_bands = choice.below == none ? bands : limits_below(choice.below);
    require<Hooks>(from < nodes, "an allocation is from a node < nodes");
    for (const std::uint32_t index : orders_[from]) {
      const std::uint32_t node = index / bands;
      if (index % bands >= end_of_bands || (choice.only && node != from) ||
          !has_memory_[index].load(Order::relaxed)) {
        continue;
      }
      const Tried tried = try_bank(banks_[index]);
      (node == here ? local_ : remote_)[node].add(tried.allocations);
      if (tried.is_done) {
        return;
      }
    }
  }

  /// Distances of nodes when nothing is told, as ACPI has them.
  struct Distances {
    std::uint8_t at[nodes][nodes];

    constexpr Distances() noexcept : at{} {
      for (std::uint32_t from = 0; from < nodes; ++from) {
        for (std::uint32_t to = 0; to < nodes; ++to) {
          at[from][to] = from == to ? 10 : 20;
        }
      }
    }
    constexpr std::uint8_t* operator[](std::uint32_t from) noexcept { return at[from]; }
    constexpr const std::uint8_t* operator[](std::uint32_t from) const noexcept { return at[from]; }
  };

  Bank banks_[nodes * bands];  ///< By node, then by band: those below limit 0, limit 1, …, none.
  typename Atomics::template Cell<bool> has_memory_[nodes * bands];
  std::uint16_t orders_[nodes][nodes * bands] = {};  ///< Banks, by the node of the CPU.
  Distances distances_;
  Range ranges_[Options::ranges] = {};
  std::uint32_t range_count_ = 0;
  std::uintptr_t limits_[bands] = {};  ///< The last is none.
  LowMemory uses_[bands] = {};
  GuardedCounter<Hooks, Atomics> local_[nodes];
  GuardedCounter<Hooks, Atomics> remote_[nodes];
};

/// A pager for memory of one choice, such as that below the limit of a device, for a heap or cache
/// of its own.
template <class NodeFramesT>
class ChosenFrames {
 public:
  static constexpr std::size_t base_bytes = NodeFramesT::base_bytes;

  /// Pre: `frames` outlives it.
  constexpr ChosenFrames(NodeFramesT& frames, NodeChoice choice) noexcept
      : frames_(frames), choice_(choice) {}

  Frame allocate_frame(std::size_t bytes) noexcept {
    return frames_.allocate_frame(bytes, choice_);
  }
  std::size_t allocate_frames(std::size_t bytes, void** frames, std::size_t count) noexcept {
    return frames_.allocate_frames(bytes, frames, count, choice_);
  }
  void deallocate_frame(void* frame, std::size_t bytes) noexcept {
    frames_.deallocate_frame(frame, bytes);
  }
  Frame allocate_run(std::size_t bytes, std::size_t alignment) noexcept {
    return frames_.allocate_run(bytes, alignment, choice_);
  }
  bool deallocate_run(void* run, std::size_t bytes, std::size_t alignment) noexcept {
    return frames_.deallocate_run(run, bytes, alignment);
  }
  bool deallocate_run(void* run, std::size_t bytes, std::size_t alignment,
                      std::uintptr_t& owner) noexcept
    requires(NodeFramesT::has_owners)
  {
    if constexpr (NodeFramesT::has_owners) {
      return frames_.deallocate_run(run, bytes, alignment, owner);
    } else {
      return false;
    }
  }
  bool set_owner(const void* address, std::uintptr_t word) noexcept
    requires(NodeFramesT::has_owners)
  {
    if constexpr (NodeFramesT::has_owners) {
      return frames_.set_owner(address, word);
    } else {
      return false;
    }
  }
  std::uintptr_t owner(const void* address) const noexcept
    requires(NodeFramesT::has_owners)
  {
    if constexpr (NodeFramesT::has_owners) {
      return frames_.owner(address);
    } else {
      return 0;
    }
  }
  PagerBlock block_at(const void* address) const noexcept { return frames_.block_at(address); }

 private:
  NodeFramesT& frames_;
  const NodeChoice choice_;
};

}  // namespace slabmalloc
