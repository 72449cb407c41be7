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

namespace slabmalloc {

namespace {

/// The thread takes a sample: what that allocates is none.
constinit thread_local bool is_sampling = false;

/// The program's handlers of faults, before this one.
struct sigaction before[2];
constexpr int fault_signals[2] = {SIGSEGV, SIGBUS};

struct sigaction& before_of(int number) noexcept {
  return before[number == fault_signals[0] ? 0 : 1];
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

/// Leaves a fault to the handler before.
void pass_on(int number, siginfo_t* info, void* context) noexcept {
  const struct sigaction& action = before_of(number);
  if ((action.sa_flags & SA_SIGINFO) != 0) {
    action.sa_sigaction(number, info, context);
  } else if (action.sa_handler != SIG_DFL && action.sa_handler != SIG_IGN) {
    action.sa_handler(number);
  } else {
    // The access faults again, and now the system does what it does by default.
    sigaction(number, &action, nullptr);
    if (info->si_code <= 0) {
      raise(number);  // Another process, or the program itself, had sent the signal.
    }
  }
}

void on_fault(int number, siginfo_t* info, void* context) noexcept {
  const int saved_errno = errno;
  static constinit HardwareAtomics::Cell<bool> is_reported{false};
  const bool is_access = info->si_code > 0 && guarded_blocks.contains(info->si_addr);
  if (is_access && !is_reported.exchange(true, Order::relaxed)) {
    report_fault(info->si_addr, access_of(context));
  }
  errno = saved_errno;
  pass_on(number, info, context);
}

/// Sets the handlers of faults, once.
void watch_faults() noexcept {
  static constinit HardwareAtomics::Cell<bool> is_watching{false};
  if (is_watching.exchange(true, Order::relaxed)) {
    return;
  }
  struct sigaction action = {};
  action.sa_sigaction = &on_fault;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK;
  for (const int number : fault_signals) {
    sigaction(number, &action, &before_of(number));
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

namespace heap {

[[gnu::cold, gnu::noinline]] void* guard(std::size_t bytes, std::size_t alignment) noexcept {
  if (is_sampling) {
    return nullptr;
  }
  is_sampling = true;
  CallStack stack;
  stack.capture();
  void* const block = guarded_blocks.allocate(bytes != 0 ? bytes : 1, alignment, stack);
  is_sampling = false;
  return block;
}

[[gnu::cold, gnu::noinline]] void free_guarded(const void* block, Call call) noexcept {
  CallStack stack;
  stack.capture();
  guarded_blocks.deallocate(block, call, stack);
}

void draw_samples(ArenaZone& zone) noexcept {
  for (std::uint32_t index = 0; index < SizeClasses::count; ++index) {
    zone.class_at(index).set_next_sample(draw_gap(SizeClasses::size_of(index)));
  }
}

}  // namespace heap
}  // namespace slabmalloc
