// SPDX-License-Identifier: MIT
//
// Each call of the operating system fails in turn, once and from then on. The arena must stay valid
// and keep each block intact for its owner. Once calls succeed again, everything must work.
#include <gtest/gtest.h>

#include <memory>
#include <vector>

#include "arena/arena.hpp"
#include "os/faulty_os.hpp"
#include "support/pattern.hpp"

namespace slabmalloc {
namespace {

constexpr std::size_t mebibyte = std::size_t{1} << 20;
constexpr std::size_t gibibyte = std::size_t{1} << 30;

/// One life of an arena: it allocates, resizes and frees pages, large objects and direct objects.
class Scenario {
 public:
  explicit Scenario(Arena& arena, test::FaultyOs& os) : arena_(arena), os_(os) {}

  /// Runs the script; returns how many allocations were refused.
  std::size_t run() {
    refused_ = 0;
    for (std::size_t step = 0; step < 30; ++step) {
      allocate_run(1 + step * 7 % 20);
      allocate_large(step % 5 * mebibyte + 100000, std::size_t{1} << (step % 23));
      if (step % 6 == 0) {
        allocate_large(tunables.direct_threshold_bytes + step, std::size_t{1} << step);
        resize();
      }
      if (step % 3 == 2) {
        free_every_other();
      }
      os_.advance_clock(step * 20);
    }
    free_all();
    arena_.trim();
    EXPECT_TRUE(arena_.validate());
    return refused_;
  }

 private:
  struct Block {
    void* address;
    std::size_t chunks;  ///< Zero for a large object.
    std::size_t written;
    std::size_t key;
  };

  void keep(const Extent& extent, std::size_t chunks, std::size_t bytes) {
    EXPECT_TRUE(arena_.validate());
    if (!extent) {
      ++refused_;
      return;
    }
    const std::size_t written = bytes < 8192 ? bytes : 8192;
    if (extent.zeroed) {
      EXPECT_TRUE(test::holds_zeroes(extent.address, written));
    }
    test::fill_pattern(extent.address, written, ++key_);
    blocks_.push_back({extent.address, chunks, written, key_});
  }
  void allocate_run(std::size_t chunks) {
    keep(arena_.allocate(chunks), chunks, chunks * chunk_bytes);
  }
  void allocate_large(std::size_t bytes, std::size_t alignment) {
    keep(arena_.allocate_large(bytes, alignment), 0, bytes);
  }
  void resize() {
    for (Block& block : blocks_) {
      if (block.chunks == 0) {
        const std::size_t bytes = arena_.large_usable_bytes(block.address);
        void* const moved = arena_.resize_large(block.address, bytes + mebibyte);
        block.address = moved != nullptr ? moved : block.address;
        EXPECT_TRUE(test::holds_pattern(block.address, block.written, block.key));
        EXPECT_TRUE(arena_.validate());
      }
    }
  }
  void free_block(const Block& block) {
    EXPECT_TRUE(test::holds_pattern(block.address, block.written, block.key));
    if (block.chunks != 0) {
      arena_.deallocate(block.address, block.chunks);
    } else {
      EXPECT_EQ(arena_.deallocate_large(block.address), LargeFree::Freed);
    }
    EXPECT_TRUE(arena_.validate());
  }
  void free_every_other() {
    std::vector<Block> kept;
    for (std::size_t index = 0; index < blocks_.size(); ++index) {
      if (index % 2 == 0) {
        free_block(blocks_[index]);
      } else {
        kept.push_back(blocks_[index]);
      }
    }
    blocks_ = kept;
  }
  void free_all() {
    for (const Block& block : blocks_) {
      free_block(block);
    }
    blocks_.clear();
  }

