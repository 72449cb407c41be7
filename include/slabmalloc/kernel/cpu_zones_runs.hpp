// SPDX-License-Identifier: MIT
//
// CpuZones: requests above the largest size class, which are runs of the pager's. Part of cpu_zones.hpp.
#pragma once

#include "slabmalloc/kernel/cpu_zones.hpp"

namespace slabmalloc {

/// Asks the pager for a run, and tells it the context if it asks for that.
template <KernelHooks HooksT, Pager PagerT, class ConfigT, FrameLife Life>
Result<void*> CpuZones<HooksT, PagerT, ConfigT, Life>::ask_for_run(
    Layout layout, [[maybe_unused]] Context context) noexcept {
  const Layout asked = DeferredRuns::with_link(layout);
  Result<void*> run = AllocationError::OutOfMemory;
  if constexpr (requires { pager_.allocate_run(asked.size(), asked.align(), context); }) {
    if (void* const address = pager_.allocate_run(asked.size(), asked.align(), context).address) {
      run = address;
    }
  } else {
    run = PagerRuns<PagerT>::allocate(&pager_, asked).address_or_error;
  }
  if (run) {
    DeferredRuns::begin(run.value());
  }
  return run;
}

template <KernelHooks HooksT, Pager PagerT, class ConfigT, FrameLife Life>
[[gnu::noinline]] Result<void*> CpuZones<HooksT, PagerT, ConfigT, Life>::allocate_run(
    Layout layout, Context context) noexcept {
  if (!PagerRuns<PagerT>::exist) {
    return AllocationError::InvalidLayout;
  }
  if (!may_call_pager(context)) {
    return out_of_memory();
  }
  Result<void*> run = ask_for_run(layout, context);
  if (run) {
    return run;
  }
  counts_.searches.add(1);
  if (context == Context::MayNotWait) {
    return search_some_for_run(layout);
  }
  if (trim() != 0) {
    run = ask_for_run(layout, context);
  }
  if (!run && reclaim_ != nullptr && reclaim_(reclaim_argument_)) {
    give_back();
    run = ask_for_run(layout, context);
  }
  return run ? run : out_of_memory();
}

/// As search_some(), for a run.
template <KernelHooks HooksT, Pager PagerT, class ConfigT, FrameLife Life>
Result<void*> CpuZones<HooksT, PagerT, ConfigT, Life>::search_some_for_run(Layout layout) noexcept {
  {
    const Section part(part_pointers_, parts_);
    require_own(part);
    drain_in_search(*part.part());
  }
  Result<void*> run = AllocationError::OutOfMemory;
  if (give_back_other(no_bytes)) {
    run = ask_for_run(layout, Context::MayNotWait);
  }
  if (!run) {
    drain_later();
  }
  return run ? run : out_of_memory();
}

template <KernelHooks HooksT, Pager PagerT, class ConfigT, FrameLife Life>
[[gnu::noinline]] void CpuZones<HooksT, PagerT, ConfigT, Life>::deallocate_run(
    void* run, Layout layout, Context context) noexcept {
  const Layout asked = DeferredRuns::with_link(layout);
  const bool goes_to_pager = !PagerRuns<PagerT>::exist || may_call_pager(context);
  // What waits must not go to the pager by another way, which would give it to somebody else.
  if (PagerRuns<PagerT>::exist && run != nullptr &&
      (goes_to_pager ? deferred_runs_.holds(run) : !deferred_runs_.push(run, asked))) {
    report_misuse({MisuseKind::DoubleFree, run, 0, 0});
  } else if (goes_to_pager) {
    PagerRuns<PagerT>::deallocate(&pager_, run, asked);
  }
}

/// Gives a run back that waits for it, and returns its bytes; 0 if there is none.
template <KernelHooks HooksT, Pager PagerT, class ConfigT, FrameLife Life>
std::size_t CpuZones<HooksT, PagerT, ConfigT, Life>::give_back_run() noexcept {
  if (deferred_runs_.is_empty()) {
    return 0;
  }
  typename DeferredRuns::Run run;
  {
    const Section part(part_pointers_, parts_);
    if (part) {
      run = deferred_runs_.pop();
    }
  }
  if (run.address != nullptr) {
    PagerRuns<PagerT>::deallocate(&pager_, run.address, run.layout);
  }
  return run.layout.size();
}

}  // namespace slabmalloc
