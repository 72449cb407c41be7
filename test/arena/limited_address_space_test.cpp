// SPDX-License-Identifier: MIT
//
// Tests with a real RLIMIT_AS. Each test runs in a child process, whose bound lies a little above
// its present mappings.
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include <cstdio>
#include <memory>
#include <new>

#include "arena/arena.hpp"
#include "os/os.hpp"
#include "support/child.hpp"

namespace slabmalloc {
namespace {

constexpr std::size_t mebibyte = std::size_t{1} << 20;

std::size_t mapped_bytes() {
  std::FILE* const file = std::fopen("/proc/self/statm", "r");
  unsigned long os_pages = 0;
  if (file == nullptr || std::fscanf(file, "%lu", &os_pages) != 1) {
    return 0;
  }
  std::fclose(file);
  return os_pages * os::linux_interface.os_page_bytes();
}

/// Runs `work` with room for `bytes` more. Returns its result, 0 for success.
template <class Work>
int in_bounded_child(std::size_t bytes, Work work) {
  return test::status_of_child([&] {
    const std::size_t bound = mapped_bytes() + bytes;
    const rlimit limit{bound, bound};
    setrlimit(RLIMIT_AS, &limit);
    // The system's own table has asked for the bound already.
    static os::Interface table = os::linux_interface;
    table.address_space_limit = [] {
      rlimit now{};
      getrlimit(RLIMIT_AS, &now);
      return static_cast<std::size_t>(now.rlim_cur);
    };
    os::replace_interface(table);
    // This memory must not come from a heap that is bounded too.
    alignas(Arena) static std::byte place[sizeof(Arena)];
    return work(*new (place) Arena);
  });
}

TEST(LimitedAddressSpace, most_of_the_address_space_can_be_used) {
  EXPECT_EQ(in_bounded_child(400 * mebibyte,
                             [](Arena& arena) {
                               std::size_t chunks = 0;
                               while (const Extent run = arena.allocate(1)) {
                                 *static_cast<volatile char*>(run.address) = 1;
                                 ++chunks;
                               }
                               const bool enough = chunks * chunk_bytes > 380 * mebibyte;
                               return enough && arena.validate() ? 0 : 1;
                             }),
            0);
}

TEST(LimitedAddressSpace, others_can_map_space_that_the_arena_does_not_use) {
  EXPECT_EQ(in_bounded_child(400 * mebibyte,
                             [](Arena& arena) {
                               if (!arena.allocate(1)) {
                                 return 1;
                               }
                               return os::interface().map(390 * mebibyte) != nullptr ? 0 : 1;
                             }),
            0);
}

TEST(LimitedAddressSpace, large_objects_are_served_and_given_back) {
  EXPECT_EQ(in_bounded_child(400 * mebibyte,
                             [](Arena& arena) {
                               for (int round = 0; round < 100; ++round) {
                                 const Extent small = arena.allocate_large(20 * mebibyte, 16);
                                 const Extent large = arena.allocate_large(300 * mebibyte, 16);
                                 if (!small || !large) {
                                   return 1;
                                 }
                                 arena.deallocate_large(small.address);
                                 arena.deallocate_large(large.address);
                               }
                               return arena.validate() ? 0 : 1;
                             }),
            0);
}

TEST(LimitedAddressSpace, space_of_large_objects_serves_a_larger_one_afterwards) {
  EXPECT_EQ(in_bounded_child(400 * mebibyte,
                             [](Arena& arena) {
                               static void* objects[1000];
                               std::size_t count = 0;
                               while (const Extent object = arena.allocate_large(mebibyte, 16)) {
                                 objects[count++] = object.address;
                                 // These pages stay in between.
                                 arena.allocate(1);
                               }
                               for (std::size_t object = 0; object < count; ++object) {
                                 arena.deallocate_large(objects[object]);
                               }
                               return arena.allocate_large(300 * mebibyte, 16) ? 0 : 1;
                             }),
            0);
}

TEST(LimitedAddressSpace, exhaustion_is_null_and_passes_when_memory_is_freed) {
  EXPECT_EQ(in_bounded_child(200 * mebibyte,
                             [](Arena& arena) {
                               static void* runs[10000];
                               std::size_t count = 0;
                               while (const Extent run = arena.allocate(4)) {
                                 runs[count++] = run.address;
                               }
                               if (arena.allocate_large(50 * mebibyte, 16)) {
                                 return 1;
                               }
                               for (std::size_t run = 0; run < count; ++run) {
                                 arena.deallocate(runs[run], 4);
                               }
                               const Extent large = arena.allocate_large(100 * mebibyte, 16);
                               return large && arena.validate() ? 0 : 1;
                             }),
            0);
}

TEST(LimitedAddressSpace, no_space_at_all_is_null_too) {
  EXPECT_EQ(in_bounded_child(0,
                             [](Arena& arena) {
                               const bool refused = !arena.allocate(1) &&
                                                    !arena.allocate_large(1, 1) &&
                                                    !arena.allocate_large(100 * mebibyte, 1);
                               return refused && arena.validate() ? 0 : 1;
                             }),
            0);
}

}  // namespace
}  // namespace slabmalloc
