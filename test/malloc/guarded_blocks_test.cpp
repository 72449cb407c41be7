// SPDX-License-Identifier: MIT
#include "malloc/guarded_blocks.hpp"

#include <gtest/gtest.h>
#include <setjmp.h>
#include <signal.h>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <deque>
#include <memory>
#include <thread>
#include <vector>

#include "os/faulty_os.hpp"
#include "support/child.hpp"
#include "support/misuse_recorder.hpp"
#include "support/random.hpp"

namespace slabmalloc {
namespace {

class GuardedBlocksTest : public testing::Test {
 protected:
  explicit GuardedBlocksTest(std::uint32_t places = 8) : places_before_(tunables.guarded_places) {
    tunables.guarded_places = places;
  }
  ~GuardedBlocksTest() override {
    EXPECT_EQ(blocks_->validate(), nullptr);
    tunables.guarded_places = places_before_;
  }

  /// With its guard.
  static constexpr std::size_t place_bytes = 36 * 1024;

  std::byte* allocate(std::size_t bytes, std::size_t alignment = 16) {
    return static_cast<std::byte*>(blocks_->allocate(bytes, alignment, stack_));
  }
  void free(const void* block) { blocks_->deallocate(block, Call::Free, stack_); }

  const std::uint32_t places_before_;
  const CallStack stack_{};
  test::FaultyOs os_;
  test::MisuseRecorder misuse_;
  std::unique_ptr<GuardedBlocks> blocks_ = std::make_unique<GuardedBlocks>();
};

/// Catches the faults of one access.
class FaultCatcher {
 public:
  FaultCatcher() {
    struct sigaction action = {};
    action.sa_handler = [](int) { siglongjmp(back_, 1); };
    action.sa_flags = SA_NODEFER;
    sigaction(SIGSEGV, &action, &before_);
  }
  ~FaultCatcher() { sigaction(SIGSEGV, &before_, nullptr); }
  FaultCatcher(const FaultCatcher&) = delete;
  FaultCatcher& operator=(const FaultCatcher&) = delete;

  /// True if a byte can be read and written.
  bool is_accessible(std::byte* byte) {
    if (sigsetjmp(back_, 1) != 0) {
      return false;
    }
    *const_cast<volatile std::byte*>(byte) = *const_cast<volatile std::byte*>(byte);
    return true;
  }

