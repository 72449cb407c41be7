// SPDX-License-Identifier: MIT
#include "slabmalloc/kernel/cpu_parts.hpp"

#include <gtest/gtest.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <thread>
#include <vector>

#include "kernel/hosted_kernel.hpp"
#include "slabmalloc/kernel/kernel_config.hpp"
#include "support/frames.hpp"
#include "support/interrupting_atomics.hpp"

namespace slabmalloc::test {
namespace {

class CpuPartsTest : public testing::Test {
 protected:
  using Parts = CpuParts<OpenKernel, KernelConfig>;
  using Section = Parts::Section;

  void SetUp() override { on_cpu(0); }
  void TearDown() override {
    on_cpu(0);
    EXPECT_EQ(HostedCpu::saved, 0u);
    EXPECT_EQ(parts.validate(), nullptr);
    for (auto& part : parts) {
      part.zone.release_all([](void*, std::size_t) noexcept {});
    }
  }
  static void on_cpu(std::uint32_t cpu) { HostedCpu::number = cpu; }
  /// Gives CPU `cpu` a frame for objects.
  void add_frame(std::uint32_t cpu) {
    (parts.begin() + cpu)->frame_cache.push(frames.frame(base_bytes), base_bytes);
  }
  void* allocate() {
    bool is_nested = false;
    return parts.allocate(index, is_nested);
  }

