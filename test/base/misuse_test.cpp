// SPDX-License-Identifier: MIT
#include "slabmalloc/base/misuse.hpp"

#include <gtest/gtest.h>

#include <cstddef>
#include <iterator>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "support/misuse_recorder.hpp"

namespace slabmalloc {
namespace {

constexpr MisuseKind kinds[] = {MisuseKind::DoubleFree, MisuseKind::MisalignedFree,
                                MisuseKind::ForeignPointer, MisuseKind::SizeMismatch,
                                MisuseKind::InvalidPage};

void ignore_misuse(const Misuse&) noexcept {}

TEST(Misuse, each_kind_has_words_of_its_own) {
  std::set<std::string> words;
  for (const MisuseKind kind : kinds) {
    words.insert(describe(kind));
  }
  EXPECT_EQ(words.size(), std::size(kinds));
  EXPECT_EQ(words.count(""), 0u);
}

TEST(Misuse, the_hook_receives_every_detail) {
  test::MisuseRecorder recorder;
  const int block = 0;
  for (const MisuseKind kind : kinds) {
    report_misuse({kind, &block, 64, 17});
  }
  const std::vector<Misuse> reports = recorder.take();
  ASSERT_EQ(reports.size(), std::size(kinds));
  for (std::size_t index = 0; index < reports.size(); ++index) {
    EXPECT_EQ(reports[index].kind, kinds[index]);
    EXPECT_EQ(reports[index].address, &block);
    EXPECT_EQ(reports[index].object_size, 64u);
    EXPECT_EQ(reports[index].slot, 17u);
  }
}

TEST(Misuse, setting_a_hook_returns_the_one_before) {
  const MisuseHandler original = set_misuse_handler(&ignore_misuse);
  EXPECT_EQ(set_misuse_handler(original), &ignore_misuse);
  test::MisuseRecorder recorder;
  EXPECT_NE(set_misuse_handler(&ignore_misuse), &ignore_misuse);
}

TEST(Misuse, every_thread_reports_to_the_same_hook) {
  test::MisuseRecorder recorder;
  std::vector<std::thread> threads;
  for (int thread = 0; thread < 3; ++thread) {
    threads.emplace_back([] {
      for (int round = 0; round < 100; ++round) {
        report_misuse({MisuseKind::DoubleFree, nullptr, 0, 0});
      }
    });
  }
  for (std::thread& thread : threads) {
    thread.join();
  }
  EXPECT_EQ(recorder.take_count(MisuseKind::DoubleFree), 300u);
}

TEST(MisuseDeathTest, without_a_hook_the_program_stops) {
  EXPECT_DEATH(report_misuse({MisuseKind::DoubleFree, nullptr, 0, 0}), "");
}

TEST(MisuseDeathTest, a_null_hook_restores_the_default) {
  EXPECT_DEATH(
      {
        set_misuse_handler(&ignore_misuse);
        set_misuse_handler(nullptr);
        report_misuse({MisuseKind::DoubleFree, nullptr, 0, 0});
      },
      "");
}

}  // namespace
}  // namespace slabmalloc
