// SPDX-License-Identifier: MIT
//
// The hooks of the hosted tests. It has no hooks to sleep, so those are the library's.
#include "kernel_c_api/hosted_hooks.hpp"

#include <sched.h>

#include <cstdio>

namespace slabmalloc::test {

thread_local std::uint32_t HostedHooks::cpu = 0;
thread_local std::uintptr_t HostedHooks::depth = 0;
std::vector<std::string> HostedHooks::lines;
std::vector<slabmalloc_misuse> HostedHooks::misuse;

}  // namespace slabmalloc::test

using slabmalloc::test::HostedHooks;

extern "C" {

uint32_t slabmalloc_hook_cpu(void) noexcept { return HostedHooks::cpu; }
uintptr_t slabmalloc_hook_save_interrupts(void) noexcept { return HostedHooks::depth++; }
void slabmalloc_hook_restore_interrupts(uintptr_t state) noexcept { HostedHooks::depth = state; }
void slabmalloc_hook_panic(const char* line) noexcept {
  std::fprintf(stderr, "%s\n", line);
  std::abort();
}
void slabmalloc_hook_log(const char* line) noexcept { HostedHooks::lines.emplace_back(line); }
void slabmalloc_hook_misuse(const slabmalloc_misuse* misuse) noexcept {
  HostedHooks::misuse.push_back(*misuse);
}
void slabmalloc_hook_relax(void) noexcept { sched_yield(); }

}  // extern "C"
