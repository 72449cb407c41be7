// SPDX-License-Identifier: MIT
#include <errno.h>
#include <gtest/gtest.h>
#include <linux/filter.h>
#include <linux/membarrier.h>
#include <linux/seccomp.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <chrono>
#include <cinttypes>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <functional>
#include <iterator>
#include <string>
#include <thread>

#include "os/os.hpp"
#include "slabmalloc/base/bits.hpp"
#include "support/child.hpp"
#include "support/pattern.hpp"
#include "tunables.hpp"

namespace slabmalloc::os {
namespace {

const Interface& system_interface = linux_interface;

std::size_t os_page_bytes() { return system_interface.os_page_bytes(); }

void* null_page() { return nullptr; }

/// One OS page of this program.
void* own_page() {
  static char byte;
  return reinterpret_cast<void*>(
      align_down(reinterpret_cast<std::uintptr_t>(&byte), os_page_bytes()));
}

TEST(LinuxOs, is_in_force_unless_replaced) { EXPECT_EQ(&interface(), &linux_interface); }

TEST(LinuxOs, space_that_is_found_is_empty_and_can_be_mapped) {
  const std::uintptr_t space = system_interface.find_space(64 * os_page_bytes());
  ASSERT_NE(space, 0u);
  auto* const memory = reinterpret_cast<std::byte*>(space) + os_page_bytes();
  ASSERT_EQ(system_interface.map_at(memory, 2 * os_page_bytes()), MapOutcome::Mapped);
  EXPECT_TRUE(test::holds_zeroes(memory, 2 * os_page_bytes()));
  EXPECT_TRUE(system_interface.unmap(memory, 2 * os_page_bytes()));
}

TEST(LinuxOs, mappings_made_later_come_to_found_space_from_its_far_end) {
  constexpr std::size_t space_bytes = std::size_t{1} << (sizeof(void*) == 8 ? 36 : 28);
  const std::uintptr_t space = system_interface.find_space(space_bytes);
  ASSERT_NE(space, 0u);
  void* const later = system_interface.map(os_page_bytes());
  ASSERT_NE(later, nullptr);
  const std::uintptr_t distance = reinterpret_cast<std::uintptr_t>(later) - space;
  EXPECT_TRUE(distance >= space_bytes || distance > space_bytes / 2) << distance;
  EXPECT_TRUE(system_interface.unmap(later, os_page_bytes()));
}

TEST(LinuxOs, purged_memory_reads_as_zero) {
  void* const memory = system_interface.map(8 * os_page_bytes());
  ASSERT_NE(memory, nullptr);
  test::fill_pattern(memory, 8 * os_page_bytes(), 2);
  ASSERT_TRUE(system_interface.purge(memory, 8 * os_page_bytes()));
  EXPECT_TRUE(test::holds_zeroes(memory, 8 * os_page_bytes()));
  EXPECT_TRUE(system_interface.unmap(memory, 8 * os_page_bytes()));
}

/// Maps eight OS pages, fills them by a pattern and locks them; null if locks have no effect here.
void* map_locked() {
  const std::size_t bytes = 8 * os_page_bytes();
  void* const memory = system_interface.map(bytes);
  test::fill_pattern(memory, bytes, 5);
  const bool is_locked = mlock(memory, bytes) == 0 && madvise(memory, bytes, MADV_DONTNEED) != 0;
  return is_locked ? memory : nullptr;
}

/// From now on MADV_DONTNEED_LOCKED fails in this process, as before Linux 5.18.
void forbid_purges_of_locked_memory() {
  constexpr std::uint32_t purge_locked = 24;
  sock_filter steps[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_madvise, 0, 3),
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, args[2])),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, purge_locked, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EINVAL),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  const sock_fprog filter{std::size(steps), steps};
  prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
  EXPECT_EQ(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter), 0);
}

