// SPDX-License-Identifier: MIT
//
// A libFuzzer target: the kernel's command line, against a second reader that cuts it by streams.
#include <algorithm>
#include <sstream>
#include <string>

#include "kernel/command_line.hpp"
#include "support/fuzz.hpp"

namespace boot {
namespace {

/// The value of the last word `name` or `name=VALUE`; `otherwise` if there is none.
std::string value_in(const std::string& line, const std::string& name, std::string otherwise) {
  std::istringstream words(line);
  for (std::string word; std::getline(words, word, ' ');) {
    const std::size_t end = word.find('=');
    if (!word.empty() && word.substr(0, end) == name) {
      otherwise = end == std::string::npos ? "" : word.substr(end + 1);
    }
  }
  return otherwise;
}

}  // namespace
}  // namespace boot

SLABMALLOC_FUZZ_TARGET(slabmalloc::test::FuzzInput& input) {
  using namespace boot;
  const std::string pieces[] = {
      " ", "=", "run", "seed", "=18446744073709551615", "=18446744073709551616", "=007", "9"};
  std::string line;
  while (!input.is_empty()) {
    line += input.one_in(4) ? std::string(input.below(300), static_cast<char>(input.below(256)))
                            : pieces[input.below(std::size(pieces))];
  }
  constexpr std::size_t capacity = 1024;
  CommandLine command;
  EXPECT_EQ(command.set(Text(line.data(), line.size())), line.size() <= capacity);
  line.resize(std::min(line.size(), capacity));
  for (const char* const name : {"run", "seed"}) {
    const Text key = Text::zero_terminated(name);
    const std::string expected = value_in(line, name, "otherwise");
    const Text found = command.value(key, "otherwise");
    EXPECT_EQ(std::string(found.begin(), found.end()), expected);
    EXPECT_EQ(command.has(key), value_in(line, name, "none") == value_in(line, name, "other"));
    const std::size_t zeroes = std::min(expected.find_first_not_of('0'), expected.size());
    const std::string digits = expected.substr(zeroes);
    const bool is_number =
        !expected.empty() && expected.find_first_not_of("0123456789") == std::string::npos &&
        (digits.size() < 20 || (digits.size() == 20 && digits <= "18446744073709551615"));
    const std::uint64_t number = digits.empty() ? 0 : is_number ? std::stoull(digits) : 5;
    EXPECT_EQ(command.number(key, 5), is_number ? number : 5u);
  }
}
