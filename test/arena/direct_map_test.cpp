// SPDX-License-Identifier: MIT
#include "arena/direct_map.hpp"

#include <gtest/gtest.h>
#include <sys/mman.h>

#include <map>
#include <vector>

#include "os/faulty_os.hpp"
#include "support/pattern.hpp"
#include "support/random.hpp"

namespace slabmalloc {
namespace {

constexpr std::size_t mebibyte = std::size_t{1} << 20;

/// Maps memory at an address, so that an object that ends there cannot grow.
class Obstacle {
 public:
  explicit Obstacle(std::byte* address)
      : mapped_(mmap(address, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE,
                     -1, 0)) {}
  Obstacle(const Obstacle&) = delete;
  Obstacle& operator=(const Obstacle&) = delete;
  ~Obstacle() {
    if (mapped_ != MAP_FAILED) {
      munmap(mapped_, 4096);
    }
  }

 private:
  void* mapped_;  ///< MAP_FAILED if a mapping exists already.
};

class DirectMapTest : public testing::Test {
 protected:
  void* allocate(std::size_t bytes, std::size_t alignment = 16) {
    std::size_t usable = 0;
    bool zeroed = false;
    void* const object = map_.allocate(bytes, alignment, usable, zeroed);
    if (object != nullptr) {
      EXPECT_EQ(usable, DirectMap::size_for(bytes));
      EXPECT_EQ(reinterpret_cast<std::uintptr_t>(object) % alignment, 0u);
      last_was_zeroed_ = zeroed;
    }
    EXPECT_TRUE(map_.validate());
    return object;
  }

  void* allocate_cached(std::size_t bytes) {
    std::size_t usable = 0;
    void* const object = map_.allocate_cached(bytes, 16, usable);
    EXPECT_TRUE(object == nullptr || usable == DirectMap::size_for(bytes));
    EXPECT_TRUE(map_.validate());
    return object;
  }
  std::size_t deallocate(const void* object, bool may_cache = false) {
    const std::size_t bytes = map_.deallocate(object, may_cache, stamp_++);
    EXPECT_TRUE(map_.validate());
    return bytes;
  }

