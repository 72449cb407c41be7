// SPDX-License-Identifier: MIT
//
// Tests of SLABMALLOC_OPTIONS: the allowed entries, and the messages about others.
#include "malloc/options.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "malloc/option_text.hpp"
#include "malloc/read_options.hpp"
#include "tunables.hpp"

namespace slabmalloc {
namespace {

const std::string prefix = "slabmalloc: SLABMALLOC_OPTIONS: ";
constexpr auto read = &test::read_from_defaults;

const Option& option_named(const std::string& name) {
  const auto* const found =
      std::ranges::find_if(option_table, [&](const Option& option) { return option.name == name; });
  EXPECT_NE(found, std::end(option_table)) << name;
  return *found;
}

/// The current value, as the documents write it.
std::string value_of(const std::string& name) {
  return value_in(option_named(name), options, tunables).data();
}

/// The values of all options.
std::map<std::string, std::string> values() {
  std::map<std::string, std::string> result;
  for (const Option& option : option_table) {
    result[option.name] = value_of(option.name);
  }
  return result;
}

std::ptrdiff_t lines(const std::string& text) { return std::count(text.begin(), text.end(), '\n'); }

class OptionsTest : public testing::Test {
 protected:
  ~OptionsTest() override { read(""); }
};

const std::string longest_path(Options::path_bytes - 1, 'p');

struct Allowed {
  const char* option;
  std::string entry;
  std::string value;
};
const std::vector<Allowed> allowed{
    {"stats", "stats", "totals+classes"},
    {"stats", "stats:totals", "totals"},
    {"stats", "stats:classes", "classes"},
    {"stats", "stats:json", "json"},
    {"stats", "stats:json+totals", "totals+json"},
    {"stats", "stats:totals+totals", "totals"},
    {"stats", "stats:totals+classes+json", "totals+classes+json"},
    {"stats_file", "stats_file:/tmp/a", "/tmp/a"},
    {"stats_file", "stats_file:a:b", "a:b"},
    {"stats_file", "stats_file:" + longest_path.substr(0, 300), longest_path.substr(0, 300)},
    {"huge_pages", "huge_pages", "on"},
    {"no_scavenging", "no_scavenging", "on"},
    {"no_scavenging", "no_visits", "on"},
    {"deep_bind", "deep_bind", "on"},
    {"background_thread", "background_thread", "on"},
    {"no_backtrace", "no_backtrace", "on"},
    {"no_size_check", "no_size_check", "on"},
    {"no_kind_check", "no_kind_check", "on"},
    {"no_canaries", "no_canaries", "on"},
    {"no_clearing", "no_clearing", "on"},
    {"no_reuse_check", "no_reuse_check", "on"},
    {"no_zero_size_traps", "no_zero_size_traps", "on"},
    {"no_quarantine", "no_quarantine", "on"},
    {"no_random_order", "no_random_order", "on"},
    {"no_class_addresses", "no_class_addresses", "on"},
    {"no_guards", "no_guards", "on"},
    {"guard_one_in", "guard_one_in:0", "0"},
    {"guard_one_in", "guard_one_in:1000000000", "1000000000"},
    {"guard_bytes", "guard_bytes:0", "0"},
    {"guard_bytes", "guard_bytes:64M", "64M"},
    {"guard_places", "guard_places:1", "1"},
    {"guard_places", "guard_places:16384", "16384"},
    {"decay_ms", "decay_ms:0", "0"},
    {"decay_ms", "decay_ms:007", "7"},
    {"decay_ms", "decay_ms:60000", "60000"},
    {"scavenge_ms", "scavenge_ms:1", "1"},
    {"direct_threshold", "direct_threshold:65536", "64K"},
    {"direct_threshold", "direct_threshold:64K", "64K"},
    {"direct_threshold", "direct_threshold:64k", "64K"},
    {"direct_threshold", "direct_threshold:100000", "100000"},
    {"direct_threshold", "direct_threshold:3m", "3M"},
    {"direct_threshold", "direct_threshold:3M", "3M"},
    {"direct_threshold", "direct_threshold:1g", "1G"},
    {"direct_threshold", "direct_threshold:1G", "1G"},
    {"direct_threshold", "direct_threshold:1048576K", "1G"},
    {"huge_threshold", "huge_threshold:0", "0"},
    {"huge_threshold", "huge_threshold:1024G", "1024G"},
    {"soft_limit", "soft_limit:1M", "1M"},
    {"soft_limit", "soft_limit:1500000k", "1500000K"},
    {"hard_limit", "hard_limit:1024G", "1024G"},
    {"help", "help", ""},
};

struct Wrong {
  const char* option;
  std::vector<std::string> values;  ///< The text with the colon; empty: the option has no value.
  std::string message;
};
const std::vector<Wrong> wrong{
    {"stats",
     {":", ":all", ":totals+", ":+totals", ":totals++json", ":Totals", ":totals json"},
     "is not one or more of totals, classes, json, joined by '+'; using none"},
    {"stats_file", {"", ":"}, "is not a path of 1 to 1023 bytes; using none"},
    {"huge_pages", {":", ":1", ":off"}, "is not allowed, it takes no value; using off"},
    {"no_scavenging", {":1"}, "is not allowed, it takes no value; using off"},
    {"deep_bind", {":1"}, "is not allowed, it takes no value; using off"},
    {"background_thread", {":1"}, "is not allowed, it takes no value; using off"},
    {"no_backtrace", {":1"}, "is not allowed, it takes no value; using off"},
    {"no_size_check", {":1"}, "is not allowed, it takes no value; using off"},
    {"no_kind_check", {":1"}, "is not allowed, it takes no value; using off"},
    {"no_canaries", {":1"}, "is not allowed, it takes no value; using off"},
    {"no_clearing", {":1"}, "is not allowed, it takes no value; using off"},
    {"no_reuse_check", {":1"}, "is not allowed, it takes no value; using off"},
    {"no_zero_size_traps", {":1"}, "is not allowed, it takes no value; using off"},
    {"no_quarantine", {":1"}, "is not allowed, it takes no value; using off"},
    {"no_random_order", {":1"}, "is not allowed, it takes no value; using off"},
    {"no_class_addresses", {":1"}, "is not allowed, it takes no value; using off"},
    {"no_guards", {":1"}, "is not allowed, it takes no value; using off"},
    {"guard_one_in",
     {"", ":", ":1000000001"},
     "is not a number from 0 to 1000000000 (allocations); using 0"},
    {"guard_bytes", {"", ":1025G"}, "is not a size from 0 to 1024G; using 0"},
    {"guard_places", {":0", ":16385"}, "is not a number from 1 to 16384 (places); using 256"},
    {"decay_ms",
     {"", ":", ":abc", ":-1", ":+1", ": 1", ":1 ", ":1.5", ":1s", ":0x10", ":60001", ":4294967296",
      ":18446744073709551616", ":18446744073709551866", ":99999999999999999999999"},
     "is not a number from 0 to 60000 (milliseconds); using 1000"},
    {"scavenge_ms", {":0", ":60001"}, "is not a number from 1 to 60000 (milliseconds); using 250"},
    {"direct_threshold",
     {"", ":", ":M", ":-1M", ":65535", ":63K", ":2G", ":1073741825", ":1T", ":1MM", ":1MiB", ":1 M",
      ":1.5M", ":17179869184G", ":18014398509481985K", ":18446744073709551616"},
     "is not a size from 64K to 1G; using 32M"},
    {"huge_threshold", {"", ":", ":none", ":1025G"}, "is not a size from 0 to 1024G; using 32M"},
    {"soft_limit", {"", ":0", ":1023K", ":1025G"}, "is not a size from 1M to 1024G; using none"},
    {"hard_limit", {":none", ":100", ":-1"}, "is not a size from 1M to 1024G; using none"},
    {"help", {":", ":stats"}, "is not allowed, it takes no value"},
};

TEST_F(OptionsTest, a_soft_limit_above_the_hard_limit_is_told) {
  const std::string told = prefix + "soft_limit has no effect above hard_limit\n";
  EXPECT_EQ(read("soft_limit:2G,hard_limit:1G"), told);
  EXPECT_EQ(read("hard_limit:1G,soft_limit:2G"), told);
  EXPECT_EQ(read("hard_limit:1G,soft_limit:1G"), "");
  EXPECT_EQ(read("soft_limit:2G"), "");
  EXPECT_EQ(read("hard_limit:2G"), "");
}

TEST_F(OptionsTest, no_text_changes_nothing) {
  read("");
  const auto defaults = values();
  for (const char* text : {"", ",", ",,,"}) {
    EXPECT_EQ(read(text), "");
    EXPECT_EQ(values(), defaults);
  }
  read_options(nullptr);
  EXPECT_EQ(values(), defaults);
}

TEST_F(OptionsTest, each_kind_accepts_its_allowed_values) {
  read("");
  const auto defaults = values();
  std::set<std::string> tried;
  for (const Allowed& one : allowed) {
    const std::string told = read(one.entry);
    EXPECT_EQ(told.empty(), one.entry != "help") << told;
    auto expected = defaults;
    expected[one.option] = one.value;
    EXPECT_EQ(values(), expected) << one.entry;
    tried.insert(one.option);
  }
  EXPECT_EQ(tried.size(), option_count) << "an option is not in the table of this test";
}

TEST_F(OptionsTest, a_wrong_value_of_each_kind_is_reported_and_changes_nothing) {
  read("");
  const auto defaults = values();
  std::set<std::string> tried;
  for (const Wrong& one : wrong) {
    for (const std::string& value : one.values) {
      const std::string shown = value.empty() ? "" : value.substr(1);
      EXPECT_EQ(read(one.option + value),
                prefix + one.option + ": '" + shown + "' " + one.message + "\n");
      EXPECT_EQ(values(), defaults) << one.option << value;
    }
    tried.insert(one.option);
  }
  EXPECT_EQ(tried.size(), option_count) << "an option is not in the table of this test";
}

TEST_F(OptionsTest, reads_the_rest_after_a_wrong_entry) {
  for (const Wrong& one : wrong) {
    const std::string entry = one.option + one.values.front();
    EXPECT_EQ(lines(read("huge_pages," + entry + ",decay_ms:7,,")), 1);
    EXPECT_TRUE(options.huge_pages);
    EXPECT_EQ(tunables.decay_milliseconds, 7u);
  }
}

TEST_F(OptionsTest, a_wrong_value_keeps_the_one_before) {
  EXPECT_EQ(read("decay_ms:5,decay_ms:x"),
            prefix + "decay_ms: 'x' is not a number from 0 to 60000 (milliseconds); using 5\n");
  EXPECT_EQ(value_of("decay_ms"), "5");
}

TEST_F(OptionsTest, the_last_of_repeated_options_counts_and_a_line_says_so) {
  for (const Allowed& one : allowed) {
    for (const Allowed& other : allowed) {
      if (one.option != std::string("help") && one.option == std::string(other.option)) {
        EXPECT_EQ(read(one.entry + "," + other.entry),
                  prefix + one.option + " is given more than once; using " + other.value + "\n");
        EXPECT_EQ(value_of(one.option), other.value);
      }
    }
  }
}

TEST_F(OptionsTest, a_path_that_is_too_long_is_reported_and_not_cut) {
  EXPECT_EQ(read("stats_file:" + longest_path), "");
  EXPECT_EQ(options.stats_file, longest_path);
  EXPECT_EQ(read("stats_file:p" + longest_path),
            prefix + "stats_file: '" + longest_path.substr(0, 256) +
                "...' is not a path of 1 to 1023 bytes; using none\n");
  EXPECT_STREQ(options.stats_file, "");
}

TEST_F(OptionsTest, the_nearest_option_is_offered_for_an_unknown_one) {
  const std::map<std::string, std::string> nearest{
      {"stat", "stats"},
      {"statz", "stats"},
      {"sttas", "stats"},
      {"Stats", "stats"},
      {" stats", "stats"},
      {"stats-file:x", "stats_file"},
      {"hlep", "help"},
      {"decay:1", "decay_ms"},
      {"no_visit", "no_scavenging"},
      {"no_scavenge", "no_scavenging"},
  };
  for (const auto& [entry, name] : nearest) {
    EXPECT_EQ(read(entry), prefix + "'" + entry + "' is not known; did you mean '" + name + "'?\n");
  }
}

TEST_F(OptionsTest, help_is_offered_where_no_option_is_near) {
  for (const std::string& entry : {std::string("nothing_like_it"), std::string(":"),
                                   std::string(":5"), std::string(100, 'x')}) {
    EXPECT_EQ(read(entry), prefix + "'" + entry + "' is not known; 'help' lists what is\n");
  }
  EXPECT_EQ(read(std::string(5000, 'k')),
            prefix + "'" + std::string(256, 'k') + "...' is not known; 'help' lists what is\n");
}

TEST_F(OptionsTest, help_describes_every_option_fully_after_earlier_ones) {
  const std::string told = read("help");
  EXPECT_EQ(read("decay_ms:7,help"), told);
  for (const Option& option : option_table) {
    EXPECT_NE(told.find(std::string("\n  ") + form_of(option).data() + "\n      " + option.meaning),
              std::string::npos)
        << told;
    EXPECT_NE(told.find(allowed_by(option).data()), std::string::npos) << told;
  }
  EXPECT_NE(told.find("(milliseconds); default 250\n"), std::string::npos) << told;
  EXPECT_NE(told.find("      old name: no_visits\n"), std::string::npos) << told;
  EXPECT_TRUE(told.ends_with(std::string(std::end(option_table)[-1].meaning) + "\n")) << told;
}

TEST_F(OptionsTest, the_table_is_sound) {
  std::set<std::string> names;
  for (const Option& option : option_table) {
    EXPECT_TRUE(names.insert(option.name).second) << option.name;
    EXPECT_TRUE(option.old_name == nullptr || names.insert(option.old_name).second);
    EXPECT_LE(std::string(option.name).size(), 32u) << "longer ones are offered to nobody";
    option.kind.visit(Overloaded{
        [](const Number& number) {
          EXPECT_GE(Tunables{}.*number.member, number.least);
          EXPECT_LE(Tunables{}.*number.member, number.most);
        },
        [](const Size& size) {
          EXPECT_GE(Tunables{}.*size.member, size.least);
          EXPECT_TRUE(Tunables{}.*size.member <= size.most ||
                      Tunables{}.*size.member == Tunables::no_limit);
        },
        [](const auto&) {},
    });
  }
}

}  // namespace
}  // namespace slabmalloc
