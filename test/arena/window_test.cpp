// SPDX-License-Identifier: MIT
#include "arena/window.hpp"

#include <gtest/gtest.h>
#include <sys/mman.h>

#include "os/faulty_os.hpp"
#include "slabmalloc/base/bits.hpp"
#include "support/pattern.hpp"

namespace slabmalloc {
namespace {

constexpr std::size_t mebibyte = std::size_t{1} << 20;
constexpr std::size_t gibibyte = std::size_t{1} << 30;

void expect_usable(const Window& window, std::uint32_t first, std::uint32_t chunks) {
  for (std::uint32_t chunk = first; chunk < first + chunks; ++chunk) {
    std::byte* const data = window.data() + std::size_t{chunk} * chunk_bytes;
    EXPECT_TRUE(test::holds_zeroes(data, chunk_bytes)) << chunk;
    test::fill_pattern(data, 64, chunk);
    window.records()[chunk].info = ChunkInfo::large_head(chunk);
    window.tags()[chunk].chunks = chunk;
  }
}

TEST(Window, opens_on_first_growth_with_at_least_the_requested_chunks) {
  test::FaultyOs os;
  Window window;
  const Growth growth = window.grow(3);
  EXPECT_EQ(growth.skipped, 0u);
  EXPECT_GE(growth.added, 3u);
  EXPECT_FALSE(window.is_bounded());
  expect_usable(window, 0, growth.added);
}

TEST(Window, parts_do_not_overlap_however_far_they_grow) {
  test::FaultyOs os;
  Window window;
  ASSERT_TRUE(window.grow(1));
  const auto data = reinterpret_cast<std::uintptr_t>(window.data());
  const auto records = reinterpret_cast<std::uintptr_t>(window.records());
  const auto tags = reinterpret_cast<std::uintptr_t>(window.tags());
  const std::size_t chunks = (tags - records - chunk_bytes) / sizeof(Chunk);
  EXPECT_GE(chunks * chunk_bytes, gibibyte);
  EXPECT_GE(data, tags + chunks * sizeof(RunTag));
  EXPECT_EQ(data % (2 * mebibyte), 0u);
}

TEST(Window, maps_no_more_than_it_makes_usable) {
  test::FaultyOs os;
  Window window;
  ASSERT_TRUE(window.grow(1));
  EXPECT_EQ(os.usable_bytes(), window.data_bytes() + window.metadata_bytes());
  EXPECT_LE(os.usable_bytes(), 5 * mebibyte);
}

TEST(Window, growth_continues_where_it_ended) {
  test::FaultyOs os;
  Window window;
  std::uint32_t end = 0;
  while (end < 3000) {
    const Growth growth = window.grow(100);
    ASSERT_GE(growth.added, 100u);
    expect_usable(window, end, growth.added);
    end += growth.added;
    EXPECT_EQ(window.data_bytes(), end * chunk_bytes);
    EXPECT_EQ(window.data_bytes() + window.metadata_bytes(), os.usable_bytes());
  }
}

TEST(Window, takes_a_smaller_space_if_no_large_one_is_free) {
  for (const std::size_t largest : {20 * gibibyte, 5 * gibibyte, 2 * gibibyte}) {
    test::FaultyOs os;
    os.limit_space(largest);
    Window window;
    EXPECT_TRUE(window.grow(1));
    const auto records = reinterpret_cast<std::uintptr_t>(window.records());
    const auto tags = reinterpret_cast<std::uintptr_t>(window.tags());
    const std::size_t chunks = (tags - records - chunk_bytes) / sizeof(Chunk);
    EXPECT_LE(chunks * chunk_bytes, largest);
    EXPECT_GE(chunks * chunk_bytes, largest / 5);
  }
}

TEST(Window, ends_with_its_space) {
  test::FaultyOs os;
  os.limit_space(2 * gibibyte);
  Window window;
  std::uint32_t end = 0;
  while (const Growth growth = window.grow(1024)) {
    end += growth.added;
  }
  EXPECT_LE(end, gibibyte / chunk_bytes);
  EXPECT_GT(end, gibibyte / chunk_bytes - 1024);
  EXPECT_FALSE(window.grow(gibibyte / chunk_bytes));
}

TEST(Window, opens_where_programs_leave_room_if_no_space_is_proposed) {
  test::FaultyOs os;
  os.limit_space(0);
  Window window;
  const Growth growth = window.grow(3);
  EXPECT_FALSE(window.is_bounded());
  expect_usable(window, 0, growth.added);
}

TEST(Window, opens_where_address_space_is_bounded_however_generously) {
  test::FaultyOs os;
  os.limit_address_space(500 * gibibyte);
  Window window;
  ASSERT_TRUE(window.grow(1));
  EXPECT_TRUE(window.is_bounded());
}

TEST(Window, heeds_a_bound_that_comes_and_goes) {
  test::FaultyOs os;
  Window window;
  std::uint32_t end = window.grow(1).added;
  for (const std::size_t bound : {gibibyte, os::unlimited, 2 * gibibyte}) {
    os.limit_address_space(bound);
    const Growth growth = window.grow(1);
    ASSERT_TRUE(growth);
    EXPECT_EQ(window.is_bounded(), bound != os::unlimited);
    EXPECT_EQ(growth.added * chunk_bytes < 4 * mebibyte, bound != os::unlimited);
    expect_usable(window, end, growth.added);
    end += growth.added;
  }
}

TEST(Window, grows_by_little_where_address_space_is_bounded) {
  test::FaultyOs os;
  os.limit_address_space(gibibyte);
  Window window;
  std::uint32_t end = 0;
  while (end < 2000) {
    const Growth growth = window.grow(1);
    ASSERT_TRUE(growth);
    EXPECT_LE(growth.added * chunk_bytes, 4 * mebibyte);
    expect_usable(window, end, growth.added);
    end += growth.added;
  }
  EXPECT_LT(os.usable_bytes(), std::size_t{end} * chunk_bytes * 103 / 100);
}

TEST(Window, uses_up_bounded_address_space_to_the_last_step) {
  test::FaultyOs os;
  os.limit_address_space(100 * mebibyte);
  Window window;
  std::uint32_t end = 0;
  while (const Growth growth = window.grow(1)) {
    end += growth.added;
  }
  EXPECT_GT(std::size_t{end} * chunk_bytes, 96 * mebibyte);
}

TEST(Window, skips_mappings_in_its_way) {
  test::FaultyOs os;
  os.limit_address_space(gibibyte);
  Window window;
  Growth growth = window.grow(1);
  ASSERT_TRUE(growth);
  const std::uint32_t end = growth.added;
  void* const obstacle = window.data() + std::size_t{end} * chunk_bytes + 5 * chunk_bytes;
  ASSERT_EQ(
      mmap(obstacle, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0),
      obstacle);
  growth = window.grow(1);
  EXPECT_GE(growth.skipped, 6u);
  ASSERT_TRUE(growth);
  expect_usable(window, end + growth.skipped, growth.added);
  // Records of the skipped chunks are readable too.
  EXPECT_EQ(window.records()[end + 1].info.kind, ChunkKind::Unclaimed);
  munmap(obstacle, 4096);
}

TEST(Window, skips_obstacles_of_gibibytes_where_address_space_is_free) {
  test::FaultyOs os;
  Window window;
  const std::uint32_t end = window.grow(1).added;
  std::byte* const obstacle = window.data() + std::size_t{end} * chunk_bytes + 8 * mebibyte;
  const std::size_t bytes = 3 * gibibyte;
  ASSERT_EQ(mmap(obstacle, bytes, PROT_NONE,
                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0),
            obstacle);
  // The first step ends before it, if steps do not grow; later steps go beyond.
  std::uint32_t first = end;
  std::byte* last = nullptr;
  for (int step = 0; step < 4; ++step) {
    const Growth growth = window.grow(20);
    ASSERT_TRUE(growth) << step;
    first += growth.skipped;
    expect_usable(window, first, growth.added);
    last = window.data() + std::size_t{first} * chunk_bytes;
    first += growth.added;
  }
  EXPECT_GE(last, obstacle + bytes);
  munmap(obstacle, bytes);
}

TEST(Window, ends_before_a_mapping_behind_its_records_until_that_is_gone) {
  test::FaultyOs os;
  Window window;
  std::uint32_t end = window.grow(1).added;
  const std::size_t offset =
      align_up(end * sizeof(Chunk), os.os_page_bytes()) + 16 * os.os_page_bytes();
  void* const obstacle = reinterpret_cast<std::byte*>(window.records()) + offset;
  ASSERT_EQ(
      mmap(obstacle, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0),
      obstacle);
  while (const Growth growth = window.grow(1)) {
    EXPECT_EQ(growth.skipped, 0u);
    end += growth.added;
  }
  EXPECT_EQ(end, offset / sizeof(Chunk)) << "up to the last record that has room";
  expect_usable(window, 0, end);
  munmap(obstacle, 4096);
  EXPECT_TRUE(window.grow(1));
}

TEST(Window, a_failure_behind_an_obstacle_leaves_nothing_mapped) {
  for (std::size_t k = 1; k < 8; ++k) {
    test::FaultyOs os;
    Window window;
    const std::uint32_t end = window.grow(1).added;
    std::byte* const obstacle = window.data() + std::size_t{end} * chunk_bytes + 5 * chunk_bytes;
    ASSERT_EQ(
        mmap(obstacle, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0),
        obstacle);
    os.fail_call(k);
    window.grow(2000);
    EXPECT_EQ(os.usable_bytes(), window.data_bytes() + window.metadata_bytes()) << k;
    os.heal();
    EXPECT_TRUE(window.grow(2000));
    munmap(obstacle, 4096);
  }
}

TEST(Window, goes_elsewhere_if_its_first_place_is_taken) {
  std::byte* first_place = nullptr;
  {
    test::FaultyOs os;
    os.limit_address_space(gibibyte);
    Window window;
    ASSERT_TRUE(window.grow(1));
    first_place = window.data();
  }
  // Wider than the widest gap that the window skips.
  const std::size_t bytes = gibibyte;
  ASSERT_EQ(mmap(first_place, bytes, PROT_NONE,
                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0),
            first_place);
  test::FaultyOs os;
  os.limit_address_space(gibibyte);
  Window window;
  const Growth growth = window.grow(1);
  munmap(first_place, bytes);
  ASSERT_TRUE(growth);
  EXPECT_NE(window.data(), first_place);
  expect_usable(window, 0, growth.added);
}

TEST(Window, failed_growth_leaves_it_as_it_was) {
  for (const std::size_t address_space : {os::unlimited, gibibyte}) {
    for (std::size_t k = 1;; ++k) {
      test::FaultyOs os;
      os.limit_address_space(address_space);
      Window window;
      os.fail_from(k);
      const Growth growth = window.grow(16);
      const bool was_touched = os.failures() != 0;
      if (!growth) {
        EXPECT_EQ(window.data_bytes(), 0u);
      }
      os.heal();
      const Growth second = window.grow(16);
      ASSERT_TRUE(second);
      expect_usable(window, growth.skipped + growth.added + second.skipped, second.added);
      if (!was_touched) {
        break;
      }
    }
  }
}

TEST(Window, refuses_os_pages_larger_than_a_chunk) {
  test::FaultyOs os;
  os.set_os_page_bytes(2 * chunk_bytes);
  Window window;
  EXPECT_FALSE(window.grow(1));
}

TEST(Window, works_with_each_size_of_os_page) {
  for (const std::size_t os_page_bytes : {4096u, 16384u, 65536u}) {
    for (const std::size_t address_space : {os::unlimited, gibibyte}) {
      test::FaultyOs os;
      os.set_os_page_bytes(os_page_bytes);
      os.limit_address_space(address_space);
      Window window;
      std::uint32_t end = 0;
      for (int step = 0; step < 10; ++step) {
        const Growth growth = window.grow(7);
        ASSERT_TRUE(growth);
        expect_usable(window, end, growth.added);
        end += growth.added;
      }
    }
  }
}

}  // namespace
}  // namespace slabmalloc
