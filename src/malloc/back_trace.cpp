// SPDX-License-Identifier: MIT
//
// Back traces by glibc's backtrace(), which other C libraries lack. Calls of captured stacks come
// from libgcc's unwinder, as those of backtrace() do, with what KnownStacks needs besides.
#include "malloc/back_trace.hpp"

#include <dlfcn.h>
#include <link.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <unwind.h>

#include <cstddef>
#include <cstdint>

#include "malloc/call_stack.hpp"
#include "malloc/known_stacks.hpp"
#include "malloc/text.hpp"
#include "slabmalloc/base/atomics.hpp"

extern "C" {
[[gnu::weak]] int backtrace(void** frames, int most);
[[gnu::weak]] void backtrace_symbols_fd(void* const* frames, int count, int descriptor);
}
// Programs that are linked statically may have none.
#pragma weak dlsym

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

/// Turns the faults of a walk over a damaged stack into SIGABRT, for a scope, if they are to be
/// handled. No cancellation of the thread interrupts the scope.
class GuardedScope {
 public:
  explicit GuardedScope(Faults faults) noexcept
      : signals_(faults == Faults::Handled ? signal_count : 0) {
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel_state_);
    struct sigaction action = {};
    action.sa_handler = [](int) { abort(); };
    for (int number = 0; number < signals_; ++number) {
      sigaction(signals[number], &action, &before_[number]);
    }
  }
  ~GuardedScope() {
    for (int number = 0; number < signals_; ++number) {
      sigaction(signals[number], &before_[number], nullptr);
    }
    pthread_setcancelstate(cancel_state_, nullptr);
  }
  GuardedScope(const GuardedScope&) = delete;
  GuardedScope& operator=(const GuardedScope&) = delete;

 private:
  static constexpr int signals[] = {SIGSEGV, SIGBUS};
  static constexpr int signal_count = 2;

  const int signals_;
  int cancel_state_ = 0;
  struct sigaction before_[signal_count] = {};
};

/// A function of libgcc; null if it was not found.
template <class Function>
class LibgccFunction {
 public:
  void find(void* library, const char* name) noexcept {
    call_.store(reinterpret_cast<Function*>(dlsym(library, name)), Order::relaxed);
  }
  Function* get() const noexcept { return call_.load(Order::relaxed); }

 private:
  HardwareAtomics::Cell<Function*> call_;
};

/// libgcc's unwinder. The malloc depends on libc alone, so it finds the functions as glibc does.
struct Unwinder {
  LibgccFunction<decltype(_Unwind_Backtrace)> walk;
  LibgccFunction<decltype(_Unwind_GetIPInfo)> call_of;
  LibgccFunction<decltype(_Unwind_GetCFA)> stack_pointer_of;
  LibgccFunction<decltype(_Unwind_GetGR)> register_of;

  /// Pre: backtrace() has loaded libgcc.
  void find() noexcept {
    if (dlsym == nullptr) {
      return;
    }
    // A reference to dlopen() itself makes linkers warn of it in static programs.
    const auto open = reinterpret_cast<decltype(&dlopen)>(dlsym(RTLD_DEFAULT, "dlopen"));
    void* const library =
        open != nullptr ? open("libgcc_s.so.1", RTLD_LAZY | RTLD_NOLOAD) : nullptr;
    if (library != nullptr) {
      walk.find(library, "_Unwind_Backtrace");
      call_of.find(library, "_Unwind_GetIPInfo");
      stack_pointer_of.find(library, "_Unwind_GetCFA");
      register_of.find(library, "_Unwind_GetGR");
    }
  }
  bool is_found() const noexcept {
    return walk.get() != nullptr && call_of.get() != nullptr && stack_pointer_of.get() != nullptr &&
           register_of.get() != nullptr;
  }
};

constinit Unwinder unwinder;
constinit KnownStacks known_stacks;

/// True once CallStack::prepare() has returned.
constinit HardwareAtomics::Cell<bool> is_prepared{false};

/// For _Unwind_Backtrace(): adds a stack frame to the recording.
_Unwind_Reason_Code add_stack_frame(_Unwind_Context* context, void* recording) {
  constexpr int rbp = 6;  // System V ABI, AMD64, figure 3.36.
  int is_interrupted = 0;
  KnownStacks::StackFrame frame{};
  frame.call = unwinder.call_of.get()(context, &is_interrupted);
  frame.stack_pointer = unwinder.stack_pointer_of.get()(context);
  frame.frame_pointer = unwinder.register_of.get()(context, rbp);
  frame.is_interrupted = is_interrupted != 0;
  return static_cast<KnownStacks::Recording*>(recording)->add(frame) ? _URC_NO_REASON
                                                                     : _URC_END_OF_STACK;
}

/// Writes the calls that led to `frame`, by the unwinder; returns their number.
/// Pre: as KnownStacks::find(), and the unwinder is found.
std::uint32_t unwind(const KnownStacks::Word* frame, void** calls) noexcept {
  KnownStacks::Recording recording(known_stacks, frame, calls);
  unwinder.walk.get()(&add_stack_frame, &recording);
  return recording.count();
}

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
    if constexpr (KnownStacks::is_supported) {
      unwinder.find();
    }
    is_prepared.store(true, Order::release);
  }
}

bool CallStack::capture() noexcept {
  count = 0;
  const bool is_ready = is_prepared.load(Order::acquire);
  if (KnownStacks::is_supported && is_ready && unwinder.is_found()) {
    // Asking for it makes the compiler save rbp there.
    const void* const frame = __builtin_frame_address(0);
    const auto* const words = static_cast<const KnownStacks::Word*>(frame);
    count = known_stacks.find(words, calls);
    if (count != 0) {
      return true;
    }
    count = unwind(words, calls);
  }
  if (is_ready && count == 0) {
    count = static_cast<std::uint32_t>(backtrace(calls, most_calls));
  }
  return false;
}

void write_call_stack(int descriptor, const char* title, const CallStack& stack) noexcept {
  if (backtrace_symbols_fd != nullptr) {
    write_calls(descriptor, title, stack.calls, static_cast<int>(stack.count));
  }
}

void write_back_trace(int descriptor, const char* title, Faults faults) noexcept {
  if (backtrace == nullptr || backtrace_symbols_fd == nullptr) {
    return;
  }
  const GuardedScope guarded(faults);
  void* frames[most_frames];
  const int count = backtrace(frames, most_frames);
  write_calls(descriptor, title, frames, count);
}

}  // namespace slabmalloc
