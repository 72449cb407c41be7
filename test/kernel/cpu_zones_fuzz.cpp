// SPDX-License-Identifier: MIT
//
// A libFuzzer target: a kernel's heap on three CPUs over a pager that fails on demand, with NMIs at
// any access to shared memory, limits, reserves and callbacks. A model knows every block.
#include <algorithm>
#include <iterator>
#include <map>
#include <vector>

#include "kernel/hosted_kernel.hpp"
#include "slabmalloc/kernel/cpu_zones.hpp"
#include "support/frames.hpp"
#include "support/fuzz.hpp"
#include "support/interrupting_atomics.hpp"
#include "support/misuse_recorder.hpp"
#include "support/pattern.hpp"

namespace slabmalloc {
namespace {

using test::FuzzInput;
using test::HostedCpu;
using test::Interruption;

/// No other CPU runs, so a wait for a lock would never end.
struct LonelyKernel : test::OpenKernel {
  static constexpr std::uint32_t maximum_cpus = 3;
  static void relax() noexcept { panic("an NMI waits for a lock of what it interrupted"); }
};

using Atomics = test::InterruptingAtomics<HardwareAtomics>;
struct OpenConfig : GranuleKernelConfig<4 * kibibyte, Atomics> {
  static constexpr bool reserved_frames_are_for_all = true;
  static constexpr bool counts_frees = true;
};
struct FrugalConfig : GranuleKernelConfig<4 * kibibyte, Atomics> {
  static constexpr std::uint32_t growth_frames = 1;
  static constexpr std::uint32_t cached_frames = 1;
  static constexpr std::uint32_t drain_pages = 1;
};

template <class Config>
class KernelProgram {
  using Heap = CpuZones<LonelyKernel, test::FrameSource, Config>;
  static constexpr std::size_t most_live = 1200;

 public:
  explicit KernelProgram(FuzzInput& input) : input_(input) {
    HostedCpu::number = 0;
    heap_.set_reclaim(&free_some_for, this);
  }
  ~KernelProgram() {
    Interruption::disarm();
    frames_.set_exhausted(false);
    check_all();
    while (!blocks_.empty()) {
      HostedCpu::number = static_cast<std::uint32_t>(blocks_.size() % LonelyKernel::maximum_cpus);
      free_block(blocks_.begin(), Context::MayWait);
    }
    heap_.drain_and_leave_current();
    EXPECT_EQ(heap_.validate(), nullptr);
    for (std::uint32_t index = 0; index < Heap::Zone::class_count; ++index) {
      EXPECT_EQ(heap_.class_statistics(index).used, 0u) << "class " << index;
    }
    heap_.release_all();
    EXPECT_EQ(heap_.statistics().deferred_bytes, 0u);
    EXPECT_EQ(heap_.frame_bytes(), 0u);
    EXPECT_EQ(frames_.live_bytes(), 0u);
    HostedCpu::number = 0;
  }

  void run() {
    for (std::size_t step = 1; !input_.is_empty(); ++step) {
      act();
      if (step % 64 == 0) {
        Interruption::disarm();
        check_all();
      }
    }
  }

 private:
  struct Block {
    Layout layout;
    std::uint64_t key;
  };
  using Blocks = std::map<std::byte*, Block>;

  void act() {
    HostedCpu::number = static_cast<std::uint32_t>(input_.below(LonelyKernel::maximum_cpus));
    switch (input_.below(20)) {
      case 0:
      case 1:
      case 2:
        return allocate(some_layout(), some_context());
      case 3:
        return allocate_zeroed();
      case 4:
      case 5:
        return allocate_many();
      case 6:
      case 7:
      case 8:
        return blocks_.empty() ? void() : free_block(any_block(), some_context());
      case 9:
      case 10:
        return blocks_.empty() ? void() : free_many(input_.between(1, 100));
      case 11:
        return reserve();
      case 12:
        return limit();
      case 13:
      case 14:
        return arm_nmi();
      case 15:
        heap_.drain_this_cpu();
        return;
      case 16:
        return input_.one_in(2) ? heap_.drain_later() : heap_.run_deferred();
      case 17:
        return give_back();
      case 18:
        return blocks_.empty() ? void() : free_badly(any_block());
      default:
        return let_pager_fail();
    }
  }

