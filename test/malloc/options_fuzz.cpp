// SPDX-License-Identifier: MIT
//
// A libFuzzer target: the reader of SLABMALLOC_OPTIONS against a second reader, which knows the
// option table too but cuts and converts the text by the standard library.
#include <cstdint>
#include <set>
#include <string>
#include <vector>

#include "malloc/option_text.hpp"
#include "malloc/read_options.hpp"
#include "support/fuzz.hpp"
#include "tunables.hpp"

namespace slabmalloc {
namespace {

using Strings = std::vector<std::string>;

/// The parts between separators, with empty ones.
Strings split(const std::string& text, char separator) {
  Strings parts{""};
  for (const char one : text) {
    if (one == separator) {
      parts.emplace_back();
    } else {
      parts.back() += one;
    }
  }
  return parts;
}

/// The number in `digits`, if it is below 2^64 / 1024.
bool read_number(const std::string& digits, std::uint64_t& number) {
  const std::size_t zeroes = digits.find_first_not_of('0');
  const std::string rest = zeroes == std::string::npos ? "0" : digits.substr(zeroes);
  if (digits.empty() || digits.find_first_not_of("0123456789") != std::string::npos ||
      rest.size() > 16) {
    return false;
  }
  number = std::stoull(rest);
  return true;
}

/// What the reader should make of a text.
struct Expected {
  Options values;
  Tunables figures;
  std::size_t complaints = 0;
};

bool read_value(const Option& option, bool has_value, const std::string& value, Options& values,
                Tunables& figures) {
  std::uint64_t number = 0;
  return option.kind.visit(Overloaded{
      [&](const Flag& flag) { return !has_value && (values.*flag.member = flag.value, true); },
      [&](const Number& one) {
        return read_number(value, number) && one.least <= number && number <= one.most &&
               (figures.*one.member = static_cast<std::uint32_t>(number), true);
      },
      [&](const Size& one) {
        std::string digits = value;
        const std::size_t unit =
            digits.empty() ? std::string::npos : std::string("kKmMgG").find(digits.back());
        std::uint64_t factor = 1;
        if (unit != std::string::npos) {
          digits.pop_back();
          factor = std::uint64_t{1} << (10 * (unit / 2 + 1));
        }
        // A number of more than 16 digits, or above 2^30 units, is above every bound.
        return read_number(digits, number) && (factor == 1 || number < std::uint64_t{1} << 32) &&
               one.least <= number * factor && number * factor <= one.most &&
               (figures.*one.member = number * factor, true);
      },
      [&](const Path& path) {
        return !value.empty() && value.size() < Options::path_bytes &&
               (value.copy(values.*path.member, value.size()),
                (values.*path.member)[value.size()] = '\0', true);
      },
      [&](const List& list) {
        std::uint32_t bits = has_value ? 0 : list.without_value;
        for (const std::string& part : has_value ? split(value, '+') : Strings{}) {
          const auto* const end = list.words + list.count;
          const auto* word = list.words;
          while (word != end && word->name != part) {
            ++word;
          }
          if (word == end) {
            return false;
          }
          bits |= word->bit;
        }
        values.*list.member = bits;
        return true;
      },
      [&](const Help&) { return !has_value; },
  });
}

Expected expect(const std::string& text) {
  Expected expected;
  std::set<const Option*> set;
  for (const std::string& entry : split(text, ',')) {
    const std::size_t colon = entry.find(':');
    const std::string name = entry.substr(0, colon);
    const bool has_value = colon != std::string::npos;
    const std::string value = has_value ? entry.substr(colon + 1) : "";
    const Option* found = nullptr;
    for (const Option& option : option_table) {
      const bool is_old = option.old_name != nullptr && name == option.old_name;
      found = name == option.name || is_old ? &option : found;
    }
    if (entry.empty()) {
      continue;
    }
    const bool is_allowed =
        found != nullptr && read_value(*found, has_value, value, expected.values, expected.figures);
    expected.complaints += is_allowed && set.insert(found).second ? 0u : 1u;
  }
  const std::size_t soft = expected.figures.soft_limit_bytes;
  if (soft != Tunables::no_limit && soft > expected.figures.hard_limit_bytes) {
    ++expected.complaints;
  }
  return expected;
}

/// A number at a bound of what `option` allows, or beside it; another word if it takes none.
std::string value_at_bound(const Option& option, test::FuzzInput& input) {
  const std::size_t bound = input.below(2);
  const std::size_t beside = input.below(3);
  return option.kind.visit(Overloaded{
      [&](const Number& one) {
        return std::to_string(std::size_t{bound != 0 ? one.most : one.least} + beside - 1);
      },
      [&](const Size& one) {
        return std::to_string((bound != 0 ? one.most : one.least) + beside - 1);
      },
      [](const auto&) { return std::string("totals"); },
  });
}

/// A text of names, values and separators, and of other bytes but zeroes.
std::string some_text(test::FuzzInput& input) {
  static const Strings pieces{",",
                              ":",
                              "+",
                              "K",
                              "m",
                              "G",
                              "0",
                              "1",
                              "60000",
                              "4096",
                              "18446744073709551615",
                              "18446744073709551616",
                              "help",
                              "no_visits",
                              "/",
                              " ",
                              "totals",
                              "classes",
                              "json"};
  std::string text;
  while (!input.is_empty()) {
    switch (input.below(5)) {
      case 0: {
        const Option& option = option_table[input.below(option_count)];
        text += std::string(",") + option.name + ":" + value_at_bound(option, input) + ",";
        break;
      }
      case 1:
        text += option_table[input.below(option_count)].name;
        text += input.one_in(2) ? "" : ":";
        break;
      case 2:
        text += static_cast<char>(input.between(1, 255));
        break;
      case 3:
        text += std::string(input.below(1100), 'p');
        break;
      default:
        text += pieces[input.below(pieces.size())];
    }
  }
  return text;
}

}  // namespace
}  // namespace slabmalloc

SLABMALLOC_FUZZ_TARGET(slabmalloc::test::FuzzInput& input) {
  using namespace slabmalloc;
  const std::string text = some_text(input);
  const Expected expected = expect(text);
  const std::string written = test::read_from_defaults(text);
  for (const Option& option : option_table) {
    EXPECT_STREQ(value_in(option, options, tunables).data(),
                 value_in(option, expected.values, expected.figures).data())
        << option.name << " in " << text;
  }
  EXPECT_STREQ(options.stats_file, expected.values.stats_file);
  // Each complaint is a line that begins with the name of the variable.
  const std::string name = "slabmalloc: SLABMALLOC_OPTIONS: ";
  std::size_t complaints = 0;
  for (std::size_t at = written.find(name); at != std::string::npos; at = written.find(name, at)) {
    EXPECT_TRUE(at == 0 || written[at - 1] == '\n') << written;
    ++complaints;
    at += name.size();
  }
  EXPECT_EQ(complaints, expected.complaints) << text << "\n" << written;
  EXPECT_TRUE(written.empty() || written.back() == '\n') << written;
  options = Options{};
  tunables = Tunables{};
}
