// SPDX-License-Identifier: MIT
//
// A search for lost memory: random workloads, each with the k-th call of the operating system
// refused, once and from k on, for every k. A point is one workload with one refusal, in a process
// of its own. A model knows every block, so each point finds overlaps, false zeros, and damage.
//
// A workload's seed also chooses its surroundings: one thread or two that take turns, options, and
// bounds on usable memory, on address space, and on the number of mappings. A request may be
// refused only by a call of the system that fails in it, or by a bound.
//
//   SLABMALLOC_TEST_POINTS=100000 SLABMALLOC_TEST_SEED=7 os_failure_search_test
#include <errno.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <iterator>
#include <map>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

#include "malloc/front.hpp"
#include "malloc/guarded_blocks.hpp"
#include "malloc/nothing_lost.hpp"
#include "malloc/options.hpp"
#include "malloc/sampling.hpp"
#include "os/faulty_os.hpp"
#include "support/child.hpp"
#include "support/other_thread.hpp"
#include "support/pattern.hpp"
#include "support/random.hpp"

namespace slabmalloc {
namespace {

constexpr std::size_t mebibyte = std::size_t{1} << 20;
constexpr std::size_t default_points = 200;
/// Of each workload, if the number of points is the default: so there are many workloads.
constexpr long default_points_of_workload = 10;
constexpr int steps = 150;
constexpr int strange_errno = 12345;

/// Chooses options as a program's user may.
void choose_options(test::Random& random) {
  const auto maybe = [&random](auto& option, auto... values) {
    const std::common_type_t<decltype(values)...> choices[] = {values...};
    if (random.one_in(4)) {
      option = static_cast<std::remove_reference_t<decltype(option)>>(
          choices[random.below(sizeof...(values))]);
    }
  };
  maybe(tunables.decay_milliseconds, 0u, 10u);
  maybe(tunables.scavenge_milliseconds, 1u);
  maybe(tunables.direct_threshold_bytes, 64 * kibibyte, mebibyte);
  maybe(tunables.huge_threshold_bytes, std::size_t{0}, mebibyte);
  maybe(tunables.soft_limit_bytes, mebibyte, 20 * mebibyte);
  maybe(tunables.hard_limit_bytes, 2 * mebibyte, 8 * mebibyte, 40 * mebibyte);
  maybe(options.scavenging, false);
  if (MallocConfig::hardened) {
    maybe(tunables.guards, false);
    maybe(tunables.random_order, false);
    maybe(tunables.class_addresses, false);
    maybe(options.clearing, false);
    maybe(options.quarantine, false);
    maybe(options.reuse_check, false);
    maybe(options.canaries, false);
    maybe(options.zero_size_traps, false);
  } else if (random.one_in(3)) {
    maybe(tunables.guarded_places, 1u, 10u);
    sampling.set(random.between(1, 20), random.one_in(2) ? 4 * kibibyte : 0);
  }
}

/// Chooses bounds as a system may have.
void choose_bounds(test::FaultyOs& os, test::Random& random) {
  switch (random.below(8)) {
    case 0:
      return os.limit_commit(random.between(1, 64) * mebibyte);
    case 1:
      return os.limit_address_space(random.between(1, 64) * mebibyte);
    case 2:
      return os.limit_mappings(random.between(4, 60));
    case 3:
      return os.set_os_page_bytes(random.one_in(2) ? 16 * kibibyte : 64 * kibibyte);
    default:
      return;
  }
}

/// The blocks that should be live, by address.
class Model {
 public:
  Model(test::FaultyOs& os, std::uint64_t seed) : os_(os), random_(seed) {
    choose_options(random_);
    choose_bounds(os_, random_);
    worker_ = random_.one_in(2) ? std::make_unique<test::OtherThread>() : nullptr;
  }

  void run() {
    run_some(steps);
    if (worker_ == nullptr && random_.one_in(2)) {
      // An ended thread leaves its blocks, and a zone.
      std::thread([this] { run_some(steps / 5); }).join();
    }
    EXPECT_TRUE(process_arena.validate());
    EXPECT_EQ(guarded_blocks.validate(), nullptr);
  }

