// SPDX-License-Identifier: MIT
//
// Printing on the serial console, by all CPUs: what one call prints stays together.
//
//   print_line("cpu ", cpu(), " has seen ", ticks, " ticks at ", hex(address));
//
// format.hpp lists what can be printed. Not to be called from a signal's handler: the code that it
// interrupted may be printing.
#pragma once

#include <cstdint>

#include "kernel/format.hpp"
#include "kernel/machine.hpp"

namespace boot {

struct Console {
  void put(char character) noexcept { put_on_console(character); }
};

/// A lock for which a panic waits only so long, and then goes on without it. slabmalloc::SpinLock,
/// which all others take, cannot be left like that: it gives each CPU a number, in order, and a CPU
/// that takes none would wait for all that have one. And a report that it is broken must get out.
class ConsoleLock {
 public:
  /// Order: acquire, with the release in unlock(): what the last holder wrote is seen.
  bool try_lock() noexcept {
    return locked_.load(Order::relaxed) == 0 && locked_.exchange(1, Order::acquire) == 0;
  }
  void lock() noexcept {
    while (!try_lock()) {
      relax();
    }
  }
  void unlock() noexcept { locked_.store(0, Order::release); }

 private:
  Cell<std::uint32_t> locked_{0};
};
inline constinit ConsoleLock console_lock;

namespace detail {

// A literal is not converted to a Text by deduction.
template <std::size_t extent>
constexpr Text printable(const char (&literal)[extent]) noexcept {
  return {literal, extent - 1};
}
template <class Value>
constexpr const Value& printable(const Value& value) noexcept {
  return value;
}

}  // namespace detail

/// Prints the values, one after the other.
template <class... Values>
void print(const Values&... values) noexcept {
  const InterruptsDisabled disabled;
  console_lock.lock();
  Console console;
  (write(console, detail::printable(values)), ...);
  console_lock.unlock();
}

/// Prints the values and ends the line.
template <class... Values>
void print_line(const Values&... values) noexcept {
  print(values..., '\n');
}

/// The console for the last words of a broken kernel: waits only so long for it, and gives it back
/// or, with the machine about to end, does not.
class ConsoleAtAnyPrice {
 public:
  ConsoleAtAnyPrice() noexcept {
    for (std::uint32_t attempts = 0; attempts < 1'000'000 && !console_lock.try_lock(); ++attempts) {
      relax();
    }
  }

  template <class... Values>
  void print_line(const Values&... values) noexcept {
    (write(console_, detail::printable(values)), ...);
    write(console_, '\n');
  }
  void give_back() noexcept { console_lock.unlock(); }

 private:
  InterruptsDisabled disabled_;
  Console console_;
};

}  // namespace boot
