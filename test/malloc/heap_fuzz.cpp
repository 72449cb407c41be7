// SPDX-License-Identifier: MIT
//
// A libFuzzer target: the malloc's entry points, called by two threads in turns, over a system that
// refuses calls. A model knows every block. Bad frees must be reported and change nothing.
//
// Each run has a heap, threads and a system of its own.
#include <limits.h>
#include <pthread.h>

#include <algorithm>
#include <functional>
#include <iterator>
#include <map>
#include <memory>
#include <optional>
#include <vector>

#include "malloc/front.hpp"
#include "malloc/guarded_blocks.hpp"
#include "malloc/options.hpp"
#include "malloc/random.hpp"
#include "malloc/report.hpp"
#include "malloc/sampling.hpp"
#include "malloc/thread_zones.hpp"
#include "os/faulty_os.hpp"
#include "support/fuzz.hpp"
#include "support/misuse_recorder.hpp"
#include "support/other_thread.hpp"
#include "support/pattern.hpp"

namespace slabmalloc {
namespace {

using test::FuzzInput;

/// Makes the heap as it is when a process starts, at the end of a run. Pre: all threads have ended.
class NewHeap {
 public:
  ~NewHeap() {
    if (key_) {
      pthread_key_delete(*key_);
    }
    std::construct_at(&process_arena);
    std::construct_at(&thread_zones);
    std::construct_at(&scavenger_mutex);
    std::construct_at(&guarded_blocks);
    std::construct_at(&sampling);
    std::construct_at(&detail::random_threads);
    options = Options{};
    tunables = Tunables{};
  }
  /// Looks for the key by which the heap hears of the end of a thread: there are few keys.
  /// Thread: one with a zone.
  void find_key() {
    const void* const zone = thread_heap.zone;
    for (pthread_key_t key = 0; !key_ && zone != &empty_zone && key < PTHREAD_KEYS_MAX; ++key) {
      if (pthread_getspecific(key) == zone) {
        key_ = key;
      }
    }
  }

 private:
  std::optional<pthread_key_t> key_;
};

class HeapProgram {
 public:
  explicit HeapProgram(FuzzInput& input) : input_(input) {
    // One of few tunables that change what is done, not only how much of it.
    tunables.decay_milliseconds = input_.one_in(4) ? 0 : tunables.decay_milliseconds;
    tunables.direct_threshold_bytes = input_.one_in(4) ? 256 * kibibyte : 32 * 1024 * kibibyte;
    if (input_.one_in(4)) {
      tunables.hard_limit_bytes = Tunables::least_limit_bytes * input_.between(1, 8);
      has_limit_ = true;
    }
    if constexpr (MallocConfig::hardened) {
      tunables.guards = !input_.one_in(4);
      options.clearing = !input_.one_in(4);
      options.quarantine = !input_.one_in(4);
      tunables.random_order = !input_.one_in(4);
      tunables.class_addresses = !input_.one_in(4);
    } else if (input_.one_in(3)) {
      tunables.guarded_places = static_cast<std::uint32_t>(input_.between(1, 32));
      sampling.set(input_.between(1, 20), input_.one_in(2) ? 4 * kibibyte : 0);
    }
    os_.heal();
  }

  void run() {
    while (!input_.is_empty()) {
      test::OtherThread& worker = *workers_[input_.below(2)];
      const std::size_t steps = input_.between(1, 24);
      worker.run([&] {
        for (std::size_t step = 0; step < steps && !input_.is_empty(); ++step) {
          act();
        }
        heap_.find_key();
      });
      if (input_.one_in(16)) {
        const std::size_t number = input_.below(2);
        workers_[number] = nullptr;  // Parks its zone, which the next thread may get.
        workers_[number] = std::make_unique<test::OtherThread>();
      }
    }
    os_.heal();
    is_refused_ = false;
    on_each([&](std::size_t number) { free_rest(number == 1); });
    on_each([&](std::size_t) { trim(); });
    on_each([&](std::size_t) { trim(); });
    on_each([&](std::size_t) { check_all(); });
    EXPECT_EQ(process_statistics().live_objects, 0u);
    EXPECT_TRUE(misuse_.take().empty());
    workers_[0] = nullptr;
    workers_[1] = nullptr;
    EXPECT_TRUE(process_arena.validate());
  }

 private:
  struct Block {
    std::size_t bytes;
    std::size_t alignment;
    std::uint64_t key;
    /// Its size was never changed, so a free may state it.
    bool is_as_allocated;
  };
  using Blocks = std::map<std::byte*, Block>;
  static constexpr std::size_t marked_bytes = 128;
  static constexpr std::size_t most_live = 3000;

