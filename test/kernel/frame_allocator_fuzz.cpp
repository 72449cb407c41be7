// SPDX-License-Identifier: MIT
//
// A libFuzzer target: a frame allocator over any memory map, which grows, against a record of each
// frame. Frames and runs must be free memory, keep their contents and come back whole. Bad frees
// must be reported by their kinds and change nothing.
#include <map>
#include <vector>

#include "kernel/frame_fixture.hpp"
#include "support/fuzz.hpp"
#include "support/misuse_recorder.hpp"
#include "support/pattern.hpp"

namespace slabmalloc::test {
namespace {

struct OwnedFrames : FrameOptions {
  static constexpr bool has_owners = true;
};

class FrameProgram {
  static constexpr std::size_t base = 256;
  static constexpr std::size_t frame_count = 600;
  enum class State : std::uint8_t { absent, metadata, free, used, offline };

 public:
  explicit FrameProgram(FuzzInput& input) : input_(input) {}

  void run() {
    add_regions();
    for (std::size_t step = 1; !input_.is_empty(); ++step) {
      act();
      if (step % 32 == 0) {
        expect_agreement();
      }
    }
    expect_agreement();
    while (!runs_.empty()) {
      free(runs_.begin());
    }
    expect_agreement();
  }

 private:
  struct Run {
    std::size_t bytes;
    std::size_t alignment;  ///< Zero: a frame.
    std::size_t frames;
    std::uint64_t key;
  };
  using Runs = std::map<std::size_t, Run>;

  void act() {
    switch (input_.below(10)) {
      case 0:
      case 1:
        return allocate_frame();
      case 2:
        return allocate_run();
      case 3:
        return allocate_frames();
      case 4:
      case 5:
        return runs_.empty() ? void() : free(any_run());
      case 6:
        return free_badly();
      case 7:
        return allocate_at();
      case 8:
        return input_.one_in(3) ? put_online() : take_offline();
      default:
        return input_.one_in(8) ? add_regions() : void();
    }
  }
  Runs::iterator any_run() {
    return std::next(runs_.begin(), static_cast<std::ptrdiff_t>(input_.below(runs_.size())));
  }

  // ---- memory -----------------------------------------------------------------------------------

  void add_regions() {
    std::vector<MemoryRegion> regions;
    std::vector<bool> usable(frame_count * base / 64);
    for (std::size_t count = input_.below(6); count != 0; --count) {
      // Regions that begin and end within frames too.
      const std::size_t first = input_.below(usable.size());
      const std::size_t units = input_.below(usable.size() - first + 1);
      regions.push_back(memory_.region(first * 64, units * 64));
      std::fill_n(usable.begin() + static_cast<std::ptrdiff_t>(first), units, true);
    }
    if (!frames_.add(regions.data(), regions.size())) {
      return expect_agreement();
    }
    for (std::size_t frame = 0; frame < frame_count; ++frame) {
      bool is_whole = true;
      for (std::size_t unit = 0; unit < base / 64; ++unit) {
        is_whole = is_whole && usable[frame * base / 64 + unit];
      }
      if (is_whole && states_[frame] == State::absent) {
        states_[frame] = State::free;
      }
    }
    frames_.for_each_block([&](void* address, std::size_t bytes, FrameUse use) {
      for (std::size_t done = 0; use == FrameUse::Metadata && done < bytes; done += base) {
        State& state = states_[frame_of(address) + done / base];
        EXPECT_TRUE(state == State::free || state == State::metadata) << "it lies in free memory";
        state = State::metadata;
      }
    });
    expect_agreement();
  }

  std::size_t frame_of(const void* address) const { return memory_.offset_of(address) / base; }

  // ---- frames and runs --------------------------------------------------------------------------

  static std::size_t frames_for(std::size_t bytes) {
    return bytes <= 1 ? 1 : (bytes - 1) / base + 1;
  }
  static std::size_t round_up(std::size_t frames) {
    std::size_t power = 1;
    while (power < frames) {
      power *= 2;
    }
    return power;
  }
  /// True if as many frames lie free in a row, at a multiple of `step`.
  bool has_free(std::size_t frames, std::size_t step) const {
    for (std::size_t first = 0; first + frames <= frame_count; first += step) {
      bool is_free = true;
      for (std::size_t frame = first; frame < first + frames && is_free; ++frame) {
        is_free = states_[frame] == State::free;
      }
      if (is_free) {
        return true;
      }
    }
    return false;
  }

