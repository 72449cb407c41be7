// SPDX-License-Identifier: MIT
//
// EarlyProgram makes any calls of an EarlyMemory, and compares it with a record of each unit of the
// memory. At the end it hands the memory over to a frame allocator.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <map>
#include <vector>

#include "kernel/frame_fixture.hpp"
#include "slabmalloc/kernel/early_memory.hpp"
#include "support/misuse_recorder.hpp"
#include "support/pattern.hpp"

namespace slabmalloc::test {

/// `Choices` makes numbers by below(n) and between(first, last).
template <class Choices>
class EarlyProgram {
  static constexpr std::size_t base = 256;
  static constexpr std::size_t unit = 64;
  static constexpr std::size_t units = 160 * base / unit;
  using Early = EarlyMemory<base, 4>;

 public:
  explicit EarlyProgram(Choices& choices) : choices_(choices) {}

  /// Makes calls while `more()`.
  template <class More>
  void run(More&& more) {
    change(&Early::add, 1, 0);
    while (more() && !testing::Test::HasFatalFailure()) {
      act();
      expect_agreement();
    }
    hand_over();
  }

 private:
  struct Stretch {
    std::size_t first;
    std::size_t count;
  };
  struct Block {
    std::size_t bytes;
    std::uint64_t key;
  };

  void act() {
    switch (choices_.below(9)) {
      case 0:
      case 1:
        return change(&Early::add, 1, 0);
      case 2:
        return change(&Early::reserve, 2, 0);
      case 3:
      case 4:
        return allocate();
      case 5:
        return free_block();
      case 6:
        return free_badly();
      case 7:
        return change(&Early::remove, 0, 1);
      default:
        return choices_.below(16) == 0 ? early_.allow_growth() : void();
    }
  }

  Stretch any_stretch() {
    const std::size_t first = choices_.below(units);
    const std::size_t most = choices_.below(4) == 0 ? units - first : 24;
    return {first, std::min<std::size_t>(choices_.between(0, most), units - first)};
  }
  MemoryRegion region(Stretch stretch) const {
    return memory_.region(stretch.first * unit, stretch.count * unit);
  }

  void change(Result<void> (Early::*call)(MemoryRegion), int set, int clear) {
    const Stretch stretch = any_stretch();
    bool has_table = false;
    for (std::size_t one = stretch.first; one < stretch.first + stretch.count; ++one) {
      has_table = has_table || table_[one];
    }
    if ((early_.*call)(region(stretch))) {
      paint(stretch, set, clear);
    } else {
      EXPECT_TRUE(has_table || may_be_full());
    }
  }
  void paint(Stretch stretch, int set, int clear) {
    for (std::size_t one = stretch.first; one < stretch.first + stretch.count; ++one) {
      uses_[one] = (uses_[one] | set) & ~clear;
    }
  }

  void allocate() {
    const std::size_t bytes = choices_.between(1, 20) * unit;
    const std::size_t alignment = std::size_t{64} << choices_.below(6);
    const std::size_t limit = choices_.below(2) == 0 ? units : choices_.below(units + 1);
    void* const found = early_.allocate(bytes, alignment,
                                        reinterpret_cast<std::uintptr_t>(memory_.at(limit * unit)));
    find_table(found, found != nullptr ? bytes : 0);
    const std::size_t place = highest_place(bytes / unit, alignment / unit, limit);
    if (found == nullptr) {
      // Else the table was full.
      EXPECT_TRUE(place == units || may_be_full()) << bytes << " B lie free";
      return;
    }
    const std::size_t offset = memory_.offset_of(found);
    ASSERT_EQ(offset, place * unit) << bytes << " B at " << alignment;
    paint({place, bytes / unit}, 2, 0);
    blocks_[place] = {bytes, ++last_key_ * 0x10001};
    fill_pattern(memory_.at(offset), bytes, blocks_[place].key);
  }
  /// Where that many free units lie last, or `units`.
  std::size_t highest_place(std::size_t count, std::size_t step, std::size_t limit) const {
    for (std::size_t first = units; first-- > 0;) {
      bool fits = first % step == 0 && first + count <= limit;
      for (std::size_t one = first; fits && one < first + count; ++one) {
        fits = uses_[one] == 1 && !table_[one];
      }
      if (fits) {
        return first;
      }
    }
    return units;
  }
  /// True if the table may have been full.
  bool may_be_full() const { return entries() + 2 > capacity(); }
  std::size_t entries() const {
    std::size_t changes = 0;
    for (std::size_t one = 0; one <= units; ++one) {
      changes += use_at(one) != use_at(one - 1) ? 1u : 0u;
    }
    return changes;
  }
  std::size_t capacity() const {
    std::size_t bytes = 0;
    for (const bool is_table : table_) {
      bytes += is_table ? unit : 0;
    }
    return std::max<std::size_t>(bytes / sizeof(MemoryRegion), 4);
  }
  int use_at(std::size_t one) const { return one >= units ? 0 : table_[one] ? 3 : uses_[one]; }

