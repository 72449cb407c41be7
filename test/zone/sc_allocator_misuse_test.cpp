// SPDX-License-Identifier: MIT
//
// Bad calls to SCAllocator: each is reported, and changes nothing.
#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <set>
#include <vector>

#include "slabmalloc/zone/sc_allocator.hpp"
#include "support/misuse_recorder.hpp"
#include "zone/page_source.hpp"
#include "zone/zone_configs.hpp"

namespace slabmalloc {
namespace {

using test::layout_of;

constexpr std::size_t object_bytes = 48;

template <class Page>
class SCAllocatorMisuseTest : public testing::Test {
 protected:
  using Allocator = SCAllocator<Page>;
  using Header = typename Page::Header;

  SCAllocatorMisuseTest() : allocator_(object_bytes) {}

  void add_page() {
    pages_.push_back(source_.page());
    ASSERT_TRUE(allocator_.refill(pages_.back()));
  }
  std::byte* frame(std::size_t index) { return reinterpret_cast<std::byte*>(pages_[index]); }
  void* allocate() { return allocator_.allocate(layout).value_or(nullptr); }
  std::vector<void*> allocate_all() {
    std::vector<void*> objects;
    while (void* object = allocate()) {
      objects.push_back(object);
    }
    return objects;
  }

  /// Every byte of the allocator, of its frames, and of their meta-data.
  std::vector<std::byte> snapshot() {
    std::vector<std::byte> bytes;
    const auto append = [&bytes](const void* first, std::size_t count) {
      const auto* start = static_cast<const std::byte*>(first);
      bytes.insert(bytes.end(), start, start + count);
    };
    append(&allocator_, sizeof(allocator_));
    for (Page* page : pages_) {
      append(page, Page::frame_bytes(object_bytes));
      Header* header = Page::header_of(page);
      const std::uint32_t words = Page::geometry(object_bytes).words;
      const auto* lowest = reinterpret_cast<const std::byte*>(&header->remote(words - 1, words));
      append(lowest, static_cast<std::size_t>(reinterpret_cast<std::byte*>(header + 1) - lowest));
    }
    return bytes;
  }

  /// Makes `bad_call`; true if it was reported once as `kind` and left every byte as it was.
  template <class BadCall>
  testing::AssertionResult is_reported_and_harmless(MisuseKind kind, BadCall bad_call) {
    const std::vector<std::byte> before = snapshot();
    bad_call();
    const std::vector<MisuseKind> kinds = misuse_.take_kinds();
    if (kinds != std::vector{kind}) {
      return testing::AssertionFailure() << "reports: " << testing::PrintToString(kinds);
    }
    if (snapshot() != before) {
      return testing::AssertionFailure() << "the state has changed";
    }
    if (const char* broken = allocator_.validate()) {
      return testing::AssertionFailure() << broken;
    }
    return testing::AssertionSuccess();
  }

  static inline const Layout layout = *Layout::from_size_align(object_bytes, 8);