  Arena& arena_;
  test::FaultyOs& os_;
  std::vector<Block> blocks_;
  std::size_t refused_ = 0;
  std::size_t key_ = 0;
};

enum class Failing { Once, FromThenOn };

/// Runs the script with the k-th call failing, for every k, then once without failures.
void sweep(Failing failing, std::size_t address_space) {
  for (std::size_t k = 1;; ++k) {
    SCOPED_TRACE(k);
    test::FaultyOs os;
    os.limit_address_space(address_space);
    const auto arena = std::make_unique<Arena>();
    Scenario scenario(*arena, os);
    if (failing == Failing::Once) {
      os.fail_call(k);
    } else {
      os.fail_from(k);
    }
    const std::size_t refused = scenario.run();
    const bool was_touched = os.failures() != 0;
    EXPECT_TRUE(was_touched || refused == 0);
    os.heal();
    EXPECT_EQ(scenario.run(), 0u) << "when the trouble is over";
    EXPECT_EQ(arena->statistics().in_use_bytes, 0u);
    EXPECT_EQ(arena->statistics().dirty_bytes, 0u);
    EXPECT_GE(os.usable_bytes(), arena->statistics().committed_bytes);
    EXPECT_LE(os.usable_bytes(), arena->statistics().committed_bytes + 2 * mebibyte);
    if (!was_touched || testing::Test::HasFailure()) {
      EXPECT_GT(k, 50u) << "the sweep must have swept something";
      return;
    }
  }
}

TEST(ArenaFaults, one_failing_call_does_no_harm) { sweep(Failing::Once, os::unlimited); }

TEST(ArenaFaults, calls_that_fail_from_some_moment_on_do_no_harm) {
  sweep(Failing::FromThenOn, os::unlimited);
}

TEST(ArenaFaults, one_failing_call_does_no_harm_in_bounded_address_space) {
  sweep(Failing::Once, 8 * gibibyte);
}

TEST(ArenaFaults, calls_that_fail_from_some_moment_on_do_no_harm_in_bounded_address_space) {
  sweep(Failing::FromThenOn, 8 * gibibyte);
}

TEST(ArenaFaults, one_failing_call_refuses_one_request_at_most) {
  for (std::size_t k = 1;; ++k) {
    test::FaultyOs os;
    const auto arena = std::make_unique<Arena>();
    Scenario scenario(*arena, os);
    os.fail_call(k);
    EXPECT_LE(scenario.run(), 1u);
    if (os.failures() == 0) {
      break;
    }
  }
}

TEST(ArenaFaults, strict_overcommit_gives_null_not_a_crash) {
  test::FaultyOs os;
  os.limit_commit(64 * mebibyte);
  const auto arena = std::make_unique<Arena>();
  std::vector<void*> runs;
  while (const Extent run = arena->allocate(1)) {
    test::fill_pattern(run.address, chunk_bytes, runs.size());
    runs.push_back(run.address);
    ASSERT_LT(runs.size(), 1025u);
  }
  EXPECT_GT(runs.size() * chunk_bytes, 60 * mebibyte) << "small steps use what large ones cannot";
  EXPECT_TRUE(arena->validate());
  EXPECT_FALSE(arena->allocate_large(mebibyte, 16));
  EXPECT_FALSE(arena->allocate_large(100 * mebibyte, 16));
  for (std::size_t run = 0; run < runs.size(); ++run) {
    ASSERT_TRUE(test::holds_pattern(runs[run], chunk_bytes, run));
    arena->deallocate(runs[run], 1);
  }
  EXPECT_TRUE(arena->allocate_large(30 * mebibyte, 16)) << "freed memory serves again";
  EXPECT_TRUE(arena->validate());
}

TEST(ArenaFaults, fragments_of_either_kind_serve_together_before_giving_up) {
  test::FaultyOs os;
  os.limit_commit(16 * mebibyte);
  const auto arena = std::make_unique<Arena>();
  std::vector<void*> runs;
  while (const Extent run = arena->allocate(1)) {
    runs.push_back(run.address);
  }
  // The first half is clean, the second dirty: neither alone is enough.
  for (std::size_t run = 0; run < runs.size() / 2; ++run) {
    arena->deallocate(runs[run], 1);
  }
  arena->trim();
  for (std::size_t run = runs.size() / 2; run < runs.size(); ++run) {
    arena->deallocate(runs[run], 1);
  }
  os.fail_every(test::OsCall::Purge);
  EXPECT_TRUE(arena->allocate(runs.size())) << "nothing need be purged for it";
  EXPECT_TRUE(arena->validate());
}

}  // namespace
}  // namespace slabmalloc
