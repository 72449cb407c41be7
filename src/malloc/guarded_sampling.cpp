// SPDX-License-Identifier: MIT
//
// Makes guarded blocks of samples, and reports the faults of accesses to them.
#include "malloc/guarded_sampling.hpp"

#include <errno.h>
#include <signal.h>
#include <ucontext.h>

#include "malloc/heap.hpp"
#include "malloc/options.hpp"
#include "malloc/report.hpp"
#include "malloc/thread_zones.hpp"
#include "os/os.hpp"
#include "slabmalloc/base/atomics.hpp"
#include "tunables.hpp"

namespace slabmalloc {

static_assert(Sampling::never == CurrentPage<ArenaPage>::no_sample);
static_assert(heap::max_class_bytes <= GuardedBlocks::most_bytes,
              "a sample of any size class fits a place");

namespace {

/// What the program had for a signal, before this handler.
struct ActionBefore {
  struct sigaction action;
  /// A handler of SA_RESETHAND was called. Relaxed: the exchange alone decides who calls it.
  HardwareAtomics::Cell<bool> is_used_up{false};
};
constinit ActionBefore before[2]{};
constexpr int fault_signals[2] = {SIGSEGV, SIGBUS};
constexpr int calls_once = static_cast<int>(SA_RESETHAND);  // An unsigned constant.

ActionBefore& before_of(int number) noexcept { return before[number == fault_signals[0] ? 0 : 1]; }

bool is_handler(const struct sigaction& action) noexcept {
  return action.sa_handler != SIG_DFL && action.sa_handler != SIG_IGN;
}

/// What the access did, where the processor tells.
FaultingAccess access_of([[maybe_unused]] const void* context) noexcept {
#if defined(__x86_64__)
  constexpr long long is_write = 2;  // Intel SDM 3A, 4.7, page-fault error code.
  const auto* const machine = static_cast<const ucontext_t*>(context);
  return (machine->uc_mcontext.gregs[REG_ERR] & is_write) != 0 ? FaultingAccess::Write
                                                               : FaultingAccess::Read;
#else
  return FaultingAccess::Unknown;
#endif
}

/// Leaves a signal to the action before.
/// Pre: the system called on_fault() with the mask and the flags of that action, except
/// SA_RESETHAND.
void pass_on(int number, siginfo_t* info, void* context) noexcept {
  ActionBefore& saved = before_of(number);
  struct sigaction action = saved.action;
  if (is_handler(action) && (action.sa_flags & calls_once) != 0 &&
      saved.is_used_up.exchange(true, Order::relaxed)) {
    action.sa_flags = 0;
    action.sa_handler = SIG_DFL;
  }
  const bool is_sent = info->si_code <= 0;  // By another process, or by the program itself.
  if (is_handler(action)) {
    if ((action.sa_flags & SA_SIGINFO) != 0) {
      action.sa_sigaction(number, info, context);
    } else {
      action.sa_handler(number);
    }
  } else if (!is_sent || action.sa_handler == SIG_DFL) {
    // The access faults again, and now the system does what it does by default.
    sigaction(number, &action, nullptr);
    if (is_sent) {
      raise(number);
    }
  }
}

/// A report of a fault. Relaxed: they publish nothing that another thread reads.
constinit HardwareAtomics::Cell<bool> is_begun{false};
constinit HardwareAtomics::Cell<bool> is_written{false};
constinit thread_local bool is_reporter = false;

/// Reports the process's first fault of an access to a guarded block. Another thread that faults
/// meanwhile waits for the end of the report, since what follows may end the process.
void report_once(const siginfo_t* info, const void* context) noexcept {
  if (!is_begun.exchange(true, Order::relaxed)) {
    is_reporter = true;
    const heap::CallStackScope scope;
    report_fault(info->si_addr, access_of(context));
    is_written.store(true, Order::relaxed);
    return;
  }
  if (is_reporter) {
    is_written.store(true, Order::relaxed);  // The report itself faulted, and goes no further.
  }
  for (int nap = 0; !is_written.load(Order::relaxed) && nap < Tunables::naps_before_fault; ++nap) {
    os::interface().sleep(Tunables::fault_nap_microseconds);
  }
}

void on_fault(int number, siginfo_t* info, void* context) noexcept {
  const int saved_errno = errno;
  if (info->si_code > 0 && guarded_blocks.contains(info->si_addr)) {
    report_once(info, context);
  }
  errno = saved_errno;
  pass_on(number, info, context);
}

/// Sets the handler of signal `number`, with the mask and the flags of the action before. So the
/// same signals are blocked in it, and the same system calls go on after it.
/// Fails: false if the system refuses.
bool watch(int number) noexcept {
  struct sigaction action = {};
  if (sigaction(number, nullptr, &action) != 0) {
    return false;
  }
  if (action.sa_sigaction == &on_fault) {
    return true;
  }
  // A fault may come as soon as the handler is set.
  before_of(number).action = action;
  // A signal that was ignored interrupted no system call.
  const int restart = action.sa_handler == SIG_IGN ? SA_RESTART : 0;
  action.sa_flags = (action.sa_flags & ~calls_once) | SA_SIGINFO | SA_ONSTACK | restart;
  action.sa_sigaction = &on_fault;
  return sigaction(number, &action, nullptr) == 0;
}

/// Sets the handlers of faults, unless that was done.
void watch_faults() noexcept {
  // Relaxed: the exchange alone decides who sets them.
  static constinit HardwareAtomics::Cell<bool> is_watching{false};
  if (is_watching.exchange(true, Order::relaxed)) {
    return;
  }
  for (const int number : fault_signals) {
    if (!watch(number)) {
      is_watching.store(false, Order::relaxed);  // A later call tries again.
    }
  }
}

}  // namespace

void set_guarded_sampling(std::size_t one_in, std::size_t mean_bytes) noexcept {
  if (Tunables::hardened) {
    return;
  }
  if (one_in != 0 || mean_bytes != 0) {
    if (options.back_trace) {
      CallStack::prepare();
    }
    watch_faults();
  }
  sampling.set(one_in, mean_bytes);
  if (thread_heap.zone != &empty_zone) {
    ThreadZone::of(*thread_heap.zone).follow_sampling();
  }
}

void forget_report_of_parent() noexcept {
  is_begun.store(false, Order::relaxed);
  is_written.store(false, Order::relaxed);
}

namespace heap {

constinit thread_local bool CallStackScope::is_in_one_ = false;

[[gnu::cold, gnu::noinline]] void* guard(std::size_t bytes, std::size_t alignment) noexcept {
  const CallStackScope scope;
  if (scope.is_nested()) {
    return nullptr;
  }
  CallStack stack;
  stack.capture();
  return guarded_blocks.allocate(bytes != 0 ? bytes : 1, alignment, stack);
}

[[gnu::cold, gnu::noinline]] void free_guarded(const void* block, Call call) noexcept {
  CallStack stack;
  {
    const CallStackScope scope;
    if (!scope.is_nested()) {
      stack.capture();
    }
  }
  guarded_blocks.deallocate(block, call, stack);
}

void draw_samples(ArenaZone& zone) noexcept {
  for (std::uint32_t index = 0; index < SizeClasses::count; ++index) {
    zone.class_at(index).set_next_sample(draw_gap(SizeClasses::size_of(index)));
  }
}

}  // namespace heap
}  // namespace slabmalloc
