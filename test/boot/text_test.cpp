// SPDX-License-Identifier: MIT
//
// Tests of text, printing, and the command line.
#include "kernel/text.hpp"

#include <gtest/gtest.h>

#include <cstdint>
#include <limits>
#include <string>

#include "kernel/command_line.hpp"
#include "kernel/format.hpp"

namespace boot {
namespace {

struct Sink {
  std::string text;
  void put(char character) { text += character; }
};

template <class Value>
std::string written(const Value& value) {
  Sink sink;
  write(sink, value);
  return sink.text;
}

TEST(Text, parts_stay_inside) {
  constexpr Text text = "memory";
  EXPECT_TRUE(text.part(2, 2) == "mo");
  EXPECT_TRUE(text.part(4, 9) == "ry");
  EXPECT_TRUE(text.part(9, 1).empty());
  EXPECT_TRUE(text.starts_with("mem") && !text.starts_with("memory1"));
  EXPECT_EQ(text.find('r'), 4u);
  EXPECT_EQ(text.find('x'), text.length());
  EXPECT_FALSE(text == "memorx");
}

TEST(Text, zero_terminated_characters_end_before_the_zero) {
  EXPECT_TRUE(Text::zero_terminated("cpu\0s") == "cpu");
  EXPECT_TRUE(Text::zero_terminated("").empty());
  EXPECT_TRUE(Text::zero_terminated(nullptr).empty());
}

TEST(Format, numbers) {
  EXPECT_EQ(written(0), "0");
  EXPECT_EQ(written(-42), "-42");
  EXPECT_EQ(written(std::numeric_limits<std::int64_t>::min()), "-9223372036854775808");
  EXPECT_EQ(written(std::numeric_limits<std::uint64_t>::max()), "18446744073709551615");
  EXPECT_EQ(written(hex(0)), "0x0");
  EXPECT_EQ(written(hex(0xfedcba9876543210)), "0xfedcba9876543210");
}

TEST(Format, sizes_in_the_largest_unit_that_is_exact) {
  EXPECT_EQ(written(size(0)), "0 B");
  EXPECT_EQ(written(size(1000)), "1000 B");
  EXPECT_EQ(written(size(4096)), "4 KiB");
  EXPECT_EQ(written(size(3 << 20)), "3 MiB");
  EXPECT_EQ(written(size(std::uint64_t{1} << 50)), "1048576 GiB");
}

TEST(Format, columns_put_numbers_to_the_right_and_texts_to_the_left) {
  EXPECT_EQ(written(column(6, 42)), "    42");
  EXPECT_EQ(written(column(6, hex(42))), "  0x2a");
  EXPECT_EQ(written(column(6, "cpu")), "cpu   ");
  EXPECT_EQ(written(column(2, "memory")), "memory") << "written in full";
}

TEST(CommandLine, gives_values_by_name) {
  CommandLine line;
  EXPECT_TRUE(line.set("  run=machine,storm  operations=17 icount seed=x  run=fail "));
  EXPECT_TRUE(line.value("run", "") == "fail") << "the last one counts";
  EXPECT_EQ(line.number("operations", 5), 17u);
  EXPECT_EQ(line.number("seed", 5), 5u) << "no number";
  EXPECT_EQ(line.number("operation", 5), 5u) << "another name";
  EXPECT_TRUE(line.has("icount"));
  EXPECT_TRUE(line.value("icount", "none").empty());
  EXPECT_FALSE(line.has("count"));
  EXPECT_TRUE(line.value("absent", "default") == "default");
}

TEST(CommandLine, a_line_that_is_too_long_is_cut_and_reported) {
  const std::string text(2000, 'a');
  CommandLine line;
  EXPECT_FALSE(line.set({text.data(), text.size()}));
  EXPECT_EQ(line.text().length(), 1024u);
}

TEST(CommandLine, numbers_have_64_bits) {
  std::uint64_t number = 7;
  EXPECT_TRUE(parse("18446744073709551615", number));
  EXPECT_EQ(number, std::numeric_limits<std::uint64_t>::max());
  for (const Text bad : {Text("18446744073709551616"), Text(""), Text("1a"), Text("-1")}) {
    EXPECT_FALSE(parse(bad, number));
  }
  EXPECT_EQ(number, std::numeric_limits<std::uint64_t>::max()) << "untouched";
}

TEST(CommandLine, lists_have_pieces) {
  std::string pieces;
  for_each_piece(",machine,,storm,", ',',
                 [&](Text piece) { pieces.append(piece.begin(), piece.end()).append("|"); });
  EXPECT_EQ(pieces, "machine|storm|");
}

}  // namespace
}  // namespace boot