  void act() {
    switch (input_.below(20)) {
      case 0:
      case 1:
      case 2:
      case 3:
        return allocate(1);
      case 4:
        return allocate(input_.between(2, 300));
      case 5:
        return allocate_zeroed();
      case 6:
        return allocate_aligned();
      case 7:
      case 8:
      case 9:
        return blocks_.empty() ? void() : free_block(any_block());
      case 10:
        return blocks_.empty() ? void() : free_many(input_.between(2, 300));
      case 11:
      case 12:
        return blocks_.empty() ? void() : resize_block(any_block());
      case 13:
        return blocks_.empty() ? void() : free_sized(any_block());
      case 14:
        os_.advance_clock(input_.below(1500));
        return;
      case 15:
        return trim();
      case 16:
        return refuse();
      case 17:
        return blocks_.empty() ? void() : free_badly(any_block());
      case 18:
        return blocks_.empty() ? void() : free_twice(any_block());
      default:
        return check_all();
    }
  }

  std::size_t some_bytes() {
    switch (input_.below(8)) {
      case 0:
        return input_.between(1, 48) * 64 * kibibyte;
      case 1:
        return input_.between(30 * kibibyte, 300 * kibibyte);
      case 2:
        return input_.below(32 * kibibyte);
      default:
        return input_.below(600);
    }
  }
  Blocks::iterator any_block() {
    return std::next(blocks_.begin(), static_cast<std::ptrdiff_t>(input_.below(blocks_.size())));
  }

  // ---- allocation -------------------------------------------------------------------------------

  void allocate(std::size_t count) {
    const std::size_t bytes = some_bytes();
    const std::size_t most = bytes > 32 * kibibyte ? 3 : count;
    for (std::size_t done = 0; done < std::min(count, most) && blocks_.size() < most_live; ++done) {
      void* block = nullptr;
      if constexpr (MallocConfig::hardened) {
        block = front::allocate_aligned(bytes, heap::minimum_alignment);
      } else {
        block = heap::allocate(bytes);
      }
      add(block, bytes, heap::minimum_alignment, false);
    }
  }
  void allocate_zeroed() {
    const std::size_t bytes = some_bytes();
    add(front::allocate_zeroed(bytes), bytes, heap::minimum_alignment, true);
  }
  void allocate_aligned() {
    const std::size_t alignment = input_.power_of_two(input_.one_in(4) ? 22 : 13);
    const std::size_t bytes = some_bytes();
    add(front::allocate_aligned(bytes, alignment), bytes, alignment, false);
  }

  void add(void* address, std::size_t bytes, std::size_t alignment, bool is_zero,
           bool is_as_allocated = true) {
    auto* const block = static_cast<std::byte*>(address);
    if (block == nullptr) {
      EXPECT_TRUE(is_refused_ || has_limit_) << "refused " << bytes << " bytes";
      return;
    }
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(block) % alignment, 0u);
    const auto next = blocks_.lower_bound(block);
    EXPECT_TRUE(next == blocks_.end() || block + bytes <= next->first) << "overlap";
    if (next != blocks_.begin()) {
      EXPECT_LE(std::prev(next)->first + std::prev(next)->second.bytes, block) << "overlap";
    }
    if (bytes != 0 || !MallocConfig::hardened) {
      EXPECT_GE(front::usable_bytes(block), bytes);
    }
    const Block now{bytes, alignment, ++last_key_ * 0x10001, is_as_allocated};
    if (is_zero) {
      EXPECT_TRUE(test::holds_zeroes(block, marked(bytes)));
      EXPECT_TRUE(test::holds_zeroes(block + bytes - marked(bytes), marked(bytes)));
    }
    mark(block, now);
    blocks_.emplace(block, now);
  }

  // ---- frees ------------------------------------------------------------------------------------

  Block take(Blocks::iterator place) {
    check(*place);
    const Block block = place->second;
    blocks_.erase(place);
    return block;
  }
  void free_block(Blocks::iterator place) {
    std::byte* const address = place->first;
    take(place);
    front::deallocate<Call::Free>(address);
  }
  void free_many(std::size_t count) {
    auto place = any_block();
    const std::size_t stride = input_.between(1, 3);
    while (count-- != 0 && place != blocks_.end()) {
      const auto next = std::next(place);
      free_block(place);
      place = next;
      for (std::size_t skipped = 1; skipped < stride && place != blocks_.end(); ++skipped) {
        ++place;
      }
    }
  }
  void free_sized(Blocks::iterator place) {
    std::byte* const address = place->first;
    const Block block = take(place);
    if (block.is_as_allocated) {
      front::deallocate_sized<Call::FreeSized>(address, block.bytes, block.alignment);
    } else {
      front::deallocate<Call::Free>(address);
    }
  }

  void resize_block(Blocks::iterator place) {
    std::byte* const address = place->first;
    const Block had = place->second;
    check(*place);
    const std::size_t bytes = std::max<std::size_t>(some_bytes(), 1);
    auto* const moved =
        static_cast<std::byte*>(front::reallocate(address, bytes, heap::minimum_alignment));
    if (moved == nullptr) {
      EXPECT_TRUE(is_refused_ || has_limit_);
      return check(*place);
    }
    EXPECT_TRUE(test::holds_pattern(moved, std::min(marked(had.bytes), bytes), had.key));
    blocks_.erase(place);
    add(moved, bytes, heap::minimum_alignment, false, false);
  }

  // ---- bad calls --------------------------------------------------------------------------------

