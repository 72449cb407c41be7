// SPDX-License-Identifier: MIT
// Random calls, each compared with a model that examines every frame.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <vector>

#include "kernel/frame_fixture.hpp"
#include "kernel/frame_model.hpp"
#include "support/misuse_recorder.hpp"
#include "support/pattern.hpp"
#include "support/random.hpp"

namespace slabmalloc::test {
namespace {

struct OwnedFrames : FrameOptions {
  static constexpr bool has_owners = true;
};

template <std::size_t BaseBytes>
class ModelRun {
 public:
  static constexpr std::size_t frame_count = 300;

  /// `skipped` frames are missing at the beginning, and a hole lies further on.
  ModelRun(Random& random, std::size_t skipped)
      : random_(random), range_(range_after(skipped)), model_(range_) {
    const MemoryRegion regions[] = {
        memory_.region(200 * BaseBytes, (frame_count - 200) * BaseBytes),
        memory_.region(skipped * BaseBytes, (190 - skipped) * BaseBytes)};
    EXPECT_TRUE(frames_.add(regions, 2));
    model_.set(range_.first, range_.frames(), true);
    model_.set(number_of(memory_.at(190 * BaseBytes)), 10, false);
    frames_.for_each_block([&](void* address, std::size_t bytes, FrameUse use) {
      if (use == FrameUse::Metadata) {
        model_.set(number_of(address), bytes / BaseBytes, false);
        metadata_ = {number_of(address), number_of(address) + bytes / BaseBytes};
      }
    });
    initial_ = free_blocks(frames_);
    expect_agreement();
  }

  void run(int steps) {
    for (int step = 0; step < steps && !testing::Test::HasFatalFailure(); ++step) {
      // Phases of growth alternate with phases of shrinking.
      const bool grows = (step / 200) % 2 == 0;
      if (random_.one_in(8)) {
        random_.one_in(2) ? take_offline() : put_online(some_frames());
      } else if (runs_.empty() || !random_.one_in(grows ? 3 : 2)) {
        allocate();
      } else {
        free(random_.below(runs_.size()));
      }
      if (step % 16 == 0) {
        expect_agreement();
      }
    }
    while (!runs_.empty()) {
      free(random_.below(runs_.size()));
    }
    put_online(range_);
    EXPECT_EQ(free_blocks(frames_), initial_);
    EXPECT_EQ(frames_.validate(), nullptr);
    EXPECT_GT(crossing_, 0u) << "runs that no single block has";
    EXPECT_GT(times_offline_, 0u);
  }

 private:
  struct Run {
    std::byte* address;
    std::size_t bytes;
    std::size_t alignment;  ///< Zero: a frame.
    std::size_t frames;
    std::uint64_t key;
  };

  FrameRange range_after(std::size_t skipped) const {
    return {number_of(memory_.at(skipped * BaseBytes)), number_of(memory_.at(0)) + frame_count};
  }
  static std::uintptr_t number_of(const void* address) {
    return reinterpret_cast<std::uintptr_t>(address) / BaseBytes;
  }
  static std::uint32_t order_for(std::size_t frames) {
    return frames <= 1 ? 0 : highest_bit(frames - 1) + 1;
  }

  /// A few frames in a row.
  FrameRange some_frames() {
    const std::uintptr_t first = range_.first + random_.below(range_.frames());
    return {first, std::min(range_.end, first + 1 + random_.below(40))};
  }
  static std::byte* address_of(std::uintptr_t frame) {
    return reinterpret_cast<std::byte*>(frame * BaseBytes);
  }
  /// A region that has a byte of each frame.
  MemoryRegion region_of(FrameRange frames) {
    const std::size_t skipped = random_.below(BaseBytes);
    const std::size_t bytes = frames.frames() * BaseBytes - skipped;
    const std::size_t left = frames.frames() > 1 ? random_.below(BaseBytes) : 0;
    return {frames.first * BaseBytes + skipped, std::max<std::size_t>(bytes - left, 1)};
  }

  void allocate_at() {
    Run run{};
    const FrameRange place = some_frames();
    run.frames = place.frames();
    run.bytes = run.frames * BaseBytes - random_.below(BaseBytes);
    run.address = address_of(place.first);
    void* found = nullptr;
    bool is_possible = model_.is_free(place.first, run.frames);
    if (random_.one_in(2)) {
      run.alignment = 1;
      found = frames_.allocate_run_at(run.address, run.bytes).address;
    } else {
      run.frames = std::size_t{1} << order_for(run.frames);
      is_possible = model_.is_free(place.first, run.frames) && place.first % run.frames == 0;
      found = frames_.allocate_frame_at(run.address, run.bytes).address;
    }
    ASSERT_EQ(found, is_possible ? run.address : nullptr);
    if (is_possible) {
      keep(run);
    }
  }
  void take_offline() {
    const FrameRange range = some_frames();
    std::vector<std::pair<std::byte*, std::size_t>> expected, found;
    for (const Run& run : runs_) {
      const std::uintptr_t first = number_of(run.address);
      if (first < range.end && range.first < first + run.frames) {
        expected.emplace_back(run.address, run.frames * BaseBytes);
      }
    }
    if (metadata_.first < range.end && range.first < metadata_.end) {
      const std::uintptr_t first = std::max(metadata_.first, range.first);
      expected.emplace_back(address_of(first), (metadata_.end - first) * BaseBytes);
    }
    std::sort(expected.begin(), expected.end());
    const bool is_offline = frames_.offline(region_of(range), [&](const PagerBlock& block) {
      found.emplace_back(static_cast<std::byte*>(block.address), block.bytes);
      const std::uintptr_t first = number_of(block.address);
      const bool is_metadata = first >= metadata_.first && first < metadata_.end;
      EXPECT_TRUE(is_metadata ? block.use == PagerUse::None
                              : block.use == frames_.block_at(block.address).use);
    });
    ASSERT_EQ(is_offline, expected.empty());
    ASSERT_EQ(found, expected);
    for (std::uintptr_t frame = range.first; is_offline && frame < range.end; ++frame) {
      offline_[frame - range_.first] = offline_[frame - range_.first] || model_.is_free(frame, 1);
      model_.set(frame, 1, false);
    }
    times_offline_ += is_offline ? 1u : 0u;
  }
  void put_online(FrameRange range) {
    frames_.online(region_of(range));
    for (std::uintptr_t frame = range.first; frame < range.end; ++frame) {
      if (offline_[frame - range_.first]) {
        offline_[frame - range_.first] = false;
        model_.set(frame, 1, true);
      }
    }
  }

