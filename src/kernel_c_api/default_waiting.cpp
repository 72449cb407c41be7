// SPDX-License-Identifier: MIT
//
// The hooks of a kernel that cannot sleep: waits spin. A file of its own: the linker takes it from
// the archive only if these symbols are missing.
#undef SLABMALLOC_KERNEL_HOOKS  // A kernel's inline hooks would define them once more.
#include "kernel_c_api/hooks.hpp"
#include "slabmalloc/kernel/waiting.hpp"

namespace {

/// The hooks without these three.
struct SpinningKernel : slabmalloc::NoHooks {
  static constexpr std::uint32_t maximum_cpus = slabmalloc::ClientKernel::maximum_cpus;
  static void relax() noexcept { slabmalloc_hook_relax(); }
};

}  // namespace

extern "C" {

bool slabmalloc_hook_wait(const slabmalloc_wait* condition) noexcept {
  return slabmalloc::wait_until<SpinningKernel>(
      {condition->holds, condition->argument, condition->deadline});
}
void slabmalloc_hook_wake(void) noexcept {}
uintptr_t slabmalloc_hook_thread(void) noexcept { return uintptr_t{1} + slabmalloc_hook_cpu(); }

}  // extern "C"
