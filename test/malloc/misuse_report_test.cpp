// SPDX-License-Identifier: MIT
//
// The report of each kind of misuse, with all that may be known of the block. Each is made in a
// process of its own, which it ends.
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <sstream>
#include <string>

#include "malloc/call.hpp"
#include "malloc/guarded_blocks.hpp"
#include "malloc/options.hpp"
#include "malloc/report.hpp"
#include "support/child.hpp"

namespace slabmalloc {
namespace {

/// What `work` writes to stderr, in a process of its own that ends as status_of_child() has it.
template <class Work>
std::string errors_of(const Work& work, int expected_status) {
  int ends[2] = {};
  EXPECT_EQ(pipe(ends), 0);
  const int status = test::status_of_child([&] {
    dup2(ends[1], STDERR_FILENO);
    work();
    return 0;
  });
  EXPECT_EQ(status, expected_status);
  close(ends[1]);
  std::string text;
  char some[512];
  for (ssize_t bytes = 0; (bytes = read(ends[0], some, sizeof some)) > 0;) {
    text.append(some, static_cast<std::size_t>(bytes));
  }
  close(ends[0]);
  return text;
}

/// What report_misuse_and_abort() writes of `misuse`, which `call` made.
std::string report_of(const Misuse& misuse, Call call, bool with_back_trace = false) {
  constexpr int by_a_signal = -1;
  return errors_of(
      [&] {
        options.back_trace = with_back_trace;
        noted_call = {misuse.address, call};
        report_misuse_and_abort(misuse);
      },
      by_a_signal);
}

bool has(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

const auto* const block = reinterpret_cast<const std::byte*>(std::uintptr_t{0x123450});
constexpr int calls = static_cast<int>(Call::ZoneDestroy) + 1;
constexpr int kinds = static_cast<int>(MisuseKind::WrongContext) + 1;
constexpr int states = static_cast<int>(BlockState::NeverAllocated) + 1;

TEST(MisuseReport, has_a_headline_and_only_the_facts_that_are_known) {
  int number = 0;
  for (int kind = 0; kind < kinds; ++kind) {
    for (int state = 0; state < states; ++state) {
      for (const int known : {0, 1, 2}) {
        const bool is_write = static_cast<MisuseKind>(kind) == MisuseKind::Overflow ||
                              static_cast<MisuseKind>(kind) == MisuseKind::WriteAfterFree;
        if (is_write && known == 0) {
          continue;  // The finder knows the block.
        }
        const Call call = static_cast<Call>(number % calls);
        const auto found_at = static_cast<FoundAt>(number++ / calls % 3);
        Misuse misuse{static_cast<MisuseKind>(kind), block + (known == 2 ? 8 : 0), 64, 3};
        misuse.block = known != 0 ? block : nullptr;
        misuse.state = static_cast<BlockState>(state);
        misuse.found_at = found_at;
        misuse.given_size = 100;
        misuse.allocated_by = "operator new";
        const std::string text = report_of(misuse, call);
        SCOPED_TRACE(text);
        ASSERT_EQ(text.rfind("slabmalloc: ", 0), 0u);
        ASSERT_EQ(text.back(), '\n');
        EXPECT_TRUE(has(text, "  address   0x12345" + std::string(known == 2 ? "8" : "0") + "\n"));
        EXPECT_EQ(has(text, "  block     64 bytes"), known != 0);
        EXPECT_EQ(has(text, "  call      "), found_at == FoundAt::Call && call != Call::Unknown);
        EXPECT_EQ(has(text, "  found     later"), found_at != FoundAt::Call);
        EXPECT_EQ(has(text, "  size      "),
                  misuse.kind == MisuseKind::Overflow ||
                      (misuse.kind == MisuseKind::SizeMismatch && known != 0));
        EXPECT_TRUE(has(text, "  program   ") && has(text, "  next      "));
        if (found_at == FoundAt::Call && call != Call::Unknown) {
          EXPECT_TRUE(has(text, name_of(call)));
        }
        std::istringstream lines(text);
        std::string line;
        std::getline(lines, line);
        EXPECT_TRUE(has(line, "0x12345"));
        while (std::getline(lines, line)) {
          EXPECT_EQ(line.rfind("  ", 0), 0u) << line;
        }
      }
    }
  }
}

struct Headline {
  MisuseKind kind;
  BlockState state;
  Call call;
  const char* text;
};
constexpr Headline headlines[] = {
    {MisuseKind::DoubleFree, BlockState::Freed, Call::Free, "double free of a 64-byte block at"},
    {MisuseKind::DoubleFree, BlockState::Freed, Call::Realloc, "use after free of a 64-byte block"},
    {MisuseKind::DoubleFree, BlockState::NeverAllocated, Call::Free, "free of an unallocated"},
    {MisuseKind::ForeignPointer, BlockState::NoBlock, Call::Free, "an address that is no block"},
    {MisuseKind::ForeignPointer, BlockState::NoBlock, Call::UsableSize, "use of an address that"},
    {MisuseKind::SizeMismatch, BlockState::InUse, Call::Delete, "with the wrong size"},
    {MisuseKind::Overflow, BlockState::InUse, Call::Free,
     "write beyond the end of a 64-byte block"},
    {MisuseKind::WriteAfterFree, BlockState::Free, Call::Free, "write into a freed 64-byte block"},
    {MisuseKind::MismatchedFree, BlockState::InUse, Call::Free, "by the wrong function"},
};

TEST(MisuseReport, says_first_what_was_wrong) {
  for (const Headline& expected : headlines) {
    Misuse misuse{expected.kind, block, 64, 3, block, expected.state};
    misuse.allocated_by = "operator new";
    const std::string text = report_of(misuse, expected.call);
    EXPECT_TRUE(has(text.substr(0, text.find('\n')), expected.text)) << text;
  }
}

TEST(MisuseReport, ends_with_a_back_trace_if_options_allow_it) {
  const Misuse misuse{MisuseKind::DoubleFree, block, 64, 3, block, BlockState::Freed};
  const std::string text = report_of(misuse, Call::Free, true);
  EXPECT_TRUE(has(text, "back trace of the call")) << text;
  EXPECT_GT(text.size(), report_of(misuse, Call::Free).size());
}

// Another thread may free the block and get a new one before the report.
TEST(FaultReport, of_a_live_block_says_that_it_may_be_a_later_one) {
  const std::string text = errors_of(
      [] {
        options.back_trace = false;
        auto* const guarded = static_cast<std::byte*>(guarded_blocks.allocate(100, 16, {}));
        report_fault(guarded + 5, FaultingAccess::Read);
      },
      0);
  EXPECT_EQ(text.rfind("slabmalloc: read at 0x", 0), 0u) << text;
  EXPECT_TRUE(
      has(text, " of memory that was inaccessible then; the block here now may be a later "))
      << text;
  EXPECT_TRUE(has(text, "  block     100 bytes at 0x")) << text;
  EXPECT_FALSE(has(text, "overflow")) << text;
}

}  // namespace
}  // namespace slabmalloc
