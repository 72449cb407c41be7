// SPDX-License-Identifier: MIT
//
// RunSupply: requests of a CpuZones above the largest size class, which are runs of the pager.
//
//   allocate ───► account: charge ───► pager ───► run
//   deallocate ─┬───────────────────────────────────────────────────────► pager ───► depart
//               └─ context forbids that ─► deferred ──take_deferred──► give_back
//
// A ContextPager takes some runs back in handlers too. Those never wait.
//
// It owns the runs freed in contexts that cannot call the pager. They wait for a caller that may
// call it. A run has room for the link that it waits with (deferred_runs.hpp), even if its client
// asked for less. A run is charged from before it comes until after it went back, as frames are. A
// waiting run stays charged.
//
// Invariant, beside that of the deferred runs, with its line in validate():
//   K8  bytes of runs <= bytes of all frames and runs
#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>

#include "slabmalloc/base/bits.hpp"
#include "slabmalloc/base/misuse.hpp"
#include "slabmalloc/base/result.hpp"
#include "slabmalloc/kernel/deferred_runs.hpp"
#include "slabmalloc/kernel/frame_account.hpp"
#include "slabmalloc/zone/pager.hpp"

namespace slabmalloc {

/// A RunPager that learns the context of each free. It takes back, also from handlers, the runs
/// into which nobody may write after a bad free: they may be unmapped by then.
///   takes_in_handlers(run)   true for an address of such runs. Thread: any, in any context
///   deallocate_run(run, bytes, alignment, context)   for them in any context but an NMI's, for
///                            others in those that may call the pager; false for a bad free
template <class P>
concept ContextPager =
    RunPager<P> && requires(P& pager, void* run, std::size_t bytes, Context context) {
      { pager.takes_in_handlers(run) } noexcept -> std::same_as<bool>;
      { pager.deallocate_run(run, bytes, bytes, context) } noexcept -> std::same_as<bool>;
    };

/// True if `pager` takes a free of `run` in any context but an NMI's.
template <class PagerT>
bool takes_in_handlers([[maybe_unused]] PagerT& pager, [[maybe_unused]] const void* run) noexcept {
  if constexpr (ContextPager<PagerT>) {
    return pager.takes_in_handlers(run);
  } else {
    return false;
  }
}

/// Gives a run of `bytes` that was asked for by `layout` back to the pager; false if that refused.
struct PlainRunReturn {
  template <class PagerT>
  bool operator()(PagerT& pager, void* run, Layout layout, std::size_t,
                  [[maybe_unused]] Context context) const noexcept {
    if constexpr (ContextPager<PagerT>) {
      return run != nullptr && pager.deallocate_run(run, layout.size(), layout.align(), context);
    } else {
      return PagerRuns<PagerT>::deallocate(&pager, run, layout);
    }
  }
};

/// Runs of one pager, if that has them. A `RunReturn` stands in for PlainRunReturn.
template <KernelHooks Hooks, Pager PagerT, class Atomics, class RunReturn = PlainRunReturn>
class RunSupply {
 public:
  using Account = FrameAccount<Hooks, Atomics>;
  using Deferred = DeferredRuns<Hooks, Atomics>;
  using Run = typename Deferred::Run;

  static constexpr bool exist = PagerRuns<PagerT>::exist;

  /// Pre: `pager` and `account` outlive it.
  constexpr RunSupply(PagerT& pager, Account& account, RunReturn run_return = {}) noexcept
      : pager_(pager), account_(account), run_return_(run_return) {}

  /// The bytes that a run for `layout` is charged.
  static constexpr std::size_t charged_bytes(Layout layout) noexcept {
    return align_up(Deferred::with_link(layout).size(), base_bytes());
  }

  /// Asks the pager for a run, and passes it the context if the pager takes one. If the limit
  /// forbids the run, the limit's callback may free memory.
  /// Thread: any that holds nothing. Context: one that may call the pager.
  /// Fails: OutOfMemory; InvalidLayout if the pager has no runs.
  Result<void*> allocate(Layout layout, Context context) noexcept {
    if constexpr (exist) {
      const Layout asked = Deferred::with_link(layout);
      const std::size_t bytes = charged_bytes(asked);
      if (account_.charge_or_call(bytes, 1) == 0) {
        return AllocationError::OutOfMemory;
      }
      void* const run = ask_pager(asked, context);
      if (run == nullptr) {
        account_.discharge(bytes);
        return AllocationError::OutOfMemory;
      }
      account_.arrive(bytes);
      bytes_.add(bytes);
      Deferred::begin(run);
      return run;
    } else {
      return AllocationError::InvalidLayout;
    }
  }

