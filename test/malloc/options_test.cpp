// SPDX-License-Identifier: MIT
//
// What SLABMALLOC_OPTIONS may say, and what is told about what it may not.
#include "malloc/options.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>

#include "os/os.hpp"

namespace slabmalloc {
namespace {

std::string written;

/// Reads `text` from the defaults on; returns what was written to stderr.
std::string read(const char* text) {
  static os::Interface table = os::linux_interface;
  table.write = [](int descriptor, const char* bytes, std::size_t count) {
    EXPECT_EQ(descriptor, 2);
    written.append(bytes, count);
    return count;
  };
  options = Options{};
  written.clear();
  const os::Interface& before = os::replace_interface(table);
  read_options(text);
  os::replace_interface(before);
  return written;
}

std::ptrdiff_t lines(const std::string& text) { return std::count(text.begin(), text.end(), '\n'); }

TEST(Options, no_text_changes_nothing) {
  for (const char* text : {static_cast<const char*>(nullptr), "", ",", ",,,"}) {
    EXPECT_EQ(read(text), "");
    EXPECT_FALSE(options.wants_statistics());
  }
}

TEST(Options, keys_and_values_are_taken) {
  EXPECT_EQ(read("stats"), "");
  EXPECT_TRUE(options.stats);
  EXPECT_EQ(read("stats_file:/tmp/a"), "");
  EXPECT_FALSE(options.stats);
  EXPECT_STREQ(options.stats_file, "/tmp/a");
  EXPECT_EQ(read(",stats,,stats_file:a:b,"), "");
  EXPECT_TRUE(options.stats);
  EXPECT_STREQ(options.stats_file, "a:b");
  EXPECT_EQ(read("stats_file:first,stats_file:2"), "");
  EXPECT_STREQ(options.stats_file, "2");
  EXPECT_FALSE(options.huge_pages);
  EXPECT_EQ(read("huge_pages"), "");
  EXPECT_TRUE(options.huge_pages);
  EXPECT_TRUE(options.scavenging);
  EXPECT_EQ(read("no_scavenging"), "");
  EXPECT_FALSE(options.scavenging);
}

TEST(Options, the_nearest_key_is_offered_for_an_unknown_one) {
  for (const char* text : {"stat", "statz", "sttas", "Stats"}) {
    const std::string told = read(text);
    EXPECT_EQ(lines(told), 1);
    EXPECT_NE(told.find("did you mean 'stats'?"), std::string::npos) << told;
    EXPECT_NE(told.find(text), std::string::npos);
  }
  EXPECT_NE(read("stats-file:x").find("did you mean 'stats_file'?"), std::string::npos);
  EXPECT_NE(read("hlep").find("did you mean 'help'?"), std::string::npos);
}

TEST(Options, help_is_offered_where_no_key_is_near) {
  for (const std::string& text : {std::string("nothing_like_it"), std::string(100, 'x')}) {
    const std::string told = read(text.c_str());
    EXPECT_EQ(lines(told), 1);
    EXPECT_EQ(told.find("did you mean"), std::string::npos) << told;
    EXPECT_NE(told.find("'help'"), std::string::npos);
  }
}

TEST(Options, what_is_not_understood_is_skipped_and_the_rest_is_taken) {
  const std::string told = read("nonsense,stats,more nonsense:1");
  EXPECT_EQ(lines(told), 2);
  EXPECT_TRUE(options.stats);
}

TEST(Options, help_prints_every_key) {
  const std::string told = read("help");
  for (const char* key : {"stats:", "stats_file:PATH", "huge_pages:", "no_scavenging:", "help"}) {
    EXPECT_NE(told.find(key), std::string::npos) << told;
  }
}

TEST(Options, a_missing_or_needless_value_is_told) {
  for (const char* text : {"stats_file", "stats_file:", "stats:1", "stats:"}) {
    EXPECT_EQ(lines(read(text)), 1) << text;
    EXPECT_FALSE(options.wants_statistics()) << text;
  }
}

TEST(Options, a_path_too_long_is_told_and_not_cut) {
  const std::string fits(Options::path_bytes - 1, 'p');
  EXPECT_EQ(read(("stats_file:" + fits).c_str()), "");
  EXPECT_EQ(options.stats_file, fits);
  EXPECT_EQ(lines(read(("stats_file:p" + fits).c_str())), 1);
  EXPECT_STREQ(options.stats_file, "");
}

TEST(Options, an_unknown_key_longer_than_a_line_is_told_in_one_line) {
  const std::string told = read(std::string(5000, 'k').c_str());
  EXPECT_EQ(lines(told), 1) << told;
}

}  // namespace
}  // namespace slabmalloc
