// SPDX-License-Identifier: MIT
//
// Reads SLABMALLOC_OPTIONS by the option table, and reports errors in it.
#include "malloc/options.hpp"

#include <string.h>
#include <unistd.h>

#include <initializer_list>

#include "malloc/option_table.hpp"
#include "malloc/option_text.hpp"
#include "malloc/text.hpp"
#include "tunables.hpp"

namespace slabmalloc {

constinit Options options;

namespace {

/// The text between two separators.
struct Slice {
  const char* begin;
  std::size_t bytes;

  /// The bytes that a message shows: the rest of the message must fit its line too.
  int shown_bytes() const noexcept {
    return static_cast<int>(bytes < most_shown ? bytes : most_shown);
  }
  const char* after_shown() const noexcept { return bytes > most_shown ? "..." : ""; }

  bool is(const char* word) const noexcept {
    return word != nullptr && strlen(word) == bytes && memcmp(begin, word, bytes) == 0;
  }
  /// Removes the part before the first `separator`, and the separator; the whole text if there is
  /// none.
  Slice take_until(char separator) noexcept {
    const auto* const end = static_cast<const char*>(memchr(begin, separator, bytes));
    const Slice part{begin, end != nullptr ? static_cast<std::size_t>(end - begin) : bytes};
    const std::size_t taken = part.bytes + (end != nullptr ? 1 : 0);
    begin += taken;
    bytes -= taken;
    return part;
  }