  void add(void* address, Run run, std::size_t step) {
    if (address == nullptr) {
      // A short run is not looked for beside every block; a frame is.
      const bool is_sure = run.frames == step || run.frames >= frame_count / 32;
      EXPECT_FALSE(is_sure && has_free(run.frames, step)) << run.frames << " frames are free";
      return;
    }
    EXPECT_EQ(memory_.offset_of(address) % (step * base), 0u);
    const std::size_t first = frame_of(address);
    for (std::size_t frame = first; frame < first + run.frames; ++frame) {
      EXPECT_EQ(states_.at(frame), State::free);
      states_[frame] = State::used;
    }
    run.key = ++last_key_ * 0x10001;
    fill_pattern(address, run.frames * base, run.key);
    EXPECT_EQ(frames_.owner(address), 0u);
    EXPECT_TRUE(frames_.set_owner(address, run.key));
    runs_.emplace(first, run);
  }
  std::size_t some_bytes() { return input_.between(0, input_.one_in(4) ? 64 * base : 4 * base); }

  void allocate_frame() {
    const std::size_t bytes = some_bytes();
    const std::size_t frames = round_up(frames_for(bytes));
    add(frames_.allocate_frame(bytes).address, {bytes, 0, frames, 0}, frames);
  }
  void allocate_run() {
    const std::size_t bytes = some_bytes();
    const std::size_t alignment = input_.power_of_two(13);
    add(frames_.allocate_run(bytes, alignment).address, {bytes, alignment, frames_for(bytes), 0},
        round_up(frames_for(alignment)));
  }
  void allocate_frames() {
    const std::size_t bytes = some_bytes();
    const std::size_t frames = round_up(frames_for(bytes));
    void* some[40] = {};
    const std::size_t count = input_.between(1, std::size(some));
    const std::size_t got = frames_.allocate_frames(bytes, some, count);
    for (std::size_t index = 0; index < got; ++index) {
      add(some[index], {bytes, 0, frames, 0}, frames);
    }
    if (got < count) {
      add(nullptr, {bytes, 0, frames, 0}, frames);
    }
  }

  void allocate_at() {
    const std::size_t first = input_.below(frame_count);
    const std::size_t bytes = some_bytes();
    void* const address = memory_.at(first * base);
    const bool is_frame = input_.one_in(2);
    const std::size_t frames = is_frame ? round_up(frames_for(bytes)) : frames_for(bytes);
    bool is_possible = !is_frame || first % frames == 0;
    for (std::size_t frame = first; frame < first + frames && is_possible; ++frame) {
      is_possible = frame < frame_count && states_[frame] == State::free;
    }
    void* const found = is_frame ? frames_.allocate_frame_at(address, bytes).address
                                 : frames_.allocate_run_at(address, bytes).address;
    EXPECT_EQ(found, is_possible ? address : nullptr);
    if (is_possible) {
      add(address, {bytes, is_frame ? 0u : 1u, frames, 0}, 1);
    }
  }

  void take_offline() {
    const std::size_t first = input_.below(frame_count);
    const std::size_t count = input_.between(1, frame_count - first);
    bool is_unused = true;
    for (std::size_t frame = first; frame < first + count; ++frame) {
      is_unused = is_unused && states_[frame] != State::used && states_[frame] != State::metadata;
    }
    std::size_t named = 0;
    EXPECT_EQ(frames_.offline(memory_.region(first * base, count * base),
                              [&](const PagerBlock& block) {
                                const State state = states_[frame_of(block.address)];
                                EXPECT_EQ(state == State::metadata, block.use == PagerUse::None);
                                EXPECT_TRUE(state == State::used || state == State::metadata);
                                ++named;
                              }),
              is_unused);
    EXPECT_EQ(named == 0, is_unused);
    for (std::size_t frame = first; is_unused && frame < first + count; ++frame) {
      states_[frame] = states_[frame] == State::free ? State::offline : states_[frame];
    }
  }
  void put_online() {
    const std::size_t first = input_.below(frame_count);
    const std::size_t count = input_.between(1, frame_count - first);
    frames_.online(memory_.region(first * base, count * base));
    for (std::size_t frame = first; frame < first + count; ++frame) {
      states_[frame] = states_[frame] == State::offline ? State::free : states_[frame];
    }
  }

