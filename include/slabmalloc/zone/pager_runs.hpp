// SPDX-License-Identifier: MIT
//
// PagerRuns: what a zone asks of its pager for requests that no size class serves.
#pragma once

#include <cstddef>

#include "slabmalloc/base/layout.hpp"
#include "slabmalloc/base/misuse.hpp"
#include "slabmalloc/base/result.hpp"
#include "slabmalloc/zone/pager.hpp"

namespace slabmalloc {

/// Runs of a pager that has them, and the answer of one that has not. Thread: the zone's owner.
template <class PagerT>
struct PagerRuns {
  struct Run {
    Result<void*> address_or_error;
    bool zeroed;
  };

  static constexpr bool exist = RunPager<PagerT>;

  /// A size of 0 counts as 1. Fails: OutOfMemory; InvalidLayout if the pager has no runs.
  [[gnu::noinline]] static Run allocate([[maybe_unused]] PagerT* pager,
                                        [[maybe_unused]] Layout layout) noexcept {
    if constexpr (exist) {
      const Frame run = pager->allocate_run(bytes_of(layout), layout.align());
      if (run.address != nullptr) {
        return {run.address, run.zeroed};
      }
      return {AllocationError::OutOfMemory, false};
    } else {
      return {AllocationError::InvalidLayout, false};
    }
  }

  /// A null pointer is none. Fails: SizeMismatch to the misuse hook if the pager has no runs.
  [[gnu::noinline]] static void deallocate([[maybe_unused]] PagerT* pager, void* object,
                                           [[maybe_unused]] Layout layout) noexcept {
    if (object == nullptr) {
      return;
    }
    if constexpr (exist) {
      pager->deallocate_run(object, bytes_of(layout), layout.align());
    } else {
      report_misuse({MisuseKind::SizeMismatch, object, 0, 0});
    }
  }

 private:
  static constexpr std::size_t bytes_of(Layout layout) noexcept {
    return layout.size() != 0 ? layout.size() : 1;
  }
};

}  // namespace slabmalloc