 private:
  static inline sigjmp_buf back_;
  struct sigaction before_ = {};
};

TEST_F(GuardedBlocksTest, follow_a_model_of_random_calls) {
  test::Random random;
  struct Live {
    std::byte* block;
    std::size_t bytes;
    int mark;
  };
  std::vector<Live> live;
  std::deque<std::byte*> freed;
  FaultCatcher catcher;
  for (int step = 0; step < 5000; ++step) {
    if (random.below(2) == 0) {
      const std::size_t bytes =
          1 + (random.below(4) == 0 ? random.below(32768) : random.below(300));
      const std::size_t alignment = std::size_t{16} << random.below(9);
      std::byte* const block = allocate(bytes, alignment);
      ASSERT_EQ(block == nullptr, live.size() == 8) << "all places hold live blocks";
      if (block == nullptr) {
        continue;
      }
      EXPECT_EQ(reinterpret_cast<std::uintptr_t>(block) % alignment, 0u);
      EXPECT_TRUE(
          std::all_of(block, block + bytes, [](std::byte one) { return one == std::byte{}; }));
      for (const Live& other : live) {
        EXPECT_TRUE(block + bytes <= other.block || other.block + other.bytes <= block);
      }
      // It lies at one of the guards: before it, or as close behind as its alignment allows.
      std::byte* const end = reinterpret_cast<std::byte*>(
          align_up(reinterpret_cast<std::uintptr_t>(block) + bytes, alignment));
      EXPECT_TRUE(!catcher.is_accessible(block - 1) || !catcher.is_accessible(end));
      // A freed place rests until all others were used.
      const std::size_t resting = 7 - live.size();
      for (std::size_t place = 0; place < resting && place < freed.size(); ++place) {
        EXPECT_FALSE(catcher.is_accessible(freed[freed.size() - 1 - place]));
      }
      std::memset(block, step, bytes);
      live.push_back({block, bytes, step});
    } else if (!live.empty()) {
      const std::size_t chosen = random.below(live.size());
      const Live one = live[chosen];
      live.erase(live.begin() + static_cast<std::ptrdiff_t>(chosen));
      EXPECT_EQ(blocks_->usable_bytes(one.block, Call::UsableSize), one.bytes);
      EXPECT_TRUE(std::all_of(one.block, one.block + one.bytes, [&](std::byte byte) {
        return byte == static_cast<std::byte>(one.mark);
      }));
      free(one.block);
      freed.push_back(one.block);
      EXPECT_FALSE(catcher.is_accessible(one.block));
      EXPECT_FALSE(catcher.is_accessible(one.block + one.bytes - 1));
    }
    ASSERT_EQ(blocks_->live_count(), live.size());
    ASSERT_EQ(blocks_->validate(), nullptr);
  }
  for (const Live& one : live) {
    free(one.block);
  }
}

TEST_F(GuardedBlocksTest, refuse_what_does_not_fit) {
  EXPECT_EQ(allocate(GuardedBlocks::most_bytes + 1), nullptr);
  EXPECT_EQ(allocate(16, 2 * os_.os_page_bytes()), nullptr);
  EXPECT_EQ(blocks_->refusals(), 2u);
  std::byte* const largest = allocate(GuardedBlocks::most_bytes, os_.os_page_bytes());
  ASSERT_NE(largest, nullptr);
  std::memset(largest, 1, GuardedBlocks::most_bytes);
  free(largest);
}

TEST_F(GuardedBlocksTest, report_each_wrong_free_and_stay_as_they_are) {
  std::byte* const block = allocate(100);
  std::byte* const other = allocate(50);
  const auto expect = [&](const std::byte* address, MisuseKind kind, const void* start,
                          BlockState state) {
    free(address);
    EXPECT_EQ(blocks_->bytes_at(address), 0u);
    EXPECT_EQ(blocks_->usable_bytes(address, Call::UsableSize), 0u);
    const std::vector<Misuse> reports = misuse_.take();
    ASSERT_EQ(reports.size(), 2u);
    for (const Misuse& misuse : reports) {
      EXPECT_EQ(misuse.kind, kind);
      EXPECT_EQ(misuse.address, address);
      EXPECT_EQ(misuse.block, start);
      EXPECT_EQ(misuse.state, state);
      EXPECT_EQ(misuse.object_size, start != nullptr ? 100u : 0u);
    }
    EXPECT_EQ(blocks_->validate(), nullptr);
  };
  expect(block + 8, MisuseKind::MisalignedFree, block, BlockState::InUse);
  expect(block + 99, MisuseKind::MisalignedFree, block, BlockState::InUse);
  expect(block + 100, MisuseKind::ForeignPointer, nullptr, BlockState::Unknown);
  expect(block - 1, MisuseKind::ForeignPointer, nullptr, BlockState::Unknown);
  expect(other + 2 * place_bytes, MisuseKind::ForeignPointer, nullptr, BlockState::NoBlock);
  EXPECT_EQ(blocks_->live_count(), 2u);
  free(block);
  expect(block, MisuseKind::DoubleFree, block, BlockState::Freed);
  expect(block + 1, MisuseKind::MisalignedFree, block, BlockState::Freed);
  free(other);
}

TEST_F(GuardedBlocksTest, a_write_beside_a_block_shows_at_its_free) {
  FaultCatcher catcher;
  int before = 0;
  int behind = 0;
  for (int round = 0; round < 400; ++round) {
    for (const int distance : {-128, -16, -1, 0, 1, 15, 127}) {
      constexpr std::size_t bytes = 100;
      std::byte* const block = allocate(bytes);
      ASSERT_NE(block, nullptr);
      std::byte* const written = distance < 0 ? block + distance : block + bytes + distance;
      if (catcher.is_accessible(written)) {
        const std::byte was = *written;
        *written = std::byte{0};
        free(block);
        const std::vector<Misuse> reports = misuse_.take();
        ASSERT_EQ(reports.size(), 1u) << distance;
        EXPECT_EQ(reports[0].kind, distance < 0 ? MisuseKind::Underflow : MisuseKind::Overflow);
        EXPECT_EQ(reports[0].block, block);
        EXPECT_EQ(blocks_->bytes_at(block), bytes) << "the free did nothing";
        *written = was;
        (distance < 0 ? before : behind) += 1;
      }
      free(block);
    }
  }
  EXPECT_GT(before, 100) << "half of the blocks lie at the end of their place";
  EXPECT_GT(behind, 100);
}

TEST_F(GuardedBlocksTest, a_fault_leads_to_the_nearest_block) {
  std::byte* const block = allocate(100);
  const auto expect = [&](const std::byte* address, GuardedAccess where, std::size_t distance) {
    ASSERT_TRUE(blocks_->contains(address));
    const GuardedFault fault = blocks_->find_fault(address);
    ASSERT_NE(fault.block, nullptr);
    EXPECT_EQ(fault.block->address, reinterpret_cast<std::uintptr_t>(block));
    EXPECT_EQ(fault.where, where);
    EXPECT_EQ(fault.distance, distance);
  };
  for (const bool is_freed : {false, true}) {
    if (is_freed) {
      free(block);
    }
    for (int offset = -4096; offset < 4096 + 100; ++offset) {
      if (!blocks_->contains(block + offset)) {
        EXPECT_LT(offset, 0) << "before the first guard";
      } else if (offset < 0) {
        expect(block + offset, GuardedAccess::Before, static_cast<std::size_t>(-offset));
      } else if (offset < 100) {
        expect(block + offset, GuardedAccess::Inside, static_cast<std::size_t>(offset));
      } else {
        expect(block + offset, GuardedAccess::Beyond, static_cast<std::size_t>(offset) - 100);
      }
    }
  }
  const GuardedFault far = blocks_->find_fault(block + 5 * 36 * 1024);
  EXPECT_EQ(far.block, nullptr) << "places that no block ever had";
}

TEST_F(GuardedBlocksTest, a_fault_between_two_blocks_leads_to_the_nearer_one) {
  constexpr std::size_t bytes = 4096;
  std::byte* first = nullptr;
  std::byte* second = nullptr;
  // Until one ends at the guard at which the other starts.
  while (first == nullptr || second != first + 2 * bytes) {
    blocks_ = std::make_unique<GuardedBlocks>();
    first = allocate(bytes);
    second = allocate(bytes);
  }
  const auto block_at = [&](std::size_t offset) {
    return reinterpret_cast<std::byte*>(blocks_->find_fault(first + bytes + offset).block->address);
  };
  EXPECT_EQ(block_at(0), first);
  EXPECT_EQ(block_at(bytes / 2 - 1), first);
  EXPECT_EQ(block_at(bytes / 2), second);
  EXPECT_EQ(block_at(bytes - 1), second);
}

TEST_F(GuardedBlocksTest, lose_nothing_when_the_system_refuses) {
  for (std::size_t k = 1; k < 200; ++k) {
    os_.fail_call(k);
    std::vector<std::byte*> live;
    for (int round = 0; round < 20; ++round) {
      if (std::byte* const block = allocate(3000); block != nullptr) {
        std::memset(block, 1, 3000);
        live.push_back(block);
      }
      if (live.size() > 3) {
        free(live.front());
        live.erase(live.begin());
      }
      ASSERT_EQ(blocks_->validate(), nullptr);
    }
    os_.heal();
    for (std::byte* const block : live) {
      free(block);
    }
    ASSERT_EQ(blocks_->live_count(), 0u);
  }
  std::vector<std::byte*> all;
  for (int place = 0; place < 8; ++place) {
    all.push_back(allocate(1));
    ASSERT_NE(all.back(), nullptr) << "all places are there still";
  }
  for (std::byte* const block : all) {
    free(block);
  }
}

class GuardedBlocksOfOnePlace : public GuardedBlocksTest {
 protected:
  GuardedBlocksOfOnePlace() : GuardedBlocksTest(1) {}
};

TEST_F(GuardedBlocksOfOnePlace, know_that_an_earlier_block_may_have_started_anywhere) {
  std::byte* const first = allocate(100);
  free(first);
  std::byte* second = allocate(100);
  while (second == first) {
    free(second);
    second = allocate(100);
  }
  free(first);
  const std::vector<Misuse> reports = misuse_.take();
  ASSERT_EQ(reports.size(), 1u);
  EXPECT_EQ(reports[0].kind, MisuseKind::ForeignPointer);
  EXPECT_EQ(reports[0].state, BlockState::Unknown);
  free(second);
}

TEST_F(GuardedBlocksOfOnePlace, lie_alone_though_the_pages_of_the_one_before_stayed_accessible) {
  FaultCatcher catcher;
  for (int round = 0; round < 20; ++round) {
    std::byte* const large = allocate(GuardedBlocks::most_bytes);
    ASSERT_NE(large, nullptr);
    os_.fail_every(test::OsCall::ForbidAccess);
    free(large);
    EXPECT_TRUE(catcher.is_accessible(large)) << "the system refused";
    EXPECT_EQ(allocate(100), nullptr) << "it refuses still";
    EXPECT_EQ(blocks_->validate(), nullptr);
    os_.heal();
    std::byte* const small = allocate(100);
    ASSERT_NE(small, nullptr);
    for (std::size_t page = 0; page < GuardedBlocks::most_bytes; page += os_.os_page_bytes()) {
      const bool is_small_ones = small >= large + page && small < large + page + 4096;
      EXPECT_EQ(catcher.is_accessible(large + page), is_small_ones) << page;
    }
    free(small);
  }
}

TEST_F(GuardedBlocksTest, tell_misuse_while_other_threads_use_their_places) {
  std::byte* const block = allocate(100);
  std::atomic<bool> is_done{false};
  std::thread other([&] {
    for (int round = 0; round < 2000; ++round) {
      if (std::byte* const own = allocate(200)) {
        free(own);
      }
    }
    is_done = true;
  });
  while (!is_done) {
    EXPECT_EQ(blocks_->usable_bytes(block + 1, Call::UsableSize), 0u);
    EXPECT_EQ(blocks_->usable_bytes(block + place_bytes + 1, Call::UsableSize), 0u);
  }
  other.join();
  misuse_.take();
  free(block);
}

TEST_F(GuardedBlocksTest, work_with_larger_os_pages) {
  os_.set_os_page_bytes(65536);
  std::byte* const block = allocate(100);
  ASSERT_NE(block, nullptr);
  std::memset(block, 1, 100);
  free(block);
  EXPECT_FALSE(FaultCatcher().is_accessible(block));
}

}  // namespace
}  // namespace slabmalloc
