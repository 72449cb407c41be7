// SPDX-License-Identifier: MIT
//
// Tags of a heap's blocks, against a model, with and without a debug mode.
#include "slabmalloc/kernel/heap_tags.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "kernel/tags_fixture.hpp"
#include "support/random.hpp"

namespace slabmalloc {
namespace {

using test::HostedCpu;
using test::net;
using test::TaggedDebugConfig;
using test::TaggedKernelConfig;
using Kinds = std::vector<MisuseKind>;

template <class Config>
class HeapTagsTest : public test::TagsTest<Config> {};
using Configs = testing::Types<TaggedKernelConfig, TaggedDebugConfig, test::TaggedConfigOfOneCpu>;
TYPED_TEST_SUITE(HeapTagsTest, Configs, );

constexpr Layout small = Layout::of<std::uint64_t[8]>();
constexpr Layout run = Layout::from_size_align(20'000, 8).value_or(small);

// ---- against a model ----------------------------------------------------------------------------

/// Live blocks, with the bytes that each was charged.
template <class Test>
class Model {
 public:
  Model(Test& test, test::Random& random) : test_(test), random_(random) {}

  void step() {
    HostedCpu::number = random_.below(test_.cpus);
    const std::uint32_t choice = random_.below(16);
    if (choice < 8) {
      allocate();
    } else if (choice < 14) {
      if (!blocks_.empty()) {
        free_one(random_.below(static_cast<std::uint32_t>(blocks_.size())));
      }
    } else if (choice == 14 && !blocks_.empty()) {
      reallocate(blocks_.at(random_.below(static_cast<std::uint32_t>(blocks_.size()))));
    } else {
      change_limit();
    }
    expect_equal();
  }
  void clear() {
    while (!blocks_.empty()) {
      free_one(blocks_.size() - 1);
    }
    expect_equal();
  }
  std::size_t refused() const { return refused_; }
  std::size_t failed() const { return failed_; }

 private:
  struct Block {
    void* address;
    Layout layout;
    std::uint32_t tag;
    std::size_t bytes;
  };

  Layout draw_layout() {
    const std::size_t size = random_.one_in(12)  ? random_.between(8'193, 40'000)
                             : random_.one_in(4) ? random_.between(257, 8'000)
                                                 : random_.between(0, 256);
    return Layout::from_size_align(size, std::size_t{1} << random_.below(7)).value();
  }
  void allocate() {
    const Layout layout = draw_layout();
    const std::uint32_t tag = random_.below(test_.tags);
    constexpr std::array contexts = {Context::MayWait, Context::MayNotWait, Context::Interrupt};
    const Context context = contexts.at(random_.below(3));
    const TagStatistics before = test_.heap.tag_statistics(tag);
    const std::size_t bytes = test_.bytes_of(layout);
    void* const address = tag == 0 && random_.one_in(2)
                              ? test_.heap.allocate(layout, context).value_or(nullptr)
                              : test_.heap.allocate(layout, context, tag).value_or(nullptr);
    const TagStatistics after = test_.heap.tag_statistics(tag);
    const bool has_room = before.bytes + bytes <= limits_[tag];
    ASSERT_TRUE(has_room || address == nullptr) << "beyond the limit";
    // A debug mode tries again, so a call may be refused twice.
    ASSERT_EQ(after.refused != before.refused, !has_room);
    refused_ += has_room ? 0 : 1;
    if (address != nullptr) {
      ASSERT_EQ(after.bytes - before.bytes, bytes);
      blocks_.push_back({address, layout, tag, bytes});
    } else {
      failed_ += has_room ? 1 : 0;
    }
  }
  void free_one(std::size_t index) {
    const Block block = blocks_.at(index);
    blocks_.erase(blocks_.begin() + static_cast<std::ptrdiff_t>(index));
    const Context context = random_.one_in(2) ? Context::MayWait : Context::Interrupt;
    if (random_.one_in(2)) {
      test_.heap.deallocate(block.address, context);
    } else {
      test_.heap.deallocate(block.address, block.layout, context);
    }
    if (test_.heap.statistics().deferred_bytes != 0) {
      expect_sum(block.bytes, block.tag);
      test_.heap.give_back(100);
    }
  }
  void reallocate(Block& block) {
    const Layout layout = draw_layout();
    const std::size_t bytes = test_.bytes_of(layout);
    void* const moved = test_.heap.reallocate(block.address, layout).value_or(nullptr);
    if (moved != nullptr) {
      block = {moved, layout, block.tag, bytes};
    }
  }
  void change_limit() {
    const std::uint32_t tag = random_.below(test_.tags);
    limits_[tag] = random_.one_in(3) ? ~std::size_t{0} : random_.below(200'000);
    test_.heap.set_tag_limit(tag, limits_[tag]);
  }
  /// `more` bytes of `tag` are charged beside those of live blocks.
  void expect_sum(std::size_t more = 0, std::uint32_t tag = 0) {
    std::size_t all = more;
    for (const Block& block : blocks_) {
      all += block.tag == tag ? block.bytes : 0;
    }
    ASSERT_EQ(test_.heap.tag_statistics(tag).bytes, all);
  }
  void expect_equal() {
    for (std::uint32_t tag = 0; tag < test_.tags; ++tag) {
      expect_sum(0, tag);
      const auto objects = std::count_if(blocks_.begin(), blocks_.end(),
                                         [&](const Block& block) { return block.tag == tag; });
      ASSERT_EQ(test_.heap.tag_statistics(tag).objects, static_cast<std::size_t>(objects));
    }
  }

  Test& test_;
  test::Random& random_;
  std::vector<Block> blocks_;
  std::array<std::size_t, Test::tags> limits_ = [] {
    std::array<std::size_t, Test::tags> all{};
    all.fill(~std::size_t{0});
    return all;
  }();
  std::size_t refused_ = 0;
  std::size_t failed_ = 0;
};

TYPED_TEST(HeapTagsTest, account_for_each_block_as_a_model_does) {
  test::Random random;
  Model model(*this, random);
  for (int step = 0; step < 6000 && !testing::Test::HasFatalFailure(); ++step) {
    model.step();
    if (step % 500 == 0) {
      ASSERT_EQ(this->heap.validate(), nullptr);
    }
  }
  EXPECT_GT(model.refused(), 0u);
  ASSERT_EQ(this->heap.validate(), nullptr);
  model.clear();
}

TYPED_TEST(HeapTagsTest, discharge_what_there_was_no_memory_for) {
  test::Random random;
  std::size_t failed = 0;
  for (std::size_t limit = 0; limit < 60 && !testing::Test::HasFatalFailure(); ++limit) {
    this->heap.set_limit(limit * this->base_bytes);
    Model model(*this, random);
    for (int step = 0; step < 100 && !testing::Test::HasFatalFailure(); ++step) {
      model.step();
    }
    model.clear();
    failed += model.failed();
    for (std::uint32_t tag = 0; tag < this->tags; ++tag) {
      this->heap.set_tag_limit(tag, TagStatistics::no_limit);
    }
    this->drain_all();
    this->heap.give_back();
  }
  EXPECT_GT(failed, 100u);
}

TYPED_TEST(HeapTagsTest, release_all_discharges_objects_and_keeps_runs) {
  void* const kept = this->heap.allocate(run, Context::MayWait, net).value_or(nullptr);
  for (std::uint32_t count = 0; count < 500; ++count) {
    ASSERT_TRUE(this->heap.allocate(small, Context::MayWait, 1 + count % 3));
  }
  this->heap.release_all();
  EXPECT_EQ(this->heap.tag_statistics(net).objects, 1u);
  EXPECT_EQ(this->heap.tag_statistics(net).bytes, this->bytes_of(run));
  EXPECT_EQ(this->heap.validate(), nullptr);
  this->heap.deallocate(kept, run);
}

TYPED_TEST(HeapTagsTest, many_and_zeroed_blocks_have_tags_too) {
  void* several[100];
  this->heap.set_tag_limit(net, 70 * this->bytes_of(small));
  ASSERT_EQ(this->heap.allocate_many(small, several, 100, Context::MayWait, net), 70u);
  EXPECT_EQ(this->heap.tag_statistics(net).objects, 70u);
  this->heap.deallocate_many(several, 70, small);
  void* const zeroed = this->heap.allocate_zeroed(small, Context::MayWait, net).value_or(nullptr);
  ASSERT_NE(zeroed, nullptr);
  EXPECT_EQ(*static_cast<std::uint64_t*>(zeroed), 0u);
  EXPECT_EQ(this->heap.tag_statistics(net).objects, 1u);
  this->heap.deallocate(zeroed);
}

// ---- limits -------------------------------------------------------------------------------------

TYPED_TEST(HeapTagsTest, a_limit_is_exact_in_every_context) {
  const std::size_t bytes = this->bytes_of(small);
  for (const Context context :
       {Context::MayWait, Context::MayNotWait, Context::Interrupt, Context::Emergency}) {
    this->heap.deallocate(this->heap.allocate(small).value_or(nullptr), small);
    this->heap.set_tag_limit(net, bytes - 1);
    EXPECT_FALSE(this->heap.allocate(small, context, net));
    this->heap.set_tag_limit(net, bytes);
    void* const object = this->heap.allocate(small, context, net).value_or(nullptr);
    EXPECT_NE(object, nullptr);
    const std::size_t failures = this->heap.failures();
    const Result<void*> refused = this->heap.allocate(small, context, net);
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error(), AllocationError::OutOfMemory);
    EXPECT_EQ(this->heap.failures(), failures + 1);
    EXPECT_EQ(this->heap.tag_statistics(net).bytes, bytes);
    this->heap.deallocate(object, small);
    EXPECT_EQ(this->heap.tag_statistics(net).bytes, 0u);
  }
}

TYPED_TEST(HeapTagsTest, a_limit_calls_back_where_the_pager_may_be_called) {
  struct Cache {
    typename TestFixture::Heap& owner;
    void* object;
    int calls;
  } cache{this->heap, this->heap.allocate(small, Context::MayWait, net).value_or(nullptr), 0};
  this->heap.set_tag_limit(
      net, this->bytes_of(small),
      [](void* argument) noexcept {
        Cache& self = *static_cast<Cache*>(argument);
        self.owner.deallocate(self.object, small);
        self.object = nullptr;
        ++self.calls;
      },
      &cache);
  EXPECT_FALSE(this->heap.allocate(small, Context::Interrupt, net));
  EXPECT_EQ(cache.calls, 0);
  void* const object = this->heap.allocate(small, Context::MayNotWait, net).value_or(nullptr);
  EXPECT_NE(object, nullptr);
  EXPECT_EQ(cache.calls, 1);
  EXPECT_FALSE(this->heap.allocate(small, Context::MayWait, net));
  this->heap.deallocate(object, small);
}

TYPED_TEST(HeapTagsTest, runs_that_wait_are_charged_and_make_room_for_allocations) {
  const std::size_t bytes = this->bytes_of(run);
  this->heap.set_tag_limit(net, 2 * bytes);
  void* runs[2];
  for (const Context context : {Context::MayWait, Context::MayNotWait}) {
    for (void*& one : runs) {
      one = this->heap.allocate(run, Context::MayWait, net).value_or(nullptr);
    }
    for (void* one : runs) {
      this->heap.deallocate(one, run, Context::Interrupt);
    }
    EXPECT_EQ(this->heap.tag_statistics(net).bytes, 2 * bytes);
    EXPECT_FALSE(this->heap.allocate(small, Context::Interrupt, net));
    void* const object = this->heap.allocate(run, context, net).value_or(nullptr);
    EXPECT_NE(object, nullptr);
    this->heap.deallocate(object, run);
    this->heap.give_back();
    EXPECT_EQ(this->heap.tag_statistics(net).bytes, 0u);
  }
}

TYPED_TEST(HeapTagsTest, a_block_that_grows_keeps_its_tag_and_needs_room_for_both) {
  void* const object = this->heap.allocate(small, Context::MayWait, net).value_or(nullptr);
  this->heap.set_tag_limit(net, this->bytes_of(run) + this->bytes_of(small) - 1);
  EXPECT_FALSE(this->heap.reallocate(object, run));
  EXPECT_EQ(this->heap.tag_statistics(net).bytes, this->bytes_of(small));
  this->heap.set_tag_limit(net, this->bytes_of(run) + this->bytes_of(small));
  void* const grown = this->heap.reallocate(object, run).value_or(nullptr);
  ASSERT_NE(grown, nullptr);
  EXPECT_EQ(this->heap.tag_statistics(net).bytes, this->bytes_of(run));
  void* const shrunk = this->heap.reallocate(grown, small).value_or(nullptr);
  ASSERT_NE(shrunk, nullptr);
  EXPECT_EQ(this->heap.tag_statistics(net).bytes, this->bytes_of(small));
  EXPECT_EQ(this->heap.tag_statistics(0).objects, 0u);
  this->heap.deallocate(shrunk);
}

// ---- misuse -------------------------------------------------------------------------------------

TYPED_TEST(HeapTagsTest, a_second_free_discharges_nothing) {
  std::vector<void*> objects;
  std::vector<void*> kept;  // They keep the pages of the others.
  for (int count = 0; count < 300; ++count) {
    objects.push_back(this->heap.allocate(small, Context::MayWait, net).value_or(nullptr));
    kept.push_back(this->heap.allocate(small, Context::MayWait, 1).value_or(nullptr));
  }
  for (std::size_t index = 0; index < objects.size(); ++index) {
    HostedCpu::number = static_cast<std::uint32_t>(index) % this->cpus;
    this->heap.deallocate(objects[index], small);
    HostedCpu::number = static_cast<std::uint32_t>(index / 2) % this->cpus;
    this->heap.deallocate(objects[index], small, Context::Interrupt);
    ASSERT_EQ(this->heap.tag_statistics(net).objects, 299 - index);
    ASSERT_EQ(this->heap.tag_statistics(net).bytes, (299 - index) * this->bytes_of(small));
  }
  this->drain_all();
  EXPECT_EQ(this->misuse.take_count(MisuseKind::DoubleFree), 300u);
  this->heap.deallocate_many(kept.data(), kept.size(), small);
}

TYPED_TEST(HeapTagsTest, a_bad_free_discharges_nothing) {
  auto* const object =
      static_cast<std::byte*>(this->heap.allocate(small, Context::MayWait, net).value_or(nullptr));
  this->heap.deallocate(object + 8, small);
  EXPECT_EQ(this->misuse.take_kinds(), Kinds{MisuseKind::MisalignedFree});
  this->heap.deallocate(object, Layout::of<std::uint64_t[20]>());
  EXPECT_EQ(this->misuse.take_kinds(), Kinds{MisuseKind::SizeMismatch});
  this->heap.deallocate(object + 8);
  EXPECT_EQ(this->misuse.take_kinds(), Kinds{MisuseKind::MisalignedFree});
  void* const foreign = this->frames.allocate_frame(this->base_bytes).address;
  this->heap.deallocate(foreign, small);
  EXPECT_EQ(this->misuse.take_kinds(), Kinds{MisuseKind::ForeignPointer});
  this->frames.deallocate_frame(foreign, this->base_bytes);
  this->heap.deallocate(nullptr, small);
  EXPECT_EQ(this->heap.tag_statistics(net).bytes, this->bytes_of(small));
  this->heap.deallocate(object, small);
}

TYPED_TEST(HeapTagsTest, a_bad_free_of_a_run_discharges_nothing) {
  auto* const block =
      static_cast<std::byte*>(this->heap.allocate(run, Context::MayWait, net).value_or(nullptr));
  this->heap.deallocate(block, Layout::from_size_align(50'000, 8).value());
  EXPECT_EQ(this->misuse.take_kinds(), Kinds{MisuseKind::SizeMismatch});
  this->heap.deallocate(block + this->base_bytes);
  EXPECT_EQ(this->misuse.take_kinds(), Kinds{MisuseKind::MisalignedFree});
  EXPECT_EQ(this->heap.tag_statistics(net).bytes, this->bytes_of(run));
  this->heap.deallocate(block, run, Context::Interrupt);
  this->heap.deallocate(block, run);
  EXPECT_EQ(this->misuse.take_kinds(), Kinds{MisuseKind::DoubleFree});
  this->heap.give_back();
  EXPECT_EQ(this->heap.tag_statistics(net).bytes, 0u);
  this->heap.deallocate(block, run);
  EXPECT_EQ(this->misuse.take_kinds(), Kinds{MisuseKind::DoubleFree});
  EXPECT_EQ(this->heap.tag_statistics(net).bytes, 0u);
}

TYPED_TEST(HeapTagsTest, an_object_of_another_heap_is_refused) {
  typename TestFixture::Heap other(this->frames);
  void* const object = other.allocate(small, Context::MayWait, net).value_or(nullptr);
  this->heap.deallocate(object, small);
  EXPECT_EQ(this->misuse.take_kinds(), Kinds{MisuseKind::MismatchedFree});
  EXPECT_EQ(this->heap.tag_statistics(net).bytes, 0u);
  EXPECT_EQ(other.tag_statistics(net).objects, 1u);
  other.deallocate(object, small);
  EXPECT_EQ(other.validate(), nullptr);
  other.release_all();
}

TEST(HeapTagsOverflow, a_byte_that_is_no_tag_discharges_nobody) {
  using Heap = test::TagsTest<TaggedKernelConfig>::Heap;
  test::TagsTest<TaggedKernelConfig>::Frames frames;
  test::PhysicalMemory memory(4 * mebibyte);
  const MemoryRegion region = memory.region(0, 4 * mebibyte);
  ASSERT_TRUE(frames.add(&region, 1));
  Heap heap(frames);
  void* const object = heap.allocate(small, Context::MayWait, net).value();
  const std::size_t bytes = heap.tag_statistics(net).bytes;
  // As a write that left the last object of the page.
  Heap::Zone::with_slot(
      object, Heap::Zone::class_for(small),
      []<class Page>(auto* page, std::uint32_t slot, const SlotGeometry& geometry) {
        Page::exchange_tag(page, geometry.words, slot, 0xCC);
      });
  void* const moved = heap.reallocate(object, Layout::from_size_align(500, 8).value()).value();
  EXPECT_EQ(heap.tag_statistics(net).bytes, bytes) << "nobody knows whose it was";
  EXPECT_NE(heap.tag_statistics(0).bytes, 0u);
  heap.deallocate(moved);
  EXPECT_EQ(heap.tag_statistics(0).bytes, 0u);
  heap.release_all();
}

TYPED_TEST(HeapTagsTest, the_word_of_another_client_is_no_tag) {
  typename TestFixture::Heap::Tags::Accounts accounts;
  for (std::uint32_t tag = 0; tag < this->tags; ++tag) {
    EXPECT_EQ(accounts.tag_of(accounts.word_of(tag)), tag);
    EXPECT_EQ(accounts.tag_of(accounts.word_of(tag) + 1), accounts.no_tag);
  }
  EXPECT_EQ(accounts.tag_of(accounts.word_of(0) - 64), accounts.no_tag);
  EXPECT_EQ(accounts.tag_of(accounts.word_of(this->tags - 1) + 64), accounts.no_tag);
  EXPECT_EQ(accounts.tag_of(0), accounts.no_tag);
}

// ---- pages --------------------------------------------------------------------------------------

/// The bytes of tags, slots and bitmaps of each class do not overlap.
template <class Page>
void expect_no_overlap() {
  alignas(Page::size_bytes) static std::byte frame[Page::size_bytes];
  auto* const header = Page::header_of(frame);
  for (std::size_t size = 8; size <= Page::size_bytes / 2; size += size < 1024 ? 1 : 8) {
    const SlotGeometry geometry = Page::geometry(size);
    if (geometry.slots == 0) {
      continue;
    }
    header->format(geometry, 0);
    Page::open(header, geometry);
    std::byte* const slots = Page::slots_of(header);
    std::fill_n(slots, geometry.slots * size, std::byte{0xFF});
    bool is_sound = true;
    for (std::uint32_t slot = 0; slot < geometry.slots; ++slot) {
      is_sound = is_sound && Page::tag_code(header, geometry.words, slot) == 0 &&
                 Page::exchange_tag(header, geometry.words, slot, 1 + slot % 255) == 0;
    }
    for (std::uint32_t slot = 0; slot < geometry.slots; ++slot) {
      is_sound = is_sound && Page::tag_code(header, geometry.words, slot) == 1 + slot % 255;
    }
    is_sound = is_sound && header->is_empty(geometry.words) && header->has_seal_for(size) &&
               std::all_of(slots, slots + geometry.slots * size,
                           [](std::byte byte) { return byte == std::byte{0xFF}; });
    ASSERT_TRUE(is_sound) << size;
    // One more slot would not fit.
    const std::size_t more = geometry.slots + std::size_t{1};
    EXPECT_GT(more * size + align_up(more, 4) + 16 * ((more + 63) / 64) + 48, Page::size_bytes)
        << size << ": a slot is wasted";
  }
}

TEST(TaggedPage, keeps_tags_clear_of_slots_and_bitmaps) {
  expect_no_overlap<TaggedPage<EmbeddedPage<4096>>>();
  expect_no_overlap<TaggedPage<EmbeddedPage<16384>>>();
}

TEST(TaggedPage, costs_powers_of_two_one_slot_at_most) {
  using Plain = EmbeddedPage<65536>;
  for (std::size_t size = 256; size <= 8192; size *= 2) {
    EXPECT_GE(TaggedPage<Plain>::geometry(size).slots + 1, Plain::geometry(size).slots) << size;
  }
  EXPECT_EQ(TaggedPage<Plain>::geometry(8192).slots, Plain::geometry(8192).slots);
}

// ---- the report ---------------------------------------------------------------------------------

class HeapTagsReport : public test::TagsTest<TaggedKernelConfig> {};

TEST_F(HeapTagsReport, has_a_line_for_each_tag_in_use) {
  heap.set_tag_name(net, "net");
  heap.set_tag_limit(net, 65536);
  heap.set_tag_limit(3, 10);
  void* objects[12];
  ASSERT_EQ(heap.allocate_many(small, objects, 12, Context::MayWait, net), 12u);
  EXPECT_FALSE(heap.allocate(small, Context::MayWait, 3));
  Reclaimable entry("heap", heap);
  std::vector<std::string> lines;
  write_slabinfo(entry, [&](const char* line) { lines.emplace_back(line); });
  ASSERT_GE(lines.size(), 2u);
  EXPECT_EQ(lines.at(lines.size() - 2), "tag net: 12 objects, 768 of 65536 bytes, 768 at most");
  EXPECT_EQ(lines.back(), "tag 3: 0 objects, 0 of 10 bytes, 0 at most, 1 refused");
  heap.deallocate_many(objects, 12, small);
}

TEST(HeapWithoutTags, has_no_byte_for_them) {
  using Heap = CpuZones<test::OpenKernel, FrameAllocator<test::OpenKernel>>;
  static_assert(std::is_empty_v<Heap::Tags> && !Heap::has_tags);
  static_assert(std::is_same_v<Heap::Config, KernelConfig>);
  FrameAllocator<test::OpenKernel> frames;
  Heap heap(frames);
  Reclaimable entry("heap", heap);
  TagStatistics none;
  EXPECT_FALSE(entry.tag_statistics(0, none));
}

}  // namespace
}  // namespace slabmalloc
