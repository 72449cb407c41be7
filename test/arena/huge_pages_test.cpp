// SPDX-License-Identifier: MIT
#include "arena/huge_pages.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <memory>
#include <vector>

#include "arena/arena.hpp"
#include "os/faulty_os.hpp"
#include "support/random.hpp"

namespace slabmalloc {
namespace {

constexpr std::size_t huge_chunks = Tunables::huge_page_bytes / chunk_bytes;
const std::size_t threshold_chunks = Tunables{}.huge_threshold_bytes / chunk_bytes;

/// What the system was told of huge pages, by chunk. It expects that no call reaches a chunk that
/// is not the window's, and that no call repeats one.
class Advice {
 public:
  explicit Advice(std::uintptr_t base) : base_(base), table_(os::interface()) {
    active_ = this;
    table_.allow_huge_pages = [](void* start, std::size_t bytes) {
      active_->note(start, bytes, active_->allowed);
    };
    table_.end_huge_pages = [](void* start, std::size_t bytes) {
      active_->note(start, bytes, active_->ended);
    };
    table_.resident_bytes = [](void* start, std::size_t bytes) {
      active_->probes.push_back(active_->chunk_at(start));
      return bytes * active_->written_eighths / 8;
    };
    table_.split_huge_page = [](void* address) {
      active_->splits.push_back(active_->chunk_at(address));
    };
    previous_ = &os::replace_interface(table_);
  }
  Advice(const Advice&) = delete;
  Advice& operator=(const Advice&) = delete;
  ~Advice() { os::replace_interface(*previous_); }

  /// True if a chunk may get huge pages now.
  bool is_in_force(std::size_t chunk) const { return allowed[chunk] && !ended[chunk]; }

  /// The window grows to `chunks`; the last `added` of them are usable.
  void grow(std::size_t chunks, std::size_t added) {
    allowed.resize(chunks, false);
    usable.resize(chunks - added, false);
    usable.resize(chunks, true);
    ended.resize(chunks, false);
  }

  std::vector<bool> usable;
  std::vector<bool> allowed;
  std::vector<bool> ended;
  std::vector<std::size_t> splits;  ///< The chunks of the split pages.
  std::vector<std::size_t> probes;  ///< The chunks where the probes start.
  std::size_t written_eighths = 8;  ///< So much of each probe is backed by memory.

 private:
  std::size_t chunk_at(void* address) const {
    return (reinterpret_cast<std::uintptr_t>(address) - base_) / chunk_bytes;
  }
  void note(void* start, std::size_t bytes, std::vector<bool>& what) {
    const std::size_t first = chunk_at(start);
    for (std::size_t chunk = first; chunk < first + bytes / chunk_bytes; ++chunk) {
      ASSERT_LT(chunk, usable.size());
      EXPECT_TRUE(usable[chunk]) << chunk;
      EXPECT_FALSE(what[chunk]) << chunk;
      what[chunk] = true;
    }
  }