  Layout some_layout() {
    switch (input_.below(8)) {
      case 0:
        return layout_of(input_.below(8 * kibibyte), input_.power_of_two(12));
      case 1:
        return layout_of(8 * kibibyte + input_.between(1, 40 * kibibyte), input_.power_of_two(13));
      default:
        return layout_of(8 * input_.below(60), 8);
    }
  }
  static Layout layout_of(std::size_t bytes, std::size_t alignment) {
    return Layout::from_size_align(bytes, alignment).value();
  }
  Context some_context() { return Context(input_.below(4)); }
  typename Blocks::iterator any_block() {
    return std::next(blocks_.begin(), static_cast<std::ptrdiff_t>(input_.below(blocks_.size())));
  }

  // ---- blocks -----------------------------------------------------------------------------------

  void add(void* address, Layout layout) {
    if (address == nullptr) {
      return;
    }
    auto* const block = static_cast<std::byte*>(address);
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(block) % layout.align(), 0u);
    const std::size_t bytes = std::max<std::size_t>(layout.size(), 1);
    const auto next = blocks_.lower_bound(block);
    EXPECT_TRUE(next == blocks_.end() || block + bytes <= next->first) << "overlap";
    if (next != blocks_.begin()) {
      const auto& [left, had] = *std::prev(next);
      EXPECT_LE(left + std::max<std::size_t>(had.layout.size(), 1), block) << "overlap";
    }
    const Block now{layout, ++last_key_ * 0x10001};
    test::fill_pattern(block, layout.size(), now.key);
    blocks_.emplace(block, now);
  }
  void allocate(Layout layout, Context context) {
    if (blocks_.size() < most_live) {
      add(heap_.allocate(layout, context).value_or(nullptr), layout);
    }
  }
  void allocate_zeroed() {
    const Layout layout = some_layout();
    const Result<void*> block = heap_.allocate_zeroed(layout, some_context());
    EXPECT_TRUE(!block || test::holds_zeroes(block.value(), layout.size()));
    add(block.value_or(nullptr), layout);
  }
  void allocate_many() {
    const Layout layout = some_layout();
    const bool is_run = layout.size() > Heap::MAX_ALLOC_SIZE;
    void* some[100];
    const std::size_t count = input_.between(1, is_run ? 3 : std::size(some));
    if (blocks_.size() < most_live) {
      const std::size_t got = heap_.allocate_many(layout, some, count, some_context());
      EXPECT_LE(got, count);
      std::for_each(some, some + got, [&](void* block) { add(block, layout); });
    }
  }

  Block take(typename Blocks::iterator place) {
    const Block block = place->second;
    EXPECT_TRUE(test::holds_pattern(place->first, block.layout.size(), block.key));
    blocks_.erase(place);
    return block;
  }
  void free_block(typename Blocks::iterator place, Context context) {
    std::byte* const address = place->first;
    const Block block = take(place);
    heap_.deallocate(address, block.layout, context);
  }
  /// Frees neighbours, those of one layout by one call.
  void free_many(std::size_t count) {
    auto place = any_block();
    const Layout layout = place->second.layout;
    const Context context = some_context();
    std::vector<void*> some;
    while (count-- != 0 && place != blocks_.end()) {
      const auto next = std::next(place);
      if (place->second.layout == layout) {
        some.push_back(place->first);
        take(place);
      }
      place = next;
    }
    heap_.deallocate_many(some.data(), some.size(), layout, context);
  }

  /// Frees an address inside a block of a size class.
  void free_badly(typename Blocks::iterator place) {
    const auto [address, block] = *place;
    const std::size_t bytes = block.layout.size();
    if (bytes < 2 || bytes > Heap::MAX_ALLOC_SIZE) {
      return;
    }
    const std::size_t offset = input_.between(1, bytes - 1);
    (void)Interruption::disarm();
    heap_.deallocate(address + offset, block.layout, some_context());
    EXPECT_EQ(misuse_.take_kinds(), std::vector{MisuseKind::MisalignedFree});
  }

