// SPDX-License-Identifier: MIT
#include "slabmalloc/kernel/early_memory.hpp"

#include <gtest/gtest.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <tuple>
#include <vector>

#include "kernel/early_model.hpp"
#include "kernel/frame_fixture.hpp"
#include "support/misuse_recorder.hpp"
#include "support/random.hpp"

namespace slabmalloc::test {
namespace {

constinit EarlyMemory<> made_by_the_compiler;

using Stretches = std::vector<std::tuple<std::uintptr_t, std::size_t, EarlyUse>>;

template <class Early>
Stretches all(const Early& early) {
  Stretches result;
  early.for_each([&](void* address, std::size_t bytes, EarlyUse use) {
    result.emplace_back(reinterpret_cast<std::uintptr_t>(address), bytes, use);
  });
  return result;
}

TEST(EarlyMemory, has_nothing_at_first) {
  EXPECT_EQ(all(made_by_the_compiler), Stretches());
  EXPECT_EQ(made_by_the_compiler.allocate(1, 1), nullptr);
  EXPECT_EQ(made_by_the_compiler.validate(), nullptr);
}

/// All sequences of three changes, of any stretch of five addresses.
TEST(EarlyMemory, every_sequence_of_changes_agrees_with_a_record_of_each_byte) {
  using Early = EarlyMemory<4096, 16>;
  struct Change {
    Result<void> (Early::*call)(MemoryRegion);
    int set;
    int clear;
  };
  constexpr Change kinds[] = {{&Early::add, 1, 0}, {&Early::remove, 0, 1}, {&Early::reserve, 2, 0}};
  constexpr std::size_t bytes = 4;
  struct Step {
    Change change;
    std::size_t first;
    std::size_t end;
  };
  std::vector<Step> steps;
  for (const Change& change : kinds) {
    for (std::size_t first = 0; first <= bytes; ++first) {
      for (std::size_t end = first; end <= bytes; ++end) {
        steps.push_back({change, first, end});
      }
    }
  }
  for (const Step& one : steps) {
    for (const Step& two : steps) {
      for (const Step& three : steps) {
        Early early;
        std::array<int, bytes> uses{};
        for (const Step& step : {one, two, three}) {
          ASSERT_TRUE((early.*step.change.call)({100 + step.first, step.end - step.first}));
          for (std::size_t at = step.first; at < step.end; ++at) {
            uses[at] = (uses[at] | step.change.set) & ~step.change.clear;
          }
        }
        ASSERT_EQ(early.validate(), nullptr);
        std::array<int, bytes> found{};
        early.for_each([&](void* address, std::size_t length, EarlyUse use) {
          const std::size_t at = reinterpret_cast<std::uintptr_t>(address) - 100;
          for (std::size_t next = at; next < at + length; ++next) {
            found.at(next) = static_cast<int>(use);
          }
        });
        ASSERT_EQ(found, uses);
      }
    }
  }
}

TEST(EarlyMemory, allocates_from_the_top_and_below_a_limit) {
  EarlyMemory<> early;
  ASSERT_TRUE(early.add({0, 0x10000}));
  ASSERT_TRUE(early.reserve({0xF800, 0x800}));
  const auto allocate = [&](auto... arguments) {
    return reinterpret_cast<std::uintptr_t>(early.allocate(arguments...));
  };
  EXPECT_EQ(allocate(0x100u, 1u), 0xF700u);
  EXPECT_EQ(allocate(0x100u, 0x1000u), 0xF000u) << "aligned";
  EXPECT_EQ(allocate(0u, 1u), 0xF6FFu) << "no bytes count as one";
  EXPECT_EQ(allocate(0x100u, 0x10u, 0x8000u), 0x7F00u);
  EXPECT_EQ(allocate(0x100u, 0x10u, 0x100u), 0u) << "a null pointer is no memory";
  EXPECT_EQ(allocate(0x100u, 0x10u, 0xFFu), 0u);
  EXPECT_EQ(allocate(~std::size_t{0}, 0x10u), 0u);
  EXPECT_EQ(early.validate(), nullptr);
}

TEST(EarlyMemory, reaches_up_to_the_last_byte_of_the_address_space) {
  constexpr std::uintptr_t top = ~std::uintptr_t{0};
  EarlyMemory<> early;
  ASSERT_TRUE(early.add({top - 0xFFF, 0x1000}));
  ASSERT_TRUE(early.add({top, 1}));
  ASSERT_TRUE(early.reserve({top - 0xF, top}));
  EXPECT_EQ(all(early),
            (Stretches{{top - 0xFFF, 0xFF0, EarlyUse::Free}, {top - 0xF, 0xF, EarlyUse::Used}}));
}

TEST(EarlyMemory, refuses_a_change_that_finds_no_room_in_the_table) {
  EarlyMemory<4096, 4> early;
  ASSERT_TRUE(early.add({0x1000, 0x1000}));
  ASSERT_TRUE(early.add({0x3000, 0x1000}));
  const Stretches before = all(early);
  EXPECT_FALSE(early.add({0x5000, 0x1000}));
  EXPECT_FALSE(early.reserve({0x1100, 0x100}));
  EXPECT_EQ(early.allocate(0x100, 0x100), nullptr);
  EXPECT_EQ(all(early), before);
}

TEST(EarlyMemory, grows_into_free_memory_but_not_into_what_is_about_to_be_reserved) {
  PhysicalMemory memory(64 * kibibyte);
  EarlyMemory<4096, 4> early;
  ASSERT_TRUE(early.add(memory.region(0, 16 * kibibyte)));
  ASSERT_TRUE(early.reserve(memory.region(0, 64)));
  early.allow_growth();
  ASSERT_TRUE(early.reserve(memory.region(8 * kibibyte, 8 * kibibyte)));
  const auto address = reinterpret_cast<std::uintptr_t>(memory.at(0));
  EXPECT_EQ(all(early), (Stretches{{address, 64, EarlyUse::Used},
                                   {address + 64, 4 * kibibyte - 64, EarlyUse::Free},
                                   {address + 4 * kibibyte, 12 * kibibyte, EarlyUse::Used}}))
      << "the table lies below, at 4 KiB";
  EXPECT_EQ(early.validate(), nullptr);
  // It moves on to a larger one, and the old memory is free again.
  for (std::size_t at = 128; at < 4 * kibibyte; at += 24) {
    ASSERT_TRUE(early.reserve(memory.region(at, 8))) << at;
    ASSERT_TRUE(early.add(memory.region(32 * kibibyte, 32 * kibibyte)));
  }
  EXPECT_EQ(early.validate(), nullptr);
  EXPECT_EQ(early.bytes(EarlyUse::Used), 64 + 166 * 8 + 8 * kibibyte + 8 * kibibyte);
}

/// A table that lies in memory, at 28 KiB of 32.
class GrownTableTest : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_TRUE(early.add(memory.region(0, 32 * kibibyte)));
    early.allow_growth();
    ASSERT_TRUE(early.reserve(memory.region(0, 64)));
    ASSERT_TRUE(early.reserve(memory.region(0, 64)));
    ASSERT_EQ(all(early), table_at(28));
  }
  void TearDown() override { EXPECT_EQ(early.validate(), nullptr); }
  Stretches table_at(std::size_t place) const {
    const auto at = reinterpret_cast<std::uintptr_t>(memory.at(0));
    Stretches result = {{at, 64, EarlyUse::Used},
                        {at + 64, place * kibibyte - 64, EarlyUse::Free},
                        {at + place * kibibyte, 4 * kibibyte, EarlyUse::Used}};
    return result;
  }
  /// As a client that uses what it reserved.
  void overwrite(std::size_t place) {
    __builtin_memset(memory.at(place * kibibyte), 0xA5, 4 * kibibyte);
  }