  void allocate() {
    if (random_.one_in(8)) {
      return allocate_at();
    }
    Run run{};
    std::uint32_t order = random_.one_in(2) ? 0 : random_.below(7);
    if (random_.one_in(2)) {
      run.frames = std::size_t{1} << order;
      run.bytes = run.frames * BaseBytes;
      run.address = static_cast<std::byte*>(frames_.allocate_frame(run.bytes).address);
    } else {
      run.bytes = random_.between(1, 40 * BaseBytes);
      run.alignment = std::size_t{1} << random_.below(highest_bit(BaseBytes) + 6);
      run.frames = (run.bytes + BaseBytes - 1) / BaseBytes;
      order = order_for(std::max(run.frames, run.alignment / BaseBytes));
      run.address = static_cast<std::byte*>(frames_.allocate_run(run.bytes, run.alignment).address);
    }
    const auto place = model_.place(order);
    const std::uint32_t alignment =
        run.alignment == 0 ? order : order_for(std::max<std::size_t>(run.alignment / BaseBytes, 1));
    const bool has_row = model_.has_row(run.frames, alignment);
    if (run.address == nullptr) {
      // A short run is not looked for beside every block.
      ASSERT_TRUE(!has_row || run.frames < frame_count / 32) << run.bytes << " B";
      return;
    }
    const std::uintptr_t first = number_of(run.address);
    ASSERT_EQ(first, place.value_or(first));
    ASSERT_EQ(first % (std::uintptr_t{1} << alignment), 0u);
    ASSERT_TRUE(model_.is_free(first, run.frames));
    crossing_ += place.has_value() ? 0u : 1u;
    keep(run);
  }
  void keep(Run run) {
    model_.set(number_of(run.address), run.frames, false);
    run.key = random_.next();
    fill_pattern(run.address, run.bytes, run.key);
    ASSERT_EQ(frames_.owner(run.address), 0u);
    ASSERT_TRUE(frames_.set_owner(run.address + random_.below(run.bytes), run.key));
    runs_.push_back(run);
  }
  void free(std::size_t index) {
    const Run run = runs_[index];
    ASSERT_TRUE(holds_pattern(run.address, run.bytes, run.key));
    ASSERT_EQ(frames_.owner(run.address + random_.below(run.frames * BaseBytes)), run.key);
    if (run.alignment == 0) {
      frames_.deallocate_frame(run.address, run.bytes);
    } else {
      std::uintptr_t owner = 0;
      ASSERT_TRUE(frames_.deallocate_run(run.address, run.bytes, run.alignment, owner));
      ASSERT_EQ(owner, run.key);
    }
    model_.set(number_of(run.address), run.frames, true);
    ASSERT_EQ(frames_.owner(run.address), 0u);
    ASSERT_FALSE(frames_.set_owner(run.address, 1)) << "it is nobody's";
    runs_[index] = runs_.back();
    runs_.pop_back();
  }
  void expect_agreement() {
    ASSERT_EQ(frames_.validate(), nullptr);
    const FrameStatistics statistics = frames_.statistics();
    std::size_t used = 0;
    for (const Run& run : runs_) {
      used += run.frames;
    }
    ASSERT_EQ(statistics.used_bytes, used * BaseBytes);
    ASSERT_EQ(
        statistics.offline_bytes,
        static_cast<std::size_t>(std::count(offline_.begin(), offline_.end(), true)) * BaseBytes);
    for (std::uint32_t order = 0; order < FrameStatistics::orders; ++order) {
      ASSERT_EQ(statistics.free_blocks[order], model_.blocks(order).size()) << "order " << order;
    }
  }

  MisuseRecorder misuse_;
  Random& random_;
  PhysicalMemory memory_{frame_count * BaseBytes, 512 * BaseBytes};
  FrameRange range_;
  FrameModel model_;
  FrameAllocator<PatientKernel, BaseBytes, HardwareAtomics, OwnedFrames> frames_;
  FrameRange metadata_;
  std::vector<bool> offline_ = std::vector<bool>(frame_count);
  std::size_t times_offline_ = 0;
  std::vector<Run> runs_;
  std::vector<std::size_t> initial_;
  std::size_t crossing_ = 0;
};

TEST(FrameAllocatorModel, agrees_with_frames_of_4_kib) {
  Random random;
  for (const std::size_t skipped : {0u, 1u, 37u}) {
    ModelRun<4 * kibibyte>(random, skipped).run(2000);
  }
}

TEST(FrameAllocatorModel, agrees_with_frames_of_256_bytes) {
  Random random;
  ModelRun<256>(random, 5).run(4000);
}

TEST(FrameAllocatorModel, agrees_with_frames_of_64_kib) {
  Random random;
  ModelRun<64 * kibibyte>(random, 3).run(300);
}

}  // namespace
}  // namespace slabmalloc::test
