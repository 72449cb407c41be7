// SPDX-License-Identifier: MIT
//
// Double frees whose two calls are on two threads, one after the other, for each state of the page.
// The heap must report the second free, or never issue the slot to two clients. Only a free that
// waits in a thread's buffer may escape, and none in a heap with MallocConfig::hardened.
#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <ostream>
#include <string>
#include <utility>
#include <vector>

#include "malloc/blocks.hpp"
#include "malloc/heap.hpp"
#include "support/misuse_recorder.hpp"
#include "support/other_thread.hpp"

namespace slabmalloc {
namespace {

/// The threads that free the block. The first free comes first.
enum class Frees : std::uint8_t { OwnerThenOther, OtherThenOwner, OtherThenAnother };
/// The page of the block, and the word of its slot.
enum class Around : std::uint8_t { NothingElse, LiveInItsWord, LiveInLaterWords, FullPage };

struct Case {
  Frees frees;
  Around around;
  bool is_swept_before;   ///< The page had other blocks before; else this is its first sweep.
  bool have_zones[2];     ///< Of the threads that are not the owner.
  bool buffer_neighbour;  ///< These free another block of the word before.
  bool end_late;          ///< They end after the owner has allocated on; else before.

  bool has_second_thread() const { return frees == Frees::OtherThenAnother; }
};

std::ostream& operator<<(std::ostream& out, const Case& one) {
  return out << "frees " << int(one.frees) << ", around " << int(one.around) << ", swept "
             << one.is_swept_before << ", zones " << one.have_zones[0] << one.have_zones[1]
             << ", neighbour " << one.buffer_neighbour << ", late " << one.end_late;
}

std::vector<Case> all_cases() {
  std::vector<Case> cases;
  for (unsigned bits = 0; bits < 3 * 4 * 32; ++bits) {
    const unsigned flags = bits % 32;
    const Case one{static_cast<Frees>(bits / 32 % 3),
                   static_cast<Around>(bits / 96),
                   (flags & 1) != 0,
                   {(flags & 2) != 0, (flags & 4) != 0},
                   (flags & 8) != 0,
                   (flags & 16) != 0};
    const bool is_repeated = !one.has_second_thread() && one.have_zones[1];
    const bool has_no_neighbour =
        one.buffer_neighbour &&
        (one.around == Around::NothingElse || (!one.have_zones[0] && !one.have_zones[1]));
    if (!is_repeated && !has_no_neighbour) {
      cases.push_back(one);
    }
  }
  return cases;
}

class DoubleFreeByTwoThreads : public testing::TestWithParam<std::size_t> {
 protected:
  struct Outcome {
    std::size_t reports_at_the_call = 0;
    std::size_t reports = 0;
    std::size_t issued_twice = 0;
  };

  DoubleFreeByTwoThreads() { get_own_zone(); }

  /// Allocates blocks and marks them. A block with the mark of a live one was issued twice.
  void allocate(std::size_t count, Outcome& outcome) {
    for (; count != 0; --count) {
      auto* const block = static_cast<std::uintptr_t*>(heap::allocate(bytes_));
      ASSERT_NE(block, nullptr);
      if (block[0] == mark_) {
        ++outcome.issued_twice;
      } else {
        block[0] = mark_;
        live_.push_back(block);
      }
    }
  }
  /// Takes a block out of those that live, for a test to free.
  void* take(std::size_t index) {
    auto* const block = static_cast<std::uintptr_t*>(live_[index]);
    block[0] = 0;
    live_.erase(live_.begin() + static_cast<std::ptrdiff_t>(index));
    return block;
  }

  /// The live blocks of the bitmap word of live block `index`, without that one, as indices.
  std::size_t find_neighbour(std::size_t index) const {
    for (std::size_t other = 0; other < live_.size(); ++other) {
      if (other != index && word_of(live_[other]) == word_of(live_[index])) {
        return other;
      }
    }
    return none;
  }
  static std::uintptr_t word_of(const void* block) {
    Chunk* chunk = process_arena.chunk_of(block);
    std::uint32_t offset = heap::offset_in_chunk(block);
    if (chunk->info.kind == ChunkKind::SlabTail) {
      offset += chunk->info.chunks_to_head() * static_cast<std::uint32_t>(chunk_bytes);
      chunk = chunk->head(chunk->info);
    }
    return reinterpret_cast<std::uintptr_t>(chunk) + chunk->info.slot_at(offset) / word_bits;
  }

