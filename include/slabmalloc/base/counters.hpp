// SPDX-License-Identifier: MIT
//
// Counters: one list of the counters of a part of the library. That list generates sums,
// differences, text, JSON and docs/STATISTICS.md.
//
//   struct Things {
//     std::size_t used = 0;
//     static constexpr CounterEntry<Things> counters[] = {
//         {&Things::used, "used", "objects", CounterKind::Current, "Live objects."}};
//   };
//   static_assert(has_entry_for_each_counter<Things>());
//
// A struct with a table of member pointers keeps `things.used` readable; an array indexed by an
// enumeration does not. C++20 cannot list members without macros, so a static_assert compares the
// table with the struct.
//
// A new counter needs a member, its entry, and the line that counts. The target docs-statistics
// adds it to the document. A struct that is a template over its number type can also count by
// itself.
#pragma once

#include <cstddef>
#include <cstdint>

#include "slabmalloc/base/language.hpp"

namespace slabmalloc {

/// How to add the counters of several owners, and whether to subtract a later start.
enum class CounterKind : std::uint8_t {
  Total,     ///< Since the start, which a later start replaces. Adds up.
  Current,   ///< At this moment. Adds up.
  Peak,      ///< The highest ever. Adds up to a bound: the peak of a sum is at most the sum of the
             ///< peaks.
  Constant,  ///< The same for all owners.
};

/// One counter of `Counters`, whose members have type `Number`.
template <class Counters, class Number = std::size_t>
struct CounterEntry {
  Number Counters::* member;
  const char* name;
  const char* unit;
  CounterKind kind;
  const char* meaning;
};

/// The entries in the table of `Counters` itself, without those of its base.
template <class Counters>
inline constexpr std::size_t counter_entries =
    sizeof(Counters::counters) / sizeof(Counters::counters[0]);

/// Calls `visit(entry)` for each entry of `Counters`, then for those of its base, the member type
/// `Base`. Inlined, it leaves no table and no pointer that a loader must relocate.
template <class Counters, std::size_t index = 0, class Visit>
[[gnu::always_inline]] constexpr void for_each_counter(Visit&& visit) noexcept {
  if constexpr (index < counter_entries<Counters>) {
    visit(Counters::counters[index]);
    for_each_counter<Counters, index + 1>(visit);
  } else if constexpr (requires { typename Counters::Base; }) {
    for_each_counter<typename Counters::Base>(visit);
  }
}

/// Adds the counters of another owner to `sum`. It leaves no table either.
template <class Counters, std::size_t index = 0>
[[gnu::always_inline]] constexpr Counters& add_counters(Counters& sum,
                                                        const Counters& other) noexcept {
  if constexpr (index < counter_entries<Counters>) {
    constexpr auto member = Counters::counters[index].member;
    constexpr bool adds = Counters::counters[index].kind != CounterKind::Constant;
    sum.*member = (adds ? sum.*member : 0) + other.*member;
    add_counters<Counters, index + 1>(sum, other);
  } else if constexpr (requires { typename Counters::Base; }) {
    add_counters<typename Counters::Base>(sum, other);
  }
  return sum;
}

/// Subtracts `start` from the totals; the result is at least 0.
template <class Counters>
constexpr void subtract_start(Counters& now, const Counters& start) noexcept {
  for_each_counter<Counters>([&](const auto& entry) noexcept {
    if (entry.kind == CounterKind::Total) {
      const std::size_t before = start.*entry.member;
      now.*entry.member = now.*entry.member > before ? now.*entry.member - before : 0;
    }
  });
}

/// Reads the numbers of `live` into `result` by their `get()`.
template <template <class> class Counters, class Number, std::size_t index = 0>
[[gnu::always_inline]] constexpr void read_counters(const Counters<Number>& live,
                                                    Counters<std::size_t>& result) noexcept {
  if constexpr (index < counter_entries<Counters<Number>>) {
    const Number& number = live.*Counters<Number>::counters[index].member;
    result.*Counters<std::size_t>::counters[index].member = number.get();
    read_counters<Counters, Number, index + 1>(live, result);
  }
}

/// True if `Counters` consists of counters with one entry each, and of `Parts`.
template <class Counters, class... Parts>
consteval bool has_entry_for_each_counter() noexcept {
  Counters probe{};
  std::size_t entries = 0;
  for_each_counter<Counters>([&](const auto& entry) noexcept {
    probe.*entry.member += 1;
    ++entries;
  });
  bool is_listed_once = true;
  for_each_counter<Counters>([&](const auto& entry) noexcept {
    is_listed_once = is_listed_once && probe.*entry.member == 1;
  });
  const std::size_t bytes_of_parts = (std::size_t{0} + ... + sizeof(Parts));
  return is_listed_once && sizeof(Counters) == entries * sizeof(std::size_t) + bytes_of_parts;
}

}  // namespace slabmalloc