  static constexpr std::size_t most_shown = 256;
};

/// One entry of the list.
struct Entry {
  Slice whole;
  Slice name;
  Slice value;
  bool has_value;
};

/// A line on stderr about SLABMALLOC_OPTIONS.
using Line = Text<1024>;

void print(const Line& line) noexcept { line.write(STDERR_FILENO); }

void print_help() noexcept {
  Text<4096> text;
  text.append("slabmalloc: SLABMALLOC_OPTIONS is a list of these, separated by commas:\n");
  for (const Option& option : option_table) {
    text.append("  %s\n      %s\n", form_of(option).data(), option.meaning);
    if (const Phrase allowed = allowed_by(option); allowed.size() != 0) {
      text.append("      %s; default %s\n", allowed.data(), default_of(option).data());
    }
    if (option.old_name != nullptr) {
      text.append("      old name: %s\n", option.old_name);
    }
  }
  text.write(STDERR_FILENO);
}

/// Removes decimal digits from the start of `text` and reads them into `number`.
/// Fails: false if there are none, or if the number is too large for its type.
bool take_number(Slice& text, std::uint64_t& number) noexcept {
  std::size_t digits = 0;
  number = 0;
  for (; digits < text.bytes && text.begin[digits] >= '0' && text.begin[digits] <= '9'; ++digits) {
    const auto digit = static_cast<unsigned>(text.begin[digits] - '0');
    if (__builtin_mul_overflow(number, 10u, &number) ||
        __builtin_add_overflow(number, digit, &number)) {
      return false;
    }
  }
  text.begin += digits;
  text.bytes -= digits;
  return digits != 0;
}

/// The factor of a unit, in either case; 0 if it is no unit.
std::uint64_t factor_of(Slice unit) noexcept {
  constexpr const char* units[] = {"", "kK", "mM", "gG"};
  if (unit.bytes == 0) {
    return 1;
  }
  for (unsigned power = 1; power < 4 && unit.bytes == 1; ++power) {
    if (strchr(units[power], *unit.begin) != nullptr) {
      return std::uint64_t{1} << (10 * power);
    }
  }
  return 0;
}

// Each of these sets the member of a kind of option; false if the value is not allowed.

bool set(const Flag& flag, const Entry& entry) noexcept {
  if (entry.has_value) {
    return false;
  }
  options.*flag.member = flag.value;
  return true;
}

bool set(const Number& number, const Entry& entry) noexcept {
  Slice text = entry.value;
  std::uint64_t value = 0;
  if (!take_number(text, value) || text.bytes != 0 || value < number.least || value > number.most) {
    return false;
  }
  tunables.*number.member = static_cast<std::uint32_t>(value);
  return true;
}

bool set(const Size& size, const Entry& entry) noexcept {
  Slice text = entry.value;
  std::uint64_t value = 0;
  const bool is_number = take_number(text, value);
  const std::uint64_t factor = factor_of(text);
  if (!is_number || factor == 0 || __builtin_mul_overflow(value, factor, &value) ||
      value < size.least || value > size.most) {
    return false;
  }
  tunables.*size.member = static_cast<std::size_t>(value);
  return true;
}

bool set(const Path& path, const Entry& entry) noexcept {
  if (entry.value.bytes == 0 || entry.value.bytes >= Options::path_bytes) {
    return false;
  }
  char* const member = options.*path.member;
  memcpy(member, entry.value.begin, entry.value.bytes);
  member[entry.value.bytes] = '\0';
  return true;
}

bool set(const List& list, const Entry& entry) noexcept {
  std::uint32_t bits = entry.has_value ? 0 : list.without_value;
  Slice rest = entry.value;
  for (bool is_more = entry.has_value; is_more;) {
    const std::size_t bytes = rest.bytes;
    const Slice part = rest.take_until('+');
    is_more = bytes != part.bytes;
    std::uint32_t bit = 0;
    for (std::size_t number = 0; number < list.count; ++number) {
      bit |= part.is(list.words[number].name) ? list.words[number].bit : 0;
    }
    if (bit == 0) {
      return false;
    }
    bits |= bit;
  }
  options.*list.member = bits;
  return true;
}

bool set(const Help&, const Entry& entry) noexcept {
  if (!entry.has_value) {
    print_help();
  }
  return !entry.has_value;
}

/// The fewest insertions, deletions and replacements from `from` to `to` (Wagner and Fischer, "The
/// String-to-String Correction Problem", JACM 1974).
std::size_t edit_distance(Slice from, const char* to) noexcept {
  constexpr std::size_t longest = 32;
  const std::size_t columns = strlen(to);
  if (from.bytes > longest || columns > longest) {
    return longest;
  }
  std::size_t row[longest + 1];
  for (std::size_t column = 0; column <= columns; ++column) {
    row[column] = column;
  }
  for (std::size_t line = 1; line <= from.bytes; ++line) {
    std::size_t diagonal = row[0];
    row[0] = line;
    for (std::size_t column = 1; column <= columns; ++column) {
      const std::size_t replaced = diagonal + (from.begin[line - 1] != to[column - 1] ? 1 : 0);
      diagonal = row[column];
      const std::size_t shifted =
          (row[column] < row[column - 1] ? row[column] : row[column - 1]) + 1;
      row[column] = replaced < shifted ? replaced : shifted;
    }
  }
  return row[columns];
}

/// The option with the name, or old name, nearest to `name`; null if none is near.
const Option* nearest_to(Slice name) noexcept {
  constexpr std::size_t too_far = 4;
  const Option* nearest = nullptr;
  std::size_t distance = too_far;
  for (const Option& option : option_table) {
    for (const char* const candidate : {option.name, option.old_name}) {
      const std::size_t one = candidate != nullptr ? edit_distance(name, candidate) : too_far;
      if (one < distance) {
        nearest = &option;
        distance = one;
      }
    }
  }
  return nearest;
}

void tell_unknown(const Entry& entry) noexcept {
  Line line;
  line.append("slabmalloc: SLABMALLOC_OPTIONS: '%.*s%s' is not known; ", entry.whole.shown_bytes(),
              entry.whole.begin, entry.whole.after_shown());
  if (const Option* const nearest = nearest_to(entry.name); nearest != nullptr) {
    line.append("did you mean '%s'?\n", nearest->name);
  } else {
    line.append("'help' lists what is\n");
  }
  print(line);
}

/// Ends a line with the option's value now.
void print_with_value(Line& line, const Option& option) noexcept {
  const Phrase value = value_in(option, options, tunables);
  line.append("%s%s\n", value.size() != 0 ? "; using " : "", value.data());
  print(line);
}

void tell_not_allowed(const Option& option, const Entry& entry) noexcept {
  const Phrase allowed = allowed_by(option);
  Line line;
  line.append("slabmalloc: SLABMALLOC_OPTIONS: %s: '%.*s%s' is not %s", option.name,
              entry.value.shown_bytes(), entry.value.begin, entry.value.after_shown(),
              allowed.size() != 0 ? allowed.data() : "allowed, it takes no value");
  print_with_value(line, option);
}

void tell_repeated(const Option& option) noexcept {
  Line line;
  line.append("slabmalloc: SLABMALLOC_OPTIONS: %s is given more than once", option.name);
  print_with_value(line, option);
}

/// Tells of a soft limit that never comes into force.
void tell_if_pointless() noexcept {
  if (tunables.soft_limit_bytes != Tunables::no_limit &&
      tunables.soft_limit_bytes > tunables.hard_limit_bytes) {
    Line line;
    line.append("slabmalloc: SLABMALLOC_OPTIONS: soft_limit has no effect above hard_limit\n");
    print(line);
  }
}

/// Reads the entries of SLABMALLOC_OPTIONS.
class Reader {
 public:
  void read(Slice text) noexcept {
    Slice rest = text;
    Entry entry{text, rest.take_until(':'), rest, false};
    entry.has_value = entry.name.bytes != text.bytes;
    for (std::size_t number = 0; number < option_count; ++number) {
      const Option& option = option_table[number];
      if (entry.name.is(option.name) || entry.name.is(option.old_name)) {
        set_option(option, entry, is_set_[number]);
        return;
      }
    }
    tell_unknown(entry);
  }

 private:
  void set_option(const Option& option, const Entry& entry, bool& is_set) noexcept {
    if (!option.kind.visit([&](const auto& kind) { return set(kind, entry); })) {
      tell_not_allowed(option, entry);
    } else if (is_set) {
      tell_repeated(option);
    } else {
      is_set = true;
    }
  }

  bool is_set_[option_count] = {};
};

}  // namespace

void read_options(const char* text) noexcept {
  Reader reader;
  Slice rest{text, text != nullptr ? strlen(text) : 0};
  while (rest.bytes != 0) {
    if (const Slice entry = rest.take_until(','); entry.bytes != 0) {
      reader.read(entry);
    }
  }
  tell_if_pointless();
}

}  // namespace slabmalloc
