// SPDX-License-Identifier: MIT
//
// Interrupts each operation of CpuZones at each access to shared memory in turn. Both the handler's
// calls and the interrupted call must succeed, and no memory may be lost.
#include <gtest/gtest.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "kernel/hosted_kernel.hpp"
#include "slabmalloc/kernel/cpu_zones.hpp"
#include "support/frames.hpp"
#include "support/interrupting_atomics.hpp"
#include "support/misuse_recorder.hpp"
#include "support/pattern.hpp"

namespace slabmalloc {

template <>
inline constexpr bool has_split_updates<test::InterruptingAtomics<SingleCpuAtomics>> = true;

namespace {

using test::FrameSource;
using test::HostedCpu;
using test::Interruption;

constexpr Layout small = Layout::of<std::uint64_t[8]>();
constexpr Layout large = Layout::from_size_align(1024, 8).value_or(small);
constexpr Layout run = Layout::from_size_align(20'000, 8).value_or(small);

/// Two CPUs on one thread: a wait for a lock would never end.
struct LonelyKernel : test::OpenKernel {
  static constexpr std::uint32_t maximum_cpus = 2;
  static std::uint32_t cpu() noexcept { return Interruption::may_come(), OpenKernel::cpu(); }
  [[noreturn]] static void panic(const char* line) noexcept {
    std::fprintf(stderr, "panic: %s\n", line);
    std::abort();
  }
  static void relax() noexcept {
    panic("a handler waits for a lock that whom it interrupted holds");
  }
};

template <class AtomicsT, bool ReservedForAll>
struct InterruptedConfig : GranuleKernelConfig<4 * kibibyte, AtomicsT> {
  static constexpr bool reserved_frames_are_for_all = ReservedForAll;
  static constexpr bool counts_frees = true;
};

template <class Config>
class Interrupted {
 public:
  using Heap = CpuZones<LonelyKernel, FrameSource, Config>;

  /// Live objects, each with its pattern.
  class Objects {
   public:
    Objects(Heap& heap, Context context_of_frees) : heap_(heap), context_(context_of_frees) {}
    bool add(Layout layout, Context context) {
      void* const object = heap_.allocate(layout, context).value_or(nullptr);
      if (object != nullptr) {
        const auto key = static_cast<std::uint32_t>(++keys_);
        test::fill_pattern(object, layout.size(), key);
        entries_.push_back({object, layout, key});
      }
      return object != nullptr;
    }
    void remove(std::size_t index) {
      const Entry entry = entries_.at(index);
      entries_.erase(entries_.begin() + static_cast<std::ptrdiff_t>(index));
      EXPECT_TRUE(test::holds_pattern(entry.object, entry.layout.size(), entry.key));
      heap_.deallocate(entry.object, entry.layout, context_);
    }
    void clear() {
      while (!entries_.empty()) {
        remove(0);
      }
    }
    std::size_t size() const { return entries_.size(); }

   private:
    struct Entry {
      void* object;
      Layout layout;
      std::uint32_t key;
    };
    static inline std::size_t keys_ = 0;
    Heap& heap_;
    Context context_;
    std::vector<Entry> entries_;
  };

  /// A heap in a mixed state, with objects of the thread, of the handler and of another CPU.
  struct Place {
    FrameSource frames;
    Heap heap{frames};
    Objects own{heap, Context::MayWait};
    Objects handlers{heap, Context::Interrupt};
  };
  struct Step {
    const char* name;
    void (*run)(Place&);
  };

  static void prepare(Place& place) {
    for (std::uint32_t cpu : {1u, 0u}) {
      HostedCpu::number = cpu;
      for (std::size_t count = 0; count < 140; ++count) {
        ASSERT_TRUE(place.own.add(count % 8 == 0 ? large : small, Context::MayWait));
      }
      for (std::size_t count = 0; count < 10; ++count) {
        ASSERT_TRUE(place.handlers.add(small, Context::MayWait));
      }
      ASSERT_TRUE(place.own.add(run, Context::MayWait));
      ASSERT_TRUE(place.handlers.add(run, Context::MayWait));
    }
    HostedCpu::number = 0;
    ASSERT_TRUE(place.heap.reserve_for_interrupts(small, 4, Context::MayWait));
  }
  /// Nothing may be in use at the end, in any order of draining.
  static void finish(Place& place) {
    place.own.clear();
    place.handlers.clear();
    ASSERT_TRUE(place.heap.reserve_for_interrupts(small, 0));
    ASSERT_TRUE(place.heap.reserve_frames(small, 0));
    place.heap.drain_and_leave_current();
    EXPECT_EQ(place.heap.validate(), nullptr);
    EXPECT_EQ(place.heap.statistics().zones.used_bytes, 0u);
    place.heap.give_back();
    EXPECT_EQ(place.frames.live_bytes(), 0u);
    EXPECT_EQ(place.heap.frame_bytes(), 0u);
  }

  /// With `is_prepared` false, the heap is unused before the step.
  static void interrupt_everywhere(const Step& step, const Step& handler, bool is_prepared,
                                   bool (*is_kept_away)() = nullptr) {
    std::size_t access = ++starts_ % stride + 1;
    for (bool came = true; came && !testing::Test::HasFailure(); access += stride) {
      SCOPED_TRACE(std::string(step.name) + ", interrupted at access " + std::to_string(access) +
                   " by: " + handler.name);
      test::MisuseRecorder misuse;
      HostedCpu::number = 0;
      Place place;
      if (is_prepared) {
        prepare(place);
      }
      Interruption::arm(access, [&] { handler.run(place); }, is_kept_away);
      step.run(place);
      came = Interruption::disarm();
      EXPECT_EQ(place.heap.validate(), nullptr);
      finish(place);
      accesses_ += came ? 1 : 0;
    }
  }

  static void run_all(bool (*is_kept_away)() = nullptr) {
    accesses_ = 0;
    for (const Step& step : steps) {
      for (const Step& handler : handler_steps) {
        interrupt_everywhere(step, handler, true, is_kept_away);
        interrupt_everywhere(step, handler, false, is_kept_away);
      }
    }
    std::printf("%zu interrupts\n", accesses_);
    EXPECT_GT(accesses_, 1000u);
  }

 private:
  static void free_some(Objects& objects, std::size_t count) {
    for (; count != 0 && objects.size() != 0; --count) {
      objects.remove(objects.size() * count / 8 % objects.size());
    }
  }
  static void allocate_some(Place& place, Layout layout, std::size_t count, Context context) {
    for (; count != 0; --count) {
      EXPECT_TRUE(place.own.add(layout, context));
    }
  }

  static constexpr std::array steps = {
      Step{"allocate", [](Place& place) { allocate_some(place, small, 70, Context::MayWait); }},
      Step{"allocate large",
           [](Place& place) { allocate_some(place, large, 70, Context::MayNotWait); }},
      Step{"allocate in an emergency",
           [](Place& place) {
             // This step does not call the pager, so the heap must hold memory already.
             if (place.heap.frame_bytes() != 0) {
               allocate_some(place, small, 2, Context::Emergency);
             }
           }},
      Step{"free", [](Place& place) { place.own.clear(); }},
      Step{"free and allocate",
           [](Place& place) {
             free_some(place.own, 100);
             allocate_some(place, small, 70, Context::MayWait);
             allocate_some(place, run, 2, Context::MayWait);
           }},
      Step{"free on another CPU and trim",
           [](Place& place) {
             free_some(place.own, 200);
             place.heap.trim();
           }},
      Step{"give runs back",
           [](Place& place) {
             place.handlers.clear();
             place.heap.trim();
           }},
      Step{"enter idle and allocate",
           [](Place& place) {
             free_some(place.own, 200);
             EXPECT_TRUE(place.heap.enter_idle());
             allocate_some(place, small, 3, Context::MayWait);
             EXPECT_TRUE(place.heap.enter_idle());
           }},
      Step{"drain an idle CPU",
           [](Place& place) {
             HostedCpu::number = 1;
             EXPECT_TRUE(place.heap.enter_idle());
             HostedCpu::number = 0;
             free_some(place.own, 200);
             place.heap.trim();
             HostedCpu::number = 1;
             allocate_some(place, small, 1, Context::MayWait);
             HostedCpu::number = 0;
           }},
      Step{"catch up",
           [](Place& place) {
             free_some(place.own, 200);
             place.heap.drain_later();
             place.heap.run_deferred();
           }},
      Step{"keep for interrupts",
           [](Place& place) {
             EXPECT_TRUE(place.heap.reserve_for_interrupts(small, 2));
             EXPECT_TRUE(place.heap.reserve_for_interrupts(large, 3, Context::MayWait));
             EXPECT_TRUE(place.heap.reserve_for_interrupts(small, 4));
           }},
      Step{"keep frames",
           [](Place& place) {
             EXPECT_TRUE(place.heap.reserve_frames(small, 3, Context::MayWait));
             EXPECT_TRUE(place.heap.reserve_frames(small, 1, Context::MayWait));
           }},
      Step{"find no memory",
           [](Place& place) {
             place.frames.set_exhausted(true);
             while (place.own.add(large, Context::MayWait)) {
             }
             while (place.own.add(small, Context::Emergency)) {
             }
             place.frames.set_exhausted(false);
           }},
      Step{"find no memory and must not wait",
           [](Place& place) {
             place.frames.set_exhausted(true);
             for (int call = 0; call < 100; ++call) {
               place.own.add(call % 2 == 0 ? large : small, Context::MayNotWait);
             }
             place.frames.set_exhausted(false);
           }},
      Step{"meet the limit",
           [](Place& place) {
             place.heap.set_limit(place.heap.frame_bytes() + 8 * kibibyte);
             while (place.own.add(small, Context::MayWait)) {
             }
             place.heap.set_limit(~std::size_t{0});
           }},
  };
  static constexpr std::array handler_steps = {
      Step{"allocate and free",
           [](Place& place) {
             place.handlers.add(small, Context::Interrupt);
             place.handlers.add(small, Context::Interrupt);
             free_some(place.handlers, 1);
           }},
      Step{"free", [](Place& place) { place.handlers.clear(); }},
      Step{"allocate and free by the pager",
           [](Place& place) {
             place.handlers.add(small, Context::MayNotWait);
             place.handlers.add(large, Context::MayNotWait);
             free_some(place.handlers, 2);
           }},
      Step{"an emergency",
           [](Place& place) {
             for (int count = 0; count < 6; ++count) {
               place.handlers.add(small, Context::Emergency);
             }
             free_some(place.handlers, 3);
           }},
      Step{"drain", [](Place& place) { place.heap.drain_this_cpu(); }},
      Step{"trim", [](Place& place) { place.heap.trim(); }},
      Step{"keep and trim",
           [](Place& place) {
             (void)place.heap.reserve_for_interrupts(small, 1);
             (void)place.heap.reserve_frames(small, 2);
             place.heap.run_deferred();
             place.heap.trim();
           }},
  };
  /// All accesses together would take a minute, and ten under a sanitizer. So each pair starts at
  /// another access and then takes every `stride`-th one.
#if defined(NDEBUG)
  static constexpr std::size_t stride = 13;
#else
  static constexpr std::size_t stride = 47;
#endif
  static inline std::size_t starts_ = 0;
  static inline std::size_t accesses_ = 0;
};

using Hardware = test::InterruptingAtomics<HardwareAtomics>;
using Plain = test::InterruptingAtomics<SingleCpuAtomics>;

TEST(CpuZonesInterrupts, come_at_any_access) {
  Interrupted<InterruptedConfig<Hardware, false>>::run_all();
}

TEST(CpuZonesInterrupts, come_at_any_access_where_all_may_use_reserved_frames) {
  Interrupted<InterruptedConfig<Hardware, true>>::run_all();
}

TEST(CpuZonesInterrupts, come_at_any_access_outside_of_sections_without_atomics) {
  Interrupted<InterruptedConfig<Plain, false>>::run_all([] { return HostedCpu::saved != 0; });
}

}  // namespace
}  // namespace slabmalloc