  static inline Advice* active_ = nullptr;
  std::uintptr_t base_;
  os::Interface table_;
  const os::Interface* previous_ = nullptr;
};

/// The model: a chunk may have huge pages if it lies beyond the threshold, before the first gap,
/// beyond the highest purged huge page, and beyond the first huge page of its growth, and if the
/// program had written most of the probe before.
TEST(HugePages, agree_with_their_definition_at_every_growth_and_purge) {
  constexpr std::uintptr_t base = std::uintptr_t{1} << 24;
  test::Random random;
  for (int round = 0; round < 200; ++round) {
    Advice advice(base);
    HugePages huge_pages;
    std::size_t end = 0;
    std::size_t end_before_gap = 0;
    std::size_t purged_end = 0;
    std::size_t probe = 0;
    bool has_probe = false;
    std::vector<bool> expected;
    const auto grow = [&](std::size_t skipped, std::size_t added) {
      const std::size_t start = end + skipped;
      const bool is_adjacent = end_before_gap == end && skipped == 0;
      end = start + added;
      advice.grow(end, added);
      advice.written_eighths = random.one_in(2) ? 6 + random.below(3) : 8;
      advice.probes.clear();
      huge_pages.note_growth(base + start * chunk_bytes, base + end * chunk_bytes);
      expected.resize(end, false);
      if (!is_adjacent) {
        return;
      }
      end_before_gap = end;
      const std::size_t next_probe = (start + huge_chunks - 1) / huge_chunks * huge_chunks;
      if (has_probe && end > threshold_chunks) {
        ASSERT_EQ(advice.probes, std::vector<std::size_t>{probe});
        for (std::size_t chunk = std::max({next_probe + huge_chunks, threshold_chunks, purged_end});
             chunk < end; ++chunk) {
          expected[chunk] = advice.written_eighths >= 7;
        }
      } else {
        ASSERT_TRUE(advice.probes.empty());
      }
      if (next_probe + huge_chunks <= end) {
        probe = next_probe;
        has_probe = true;
      }
    };
    const auto purge = [&](std::size_t first, std::size_t last) {
      advice.splits.clear();
      huge_pages.prepare_purge(base + first * chunk_bytes, base + last * chunk_bytes);
      std::vector<std::size_t> split_pages;
      if (last > threshold_chunks && first < end_before_gap) {
        const std::size_t rounded = (last + huge_chunks - 1) / huge_chunks * huge_chunks;
        purged_end = std::max(purged_end, std::min(rounded, end_before_gap));
        std::fill(expected.begin(), expected.begin() + static_cast<std::ptrdiff_t>(purged_end),
                  false);
        for (std::size_t page = first / huge_chunks; page * huge_chunks < last; ++page) {
          if (first > page * huge_chunks || last < (page + 1) * huge_chunks) {
            split_pages.push_back(page);
          }
        }
      }
      ASSERT_EQ(advice.splits.size(), split_pages.size()) << first << ' ' << last;
      for (std::size_t number = 0; number < split_pages.size(); ++number) {
        const std::size_t split = advice.splits[number];
        EXPECT_EQ(split / huge_chunks, split_pages[number]);
        EXPECT_TRUE(first <= split && split < last) << first << ' ' << last << ' ' << split;
      }
    };
    grow(0, 1 + random.below(80));
    for (int step = 0; step < 40; ++step) {
      if (random.below(3) == 0) {
        grow(random.below(12) == 0 ? 16 : 0, 1 + random.below(150));
      } else {
        const std::size_t first = random.below(end);
        const bool is_short = random.below(2) == 0;
        const std::size_t last = first + 1 + random.below(is_short ? 8 : end - first);
        const bool is_usable =
            std::all_of(advice.usable.begin() + static_cast<std::ptrdiff_t>(first),
                        advice.usable.begin() + static_cast<std::ptrdiff_t>(std::min(last, end)),
                        [](bool usable) { return usable; });
        if (is_usable) {
          purge(first, std::min(last, end));
        }
      }
      ASSERT_TRUE(huge_pages.validate());
      for (std::size_t chunk = 0; chunk < end; ++chunk) {
        ASSERT_EQ(advice.is_in_force(chunk), expected[chunk])
            << chunk << " of " << end << " in round " << round;
      }
    }
  }
}

TEST(HugePages, of_an_arena_begin_beyond_the_threshold_and_end_where_memory_goes_back) {
  test::FaultyOs os;
  const auto arena = std::make_unique<Arena>();
  const Extent low = arena->allocate(threshold_chunks);
  ASSERT_TRUE(low);
  const auto base = reinterpret_cast<std::uintptr_t>(low.address);
  const std::size_t end = 8 * threshold_chunks;
  Advice advice(base);
  advice.grow(end, end);
  // Each of these makes the window grow.
  const std::size_t chunks = 2 * threshold_chunks + 1;
  const Extent middle = arena->allocate(chunks);
  const Extent high = arena->allocate(chunks);
  ASSERT_TRUE(middle && high);
  const auto first = (reinterpret_cast<std::uintptr_t>(middle.address) - base) / chunk_bytes;
  ASSERT_EQ(high.address, static_cast<std::byte*>(middle.address) + chunks * chunk_bytes);
  EXPECT_FALSE(advice.is_in_force(threshold_chunks - 1));
  EXPECT_TRUE(advice.is_in_force(first + chunks - 1));
  EXPECT_TRUE(advice.is_in_force(first + 2 * chunks - 1));

  arena->deallocate(low.address, threshold_chunks);
  arena->trim();
  EXPECT_TRUE(advice.is_in_force(first + chunks - 1));
  EXPECT_TRUE(advice.splits.empty());
  arena->deallocate(middle.address, chunks);
  arena->trim();
  for (std::size_t chunk = 0; chunk < first + chunks; ++chunk) {
    EXPECT_FALSE(advice.is_in_force(chunk)) << chunk;
  }
  EXPECT_TRUE(advice.is_in_force(first + 2 * chunks - 1));
  EXPECT_FALSE(advice.splits.empty());
  EXPECT_TRUE(arena->validate());
}

}  // namespace
}  // namespace slabmalloc
