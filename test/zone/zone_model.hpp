// SPDX-License-Identifier: MIT
//
// ZoneModel: what a set of zones must hold, kept beside them. Every operation goes through the
// model, which checks its result: blocks are aligned, disjoint and keep their contents, and the
// statistics are exactly what happened.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <map>
#include <set>
#include <vector>

#include "slabmalloc/slabmalloc.hpp"
#include "support/pattern.hpp"
#include "support/random.hpp"
#include "zone/zone_configs.hpp"

namespace slabmalloc::test {

/// Who frees a block: its zone, another zone, or a thread without one.
enum class FreeRoute : std::uint8_t { own_zone, other_zone, static_remote };

/// The reference heap of some zones of type `Zone` that free each other's blocks on one thread.
template <class Zone>
class ZoneModel {
 public:
  using Classes = typename Zone::SizeClasses;

  /// `edge_bytes`: how much of each end of a block has a pattern.
  ZoneModel(std::vector<Zone*> zones, std::size_t edge_bytes)
      : zones_(std::move(zones)), books_(zones_.size()), edge_bytes_(edge_bytes) {}

  std::size_t live_blocks() const { return order_.size(); }
  std::size_t live_run_bytes() const { return live_run_bytes_; }
  std::size_t exhaustions() const { return exhaustions_; }

  /// False if the zone had nothing free.
  bool allocate(std::size_t zone, Layout layout, bool zeroed) {
    const Result<void*> block =
        zeroed ? zones_[zone]->allocate_zeroed(layout) : zones_[zone]->allocate(layout);
    if (!block) {
      EXPECT_EQ(block.error(), AllocationError::OutOfMemory);
      ++exhaustions_;
      return false;
    }
    if (zeroed) {
      EXPECT_TRUE(holds_zeroes(*block, layout.size()));
    }
    insert(zone, static_cast<std::byte*>(*block), layout);
    return true;
  }

  /// Frees the `choice`-th block, in no particular order.
  void deallocate(std::size_t choice, FreeRoute route) {
    std::byte* address = order_[choice];
    const Block block = take_out(choice);
    expect_contents(address, block);
    const bool in_class = Zone::class_for(block.layout) != Classes::no_class;
    if (route == FreeRoute::own_zone || !in_class) {
      zones_[block.zone]->deallocate(address, block.layout);
      return;
    }
    Book& book = books_[block.zone];
    ++book.remote_frees[Zone::class_for(block.layout)];
    if (route == FreeRoute::static_remote) {
      Zone::deallocate_remote(address, block.layout);
      return;
    }
    const std::size_t other = (block.zone + 1) % zones_.size();
    zones_[other]->deallocate(address, block.layout);
  }

  void reallocate(std::size_t choice, Layout wanted) {
    std::byte* address = order_[choice];
    const Block block = take_out(choice);
    expect_contents(address, block);
    const Result<void*> result = zones_[block.zone]->reallocate(address, block.layout, wanted);
    if (!result) {
      ++exhaustions_;
      expect_contents(address, block);
      put_back(address, block);
      return;
    }
    auto* moved = static_cast<std::byte*>(*result);
    const std::uint32_t old_class = Zone::class_for(block.layout);
    if (old_class == Zone::class_for(wanted) && old_class != Classes::no_class) {
      EXPECT_EQ(moved, address) << "the slot allows both layouts";
      --books_[block.zone].allocations[old_class];
    }
    const std::size_t kept = std::min({block.layout.size(), wanted.size(), edge_bytes_});
    EXPECT_TRUE(holds_pattern(moved, kept, block.key));
    insert(block.zone, moved, wanted);
  }

  /// Every block's contents, every zone's invariants, and what is known without disturbing
  /// anything.
  void check(bool contents) const {
    for (std::size_t zone = 0; zone < zones_.size(); ++zone) {
      ASSERT_EQ(zones_[zone]->validate(), nullptr) << "zone " << zone;
    }
    if (contents) {
      for (const auto& [address, block] : live_) {
        expect_contents(address, block);
      }
    }
  }

  /// The counts that are exact at any time.
  void check_counts() const {
    for (std::size_t zone = 0; zone < zones_.size(); ++zone) {
      for (std::uint32_t index = 0; index < Zone::class_count; ++index) {
        const ClassStatistics found = zones_[zone]->class_statistics(index);
        const Book& book = books_[zone];
        ASSERT_EQ(found.allocations, book.allocations[index]) << "class " << index;
        ASSERT_EQ(found.allocations - found.frees, found.used) << "class " << index;
        ASSERT_GE(found.used, book.live[index]) << "class " << index;
        ASSERT_LE(found.remote_frees, book.remote_frees[index]) << "class " << index;
        // What is used and not live was freed by others and not taken in yet.
        ASSERT_EQ(found.used - book.live[index], book.remote_frees[index] - found.remote_frees)
            << "class " << index;
        ASSERT_EQ(found.refills - found.reclaims, found.pages) << "class " << index;
        ASSERT_LE(found.used, found.slots) << "class " << index;
      }
      const ZoneStatistics sums = zones_[zone]->statistics();
      ASSERT_LE(sums.withheld_bytes, Zone::Config::remote_buffer_bytes);
      ASSERT_LE(sums.page_bytes + sums.depot_bytes, sums.frame_bytes_high_water);
    }
  }

