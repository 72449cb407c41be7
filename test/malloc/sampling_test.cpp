// SPDX-License-Identifier: MIT
//
// Samples: their distribution against theory, and that a class stops at exactly the slot where one
// is due, whatever happens to its pages meanwhile.
#include "malloc/sampling.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <ostream>
#include <string>
#include <vector>

#include "malloc/blocks.hpp"
#include "malloc/guarded_sampling.hpp"
#include "malloc/heap.hpp"
#include "malloc/thread_zones.hpp"
#include "support/interrupting_atomics.hpp"
#include "support/random.hpp"

namespace slabmalloc {
namespace {

/// The deviation of `observed` of `trials` from what `probability` predicts, in standard ones.
double deviation(double observed, double trials, double probability) {
  return std::abs(observed - trials * probability) /
         std::sqrt(trials * probability * (1 - probability));
}
/// A right program exceeds this in one of 3.5 million comparisons.
constexpr double five_sigma = 5;

TEST(Sampling, exponential_numbers_have_the_distribution_of_theory) {
  test::Random random;
  constexpr int trials = 200'000;
  constexpr int cells = 40;
  int counts[cells + 1] = {};
  for (int trial = 0; trial < trials; ++trial) {
    const double drawn = exponential([&] { return random.next(); });
    ASSERT_GE(drawn, 0);
    ++counts[std::min(cells, static_cast<int>(drawn * 8))];
  }
  for (int cell = 0; cell < cells; ++cell) {
    const double probability = std::exp(-cell / 8.0) - std::exp(-(cell + 1) / 8.0);
    EXPECT_LT(deviation(counts[cell], trials, probability), five_sigma) << cell;
  }
  EXPECT_LT(deviation(counts[cells], trials, std::exp(-cells / 8.0)), five_sigma);
}

TEST(Sampling, gaps_are_geometric) {
  test::Random random;
  struct Case {
    std::size_t one_in;
    std::size_t mean_bytes;
    std::size_t bytes;
    double probability;
  };
  const auto by_bytes = [](double bytes, double mean) { return 1 - std::exp(-bytes / mean); };
  for (const Case& one :
       {Case{2, 0, 16, 0.5}, Case{3, 0, 16, 1.0 / 3}, Case{100, 0, 4096, 0.01},
        Case{0, 1000, 16, by_bytes(16, 1000)}, Case{0, 1000, 4096, by_bytes(4096, 1000)},
        Case{10, 1000, 16, 1 - 0.9 * (1 - by_bytes(16, 1000))}}) {
    SCOPED_TRACE(testing::Message() << one.one_in << " " << one.mean_bytes << " " << one.bytes);
    Sampling sampled;
    sampled.set(one.one_in, one.mean_bytes);
    constexpr int trials = 100'000;
    int counts[8] = {};
    for (int trial = 0; trial < trials; ++trial) {
      const std::size_t gap = sampled.draw_gap(one.bytes, [&] { return random.next(); });
      counts[std::min<std::size_t>(gap, 7)] += 1;
    }
    // At one in two the series' error of 0.0012 would show.
    const double probability = one.one_in > 1 && one.mean_bytes == 0
                                   ? 1 - std::exp(-1 / mean_gap_of_one_in(one.one_in))
                                   : one.probability;
    EXPECT_NEAR(probability, one.probability, 0.0013);
    double rest = 1;
    for (int gap = 0; gap < 7; ++gap) {
      EXPECT_LT(deviation(counts[gap], trials, rest * probability), five_sigma) << gap;
      rest *= 1 - probability;
    }
    EXPECT_LT(deviation(counts[7], trials, rest), five_sigma);
  }
}

TEST(Sampling, never_and_always_are_exact) {
  Sampling sampled;
  const auto bits = [] { return std::uint64_t{1}; };
  EXPECT_EQ(sampled.draw_gap(16, bits), Sampling::never);
  const std::uint32_t period = sampled.period();
  sampled.set(1, 0);
  EXPECT_EQ(sampled.draw_gap(16, bits), 0u);
  EXPECT_NE(sampled.period(), period);
  sampled.set(0, ~std::size_t{0});
  EXPECT_EQ(sampled.draw_gap(0, bits), Sampling::never) << "a rate of 0";
}

TEST(Sampling, the_rates_of_two_calls_at_once_do_not_stay_mixed) {
  bool is_interrupted = true;
  for (std::size_t access = 1; is_interrupted; ++access) {
    BasicSampling<test::InterruptingAtomics<HardwareAtomics>> sampled;
    test::Interruption::arm(access, [&] { sampled.set(2, 2); });
    sampled.set(1, 1);
    is_interrupted = test::Interruption::disarm();
    EXPECT_EQ(sampled.one_in(), sampled.mean_bytes()) << access;
    ASSERT_LT(access, 20u);
  }
}

/// Allocates and frees at random in one class of the thread's zone, and counts what it issues.
class SamplesOfAClass : public testing::TestWithParam<std::size_t> {
 protected:
  SamplesOfAClass() {
    get_own_zone();
    thread_heap.zone->drain();
  }
  ~SamplesOfAClass() override {
    size_class().set_next_sample(Sampling::never);
    free_all(live_);
  }

