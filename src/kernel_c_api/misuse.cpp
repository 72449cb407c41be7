// SPDX-License-Identifier: MIT
//
// The way of a bad call to the kernel's hook, and the words for messages.
#include "slabmalloc/base/misuse.hpp"

#include "kernel_c_api/hooks.hpp"
#include "slabmalloc/kernel/cache_shape.hpp"

namespace slabmalloc {

namespace {

constexpr slabmalloc_misuse_reason for_client(MisuseKind kind) noexcept {
  return static_cast<slabmalloc_misuse_reason>(kind);
}
static_assert(for_client(MisuseKind::DoubleFree) == SLABMALLOC_MISUSE_DOUBLE_FREE &&
              for_client(MisuseKind::MisalignedFree) == SLABMALLOC_MISUSE_MISALIGNED_FREE &&
              for_client(MisuseKind::ForeignPointer) == SLABMALLOC_MISUSE_FOREIGN_POINTER &&
              for_client(MisuseKind::SizeMismatch) == SLABMALLOC_MISUSE_SIZE_MISMATCH &&
              for_client(MisuseKind::InvalidPage) == SLABMALLOC_MISUSE_INVALID_PAGE);

constexpr slabmalloc_block_state for_client(BlockState state) noexcept {
  return static_cast<slabmalloc_block_state>(state);
}
static_assert(for_client(BlockState::Unknown) == SLABMALLOC_STATE_UNKNOWN &&
              for_client(BlockState::NoBlock) == SLABMALLOC_STATE_NO_BLOCK &&
              for_client(BlockState::InUse) == SLABMALLOC_STATE_IN_USE &&
              for_client(BlockState::Free) == SLABMALLOC_STATE_FREE &&
              for_client(BlockState::Freed) == SLABMALLOC_STATE_FREED &&
              for_client(BlockState::NeverAllocated) == SLABMALLOC_STATE_NEVER_ALLOCATED);

void tell_client(const Misuse& misuse) noexcept {
  const slabmalloc_misuse told{for_client(misuse.kind),
                               for_client(misuse.state),
                               misuse.address,
                               misuse.block,
                               misuse.object_size,
                               misuse.given_size,
                               misuse.found_at != FoundAt::Call};
  slabmalloc_hook_misuse(&told);
}

}  // namespace

void use_misuse_hook() noexcept { set_misuse_handler(&tell_client); }

}  // namespace slabmalloc

extern "C" {

const char* slabmalloc_describe_misuse(slabmalloc_misuse_reason reason) {
  return describe(static_cast<slabmalloc::MisuseKind>(reason));
}

const char* slabmalloc_describe_error(slabmalloc_error error) {
  switch (error) {
    case SLABMALLOC_OK:
      return describe(slabmalloc::CacheError::None);
    case SLABMALLOC_OUT_OF_MEMORY:
      return "no memory";
    case SLABMALLOC_INVALID_LAYOUT:
      return "a size or an alignment that is never served";
    case SLABMALLOC_TOO_MANY:
      return "more than a limit of the library";
    case SLABMALLOC_NO_SIZE:
      return describe(slabmalloc::CacheError::NoSize);
    case SLABMALLOC_ALIGNMENT_NOT_POWER:
      return describe(slabmalloc::CacheError::AlignmentNotPower);
    case SLABMALLOC_TOO_LARGE:
      return describe(slabmalloc::CacheError::TooLarge);
  }
  return "an error";
}

}  // extern "C"
