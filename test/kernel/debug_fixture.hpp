// SPDX-License-Identifier: MIT
//
// The fixture of tests of the debug mode: a heap over a FrameAllocator, a kernel with all optional
// hooks, and a recorder of reports with what they say of the block.
#pragma once

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "kernel/frame_fixture.hpp"
#include "slabmalloc/kernel.hpp"
#include "support/misuse_recorder.hpp"

namespace slabmalloc::test {

/// A kernel with the hooks that the debug mode calls. Single-threaded tests set the functions.
struct DebugKernel : PatientKernel {
  static constexpr std::uint32_t maximum_cpus = 3;
  static inline std::uint64_t time = 0;
  static inline bool sleeps = true;
  static inline std::function<void(void*, std::size_t, bool)> shadow;
  static inline std::function<void(const HeapEvent&)> tracer;
  static inline void* parts[maximum_cpus] = {};

  static std::uint64_t now() noexcept { return ++time; }
  static bool may_sleep() noexcept { return sleeps; }
  static void poison(void* address, std::size_t bytes) noexcept {
    if (shadow) {
      shadow(address, bytes, true);
    }
  }
  static void unpoison(void* address, std::size_t bytes) noexcept {
    if (shadow) {
      shadow(address, bytes, false);
    }
  }
  static void trace(const HeapEvent& event) noexcept {
    if (tracer) {
      tracer(event);
    }
  }
  template <std::uint32_t slot>
  static void* local() noexcept {
    return parts[HostedCpu::number];
  }
  template <std::uint32_t slot>
  static void set_local(void* value) noexcept {
    parts[HostedCpu::number] = value;
  }
};

/// Finds its parts by the CPU's own pointers, so that a test can say that a section goes on.
struct TestConfig : DebugKernelConfig {
  static constexpr std::uint32_t local_slot = 0;
};
/// Freed blocks serve again at once.
struct PromptConfig : TestConfig {
  struct Debug : KernelDebug {
    static constexpr std::uint32_t delayed_blocks = 0;
  };
};

/// Acts as a handler that interrupts a section of its CPU, for as long as it lives. A CPU that has
/// opened no part has no section.
class InSection {
 public:
  InSection() : part_(std::exchange(DebugKernel::parts[HostedCpu::number], nullptr)) {}
  InSection(const InSection&) = delete;
  InSection& operator=(const InSection&) = delete;
  ~InSection() {
    if (part_ != nullptr) {
      DebugKernel::parts[HostedCpu::number] = part_;
    }
  }

 private:
  void* part_;
};

/// A report, with what its history said.
struct DebugReport {
  Misuse misuse;
  BlockHistory history;
};

/// As MisuseRecorder, with histories.
class DebugRecorder {
 public:
  DebugRecorder() {
    reports().clear();
    previous_ = set_misuse_handler([](const Misuse& misuse) noexcept {
      const std::lock_guard lock(mutex());
      reports().push_back({misuse, misuse.history != nullptr ? *misuse.history : BlockHistory{}});
    });
  }
  DebugRecorder(const DebugRecorder&) = delete;
  DebugRecorder& operator=(const DebugRecorder&) = delete;
  ~DebugRecorder() {
    set_misuse_handler(previous_);
    for (const DebugReport& report : reports()) {
      ADD_FAILURE() << "unexpected report: " << describe(report.misuse.kind) << " at "
                    << report.misuse.address << ", offset " << report.history.offset;
    }
    reports().clear();
  }

  std::vector<DebugReport> take() { return std::exchange(reports(), {}); }
  /// The only report; fails the test if there is another number.
  DebugReport take_one() {
    const std::vector<DebugReport> all = take();
    EXPECT_EQ(all.size(), 1u);
    return all.empty() ? DebugReport{} : all.front();
  }

 private:
  static std::vector<DebugReport>& reports() {
    static std::vector<DebugReport> all;
    return all;
  }
  static std::mutex& mutex() {
    static std::mutex one;
    return one;
  }

  MisuseHandler previous_ = nullptr;
};

inline Layout debug_layout(std::size_t size, std::size_t align = 8) {
  return Layout::from_size_align(size, align).value();
}

/// A test on CPU 0 that must end without a lost block, and with all frames back.
template <class ConfigT = TestConfig>
class DebugModeTest : public testing::Test {
 protected:
  using Frames = FrameAllocator<DebugKernel>;
  using Heap = CpuZones<DebugKernel, Frames, ConfigT>;
  using Blocks = typename Heap::Mode::Blocks;

  DebugModeTest() {
    HostedCpu::number = 0;
    DebugKernel::sleeps = true;
    DebugKernel::time = 0;
    for (void*& part : DebugKernel::parts) {
      part = nullptr;
    }
    const MemoryRegion regions[] = {memory.region(0, 16 * mebibyte)};
    EXPECT_TRUE(frames.add(regions, 1));
    heap.debug().set_name("test");
  }
  ~DebugModeTest() override {
    DebugKernel::shadow = nullptr;
    DebugKernel::tracer = nullptr;
  }
  void TearDown() override {
    for (int round = 0; round < 2; ++round) {
      for (HostedCpu::number = 0; HostedCpu::number < DebugKernel::maximum_cpus;
           ++HostedCpu::number) {
        heap.run_deferred();
        EXPECT_TRUE(heap.drain_this_cpu());
      }
    }
    HostedCpu::number = 0;
    EXPECT_EQ(heap.check_blocks(), 0u);
    EXPECT_EQ(heap.validate(), nullptr);
    EXPECT_EQ(heap.statistics().zones.used_bytes, 0u);
    heap.release_all();
    EXPECT_EQ(frames.statistics().used_bytes, 0u) << "every frame is back";
  }

  std::byte* allocate(Layout layout, Context context = Context::MayWait) {
    return static_cast<std::byte*>(heap.allocate(layout, context).value_or(nullptr));
  }
  static std::size_t slot_bytes(Layout layout) {
    return Heap::SizeClasses::size_of(Heap::Zone::class_for(Heap::Mode::extend(layout)));
  }
  /// The bytes from a block's first to its record.
  static std::size_t room(Layout layout) { return Blocks::record_offset(slot_bytes(layout)); }
  /// The layouts of the smallest and of the largest block of each size class.
  static std::vector<Layout> all_layouts() {
    std::vector<Layout> layouts;
    for (std::size_t size = 1; size <= Heap::MAX_ALLOC_SIZE; ++size) {
      const bool is_first =
          size == 1 || slot_bytes(debug_layout(size - 1)) != slot_bytes(debug_layout(size));
      const bool is_last = size == Heap::MAX_ALLOC_SIZE ||
                           slot_bytes(debug_layout(size + 1)) != slot_bytes(debug_layout(size));
      if (is_first || is_last) {
        layouts.push_back(debug_layout(size));
      }
    }
    return layouts;
  }

  DebugRecorder reports;
  PhysicalMemory memory{16 * mebibyte};
  Frames frames;
  Heap heap{frames};
};

}  // namespace slabmalloc::test
