// SPDX-License-Identifier: MIT
//
// Guarded blocks in programs (guarded_program.cpp): each wrong access ends the program where it
// happens, after a report of the access, the allocation and the free.
#include <gtest/gtest.h>

#include <regex>
#include <string>

#include "run_program.hpp"

namespace slabmalloc::test {
namespace {

struct Mistake {
  const char* name;
  int signal;
  const char* first_line;  ///< A regular expression.
  bool is_freed;           ///< The report has the free.
};

void PrintTo(const Mistake& mistake, std::ostream* stream) { *stream << mistake.name; }

#if defined(__x86_64__)
#define READ "read"
#define WRITE "write"
#else
#define READ "access"
#define WRITE "access"
#endif

const Mistake mistakes[] = {
    {"reads_after_free", SIGSEGV,
     "use after free: " READ " at 0x[0-9a-f]+, 5 bytes into a freed 100-byte block", true},
    {"writes_after_free", SIGSEGV,
     "use after free: " WRITE " at 0x[0-9a-f]+, 99 bytes into a freed 100-byte block", true},
    {"runs_beyond_the_end", SIGSEGV,
     "overflow: " WRITE " at 0x[0-9a-f]+, [0-9]+ bytes beyond the end of a 100-byte block", false},
    {"runs_before_the_start", SIGSEGV,
     "underflow: " READ " at 0x[0-9a-f]+, [0-9]+ bytes before the start of a 100-byte block",
     false},
    {"writes_one_byte_behind", SIGABRT,
     "write beyond the end of a 100-byte block at 0x[0-9a-f]+: free\\(\\) found it", false},
    {"frees_twice", SIGABRT,
     "double free of a 100-byte block at 0x[0-9a-f]+: free\\(\\) got a block that is free already",
     true},
    {"frees_the_middle", SIGABRT,
     "free of an address inside a 100-byte block: free\\(\\) got 0x[0-9a-f]+, 8 bytes into it",
     false},
    {"reallocates_after_free", SIGABRT,
     "use after free of a 100-byte block at 0x[0-9a-f]+: realloc\\(\\) got a block that is free "
     "already",
     true},
};

Outcome run_guarded(const std::string& name, Form form, const std::string& more_options = "") {
  Surroundings surroundings;
  surroundings.environment = {"SLABMALLOC_OPTIONS=guard_one_in:1" + more_options};
  return run({program("guarded_program", form), name}, form, surroundings);
}

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

/// The lines of the report between the line that begins with `title` and the next title.
std::string calls_below(const std::string& report, const std::string& title) {
  const std::size_t begin = report.find("\n" + title);
  if (begin == std::string::npos) {
    return "";
  }
  const std::size_t first = report.find('\n', begin + 1);
  const std::size_t end = report.find(":\n", first);
  return report.substr(first, end - first);
}

class Guarded : public testing::TestWithParam<Mistake> {};

INSTANTIATE_TEST_SUITE_P(Programs, Guarded, testing::ValuesIn(mistakes),
                         [](const auto& mistake) { return std::string(mistake.param.name); });

TEST_P(Guarded, stops_the_program_with_a_report_of_access_allocation_and_free) {
  for (const Form form : {Form::preload, Form::fixed, Form::override}) {
    const Outcome outcome = run_guarded(GetParam().name, form);
    EXPECT_TRUE(outcome.died_of(GetParam().signal)) << outcome;
    const std::string line = outcome.errors.substr(0, outcome.errors.find('\n'));
    EXPECT_TRUE(
        std::regex_match(line, std::regex(std::string("slabmalloc: ") + GetParam().first_line)))
        << outcome;
    // The program exports its functions, so that their names are in the report.
    EXPECT_TRUE(contains(calls_below(outcome.errors, "back trace of the "), "make_the_mistake"))
        << outcome;
    EXPECT_TRUE(contains(calls_below(outcome.errors, "allocated by thread "), "make_a_block"))
        << outcome;
    EXPECT_EQ(contains(calls_below(outcome.errors, "freed by thread "), "drop_the_block"),
              GetParam().is_freed)
        << outcome;
  }
}

TEST(GuardedPrograms, without_back_traces_have_the_facts_alone) {
  const Outcome outcome = run_guarded("reads_after_free", Form::preload, ",no_backtrace");
  EXPECT_TRUE(outcome.died_of(SIGSEGV)) << outcome;
  EXPECT_TRUE(contains(outcome.errors, "use after free")) << outcome;
  EXPECT_FALSE(contains(outcome.errors, "allocated by thread")) << outcome;
}

TEST(GuardedPrograms, keep_their_own_handlers_of_faults) {
  const auto run_plain = [](const char* name) {
    return run({program("guarded_program", Form::preload), name}, Form::preload);
  };
  // A call turns guarding on. The report comes first, and the program's handler has the last word.
  const Outcome guarded = run_plain("reads_after_free_with_a_handler");
  EXPECT_TRUE(guarded.exited_with(42)) << guarded;
  EXPECT_TRUE(contains(guarded.errors, "use after free")) << guarded;
  const Outcome other = run_plain("faults_elsewhere_with_a_handler");
  EXPECT_TRUE(other.exited_with(42)) << other;
  EXPECT_EQ(other.errors, "");
}

/// A program with handlers of its own, and how it should end.
struct Handling {
  const char* name;
  int exit_status;  ///< 0: SIGSEGV ends it.
  const char* output;
};

void PrintTo(const Handling& handling, std::ostream* stream) { *stream << handling.name; }

const Handling handlings[] = {
    {"resets_its_handler", 0, "handled\n"},
    {"resets_its_handler_of_sent_signals", 0, "handled\n"},
    {"blocks_signals_in_its_handler", 42, ""},
    {"lets_faults_interrupt_its_handler", 42, ""},
    {"jumps_out_of_its_handler", 42, ""},
    {"is_interrupted_by_faults", 43, ""},
    {"goes_on_after_faults", 42, ""},
    {"goes_on_after_ignored_faults", 42, ""},
    {"gets_a_fault_while_guarding_begins", 42, "handled\n"},
};

class GuardedHandling : public testing::TestWithParam<Handling> {};

INSTANTIATE_TEST_SUITE_P(Programs, GuardedHandling, testing::ValuesIn(handlings),
                         [](const auto& handling) { return std::string(handling.param.name); });

TEST_P(GuardedHandling, is_that_of_the_program) {
  const Outcome outcome =
      run({program("guarded_program", Form::preload), GetParam().name}, Form::preload);
  EXPECT_TRUE(GetParam().exit_status == 0 ? outcome.died_of(SIGSEGV)
                                          : outcome.exited_with(GetParam().exit_status))
      << outcome;
  EXPECT_EQ(outcome.output, GetParam().output);
  EXPECT_EQ(outcome.errors, "");
}

TEST(GuardedPrograms, that_ignore_sent_faults_are_still_guarded) {
  const Outcome outcome =
      run({program("guarded_program", Form::preload), "ignores_sent_faults"}, Form::preload);
  EXPECT_TRUE(outcome.died_of(SIGSEGV)) << outcome;
  EXPECT_EQ(outcome.output, "handled\n");
  EXPECT_TRUE(contains(outcome.errors, "use after free")) << outcome;
}

TEST(GuardedPrograms, are_guarded_by_a_second_call_if_the_first_got_no_handlers) {
  const Outcome outcome = run(
      {program("guarded_program", Form::preload), "guards_again_after_a_refusal"}, Form::preload);
  EXPECT_TRUE(outcome.died_of(SIGSEGV)) << outcome;
  EXPECT_TRUE(contains(outcome.errors, "use after free")) << outcome;
}

TEST(GuardedPrograms, end_after_the_report_though_a_second_thread_faults_meanwhile) {
  const Outcome outcome = run_guarded("faults_on_two_threads", Form::preload);
  EXPECT_TRUE(outcome.died_of(SIGSEGV)) << outcome;
  EXPECT_TRUE(contains(outcome.errors, "use after free")) << outcome;
  EXPECT_TRUE(contains(calls_below(outcome.errors, "freed by thread "), "drop_the_block"))
      << outcome;
}

TEST(GuardedPrograms, may_have_unwind_tables_of_their_own) {
  const Outcome outcome =
      run({program("guarded_program", Form::preload), "frees_with_unwind_tables_of_its_own"},
          Form::preload);
  EXPECT_TRUE(outcome.exited_with(42)) << outcome;
  const Outcome wrong =
      run({program("guarded_program", Form::preload), "frees_twice_with_unwind_tables_of_its_own"},
          Form::preload);
  EXPECT_TRUE(wrong.died_of(SIGABRT)) << wrong;
  EXPECT_TRUE(contains(calls_below(wrong.errors, "back trace of the call"), "drop_the_block"))
      << wrong;
}

TEST(GuardedPrograms, die_of_other_faults_and_of_signals_that_are_sent_as_ever) {
  for (const char* const name : {"faults_elsewhere", "sends_itself_a_fault"}) {
    const Outcome outcome = run_guarded(name, Form::preload);
    EXPECT_TRUE(outcome.died_of(SIGSEGV)) << outcome;
    EXPECT_EQ(outcome.errors, "");
  }
}

TEST(GuardedPrograms, run_as_ever_if_they_make_no_mistake) {
  for (const char* const more : {"", ",guard_places:1", ",guard_places:5000"}) {
    const Outcome outcome = run_guarded("works_with_threads_and_forks", Form::preload, more);
    EXPECT_TRUE(outcome.exited_with(0)) << outcome;
    EXPECT_EQ(outcome.errors, "");
  }
}

}  // namespace
}  // namespace slabmalloc::test
