// SPDX-License-Identifier: MIT
//
// A libFuzzer target: object caches and a heap in a reclaimer's list, on three CPUs over one pager
// that fails on demand. Objects must stay constructed while they are free, what a walk gives back
// must leave the pager's count, and shrink callbacks may call back.
#include <cstring>
#include <iterator>
#include <memory>
#include <vector>

#include "kernel/hosted_kernel.hpp"
#include "slabmalloc/kernel/object_cache.hpp"
#include "slabmalloc/kernel/reclaimer.hpp"
#include "support/frames.hpp"
#include "support/fuzz.hpp"
#include "support/misuse_recorder.hpp"

namespace slabmalloc {
namespace {

using test::FuzzInput;
using test::HostedCpu;

struct Kernel : test::OpenKernel {
  static constexpr std::uint32_t maximum_cpus = 3;
  static void relax() noexcept { panic("a caller waits for a lock that no other CPU holds"); }
};

/// An object with a state that outlives its uses, and a part that its user writes.
template <std::size_t words>
struct Object {
  static constexpr std::uint64_t constructed = 0xC0'57'2C'7Eu;
  Object() noexcept : state(constructed), uses(0) { ++live; }
  ~Object() {
    EXPECT_EQ(state, constructed);
    --live;
  }
  Object(const Object&) = delete;
  Object& operator=(const Object&) = delete;

  std::uint64_t state;
  std::uint64_t uses;
  std::uint64_t user[words];

  static inline std::size_t live = 0;
};

/// A cache, its entry and the objects in use.
template <class T>
class CacheUser {
 public:
  using Cache = ObjectCache<T, Kernel, test::FrameSource>;

  CacheUser(const char* name, test::FrameSource& frames) : cache(name, frames), entry(cache) {}

  void add(T* object) {
    if (object == nullptr) {
      return;
    }
    EXPECT_EQ(object->state, T::constructed);
    ++object->uses;
    for (std::uint64_t& word : object->user) {
      word = reinterpret_cast<std::uintptr_t>(&word) ^ ++last_key_;
    }
    held.push_back({object, last_key_, object->uses});
  }
  void allocate(std::size_t count, Context context) {
    T* some[64];
    const std::size_t got = cache.allocate_many(some, count, context);
    EXPECT_LE(got, count);
    for (std::size_t index = 0; index < got; ++index) {
      add(some[index]);
    }
  }
  T* take(std::size_t choice) {
    const Held one = held[choice];
    held[choice] = held.back();
    held.pop_back();
    EXPECT_EQ(one.object->state, T::constructed);
    EXPECT_EQ(one.object->uses, one.uses);
    std::uint64_t key = one.last_key - std::size(one.object->user);
    for (const std::uint64_t& word : one.object->user) {
      EXPECT_EQ(word, reinterpret_cast<std::uintptr_t>(&word) ^ ++key);
    }
    return one.object;
  }
  /// Frees up to `count` objects; returns their bytes.
  std::size_t free(std::size_t count) {
    std::vector<T*> some;
    while (some.size() < count && !held.empty()) {
      some.push_back(take(some.size() * 7 % held.size()));
    }
    cache.deallocate_many(some.data(), some.size());
    return some.size() * sizeof(T);
  }
  void expect_sound() {
    EXPECT_EQ(cache.validate(), nullptr);
    EXPECT_EQ(cache.statistics().objects_in_use, held.size());
  }

  struct Held {
    T* object;
    std::uint64_t last_key;
    std::uint64_t uses;
  };
  Cache cache;
  Reclaimable entry;
  std::vector<Held> held;

 private:
  std::uint64_t last_key_ = 0;
};

class ReclaimerProgram {
  using Small = Object<3>;
  using Large = Object<60>;
  using Heap = CpuZones<Kernel, test::FrameSource>;
  static constexpr Layout layout = Layout::of<std::uint64_t[40]>();
  static constexpr std::size_t most_held = 2000;

 public:
  explicit ReclaimerProgram(FuzzInput& input) : input_(input) {
    HostedCpu::number = 0;
    small_.entry.set_shrink(
        [](void* self, std::size_t bytes) noexcept {
          return static_cast<ReclaimerProgram*>(self)->shrink(bytes);
        },
        this);
    heap_.set_reclaim(&Reclaimer<Kernel>::reclaim_for, &reclaimer_);
    small_.cache.set_reclaim(&Reclaimer<Kernel>::reclaim_for, &reclaimer_);
    for (Reclaimable* const entry : entries_) {
      reclaimer_.add(*entry);
    }
  }
  ~ReclaimerProgram() {
    frames_.set_exhausted(false);
    shrink_again_ = 0;
    expect_sound();
    for (Reclaimable* const entry : entries_) {
      EXPECT_TRUE(reclaimer_.remove(*entry));
    }
    small_.free(~std::size_t{0});
    large_.free(~std::size_t{0});
    free_blocks(~std::size_t{0});
    EXPECT_EQ(small_.cache.destroy(), 0u);
    EXPECT_EQ(large_.cache.destroy(), 0u);
    heap_.release_all();
    EXPECT_EQ(Small::live, 0u);
    EXPECT_EQ(Large::live, 0u);
    EXPECT_EQ(frames_.live_bytes(), 0u);
    HostedCpu::number = 0;
  }

  void run() {
    for (std::size_t step = 1; !input_.is_empty(); ++step) {
      act();
      if (step % 32 == 0) {
        expect_sound();
      }
    }
  }