TEST(LinuxOs, locked_memory_is_purged_and_stays_locked) {
  constexpr int purge_locked = 24;
  const std::size_t bytes = 8 * os_page_bytes();
  void* const memory = map_locked();
  if (memory == nullptr || madvise(memory, 0, purge_locked) != 0) {
    GTEST_SKIP() << "memory cannot be locked here, or this kernel cannot purge it";
  }
  EXPECT_TRUE(system_interface.purge(memory, bytes));
  EXPECT_TRUE(test::holds_zeroes(memory, bytes));
  EXPECT_NE(madvise(memory, bytes, MADV_DONTNEED), 0) << "no longer locked";
  EXPECT_TRUE(system_interface.unmap(memory, bytes));
}

TEST(LinuxOs, locked_memory_keeps_its_contents_where_the_kernel_cannot_purge_it) {
  const int status = test::status_of_child([] {
    void* const memory = map_locked();
    if (memory == nullptr) {
      return 77;
    }
    forbid_purges_of_locked_memory();
    errno = 12345;
    EXPECT_FALSE(system_interface.purge(memory, 8 * os_page_bytes()));
    EXPECT_EQ(errno, 12345);
    EXPECT_TRUE(test::holds_pattern(memory, 8 * os_page_bytes(), 5));
    return 0;
  });
  if (status == 77) {
    GTEST_SKIP() << "memory cannot be locked here";
  }
  EXPECT_EQ(status, 0);
}

/// The KiB of huge pages in the mapping at `address`, by /proc/self/smaps.
std::size_t huge_kibibytes(const void* address) {
  std::ifstream file("/proc/self/smaps");
  std::size_t kibibytes = 0;
  bool is_there = false;
  for (std::string line; std::getline(file, line);) {
    std::uintptr_t start = 0;
    std::uintptr_t end = 0;
    const auto at = reinterpret_cast<std::uintptr_t>(address);
    if (std::sscanf(line.c_str(), "%" SCNxPTR "-%" SCNxPTR, &start, &end) == 2) {
      is_there = start <= at && at < end;
    } else if (is_there) {
      std::sscanf(line.c_str(), "AnonHugePages: %zu", &kibibytes);
    }
  }
  return kibibytes;
}

TEST(LinuxOs, tells_what_is_backed_by_memory) {
  const std::size_t count = 1500;
  auto* const memory = static_cast<std::byte*>(system_interface.map(count * os_page_bytes()));
  ASSERT_NE(memory, nullptr);
  EXPECT_EQ(system_interface.resident_bytes(memory, count * os_page_bytes()), 0u);
  for (const std::size_t written :
       {std::size_t{0}, std::size_t{511}, std::size_t{512}, count - 1}) {
    memory[written * os_page_bytes()] = std::byte{1};
  }
  EXPECT_EQ(system_interface.resident_bytes(memory, count * os_page_bytes()), 4 * os_page_bytes());
  EXPECT_EQ(system_interface.resident_bytes(memory + os_page_bytes(), 511 * os_page_bytes()),
            os_page_bytes());
  EXPECT_TRUE(system_interface.unmap(memory, count * os_page_bytes()));
  EXPECT_EQ(system_interface.resident_bytes(memory, os_page_bytes()), 0u);
}

TEST(LinuxOs, huge_pages_come_where_they_are_allowed_can_be_split_and_come_no_more) {
  constexpr std::size_t huge_bytes = Tunables::huge_page_bytes;
  constexpr std::size_t bytes = 4 * huge_bytes;
  const std::uintptr_t space = system_interface.find_space(bytes + huge_bytes);
  auto* const memory = reinterpret_cast<std::byte*>(align_up(space, huge_bytes));
  ASSERT_EQ(system_interface.map_at(memory, bytes), MapOutcome::Mapped);
  system_interface.allow_huge_pages(memory, bytes);
  test::fill_pattern(memory, bytes, 3);
  const std::size_t all = huge_kibibytes(memory);
  const bool can_split = madvise(memory, os_page_bytes(), 20) == 0;  // MADV_COLD
  if (all * 1024 != bytes || !can_split) {
    system_interface.unmap(memory, bytes);
    GTEST_SKIP() << "this system has no huge pages on request";
  }
  const std::size_t before = huge_kibibytes(memory);
  system_interface.split_huge_page(memory + huge_bytes + os_page_bytes());
  EXPECT_EQ(huge_kibibytes(memory), before - huge_bytes / 1024);
  EXPECT_TRUE(test::holds_pattern(memory, bytes, 3));
  huge_page_interface.end_huge_pages(memory, bytes);  // Has no effect.
  ASSERT_TRUE(system_interface.purge(memory + 3 * huge_bytes, huge_bytes));
  test::fill_pattern(memory, bytes, 3);
  EXPECT_EQ(huge_kibibytes(memory), before - huge_bytes / 1024);
  system_interface.end_huge_pages(memory, bytes);
  ASSERT_TRUE(system_interface.purge(memory + 2 * huge_bytes, huge_bytes));
  test::fill_pattern(memory, bytes, 4);
  EXPECT_EQ(huge_kibibytes(memory), before - 2 * huge_bytes / 1024);
  EXPECT_TRUE(test::holds_pattern(memory, bytes, 4));
  EXPECT_TRUE(system_interface.unmap(memory, bytes));
}

