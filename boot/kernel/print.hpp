// SPDX-License-Identifier: MIT
//
// Prints on the serial console, from all CPUs. The output of one call stays together.
//
//   print_line("cpu ", cpu(), " has seen ", ticks, " ticks at ", hex(address));
//
// format.hpp lists the printable values. A signal's handler must not print, because the interrupted
// code may be printing.
#pragma once

#include <cstdint>

#include "kernel/format.hpp"
#include "kernel/machine.hpp"

namespace boot {

struct Console {
  void put(char character) noexcept { put_on_console(character); }
};

/// The console's lock. A panic waits for it for a limited time, and then goes on without it. All
/// other code uses slabmalloc::SpinLock, which does not allow that. It serves CPUs in order, so a
/// CPU that stops to wait would block all that come after it. Besides, a report that such a lock is
/// broken must not wait for one.
class ConsoleLock {
 public:
  /// Order: acquire, with the release in unlock(): the caller sees all writes of the last holder.
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

// Deduction does not convert a literal to a Text.
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

/// The console for the last lines of a broken kernel. It waits for the console for a limited time.
/// If the machine is about to end, it need not give the console back.
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