  ArenaClass& size_class() {
    return thread_heap.zone->class_at(heap::SizeClasses::index_for(GetParam()));
  }
  /// A block from what is claimed, else from the zone, which claims.
  void allocate() {
    void* block = ArenaZone::allocate_claimed(size_class());
    block =
        block != nullptr ? block : allocate_from(*thread_heap.zone, size_class().index()).address;
    ASSERT_NE(block, nullptr);
    live_.push_back(block);
  }
  void free_one(test::Random& random) {
    if (!live_.empty()) {
      std::swap(live_[random.below(live_.size())], live_.back());
      heap::deallocate(live_.back());
      live_.pop_back();
    }
  }

  std::vector<void*> live_;
};

INSTANTIATE_TEST_SUITE_P(Sizes, SamplesOfAClass, testing::Values(16, 64, 500, 4096, 32768),
                         [](const auto& size) { return "of_" + std::to_string(size.param); });

TEST_P(SamplesOfAClass, are_due_after_exactly_as_many_allocations_as_were_set) {
  test::Random random;
  for (int round = 0; round < 150; ++round) {
    size_class().leave_current();  // Else what is claimed would come first.
    const std::size_t gap = random.below(200);
    size_class().set_next_sample(gap);
    for (std::size_t issued = 0; issued < gap; ++issued) {
      ASSERT_FALSE(size_class().is_sample_due()) << "after " << issued << " of " << gap;
      ASSERT_NO_FATAL_FAILURE(allocate());
      for (std::uint64_t frees = random.below(3); frees != 0; --frees) {
        free_one(random);
      }
      switch (random.below(40)) {
        case 0:
          size_class().leave_current();  // Gives claims up.
          break;
        case 1:
          thread_heap.zone->drain();
          break;
        case 2:
          run_thread([this] {
            if (!live_.empty()) {
              heap::deallocate(live_.back());
            }
          });
          if (!live_.empty()) {
            live_.pop_back();
          }
          break;
        default:
          break;
      }
      ASSERT_EQ(size_class().validate(), nullptr);
    }
    ASSERT_TRUE(size_class().is_sample_due()) << "gap " << gap;
    ASSERT_EQ(ArenaZone::allocate_claimed(size_class()), nullptr);
    // While it is due, nothing is handed off.
    for (int frees = 0; frees < 3; ++frees) {
      free_one(random);
      ASSERT_TRUE(size_class().is_sample_due());
    }
    // A caller that ignores the sample gets its slot, and the sample stays due.
    ASSERT_NO_FATAL_FAILURE(allocate());
    ASSERT_TRUE(size_class().is_sample_due());
    ASSERT_EQ(size_class().validate(), nullptr);
  }
}

// A slot that was handed off would be issued in the sample's place.
TEST_P(SamplesOfAClass, no_slot_is_handed_off_while_one_is_due) {
  const std::size_t slots = size_class().geometry().slots;
  if (slots == 1) {
    GTEST_SKIP() << "pages of one slot hand none off";
  }
  // Two pages are full, and the current one is not in its first sweep.
  for (std::size_t block = 0; block <= 2 * slots; ++block) {
    ASSERT_NO_FATAL_FAILURE(allocate());
  }
  size_class().leave_current();
  // Is `block` issued at once after its free? Then it was handed off.
  const auto is_handed_off = [this](void* block) {
    heap::deallocate(block);
    void* const issued = ArenaZone::allocate_claimed(size_class());
    live_.front() = issued != nullptr ? issued : heap::allocate(GetParam());
    return issued == block;
  };
  std::size_t tries = 0;
  while (!is_handed_off(live_.front())) {
    ASSERT_LT(++tries, 3 * slots) << "no free found the current page full";
    ASSERT_NO_FATAL_FAILURE(allocate());
  }
  size_class().set_next_sample(1);
  ASSERT_TRUE(is_handed_off(live_.front()));
  ASSERT_TRUE(size_class().is_sample_due());
  EXPECT_FALSE(is_handed_off(live_.front()));
  EXPECT_EQ(size_class().validate(), nullptr);
}

/// Guards one allocation in some, for a scope.
class GuardingScope {
 public:
  GuardingScope(std::size_t one_in, std::size_t mean_bytes) {
    set_guarded_sampling(one_in, mean_bytes);
  }
  ~GuardingScope() { set_guarded_sampling(0, 0); }
  GuardingScope(const GuardingScope&) = delete;
  GuardingScope& operator=(const GuardingScope&) = delete;
};

/// Of `trials` calls of `allocate`, how many were guarded. Frees each block at once, so that
/// there are places.
std::size_t guarded_of(int trials, const std::function<void*()>& allocate) {
  std::size_t guarded = 0;
  for (int trial = 0; trial < trials; ++trial) {
    void* const block = allocate();
    EXPECT_NE(block, nullptr);
    guarded += guarded_blocks.contains(block) ? 1u : 0u;
    heap::deallocate(block);
  }
  return guarded;
}

/// Each way to a block.
struct Way {
  const char* name;
  std::size_t bytes;
  void* (*allocate)(std::size_t bytes);
};
void PrintTo(const Way& way, std::ostream* stream) { *stream << way.name << ' ' << way.bytes; }
const Way ways[] = {
    {"allocate", 16, [](std::size_t bytes) { return heap::allocate(bytes); }},
    {"allocate", 1000, [](std::size_t bytes) { return heap::allocate(bytes); }},
    {"allocate", 1500, [](std::size_t bytes) { return heap::allocate(bytes); }},
    {"allocate", 30000, [](std::size_t bytes) { return heap::allocate(bytes); }},
    {"zeroed", 100, [](std::size_t bytes) { return heap::allocate_zeroed(bytes); }},
    {"zeroed", 5000, [](std::size_t bytes) { return heap::allocate_zeroed(bytes); }},
    {"aligned", 200, [](std::size_t bytes) { return heap::allocate_aligned(bytes, 128); }},
    {"reallocate", 300,
     [](std::size_t bytes) { return heap::reallocate(heap::allocate(40), bytes); }},
};

class GuardedSampling : public testing::TestWithParam<Way> {};

INSTANTIATE_TEST_SUITE_P(Ways, GuardedSampling, testing::ValuesIn(ways), [](const auto& way) {
  return std::string(way.param.name) + "_" + std::to_string(way.param.bytes);
});

TEST_P(GuardedSampling, takes_one_in_n_allocations) {
  constexpr int trials = 20'000;
  const auto allocate = [] { return GetParam().allocate(GetParam().bytes); };
  const GuardingScope scope(20, 0);
  EXPECT_LT(deviation(double(guarded_of(trials, allocate)), trials, 0.05), five_sigma);
}

TEST_P(GuardedSampling, takes_blocks_by_their_bytes) {
  constexpr int trials = 20'000;
  const auto allocate = [] { return GetParam().allocate(GetParam().bytes); };
  const std::uint32_t index = heap::SizeClasses::index_for(
      GetParam().bytes, std::string(GetParam().name) == "aligned" ? 128 : 16);
  const auto bytes = static_cast<double>(heap::SizeClasses::size_of(index));
  const GuardingScope scope(0, 20 * static_cast<std::size_t>(bytes));
  EXPECT_LT(deviation(double(guarded_of(trials, allocate)), trials, 1 - std::exp(-1.0 / 20)),
            five_sigma);
}

TEST_P(GuardedSampling, includes_the_first_allocations_of_new_threads) {
  constexpr int threads = 300;
  constexpr int trials = 20;
  std::size_t guarded = 0;
  const GuardingScope scope(10, 0);
  for (int thread = 0; thread < threads; ++thread) {
    run_thread([&guarded] {
      guarded += guarded_of(trials, [] { return GetParam().allocate(GetParam().bytes); });
    });
  }
  EXPECT_LT(deviation(double(guarded), threads * trials, 0.1), five_sigma) << guarded;
}

TEST(GuardedSamplingOfThreads, reaches_threads_that_run_already_and_ends_there) {
  run_thread([] {
    get_own_zone();
    const auto allocate = [] { return heap::allocate(64); };
    EXPECT_EQ(guarded_of(1000, allocate), 0u);
    run_thread([] { set_guarded_sampling(2, 0); });
    guarded_of(2000, allocate);
    EXPECT_GT(guarded_of(1000, allocate), 300u);
    run_thread([] { set_guarded_sampling(0, 0); });
    guarded_of(2000, allocate);
    EXPECT_EQ(guarded_of(1000, allocate), 0u);
  });
}

}  // namespace
}  // namespace slabmalloc