  /// Frees an address inside a block, or a block with a size that it never had.
  void free_badly(Blocks::iterator place) {
    const auto& [address, block] = *place;
    if (block.bytes > 1 && input_.one_in(2)) {
      bad_free(address + input_.between(1, block.bytes - 1), MisuseKind::MisalignedFree);
    } else if (block.bytes != 0 && block.is_as_allocated) {
      settle();
      front::deallocate_sized<Call::FreeSized>(address, 2 * front::usable_bytes(address) + 64,
                                               block.alignment);
      expect_one(MisuseKind::SizeMismatch, address);
    }
    check(*place);
  }

  /// Frees a block a second time, by the same thread.
  void free_twice(Blocks::iterator place) {
    std::byte* const address = place->first;
    free_block(place);
    const auto next = blocks_.upper_bound(address);
    if (next == blocks_.begin() ||
        std::prev(next)->first + std::prev(next)->second.bytes <= address) {
      bad_free(address, MisuseKind::DoubleFree);
    }
  }

  void bad_free(std::byte* address, MisuseKind kind) {
    settle();
    front::deallocate<Call::Free>(address);
    expect_one(kind, address);
  }
  /// Delivers and drains what waits, so that reports are of the next call.
  void settle() {
    trim();
    EXPECT_TRUE(misuse_.take().empty());
  }
  void expect_one(MisuseKind kind, const void* address) {
    trim();
    const std::vector<Misuse> told = misuse_.take();
    EXPECT_EQ(told.size(), 1u);
    for (const Misuse& misuse : told) {
      // Memory that went back to the system, or to other blocks, is no block.
      const bool is_gone =
          kind == MisuseKind::DoubleFree &&
          (misuse.kind == MisuseKind::ForeignPointer || misuse.kind == MisuseKind::MisalignedFree);
      EXPECT_TRUE(misuse.kind == kind || is_gone) << describe(misuse.kind);
      EXPECT_EQ(misuse.address, address);
    }
  }

  // ---- the system -------------------------------------------------------------------------------

  void refuse() {
    is_refused_ = true;
    switch (input_.below(5)) {
      case 0:
        return os_.fail_call(input_.between(1, 20));
      case 1:
        return os_.fail_from(input_.between(1, 20));
      case 2:
        return os_.fail_every(test::OsCall(input_.below(std::size_t(test::OsCall::Count))));
      case 3:
        return os_.limit_commit(os_.usable_bytes() + input_.below(64) * 64 * kibibyte);
      default:
        is_refused_ = false;
        os_.heal();
        os_.limit_commit(os::unlimited);
    }
  }

  // ---- checks -----------------------------------------------------------------------------------

  static std::size_t marked(std::size_t bytes) { return std::min(bytes, marked_bytes); }
  /// The end first: the start counts where both are one.
  static void mark(std::byte* address, const Block& block) {
    test::fill_pattern(address + block.bytes - marked(block.bytes), marked(block.bytes),
                       ~block.key);
    test::fill_pattern(address, marked(block.bytes), block.key);
  }
  static void check(const Blocks::value_type& entry) {
    const auto& [address, block] = entry;
    EXPECT_TRUE(test::holds_pattern(address, marked(block.bytes), block.key));
    if (block.bytes >= 2 * marked_bytes) {
      EXPECT_TRUE(
          test::holds_pattern(address + block.bytes - marked_bytes, marked_bytes, ~block.key));
    }
  }
  void check_all() {
    std::for_each(blocks_.begin(), blocks_.end(), &check);
    EXPECT_TRUE(process_arena.validate());
    EXPECT_EQ(guarded_blocks.validate(), nullptr);
    if (thread_heap.zone != &empty_zone) {
      EXPECT_EQ(thread_heap.zone->validate(), nullptr);
    }
  }
  /// Frees each second block, or all.
  void free_rest(bool all) {
    bool is_freed = true;
    for (auto place = blocks_.begin(); place != blocks_.end(); is_freed = !is_freed) {
      const auto next = std::next(place);
      if (is_freed || all) {
        free_block(place);
      }
      place = next;
    }
  }
  static void trim() { front::trim(); }
  void on_each(const std::function<void(std::size_t)>& work) {
    for (const std::size_t number : {0u, 1u}) {
      workers_[number]->run([&] { work(number); });
    }
  }

  FuzzInput& input_;
  NewHeap heap_;
  test::FaultyOs os_;
  test::MisuseRecorder misuse_;
  Blocks blocks_;
  std::unique_ptr<test::OtherThread> workers_[2] = {std::make_unique<test::OtherThread>(),
                                                    std::make_unique<test::OtherThread>()};
  std::uint64_t last_key_ = 0;
  bool is_refused_ = false;
  bool has_limit_ = false;
};

}  // namespace
}  // namespace slabmalloc

SLABMALLOC_FUZZ_TARGET(slabmalloc::test::FuzzInput& input) {
  using namespace slabmalloc;
  if constexpr (MallocConfig::hardened) {
    // Addresses of such blocks are for the whole process: they must not come from a run's system.
    static void* const of_no_bytes = front::allocate_aligned(0, heap::minimum_alignment);
    EXPECT_NE(of_no_bytes, nullptr);
  }
  HeapProgram(input).run();
}
