// SPDX-License-Identifier: MIT
//
// ZoneModel records the expected content of two zones. Every operation goes through the model,
// which checks the result. Blocks must be aligned, disjoint and keep their contents. The statistics
// must be exact.
#pragma once

#include <cstddef>
#include <cstdint>

#include "scenarios/configs.hpp"
#include "support/pattern.hpp"

namespace slabmalloc::scenario {

/// The origin of a free: the block's zone, another zone, or a caller without one.
enum class FreeRoute : std::uint8_t { own_zone, other_zone, static_remote };

/// The reference heap of two zones of type `Zone` that free each other's blocks.
template <class Zone>
class ZoneModel {
 public:
  using Classes = typename Zone::SizeClasses;

  /// Each end of a block has a pattern of `edge_bytes`.
  ZoneModel(Trial& trial, Zone (&zones)[2], std::size_t most_live, std::size_t edge_bytes) noexcept
      : trial_(trial), zones_(zones), live_(trial, most_live), edge_bytes_(edge_bytes) {}

  std::size_t live_blocks() const noexcept { return live_.size(); }
  std::size_t live_run_bytes() const noexcept { return live_run_bytes_; }
  std::size_t exhaustions() const noexcept { return exhaustions_; }

  /// Where the `choice`-th block is, and what it was asked for.
  struct Place {
    std::byte* address;
    Layout layout;
    std::size_t zone;
  };
  Place place(std::size_t choice) const noexcept {
    return {live_[choice].address, live_[choice].layout, live_[choice].zone};
  }

  /// False if the zone is out of memory.
  bool allocate(std::size_t zone, Layout layout, bool zeroed) noexcept {
    const Result<void*> block =
        zeroed ? zones_[zone].allocate_zeroed(layout) : zones_[zone].allocate(layout);
    if (!block) {
      trial_.equal(block.error(), AllocationError::OutOfMemory);
      ++exhaustions_;
      return false;
    }
    if (zeroed) {
      trial_.check(test::holds_zeroes(*block, layout.size()), "it is zeroed");
    }
    insert(zone, static_cast<std::byte*>(*block), layout);
    return true;
  }

  /// Frees the `choice`-th block, in no particular order.
  void deallocate(std::size_t choice, FreeRoute route) noexcept {
    const Block block = take_out(choice);
    expect_contents(block);
    if (route == FreeRoute::own_zone || !in_class(block.layout)) {
      zones_[block.zone].deallocate(block.address, block.layout);
      return;
    }
    ++books_[block.zone].remote_frees[Zone::class_for(block.layout)];
    if (route == FreeRoute::static_remote) {
      Zone::deallocate_remote(block.address, block.layout);
    } else {
      zones_[1 - block.zone].deallocate(block.address, block.layout);
    }
  }

  void reallocate(std::size_t choice, Layout wanted) noexcept {
    const Block block = take_out(choice);
    expect_contents(block);
    const Result<void*> result = zones_[block.zone].reallocate(block.address, block.layout, wanted);
    if (!result) {
      ++exhaustions_;
      expect_contents(block);
      put_back(block);
      return;
    }
    auto* moved = static_cast<std::byte*>(*result);
    if (in_class(block.layout) && Zone::class_for(block.layout) == Zone::class_for(wanted)) {
      trial_.equal(moved, block.address, "the slot allows both layouts");
      --books_[block.zone].allocations[Zone::class_for(wanted)];
    }
    std::size_t kept = block.layout.size() < wanted.size() ? block.layout.size() : wanted.size();
    kept = kept < edge_bytes_ ? kept : edge_bytes_;
    trial_.check(test::holds_pattern(moved, kept, block.key), "reallocation keeps the contents");
    insert(block.zone, moved, wanted);
  }

  /// Checks every zone's invariants and, on demand, every block's contents.
  void check(bool contents) noexcept {
    trial_.sound(zones_[0].validate());
    trial_.sound(zones_[1].validate());
    for (std::size_t index = 0; contents && index < live_.size(); ++index) {
      expect_contents(live_[index]);
    }
  }

  /// The counts that are exact at any time.
  void check_counts() noexcept {
    for (std::size_t zone = 0; zone < 2; ++zone) {
      for (std::uint32_t index = 0; index < Zone::class_count; ++index) {
        const ClassStatistics found = zones_[zone].class_statistics(index);
        const Book& book = books_[zone];
        trial_.equal(found.allocations, book.allocations[index]);
        trial_.equal(found.allocations - found.frees, found.used);
        trial_.at_least(found.used, book.live[index]);
        trial_.at_most(found.remote_frees, book.remote_frees[index]);
        trial_.equal(found.used - book.live[index], book.remote_frees[index] - found.remote_frees,
                     "what is used and not live was freed by others and not taken in yet");
        trial_.equal(found.refills - found.reclaims, found.pages);
        trial_.at_most(found.used, found.slots);
      }
      const ZoneStatistics sums = zones_[zone].statistics();
      trial_.at_most(sums.buffered_bytes, std::size_t{Zone::Config::remote_buffer_bytes});
      trial_.at_most(sums.page_bytes + sums.depot_bytes, sums.frame_bytes_high_water);
    }
  }

