// SPDX-License-Identifier: MIT
//
// The adaptors in a source without exceptions and RTTI.
#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <memory_resource>
#include <thread>
#include <vector>

#include "slabmalloc/adaptors/memory_resource.hpp"
#include "slabmalloc/adaptors/stl_allocator.hpp"
#include "with_exceptions.hpp"

#if defined(__cpp_exceptions) || defined(__cpp_rtti)
#error "this file shows what the adaptors do without exceptions and RTTI"
#endif

namespace slabmalloc::test {
namespace {

constexpr std::size_t more_than_memory = PTRDIFF_MAX / sizeof(long);

/// A resource of another class without data, so smaller than those of the adaptors.
class ForeignResource : public std::pmr::memory_resource {
  void* do_allocate(std::size_t, std::size_t) override { return nullptr; }
  void do_deallocate(void*, std::size_t, std::size_t) override {}
  bool do_is_equal(const std::pmr::memory_resource& other) const noexcept override {
    return this == &other;
  }
};

TEST(AdaptorsWithoutExceptions, exhaustion_ends_the_program_and_names_the_exception) {
  FrameSource frames;
  TestZone zone(frames);
  ZoneResource zone_resource(zone);
  StlAllocator<long, TestZone> allocator(zone);
  ProcessAllocator<long> process;
  // Nothing catches an exception of a thread. GoogleTest would catch one of the test itself. clang
  // omits a call of malloc() whose result nothing uses.
  void* volatile used = nullptr;
  const auto allocate = [&used](auto& from, std::size_t count) {
    std::thread([&] { used = from.allocate(count); }).join();
  };
  EXPECT_DEATH(allocate(zone_resource, more_than_memory), "std::bad_alloc");
  EXPECT_DEATH(allocate(allocator, more_than_memory), "std::bad_alloc");
  EXPECT_DEATH(allocate(allocator, more_than_memory + 1), "std::bad_array_new_length");
  EXPECT_DEATH(allocate(process, more_than_memory), "std::bad_alloc");
  EXPECT_DEATH(allocate(process, more_than_memory + 1), "std::bad_array_new_length");
}

TEST(AdaptorsWithoutExceptions, a_source_with_exceptions_in_the_same_program_catches_them) {
  FrameSource frames;
  TestZone zone(frames);
  std::vector<long, StlAllocator<long, TestZone>> numbers(100, 7, zone);
  EXPECT_EQ(numbers.back(), 7);
  EXPECT_EQ(thrown_by_allocate(zone, 100), nullptr);
  EXPECT_STREQ(thrown_by_allocate(zone, more_than_memory), "std::bad_alloc");
  EXPECT_STREQ(thrown_by_allocate(zone, more_than_memory + 1), "std::bad_array_new_length");
}

TEST(AdaptorsWithoutExceptions, resources_are_equal_exactly_if_kind_and_source_are) {
  FrameSource frames;
  TestZone zone(frames);
  TestZone other_zone(frames);
  SCAllocator<ObjectPage> allocator(64);
  SCAllocator<ObjectPage> other_allocator(64);
  ZoneResource first(zone);
  ZoneResource same(zone);
  ZoneResource other(other_zone);
  ZoneResource sized(allocator, &first);
  ZoneResource sized_same(allocator, &same);
  ZoneResource sized_other(other_allocator, &first);
  ZoneResource sized_other_upstream(allocator, &other);
  ProcessResource process;
  ForeignResource foreign;
  const std::vector<std::vector<const std::pmr::memory_resource*>> classes = {
      {&first, &same},
      {&other},
      {&sized, &sized_same},
      {&sized_other},
      {&sized_other_upstream},
      {&process, process_resource()},
      {&foreign},
      {std::pmr::new_delete_resource()}};
  for (const auto& left : classes) {
    for (const auto& right : classes) {
      for (const auto* one : left) {
        for (const auto* another : right) {
          EXPECT_EQ(one->is_equal(*another), &left == &right)
              << "class " << &left - classes.data() << ", class " << &right - classes.data();
        }
      }
    }
  }
}

}  // namespace
}  // namespace slabmalloc::test