  MisuseRecorder misuse;
  PhysicalMemory memory{64 * kibibyte};
  EarlyMemory<4096, 4> early;
};

TEST_F(GrownTableTest, a_table_leaves_what_is_reserved_or_removed) {
  ASSERT_TRUE(early.reserve(memory.region(31 * kibibyte, kibibyte)));
  overwrite(28);
  ASSERT_EQ(early.bytes(EarlyUse::Used), 64 + kibibyte + 4 * kibibyte);
  ASSERT_TRUE(early.remove(memory.region(20 * kibibyte, 12 * kibibyte)));
  overwrite(20);
  overwrite(24);
  EXPECT_EQ(early.validate(), nullptr);
  EXPECT_EQ(early.bytes(EarlyUse::Free), 16 * kibibyte - 64);
  const Stretches before = all(early);
  EXPECT_FALSE(early.reserve(memory.region(0, 20 * kibibyte))) << "there is no other place";
  EXPECT_FALSE(early.remove(memory.region(64, 20 * kibibyte)));
  EXPECT_EQ(all(early), before);
}

TEST_F(GrownTableTest, a_free_of_the_table_is_reported) {
  ASSERT_TRUE(early.reserve(memory.region(27 * kibibyte, kibibyte)));
  const Stretches before = all(early);
  EXPECT_FALSE(early.deallocate(memory.at(28 * kibibyte), 4 * kibibyte));
  EXPECT_FALSE(early.deallocate(memory.at(32 * kibibyte - 1), 1));
  EXPECT_FALSE(early.deallocate(memory.at(27 * kibibyte), kibibyte + 1));
  EXPECT_EQ(misuse.take_kinds(), std::vector(3, MisuseKind::ForeignPointer));
  EXPECT_EQ(all(early), before);
  EXPECT_TRUE(early.deallocate(memory.at(27 * kibibyte), kibibyte));
}