  void free_block() {
    if (blocks_.empty()) {
      return;
    }
    const auto block =
        std::next(blocks_.begin(), static_cast<std::ptrdiff_t>(choices_.below(blocks_.size())));
    const auto [first, content] = *block;
    EXPECT_TRUE(holds_pattern(memory_.at(first * unit), content.bytes, content.key));
    for (std::size_t one = first; one < first + content.bytes / unit; ++one) {
      if (uses_[one] != 3) {
        return;  // Its memory was removed.
      }
    }
    if (early_.deallocate(memory_.at(first * unit), content.bytes)) {
      paint({first, content.bytes / unit}, 0, 2);
      blocks_.erase(block);
    }
  }
  void free_badly() {
    const Stretch stretch = any_stretch();
    bool is_used = true;
    bool has_free = false;
    const std::size_t count = std::max<std::size_t>(stretch.count, 1);
    for (std::size_t one = stretch.first; one < stretch.first + count; ++one) {
      is_used = is_used && use_at(one) == 3 && !table_[one];
      has_free = has_free || use_at(one) == 1;
    }
    if (!is_used) {
      EXPECT_FALSE(early_.deallocate(memory_.at(stretch.first * unit), stretch.count * unit));
      EXPECT_EQ(misuse_.take_kinds(),
                std::vector{has_free ? MisuseKind::DoubleFree : MisuseKind::ForeignPointer});
    }
  }

  /// Finds the table: used, although nobody took it. `own` is a block that the program took.
  void find_table(const void* own, std::size_t own_bytes) {
    std::vector<int> found(units);
    early_.for_each([&](void* address, std::size_t bytes, EarlyUse use) {
      const std::size_t begin = memory_.offset_of(address);
      for (std::size_t at = begin / unit * unit; at < begin + bytes; at += unit) {
        found.at(at / unit) |= static_cast<int>(use);
      }
    });
    std::size_t bytes = 0;
    const std::size_t own_at = own != nullptr ? memory_.offset_of(own) / unit * unit : 0;
    for (std::size_t one = 0; one < units; ++one) {
      const bool is_own = one * unit - own_at < own_bytes;
      table_[one] = !is_own && found[one] == 3 && uses_[one] == 1;
      bytes += table_[one] ? unit : 0;
      EXPECT_TRUE(is_own || table_[one] || found[one] == uses_[one])
          << "unit " << one << " is " << found[one] << ", not " << uses_[one];
    }
    EXPECT_EQ(bytes % base, 0u) << "tables are of whole frames";
  }

  void expect_agreement() {
    ASSERT_EQ(early_.validate(), nullptr);
    find_table(nullptr, 0);
    ASSERT_LE(entries(), capacity()) << "a client has memory of the table";
    std::size_t free = 0;
    for (std::size_t one = 0; one < units; ++one) {
      free += use_at(one) == 1 ? unit : 0;
    }
    EXPECT_EQ(early_.bytes(EarlyUse::Free), free);
  }

  void hand_over() {
    std::vector<bool> whole(units * unit / base, true);
    for (std::size_t one = 0; one < units; ++one) {
      whole[one * unit / base] = whole[one * unit / base] && uses_[one] == 1;
    }
    FrameAllocator<PatientKernel, base> frames;
    if (!early_.hand_over(frames)) {
      EXPECT_EQ(frames.statistics().managed_bytes, 0u);
      return expect_agreement();
    }
    EXPECT_EQ(early_.bytes(EarlyUse::Used) + early_.bytes(EarlyUse::Free), 0u);
    EXPECT_EQ(frames.validate(), nullptr);
    // A table that lies alone may stay out.
    std::vector<std::size_t> left_out;
    for (std::size_t frame = 0; frame < whole.size(); ++frame) {
      const bool is_owned = frames.owns(memory_.at(frame * base));
      EXPECT_TRUE(whole[frame] || !is_owned) << "frame " << frame;
      if (whole[frame] && !is_owned) {
        left_out.push_back(frame);
      }
    }
    EXPECT_TRUE(left_out.empty() || left_out.back() - left_out.front() + 1 == left_out.size());
    while (void* const frame = frames.allocate_frame(base).address) {
      __builtin_memset(frame, 0, base);
    }
    for (const auto& [first, content] : blocks_) {
      EXPECT_TRUE(holds_pattern(memory_.at(first * unit), content.bytes, content.key));
    }
  }

  Choices& choices_;
  MisuseRecorder misuse_;
  PhysicalMemory memory_{units * unit, units* unit * 2};
  Early early_;
  std::vector<int> uses_ = std::vector<int>(units);
  std::vector<bool> table_ = std::vector<bool>(units);
  std::map<std::size_t, Block> blocks_;
  std::uint64_t last_key_ = 0;
};

}  // namespace slabmalloc::test