 private:
  void act() {
    HostedCpu::number = static_cast<std::uint32_t>(input_.below(Kernel::maximum_cpus));
    const bool has_room = small_.held.size() + large_.held.size() + blocks_.size() < most_held;
    switch (input_.below(14)) {
      case 0:
      case 1:
        return has_room ? small_.allocate(input_.between(1, 64), some_context()) : void();
      case 2:
      case 3:
        return has_room ? large_.allocate(input_.between(1, 64), some_context()) : void();
      case 4:
        return has_room ? allocate_blocks(input_.between(1, 64)) : void();
      case 5:
        small_.free(input_.between(1, 100));
        return;
      case 6:
        large_.free(input_.between(1, 100));
        return;
      case 7:
        return free_blocks(input_.between(1, 100));
      case 8:
        return reclaim();
      case 9:
        return change_list();
      case 10:
        return reserve();
      case 11:
        return let_pager_fail();
      case 12:
        shrink_again_ = input_.below(3);
        return;
      default:
        return destroy_if_unused();
    }
  }
  Context some_context() { return Context(input_.below(4)); }

  void allocate_blocks(std::size_t count) {
    while (count-- != 0) {
      if (void* const block = heap_.allocate(layout, Context::MayWait).value_or(nullptr)) {
        std::memset(block, 0x5A, layout.size());
        blocks_.push_back(block);
      }
    }
  }
  void free_blocks(std::size_t count) {
    for (; count != 0 && !blocks_.empty(); --count) {
      heap_.deallocate(blocks_.back(), layout);
      blocks_.pop_back();
    }
  }

  void reclaim() {
    // A callback that allocates may take frames meanwhile.
    const bool is_exact = shrink_again_ == 0;
    const std::size_t before = frames_.live_bytes();
    const std::size_t given =
        input_.one_in(3) ? reclaimer_.trim() : reclaimer_.reclaim(input_.below(64 * kibibyte));
    EXPECT_TRUE(!is_exact || before - frames_.live_bytes() == given);
    EXPECT_TRUE(input_.one_in(2) || reclaimer_.drain_this_cpu());
  }
  /// The shrink callback of a cache.
  std::size_t shrink(std::size_t bytes) {
    EXPECT_FALSE(is_shrinking_) << "no callback while another runs";
    is_shrinking_ = true;
    const std::size_t freed = small_.free(bytes / sizeof(Small) + 1);
    if (shrink_again_ != 0) {
      --shrink_again_;
      if (bytes % 2 == 0) {  // Any choice. Then no walk comes to the entry any more.
        EXPECT_FALSE(reclaimer_.remove(small_.entry)) << "a caller is at the entry";
      }
      large_.allocate(1, Context::MayWait);
      reclaimer_.reclaim(~std::size_t{0});
    }
    is_shrinking_ = false;
    return freed;
  }
  void change_list() {
    Reclaimable& entry = *entries_[input_.below(std::size(entries_))];
    EXPECT_TRUE(reclaimer_.remove(entry)) << "nobody is at an entry";
    if (!input_.one_in(3)) {
      reclaimer_.add(entry);
    }
  }
  void reserve() {
    const std::size_t objects = input_.below(40);
    if (input_.one_in(2)) {
      (void)large_.cache.reserve(objects);
    } else {
      small_.cache.set_limit(input_.one_in(2) ? ~std::size_t{0} : small_.held.size() + objects);
    }
    const auto wanted = static_cast<std::uint32_t>(input_.below(8));
    EXPECT_TRUE(wanted <= CommonKernelConfig::reserve_objects ||
                !small_.cache.reserve_for_interrupts(wanted));
  }
  void let_pager_fail() {
    if (input_.one_in(2)) {
      frames_.set_exhausted(input_.one_in(2));
    } else {
      frames_.fail_call(input_.between(1, 6));
    }
  }
  void destroy_if_unused() {
    const std::size_t used = large_.held.size();
    EXPECT_EQ(large_.cache.destroy(), used);
  }

  void expect_sound() {
    EXPECT_EQ(reclaimer_.validate(), nullptr);
    small_.expect_sound();
    large_.expect_sound();
    EXPECT_EQ(heap_.validate(), nullptr);
    EXPECT_EQ(frames_.live_bytes(), small_.cache.zones().frame_bytes() +
                                        large_.cache.zones().frame_bytes() + heap_.frame_bytes());
    using SmallCache = CacheUser<Small>::Cache;
    EXPECT_EQ(Small::live, small_.cache.zones().frame_bytes() / SmallCache::page_bytes *
                               SmallCache::objects_per_page);
  }

  FuzzInput& input_;
  test::MisuseRecorder misuse_;
  test::FrameSource frames_;
  Heap heap_{frames_};
  CacheUser<Small> small_{"small", frames_};
  CacheUser<Large> large_{"large", frames_};
  Reclaimable heap_entry_{"heap", heap_};
  Reclaimable* entries_[3] = {&small_.entry, &large_.entry, &heap_entry_};
  Reclaimer<Kernel> reclaimer_;
  std::vector<void*> blocks_;
  std::size_t shrink_again_ = 0;
  bool is_shrinking_ = false;
};

}  // namespace
}  // namespace slabmalloc

SLABMALLOC_FUZZ_TARGET(slabmalloc::test::FuzzInput& input) {
  slabmalloc::ReclaimerProgram(input).run();
}
