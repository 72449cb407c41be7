// SPDX-License-Identifier: MIT
#include "slabmalloc/kernel/frame_span.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

#include "kernel/frame_model.hpp"
#include "support/random.hpp"

namespace slabmalloc::test {
namespace {

using Span = FrameSpan<4096>;

/// A span and its meta-data; no memory backs the frames.
class SpanWithMemory {
 public:
  explicit SpanWithMemory(FrameRange range)
      : words_(Span::metadata_bytes(range) / sizeof(std::max_align_t) + 1),
        span_(Span::create(words_.data(), range)) {}
  Span* operator->() { return span_; }
  Span& operator*() { return *span_; }

  std::vector<std::max_align_t> words_;

 private:
  Span* span_;
};

void expect_blocks(Span& span, const FrameModel& model) {
  ASSERT_EQ(span.validate(), nullptr);
  for (std::uint32_t order = 0; order < Span::order_limit; ++order) {
    ASSERT_EQ(span.free_blocks(order), model.blocks(order).size()) << "order " << order;
  }
}

TEST(FrameSpan, costs_little_meta_data) {
  EXPECT_LE(Span::metadata_bytes({256, 512}), 1024u) << "1 MiB: a quarter of a frame";
  EXPECT_LE(Span::metadata_bytes({1, 257}), 1024u);
  const std::size_t frames = std::size_t{1} << 18;
  EXPECT_LE(Span::metadata_bytes({frames, 2 * frames}), frames * 127 / 100 + 2048) << "1 GiB";
}

TEST(FrameSpan, is_absent_at_first) {
  SpanWithMemory span({5, 50});
  EXPECT_EQ(span->free_frames(), 0u);
  EXPECT_EQ(span->order_of_fit(0), Span::order_limit);
  EXPECT_EQ(span->block_at(5).use, FrameUse::Absent);
  EXPECT_EQ(span->block_at(5).frames, 45u);
  EXPECT_EQ(span->validate(), nullptr);
}

/// For any begin and end: fills the span at once or frame by frame, uses it up, and gives it back.
TEST(FrameSpan, merges_back_to_where_it_began_at_every_place) {
  for (std::uintptr_t first = 1; first <= 33; ++first) {
    for (std::size_t frames = 1; frames <= 34; ++frames) {
      const FrameRange range{first, first + frames};
      SpanWithMemory span(range);
      FrameModel model(range);
      for (std::uintptr_t frame = range.end; frame-- != first;) {
        span->fill({frame, frame + 1});
        model.set(frame, 1, true);
      }
      expect_blocks(*span, model);
      span->fill(range);
      ASSERT_EQ(span->free_frames(), frames) << "nothing was absent any more";
      expect_blocks(*span, model);
      std::vector<std::uintptr_t> taken;
      for (std::uint32_t fit; (fit = span->order_of_fit(0)) != Span::order_limit;) {
        taken.push_back(span->allocate(0, 1, fit));
      }
      std::sort(taken.begin(), taken.end());
      ASSERT_EQ(taken.size(), frames);
      ASSERT_EQ(std::unique(taken.begin(), taken.end()), taken.end());
      for (const std::uintptr_t frame : taken) {
        ASSERT_TRUE(span->judge(frame, 1).is_sound);
        span->deallocate(frame, 1);
      }
      expect_blocks(*span, model);
    }
  }
}

TEST(FrameSpan, keeps_a_hole_absent_until_it_is_filled) {
  SpanWithMemory span({16, 48});
  span->fill({16, 24});
  span->fill({32, 48});
  EXPECT_EQ(span->free_frames(), 24u);
  EXPECT_EQ(span->free_blocks(4), 1u);
  EXPECT_EQ(span->free_blocks(3), 1u);
  EXPECT_EQ(span->block_at(26).use, FrameUse::Absent);
  EXPECT_EQ(span->judge(26, 1).kind, MisuseKind::ForeignPointer);
  span->fill({20, 40});
  EXPECT_EQ(span->free_frames(), 32u) << "the hole alone was filled";
  EXPECT_EQ(span->free_blocks(4), 2u);
  EXPECT_EQ(span->validate(), nullptr);
}

TEST(FrameSpan, gives_back_the_tail_of_a_run) {
  SpanWithMemory span({16, 32});
  span->fill({16, 32});
  EXPECT_EQ(span->allocate(4, 13, 4), 16u);
  EXPECT_EQ(span->free_frames(), 3u);
  EXPECT_EQ(span->free_blocks(0), 1u);
  EXPECT_EQ(span->free_blocks(1), 1u);
  EXPECT_EQ(span->block_at(28).first, 16u) << "the last piece leads to the head";
  EXPECT_EQ(span->block_at(28).frames, 13u);
  EXPECT_EQ(span->validate(), nullptr);
  span->deallocate(16, 13);
  EXPECT_EQ(span->free_blocks(4), 1u);
}

/// Every stretch of every free range, in the middle of blocks too.
TEST(FrameSpan, takes_any_free_frames_in_a_row) {
  const FrameRange range{5, 30};
  for (std::uintptr_t first = range.first; first < range.end; ++first) {
    for (std::uintptr_t end = first + 1; end <= range.end; ++end) {
      for (const bool begins : {true, false}) {
        SpanWithMemory span(range);
        FrameModel model(range);
        span->fill(range);
        model.set(range.first, range.frames(), true);
        span->take({first, end}, begins || first != range.first);
        model.set(first, end - first, false);
        expect_blocks(*span, model);
        ASSERT_EQ(span->runs(), begins || first != range.first ? 1u : 0u);
        ASSERT_EQ(span->continued_frames(), !begins && first == range.first ? end - first : 0u);
        ASSERT_EQ(span->block_at(end - 1).first, first);
        ASSERT_EQ(span->block_at(end - 1).frames, end - first);
        ASSERT_EQ(span->judge(first, end - first).is_sound, begins || first != range.first);
        span->deallocate(first, end - first);
        model.set(first, end - first, true);
        expect_blocks(*span, model);
      }
    }
  }
}

/// Every stretch of a free range offline, and every part of that online again.
TEST(FrameSpan, takes_any_frames_offline_and_puts_any_of_them_online) {
  const FrameRange range{5, 22};
  for (std::uintptr_t first = range.first; first < range.end; ++first) {
    for (std::uintptr_t end = first + 1; end <= range.end; ++end) {
      for (std::uintptr_t from = range.first; from < range.end; ++from) {
        for (std::uintptr_t to = from + 1; to <= range.end; ++to) {
          SpanWithMemory span(range);
          FrameModel model(range);
          span->fill(range);
          span->take_offline({first, end});
          span->take_offline({first, end});
          span->fill(range);
          model.set(range.first, range.frames(), true);
          model.set(first, end - first, false);
          expect_blocks(*span, model);
          ASSERT_EQ(span->offline_frames(), end - first);
          ASSERT_EQ(span->judge(end - 1, 1).kind, MisuseKind::DoubleFree);
          span->put_online({from, to});
          const std::uintptr_t online = std::max(first, from);
          const std::uintptr_t online_end = std::max(online, std::min(end, to));
          model.set(online, online_end - online, true);
          expect_blocks(*span, model);
          ASSERT_EQ(span->offline_frames(), end - first - (online_end - online));
        }
      }
    }
  }
}

/// All sequences of allocations and frees, to a depth.
class EverySequence {
 public:
  explicit EverySequence(FrameRange range) : span_(range), model_(range), range_(range) {
    span_->fill(range);
    model_.set(range.first, range.frames(), true);
  }