  /// Collects everything; then all counts and the live blocks are exactly the model's.
  void check_settled() {
    collect_all();
    for (std::size_t zone = 0; zone < zones_.size(); ++zone) {
      ASSERT_EQ(zones_[zone]->validate(), nullptr);
      ASSERT_EQ(zones_[zone]->statistics().withheld_bytes, 0u);
      for (std::uint32_t index = 0; index < Zone::class_count; ++index) {
        const ClassStatistics found = zones_[zone]->class_statistics(index);
        ASSERT_EQ(found.used, books_[zone].live[index]) << "class " << index;
        ASSERT_EQ(found.remote_frees, books_[zone].remote_frees[index]) << "class " << index;
        ASSERT_EQ(found.allocations, books_[zone].allocations[index]) << "class " << index;
      }
      expect_visits_live_blocks(zone);
    }
  }

  void collect_all() {
    for (Zone* zone : zones_) {
      zone->collect();  // Delivers what the zone withholds from the others.
    }
    for (Zone* zone : zones_) {
      zone->collect();
    }
  }

  /// The bytes of all frames that the zones hold.
  std::size_t frame_bytes() const {
    std::size_t bytes = 0;
    for (const Zone* zone : zones_) {
      const ZoneStatistics sums = zone->statistics();
      bytes += sums.page_bytes + sums.depot_bytes;
    }
    return bytes;
  }

 private:
  struct Block {
    Layout layout;
    std::uint64_t key;
    std::size_t zone;
    std::size_t order;
  };

  /// What happened to one zone, by size class.
  struct Book {
    std::vector<std::size_t> allocations = std::vector<std::size_t>(Zone::class_count);
    std::vector<std::size_t> live = std::vector<std::size_t>(Zone::class_count);
    std::vector<std::size_t> remote_frees = std::vector<std::size_t>(Zone::class_count);
  };

  static std::size_t extent(Layout layout) {
    const std::size_t usable = Zone::usable_size(layout);
    return std::max<std::size_t>(usable != 0 ? usable : layout.size(), 1);
  }

  void insert(std::size_t zone, std::byte* address, Layout layout) {
    ASSERT_EQ(reinterpret_cast<std::uintptr_t>(address) % layout.align(), 0u) << layout.align();
    ASSERT_GE(extent(layout), layout.size());
    const auto next = live_.lower_bound(address);
    if (next != live_.end()) {
      ASSERT_LE(address + extent(layout), next->first) << "overlaps the block above";
    }
    if (next != live_.begin()) {
      const auto previous = std::prev(next);
      ASSERT_LE(previous->first + extent(previous->second.layout), address)
          << "overlaps the block below";
    }
    const Block block{layout, ++last_key_ * 0x10001, zone, 0};
    for_edges(address, layout, [&](std::byte* edge, std::size_t bytes, std::uint64_t shift) {
      fill_pattern(edge, bytes, block.key + shift);
    });
    if (const std::uint32_t index = Zone::class_for(layout); index != Classes::no_class) {
      ++books_[zone].allocations[index];
    }
    put_back(address, block);
  }

  void put_back(std::byte* address, Block block) {
    block.order = order_.size();
    order_.push_back(address);
    live_.emplace(address, block);
    if (const std::uint32_t index = Zone::class_for(block.layout); index != Classes::no_class) {
      ++books_[block.zone].live[index];
    } else {
      live_run_bytes_ += block.layout.size();
    }
  }

  Block take_out(std::size_t choice) {
    std::byte* address = order_[choice];
    const Block block = live_.at(address);
    order_[choice] = order_.back();
    live_.at(order_[choice]).order = choice;
    order_.pop_back();
    live_.erase(address);
    if (const std::uint32_t index = Zone::class_for(block.layout); index != Classes::no_class) {
      --books_[block.zone].live[index];
    } else {
      live_run_bytes_ -= block.layout.size();
    }
    return block;
  }

  /// Calls `visit(first byte, bytes, key's shift)` for the parts of a block that have a pattern.
  template <class Visit>
  void for_edges(std::byte* address, Layout layout, Visit&& visit) const {
    const std::size_t front = std::min(layout.size(), edge_bytes_);
    visit(address, front, std::uint64_t{0});
    const std::size_t back = std::min(layout.size() - front, edge_bytes_);
    visit(address + layout.size() - back, back, std::uint64_t{0x8000});
  }

  void expect_contents(std::byte* address, const Block& block) const {
    for_edges(address, block.layout, [&](std::byte* edge, std::size_t bytes, std::uint64_t shift) {
      EXPECT_TRUE(holds_pattern(edge, bytes, block.key + shift))
          << "a block of " << block.layout.size() << " B at " << static_cast<void*>(address)
          << " was overwritten";
    });
  }

  void expect_visits_live_blocks(std::size_t zone) const {
    std::set<void*> visited;
    zones_[zone]->visit_live([&](void* object, std::size_t bytes) {
      EXPECT_TRUE(visited.insert(object).second) << "visited twice";
      const auto found = live_.find(static_cast<std::byte*>(object));
      ASSERT_NE(found, live_.end()) << "visited, but not live";
      EXPECT_EQ(found->second.zone, zone);
      EXPECT_EQ(bytes, Zone::usable_size(found->second.layout));
    });
    std::size_t live = 0;
    for (const std::size_t count : books_[zone].live) {
      live += count;
    }
    EXPECT_EQ(visited.size(), live);
  }

  std::vector<Zone*> zones_;
  std::vector<Book> books_;
  std::map<std::byte*, Block> live_;
  std::vector<std::byte*> order_;
  std::size_t edge_bytes_;
  std::size_t live_run_bytes_ = 0;
  std::size_t exhaustions_ = 0;
  std::uint64_t last_key_ = 0;
};

}  // namespace slabmalloc::test