  void free(Runs::iterator place) {
    const auto [first, run] = *place;
    std::byte* const address = memory_.at(first * base);
    EXPECT_TRUE(holds_pattern(address, run.frames * base, run.key));
    runs_.erase(place);
    std::fill_n(states_.begin() + static_cast<std::ptrdiff_t>(first), run.frames, State::free);
    free_as(address, run);
  }
  void free_as(void* address, const Run& run) {
    run.alignment == 0 ? frames_.deallocate_frame(address, run.bytes)
                       : void(frames_.deallocate_run(address, run.bytes, run.alignment));
  }

  /// Frees any address with any size, unless that is right.
  void free_badly() {
    const std::size_t offset = input_.below(2) * input_.below(base);
    const std::size_t frame = input_.below(frame_count);
    const std::size_t bytes = some_bytes();
    const bool is_frame = input_.one_in(2);
    const std::size_t frames = is_frame ? round_up(frames_for(bytes)) : frames_for(bytes);
    const auto run = runs_.find(frame);
    MisuseKind kind = MisuseKind::ForeignPointer;
    if (states_[frame] == State::free || states_[frame] == State::offline) {
      kind = MisuseKind::DoubleFree;
    } else if (states_[frame] == State::used) {
      kind =
          run == runs_.end() || offset != 0 ? MisuseKind::MisalignedFree : MisuseKind::SizeMismatch;
      if (kind == MisuseKind::SizeMismatch && run->second.frames == frames) {
        return;
      }
    }
    free_as(memory_.at(frame * base + offset), {bytes, is_frame ? 0u : 1u, frames, 0});
    EXPECT_EQ(misuse_.take_kinds(), std::vector{kind});
  }

  void expect_agreement() {
    EXPECT_EQ(frames_.validate(), nullptr);
    const FrameStatistics found = frames_.statistics();
    EXPECT_EQ(found.free_bytes, count(State::free) * base);
    EXPECT_EQ(found.used_bytes, count(State::used) * base);
    EXPECT_EQ(found.metadata_bytes, count(State::metadata) * base);
    EXPECT_EQ(found.offline_bytes, count(State::offline) * base);
    for (const auto& [first, run] : runs_) {
      EXPECT_TRUE(holds_pattern(memory_.at(first * base), run.frames * base, run.key));
      for (const std::size_t frame : {first, first + run.frames / 2, first + run.frames - 1}) {
        const PagerBlock block = frames_.block_at(memory_.at(frame * base + frame % base));
        EXPECT_EQ(block.use, run.alignment == 0 ? PagerUse::Frame : PagerUse::Run);
        EXPECT_EQ(block.address, memory_.at(first * base));
        EXPECT_EQ(block.bytes, run.frames * base);
        EXPECT_EQ(frames_.owner(memory_.at(frame * base)), run.key);
      }
    }
    for (std::size_t frame = 0; frame < frame_count; ++frame) {
      const PagerUse use = frames_.block_at(memory_.at(frame * base)).use;
      EXPECT_EQ(use == PagerUse::Free, states_[frame] == State::free);
      EXPECT_EQ(use == PagerUse::Frame || use == PagerUse::Run, states_[frame] == State::used);
      EXPECT_EQ(frames_.owns(memory_.at(frame * base)), states_[frame] != State::absent);
    }
  }
  std::size_t count(State state) const {
    return static_cast<std::size_t>(std::count(states_.begin(), states_.end(), state));
  }

  FuzzInput& input_;
  MisuseRecorder misuse_;
  PhysicalMemory memory_{frame_count * base, 1024 * base};
  FrameAllocator<PatientKernel, base, HardwareAtomics, OwnedFrames> frames_;
  std::vector<State> states_ = std::vector<State>(frame_count, State::absent);
  Runs runs_;
  std::uint64_t last_key_ = 0;
};

}  // namespace
}  // namespace slabmalloc::test

SLABMALLOC_FUZZ_TARGET(slabmalloc::test::FuzzInput& input) {
  slabmalloc::test::FrameProgram(input).run();
}
