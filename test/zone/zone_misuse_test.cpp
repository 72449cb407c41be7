// SPDX-License-Identifier: MIT
// Every bad call on every state of a page, by everyone who can make it: reported, and nothing else.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <map>
#include <set>
#include <string>
#include <tuple>
#include <vector>

#include "support/frames.hpp"
#include "support/misuse_recorder.hpp"
#include "support/random.hpp"
#include "zone/zone_configs.hpp"

namespace slabmalloc::test {
namespace {

using Kinds = std::vector<MisuseKind>;

/// A zone whose pages of 64 B are brought into a state, another zone, and what must not change.
template <class Config>
class ZoneMisuse : public testing::Test {
 protected:
  using Pager = typename PagerFor<Config>::Type;
  using Zone = PagedZone<Pager, Config>;

  static constexpr bool readable_after_give_back = requires { typename Config::Table; };

  const Layout layout = layout_of(64, 8);
  const std::uint32_t index = Zone::class_for(layout);

  void TearDown() override {
    settle();
    EXPECT_EQ(misuse_.take_kinds(), Kinds{});
    for (void* object : objects_) {
      zone_.deallocate(object, layout);
    }
    settle();
    zone_.trim();
    other_.trim();
    EXPECT_EQ(zone_.validate(), nullptr);
    EXPECT_EQ(zone_.statistics().used_bytes, 0u);
    EXPECT_EQ(pager_.live_bytes(), 0u) << "all memory is accounted for";
  }

  void* allocate() {
    void* object = zone_.allocate(layout).value_or(nullptr);
    EXPECT_NE(object, nullptr);
    objects_.push_back(object);
    return object;
  }
  void free(void* object) {
    zone_.deallocate(object, layout);
    std::erase(objects_, object);
  }

  std::size_t slots_per_page() {
    const ClassStatistics statistics = zone_.class_statistics(index);
    return statistics.slots / statistics.pages;
  }
  std::byte* frame_of(void* object) const {
    const std::size_t bytes = Zone::frame_bytes(layout);
    return static_cast<std::byte*>(object) - reinterpret_cast<std::uintptr_t>(object) % bytes;
  }

  /// The objects of a page that are all live and that the zone allocates from no more.
  std::vector<void*> full_page() {
    std::map<std::byte*, std::vector<void*>> by_frame;
    for (;;) {
      void* object = allocate();
      std::vector<void*>& objects = by_frame[frame_of(object)];
      objects.push_back(object);
      if (objects.size() == slots_per_page()) {
        allocate();  // From the next page.
        return objects;
      }
    }
  }
  /// The address of a page in which nothing lives and that is still in its class.
  std::byte* idle_page() {
    const std::vector<void*> objects = full_page();
    for (void* object : objects) {
      free(object);
    }
    return frame_of(objects[0]);
  }

  void settle() {
    other_.collect();
    zone_.collect();
  }

  /// What a bad call must leave alone.
  auto structure() const {
    std::set<void*> live;
    zone_.visit_live([&](void* object, std::size_t) { live.insert(object); });
    const ClassStatistics statistics = zone_.class_statistics(index);
    const ZoneStatistics sums = zone_.statistics();
    return std::tuple(live, statistics.used, statistics.allocations, statistics.frees,
                      statistics.pages, sums.page_bytes, sums.depot_bytes, pager_.live_bytes());
  }

  /// Runs `call` and expects exactly `kind`, by the time that everything is collected at the
  /// latest.
  template <class Call>
  void expect_harmless(const std::string& what, MisuseKind kind, Call&& call) {
    SCOPED_TRACE(what);
    const auto before = structure();
    call();
    EXPECT_EQ(zone_.validate(), nullptr);
    settle();
    EXPECT_EQ(misuse_.take_kinds(), Kinds{kind});
    EXPECT_EQ(zone_.validate(), nullptr);
    EXPECT_EQ(other_.validate(), nullptr);
    EXPECT_TRUE(structure() == before) << "the call changed something";
  }

  /// The bad free by the owner, by another zone and by a thread without one.
  void expect_each_rejects(const std::string& what, MisuseKind kind, void* address, Layout as) {
    expect_harmless(what + " by the owner", kind, [&] { zone_.deallocate(address, as); });
    expect_harmless(what + " by another zone", kind, [&] { other_.deallocate(address, as); });
    expect_harmless(what + " by no zone", kind, [&] { Zone::deallocate_remote(address, as); });
  }

