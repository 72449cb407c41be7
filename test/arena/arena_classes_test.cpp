// SPDX-License-Identifier: MIT
//
// The arena of the hardened library, whose runs keep their size class.
#include <gtest/gtest.h>

#include <cstdint>
#include <map>
#include <memory>
#include <vector>

#include "arena/arena.hpp"
#include "os/faulty_os.hpp"
#include "support/random.hpp"

namespace slabmalloc {
namespace {

constexpr std::size_t mebibyte = std::size_t{1} << 20;

class ArenaClassesTest : public testing::Test {
 protected:
  ~ArenaClassesTest() override {
    EXPECT_TRUE(arena_->validate());
    tunables = Tunables{};
  }

  static std::size_t chunks_of(std::uint32_t index) { return index % 4 == 3 ? 8 : 1; }
  void* allocate(std::uint32_t index) {
    const std::size_t chunks = chunks_of(index);
    return arena_->allocate(chunks, chunks * chunk_bytes, RunClass::of(index)).address;
  }
  void free_all(std::vector<void*>& runs, std::uint32_t index) {
    for (void* const run : runs) {
      arena_->deallocate(run, chunks_of(index));
    }
    runs.clear();
  }
  /// Allocates until the arena refuses, and frees it all; returns the runs.
  std::size_t fill(std::uint32_t index) {
    std::vector<void*> runs;
    while (void* const run = allocate(index)) {
      *static_cast<volatile char*>(run) = 0;
      runs.push_back(run);
    }
    const std::size_t count = runs.size();
    free_all(runs, index);
    return count;
  }
  std::size_t class_changes() const { return arena_->statistics().class_changes; }

  test::FaultyOs os_;
  std::unique_ptr<Arena> arena_ = std::make_unique<Arena>();
};

TEST_F(ArenaClassesTest, no_chunk_serves_two_classes) {
  constexpr std::uint32_t classes = 6;
  test::Random random;
  std::vector<void*> runs[classes];
  std::map<std::uintptr_t, std::uint32_t> class_of;
  std::size_t reused = 0;
  for (int step = 0; step < 4000; ++step) {
    const std::uint32_t index = random.below(classes);
    switch (random.below(8)) {
      case 0:
        free_all(runs[index], index);
        break;
      case 1:
        os_.advance_clock(random.below(2 * tunables.decay_milliseconds));
        arena_->decay();
        break;
      case 2:
        if (random.one_in(16)) {
          arena_->trim();
        }
        break;
      default:
        for (std::uint32_t count = random.below(16); count != 0; --count) {
          void* const run = allocate(index);
          ASSERT_NE(run, nullptr);
          runs[index].push_back(run);
          for (std::size_t chunk = 0; chunk < chunks_of(index); ++chunk) {
            const auto address = reinterpret_cast<std::uintptr_t>(run) + chunk * chunk_bytes;
            const auto [place, is_new] = class_of.emplace(address, index);
            ASSERT_EQ(place->second, index) << "step " << step;
            reused += is_new ? 0 : 1;
          }
        }
    }
    if (step % 16 == 0) {
      ASSERT_TRUE(arena_->validate()) << "step " << step;
    }
  }
  EXPECT_GE(reused, 1000u);
  EXPECT_EQ(class_changes(), 0u);
}

TEST_F(ArenaClassesTest, the_window_is_as_long_as_the_most_that_each_class_had) {
  std::vector<void*> runs;
  for (int round = 0; round < 20; ++round) {
    for (const std::uint32_t index : {0u, 1u, 2u}) {
      for (int count = 0; count < 300; ++count) {
        runs.push_back(allocate(index));
      }
      free_all(runs, index);
    }
  }
  EXPECT_LE(arena_->committed_chunks(), 3 * 300 * 2 + Tunables::largest_growth_chunks);
}

TEST_F(ArenaClassesTest, a_bounded_window_serves_each_class_from_runs_of_any) {
  os_.limit_address_space(32 * mebibyte);
  const std::size_t most = fill(0);
  EXPECT_GE(most, 200u);
  EXPECT_EQ(class_changes(), 0u);
  EXPECT_EQ(fill(1), most);
  EXPECT_GE(class_changes(), most - 1);
  EXPECT_GE(fill(3), most / 8 - 1);
  EXPECT_EQ(fill(0), most);
}

TEST_F(ArenaClassesTest, a_bounded_window_changes_classes_before_it_grows) {
  os_.limit_address_space(std::size_t{1} << 40);
  std::vector<void*> runs;
  for (const std::uint32_t index : {0u, 1u, 2u}) {
    for (int count = 0; count < 300; ++count) {
      runs.push_back(allocate(index));
    }
    free_all(runs, index);
  }
  EXPECT_LE(arena_->committed_chunks(), 300 * 2 + Tunables::largest_bounded_growth_chunks);
  EXPECT_GE(class_changes(), 500u);
}

TEST_F(ArenaClassesTest, where_the_window_cannot_grow_a_class_gets_runs_of_others) {
  std::vector<void*> runs;
  for (int count = 0; count < 100; ++count) {
    runs.push_back(allocate(0));
  }
  os_.fail_every(test::OsCall::MapAt);
  free_all(runs, 0);
  EXPECT_GE(fill(1), 100u);
  EXPECT_GE(class_changes(), 90u);
}

TEST_F(ArenaClassesTest, memory_of_free_runs_is_given_back_where_the_system_refuses_more) {
  std::vector<void*> own;
  std::vector<void*> others;
  own.push_back(allocate(0));
  free_all(own, 0);
  arena_->trim();
  for (int count = 0; count < 20; ++count) {
    others.push_back(allocate(1));
  }
  free_all(others, 1);
  // The run of class 0 is inaccessible, and the first attempt to change that is refused.
  os_.fail_call(1);
  EXPECT_NE(allocate(0), nullptr);
  EXPECT_EQ(arena_->statistics().dirty_bytes, 0u);
}

TEST_F(ArenaClassesTest, records_of_purged_runs_of_several_classes_go_back) {
  std::vector<void*> runs[3];
  for (int count = 0; count < 300; ++count) {
    for (const std::uint32_t index : {0u, 1u, 2u}) {
      void* const run = allocate(index);
      runs[index].push_back(run);
      arena_->chunk_of(run)->bitmaps[0].store(1, Order::relaxed);
    }
  }
  const auto records = [&] {
    return os::interface().resident_bytes(const_cast<Chunk*>(&arena_->record(0)),
                                          300 * 6 * sizeof(Chunk) / 4096 * 4096);
  };
  EXPECT_GE(records(), mebibyte);
  for (const std::uint32_t index : {0u, 1u, 2u}) {
    free_all(runs[index], index);
  }
  arena_->trim();
  EXPECT_LE(records(), 16 * 1024u);
}

TEST_F(ArenaClassesTest, validation_notices_a_page_in_a_run_of_another_class) {
  Chunk* const chunk = arena_->chunk_of(allocate(1));
  chunk->publish(ChunkInfo::slab_head(16, 100, 1, 16));
  EXPECT_TRUE(arena_->validate());
  chunk->publish(ChunkInfo::slab_head(16, 100, 2, 16));
  EXPECT_FALSE(arena_->validate()) << "M7";
  chunk->clear();
}

}  // namespace
}  // namespace slabmalloc
