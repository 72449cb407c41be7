// SPDX-License-Identifier: MIT
#include "slabmalloc/kernel/cpu_parts.hpp"

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <memory>
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
  EXPECT_FALSE(Section(parts.pointers())) << "a slow path opens the part pointer first";
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

TEST(CpuPartsWithInterrupts, a_handler_that_opens_the_part_pointer_meanwhile_shares_no_part) {
  struct Config : GranuleKernelConfig<4 * kibibyte, InterruptingAtomics<HardwareAtomics>> {};
  using Parts = CpuParts<OpenKernel, Config>;
  HostedCpu::number = 0;
  std::size_t access = 1;
  for (bool came = true; came; ++access) {
    const auto parts = std::make_unique<Parts>();
    bool has_opened = false;
    Interruption::arm(access, [&] { has_opened = static_cast<bool>(parts->enter()); });
    {
      const Parts::Section section = parts->enter();
      came = Interruption::disarm();
      EXPECT_TRUE(section) << "the handler has ended";
      EXPECT_FALSE(parts->enter()) << "access " << access << (has_opened ? ", opened" : "");
    }
    EXPECT_TRUE(parts->enter());
  }
  EXPECT_GT(access, 4u);
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
  for (const auto& part : parts) {
    EXPECT_TRUE(part.drain.is_under_way());
  }
  parts.drain_all();
  EXPECT_EQ(parts.class_statistics(index).used, 0u);
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