  /// Every call must succeed, since there is no bound any more, and nothing may be lost.
  void run_healed_and_free_all() {
    os_.limit_commit(os::unlimited);
    os_.limit_address_space(os::unlimited);
    os_.limit_mappings(os::unlimited);
    tunables.hard_limit_bytes = Tunables::no_limit;
    run_some(steps / 5);
    while (!blocks_.empty() && !testing::Test::HasFailure()) {
      free_block(blocks_.begin());
    }
    worker_.reset();
    test::expect_nothing_lost();
  }

 private:
  using Blocks = std::map<std::byte*, std::size_t>;
  /// Marks at both ends show damage, and are quick.
  static constexpr std::size_t most_marked = 256;

  /// Acts a number of times, on either thread if there are two.
  void run_some(int count) {
    for (int step = 0; step < count && !testing::Test::HasFailure();) {
      const int turn = std::min(count - step, static_cast<int>(random_.between(1, 40)));
      const auto act_some = [this, turn] {
        for (int number = 0; number < turn && !testing::Test::HasFailure(); ++number) {
          act();
        }
      };
      if (worker_ != nullptr && random_.one_in(2)) {
        worker_->run(act_some);
      } else {
        act_some();
      }
      step += turn;
      if (worker_ != nullptr && random_.one_in(20)) {
        worker_ = std::make_unique<test::OtherThread>();
      }
    }
  }

  void act() {
    failures_before_ = os_.failures() + os_.refusals();
    errno = strange_errno;
    switch (random_.below(10)) {
      case 0:
      case 1:
      case 2:
        bytes_ = some_bytes();
        return add(
            MallocConfig::hardened ? front::allocate_aligned(bytes_, 16) : heap::allocate(bytes_),
            false);
      case 3:
        return add(front::allocate_zeroed(bytes_ = some_bytes()), true);
      case 4: {
        const std::size_t alignment = std::size_t{1} << random_.below(random_.one_in(4) ? 24 : 13);
        bytes_ = some_bytes();
        auto* const block = static_cast<std::byte*>(front::allocate_aligned(bytes_, alignment));
        EXPECT_EQ(reinterpret_cast<std::uintptr_t>(block) % alignment, 0u);
        return add(block, false);
      }
      case 5:
      case 6:
        return blocks_.empty() ? void() : free_block(any_block());
      case 7:
      case 8:
        return blocks_.empty() ? void() : resize_block(any_block());
      default:
        os_.advance_clock(random_.below(1500));
        if (random_.one_in(4)) {
          front::trim();
        }
        EXPECT_EQ(errno, strange_errno);
    }
  }

  std::size_t some_bytes() {
    switch (random_.below(8)) {
      case 0:
        return random_.between(1, 40) * mebibyte / 16;
      case 1:
        return random_.between(32 * kibibyte, 300 * kibibyte);
      case 2:
      case 3:
        return random_.below(32 * kibibyte);
      default:
        return random_.below(600);
    }
  }

  Blocks::iterator any_block() {
    return std::next(blocks_.begin(), static_cast<std::ptrdiff_t>(random_.below(blocks_.size())));
  }

  void add(void* address, bool is_zero) {
    EXPECT_EQ(errno, strange_errno);
    auto* const block = static_cast<std::byte*>(address);
    if (block == nullptr) {
      EXPECT_TRUE(is_excused()) << "refused " << bytes_ << " bytes";
      return;
    }
    const auto next = blocks_.lower_bound(block);
    EXPECT_TRUE(next == blocks_.end() || block + bytes_ <= next->first) << "overlap";
    EXPECT_TRUE(next == blocks_.begin() ||
                std::prev(next)->first + std::prev(next)->second <= block)
        << "overlap";
    if (is_zero) {
      EXPECT_TRUE(test::holds_zeroes(block, std::min(bytes_, most_marked)));
      EXPECT_TRUE(test::holds_zeroes(end_of(block, bytes_), marked(bytes_)));
    }
    mark(block, bytes_);
    blocks_[block] = bytes_;
  }

  void free_block(Blocks::iterator block) {
    check(block->first, block->second);
    errno = strange_errno;
    front::deallocate<Call::Free>(block->first);
    EXPECT_EQ(errno, strange_errno);
    blocks_.erase(block);
  }