  /// Frees a run, or defers that. Thread: any that holds nothing, in any context.
  /// Fails: DoubleFree to the misuse hook for a run that waits already; MisalignedFree for a run to
  /// defer that no base frame begins with; else as the pager does.
  [[gnu::noinline]] void deallocate(void* run, Layout layout, Context context) noexcept {
    const Layout asked = Deferred::with_link(layout);
    if (takes_in_handlers(pager_, run)) {
      return_to_pager(run, asked, context);
      return;
    }
    const bool goes_to_pager = !has_runs() || may_call_pager(context);
    if (!goes_to_pager && (reinterpret_cast<std::uintptr_t>(run) & (least_alignment - 1)) != 0) {
      report_misuse({MisuseKind::MisalignedFree, run, 0, 0});
      return;
    }
    // A waiting run must not reach the pager by another way, which would give it to another client.
    if (has_runs() && run != nullptr &&
        (goes_to_pager ? is_deferred_run(run) : !deferred_.push(run, asked))) {
      report_misuse({MisuseKind::DoubleFree, run, 0, 0});
    } else if (goes_to_pager) {
      return_to_pager(run, asked, context);
    } else {
      account_.waiters().note_change();
    }
  }

  /// Bytes of the runs of clients and of those that wait, as charged. Thread: any.
  std::size_t bytes() const noexcept { return bytes_.get(); }
  /// The most bytes() ever was. Thread: any.
  std::size_t bytes_high_water() const noexcept { return bytes_.high_water(); }

  /// True if `run` was freed, and waits. Thread: any, in any context.
  bool is_deferred(const void* run) const noexcept { return deferred_.holds(run); }
  /// Thread: any; a hint.
  bool has_deferred() const noexcept { return !deferred_.is_empty(); }
  /// Bytes of the runs that wait. Thread: any; the figure may lag behind others.
  std::size_t deferred_bytes() const noexcept { return deferred_.bytes(); }
  /// A run taken off the list; its address is null if there is none. Thread: any, inside a section.
  Run take_deferred() noexcept { return deferred_.pop(); }
  /// Gives the run of take_deferred() to the pager; returns its bytes, or 0 if the pager refused.
  /// Thread: any that holds nothing. Context: one that may call the pager.
  std::size_t give_back(const Run& run) noexcept {
    return run.address != nullptr && return_to_pager(run.address, run.layout, Context::MayNotWait)
               ? run.layout.size()
               : 0;
  }

  /// K4, K8, or null. Pre: nobody uses it. Cost: O(deferred runs).
  const char* validate() const noexcept {
    const char* const broken = deferred_.validate();
    if (broken != nullptr || bytes() <= account_.bytes()) {
      return broken;
    }
    return "K8: bytes of runs <= bytes of all frames and runs";
  }

 private:
  /// False if the pager gives no runs, by its type or by its own word.
  bool has_runs() const noexcept {
    if constexpr (requires { pager_.has_runs(); }) {
      return pager_.has_runs();
    } else {
      return exist;
    }
  }
  /// True if the pager can tell what lies at an address: by its type, or by its own word.
  bool pager_finds() const noexcept {
    if constexpr (requires { pager_.finds(); }) {
      return pager_.finds();
    } else {
      return FindingPager<PagerT>;
    }
  }
  /// What the pager rounds a run up to, and aligns it to; 1 if it does not say that.
  static constexpr std::size_t base_bytes() noexcept {
    if constexpr (requires { PagerT::base_bytes; }) {
      return std::size_t{PagerT::base_bytes};
    } else {
      return std::size_t{1};
    }
  }
  /// The alignment of every run: it has room for a link.
  static constexpr std::size_t least_alignment =
      Deferred::with_link(Layout::from_size_align(base_bytes(), base_bytes()).value_or(Layout()))
          .align();

  /// True if `address` is a run that waits. Where the pager can tell that it is no run, this does
  /// not read there.
  bool is_deferred_run(const void* address) const noexcept {
    if constexpr (FindingPager<PagerT>) {
      if (deferred_.is_empty()) {
        return false;
      }
      if (pager_finds()) {
        const PagerBlock block = pager_.block_at(address);
        if (block.use != PagerUse::Run || block.address != address) {
          return false;
        }
      }
    }
    return deferred_.holds(address);
  }
  void* ask_pager(Layout asked, [[maybe_unused]] Context context) noexcept {
    if constexpr (requires { pager_.allocate_run(asked.size(), asked.align(), context); }) {
      return pager_.allocate_run(asked.size(), asked.align(), context).address;
    } else {
      return PagerRuns<PagerT>::allocate(&pager_, asked).address_or_error.value_or(nullptr);
    }
  }
  /// A run that the pager refuses stays charged: it is still the client's, or was never one. False
  /// then.
  bool return_to_pager(void* run, Layout asked, Context context) noexcept {
    const std::size_t bytes = charged_bytes(asked);
    if (!run_return_(pager_, run, asked, bytes, context)) {
      return false;
    }
    bytes_.subtract(bytes);
    account_.depart(bytes);
    return true;
  }

  PagerT& pager_;
  Account& account_;
  [[no_unique_address]] RunReturn run_return_;
  Deferred deferred_;
  ByteCount<Hooks, Atomics> bytes_;
};

}  // namespace slabmalloc
