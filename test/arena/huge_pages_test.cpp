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
      EXPECT_TRUE(!what[chunk] || &what == &allowed) << chunk;
      what[chunk] = true;
    }
  }

  static inline Advice* active_ = nullptr;
  std::uintptr_t base_;
  os::Interface table_;
  const os::Interface* previous_ = nullptr;
};

/// A window of chunks that a random program makes grow and purges, with the parts that may have
/// huge pages by the definition: those of growths after a dense probe, with that probe, beyond the
/// threshold and the highest purged huge page, and before the first gap.
class Model {
 public:
  explicit Model(test::Random& random) : random_(random) {}

  void grow(std::size_t skipped, std::size_t added) {
    const std::size_t start = end_ + skipped;
    const bool is_adjacent = end_before_gap_ == end_ && skipped == 0;
    end_ = start + added;
    advice_.grow(end_, added);
    advice_.written_eighths = random_.one_in(2) ? 6 + random_.below(3) : 8;
    advice_.probes.clear();
    huge_pages_.note_growth(base + start * chunk_bytes, base + end_ * chunk_bytes);
    expected_.resize(end_, false);
    if (!is_adjacent) {
      return;
    }
    end_before_gap_ = end_;
    const std::size_t next_probe = rounded_up(start);
    const bool is_asked = tunables.huge_threshold_bytes != 0 && has_probe_ && end_ > threshold();
    ASSERT_EQ(advice_.probes,
              is_asked ? std::vector<std::size_t>{probe_} : std::vector<std::size_t>{});
    if (tunables.huge_threshold_bytes == 0) {
      expect(start, end_);
    } else if (is_asked && advice_.written_eighths >= 7) {
      expect(probe_, probe_ + huge_chunks);
      expect(std::max(start, probe_ + huge_chunks), std::min(next_probe, end_));
      expect(next_probe + huge_chunks, end_);
    }
    if (next_probe + huge_chunks <= end_) {
      probe_ = next_probe;
      has_probe_ = true;
    }
  }

  void purge(std::size_t first, std::size_t last) {
    advice_.splits.clear();
    const std::uint32_t splits =
        huge_pages_.prepare_purge(base + first * chunk_bytes, base + last * chunk_bytes);
    ASSERT_EQ(splits, advice_.splits.size());
    std::vector<std::size_t> split_pages;
    if (last > first_ && first < end_before_gap_) {
      const std::size_t purged_end = std::min(rounded_up(last), end_before_gap_);
      purged_end_ = std::max(purged_end_, purged_end);
      std::fill(expected_.begin(), expected_.begin() + static_cast<std::ptrdiff_t>(purged_end_),
                false);
      for (std::size_t page = first / huge_chunks; page * huge_chunks < last; ++page) {
        const bool is_cut = first > page * huge_chunks || last < (page + 1) * huge_chunks;
        if (is_cut && page != last_split_) {
          split_pages.push_back(page);
          last_split_ = page;
        }
      }
    }
    ASSERT_EQ(splits, split_pages.size()) << first << ' ' << last;
    for (std::size_t number = 0; number < splits; ++number) {
      const std::size_t split = advice_.splits[number];
      EXPECT_EQ(split / huge_chunks, split_pages[number]);
      EXPECT_TRUE(first <= split && split < last) << first << ' ' << last << ' ' << split;
    }
  }

  void step() {
    if (random_.below(3) == 0) {
      grow(random_.below(12) == 0 ? 16 : 0, 1 + random_.below(150));
    } else {
      const std::size_t first = random_.below(end_);
      const std::size_t most = random_.below(2) == 0 ? 8 : end_ - first;
      const std::size_t last = std::min(first + 1 + random_.below(most), end_);
      if (std::find(advice_.usable.begin() + static_cast<std::ptrdiff_t>(first),
                    advice_.usable.begin() + static_cast<std::ptrdiff_t>(last),
                    false) == advice_.usable.begin() + static_cast<std::ptrdiff_t>(last)) {
        purge(first, last);
      }
    }
    ASSERT_TRUE(huge_pages_.validate());
    for (std::size_t chunk = 0; chunk < end_; ++chunk) {
      ASSERT_EQ(advice_.is_in_force(chunk), expected_[chunk]) << chunk << " of " << end_;
    }
  }

 private:
  static constexpr std::uintptr_t base = std::uintptr_t{1} << 24;

  static std::size_t rounded_up(std::size_t chunk) {
    return (chunk + huge_chunks - 1) / huge_chunks * huge_chunks;
  }
  static std::size_t threshold() {
    return rounded_up((tunables.huge_threshold_bytes + chunk_bytes - 1) / chunk_bytes);
  }
  void expect(std::size_t first, std::size_t last) {
    for (std::size_t chunk = std::max({first, threshold(), purged_end_}); chunk < last; ++chunk) {
      expected_[chunk] = true;
      first_ = threshold();
    }
  }

  test::Random& random_;
  Advice advice_{base};
  HugePages huge_pages_;
  std::size_t end_ = 0;
  std::size_t end_before_gap_ = 0;
  std::size_t purged_end_ = 0;
  std::size_t first_ = ~std::size_t{0};
  std::size_t probe_ = 0;
  std::size_t last_split_ = ~std::size_t{0};
  bool has_probe_ = false;
  std::vector<bool> expected_;
};

TEST(HugePages, agree_with_their_definition_at_every_growth_and_purge) {
  test::Random random;
  const std::size_t usual = tunables.huge_threshold_bytes;
  for (int round = 0; round < 300; ++round) {
    // An option may set any number of bytes.
    tunables.huge_threshold_bytes = round % 3 == 0 ? 0 : round % 3 == 1 ? usual : usual / 2 + 12345;
    Model model(random);
    model.grow(0, 1 + random.below(80));
    for (int step = 0; step < 40 && !testing::Test::HasFatalFailure(); ++step) {
      model.step();
    }
  }
  tunables.huge_threshold_bytes = usual;
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