  test::FaultyOs os_;
  std::uint32_t stamp_ = 0;
  Gauge committed_;
  DirectMap map_{committed_};
  bool last_was_zeroed_ = false;
};

TEST_F(DirectMapTest, objects_are_known_by_their_first_byte_alone) {
  auto* const object = static_cast<std::byte*>(allocate(mebibyte));
  ASSERT_NE(object, nullptr);
  EXPECT_TRUE(test::holds_zeroes(object, mebibyte));
  EXPECT_EQ(map_.usable_bytes(object), mebibyte);
  EXPECT_EQ(map_.usable_bytes(object + 1), 0u);
  EXPECT_EQ(deallocate(object + 4096), 0u);
  EXPECT_TRUE(map_.is_inside(object + 4096));
  EXPECT_FALSE(map_.is_inside(object));
  EXPECT_FALSE(map_.is_inside(object + mebibyte));
  EXPECT_FALSE(map_.is_inside(nullptr));
  EXPECT_EQ(map_.place_of(object + mebibyte - 1).start, object);
  EXPECT_EQ(map_.place_of(object).bytes, mebibyte);
  EXPECT_EQ(map_.place_of(object + mebibyte).bytes, 0u);
  EXPECT_EQ(deallocate(object), mebibyte);
  EXPECT_EQ(map_.place_of(object).bytes, mebibyte) << "it is remembered with its size";
  EXPECT_EQ(map_.place_of(object + 4096).bytes, 0u);
  EXPECT_EQ(deallocate(object), 0u);
  EXPECT_EQ(deallocate(nullptr), 0u);
}

TEST_F(DirectMapTest, every_alignment_is_kept_and_slack_is_given_back) {
  for (std::size_t alignment = 1; alignment <= std::size_t{4} << 30; alignment *= 2) {
    const std::size_t before = os_.usable_bytes();
    void* const object = allocate(10000, alignment);
    ASSERT_NE(object, nullptr) << alignment;
    EXPECT_LE(os_.usable_bytes() - before, 12288u + (before == 0 ? 4096 : 0));
    EXPECT_NE(deallocate(object), 0u);
  }
}

TEST_F(DirectMapTest, impossible_sizes_are_refused) {
  for (const std::size_t bytes : {~std::size_t{0}, ~std::size_t{0} / 2, ~std::size_t{0} - 4096,
                                  std::size_t{1} << (sizeof(void*) * 8 - 2)}) {
    for (std::size_t alignment = 1; alignment != 0; alignment *= 2) {
      EXPECT_EQ(allocate(bytes, alignment), nullptr);
    }
  }
  EXPECT_EQ(map_.count(), 0u);
  EXPECT_NE(allocate(0), nullptr);
}

TEST_F(DirectMapTest, the_register_grows_with_the_number_of_objects) {
  std::vector<void*> objects;
  for (int count = 0; count < 1000; ++count) {
    objects.push_back(allocate(4096));
    ASSERT_NE(objects.back(), nullptr);
  }
  EXPECT_EQ(map_.count(), 1000u);
  for (void* const object : objects) {
    EXPECT_EQ(deallocate(object), 4096u);
  }
  EXPECT_EQ(map_.count(), 0u);
  EXPECT_EQ(map_.bytes(), 0u);
  EXPECT_TRUE(map_.validate());
}

TEST_F(DirectMapTest, remembers_only_the_last_freed_objects) {
  void* const never = allocate(mebibyte);
  std::vector<void*> ended;
  for (std::size_t number = 0; number <= Tunables::remembered_ends; ++number) {
    ended.push_back(allocate(mebibyte));
  }
  EXPECT_FALSE(map_.has_ended(ended[0]));
  for (void* const object : ended) {
    deallocate(object);
    EXPECT_EQ(map_.may_have_forgotten(object), object == ended.back());
    EXPECT_TRUE(map_.has_ended(object));
  }
  EXPECT_TRUE(map_.may_have_forgotten(ended[0]));
  EXPECT_FALSE(map_.may_have_forgotten(static_cast<std::byte*>(ended[0]) + 1)) << "no OS page";
  EXPECT_FALSE(map_.has_ended(ended[0])) << "as many ended after it as are remembered";
  EXPECT_TRUE(map_.has_ended(ended[1]));
  EXPECT_FALSE(map_.has_ended(static_cast<std::byte*>(ended[1]) + 1));
  EXPECT_FALSE(map_.has_ended(never));
}

TEST_F(DirectMapTest, a_null_address_is_no_freed_object) { EXPECT_FALSE(map_.has_ended(nullptr)); }

TEST_F(DirectMapTest, a_moved_object_counts_as_freed_at_its_old_address) {
  void* const object = allocate(2 * mebibyte);
  ASSERT_EQ(map_.resize(object, mebibyte), object);
  const Obstacle obstacle(static_cast<std::byte*>(object) + mebibyte);
  EXPECT_FALSE(map_.has_ended(object));
  void* const moved = map_.resize(object, 2 * mebibyte);
  ASSERT_NE(moved, object);
  EXPECT_TRUE(map_.has_ended(object));
  EXPECT_FALSE(map_.has_ended(moved));
}

TEST_F(DirectMapTest, resizing_keeps_the_contents) {
  void* object = allocate(mebibyte);
  test::fill_pattern(object, mebibyte, 1);
  object = map_.resize(object, 40 * mebibyte);
  ASSERT_NE(object, nullptr);
  EXPECT_TRUE(map_.validate());
  EXPECT_EQ(map_.usable_bytes(object), 40 * mebibyte);
  EXPECT_TRUE(test::holds_pattern(object, mebibyte, 1));
  object = map_.resize(object, 5000);
  EXPECT_EQ(map_.usable_bytes(object), 8192u);
  EXPECT_TRUE(test::holds_pattern(object, 5000, 1));
  EXPECT_EQ(map_.resize(object, ~std::size_t{0}), nullptr);
  EXPECT_EQ(map_.usable_bytes(object), 8192u);
  EXPECT_EQ(map_.resize(&object, 5000), nullptr);
  EXPECT_EQ(deallocate(object), 8192u);
  EXPECT_TRUE(map_.validate());
}

TEST_F(DirectMapTest, an_object_aligned_beyond_the_os_page_is_resized_where_it_is_or_not_at_all) {
  const std::size_t alignment = 2 * os_.os_page_bytes();
  void* const object = allocate(8 * os_.os_page_bytes(), alignment);
  EXPECT_EQ(map_.resize(object, 7 * os_.os_page_bytes(), alignment), object);
  const Obstacle obstacle(static_cast<std::byte*>(object) + 7 * os_.os_page_bytes());
  EXPECT_EQ(map_.resize(object, 8 * os_.os_page_bytes(), alignment), nullptr);
  EXPECT_EQ(map_.usable_bytes(object), 7 * os_.os_page_bytes());
  EXPECT_NE(map_.resize(object, 8 * os_.os_page_bytes()), nullptr);
}

TEST_F(DirectMapTest, an_object_that_cannot_be_resized_is_as_before) {
  void* const object = allocate(mebibyte);
  test::fill_pattern(object, mebibyte, 2);
  os_.fail_every(test::OsCall::Remap);
  EXPECT_EQ(map_.resize(object, 2 * mebibyte), nullptr);
  EXPECT_EQ(map_.resize(object, mebibyte / 2), object);
  EXPECT_EQ(map_.usable_bytes(object), mebibyte);
  EXPECT_TRUE(test::holds_pattern(object, mebibyte, 2));
  EXPECT_TRUE(map_.validate());
}

TEST_F(DirectMapTest, slack_that_cannot_be_cut_off_goes_with_the_object) {
  allocate(4096);  // The register exists now.
  const std::size_t before = os_.usable_bytes();
  os_.fail_every(test::OsCall::Unmap);
  void* object = allocate(mebibyte, 64 * mebibyte);
  ASSERT_NE(object, nullptr);
  EXPECT_EQ(os_.usable_bytes() - before, 65 * mebibyte - os_.os_page_bytes());
  os_.heal();
  test::fill_pattern(object, mebibyte, 3);
  object = map_.resize(object, 3 * mebibyte);
  ASSERT_NE(object, nullptr);
  EXPECT_TRUE(test::holds_pattern(object, mebibyte, 3));
  EXPECT_TRUE(map_.validate());
  EXPECT_NE(deallocate(object), 0u);
  EXPECT_EQ(os_.usable_bytes(), before);
}

TEST_F(DirectMapTest, a_mapping_that_cannot_be_unmapped_is_emptied_and_reused) {
  void* const object = allocate(8 * mebibyte);
  test::fill_pattern(object, 8 * mebibyte, 4);
  const std::size_t purges = os_.purges();
  os_.fail_every(test::OsCall::Unmap);
  EXPECT_EQ(deallocate(object), 8 * mebibyte);
  EXPECT_EQ(os_.purges(), purges + 1);
  EXPECT_EQ(map_.usable_bytes(object), 0u);
  EXPECT_EQ(deallocate(object), 0u);
  EXPECT_FALSE(map_.is_inside(static_cast<std::byte*>(object) + 1));
  EXPECT_EQ(map_.bytes(), 0u);
  EXPECT_TRUE(map_.validate());
  EXPECT_NE(allocate(mebibyte), object) << "too large for this";
  EXPECT_EQ(allocate(7 * mebibyte), object);
  EXPECT_FALSE(last_was_zeroed_) << "it is not known whether emptying succeeded";
}

TEST_F(DirectMapTest, an_object_holds_no_more_of_a_reused_mapping_than_it_needs) {
  for (const bool can_unmap : {true, false}) {
    void* const object = allocate(8 * mebibyte);
    os_.fail_every(test::OsCall::Unmap);
    deallocate(object);
    const std::size_t before = os_.usable_bytes();
    if (can_unmap) {
      os_.heal();
    }
    ASSERT_EQ(allocate(5 * mebibyte), object);
    EXPECT_EQ(map_.bytes(), 5 * mebibyte);
    EXPECT_EQ(before - os_.usable_bytes(), can_unmap ? 3 * mebibyte : 0);
    os_.heal();
    EXPECT_EQ(deallocate(object), 5 * mebibyte);
    EXPECT_EQ(os_.usable_bytes(), before - 8 * mebibyte) << "what stayed goes with the object";
  }
}

TEST_F(DirectMapTest, a_mapping_that_cannot_be_unmapped_is_unmapped_later) {
  const std::size_t empty = [&] {
    deallocate(allocate(4096));
    return os_.usable_bytes();
  }();
  os_.fail_every(test::OsCall::Unmap);
  std::vector<void*> objects;
  for (int count = 0; count < 50; ++count) {
    objects.push_back(allocate(mebibyte));
  }
  for (void* const object : objects) {
    deallocate(object);
  }
  EXPECT_EQ(map_.trim(), 0u);
  EXPECT_TRUE(map_.validate());
  os_.heal();
  EXPECT_EQ(map_.trim(), 50 * mebibyte);
  EXPECT_EQ(os_.usable_bytes(), empty);
  EXPECT_TRUE(map_.validate());
}

TEST_F(DirectMapTest, a_cached_mapping_serves_smaller_and_larger_objects) {
  void* const object = allocate(8 * mebibyte);
  test::fill_pattern(object, 8 * mebibyte, 4);
  EXPECT_EQ(deallocate(object, true), 8 * mebibyte);
  EXPECT_EQ(map_.cached_bytes(), 8 * mebibyte);
  EXPECT_EQ(map_.usable_bytes(object), 0u);
  EXPECT_EQ(deallocate(object), 0u) << "a second free of it";
  EXPECT_TRUE(map_.has_ended(object));
  EXPECT_EQ(allocate_cached(3 * mebibyte), object);
  EXPECT_EQ(map_.cached_bytes(), 5 * mebibyte);
  EXPECT_TRUE(test::holds_pattern(object, 3 * mebibyte, 4)) << "nothing was purged";
  void* const grown = allocate_cached(20 * mebibyte);
  ASSERT_NE(grown, nullptr);
  EXPECT_EQ(map_.cached_bytes(), 0u);
  test::fill_pattern(grown, 20 * mebibyte, 5);
  EXPECT_EQ(deallocate(grown, true), 20 * mebibyte);
  EXPECT_EQ(map_.unmap_oldest(4 * mebibyte), 4 * mebibyte);
  EXPECT_EQ(map_.trim(), 16 * mebibyte);
  EXPECT_EQ(deallocate(object), 3 * mebibyte);
}

TEST_F(DirectMapTest, a_cached_mapping_that_cannot_be_unmapped_or_grown_retires) {
  for (const bool grows : {false, true}) {
    void* const object = allocate(8 * mebibyte);
    EXPECT_EQ(deallocate(object, true), 8 * mebibyte);
    os_.fail_every(test::OsCall::Unmap);
    os_.fail_every(test::OsCall::Remap);
    if (grows) {
      EXPECT_EQ(allocate_cached(9 * mebibyte), nullptr);
    } else {
      EXPECT_NE(map_.unmap_oldest(mebibyte), 0u) << "its contents are purged";
    }
    EXPECT_EQ(map_.cached_bytes(), 0u);
    EXPECT_TRUE(map_.validate());
    os_.heal();
    EXPECT_EQ(map_.trim(), 8 * mebibyte);
  }
}

TEST_F(DirectMapTest, refused_memory_leaves_no_trace) {
  for (std::size_t k = 1; k < 4; ++k) {
    const std::size_t before = os_.usable_bytes();
    os_.fail_call(k);
    void* const object = allocate(mebibyte, 2 * mebibyte);
    if (object == nullptr) {
      EXPECT_EQ(map_.count(), 0u);
    } else {
      EXPECT_NE(deallocate(object), 0u);
    }
    os_.heal();
    EXPECT_LE(os_.usable_bytes(), before + 4096);
  }
}

TEST_F(DirectMapTest, random_operations_agree_with_a_plain_map) {
  test::Random random;
  std::map<void*, std::size_t> live;
  for (int step = 0; step < 4000; ++step) {
    if (random.one_in(20)) {
      os_.fail_call(random.between(1, 3));
    }
    const std::size_t action = random.below(8);
    const std::size_t bytes = random.between(1, 40) * 4096;
    if (action < 4 || live.empty()) {
      void* object = random.one_in(2) ? allocate_cached(bytes) : nullptr;
      object = object != nullptr ? object : allocate(bytes, std::size_t{1} << random.below(20));
      if (object != nullptr) {
        ASSERT_TRUE(live.emplace(object, bytes).second) << "step " << step;
        test::fill_pattern(object, bytes, bytes);
      }
    } else {
      auto picked = live.begin();
      std::advance(picked, static_cast<std::ptrdiff_t>(random.below(live.size())));
      void* object = picked->first;
      const std::size_t old_bytes = picked->second;
      ASSERT_TRUE(test::holds_pattern(object, old_bytes, old_bytes)) << "step " << step;
      live.erase(picked);
      if (action < 6) {
        ASSERT_GE(deallocate(object, random.one_in(2)), old_bytes) << "step " << step;
      } else {
        void* const moved = map_.resize(object, bytes);
        const std::size_t kept = moved == nullptr ? old_bytes : bytes;
        object = moved == nullptr ? object : moved;
        ASSERT_TRUE(test::holds_pattern(object, std::min(kept, old_bytes), old_bytes));
        test::fill_pattern(object, kept, kept);
        live[object] = kept;
      }
    }
    if (random.one_in(10)) {
      const std::size_t before = map_.cached_bytes();
      const std::size_t most = random.between(1, 30) * 4096;
      ASSERT_GE(map_.unmap_oldest(most), std::min(most, before == 0 ? 0 : std::size_t{4096}));
    }
    ASSERT_EQ(map_.count(), live.size()) << "step " << step;
    ASSERT_TRUE(map_.validate()) << "step " << step;
  }
}

}  // namespace
}  // namespace slabmalloc
