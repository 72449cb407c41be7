// SPDX-License-Identifier: MIT
//
// Reading SLABMALLOC_OPTIONS, and telling what was not understood.
#include "malloc/options.hpp"

#include <string.h>
#include <unistd.h>

#include "malloc/text.hpp"

namespace slabmalloc {

constinit Options options;

namespace {

/// The text between two separators.
struct Span {
  const char* begin;
  std::size_t bytes;

  /// The bytes that a message shows: what comes after them must fit its line, too.
  int shown_bytes() const noexcept { return static_cast<int>(bytes < 256 ? bytes : 256); }
  bool is(const char* word) const noexcept {
    return strlen(word) == bytes && memcmp(begin, word, bytes) == 0;
  }
};

struct Key {
  const char* name;
  const char* value;  ///< What stands behind the colon; null: nothing.
  const char* meaning;
  void (*apply)(Span value);
};

void print_help(Span) noexcept;

/// Every key, its meaning and its effect: the one list.
constexpr Key keys[] = {
    {"stats", nullptr, "print a summary of the heap on stderr at exit",
     [](Span) { options.stats = true; }},
    {"stats_file", "PATH", "append the summary to PATH at exit, as one line of JSON per process",
     [](Span value) {
       memcpy(options.stats_file, value.begin, value.bytes);
       options.stats_file[value.bytes] = '\0';
     }},
    {"huge_pages", nullptr,
     "let the system use huge pages where the heap grows by 2 MiB or more: fewer page faults, more memory for scattered blocks",
     [](Span) { options.huge_pages = true; }},
    {"no_scavenging", nullptr,
     "let memory wait that threads hold while they sleep; else others look after it, which calls membarrier",
     [](Span) { options.scavenging = false; }},
    {"help", nullptr, "print this list on stderr", print_help},
};

void print_help(Span) noexcept {
  Text<1024> text;
  text.append("slabmalloc: SLABMALLOC_OPTIONS is a list of these, separated by commas:\n");
  for (const Key& key : keys) {
    text.append("  %s%s%s: %s\n", key.name, key.value != nullptr ? ":" : "",
                key.value != nullptr ? key.value : "", key.meaning);
  }
  text.write(STDERR_FILENO);
}

/// Insertions, deletions and replacements from `from` to `to` (Wagner and Fischer, JACM 1974).
std::size_t edit_distance(Span from, const char* to) noexcept {
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
      const std::size_t shifted = (row[column] < row[column - 1] ? row[column] : row[column - 1]) + 1;
      row[column] = replaced < shifted ? replaced : shifted;
    }
  }
  return row[columns];
}

void complain(Span entry, Span name) noexcept {
  Text<512> text;
  text.append("slabmalloc: SLABMALLOC_OPTIONS: '%.*s' is not known", entry.shown_bytes(), entry.begin);
  const Key* nearest = nullptr;
  std::size_t distance = 4;
  for (const Key& key : keys) {
    if (const std::size_t one = edit_distance(name, key.name); one < distance) {
      nearest = &key;
      distance = one;
    }
  }
  if (nearest != nullptr) {
    text.append("; did you mean '%s'?\n", nearest->name);
  } else {
    text.append("; 'help' lists what is\n");
  }
  text.write(STDERR_FILENO);
}

void read_entry(Span entry) noexcept {
  const auto* colon = static_cast<const char*>(memchr(entry.begin, ':', entry.bytes));
  const Span name{entry.begin,
                  colon != nullptr ? static_cast<std::size_t>(colon - entry.begin) : entry.bytes};
  const Span value =
      colon != nullptr ? Span{colon + 1, entry.bytes - name.bytes - 1} : Span{entry.begin, 0};
  for (const Key& key : keys) {
    if (name.is(key.name)) {
      const bool sound = key.value != nullptr
                             ? value.bytes != 0 && value.bytes < Options::path_bytes
                             : colon == nullptr;
      if (sound) {
        key.apply(value);
        return;
      }
      Text<512> text;
      text.append("slabmalloc: SLABMALLOC_OPTIONS: '%s' takes %s%s\n", key.name,
                  key.value != nullptr ? "a value: a " : "no value",
                  key.value != nullptr ? key.value : "");
      text.write(STDERR_FILENO);
      return;
    }
  }
  complain(entry, name);
}

}  // namespace

void read_options(const char* text) noexcept {
  while (text != nullptr && *text != '\0') {
    const std::size_t bytes = strcspn(text, ",");
    if (bytes != 0) {
      read_entry({text, bytes});
    }
    text += bytes + (text[bytes] == ',' ? 1 : 0);
  }
}

}  // namespace slabmalloc
