// SPDX-License-Identifier: MIT
//
// The phrases of each kind of option.
#include "malloc/option_text.hpp"

namespace slabmalloc {

namespace {

/// Appends a size in the largest unit that divides it; "none" for a limit that is not set.
void append_size(Phrase& phrase, std::size_t bytes) noexcept {
  if (bytes == Tunables::no_limit) {
    phrase.append("none");
    return;
  }
  constexpr const char* units[] = {"", "K", "M", "G"};
  std::size_t unit = 0;
  while (bytes != 0 && bytes % 1024 == 0 && unit < 3) {
    bytes /= 1024;
    ++unit;
  }
  phrase.append("%zu%s", bytes, units[unit]);
}

/// Appends the words of a list whose bits are set.
void append_words(Phrase& phrase, const List& list, std::uint32_t bits,
                  const char* separator) noexcept {
  const char* before = "";
  for (std::size_t number = 0; number < list.count; ++number) {
    if ((list.words[number].bit & bits) != 0) {
      phrase.append("%s%s", before, list.words[number].name);
      before = separator;
    }
  }
}

}  // namespace

Phrase form_of(const Option& option) noexcept {
  Phrase phrase;
  phrase.append("%s%s", option.name,
                option.kind.visit(Overloaded{
                    [](const Flag&) { return ""; },
                    [](const Number&) { return ":NUMBER"; },
                    [](const Size&) { return ":SIZE"; },
                    [](const Path&) { return ":PATH"; },
                    [](const List&) { return "[:WORD+...]"; },
                    [](const Help&) { return ""; },
                }));
  return phrase;
}

Phrase allowed_by(const Option& option) noexcept {
  Phrase phrase;
  option.kind.visit(Overloaded{
      [](const Flag&) {},
      [&](const Number& number) {
        phrase.append("a number from %u to %u (%s)", number.least, number.most, number.unit);
      },
      [&](const Size& size) {
        phrase.append("a size from ");
        append_size(phrase, size.least);
        phrase.append(" to ");
        append_size(phrase, size.most);
      },
      [&](const Path&) { phrase.append("a path of 1 to %zu bytes", Options::path_bytes - 1); },
      [&](const List& list) {
        phrase.append("one or more of ");
        append_words(phrase, list, ~std::uint32_t{0}, ", ");
        phrase.append(", joined by '+'");
      },
      [](const Help&) {},
  });
  return phrase;
}

Phrase value_in(const Option& option, const Options& values, const Tunables& figures) noexcept {
  Phrase phrase;
  option.kind.visit(Overloaded{
      [&](const Flag& flag) {
        phrase.append("%s", values.*flag.member == flag.value ? "on" : "off");
      },
      [&](const Number& number) { phrase.append("%u", figures.*number.member); },
      [&](const Size& size) { append_size(phrase, figures.*size.member); },
      [&](const Path& path) {
        const char* const text = values.*path.member;
        phrase.append("%s", *text != '\0' ? text : "none");
      },
      [&](const List& list) {
        const std::uint32_t bits = values.*list.member;
        append_words(phrase, list, bits, "+");
        phrase.append("%s", bits == 0 ? "none" : "");
      },
      [](const Help&) {},
  });
  return phrase;
}

Phrase default_of(const Option& option) noexcept {
  Phrase phrase = value_in(option, Options{}, Tunables{});
  option.kind.visit(Overloaded{
      [&](const List& list) {
        phrase.append(", or without a value ");
        append_words(phrase, list, list.without_value, "+");
      },
      [](const auto&) {},
  });
  return phrase;
}

}  // namespace slabmalloc
