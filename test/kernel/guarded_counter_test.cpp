// SPDX-License-Identifier: MIT
#include "slabmalloc/kernel/guarded_counter.hpp"

#include <gtest/gtest.h>

#include <cstddef>

#include "kernel/hosted_kernel.hpp"
#include "support/interrupting_atomics.hpp"

namespace slabmalloc {

template <>
inline constexpr bool has_split_updates<test::InterruptingAtomics<SingleCpuAtomics>> = true;

namespace test {
namespace {

TEST(GuardedCounter, loses_no_change_by_a_handler_where_there_are_no_atomics) {
  bool came = true;
  for (std::size_t access = 1; came; ++access) {
    GuardedCounter<SingleKernel, InterruptingAtomics<SingleCpuAtomics>> counter;
    Interruption::arm(access, [&] { counter.add(100); }, [] { return HostedCpu::saved != 0; });
    counter.add(7);
    counter.subtract(2);
    came = Interruption::disarm();
    ASSERT_EQ(counter.get(), came ? 105u : 5u);
  }
}

}  // namespace
}  // namespace test
}  // namespace slabmalloc
