// SPDX-License-Identifier: MIT
//
// The futex of the scenarios, and what the malloc's sources name.
#include "explorer/malloc_system.hpp"

namespace slabmalloc {

namespace explorer {

namespace {

/// The futex: it sleeps until a wake, unless the word has changed.
void wait(const std::uint32_t* word, std::uint32_t expected) {
  const auto& wakes = the_system().wakes;
  const std::uint32_t before = latest_value(reinterpret_cast<const std::uint32_t*>(&wakes));
  if (latest_value(word) == expected) {
    while (wakes.load(Order::relaxed) == before) {
      wait_for_change();
    }
  }
}
void wake(const std::uint32_t*, std::uint32_t) { the_system().wakes.fetch_add(1, Order::relaxed); }

os::Interface make_interface() noexcept {
  os::Interface result{};
  result.wait = wait;
  result.wake = wake;
  return result;
}

}  // namespace

const os::Interface interface_of_tests = make_interface();

}  // namespace explorer

ScavengerMutex& explored_mutex() noexcept { return explorer::the_system().mutex; }

namespace os::detail {
constinit explorer::ExploredAtomics::Cell<const Interface*> current{nullptr};
}

}  // namespace slabmalloc