  // ---- limits and pressure ----------------------------------------------------------------------

  void reserve() {
    const Layout layout = some_layout();
    const Context context = some_context();
    if (input_.one_in(2)) {
      const auto wanted = static_cast<std::uint32_t>(input_.below(6));
      const Result<void> got = heap_.reserve_for_interrupts(layout, wanted, context);
      EXPECT_TRUE(wanted <= Config::reserve_objects || !got);
    } else {
      (void)heap_.reserve_frames(layout, static_cast<std::uint32_t>(input_.below(4)), context);
    }
  }
  void limit() {
    const bool is_bounded = !input_.one_in(3);
    heap_.set_limit(
        is_bounded ? heap_.frame_bytes() + input_.below(6) * 4 * kibibyte : ~std::size_t{0},
        [](void* self) noexcept { (void)free_some_for(self, {}); }, this);
  }
  void let_pager_fail() {
    switch (input_.below(4)) {
      case 0:
        return frames_.set_exhausted(true);
      case 1:
        return frames_.fail_call(input_.between(1, 6));
      default:
        return frames_.set_exhausted(false);
    }
  }
  void give_back() {
    Interruption::disarm();
    const std::size_t before = frames_.live_bytes();
    const std::size_t given = input_.one_in(2)
                                  ? heap_.trim()
                                  : heap_.give_back(static_cast<std::uint32_t>(input_.below(4)));
    EXPECT_EQ(before - frames_.live_bytes(), given);
  }

  /// A callback: frees three blocks, in a context that does not call back.
  static bool free_some_for(void* self, const ReclaimRequest&) noexcept {
    auto& mine = *static_cast<KernelProgram*>(self);
    const bool has_some = !mine.blocks_.empty();
    for (int count = 0; count < 3 && !mine.blocks_.empty(); ++count) {
      mine.free_block(mine.blocks_.begin(), Context::Interrupt);
    }
    mine.add(mine.heap_.allocate(layout_of(64, 8), Context::Emergency).value_or(nullptr),
             layout_of(64, 8));
    return has_some;
  }

  /// Lets an NMI come at one of the next accesses to shared memory. It frees and allocates.
  void arm_nmi() {
    const Layout layout = some_layout();
    const Context context = input_.one_in(2) ? Context::Interrupt : Context::Emergency;
    const std::size_t frees = input_.below(20);
    const std::size_t allocations = input_.below(20);
    Interruption::arm(input_.between(1, 300), [=, this] {
      for (std::size_t count = 0; count < frees && !blocks_.empty(); ++count) {
        free_block(std::prev(blocks_.end()), context);
      }
      for (std::size_t count = 0; count < allocations; ++count) {
        allocate(layout, context);
      }
    });
  }

  void check_all() {
    EXPECT_EQ(heap_.validate(), nullptr);
    for (const auto& [address, block] : blocks_) {
      EXPECT_TRUE(test::holds_pattern(address, block.layout.size(), block.key));
    }
    std::size_t run_bytes = heap_.statistics().deferred_bytes;
    for (const auto& [address, block] : blocks_) {
      const bool is_run = Heap::Zone::class_for(block.layout) == Heap::SizeClasses::no_class;
      run_bytes += is_run ? std::max<std::size_t>(block.layout.size(), 1) : 0;
    }
    EXPECT_EQ(heap_.run_bytes(), run_bytes);
    EXPECT_EQ(frames_.live_bytes(), heap_.frame_bytes());
  }

  FuzzInput& input_;
  test::MisuseRecorder misuse_;
  test::FrameSource frames_;
  Heap heap_{frames_};
  Blocks blocks_;
  std::uint64_t last_key_ = 0;
};

}  // namespace
}  // namespace slabmalloc

SLABMALLOC_FUZZ_TARGET(slabmalloc::test::FuzzInput& input) {
  using namespace slabmalloc;
  if (input.one_in(2)) {
    KernelProgram<OpenConfig>(input).run();
  } else {
    KernelProgram<FrugalConfig>(input).run();
  }
}
