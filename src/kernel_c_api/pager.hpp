// SPDX-License-Identifier: MIT
//
// The pager of a kernel, which zones and caches of C++ call.
#pragma once

#include <cstddef>

#include "kernel_c_api/hooks.hpp"
#include "slabmalloc/zone/pager.hpp"

namespace slabmalloc {

/// A copy of a pager's functions. Without one of them, it has nothing.
class ClientPager {
 public:
  static constexpr std::size_t base_bytes = 4096;

  constexpr explicit ClientPager(const slabmalloc_kernel_pager& functions) noexcept
      : functions_(functions) {}

  Frame allocate_frame(std::size_t bytes, Context context = Context::MayWait) noexcept {
    return functions_.allocate_frame != nullptr
               ? functions_.allocate_frame(functions_.argument, bytes, for_client(context))
               : nullptr;
  }
  void deallocate_frame(void* frame, std::size_t bytes) noexcept {
    functions_.deallocate_frame(functions_.argument, frame, bytes);
  }
  Frame allocate_run(std::size_t bytes, std::size_t alignment,
                     Context context = Context::MayWait) noexcept {
    return functions_.allocate_run != nullptr
               ? functions_.allocate_run(functions_.argument, bytes, alignment, for_client(context))
               : nullptr;
  }
  /// Fails: false for a bad free, also where the pager has no runs.
  bool deallocate_run(void* run, std::size_t bytes, std::size_t) noexcept {
    if (functions_.deallocate_run == nullptr) {
      report_misuse({MisuseKind::ForeignPointer, run, 0, 0});
      return false;
    }
    return functions_.deallocate_run(functions_.argument, run, bytes);
  }
  /// False if it knows no block, so that block_at() proves nothing.
  bool finds() const noexcept { return functions_.find != nullptr; }
  /// False if it gives no runs, so that none can come back.
  bool has_runs() const noexcept { return functions_.deallocate_run != nullptr; }
  PagerBlock block_at(const void* address) const noexcept {
    if (functions_.find == nullptr) {
      return {};
    }
    const slabmalloc_block block = functions_.find(functions_.argument, address);
    return {block.address, block.bytes, static_cast<PagerUse>(block.use)};
  }

 private:
  slabmalloc_kernel_pager functions_;
};
static_assert(FindingPager<ClientPager>);
static_assert(static_cast<PagerUse>(SLABMALLOC_USE_NONE) == PagerUse::None &&
              static_cast<PagerUse>(SLABMALLOC_USE_FREE) == PagerUse::Free &&
              static_cast<PagerUse>(SLABMALLOC_USE_FRAME) == PagerUse::Frame &&
              static_cast<PagerUse>(SLABMALLOC_USE_RUN) == PagerUse::Run);

}  // namespace slabmalloc
