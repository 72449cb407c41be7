// SPDX-License-Identifier: MIT
//
// SCAllocator against a reference that knows every slot: random calls, good and bad, with
// validate() after each.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <map>
#include <set>
#include <vector>

#include "slabmalloc/zone/sc_allocator.hpp"
#include "support/misuse_recorder.hpp"
#include "support/pattern.hpp"
#include "support/random.hpp"
#include "zone/page_source.hpp"
#include "zone/zone_configs.hpp"

namespace slabmalloc {
namespace {

template <class Page>
class SCAllocatorModelTest : public testing::Test {
 protected:
  static constexpr std::size_t most_pages = 6;

  /// Runs so many random steps on an allocator of `size` and checks each.
  void run(test::Random& random, std::size_t size, int steps) {
    SCAllocator<Page> allocator(size);
    allocator_ = &allocator;
    layout_ = test::layout_of(size, 8 <= size ? 8 : 1);
    slot_bytes_ = allocator.usable_size();
    geometry_ = Page::geometry(slot_bytes_);
    for (int step = 0; step < steps; ++step) {
      SCOPED_TRACE(step);
      take_step(random);
      ASSERT_EQ(allocator.validate(), nullptr) << allocator.validate();
      if (step % 64 == 0) {
        check_visit();
      }
      if (HasFailure()) {
        return;
      }
    }
    finish();
  }

 private:
  void take_step(test::Random& random) {
    const std::size_t kind = random.below(100);
    if (kind < 2) {
      add_page();
    } else if (kind < 4) {
      reclaim(random.below(4));
    } else if (kind < 6) {
      collect();
    } else if (kind < 8) {
      misalign(random);
    } else if (kind < 14) {
      touch_any_slot(random);
    } else if (kind < 55) {
      allocate();
    } else {
      free_one(random, kind < 80);
    }
  }

  void allocate() {
    const Result<void*> object = allocator_->allocate(layout_);
    // Never out of memory while a slot is free.
    ASSERT_EQ(static_cast<bool>(object), live_.size() < pages_.size() * geometry_.slots);
    if (object) {
      ++allocations_;
      const auto key = ++next_key_;
      ASSERT_TRUE(live_.emplace(static_cast<std::byte*>(*object), key).second);
      withheld_.erase(static_cast<std::byte*>(*object));
      test::fill_pattern(*object, layout_.size(), key);
    }
  }

  void free_one(test::Random& random, bool by_owner) {
    if (!live_.empty()) {
      auto found = live_.lower_bound(any_slot(random));
      free_object(found == live_.end() ? live_.begin() : found, by_owner);
    }
  }

  void free_object(std::map<std::byte*, std::uint64_t>::iterator object, bool by_owner) {
    ASSERT_TRUE(test::holds_pattern(object->first, layout_.size(), object->second));
    if (by_owner) {
      allocator_->deallocate(object->first, layout_);
    } else {
      allocator_->deallocate_remote(object->first, layout_);
      ++remote_frees_;
      withheld_.insert(object->first);
    }
    live_.erase(object);
  }

  /// Frees any slot, live or not; what is not live must be reported by the next collection at last.
  void touch_any_slot(test::Random& random) {
    if (pages_.empty()) {
      return;
    }
    std::byte* slot = any_slot(random);
    const bool by_owner = random.one_in(2);
    if (const auto object = live_.find(slot); object != live_.end()) {
      free_object(object, by_owner);
      return;
    }
    if (by_owner) {
      allocator_->deallocate(slot, layout_);
    } else {
      allocator_->deallocate_remote(slot, layout_);
    }
    allocator_->collect();
    withheld_.clear();
    ASSERT_EQ(misuse_.take_count(MisuseKind::DoubleFree), 1u);
    // Double frees that were taken in at the merge count as frees by others.
    remote_frees_ = allocator_->statistics().remote_frees;
    collect();
  }

  void misalign(test::Random& random) {
    if (pages_.empty()) {
      return;
    }
    const std::size_t offset = random.below(Page::frame_bytes(slot_bytes_));
    if (offset % slot_bytes_ == 0 && offset / slot_bytes_ < geometry_.slots) {
      return;
    }
    std::byte* address =
        *std::next(pages_.begin(), static_cast<std::ptrdiff_t>(random.below(pages_.size()))) +
        offset;
    if (random.one_in(2)) {
      allocator_->deallocate(address, layout_);
    } else {
      allocator_->deallocate_remote(address, layout_);
    }
    ASSERT_EQ(misuse_.take_count(MisuseKind::MisalignedFree), 1u);
  }