TEST(LinuxOs, exact_places_are_never_taken_from_others) {
  auto* const memory = static_cast<std::byte*>(system_interface.map(3 * os_page_bytes()));
  ASSERT_NE(memory, nullptr);
  test::fill_pattern(memory, os_page_bytes(), 3);
  EXPECT_EQ(system_interface.map_at(memory, os_page_bytes()), MapOutcome::Occupied);
  EXPECT_TRUE(test::holds_pattern(memory, os_page_bytes(), 3));
  ASSERT_TRUE(system_interface.unmap(memory + os_page_bytes(), os_page_bytes()));
  EXPECT_EQ(system_interface.map_at(memory + os_page_bytes(), os_page_bytes()), MapOutcome::Mapped);
  EXPECT_TRUE(test::holds_zeroes(memory + os_page_bytes(), os_page_bytes()));
  EXPECT_TRUE(system_interface.unmap(memory, 3 * os_page_bytes()));
}

TEST(LinuxOs, remapping_keeps_the_contents) {
  void* const memory = system_interface.map(4 * os_page_bytes());
  ASSERT_NE(memory, nullptr);
  test::fill_pattern(memory, 4 * os_page_bytes(), 4);
  void* const moved =
      system_interface.remap(memory, 4 * os_page_bytes(), 4096 * os_page_bytes(), true);
  ASSERT_NE(moved, nullptr);
  EXPECT_TRUE(test::holds_pattern(moved, 4 * os_page_bytes(), 4));
  EXPECT_EQ(system_interface.remap(moved, 4096 * os_page_bytes(), os_page_bytes(), false), moved);
  EXPECT_TRUE(system_interface.unmap(moved, os_page_bytes()));
}

TEST(LinuxOs, impossible_requests_are_refused) {
  constexpr std::size_t impossible = std::size_t{1} << (sizeof(void*) * 8 - 2);
  EXPECT_EQ(system_interface.find_space(impossible), 0u);
  EXPECT_EQ(system_interface.map(impossible), nullptr);
  EXPECT_FALSE(system_interface.purge(null_page(), os_page_bytes()));
}

TEST(LinuxOs, fences_all_threads_where_the_kernel_can) {
  const long commands = syscall(SYS_membarrier, MEMBARRIER_CMD_QUERY, 0, 0);
  const bool can = commands >= 0 && (commands & MEMBARRIER_CMD_PRIVATE_EXPEDITED) != 0;
  EXPECT_EQ(system_interface.fence_all_threads(), can);
  EXPECT_EQ(system_interface.fence_all_threads(), can) << "registered already";
}