  /// All that can be wrong with an address in the page of `object`, which is live or free.
  void expect_page_rejects_bad_addresses(const std::string& state, std::byte* frame) {
    const auto reject = [&](const char* what, MisuseKind kind, std::size_t offset, Layout as) {
      expect_each_rejects(state + ": " + what, kind, frame + offset, as);
    };
    const std::size_t end = slots_per_page() * 64;
    const std::size_t bytes = Zone::frame_bytes(layout);
    reject("one byte into a slot", MisuseKind::MisalignedFree, 1, layout);
    reject("the middle of a slot", MisuseKind::MisalignedFree, 64 + 32, layout);
    reject("the last byte of the last slot", MisuseKind::MisalignedFree, end - 1, layout);
    if (end < bytes) {
      reject("behind the last slot", MisuseKind::MisalignedFree, end, layout);
      reject("the last word of the frame", MisuseKind::MisalignedFree, bytes - 8, layout);
    }
    reject("a smaller layout", MisuseKind::SizeMismatch, 0, layout_of(32));
    reject("a larger layout", MisuseKind::SizeMismatch, 64, layout_of(96));
  }

  Pager pager_;
  Zone zone_{pager_};
  Zone other_{pager_};
  MisuseRecorder misuse_;
  std::vector<void*> objects_;
};

using Configs = testing::Types<DefaultConfig, HardenedConfig, MiddlePageConfig, SingleCpuConfig,
                               BesideConfig, HardenedBesideConfig>;
TYPED_TEST_SUITE(ZoneMisuse, Configs);

TYPED_TEST(ZoneMisuse, of_freed_slots_of_the_current_page_is_rejected) {
  this->allocate();
  void* freed = this->allocate();
  this->allocate();
  this->free(freed);
  this->expect_each_rejects("freed", MisuseKind::DoubleFree, freed, this->layout);
  this->expect_page_rejects_bad_addresses("current", this->frame_of(freed));
}

TYPED_TEST(ZoneMisuse, of_slots_never_issued_of_the_current_page_is_rejected) {
  std::byte* frame = this->frame_of(this->allocate());
  for (const std::size_t slot : {std::size_t{1}, std::size_t{2}, this->slots_per_page() - 1}) {
    this->expect_each_rejects("slot " + std::to_string(slot), MisuseKind::DoubleFree,
                              frame + slot * 64, this->layout);
  }
}

TYPED_TEST(ZoneMisuse, of_a_slot_freed_and_claimed_again_is_rejected) {
  // The page's first word is exhausted, then claimed anew for what was freed in it.
  std::vector<void*> objects;
  while (objects.size() < 60) {
    objects.push_back(this->allocate());
  }
  this->free(objects[7]);
  this->free(objects[8]);
  this->free(objects[9]);
  void* freed[] = {objects[7], objects[8], objects[9]};
  std::size_t reissued = 0;
  while (std::count(this->objects_.begin(), this->objects_.end(), freed[0]) == 0 &&
         reissued < 2 * this->slots_per_page()) {
    this->allocate();
    ++reissued;
  }
  for (void* object : freed) {
    if (std::count(this->objects_.begin(), this->objects_.end(), object) == 0) {
      this->expect_each_rejects("claimed", MisuseKind::DoubleFree, object, this->layout);
    }
  }
}

TYPED_TEST(ZoneMisuse, of_a_partial_page_is_rejected) {
  const std::vector<void*> objects = this->full_page();
  for (const std::size_t slot : {std::size_t{0}, std::size_t{5}, objects.size() - 1}) {
    this->free(objects[slot]);
  }
  for (const std::size_t slot : {std::size_t{0}, std::size_t{5}, objects.size() - 1}) {
    this->expect_each_rejects("freed", MisuseKind::DoubleFree, objects[slot], this->layout);
  }
  this->expect_page_rejects_bad_addresses("partial", this->frame_of(objects[0]));
}

TYPED_TEST(ZoneMisuse, of_a_full_page_is_rejected) {
  this->expect_page_rejects_bad_addresses("full", this->frame_of(this->full_page()[0]));
}

TYPED_TEST(ZoneMisuse, of_an_idle_page_is_rejected) {
  std::byte* frame = this->idle_page();
  this->expect_each_rejects("first slot", MisuseKind::DoubleFree, frame, this->layout);
  this->expect_each_rejects("last slot", MisuseKind::DoubleFree,
                            frame + (this->slots_per_page() - 1) * 64, this->layout);
  this->expect_page_rejects_bad_addresses("idle", frame);
}

TYPED_TEST(ZoneMisuse, of_an_idle_page_does_not_reach_its_next_objects) {
  std::byte* frame = this->idle_page();
  TestFixture::Zone::deallocate_remote(frame, this->layout);
  EXPECT_EQ(this->misuse_.take_kinds(), Kinds{MisuseKind::DoubleFree}) << "at the call";
  const std::vector<void*> objects = this->full_page();
  this->settle();
  EXPECT_EQ(this->zone_.validate(), nullptr);
  EXPECT_EQ(this->zone_.class_statistics(this->index).used, this->objects_.size());
}

TYPED_TEST(ZoneMisuse, of_a_page_that_left_its_class_is_rejected) {
  // One idle page stays in the class; the next goes to the depot or back to the pager.
  const std::vector<void*> first = this->full_page();
  const std::vector<void*> second = this->full_page();
  for (void* object : second) {
    this->free(object);
  }
  for (void* object : first) {
    this->free(object);
  }
  if (!TestFixture::readable_after_give_back) {
    ASSERT_NE(this->zone_.statistics().depot_bytes, 0u) << "its meta-data can still be read";
  }
  const Kinds only_foreign{MisuseKind::ForeignPointer};
  std::size_t foreign = 0;
  for (void* object : {first[0], second[0]}) {
    this->zone_.deallocate(object, this->layout);
    foreign += static_cast<std::size_t>(this->misuse_.take_kinds() == only_foreign);
    TestFixture::Zone::deallocate_remote(object, this->layout);
    foreign += static_cast<std::size_t>(this->misuse_.take_kinds() == only_foreign);
  }
  EXPECT_EQ(foreign, 2u) << "one page is idle and one in no class";
  EXPECT_EQ(this->zone_.validate(), nullptr);
}

TYPED_TEST(ZoneMisuse, after_trim_is_rejected_where_meta_data_is_beside) {
  if constexpr (TestFixture::readable_after_give_back) {
    void* object = this->allocate();
    this->free(object);
    this->zone_.trim();
    ASSERT_EQ(this->pager_.live_bytes(), 0u);
    this->expect_each_rejects("given back", MisuseKind::ForeignPointer, object, this->layout);
    this->expect_each_rejects("interior", MisuseKind::ForeignPointer,
                              static_cast<std::byte*>(object) + 1, this->layout);
  }
}

TYPED_TEST(ZoneMisuse, of_foreign_addresses_is_rejected) {
  this->allocate();
  alignas(4096) static std::byte not_a_page[2 * 4096] = {};
  if constexpr (std::is_same_v<TypeParam, MiddlePageConfig> ||
                !TestFixture::readable_after_give_back) {
    this->expect_each_rejects("static", MisuseKind::ForeignPointer, not_a_page, this->layout);
    this->expect_each_rejects("static", MisuseKind::ForeignPointer, not_a_page + 64, this->layout);
  } else {
    int on_the_stack = 0;
    auto* arena = TypeParam::Table::chunk(0);
    this->expect_each_rejects("stack", MisuseKind::ForeignPointer, &on_the_stack, this->layout);
    this->expect_each_rejects("below", MisuseKind::ForeignPointer, arena - 64, this->layout);
    this->expect_each_rejects("unused", MisuseKind::ForeignPointer,
                              arena + 100 * TypeParam::Table::chunk_bytes, this->layout);
  }
}

TYPED_TEST(ZoneMisuse, of_runs_is_rejected_where_there_are_none) {
  const Layout huge = layout_of(TestFixture::Zone::MAX_ALLOC_SIZE + 1);
  void* object = this->allocate();
  this->expect_harmless("remote", MisuseKind::SizeMismatch,
                        [&] { TestFixture::Zone::deallocate_remote(object, huge); });
  if (!TestFixture::Zone::has_runs) {
    this->expect_harmless("owner", MisuseKind::SizeMismatch,
                          [&] { this->zone_.deallocate(object, huge); });
  }
}

TYPED_TEST(ZoneMisuse, second_remote_free_is_reported_whoever_makes_it) {
  void* object = this->allocate();
  this->allocate();
  TestFixture::Zone::deallocate_remote(object, this->layout);
  std::erase(this->objects_, object);
  TestFixture::Zone::deallocate_remote(object, this->layout);
  EXPECT_EQ(this->misuse_.take_kinds(), Kinds{MisuseKind::DoubleFree}) << "at the call";
  this->other_.deallocate(object, this->layout);
  this->settle();
  EXPECT_EQ(this->misuse_.take_kinds(), Kinds{MisuseKind::DoubleFree});
  EXPECT_EQ(this->zone_.class_statistics(this->index).used, 1u);
}

TYPED_TEST(ZoneMisuse, second_free_by_another_zone_is_reported_at_the_call) {
  void* object = this->allocate();
  this->allocate();
  this->other_.deallocate(object, this->layout);
  std::erase(this->objects_, object);
  this->other_.deallocate(object, this->layout);
  EXPECT_EQ(this->misuse_.take_kinds(), Kinds{MisuseKind::DoubleFree});
}

/// The state of the page in which an object is freed twice.
enum class Around { current, partial, full, alone };

void* object_in(Around around, auto&& allocate, auto&& full_page, auto&& free) {
  if (around == Around::current) {
    allocate();
    return allocate();
  }
  const std::vector<void*> objects = full_page();
  if (around == Around::partial) {
    free(objects[1]);
  } else if (around == Around::alone) {
    for (std::size_t slot = 1; slot < objects.size(); ++slot) {
      free(objects[slot]);
    }
  }
  return objects[0];
}

TYPED_TEST(ZoneMisuse, local_then_remote_is_found_at_the_merge) {
  for (const Around around : {Around::current, Around::partial, Around::full}) {
    SCOPED_TRACE(static_cast<int>(around));
    void* object = object_in(
        around, [&] { return this->allocate(); }, [&] { return this->full_page(); },
        [&](void* freed) { this->free(freed); });
    this->free(object);
    this->expect_harmless("remote", MisuseKind::DoubleFree,
                          [&] { TestFixture::Zone::deallocate_remote(object, this->layout); });
    this->expect_harmless("other zone", MisuseKind::DoubleFree,
                          [&] { this->other_.deallocate(object, this->layout); });
  }
}

TYPED_TEST(ZoneMisuse, remote_then_local_is_found_at_the_call_if_hardened_else_at_the_merge) {
  for (const Around around : {Around::current, Around::partial, Around::full, Around::alone}) {
    SCOPED_TRACE(static_cast<int>(around));
    void* object = object_in(
        around, [&] { return this->allocate(); }, [&] { return this->full_page(); },
        [&](void* freed) { this->free(freed); });
    const std::size_t used = this->zone_.class_statistics(this->index).used;
    TestFixture::Zone::deallocate_remote(object, this->layout);
    std::erase(this->objects_, object);
    this->zone_.deallocate(object, this->layout);
    EXPECT_EQ(this->zone_.validate(), nullptr);
    Kinds kinds = this->misuse_.take_kinds();
    if (TypeParam::hardened) {
      EXPECT_EQ(kinds, Kinds{MisuseKind::DoubleFree}) << "at the call";
    }
    this->settle();
    const Kinds merged = this->misuse_.take_kinds();
    kinds.insert(kinds.end(), merged.begin(), merged.end());
    EXPECT_EQ(kinds, Kinds{MisuseKind::DoubleFree});
    EXPECT_EQ(this->zone_.validate(), nullptr);
    EXPECT_EQ(this->zone_.class_statistics(this->index).used, used - 1);
  }
}

TYPED_TEST(ZoneMisuse, hardened_rejects_other_zone_then_local_at_the_call) {
  if (!TypeParam::hardened) {
    return;
  }
  void* object = this->allocate();
  this->allocate();
  this->other_.deallocate(object, this->layout);
  std::erase(this->objects_, object);
  this->zone_.deallocate(object, this->layout);
  EXPECT_EQ(this->misuse_.take_kinds(), Kinds{MisuseKind::DoubleFree});
}

TYPED_TEST(ZoneMisuse, every_second_free_is_reported_in_random_order) {
  // All states but idle at once; every tenth object stays, so that no page leaves the zone.
  Random random;
  std::vector<void*> freed;
  for (int count = 0; count < 3000; ++count) {
    void* object = this->allocate();
    if (count % 10 != 0) {
      freed.push_back(object);
    }
  }
  for (std::size_t position = freed.size(); position > 1; --position) {
    std::swap(freed[position - 1], freed[random.below(position)]);
  }
  for (std::size_t position = 0; position < freed.size(); ++position) {
    this->free(freed[position]);
    this->zone_.deallocate(freed[position], this->layout);
    this->zone_.deallocate(freed[random.below(position + 1)], this->layout);
    ASSERT_EQ(this->misuse_.take_count(MisuseKind::DoubleFree), 2u);
  }
  EXPECT_EQ(this->zone_.validate(), nullptr);
  EXPECT_EQ(this->zone_.class_statistics(this->index).used, this->objects_.size());
}

}  // namespace
}  // namespace slabmalloc::test
