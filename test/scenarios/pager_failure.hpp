// SPDX-License-Identifier: MIT
//
// Scenarios of pagers that fail: exhaustion is a value, and afterwards the zone is as before.
#pragma once

#include <cstddef>
#include <cstdint>

#include "scenarios/configs.hpp"
#include "scenarios/misuse_log.hpp"
#include "scenarios/scenario.hpp"
#include "support/pattern.hpp"

namespace slabmalloc::scenario {

/// The calls of a pager that fail, counted from 1.
struct FailingCalls {
  std::size_t first = 0;
  std::size_t count = 0;
};

template <class Pager>
struct FailingPager {
  FailingPager(Trial& trial, FailingCalls its_failing) noexcept
      : frames(trial), failing(its_failing) {}

  Frame allocate_frame(std::size_t bytes) noexcept {
    return fails() ? Frame{} : frames.allocate_frame(bytes);
  }
  void deallocate_frame(void* frame, std::size_t bytes) noexcept {
    frames.deallocate_frame(frame, bytes);
  }
  Frame allocate_run(std::size_t bytes, std::size_t alignment) noexcept
    requires RunPager<Pager>
  {
    return fails() ? Frame{} : frames.allocate_run(bytes, alignment);
  }
  void deallocate_run(void* run, std::size_t bytes, std::size_t alignment) noexcept
    requires RunPager<Pager>
  {
    frames.deallocate_run(run, bytes, alignment);
  }
  bool fails() noexcept {
    ++calls;
    return calls >= failing.first && calls - failing.first < failing.count;
  }

  Pager frames;
  FailingCalls failing;
  std::size_t calls = 0;
};

/// A fixed workload over two zones that free each other's blocks. It checks the invariants after
/// each call.
template <class Config>
class PagerFailureScript {
 public:
  using Pager = FailingPager<typename PagerFor<Config>::Type>;
  using Zone = PagedZone<Pager, Config>;

  PagerFailureScript(Trial& trial, FailingCalls& failing) noexcept
      : trial_(trial), pager_(trial, failing), blocks_(trial, most_blocks) {}

  /// Returns the number of calls of the pager.
  std::size_t run() {
    for (std::size_t round = 0; round < 3; ++round) {
      for (const std::size_t size : sizes) {
        const std::size_t count = size <= 64 ? 150 : 3;
        for (std::size_t number = 0; number < count; ++number) {
          allocate((number + round) % 2, layout_of(size), number % 3 == 0);
        }
      }
      reallocate_some();
      free_some(round);
      if (round == 1) {
        zones_[0].trim();
        check();
      }
    }
    finish();
    return pager_.calls;
  }

  std::size_t exhaustions() const { return exhaustions_; }

 private:
  static constexpr std::size_t largest = Zone::MAX_ALLOC_SIZE;
  static constexpr std::size_t sizes[] = {8, 64, 100, 200, 1024, largest, 2 * largest};
  static constexpr std::size_t most_blocks = 1000;
  static constexpr std::size_t edge_bytes = 256;

  struct Block {
    void* address;
    Layout layout;
    std::size_t zone;
    std::uint64_t key;
    bool operator==(const Block& other) const { return address == other.address; }
  };

  static std::size_t pattern_bytes(Layout layout) {
    return layout.size() < edge_bytes ? layout.size() : edge_bytes;
  }

  void check() {
    trial_.sound(zones_[0].validate());
    trial_.sound(zones_[1].validate());
  }

  void allocate(std::size_t zone, Layout layout, bool zeroed) {
    if (!Zone::has_runs && layout.size() > largest) {
      return;
    }
    zones_[zone].drain();
    const ZoneStatistics before = zones_[zone].statistics();
    const Result<void*> block =
        zeroed ? zones_[zone].allocate_zeroed(layout) : zones_[zone].allocate(layout);
    check();
    if (!block) {
      ++exhaustions_;
      const ZoneStatistics after = zones_[zone].statistics();
      trial_.equal(block.error(), AllocationError::OutOfMemory);
      trial_.equal(after.used_bytes, before.used_bytes);
      trial_.equal(after.allocations, before.allocations);
      return;
    }
    trial_.check(!zeroed || test::holds_zeroes(*block, layout.size()), "it is zeroed");
    insert({*block, layout, zone, ++last_key_ * 0x10001});
  }

  void insert(const Block& block) {
    test::fill_pattern(block.address, pattern_bytes(block.layout), block.key);
    trial_.refute(blocks_.contains(block), "given out twice");
    blocks_.push_back(block);
  }

  void expect_contents(const Block& block) {
    trial_.check(test::holds_pattern(block.address, pattern_bytes(block.layout), block.key),
                 "a block keeps its contents");
  }

  /// From the last block to the first, because a removal moves the last block, already done, to its
  /// place.
  void reallocate_some() {
    for (std::size_t index = blocks_.size(); index-- > 0;) {
      const Block block = blocks_[index];
      if (index % 10 != 0 || block.layout.size() > largest / 2) {
        continue;
      }
      const Layout wanted = layout_of(block.layout.size() * 2);
      const Result<void*> moved =
          zones_[block.zone].reallocate(block.address, block.layout, wanted);
      check();
      if (!moved) {
        ++exhaustions_;
        expect_contents(block);
        continue;
      }
      trial_.check(test::holds_pattern(*moved, pattern_bytes(block.layout), block.key),
                   "reallocation keeps the contents");
      blocks_.remove_at(index);
      insert({*moved, wanted, block.zone, block.key});
    }
  }