  void add_page() {
    if (pages_.size() < most_pages) {
      Page* page = source_.page();
      ASSERT_TRUE(allocator_->refill(page));
      pages_.insert(reinterpret_cast<std::byte*>(page));
      ++refills_;
    }
  }

  void reclaim(std::size_t limit) {
    const std::size_t count = allocator_->try_reclaim_pages(limit, [&](Page* page) {
      auto* frame = reinterpret_cast<std::byte*>(page);
      ASSERT_EQ(pages_.erase(frame), 1u);
      const auto object = live_.lower_bound(frame);
      ASSERT_TRUE(object == live_.end() || object->first >= frame + Page::frame_bytes(slot_bytes_))
          << "a page with a live object was reclaimed";
      source_.take_back(page);
      ++reclaims_;
    });
    ASSERT_LE(count, limit);
  }

  void collect() {
    allocator_->collect();
    withheld_.clear();
    const ClassStatistics statistics = allocator_->statistics();
    ASSERT_EQ(statistics.used, live_.size());
    ASSERT_EQ(statistics.allocations, allocations_);
    ASSERT_EQ(statistics.frees, allocations_ - live_.size());
    ASSERT_EQ(statistics.remote_frees, remote_frees_);
    ASSERT_EQ(statistics.pages, pages_.size());
    ASSERT_EQ(statistics.refills, refills_);
    ASSERT_EQ(statistics.reclaims, reclaims_);
  }

  void check_visit() {
    std::set<std::byte*> visited;
    allocator_->visit_live([&](void* object, std::size_t bytes) {
      ASSERT_EQ(bytes, slot_bytes_);
      ASSERT_TRUE(visited.insert(static_cast<std::byte*>(object)).second);
    });
    ASSERT_TRUE(
        std::equal(visited.begin(), visited.end(), live_.begin(), live_.end(),
                   [](std::byte* object, const auto& entry) { return object == entry.first; }));
    const ClassStatistics statistics = allocator_->statistics();
    ASSERT_GE(statistics.used, live_.size());
    ASSERT_LE(statistics.used, live_.size() + withheld_.size());
  }

  void finish() {
    while (!live_.empty()) {
      free_object(live_.begin(), live_.size() % 2 == 0);
    }
    collect();
    reclaim(most_pages);
    EXPECT_EQ(source_.live_pages(), 0u);
    EXPECT_EQ(allocator_->validate(), nullptr);
  }

  std::byte* any_slot(test::Random& random) {
    auto page = std::next(pages_.begin(), static_cast<std::ptrdiff_t>(random.below(pages_.size())));
    return *page + random.below(geometry_.slots) * slot_bytes_;
  }

  test::MisuseRecorder misuse_;
  test::PageSource<Page> source_;
  SCAllocator<Page>* allocator_ = nullptr;
  Layout layout_;
  std::size_t slot_bytes_ = 0;
  SlotGeometry geometry_;
  std::set<std::byte*> pages_;
  std::map<std::byte*, std::uint64_t> live_;
  std::set<std::byte*> withheld_;  ///< Freed by others, perhaps not taken in.
  std::uint64_t next_key_ = 0;
  std::size_t allocations_ = 0;
  std::size_t remote_frees_ = 0;
  std::size_t refills_ = 0;
  std::size_t reclaims_ = 0;
};
TYPED_TEST_SUITE(SCAllocatorModelTest, test::PageTypes);

TYPED_TEST(SCAllocatorModelTest, small_objects) {
  test::Random random;
  this->run(random, 8 + 8 * random.below(4), 6'000);
}

TYPED_TEST(SCAllocatorModelTest, a_word_of_objects) {
  test::Random random;
  this->run(random, 64 + random.below(64), 8'000);
}

TYPED_TEST(SCAllocatorModelTest, few_objects_on_a_page) {
  test::Random random;
  this->run(random, TypeParam::frame_bytes(0) / (4 + random.below(8)), 10'000);
}

TYPED_TEST(SCAllocatorModelTest, one_object_on_a_page) {
  test::Random random;
  this->run(random, TypeParam::frame_bytes(0) - 64, 6'000);
}

}  // namespace
}  // namespace slabmalloc