TEST(LinuxOs, errno_is_as_before_whatever_fails) {
  constexpr std::size_t impossible = std::size_t{1} << (sizeof(void*) * 8 - 2);
  static std::uint32_t word = 7;
  const std::function<void()> failing_calls[] = {
      [] { system_interface.find_space(impossible); },
      [] { system_interface.map_at(own_page(), os_page_bytes()); },
      [] { system_interface.map(impossible); },
      [] { system_interface.unmap(reinterpret_cast<void*>(1), os_page_bytes()); },
      [] { system_interface.purge(null_page(), os_page_bytes()); },
      [] { system_interface.resident_bytes(null_page(), os_page_bytes()); },
      [] { system_interface.allow_huge_pages(null_page(), os_page_bytes()); },
      [] { system_interface.end_huge_pages(null_page(), os_page_bytes()); },
      [] { system_interface.split_huge_page(null_page()); },
      [] { system_interface.remap(null_page(), os_page_bytes(), impossible, true); },
      [] { system_interface.name(null_page(), os_page_bytes(), "nothing"); },
      [] { system_interface.os_page_bytes(); },
      [] { system_interface.address_space_limit(); },
      [] { system_interface.fence_all_threads(); },
      [] { system_interface.now_milliseconds(); },
      [] { system_interface.random_bits(); },
      [] { system_interface.wait(&word, 8); },
      [] { system_interface.wake(&word, 1); },
      [] { system_interface.sleep(1); },
      [] { system_interface.write(-1, "x", 1); },
      [] { system_interface.process_id(); },
      [] { system_interface.thread_id(); },
  };
  for (const auto& call : failing_calls) {
    errno = 12345;
    call();
    EXPECT_EQ(errno, 12345) << "call " << &call - failing_calls;
  }
}

// It asks once, so another test in this process may have come first.
TEST(LinuxOs, tells_the_bound_on_address_space_that_it_started_with) {
  const auto is_told = [] {
    const rlimit limit{std::size_t{1} << 45, RLIM_INFINITY};
    setrlimit(RLIMIT_AS, &limit);
    const std::size_t told = system_interface.address_space_limit();
    const rlimit other{std::size_t{1} << 44, RLIM_INFINITY};
    setrlimit(RLIMIT_AS, &other);
    const bool is_kept = system_interface.address_space_limit() == told;
    return !is_kept ? 1 : told == std::size_t{1} << 45 ? 0 : 77;
  };
  const int status = test::status_of_child(is_told);
  if (status == 77) {
    GTEST_SKIP() << "it was asked before";
  }
  EXPECT_EQ(status, 0);
}

TEST(LinuxOs, clock_never_goes_back) {
  std::uint64_t last = system_interface.now_milliseconds();
  const std::uint64_t start = last;
  while (last < start + 20) {
    const std::uint64_t next = system_interface.now_milliseconds();
    ASSERT_GE(next, last);
    last = next;
  }
}

TEST(LinuxOs, sleeps_for_the_time_asked_for) {
  for (const std::uint32_t microseconds : {1'000u, 1'020'000u}) {
    const auto start = std::chrono::steady_clock::now();
    system_interface.sleep(microseconds);
    const auto slept = std::chrono::steady_clock::now() - start;
    EXPECT_GE(slept, std::chrono::microseconds(microseconds));
  }
}

TEST(LinuxOs, writes_all_of_a_text) {
  int ends[2];
  ASSERT_EQ(pipe(ends), 0);
  EXPECT_EQ(system_interface.write(ends[1], "slab", 4), 4u);
  char text[5] = {};
  EXPECT_EQ(read(ends[0], text, 4), 4);
  EXPECT_STREQ(text, "slab");
  close(ends[0]);
  close(ends[1]);
}

TEST(LinuxOs, random_bits_stay_the_same_in_one_run) {
  EXPECT_EQ(system_interface.random_bits(), system_interface.random_bits());
}

TEST(LinuxOs, threads_and_processes_have_numbers_of_their_own) {
  EXPECT_EQ(system_interface.process_id(), static_cast<std::uint32_t>(getpid()));
  std::uint32_t other = 0;
  std::thread([&] { other = system_interface.thread_id(); }).join();
  EXPECT_NE(other, system_interface.thread_id());
}

TEST(LinuxOs, mappings_that_may_be_huge_are_zero_and_end_as_others) {
  for (const std::size_t bytes : {os_page_bytes(), 2 * Tunables::huge_page_bytes}) {
    void* const memory = huge_page_interface.map(bytes);
    ASSERT_NE(memory, nullptr);
    EXPECT_TRUE(test::holds_zeroes(memory, bytes));
    EXPECT_TRUE(huge_page_interface.unmap(memory, bytes));
  }
}

}  // namespace
}  // namespace slabmalloc::os