  void free_some(std::size_t round) {
    for (std::size_t index = blocks_.size(); index-- > 0;) {
      if ((index + round) % 3 != 0) {
        free(index, index % 2 == 0 ? blocks_[index].zone : 1 - blocks_[index].zone);
      }
    }
  }

  void free(std::size_t index, std::size_t zone) {
    const Block block = blocks_.remove_at(index);
    expect_contents(block);
    zones_[zone].deallocate(block.address, block.layout);
    check();
  }

  /// The pager works again: calls must succeed, and nothing may have leaked.
  void finish() {
    pager_.failing.count = 0;
    const std::size_t failed_before = exhaustions_;
    for (const std::size_t size : sizes) {
      allocate(0, layout_of(size), false);
      allocate(1, layout_of(size), true);
    }
    trial_.equal(exhaustions_, failed_before, "later calls succeed");
    while (!blocks_.empty()) {
      free(blocks_.size() - 1, blocks_.back().zone);
    }
    for (const std::size_t zones[] = {0, 1, 0, 1}; const std::size_t zone : zones) {
      zones_[zone].drain();
    }
    zones_[0].trim();
    zones_[1].trim();
    check();
    trial_.equal(zones_[0].statistics().used_bytes + zones_[1].statistics().used_bytes, 0u);
    trial_.equal(pager_.frames.live_bytes(), 0u, "nothing leaks");
  }

  Trial& trial_;
  Pager pager_;
  Zone zones_[2] = {Zone(pager_), Zone(pager_)};
  List<Block> blocks_;
  std::size_t exhaustions_ = 0;
  std::uint64_t last_key_ = 0;
};

template <class Config>
struct PagerFailure {
  explicit PagerFailure(Trial& its_trial) noexcept : trial(its_trial) {}

  struct Outcome {
    std::size_t calls;
    std::size_t exhaustions;
  };
  Outcome run_script(FailingCalls failing) {
    const Box<PagerFailureScript<Config>> script(trial, trial, failing);
    if (!script) {
      return {};
    }
    const std::size_t calls = script->run();
    return {calls, script->exhaustions()};
  }

  /// Makes so many calls fail, from any one on. A slow host tries one call in seven.
  Outcome fail_from_each_call(std::size_t count) {
    Outcome all{run_script({}).calls, 0};
    trial.at_least(all.calls, 11u);
    const std::size_t step = trial.rounds() < 10 ? 7 : 1;
    std::size_t tries = 0;
    for (std::size_t call = 1; call <= all.calls && !trial.has_failed(); call += step, ++tries) {
      all.exhaustions += run_script({call, count}).exhaustions;
    }
    return {tries, all.exhaustions};
  }

  void of_any_one_call_leaks_nothing() {
    const Outcome all = fail_from_each_call(1);
    trial.at_least(2 * all.exhaustions, all.calls, "most failures reach the caller");
  }

  void of_every_call_from_any_one_on_leaks_nothing() {
    const Outcome all = fail_from_each_call(~std::size_t{0});
    trial.at_least(all.exhaustions, 10 * all.calls);
  }

  Trial& trial;
};

struct PagerExhaustion {
  explicit PagerExhaustion(Trial& its_trial) noexcept : trial(its_trial), frames(trial) {}

  void is_the_same_value_until_something_is_freed() {
    constexpr Layout layout = layout_of(64);
    frames.set_limit(2 * 4 * kibibyte);
    const Objects objects = allocate_until_exhausted(layout);
    if (!trial.equal(objects.size(), 126u, "to the last slot")) {
      return;
    }
    for (int count = 0; count < 10; ++count) {
      for (const std::size_t sizes[] = {64, 100'000, 1'000'000}; const std::size_t size : sizes) {
        trial.equal(zone.allocate(layout_of(size)).error(), AllocationError::OutOfMemory);
      }
      trial.sound(zone.validate());
    }
    zone.deallocate(objects[70], layout);
    trial.equal(zone.allocate(layout).value_or(nullptr), objects[70]);
    trial.refute(zone.allocate(layout));
  }

  Objects allocate_until_exhausted(Layout layout) {
    Objects objects(trial, 512);
    while (void* object = zone.allocate(layout).value_or(nullptr)) {
      objects.push_back(object);
    }
    return objects;
  }

  Trial& trial;
  Frames frames;
  ScopedZone<Frames> zone{frames};
};

template <class Config>
inline constexpr Scenario pager_failure_scenarios[] = {
    scenario<&PagerFailure<Config>::of_any_one_call_leaks_nothing>(),
    scenario<&PagerFailure<Config>::of_every_call_from_any_one_on_leaks_nothing>(),
};

inline constexpr Scenario pager_exhaustion_scenarios[] = {
    scenario<&PagerExhaustion::is_the_same_value_until_something_is_freed>(),
};

}  // namespace slabmalloc::scenario