  void go(int depth) {
    ++visited_;
    expect_blocks(*span_, model_);
    check_judgements();
    if (depth == 0 || testing::Test::HasFatalFailure()) {
      return;
    }
    for (const std::size_t frames : {1u, 2u, 3u, 4u, 7u}) {
      step(depth, [&] { allocate(frames); });
    }
    for (std::size_t index = 0; index < runs_.size(); ++index) {
      step(depth, [&] { free(index); });
    }
  }
  std::size_t visited() const { return visited_; }

 private:
  struct Run {
    std::uintptr_t first;
    std::size_t frames;
  };

  template <class F>
  void step(int depth, F&& f) {
    const auto words = span_.words_;
    const auto model = model_;
    const auto runs = runs_;
    f();
    go(depth - 1);
    std::copy(words.begin(), words.end(), span_.words_.begin());
    model_ = model;
    runs_ = runs;
  }
  void allocate(std::size_t frames) {
    const std::uint32_t order = frames == 1 ? 0 : highest_bit(frames - 1) + 1;
    const std::uint32_t fit = span_->order_of_fit(order);
    const auto place = model_.place(order);
    ASSERT_EQ(fit != Span::order_limit, place.has_value());
    if (place) {
      ASSERT_EQ(span_->allocate(order, frames, fit), *place);
      model_.set(*place, frames, false);
      runs_.push_back({*place, frames});
    }
  }
  void free(std::size_t index) {
    const Run run = runs_[index];
    span_->deallocate(run.first, run.frames);
    model_.set(run.first, run.frames, true);
    runs_.erase(runs_.begin() + static_cast<std::ptrdiff_t>(index));
  }
  /// Checks the verdict on a free of any frames.
  void check_judgements() {
    for (std::uintptr_t frame = range_.first; frame < range_.end; ++frame) {
      const auto run = std::find_if(runs_.begin(), runs_.end(), [&](const Run& candidate) {
        return candidate.first <= frame && frame < candidate.first + candidate.frames;
      });
      for (std::size_t frames = 1; frames <= range_.frames(); ++frames) {
        const Span::Verdict verdict = span_->judge(frame, frames);
        if (run == runs_.end()) {
          ASSERT_FALSE(verdict.is_sound);
          ASSERT_EQ(verdict.kind, MisuseKind::DoubleFree);
          ASSERT_EQ(verdict.frames, 0u);
          continue;
        }
        ASSERT_EQ(verdict.frames, run->frames);
        ASSERT_EQ(verdict.is_sound, frame == run->first && frames == run->frames);
        if (!verdict.is_sound) {
          ASSERT_EQ(verdict.kind,
                    frame == run->first ? MisuseKind::SizeMismatch : MisuseKind::MisalignedFree);
        }
      }
    }
  }

