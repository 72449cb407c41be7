// SPDX-License-Identifier: MIT
//
// The process heap, its statistics and misuse, as slabmalloc.h declares them.
#include <algorithm>
#include <cstddef>

#include "malloc/front.hpp"
#include "malloc/guarded_blocks.hpp"
#include "malloc/report.hpp"
#include "malloc/thread_zones.hpp"
#include "slabmalloc/base/digits.hpp"
#include "slabmalloc/slabmalloc.h"
#include "slabmalloc/version.hpp"

namespace {

using slabmalloc::Call;
using slabmalloc::HardwareAtomics;
using slabmalloc::Misuse;
using slabmalloc::MisuseKind;
using slabmalloc::NamedCall;
using slabmalloc::Order;
namespace front = slabmalloc::front;
namespace heap = slabmalloc::heap;

constinit HardwareAtomics::Cell<slabmalloc_misuse_handler> client_handler{nullptr};

constexpr slabmalloc_misuse_kind kind_for_c(MisuseKind kind) noexcept {
  switch (kind) {
    case MisuseKind::DoubleFree:
      return SLABMALLOC_DOUBLE_FREE;
    case MisuseKind::MisalignedFree:
      return SLABMALLOC_MISALIGNED_FREE;
    case MisuseKind::ForeignPointer:
      return SLABMALLOC_FOREIGN_POINTER;
    case MisuseKind::SizeMismatch:
      return SLABMALLOC_SIZE_MISMATCH;
    case MisuseKind::Overflow:
      return SLABMALLOC_OVERFLOW;
    case MisuseKind::Underflow:
      return SLABMALLOC_UNDERFLOW;
    case MisuseKind::WriteAfterFree:
      return SLABMALLOC_WRITE_AFTER_FREE;
    case MisuseKind::MismatchedFree:
      return SLABMALLOC_MISMATCHED_FREE;
    case MisuseKind::InvalidPage:
    case MisuseKind::WrongContext:  // Kernel heaps alone report it.
      break;
  }
  return SLABMALLOC_INVALID_PAGE;
}

void tell_client(const Misuse& misuse) noexcept {
  // Acquire, with the exchange in slabmalloc_set_misuse_handler().
  const slabmalloc_misuse_handler handler = client_handler.load(Order::acquire);
  if (handler == nullptr) {
    slabmalloc::report_misuse_and_abort(misuse);
  }
  const slabmalloc::OtherZone for_handler;
  handler(kind_for_c(misuse.kind), misuse.address);
}

/// "MAJOR.MINOR.PATCH", built at compile time.
struct VersionText {
  char characters[16] = {};

  constexpr VersionText() noexcept {
    using namespace slabmalloc;
    char* end = characters;
    for (const int part : {version_major, version_minor, version_patch}) {
      const Digits digits(static_cast<std::size_t>(part));
      end = std::copy(digits.begin(), digits.end(), end);
      *end++ = '.';
    }
    end[-1] = '\0';
  }
};
constexpr VersionText version_text;

bool is_alignment(std::size_t alignment) noexcept { return slabmalloc::is_power_of_two(alignment); }

}  // namespace

#pragma GCC visibility push(default)
extern "C" {

void* slabmalloc_allocate(size_t bytes, size_t alignment) {
  return is_alignment(alignment) ? front::allocate_aligned(bytes, alignment) : nullptr;
}

void* slabmalloc_allocate_zeroed(size_t bytes, size_t alignment) {
  return is_alignment(alignment) ? front::allocate_zeroed(bytes, alignment) : nullptr;
}

void* slabmalloc_reallocate(void* block, size_t, size_t new_bytes, size_t alignment) {
  if (!is_alignment(alignment)) {
    return nullptr;
  }
  if (block == nullptr) {
    return front::allocate_aligned(new_bytes, alignment);
  }
  const NamedCall call(Call::HeapReallocate);
  return front::reallocate(block, new_bytes, alignment);
}

void slabmalloc_deallocate(void* block, size_t bytes, size_t alignment) {
  front::deallocate_sized<Call::HeapDeallocate>(block, bytes, alignment);
}

size_t slabmalloc_usable_size(const void* block) {
  const NamedCall call(Call::HeapUsableSize);
  return block == nullptr ? 0 : front::usable_bytes(block);
}

void slabmalloc_guard(size_t one_in, size_t mean_bytes) {
  slabmalloc::set_guarded_sampling(one_in, mean_bytes);
}

size_t slabmalloc_trim(void) { return front::trim(); }

void slabmalloc_process_statistics(slabmalloc_statistics* result) {
  const slabmalloc::ProcessStatistics sum = slabmalloc::process_statistics();
  *result = {sum.live_bytes, sum.arena.in_use_bytes, sum.arena.in_use_peak_bytes, sum.allocations,
             sum.frees,      sum.remote_frees};
}

slabmalloc_misuse_handler slabmalloc_set_misuse_handler(slabmalloc_misuse_handler handler) {
  slabmalloc::set_misuse_handler(&tell_client);
  return client_handler.exchange(handler, Order::acq_rel);
}

const char* slabmalloc_version(void) { return version_text.characters; }

}  // extern "C"
#pragma GCC visibility pop