  /// Drains everything. Then all counts and the live blocks must equal the model's.
  void check_settled() noexcept {
    for (const std::size_t zones[] = {0, 1, 0, 1}; const std::size_t zone : zones) {
      zones_[zone].drain();  // The other zone drains these in its second turn.
    }
    for (std::size_t zone = 0; zone < 2; ++zone) {
      trial_.sound(zones_[zone].validate());
      trial_.equal(zones_[zone].statistics().buffered_bytes, 0u);
      for (std::uint32_t index = 0; index < Zone::class_count; ++index) {
        const ClassStatistics found = zones_[zone].class_statistics(index);
        trial_.equal(found.used, books_[zone].live[index]);
        trial_.equal(found.remote_frees, books_[zone].remote_frees[index]);
        trial_.equal(found.allocations, books_[zone].allocations[index]);
      }
      expect_visits_live_blocks(zone);
    }
  }

  /// The bytes of all frames that the zones hold.
  std::size_t frame_bytes() const noexcept {
    const ZoneStatistics one = zones_[0].statistics();
    const ZoneStatistics other = zones_[1].statistics();
    return one.page_bytes + one.depot_bytes + other.page_bytes + other.depot_bytes;
  }

 private:
  struct Block {
    std::byte* address;
    std::byte* end;  ///< Of its slot or run.
    Layout layout;
    std::uint64_t key;
    std::size_t zone;
  };

  /// The expected counts of one zone, by size class.
  struct Book {
    std::size_t allocations[Zone::class_count] = {};
    std::size_t live[Zone::class_count] = {};
    std::size_t remote_frees[Zone::class_count] = {};
  };

  static bool in_class(Layout layout) noexcept {
    return Zone::class_for(layout) != Classes::no_class;
  }

  static std::size_t extent(Layout layout) noexcept {
    const std::size_t usable = Zone::usable_size(layout);
    const std::size_t bytes = usable != 0 ? usable : layout.size();
    return bytes != 0 ? bytes : 1;
  }

  void insert(std::size_t zone, std::byte* address, Layout layout) noexcept {
    trial_.equal(reinterpret_cast<std::uintptr_t>(address) % layout.align(), 0u);
    trial_.at_least(extent(layout), layout.size());
    const Block block{address, address + extent(layout), layout, ++last_key_ * 0x10001, zone};
    for (const Block& other : live_) {
      trial_.check(other.end <= address || block.end <= other.address, "blocks do not overlap");
    }
    for_edges(block, [&](std::byte* edge, std::size_t bytes, std::uint64_t shift) {
      test::fill_pattern(edge, bytes, block.key + shift);
    });
    if (in_class(layout)) {
      ++books_[zone].allocations[Zone::class_for(layout)];
    }
    put_back(block);
  }

  void put_back(const Block& block) noexcept {
    live_.push_back(block);
    if (in_class(block.layout)) {
      ++books_[block.zone].live[Zone::class_for(block.layout)];
    } else {
      live_run_bytes_ += block.layout.size();
    }
  }

  Block take_out(std::size_t choice) noexcept {
    const Block block = live_.remove_at(choice);
    if (in_class(block.layout)) {
      --books_[block.zone].live[Zone::class_for(block.layout)];
    } else {
      live_run_bytes_ -= block.layout.size();
    }
    return block;
  }

  /// Calls `visit(first byte, bytes, key's shift)` for the parts of a block with a pattern.
  template <class Visit>
  void for_edges(const Block& block, Visit&& visit) const noexcept {
    const std::size_t size = block.layout.size();
    const std::size_t front = size < edge_bytes_ ? size : edge_bytes_;
    visit(block.address, front, std::uint64_t{0});
    const std::size_t back = size - front < edge_bytes_ ? size - front : edge_bytes_;
    visit(block.address + size - back, back, std::uint64_t{0x8000});
  }

  void expect_contents(const Block& block) noexcept {
    for_edges(block, [&](std::byte* edge, std::size_t bytes, std::uint64_t shift) {
      trial_.check(test::holds_pattern(edge, bytes, block.key + shift),
                   "a block keeps its contents");
    });
  }

  void expect_visits_live_blocks(std::size_t zone) noexcept {
    Objects visited(trial_, live_.size() + 1);
    std::size_t usable_bytes = 0;
    zones_[zone].visit_live([&](void* object, std::size_t bytes) {
      visited.push_back(object);
      usable_bytes += bytes;
    });
    Objects expected(trial_, live_.size() + 1);
    for (const Block& block : live_) {
      if (block.zone == zone && in_class(block.layout)) {
        expected.push_back(block.address);
        usable_bytes -= Zone::usable_size(block.layout);
      }
    }
    trial_.check(same_elements(visited, expected), "live objects are visited, each once");
    trial_.equal(usable_bytes, 0u, "with their sizes");
  }

  Trial& trial_;
  Zone (&zones_)[2];
  Book books_[2];
  List<Block> live_;
  std::size_t edge_bytes_;
  std::size_t live_run_bytes_ = 0;
  std::size_t exhaustions_ = 0;
  std::uint64_t last_key_ = 0;
};

}  // namespace slabmalloc::scenario