  SpanWithMemory span_;
  FrameModel model_;
  FrameRange range_;
  std::vector<Run> runs_;
  std::size_t visited_ = 0;
};

TEST(FrameSpan, every_sequence_of_five_calls_agrees_with_the_model) {
  for (const FrameRange range : {FrameRange{8, 16}, FrameRange{5, 14}}) {
    EverySequence sequences(range);
    sequences.go(5);
    EXPECT_GT(sequences.visited(), 5000u);
  }
}

class CorruptedSpan : public testing::Test {
 protected:
  CorruptedSpan() : span_({16, 64}) {
    span_->fill({16, 40});
    span_->fill({48, 60});
    span_->keep_for_metadata({60, 64});
    span_->allocate(3, 5, span_->order_of_fit(3));
    span_->allocate(0, 1, span_->order_of_fit(0));
    span_->take_offline({48, 55});
  }
  SpanWithMemory span_;
};

TEST_F(CorruptedSpan, shows_any_value_written_to_any_state_byte) {
  ASSERT_EQ(span_->validate(), nullptr);
  for (std::uintptr_t frame = 16; frame < 64; ++frame) {
    std::uint8_t& state = span_->state(frame);
    const std::uint8_t before = state;
    for (unsigned value = 0; value < 256; ++value) {
      state = static_cast<std::uint8_t>(value);
      ASSERT_EQ(span_->validate() == nullptr, value == before)
          << "frame " << frame << " from " << int{before} << " to " << value;
    }
    state = before;
  }
  EXPECT_EQ(span_->validate(), nullptr);
}

TEST_F(CorruptedSpan, shows_every_flipped_bit_of_the_sets) {
  // The words lie between the sets and the states.
  auto* words = reinterpret_cast<std::uint8_t*>(span_.words_.data());
  auto* states = &span_->state(16);
  std::size_t set_words = 0;
  for (std::uint32_t order = 0; order <= 5; ++order) {
    set_words += BlockSet::words_for((63u >> order) - (16u >> order) + 1);
  }
  for (std::uint8_t* byte = states - set_words * sizeof(Word); byte != states; ++byte) {
    for (unsigned bit = 0; bit < 8; ++bit) {
      *byte = static_cast<std::uint8_t>(*byte ^ (1u << bit));
      ASSERT_NE(span_->validate(), nullptr) << "byte " << byte - words << ", bit " << bit;
      *byte = static_cast<std::uint8_t>(*byte ^ (1u << bit));
    }
  }
  EXPECT_EQ(span_->validate(), nullptr);
}

}  // namespace
}  // namespace slabmalloc::test