TEST(EarlyMemory, reports_a_bad_free_and_changes_nothing) {
  MisuseRecorder misuse;
  EarlyMemory<> early;
  ASSERT_TRUE(early.add({0x1000, 0x1000}));
  ASSERT_TRUE(early.reserve({0x1800, 0x1000}));
  const Stretches before = all(early);
  EXPECT_FALSE(early.deallocate(reinterpret_cast<void*>(0x1800), 0x1000));
  EXPECT_EQ(misuse.take_kinds(), std::vector{MisuseKind::ForeignPointer}) << "beyond the memory";
  EXPECT_FALSE(early.deallocate(reinterpret_cast<void*>(0x17F0), 0x100));
  EXPECT_EQ(misuse.take_kinds(), std::vector{MisuseKind::DoubleFree});
  EXPECT_FALSE(early.deallocate(reinterpret_cast<void*>(~std::uintptr_t{0}), 1));
  EXPECT_EQ(misuse.take_kinds(), std::vector{MisuseKind::ForeignPointer}) << "the last byte";
  EXPECT_EQ(all(early), before);
  EXPECT_TRUE(early.deallocate(reinterpret_cast<void*>(0x1900), 0x100)) << "a part of it";
  EXPECT_EQ(early.bytes(EarlyUse::Free), 0x900u);
}

TEST(EarlyMemory, hands_over_what_is_neither_reserved_nor_allocated) {
  PhysicalMemory memory(2 * mebibyte);
  EarlyMemory<> early;
  ASSERT_TRUE(early.add(memory.region(0, 2 * mebibyte)));
  ASSERT_TRUE(early.reserve(memory.region(64 * kibibyte, 100)));
  void* const own = early.allocate(10 * kibibyte, 16);
  Frames frames;
  ASSERT_TRUE(early.hand_over(frames));
  EXPECT_EQ(all(early), Stretches());
  EXPECT_EQ(frames.statistics().managed_bytes, 2 * mebibyte - 4 * kibibyte - 12 * kibibyte);
  EXPECT_FALSE(frames.owns(memory.at(64 * kibibyte)));
  EXPECT_FALSE(frames.owns(own));
  const MemoryRegion later = memory.region(64 * kibibyte, 4 * kibibyte);
  EXPECT_TRUE(frames.add(&later, 1)) << "and later the rest";
  EXPECT_TRUE(frames.owns(memory.at(64 * kibibyte)));
}

TEST(EarlyMemory, keeps_all_memory_if_it_cannot_be_handed_over) {
  PhysicalMemory memory(2 * mebibyte);
  EarlyMemory<> early;
  ASSERT_TRUE(early.add(memory.region(0, 4 * kibibyte)));
  const Stretches before = all(early);
  Frames frames;
  EXPECT_FALSE(early.hand_over(frames)) << "one frame cannot hold its own meta-data";
  EXPECT_EQ(all(early), before);
  ASSERT_TRUE(early.add(memory.region(4 * kibibyte, 4 * kibibyte)));
  EXPECT_TRUE(early.hand_over(frames));
}

TEST(EarlyMemoryModel, agrees_with_a_record_of_each_unit) {
  Random random;
  for (int round = 0; round < 60 && !HasFatalFailure(); ++round) {
    EarlyProgram program(random);
    int steps = 200;
    program.run([&] { return steps-- > 0; });
  }
}

}  // namespace
}  // namespace slabmalloc::test
