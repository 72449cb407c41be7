// SPDX-License-Identifier: MIT
//
// The handlers of faults: they report wrong accesses to guarded blocks, and treat the program's
// own handlers as the system would. Each test's faults are those of a child.
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <cstddef>
#include <vector>

#include "malloc/guarded_blocks.hpp"
#include "malloc/heap.hpp"
#include "slabmalloc/slabmalloc.h"
#include "support/child.hpp"
#include "support/misuse_recorder.hpp"

namespace slabmalloc {
namespace {

constexpr std::size_t bytes = 100;

/// A guarded block; the program's handlers, if any, are set before.
char* guarded() {
  slabmalloc_guard(1, 0);
  return static_cast<char*>(heap::allocate(bytes));
}
char* freed() {
  char* const block = guarded();
  heap::deallocate(block);
  return block;
}
void read(const char* address) { (void)*const_cast<const volatile char*>(address); }
void write(char* address) { *const_cast<volatile char*>(address) = 'x'; }

const testing::KilledBySignal dies(SIGSEGV);

TEST(GuardedFaultsDeathTest, are_reported_with_what_the_access_did) {
  EXPECT_EXIT(read(freed() + 5), dies,
              "use after free: [a-z]+ at 0x[0-9a-f]+, 5 bytes into a freed 100-byte block");
  EXPECT_EXIT(write(freed()), dies, "use after free: .*, 0 bytes into a freed");
  EXPECT_EXIT(write(guarded() + 4096), dies, "overflow: .* beyond the end of a 100-byte");
  EXPECT_EXIT(write(guarded() - 4096), dies, "underflow: .* before the start of a 100-byte");
  EXPECT_EXIT(
      {
        char* const block = guarded();
        // No block was ever near the last of the places.
        read(block + (tunables.guarded_places - 4) * std::size_t{9} * 4096);
      },
      dies, "where no block ever was");
}

TEST(GuardedBlocksOfTheHeap, have_the_bytes_asked_for_in_each_call) {
  EXPECT_EQ(test::status_of_child([] {
              test::MisuseRecorder misuse;
              char* const block = guarded();
              EXPECT_EQ(heap::usable_bytes(block), bytes);
              EXPECT_EQ(heap::reallocate(block, bytes), block);
              heap::deallocate_any_sized(block, 5000, 16, Call::FreeSized);
              EXPECT_EQ(misuse.take_kinds(), std::vector{MisuseKind::SizeMismatch});
              heap::deallocate_any_sized(block, bytes, 16, Call::FreeSized);
              EXPECT_TRUE(misuse.take().empty());
              EXPECT_EQ(heap::usable_bytes(block), 0u);
              EXPECT_EQ(heap::reallocate(block, bytes), nullptr);
              EXPECT_EQ(misuse.take_kinds(),
                        (std::vector{MisuseKind::DoubleFree, MisuseKind::DoubleFree}));
              return 0;
            }),
            0);
}

/// What a handler of the program does.
void end_with_7(int) { _exit(7); }
void end_with_8(int, siginfo_t*, void*) { _exit(8); }
void do_nothing(int) {}

void set_handler(void (*handler)(int), int flags) {
  struct sigaction action = {};
  action.sa_handler = handler;
  action.sa_flags = flags;
  sigaction(SIGSEGV, &action, nullptr);
}

TEST(GuardedFaultsDeathTest, reach_the_programs_own_handler_after_the_report) {
  EXPECT_EXIT(
      {
        set_handler(end_with_7, 0);
        read(freed());
      },
      testing::ExitedWithCode(7), "use after free");
  EXPECT_EXIT(
      {
        struct sigaction action = {};
        action.sa_sigaction = end_with_8;
        action.sa_flags = SA_SIGINFO;
        sigaction(SIGSEGV, &action, nullptr);
        read(freed());
      },
      testing::ExitedWithCode(8), "use after free");
}

TEST(GuardedFaultsDeathTest, end_the_program_where_its_handler_serves_but_once) {
  EXPECT_EXIT(
      {
        set_handler(do_nothing, static_cast<int>(SA_RESETHAND));
        read(freed());
      },
      dies, "use after free");
}

TEST(GuardedFaultsDeathTest, that_are_sent_do_what_the_program_chose) {
  EXPECT_EXIT(
      {
        set_handler(SIG_IGN, 0);
        guarded();
        raise(SIGSEGV);
        _exit(3);
      },
      testing::ExitedWithCode(3), "");
  EXPECT_EXIT(
      {
        set_handler(SIG_DFL, 0);
        guarded();
        raise(SIGSEGV);
        _exit(3);
      },
      dies, "");
}

}  // namespace
}  // namespace slabmalloc