  void resize_block(Blocks::iterator picked) {
    const auto [block, had] = *picked;
    check(block, had);
    bytes_ = std::max<std::size_t>(some_bytes(), 1);
    errno = strange_errno;
    auto* const moved = static_cast<std::byte*>(front::reallocate(block, bytes_));
    if (moved == nullptr) {
      EXPECT_GT(bytes_, had) << "making a block smaller always succeeds";
      EXPECT_TRUE(is_excused()) << "refused " << bytes_ << " bytes";
      return check(block, had);
    }
    const std::size_t kept = std::min({had, bytes_, most_marked});
    EXPECT_TRUE(test::holds_pattern(moved, kept, reinterpret_cast<std::uintptr_t>(block)));
    blocks_.erase(picked);
    add(moved, false);
  }

  /// True if the system or a bound refused something in this act.
  bool is_excused() {
    const std::size_t refusals = process_arena.statistics().limit_refusals;
    return std::exchange(limit_refusals_, refusals) != refusals ||
           os_.failures() + os_.refusals() != failures_before_;
  }

  static std::size_t marked(std::size_t bytes) { return std::min(bytes, most_marked); }
  static std::byte* end_of(std::byte* block, std::size_t bytes) {
    return block + bytes - marked(bytes);
  }
  /// The end first: the start counts where both are one.
  static void mark(std::byte* block, std::size_t bytes) {
    if (bytes > 2 * most_marked) {
      test::fill_pattern(end_of(block, bytes), most_marked, bytes);
    }
    test::fill_pattern(block, marked(bytes), reinterpret_cast<std::uintptr_t>(block));
  }
  static void check(std::byte* block, std::size_t bytes) {
    EXPECT_TRUE(test::holds_pattern(block, marked(bytes), reinterpret_cast<std::uintptr_t>(block)));
    if (bytes > 2 * most_marked) {
      EXPECT_TRUE(test::holds_pattern(end_of(block, bytes), most_marked, bytes));
    }
  }

  test::FaultyOs& os_;
  test::Random random_;
  Blocks blocks_;
  std::unique_ptr<test::OtherThread> worker_;
  std::size_t bytes_ = 0;  ///< Of the latest request.
  std::size_t failures_before_ = 0;
  std::size_t limit_refusals_ = 0;
};

/// Runs a workload with the calls from `first` to `last` refused, in a child. Returns the memory
/// calls that it made, or -1 if a check failed there.
long run_point(std::uint64_t seed, std::size_t first, bool and_all_after) {
  int ends[2] = {};
  EXPECT_EQ(pipe(ends), 0);
  const int status = test::status_of_child(
      [&] {
        test::FaultyOs os;
        if (first == 0) {
          os.heal();
        } else if (and_all_after) {
          os.fail_from(first);
        } else {
          os.fail_call(first);
        }
        Model model(os, seed);
        model.run();
        const auto calls = static_cast<long>(os.calls());
        os.heal();
        model.run_healed_and_free_all();
        EXPECT_EQ(write(ends[1], &calls, sizeof calls), static_cast<ssize_t>(sizeof calls));
        return 0;
      },
      60);
  long calls = -1;
  close(ends[1]);
  if (status == 0) {
    EXPECT_EQ(read(ends[0], &calls, sizeof calls), static_cast<ssize_t>(sizeof calls));
  }
  close(ends[0]);
  return calls;
}

TEST(OsFailureSearch, nothing_is_lost_whichever_call_is_refused) {
  const char* const wanted = std::getenv("SLABMALLOC_TEST_POINTS");
  const std::size_t most = wanted != nullptr ? std::strtoull(wanted, nullptr, 0) : default_points;
  test::Random random;
  std::size_t points = 0;
  std::size_t workloads = 0;
  while (points < most) {
    const std::uint64_t seed = random.next();
    const long calls = run_point(seed, 0, false);
    ASSERT_GE(calls, 0) << "workload " << seed << " without a refusal";
    ++workloads;
    const long stride = wanted != nullptr ? 1 : 1 + 2 * calls / default_points_of_workload;
    const long first = 1 + static_cast<long>(random.below(static_cast<std::size_t>(stride)));
    for (long k = first; k <= calls && points < most; k += stride) {
      for (const bool and_all_after : {false, true}) {
        ASSERT_GE(run_point(seed, static_cast<std::size_t>(k), and_all_after), 0)
            << "workload " << seed << ", call " << k << " of " << calls
            << (and_all_after ? " and all after it" : "");
        ++points;
      }
    }
  }
  std::printf("%zu points of %zu workloads\n", points, workloads);
}

}  // namespace
}  // namespace slabmalloc