  test::MisuseRecorder misuse_;
  test::PageSource<Page> source_;
  std::vector<Page*> pages_;
  Allocator allocator_;
};
TYPED_TEST_SUITE(SCAllocatorMisuseTest, test::PageTypes);

TYPED_TEST(SCAllocatorMisuseTest, a_double_free_on_the_current_page) {
  this->add_page();
  void* object = this->allocate();
  this->allocator_.deallocate(object, this->layout);
  EXPECT_TRUE(this->is_reported_and_harmless(
      MisuseKind::DoubleFree, [&] { this->allocator_.deallocate(object, this->layout); }));
}

TYPED_TEST(SCAllocatorMisuseTest, a_free_of_any_slot_that_was_never_given_out) {
  this->add_page();
  ASSERT_NE(this->allocate(), nullptr);
  for (std::size_t slot = 1; slot < TypeParam::geometry(object_bytes).slots; ++slot) {
    ASSERT_TRUE(this->is_reported_and_harmless(MisuseKind::DoubleFree, [&] {
      this->allocator_.deallocate(this->frame(0) + slot * object_bytes, this->layout);
    })) << slot;
  }
}

TYPED_TEST(SCAllocatorMisuseTest, a_double_free_of_a_slot_that_is_next_to_be_given_out) {
  this->add_page();
  const std::vector<void*> objects = this->allocate_all();
  this->allocator_.deallocate(objects[3], this->layout);
  this->allocator_.deallocate(objects[7], this->layout);
  ASSERT_EQ(this->allocate(), objects[3]);
  EXPECT_TRUE(this->is_reported_and_harmless(
      MisuseKind::DoubleFree, [&] { this->allocator_.deallocate(objects[7], this->layout); }));
  EXPECT_EQ(this->allocate(), objects[7]);
  EXPECT_EQ(this->allocate(), nullptr) << "no slot is given out twice";
}

TYPED_TEST(SCAllocatorMisuseTest, a_double_free_on_a_partial_page) {
  this->add_page();
  this->add_page();
  const std::vector<void*> objects = this->allocate_all();
  for (const std::size_t index : {std::size_t{0}, objects.size() - 1}) {
    this->allocator_.deallocate(objects[index], this->layout);
    EXPECT_TRUE(this->is_reported_and_harmless(MisuseKind::DoubleFree, [&] {
      this->allocator_.deallocate(objects[index], this->layout);
    }));
  }
}

TYPED_TEST(SCAllocatorMisuseTest, a_double_free_on_an_empty_page) {
  this->add_page();
  void* object = this->allocate();
  this->allocator_.deallocate(object, this->layout);
  this->allocator_.try_reclaim_pages(0, [](TypeParam*) {});
  EXPECT_TRUE(this->is_reported_and_harmless(
      MisuseKind::DoubleFree, [&] { this->allocator_.deallocate(object, this->layout); }));
  EXPECT_TRUE(this->is_reported_and_harmless(
      MisuseKind::DoubleFree, [&] { this->allocator_.deallocate_remote(object, this->layout); }));
}

TYPED_TEST(SCAllocatorMisuseTest, a_free_of_any_address_inside_a_block_or_beyond_the_last) {
  this->add_page();
  this->allocate_all();
  const std::size_t end = TypeParam::geometry(object_bytes).slots * object_bytes;
  const std::size_t bytes = TypeParam::frame_bytes(object_bytes);
  const std::vector<std::byte> before = this->snapshot();
  std::size_t bad_calls = 0;
  for (std::size_t offset = 0; offset < bytes; ++offset) {
    if (offset >= end || offset % object_bytes != 0) {
      this->allocator_.deallocate(this->frame(0) + offset, this->layout);
      this->allocator_.deallocate_remote(this->frame(0) + offset, this->layout);
      bad_calls += 2;
    }
  }
  EXPECT_EQ(this->misuse_.take_count(MisuseKind::MisalignedFree), bad_calls);
  EXPECT_EQ(this->snapshot(), before);
}

TYPED_TEST(SCAllocatorMisuseTest, a_free_of_memory_that_is_not_in_a_page) {
  this->add_page();
  TypeParam* stranger = this->source_.page();
  EXPECT_TRUE(this->is_reported_and_harmless(
      MisuseKind::ForeignPointer, [&] { this->allocator_.deallocate(stranger, this->layout); }));
  EXPECT_TRUE(this->is_reported_and_harmless(MisuseKind::ForeignPointer, [&] {
    this->allocator_.deallocate_remote(stranger, this->layout);
  }));
}

TYPED_TEST(SCAllocatorMisuseTest, a_free_on_a_page_that_was_reclaimed) {
  this->add_page();
  void* object = this->allocate();
  this->allocator_.deallocate(object, this->layout);
  ASSERT_EQ(this->allocator_.try_reclaim_pages(1, [](TypeParam*) {}), 1u);
  EXPECT_TRUE(this->is_reported_and_harmless(
      MisuseKind::ForeignPointer, [&] { this->allocator_.deallocate(object, this->layout); }));
}

TYPED_TEST(SCAllocatorMisuseTest, a_free_on_a_page_of_objects_of_another_size) {
  this->add_page();
  void* object = this->allocate();
  SCAllocator<TypeParam> other(2 * object_bytes);
  EXPECT_TRUE(this->is_reported_and_harmless(MisuseKind::ForeignPointer, [&] {
    other.deallocate(object, layout_of(2 * object_bytes, 8));
  }));
}

TYPED_TEST(SCAllocatorMisuseTest, a_free_with_a_layout_that_is_never_served) {
  this->add_page();
  void* object = this->allocate();
  for (const Layout wrong : {layout_of(object_bytes + 1), layout_of(8, 64)}) {
    EXPECT_TRUE(this->is_reported_and_harmless(
        MisuseKind::SizeMismatch, [&] { this->allocator_.deallocate(object, wrong); }));
    EXPECT_TRUE(this->is_reported_and_harmless(
        MisuseKind::SizeMismatch, [&] { this->allocator_.deallocate_remote(object, wrong); }));
  }
}

TYPED_TEST(SCAllocatorMisuseTest, a_refill_with_a_page_that_is_in_use) {
  this->add_page();
  this->add_page();
  ASSERT_NE(this->allocate(), nullptr);
  for (TypeParam* page : this->pages_) {
    EXPECT_TRUE(this->is_reported_and_harmless(MisuseKind::InvalidPage, [&] {
      EXPECT_EQ(this->allocator_.refill(page).error(), AllocationError::InvalidLayout);
    }));
  }
}

TYPED_TEST(SCAllocatorMisuseTest, a_refill_with_no_page_or_a_misaligned_one) {
  this->add_page();
  auto* frame = reinterpret_cast<std::byte*>(this->pages_[0]);
  for (std::byte* address : {static_cast<std::byte*>(nullptr), frame + 1, frame + 64,
                             frame + TypeParam::frame_bytes(object_bytes) / 2}) {
    EXPECT_TRUE(this->is_reported_and_harmless(MisuseKind::InvalidPage, [&] {
      auto* page = reinterpret_cast<TypeParam*>(address);
      EXPECT_EQ(this->allocator_.refill(page).error(), AllocationError::InvalidLayout);
    }));
  }
}

TYPED_TEST(SCAllocatorMisuseTest, reports_name_the_address_the_size_and_the_slot) {
  this->add_page();
  this->allocate_all();
  std::byte* object = this->frame(0) + 70 * object_bytes;
  this->allocator_.deallocate(object, this->layout);
  this->allocator_.deallocate(object, this->layout);
  this->allocator_.deallocate(object + 8, this->layout);
  const std::vector<Misuse> reports = this->misuse_.take();
  ASSERT_EQ(reports.size(), 2u);
  EXPECT_EQ(reports[0].address, object);
  EXPECT_EQ(reports[0].object_size, object_bytes);
  EXPECT_EQ(reports[0].slot, 70u);
  EXPECT_EQ(reports[1].address, object + 8);
  EXPECT_EQ(reports[1].object_size, object_bytes);
}

TYPED_TEST(SCAllocatorMisuseTest, after_all_of_it_nothing_has_leaked) {
  this->add_page();
  this->add_page();
  const std::vector<void*> objects = this->allocate_all();
  for (void* object : objects) {
    this->allocator_.deallocate(static_cast<std::byte*>(object) + 1, this->layout);
    this->allocator_.deallocate(object, this->layout);
    this->allocator_.deallocate(object, this->layout);
    this->allocator_.deallocate_remote(object, this->layout);
    this->allocator_.deallocate(object, layout_of(8, 64));
    ASSERT_EQ(this->allocator_.validate(), nullptr);
  }
  this->allocator_.collect();
  EXPECT_EQ(this->misuse_.take().size(), 4 * objects.size());
  EXPECT_EQ(this->allocator_.validate(), nullptr);
  EXPECT_EQ(this->allocator_.statistics().used, 0u);
  const std::vector<void*> again = this->allocate_all();
  EXPECT_EQ(std::set(again.begin(), again.end()), std::set(objects.begin(), objects.end()));
  for (void* object : again) {
    this->allocator_.deallocate(object, this->layout);
  }
  EXPECT_EQ(test::reclaim_all(this->allocator_, this->source_), 2u);
}

}  // namespace
}  // namespace slabmalloc