  /// Makes a page in the state of `one`; returns the index of the block that is freed twice.
  std::size_t set_up(const Case& one, Outcome& outcome) {
    thread_heap.zone->trim();
    if (one.is_swept_before) {
      allocate(2 * slots_, outcome);
      free_live();
    }
    switch (one.around) {
      case Around::NothingElse:
        allocate(1, outcome);
        return 0;
      case Around::LiveInItsWord:
        allocate(3, outcome);
        return 1;
      case Around::LiveInLaterWords:
        allocate(3 + 2 * word_bits, outcome);
        return 1;
      case Around::FullPage:
        allocate(2 * slots_ + 1, outcome);
        return slots_ / 2;
    }
    return 0;
  }

  Outcome run(const Case& one) {
    Outcome outcome;
    std::size_t victim = set_up(one, outcome);
    std::unique_ptr<test::OtherThread> others[2];
    for (std::size_t number = 0; number < (one.has_second_thread() ? 2 : 1); ++number) {
      others[number] = std::make_unique<test::OtherThread>();
      if (one.have_zones[number]) {
        others[number]->run(get_own_zone);
      }
      const std::size_t neighbour = one.buffer_neighbour ? find_neighbour(victim) : none;
      if (one.have_zones[number] && neighbour != none) {
        victim -= neighbour < victim ? 1 : 0;
        others[number]->run([block = take(neighbour)] { heap::deallocate(block); });
      }
    }
    void* const block = take(victim);
    const auto free_it = [block] { heap::deallocate(block); };
    if (one.frees == Frees::OwnerThenOther) {
      free_it();
    }
    others[0]->run(free_it);
    if (one.frees == Frees::OtherThenOwner) {
      free_it();
    } else if (one.frees == Frees::OtherThenAnother) {
      others[1]->run(free_it);
    }
    outcome.reports_at_the_call = misuse_.take_count(MisuseKind::DoubleFree);
    const auto end_others = [&] {
      for (auto& other : others) {
        other = nullptr;
      }
    };
    if (!one.end_late) {
      end_others();
    }
    allocate(2 * slots_ + 3 * word_bits, outcome);
    end_others();
    thread_heap.zone->drain();
    allocate(2 * slots_ + 3 * word_bits, outcome);
    outcome.reports = outcome.reports_at_the_call + misuse_.take_count(MisuseKind::DoubleFree);
    EXPECT_EQ(thread_heap.zone->validate(), nullptr) << one;
    free_live();
    EXPECT_EQ(misuse_.take_count(MisuseKind::DoubleFree), 0u) << one;
    ++mark_;
    return outcome;
  }

  void free_live() {
    for (void* block : live_) {
      static_cast<std::uintptr_t*>(block)[0] = 0;
    }
    free_all(live_);
  }

  /// True if one of the frees waits in a thread's buffer.
  bool is_a_free_buffered(const Case& one) const {
    return ArenaZone::is_buffered(ArenaZone::SizeClasses::size_of(index_)) &&
           (one.have_zones[0] || one.have_zones[1]);
  }

  static constexpr std::size_t none = ~std::size_t{0};

  const std::size_t bytes_ = GetParam();
  const std::uint32_t index_ = ArenaZone::SizeClasses::index_for(bytes_);
  const std::size_t slots_ = ArenaZone::slots_per_page(index_);
  std::uintptr_t mark_ = 0x9E37'79B9'0000'0001;
  std::vector<void*> live_;
  test::MisuseRecorder misuse_;
};

INSTANTIATE_TEST_SUITE_P(Sizes, DoubleFreeByTwoThreads,
                         testing::Values(16, 48, 64, 500, 1024, 1040, 4096, 9000, 32000),
                         [](const auto& size) { return "of_" + std::to_string(size.param); });

TEST_P(DoubleFreeByTwoThreads, is_reported_or_issues_no_block_twice) {
  std::size_t missed = 0;
  std::size_t reported = 0;
  const std::vector<Case> cases = all_cases();
  for (const Case& one : cases) {
    const Outcome outcome = run(one);
    if (is_a_free_buffered(one) && one.end_late) {
      EXPECT_EQ(outcome.reports + outcome.issued_twice, 1u) << one;
      missed += outcome.issued_twice;
    } else {
      EXPECT_EQ(outcome.reports, 1u) << one;
      EXPECT_EQ(outcome.issued_twice, 0u) << one;
    }
    if (MallocConfig::hardened ||
        (one.frees == Frees::OwnerThenOther && !is_a_free_buffered(one))) {
      EXPECT_EQ(outcome.reports_at_the_call, 1u) << one;
    }
    reported += outcome.reports;
  }
  EXPECT_EQ(reported + missed, cases.size());
  EXPECT_EQ(missed == 0, !ArenaZone::is_buffered(bytes_)) << "a free in a buffer may escape";
}

}  // namespace
}  // namespace slabmalloc
