// SPDX-License-Identifier: MIT
//
// The malloc must stop incorrect programs (misuse_program.cpp) with SIGABRT and one line on stderr.
// The line names the kind of misuse and the address. The tests use small, medium, large and mapped
// blocks, from the thread that allocated and from another.
#include <gtest/gtest.h>

#include <algorithm>
#include <string>

#include "run_program.hpp"

namespace slabmalloc::test {
namespace {

const char* const double_free = "double free";
const char* const inside = "free of an address inside a block";
const char* const foreign = "free of an address that was never allocated";

struct Wrong {
  const char* name;
  const char* kind;
};

void PrintTo(const Wrong& wrong, std::ostream* stream) { *stream << wrong.name; }

class Misuse : public testing::TestWithParam<Wrong> {};

TEST_P(Misuse, stops_the_program_with_one_line) {
  const Form form = Form::preload;
  for (const std::size_t bytes : {64u, 4096u, 256u << 10, 64u << 20}) {
    for (const char* thread : {"same", "other"}) {
      SCOPED_TRACE(std::to_string(bytes) + " bytes, " + thread + " thread");
      const Outcome outcome = run(
          {program("misuse_program", form), GetParam().name, std::to_string(bytes), thread}, form);
      const std::string address = outcome.output.substr(0, outcome.output.find('\n'));
      const std::string kind = GetParam().kind;
      EXPECT_TRUE(outcome.died_of(SIGABRT)) << outcome;
      EXPECT_EQ(std::count(outcome.errors.begin(), outcome.errors.end(), '\n'), 1) << outcome;
      EXPECT_EQ(outcome.errors.find("slabmalloc: " + kind + ": address " + address), 0u) << outcome;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(
    Programs, Misuse,
    testing::Values(Wrong{"frees_twice_at_once", double_free},
                    Wrong{"frees_twice_with_its_neighbours_alive", double_free},
                    Wrong{"frees_twice_after_a_while", double_free},
                    Wrong{"frees_twice_with_another_free_in_between", double_free},
                    Wrong{"frees_a_block_that_another_thread_freed", double_free},
                    Wrong{"frees_a_reused_block_that_a_stale_free_has_freed", double_free},
                    Wrong{"frees_the_stack", foreign}, Wrong{"frees_a_static", foreign},
                    Wrong{"frees_a_function", foreign},
                    Wrong{"frees_the_middle_of_a_block", inside},
                    Wrong{"frees_an_unaligned_address", inside},
                    Wrong{"frees_the_last_byte_of_a_block", inside},
                    Wrong{"frees_a_neighbouring_region", foreign},
                    Wrong{"frees_a_far_address", foreign},
                    Wrong{"frees_an_address_of_the_kernel", foreign},
                    Wrong{"reallocates_a_freed_block", double_free},
                    Wrong{"reallocates_the_middle_of_a_block", inside},
                    Wrong{"asks_the_size_of_a_freed_block", double_free},
                    Wrong{"asks_the_size_of_the_middle_of_a_block", inside},
                    Wrong{"deletes_an_object_twice", double_free}),
    [](const auto& wrong) { return std::string(wrong.param.name); });

TEST(MisuseForms, linked_programs_are_stopped_as_well) {
  for (const Form form : {Form::fixed, Form::override}) {
    for (const char* name : {"frees_twice_at_once", "frees_the_stack"}) {
      const Outcome outcome = run({program("misuse_program", form), name, "64", "same"}, form);
      EXPECT_TRUE(outcome.died_of(SIGABRT)) << outcome;
      EXPECT_EQ(outcome.errors.find("slabmalloc: "), 0u) << outcome;
    }
  }
}

TEST(MisuseForms, a_program_whose_stderr_is_closed_is_stopped_as_well) {
  Surroundings closed;
  closed.in_child = [] { close(2); };
  const Outcome outcome =
      run({program("misuse_program", Form::preload), "frees_twice_at_once", "64", "same"},
          Form::preload, closed);
  EXPECT_TRUE(outcome.died_of(SIGABRT)) << outcome;
}

}  // namespace
}  // namespace slabmalloc::test
