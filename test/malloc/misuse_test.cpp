// SPDX-License-Identifier: MIT
//
// The malloc must stop incorrect programs (misuse_program.cpp) with SIGABRT and a report on stderr.
// Its first line names the kind of misuse, the call, and the block or address. The tests use small,
// medium, large and mapped blocks, from the thread that allocated and from another.
#include <gtest/gtest.h>

#include <algorithm>
#include <regex>
#include <string>

#include "run_program.hpp"

namespace slabmalloc::test {
namespace {

// The beginnings of the first lines.
const char* const double_free = "double free ";
const char* const used_free = "use after free ";
const char* const inside = "free of an address inside a ";
const char* const used_inside = "use of an address inside a ";
const char* const no_block = "free of an address that is no block: ";

struct Wrong {
  const char* name;
  const char* kind;
  const char* call = "free()";
};

void PrintTo(const Wrong& wrong, std::ostream* stream) { *stream << wrong.name; }

Outcome run_wrong(const std::string& name, const std::string& bytes, const std::string& thread,
                  const Surroundings& surroundings = {}, Form form = Form::preload) {
  return run({program("misuse_program", form), name, bytes, thread}, form, surroundings);
}

/// The value of the line `name` of a report; empty if there is none.
std::string fact(const Outcome& outcome, const std::string& name) {
  std::smatch match;
  const std::regex line("\n  " + name + " +([^\n]*)\n");
  return std::regex_search(outcome.errors, match, line) ? match[1].str() : "";
}
std::string first_line(const std::string& text) { return text.substr(0, text.find('\n')); }

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

class Misuse : public testing::TestWithParam<Wrong> {};

TEST_P(Misuse, stops_the_program_with_a_report_of_call_address_and_kind) {
  for (const std::size_t bytes : {64u, 4096u, 256u << 10, 64u << 20}) {
    for (const char* thread : {"same", "other"}) {
      SCOPED_TRACE(std::to_string(bytes) + " bytes, " + thread + " thread");
      const Outcome outcome = run_wrong(GetParam().name, std::to_string(bytes), thread);
      EXPECT_TRUE(outcome.died_of(SIGABRT)) << outcome;
      EXPECT_EQ(outcome.errors.find(std::string("slabmalloc: ") + GetParam().kind), 0u) << outcome;
      EXPECT_EQ(fact(outcome, "address"), first_line(outcome.output)) << outcome;
      EXPECT_TRUE(contains(fact(outcome, "program"), "misuse_program_preload, process "))
          << outcome;
      EXPECT_TRUE(contains(fact(outcome, "next"), "-fsanitize=address")) << outcome;
      const std::string line = first_line(outcome.errors);
      if (fact(outcome, "found").empty()) {
        EXPECT_EQ(fact(outcome, "call"), GetParam().call) << outcome;
        EXPECT_TRUE(contains(line, std::string(": ") + GetParam().call + " got ")) << outcome;
      } else {
        EXPECT_EQ(fact(outcome, "call"), "") << "the report comes from another call" << outcome;
        EXPECT_TRUE(contains(line, ": an earlier call got ")) << outcome;
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(
    Programs, Misuse,
    testing::Values(
        Wrong{"frees_twice_at_once", double_free},
        Wrong{"frees_twice_with_its_neighbours_alive", double_free},
        Wrong{"frees_twice_after_a_while", double_free},
        Wrong{"frees_twice_with_another_free_in_between", double_free},
        Wrong{"frees_a_block_that_another_thread_freed", double_free},
        Wrong{"frees_a_reused_block_that_a_stale_free_has_freed", double_free},
        Wrong{"frees_the_stack", no_block}, Wrong{"frees_a_static", no_block},
        Wrong{"frees_a_function", no_block}, Wrong{"frees_the_middle_of_a_block", inside},
        Wrong{"frees_an_unaligned_address", inside},
        Wrong{"frees_the_last_byte_of_a_block", inside},
        Wrong{"frees_a_neighbouring_region", no_block}, Wrong{"frees_a_far_address", no_block},
        Wrong{"frees_an_address_of_the_kernel", no_block},
        Wrong{"reallocates_a_freed_block", used_free, "realloc()"},
        Wrong{"reallocates_the_middle_of_a_block", used_inside, "realloc()"},
        Wrong{"reallocates_a_freed_block_to_nothing", double_free, "realloc() to 0 bytes"},
        Wrong{"asks_the_size_of_a_freed_block", used_free, "malloc_usable_size()"},
        Wrong{"asks_the_size_of_the_middle_of_a_block", used_inside, "malloc_usable_size()"},
        Wrong{"deletes_an_object_twice", double_free, "operator delete"},
        Wrong{"deletes_an_object_with_half_its_size", "free of a ", "operator delete"},
        Wrong{"frees_a_block_with_twice_its_size", "free of a ", "free_sized()"},
        Wrong{"frees_an_aligned_block_with_twice_its_size", "free of a ", "free_aligned_sized()"}),
    [](const auto& wrong) { return std::string(wrong.param.name); });

TEST(MisuseReport, states_the_block_that_holds_an_address) {
  const Outcome outcome = run_wrong("frees_an_unaligned_address", "64", "same");
  const std::string address = first_line(outcome.output);
  ASSERT_EQ(address.back(), '1');
  const std::string block = address.substr(0, address.size() - 1) + '0';
  EXPECT_EQ(first_line(outcome.errors),
            "slabmalloc: free of an address inside a 64-byte block: "
            "free() got " +
                address + ", 1 bytes into it");
  EXPECT_EQ(fact(outcome, "block"),
            "64 bytes (a size class) at " + block + "; the address is 1 bytes into it");
  EXPECT_TRUE(contains(fact(outcome, "state"), "in use; another block may have started at the"))
      << outcome;
}

TEST(MisuseReport, tells_a_double_free_from_a_free_of_a_block_that_was_never_allocated) {
  const Outcome freed = run_wrong("frees_twice_at_once", "64", "same");
  EXPECT_EQ(first_line(freed.errors), "slabmalloc: double free of a 64-byte block at " +
                                          first_line(freed.output) +
                                          ": free() got a block that is free already");
  EXPECT_EQ(fact(freed, "state"), "free: it was freed before");
  const Outcome never = run_wrong("frees_a_block_that_was_never_allocated", "64", "same");
  EXPECT_TRUE(never.died_of(SIGABRT)) << never;
  EXPECT_EQ(never.errors.find("slabmalloc: free of an unallocated 64-byte block at " +
                              first_line(never.output) + ": "),
            0u)
      << never;
  EXPECT_EQ(fact(never, "state"), "free: it was never allocated since this memory came into use");
  // Another thread does not know how far the owner has got.
  const Outcome unknown = run_wrong("frees_a_block_that_was_never_allocated", "64", "other");
  EXPECT_TRUE(unknown.died_of(SIGABRT)) << unknown;
  EXPECT_TRUE(contains(first_line(unknown.errors), "or it was never allocated")) << unknown;
}

TEST(MisuseReport, states_the_size_in_the_call_beside_those_of_the_block) {
  const Outcome outcome = run_wrong("deletes_an_object_as_its_base", "0", "same");
  EXPECT_TRUE(outcome.died_of(SIGABRT)) << outcome;
  EXPECT_EQ(first_line(outcome.errors), "slabmalloc: free of a 128-byte block at " +
                                            first_line(outcome.output) +
                                            " with the wrong size: operator delete got 20 bytes");
  EXPECT_EQ(
      fact(outcome, "size"),
      "20 bytes in the call; allocated with 113 to 128, or with fewer and a larger alignment");
  EXPECT_EQ(fact(outcome, "state"), "in use");
  EXPECT_TRUE(contains(fact(outcome, "next"), "virtual destructor")) << outcome;
  Surroundings ignoring;
  ignoring.environment = {"SLABMALLOC_OPTIONS=no_size_check"};
  EXPECT_TRUE(run_wrong("deletes_an_object_as_its_base", "0", "same", ignoring).exited_with(3));
  const Outcome large = run_wrong("frees_a_block_with_twice_its_size", "100000", "same");
  EXPECT_TRUE(contains(fact(large, "size"), "200000 bytes in the call; allocated with 98305 to"))
      << large;
}

TEST(MisuseReport, says_that_it_comes_late) {
  const Outcome outcome = run_wrong("frees_a_block_that_another_thread_freed", "64", "same");
  EXPECT_TRUE(contains(fact(outcome, "found"), "later: this thread collected blocks")) << outcome;
  EXPECT_EQ(fact(outcome, "call"), "") << outcome;
  EXPECT_FALSE(contains(outcome.errors, "back trace of the call")) << outcome;
}

TEST(MisuseReport, does_not_say_that_a_large_block_freed_long_ago_was_never_allocated) {
  const std::string bytes = std::to_string(40u << 20);
  const Outcome old = run_wrong("frees_twice_after_many_others", bytes, "same");
  EXPECT_TRUE(old.died_of(SIGABRT)) << old;
  EXPECT_EQ(old.errors.find(std::string("slabmalloc: ") + no_block), 0u) << old;
  EXPECT_EQ(fact(old, "state"),
            "no live block starts here; a large one may have, which was freed long ago");
  const Outcome never = run_wrong("frees_the_stack", bytes, "same");
  EXPECT_EQ(fact(never, "state"), "no block of this malloc has ever started here");
}

TEST(MisuseReport, does_not_say_that_a_block_whose_memory_was_reused_was_never_allocated) {
  const Outcome outcome =
      run_wrong("frees_twice_after_other_blocks_took_its_memory", "65536", "same");
  EXPECT_TRUE(outcome.died_of(SIGABRT)) << outcome;
  EXPECT_EQ(outcome.errors.find("slabmalloc: free of an address inside a 20480-byte block: "), 0u)
      << outcome;
  EXPECT_EQ(fact(outcome, "state"),
            "in use; another block may have started at the address, before "
            "this memory was reused");
}

#ifdef __GLIBC__
TEST(MisuseReport, ends_with_a_back_trace_that_begins_in_the_program) {
  for (const char* name : {"frees_twice_at_once", "frees_a_block_that_another_thread_freed"}) {
    const Outcome outcome = run_wrong(name, "64", "same");
    std::smatch match;
    EXPECT_TRUE(outcome.died_of(SIGABRT)) << outcome;
    ASSERT_TRUE(std::regex_search(outcome.errors, match,
                                  std::regex("\nback trace of the ([^\n]*):\n([^\n]*)\n")))
        << outcome;
    EXPECT_EQ(match[1], contains(name, "twice") ? "call" : "finding, not of the bad call");
    EXPECT_TRUE(contains(match[2], "misuse_program_preload")) << outcome;
  }
}
#endif

TEST(MisuseReport, is_complete_if_the_cancellation_of_the_thread_is_pending) {
  const Outcome whole = run_wrong("frees_twice_at_once", "64", "same");
  const Outcome cancelled =
      run_wrong("frees_twice_while_its_cancellation_is_pending", "64", "same");
  EXPECT_TRUE(cancelled.died_of(SIGABRT)) << cancelled;
  EXPECT_EQ(fact(cancelled, "call"), "free()") << cancelled;
  EXPECT_FALSE(fact(cancelled, "next").empty()) << cancelled;
  const std::string title = "\nback trace of the call:\n";
  EXPECT_EQ(contains(cancelled.errors, title), contains(whole.errors, title)) << cancelled;
}

TEST(MisuseReport, has_no_back_trace_if_the_option_says_so) {
  Surroundings without;
  without.environment = {"SLABMALLOC_OPTIONS=no_backtrace"};
  const Outcome outcome = run_wrong("frees_twice_at_once", "64", "same", without);
  EXPECT_TRUE(outcome.died_of(SIGABRT)) << outcome;
  EXPECT_EQ(std::count(outcome.errors.begin(), outcome.errors.end(), '\n'), 7) << outcome;
  EXPECT_TRUE(contains(outcome.errors.substr(outcome.errors.size() - 30), "-fsanitize=address\n"))
      << outcome;
}

/// What the hardened library alone finds, and a part of what both find.
class HardenedMisuse : public testing::TestWithParam<Wrong> {};

TEST_P(HardenedMisuse, stops_the_program_with_a_report_of_its_kind) {
  for (const std::size_t bytes : {20u, 64u, 4096u}) {
    for (const char* thread : {"same", "other"}) {
      SCOPED_TRACE(std::to_string(bytes) + " bytes, " + thread + " thread");
      const Outcome outcome =
          run_wrong(GetParam().name, std::to_string(bytes), thread, {}, Form::hardened);
      EXPECT_TRUE(outcome.died_of(SIGABRT)) << outcome;
      EXPECT_EQ(outcome.errors.find(std::string("slabmalloc: ") + GetParam().kind), 0u) << outcome;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(
    Programs, HardenedMisuse,
    testing::Values(Wrong{"frees_twice_at_once", double_free},
                    Wrong{"frees_twice_after_a_while", double_free},
                    Wrong{"frees_a_block_that_another_thread_freed", double_free},
                    Wrong{"frees_the_stack", no_block},
                    Wrong{"frees_the_middle_of_a_block", inside},
                    Wrong{"deletes_an_object_with_half_its_size", "free of a "},
                    Wrong{"deletes_what_malloc_gave", "free of a block by the wrong function: "},
                    Wrong{"writes_one_byte_behind_a_block", "write beyond the end of a "}),
    [](const auto& wrong) { return std::string(wrong.param.name); });

TEST(HardenedReport, tells_of_a_write_into_a_block_that_its_thread_uses_again_or_not) {
  for (const char* name : {"writes_into_a_freed_block", "writes_into_a_freed_block_and_ends"}) {
    for (const char* bytes : {"20", "64", "4096"}) {
      const Outcome outcome = run_wrong(name, bytes, "same", {}, Form::hardened);
      EXPECT_TRUE(outcome.died_of(SIGABRT)) << outcome;
      EXPECT_EQ(outcome.errors.find("slabmalloc: write into a freed "), 0u) << outcome;
      EXPECT_TRUE(contains(first_line(outcome.errors), ", 1 bytes into it")) << outcome;
    }
  }
}

TEST(HardenedReport, states_the_bytes_asked_for_and_what_allocated_a_block) {
  const Outcome behind =
      run_wrong("writes_one_byte_behind_a_block", "20", "same", {}, Form::hardened);
  EXPECT_EQ(first_line(behind.errors), "slabmalloc: write beyond the end of a 32-byte block at " +
                                           first_line(behind.output) + ": free() found it");
  EXPECT_EQ(fact(behind, "size"), "20 bytes asked for; something wrote beyond them");
  const Outcome deleted = run_wrong("deletes_what_malloc_gave", "20", "same", {}, Form::hardened);
  EXPECT_EQ(first_line(deleted.errors),
            "slabmalloc: free of a block by the wrong function: operator delete got " +
                first_line(deleted.output) + ", a block of malloc() or its like");
  EXPECT_TRUE(contains(fact(deleted, "next"), "no_kind_check")) << deleted;
  const Outcome base = run_wrong("deletes_an_object_as_its_base", "0", "same", {}, Form::hardened);
  EXPECT_EQ(fact(base, "size"), "20 bytes in the call; allocated with 120");
}

TEST(HardenedTraps, end_the_program_at_once) {
  for (const char* name : {"reads_a_block_of_no_bytes", "writes_one_byte_behind_a_block"}) {
    const Outcome outcome = run_wrong(name, std::to_string(1u << 20), "same", {}, Form::hardened);
    EXPECT_TRUE(outcome.died_of(SIGSEGV)) << outcome;
  }
}

TEST(MisuseForms, linked_programs_are_stopped_as_well) {
  for (const Form form : {Form::fixed, Form::override}) {
    for (const char* name : {"frees_twice_at_once", "frees_the_stack"}) {
      const Outcome outcome = run_wrong(name, "64", "same", {}, form);
      EXPECT_TRUE(outcome.died_of(SIGABRT)) << outcome;
      EXPECT_EQ(outcome.errors.find("slabmalloc: "), 0u) << outcome;
    }
  }
}

TEST(MisuseForms, a_program_whose_stderr_is_closed_is_stopped_as_well) {
  Surroundings closed;
  closed.in_child = [] { close(2); };
  const Outcome outcome = run_wrong("frees_twice_at_once", "64", "same", closed);
  EXPECT_TRUE(outcome.died_of(SIGABRT)) << outcome;
}

}  // namespace
}  // namespace slabmalloc::test