  static constexpr std::size_t base_bytes = Parts::Part::Caches::base_bytes;
  static constexpr std::uint32_t index = Parts::Zone::class_for(Layout::of<std::uint64_t[8]>());
  FrameSource frames;
  Parts parts;
};

TEST_F(CpuPartsTest, a_section_takes_the_part_away_and_puts_it_back) {
  EXPECT_FALSE(Section(parts.pointers())) << "a slow path takes the part first";
  {
    const Section section = parts.enter();
    ASSERT_TRUE(section);
    EXPECT_EQ(section.part(), &parts[0]);
    EXPECT_EQ(HostedCpu::saved, 1u);
    EXPECT_FALSE(parts.enter());
    EXPECT_FALSE(Section(parts.pointers()));
    on_cpu(1);
    EXPECT_EQ(parts.enter().part(), &parts[1]) << "another CPU has one of its own";
    on_cpu(0);
  }
  EXPECT_TRUE(Section(parts.pointers()));
}

TEST(CpuPartsWithInterrupts, a_handler_that_takes_the_part_back_meanwhile_shares_no_part) {
  struct Config : GranuleKernelConfig<4 * kibibyte, InterruptingAtomics<HardwareAtomics>> {};
  using Parts = CpuParts<OpenKernel, Config>;
  HostedCpu::number = 0;
  // The part of a CPU that never used it, and that of one that became idle.
  for (const bool is_first : {true, false}) {
    std::size_t access = 1;
    for (bool came = true; came; ++access) {
      const auto parts = std::make_unique<Parts>();
      if (!is_first) {
        (void)parts->enter();
        EXPECT_TRUE(parts->offer());
      }
      bool has_taken = false;
      Interruption::arm(access, [&] { has_taken = static_cast<bool>(parts->enter()); });
      {
        const Parts::Section section = parts->enter();
        came = Interruption::disarm();
        EXPECT_TRUE(section) << "the handler has ended";
        EXPECT_FALSE(parts->enter()) << "access " << access << (has_taken ? ", taken" : "");
      }
      EXPECT_TRUE(parts->enter());
      EXPECT_EQ(parts->validate(), nullptr);
    }
    EXPECT_GT(access, 4u);
  }
}

TEST_F(CpuPartsTest, calls_in_a_section_go_other_ways_and_are_counted) {
  add_frame(0);
  void* const object = allocate();
  ASSERT_NE(object, nullptr);
  {
    const Section section = parts.enter();
    bool is_nested = false;
    EXPECT_EQ(parts.allocate(index, is_nested), nullptr);
    EXPECT_TRUE(is_nested);
    parts.deallocate(object, index);
    EXPECT_FALSE(parts.drain_this_cpu());
  }
  EXPECT_EQ(parts.nested_calls(), 2u);
  EXPECT_EQ(parts.class_statistics(index).used, 1u) << "a remote free, not drained yet";
  EXPECT_TRUE(parts[0].drain.is_under_way());
  EXPECT_TRUE(parts.drain_this_cpu());
  EXPECT_EQ(parts.class_statistics(index).used, 0u);
}

TEST_F(CpuPartsTest, each_cpu_drains_what_others_freed_when_it_is_told_to) {
  std::vector<void*> objects;
  for (const std::uint32_t cpu : {0u, 1u}) {
    on_cpu(cpu);
    add_frame(cpu);
    objects.push_back(allocate());
  }
  // Each frees the other's.
  parts.deallocate(objects[0], index);
  on_cpu(0);
  parts.deallocate(objects[1], index);
  parts.drain_later();
  for (const std::uint32_t cpu : {0u, 1u}) {
    EXPECT_TRUE(parts[cpu].drain.is_under_way());
  }
  EXPECT_FALSE(parts[2].drain.is_under_way()) << "a CPU that never ran has nothing to drain";
  parts.drain_all();
  EXPECT_EQ(parts.class_statistics(index).used, 0u);
}

// ---- idle CPUs ----------------------------------------------------------------------------------

TEST_F(CpuPartsTest, an_idle_cpu_takes_its_part_back_without_a_call) {
  add_frame(0);
  void* const object = allocate();
  EXPECT_FALSE(parts.is_idle());
  EXPECT_TRUE(parts.offer());
  EXPECT_TRUE(parts.is_idle());
  EXPECT_FALSE(Section(parts.pointers())) << "the fast path notices";
  EXPECT_EQ(parts.validate(), nullptr);
  parts.deallocate(object, index);
  EXPECT_FALSE(parts.is_idle());
  EXPECT_TRUE(Section(parts.pointers()));
  EXPECT_EQ(parts.nested_calls(), 0u);
  {
    const Section section = parts.enter();
    EXPECT_FALSE(parts.offer()) << "it is occupied";
  }
}

TEST_F(CpuPartsTest, others_drain_an_idle_cpu_and_only_that) {
  std::vector<void*> objects;
  for (const std::uint32_t cpu : {0u, 1u}) {
    on_cpu(cpu);
    add_frame(cpu);
    objects.push_back(allocate());
    objects.push_back(allocate());
  }
  EXPECT_TRUE(parts.offer());
  on_cpu(2);
  EXPECT_FALSE(parts.drain_idle()) << "there is nothing to drain";
  for (void* const object : objects) {
    Parts::Zone::deallocate_remote_class(object, index);
  }
  {
    const Section section = parts.enter();
    EXPECT_FALSE(parts.drain_idle()) << "the caller's part is occupied";
    EXPECT_FALSE(parts.drain_some_idle());
  }
  EXPECT_TRUE(parts.drain_idle());
  EXPECT_EQ(parts[1].frame_cache.size(base_bytes), 1u) << "its current page was empty";
  EXPECT_EQ(parts[0].frame_cache.size(base_bytes), 0u) << "CPU 0 is not idle";
  EXPECT_FALSE(parts.drain_idle());
  EXPECT_GT(parts[2].steps_for_others.get(), 0u);
  EXPECT_EQ(parts.validate(), nullptr);
  on_cpu(0);
  EXPECT_TRUE(parts.offer());
  on_cpu(2);
  int steps = 0;
  while (parts.drain_some_idle()) {
    ASSERT_LT(++steps, 100);
  }
  EXPECT_EQ(parts[0].frame_cache.size(base_bytes), 1u);
  EXPECT_NE(allocate(), nullptr) << "CPU 2 gets it";
}

TEST_F(CpuPartsTest, a_cpu_waits_for_the_end_of_another_ones_step) {
  auto& owner = (parts.begin() + 0)->owner;
  add_frame(0);
  ASSERT_NE(allocate(), nullptr);
  ASSERT_TRUE(parts.offer());
  ASSERT_TRUE(owner.begin_step());
  EXPECT_FALSE(parts.enter(PartWait::None));
  EXPECT_FALSE(parts.enter(PartWait::Bounded)) << "a handler's wait ends";
  EXPECT_STREQ(parts.validate(), "K6: a part is its CPU's or nobody's, and no caller waits for it");
  std::thread helper([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    owner.end_step();
  });
  bool is_nested = false;
  EXPECT_NE(parts.allocate(index, is_nested), nullptr);
  EXPECT_FALSE(is_nested);
  helper.join();
  EXPECT_EQ(parts.validate(), nullptr);
}

TEST(PartOwner, keeps_other_cpus_out_while_its_cpu_waits) {
  PartOwner<HardwareAtomics> owner;
  EXPECT_TRUE(owner.is_nobody());
  EXPECT_TRUE(owner.begin_step());
  EXPECT_FALSE(owner.begin_step());
  EXPECT_FALSE(owner.take_back());
  owner.set_wanted(true);
  owner.end_step();
  EXPECT_FALSE(owner.begin_step());
  EXPECT_NE(owner.validate(), nullptr);
  while (!owner.take_back()) {
  }
  owner.set_wanted(false);
  EXPECT_FALSE(owner.begin_step());
  EXPECT_EQ(owner.validate(), nullptr);
}

TEST_F(CpuPartsTest, reserved_objects_are_the_cpus_own_and_in_emergencies_everybodys) {
  for (const std::uint32_t cpu : {0u, 2u}) {
    on_cpu(cpu);
    add_frame(cpu);
    const Section section = parts.enter();
    section->reserve.want(index, 1);
    EXPECT_TRUE(section->adjust_reserve(index));
  }
  on_cpu(0);
  EXPECT_NE(parts.take_reserved(index, false), nullptr);
  EXPECT_EQ(parts.take_reserved(index, false), nullptr);
  EXPECT_NE(parts.take_reserved(index, true), nullptr);
  EXPECT_EQ(parts.take_reserved(index, true), nullptr);
}

TEST_F(CpuPartsTest, a_caller_of_the_pager_in_a_section_ends_in_a_panic) {
  const Section section = parts.enter();
  EXPECT_DEATH(Parts::require_own(parts.enter()), "a caller of the pager interrupts no section");
}

}  // namespace
}  // namespace slabmalloc::test
