// SPDX-License-Identifier: MIT
//
// Double frees by each pair of callers: the owner, other zones, and threads without one. The zone
// must report the second free, or never issue the slot to two clients. Only a free that waits in
// another zone's buffer may escape. A hardened zone reports each at the call.
#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <ostream>
#include <set>
#include <vector>

#include "slabmalloc/slabmalloc.hpp"
#include "support/misuse_recorder.hpp"
#include "zone/zone_configs.hpp"

namespace slabmalloc {
namespace {

enum class Caller : std::uint8_t { Owner, OtherZone, AnotherZone, NoZone };
enum class Around : std::uint8_t { NothingElse, LiveInItsWord, LiveInLaterWords, FullPage };

struct Case {
  std::size_t bytes;
  Caller first;
  Caller second;
  Around around;
  bool is_swept_before;  ///< The page had other objects before; else this is its first sweep.
  bool deliver_late;     ///< The other zones deliver after the owner has allocated on; else before.
};

std::ostream& operator<<(std::ostream& out, const Case& one) {
  return out << one.bytes << " B, first " << int(one.first) << ", second " << int(one.second)
             << ", around " << int(one.around) << ", swept " << one.is_swept_before << ", late "
             << one.deliver_late;
}

/// The cases of blocks of at most `most_bytes`.
std::vector<Case> all_cases(std::size_t most_bytes) {
  std::vector<Case> cases;
  for (const std::size_t bytes : {16u, 64u, 200u, 1000u, 3000u, 9000u}) {
    if (bytes > most_bytes) {
      break;
    }
    for (unsigned bits = 0; bits < 256; ++bits) {
      cases.push_back({bytes, static_cast<Caller>(bits % 4), static_cast<Caller>(bits / 4 % 4),
                       static_cast<Around>(bits / 16 % 4), (bits & 64) != 0, (bits & 128) != 0});
    }
  }
  return cases;
}

template <class Config>
class DoubleFree : public testing::Test {
 protected:
  using Pager = typename test::PagerFor<Config>::Type;
  using Zone = PagedZone<Pager, Config>;

  struct Outcome {
    std::size_t reports_at_the_call = 0;
    std::size_t reports = 0;
    std::size_t issued_twice = 0;
  };

  /// The zones of one case.
  struct Heap {
    explicit Heap(const Case& one) : layout(test::layout_of(one.bytes)) {}
    ~Heap() {
      for (void* object : live) {
        owner.deallocate(object, layout);
      }
      for (Zone* zone : {&owner, &other, &another}) {
        zone->trim();
        EXPECT_EQ(zone->validate(), nullptr);
      }
    }

    void allocate(std::size_t count) {
      for (; count != 0; --count) {
        last = owner.allocate(layout).value_or(nullptr);
        ASSERT_NE(last, nullptr);
        issued_twice += live.insert(last).second ? 0u : 1u;
      }
    }
    void free(Caller caller, void* object) {
      switch (caller) {
        case Caller::Owner:
          return owner.deallocate(object, layout);
        case Caller::OtherZone:
          return other.deallocate(object, layout);
        case Caller::AnotherZone:
          return another.deallocate(object, layout);
        case Caller::NoZone:
          return Zone::deallocate_remote(object, layout);
      }
    }

    Layout layout;
    Pager pager;
    Zone owner{pager};
    Zone other{pager};
    Zone another{pager};
    std::set<void*> live;
    void* last = nullptr;
    std::size_t issued_twice = 0;
  };

  Outcome run(const Case& one) {
    Outcome outcome;
    Heap heap(one);
    const std::size_t slots = Zone::slots_per_page(Zone::class_for(heap.layout));
    const std::size_t many = 2 * slots + word_bits;
    if (one.is_swept_before) {
      heap.allocate(many);
      for (void* object : heap.live) {
        heap.owner.deallocate(object, heap.layout);
      }
      heap.live.clear();
    }
    heap.allocate(one.around == Around::LiveInItsWord ? 2 : 1);
    void* const object = heap.last;
    if (one.around == Around::LiveInLaterWords || one.around == Around::FullPage) {
      heap.allocate(one.around == Around::FullPage ? many : 2 * word_bits);
    }
    heap.live.erase(object);
    heap.free(one.first, object);
    heap.free(one.second, object);
    outcome.reports_at_the_call = misuse_.take_count(MisuseKind::DoubleFree);
    if (!one.deliver_late) {
      heap.other.drain();
      heap.another.drain();
    }
    heap.allocate(many);
    heap.other.drain();
    heap.another.drain();
    heap.owner.drain();
    heap.allocate(many);
    outcome.reports = outcome.reports_at_the_call + misuse_.take_count(MisuseKind::DoubleFree);
    outcome.issued_twice = heap.issued_twice;
    return outcome;
  }

  /// True if one of the frees waits in a buffer, and the other is not made by the same zone.
  static bool is_one_free_buffered(const Case& one) {
    const auto has_buffer = [](Caller caller) {
      return caller == Caller::OtherZone || caller == Caller::AnotherZone;
    };
    return Zone::is_buffered(Zone::usable_size(test::layout_of(one.bytes))) &&
           one.first != one.second && (has_buffer(one.first) || has_buffer(one.second));
  }

  test::MisuseRecorder misuse_;
};

/// Small pages, which a case exhausts soon.
using SmallPageConfig = scenario::BaseGranuleConfig<4 * kibibyte>;
struct HardenedSmallPageConfig : SmallPageConfig {
  static constexpr bool hardened = true;
};

using Configs = testing::Types<SmallPageConfig, HardenedSmallPageConfig, test::BesideConfig,
                               test::HardenedBesideConfig>;
TYPED_TEST_SUITE(DoubleFree, Configs);

TYPED_TEST(DoubleFree, by_any_two_callers_is_reported_or_issues_no_slot_twice) {
  std::size_t reported = 0;
  std::size_t missed = 0;
  const std::vector<Case> cases = all_cases(TestFixture::Zone::MAX_ALLOC_SIZE);
  for (const Case& one : cases) {
    const auto outcome = this->run(one);
    if (this->is_one_free_buffered(one) && one.deliver_late) {
      EXPECT_EQ(outcome.reports + outcome.issued_twice, 1u) << one;
      missed += outcome.issued_twice;
    } else {
      EXPECT_EQ(outcome.reports, 1u) << one;
      EXPECT_EQ(outcome.issued_twice, 0u) << one;
    }
    if (TypeParam::hardened || (one.first == Caller::Owner && !this->is_one_free_buffered(one))) {
      EXPECT_EQ(outcome.reports_at_the_call, 1u) << one;
    }
    reported += outcome.reports;
  }
  EXPECT_EQ(reported + missed, cases.size());
  EXPECT_EQ(missed == 0, TypeParam::hardened) << "a free that waits in a buffer may escape";
}

}  // namespace
}  // namespace slabmalloc
