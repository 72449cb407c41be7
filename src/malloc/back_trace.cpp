// SPDX-License-Identifier: MIT
//
// Back traces by glibc's backtrace(), which other C libraries lack.
#include "malloc/back_trace.hpp"

#include <link.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>

#include <cstddef>
#include <cstdint>

#include "malloc/call_stack.hpp"
#include "malloc/text.hpp"
#include "slabmalloc/base/atomics.hpp"

extern "C" {
[[gnu::weak]] int backtrace(void** frames, int most);
[[gnu::weak]] void backtrace_symbols_fd(void* const* frames, int count, int descriptor);
}

namespace slabmalloc {

namespace {

constexpr int most_frames = 64;

/// The addresses of the program or library that holds this code.
struct OwnCode {
  std::uintptr_t begin = 0;
  std::uintptr_t end = 0;
  bool is_program = false;  ///< The malloc is linked into the program.
  bool is_first = true;     ///< The search is at the first object, the program.

  bool holds(const void* address) const noexcept {
    return reinterpret_cast<std::uintptr_t>(address) - begin < end - begin;
  }
};

/// For dl_iterate_phdr(): ends the search at the object that holds this code.
int note_own_code(dl_phdr_info* object, std::size_t, void* data) noexcept {
  OwnCode& own = *static_cast<OwnCode*>(data);
  const bool is_program = own.is_first;
  own.is_first = false;
  for (int number = 0; number < object->dlpi_phnum; ++number) {
    const auto& part = object->dlpi_phdr[number];
    OwnCode code;
    code.begin = static_cast<std::uintptr_t>(object->dlpi_addr + part.p_vaddr);
    code.end = code.begin + static_cast<std::uintptr_t>(part.p_memsz);
    if (part.p_type == PT_LOAD && code.holds(reinterpret_cast<const void*>(&note_own_code))) {
      own.begin = code.begin;
      own.end = code.end;
      own.is_program = is_program;
      return 1;
    }
  }
  return 0;
}

/// Turns the faults of a walk over a damaged stack into SIGABRT, for a scope. No cancellation of
/// the thread interrupts the scope.
class GuardedScope {
 public:
  GuardedScope() noexcept {
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel_state_);
    struct sigaction action = {};
    action.sa_handler = [](int) { abort(); };
    for (int number = 0; number < signal_count; ++number) {
      sigaction(signals[number], &action, &before_[number]);
    }
  }
  ~GuardedScope() {
    for (int number = 0; number < signal_count; ++number) {
      sigaction(signals[number], &before_[number], nullptr);
    }
    pthread_setcancelstate(cancel_state_, nullptr);
  }
  GuardedScope(const GuardedScope&) = delete;
  GuardedScope& operator=(const GuardedScope&) = delete;

 private:
  static constexpr int signals[] = {SIGSEGV, SIGBUS};
  static constexpr int signal_count = 2;

  int cancel_state_ = 0;
  struct sigaction before_[signal_count] = {};
};

/// True once CallStack::prepare() has returned.
constinit HardwareAtomics::Cell<bool> is_prepared{false};

/// Writes the calls of `frames` without those of this library, below `title`.
void write_calls(int descriptor, const char* title, void* const* frames, int count) noexcept {
  OwnCode own;
  dl_iterate_phdr(&note_own_code, &own);
  int first = 0;
  while (!own.is_program && first < count && own.holds(frames[first])) {
    ++first;
  }
  if (first < count) {
    Text<128> line;
    line.append("%s%s:\n", title, own.is_program ? " (the first are the malloc's own)" : "");
    line.write(descriptor);
    backtrace_symbols_fd(frames + first, count - first, descriptor);
  }
}

}  // namespace

void CallStack::prepare() noexcept {
  if (backtrace != nullptr) {
    void* frame = nullptr;
    backtrace(&frame, 1);
    is_prepared.store(true, Order::relaxed);
  }
}

void CallStack::capture() noexcept {
  const int found = is_prepared.load(Order::relaxed) ? backtrace(calls, CallStack::most_calls) : 0;
  count = static_cast<std::uint32_t>(found);
}

void write_call_stack(int descriptor, const char* title, const CallStack& stack) noexcept {
  if (backtrace_symbols_fd != nullptr) {
    write_calls(descriptor, title, stack.calls, static_cast<int>(stack.count));
  }
}

void write_back_trace(int descriptor, const char* title) noexcept {
  if (backtrace == nullptr || backtrace_symbols_fd == nullptr) {
    return;
  }
  const GuardedScope guarded;
  void* frames[most_frames];
  const int count = backtrace(frames, most_frames);
  write_calls(descriptor, title, frames, count);
}

}  // namespace slabmalloc
