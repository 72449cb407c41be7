// SPDX-License-Identifier: MIT
//
// The checks of the hardened library.
#include "malloc/hardened_heap.hpp"

#include <cstdint>

#include "malloc/heap.hpp"
#include "malloc/options.hpp"
#include "malloc/place.hpp"
#include "malloc/zero_size_blocks.hpp"
#include "os/os.hpp"

namespace slabmalloc::hardened {

namespace {

constinit ZeroSizeBlocks zero_size_blocks;

/// The secret of the process's trailers; 0 before the first block.
constinit HardwareAtomics::Cell<std::uint64_t> known_key{0};

[[gnu::cold, gnu::noinline]] std::uint64_t make_key() noexcept {
  // Relaxed: each thread computes the same value.
  const std::uint64_t key = os::interface().random_bits() | 1;
  known_key.store(key, Order::relaxed);
  return key;
}

[[gnu::always_inline]] inline std::uint64_t key() noexcept {
  const std::uint64_t value = known_key.load(Order::relaxed);
  return value != 0 ? value : make_key();
}

[[gnu::always_inline]] inline BlockTrailer trailer_of(void* block, std::size_t capacity) noexcept {
  return BlockTrailer(block, capacity, key());
}

/// The class of a slot for `bytes` and a trailer; no_class if the block is large.
[[gnu::always_inline]] inline std::uint32_t class_for(std::size_t bytes,
                                                      std::size_t alignment) noexcept {
  return bytes <= heap::max_class_bytes
             ? heap::SizeClasses::index_for(bytes + BlockTrailer::bytes, alignment)
             : heap::SizeClasses::no_class;
}

/// What the heap below is asked for. Large blocks have no trailer. One of up to 32 KiB asks for the
/// trailer's bytes all the same, since without them it would fit a slot.
std::size_t bytes_with_trailer(std::size_t bytes) noexcept {
  return bytes <= heap::max_class_bytes ? bytes + BlockTrailer::bytes : bytes;
}

/// The kind of block that `call` takes.
constexpr BlockKind kind_for(Call call) noexcept {
  return call == Call::Delete        ? BlockKind::New
         : call == Call::DeleteArray ? BlockKind::NewArray
                                     : BlockKind::Malloc;
}

constexpr const char* allocator_of(BlockKind kind) noexcept {
  switch (kind) {
    case BlockKind::Malloc:
      break;
    case BlockKind::New:
      return "operator new";
    case BlockKind::NewArray:
      return "operator new[]";
  }
  return "malloc() or its like";
}

/// The first byte that is not 0, of those at `byte`, where there is one.
[[gnu::cold, gnu::noinline]] const std::byte* find_written(const std::byte* byte) noexcept {
  while (*byte == std::byte{0}) {
    ++byte;
  }
  return byte;
}

/// The first byte of `bytes` at `block` that is not 0; null if there is none.
/// Pre: both are multiples of 16.
[[gnu::always_inline]] inline const std::byte* first_written(const void* block,
                                                             std::size_t bytes) noexcept {
  // Two words, in a register of their own on most processors.
  using Pair [[gnu::vector_size(16), gnu::may_alias]] = std::uint64_t;
  const auto* const pairs = static_cast<const Pair*>(block);
  const std::size_t count = bytes / sizeof(Pair);
  std::size_t number = 0;
  for (; number + 4 <= count; number += 4) {
    const Pair any = pairs[number] | pairs[number + 1] | pairs[number + 2] | pairs[number + 3];
    if ((any[0] | any[1]) != 0) [[unlikely]] {
      break;
    }
  }
  for (; number < count; ++number) {
    if ((pairs[number][0] | pairs[number][1]) != 0) [[unlikely]] {
      return find_written(reinterpret_cast<const std::byte*>(pairs + number));
    }
  }
  return nullptr;
}

/// Reports a write into the free slot at `block`, and makes it zero.
[[gnu::cold, gnu::noinline]] void report_write_after_free(void* block, std::size_t capacity,
                                                          const std::byte* written) noexcept {
  Misuse misuse{MisuseKind::WriteAfterFree, written, capacity, 0, block};
  misuse.state = BlockState::Free;
  report_misuse(misuse);
  __builtin_memset(block, 0, capacity);
}

/// Reports a write beyond the block at `block`, of which `bytes` were asked for, if that is known.
/// `call` got the block at `address`: this one or one beside it.
[[gnu::cold, gnu::noinline]] void report_overflow(const void* address, const void* block,
                                                  std::size_t capacity, std::size_t bytes,
                                                  Call call) noexcept {
  noted_call = {address, call};
  Misuse misuse{MisuseKind::Overflow, address, capacity, 0, block, BlockState::InUse};
  misuse.given_size = bytes;
  report_misuse(misuse);
}

/// Looks at the trailer of the live block at `block`, which `call` got.
/// Fails: unsound facts, after a report.
[[gnu::always_inline]] inline BlockTrailer::Facts read_trailer(const heap::Place& place,
                                                               void* block, Call call) noexcept {
  const std::size_t capacity = place.slot_bytes();
  const BlockTrailer trailer = trailer_of(block, capacity);
  BlockTrailer::Facts facts = trailer.read();
  if (!facts.is_sound) [[unlikely]] {
    report_overflow(block, block, capacity, 0, call);
  } else if (facts.is_filled && !trailer.has_fill(facts.bytes)) [[unlikely]] {
    report_overflow(block, block, capacity, facts.bytes, call);
    facts.is_sound = false;
  }
  return facts;
}

/// The slots beside a live block that `call` got, and what a free finds written there.
class Neighbours {
 public:
  Neighbours(const heap::Place& place, void* block, Call call) noexcept
      : place_(place),
        block_(static_cast<std::byte*>(block)),
        call_(call),
        capacity_(place.slot_bytes()),
        may_read_free_(options.reuse_check && place.page->is_owned_by(thread_heap.zone->tag())) {}

  /// Reports each write.
  [[gnu::always_inline]] void check() const noexcept {
    const std::size_t near = capacity_ < checked_bytes ? capacity_ : checked_bytes;
    auto* below = block_;
    auto* above = block_;
    std::uint32_t lower = place_.slot;
    std::uint32_t upper = place_.slot;
    for (std::size_t reached = 0; reached < checked_bytes; reached += capacity_) {
      below -= capacity_;
      if (lower != 0) {
        check_slot(--lower, below, below + capacity_ - near, near);
      }
      above += capacity_;
      if (upper + 1 < place_.info.slots) {
        check_slot(++upper, above, above, near);
      }
    }
  }

 private:
  /// On each side.
  static constexpr std::size_t checked_bytes = 32;

  /// Looks at slot `slot`, at `start`: at the trailer of a live one, at the `bytes` from `near` on
  /// of a free one. Other threads may allocate and free slots meanwhile, except those that are free
  /// for the owner, if that is this thread.
  [[gnu::always_inline]] void check_slot(std::uint32_t slot, std::byte* start,
                                         const std::byte* near, std::size_t bytes) const noexcept {
    // Relaxed: only the owner writes it. Another thread's look at the trailer decides for itself.
    const Word local = place_.page->local(slot / word_bits).load(Order::relaxed);
    if (is_set(local, slot % word_bits)) {
      const std::byte* const written = may_read_free_ ? first_written(near, bytes) : nullptr;
      if (written != nullptr) [[unlikely]] {
        report_write_after_free(start, capacity_, written);
      }
      return;
    }
    const BlockTrailer::Facts facts = trailer_of(start, capacity_).read();
    if (!facts.is_sound && !facts.is_clear && !place_.page->is_free(slot, place_.info.words()))
        [[unlikely]] {
      report_overflow(block_, start, capacity_, 0, call_);
    }
  }

  const heap::Place& place_;
  std::byte* const block_;
  const Call call_;
  const std::size_t capacity_;
  const bool may_read_free_;
};

/// True if `call` may free the live block at `block`.
[[gnu::always_inline]] inline bool may_free(const heap::Place& place, void* block, Call call,
                                            std::size_t bytes) noexcept {
  const BlockTrailer::Facts facts = read_trailer(place, block, call);
  if (!facts.is_sound) {
    return false;
  }
  Misuse misuse{MisuseKind::SizeMismatch, block, place.slot_bytes(), place.slot, block,
                BlockState::InUse};
  if (options.kind_check && facts.kind != kind_for(call)) [[unlikely]] {
    misuse.kind = MisuseKind::MismatchedFree;
    misuse.allocated_by = allocator_of(facts.kind);
  } else if (options.size_check && bytes != no_size && bytes != facts.bytes) [[unlikely]] {
    misuse.object_size = facts.bytes;
    misuse.given_size = bytes;
  } else {
    return true;
  }
  noted_call = {block, call};
  report_misuse(misuse);
  return false;
}

/// Makes the slot at `block` zero, its trailer first, which other threads may look at.
void clear(void* block, std::size_t capacity) noexcept {
  trailer_of(block, capacity).clear();
  __builtin_memset(block, 0, capacity - BlockTrailer::bytes);
}

/// Reports that `call` got an address among the blocks of no bytes where none is live.
[[gnu::cold, gnu::noinline]] void report_no_zero_size_block(const void* address,
                                                            Call call) noexcept {
  noted_call = {address, call};
  const auto offset = reinterpret_cast<std::uintptr_t>(address) % ZeroSizeBlocks::distance;
  Misuse misuse{offset == 0 ? MisuseKind::DoubleFree : MisuseKind::ForeignPointer, address, 0, 0};
  misuse.state = offset == 0 ? BlockState::Free : BlockState::NoBlock;
  report_misuse(misuse);
}

}  // namespace

void* allocate(std::size_t bytes, std::size_t alignment, BlockKind kind) noexcept {
  if (bytes == 0 && alignment <= ZeroSizeBlocks::distance && options.zero_size_traps) {
    if (void* const block = zero_size_blocks.allocate()) {
      return block;
    }
  }
  const std::uint32_t index = class_for(bytes, alignment);
  if (index == heap::SizeClasses::no_class) {
    return heap::allocate_zeroed(bytes_with_trailer(bytes), alignment);
  }
  void* const block = alignment <= heap::minimum_alignment
                          ? heap::allocate(bytes + BlockTrailer::bytes)
                          : heap::allocate_aligned(bytes + BlockTrailer::bytes, alignment);
  if (block == nullptr) {
    return nullptr;
  }
  const std::size_t capacity = heap::SizeClasses::size_of(index);
  if (!options.clearing) {
    __builtin_memset(block, 0, bytes);
  } else if (options.reuse_check) {
    if (const std::byte* const written = first_written(block, capacity)) [[unlikely]] {
      report_write_after_free(block, capacity, written);
    }
  }
  trailer_of(block, capacity).write(bytes, kind, options.canaries);
  return block;
}

void deallocate(void* block, Call call, std::size_t bytes, std::size_t alignment) noexcept {
  if (block == nullptr) {
    return;
  }
  if (zero_size_blocks.contains(block)) {
    if (!zero_size_blocks.deallocate(block)) [[unlikely]] {
      report_no_zero_size_block(block, call);
    }
    return;
  }
  const heap::Place place = heap::place_of(block);
  if (place.page == nullptr && bytes != no_size) {
    heap::deallocate_any_sized(block, bytes_with_trailer(bytes), alignment, call,
                               bytes_with_trailer(bytes) - bytes);
    return;
  }
  if (place.page != nullptr && place.is_live()) {
    if (!may_free(place, block, call, bytes)) [[unlikely]] {
      return;
    }
    // Without clearing, a slot that another thread has just got may hold anything.
    if (options.canaries && options.clearing) {
      Neighbours(place, block, call).check();
    }
    if (options.clearing) {
      clear(block, place.slot_bytes());
    }
    // Only a free at the same moment can make this one misuse. Its report may name another call.
    heap::deallocate<Call::Free>(block);
    return;
  }
  heap::deallocate_any(block, call);
}

namespace {

/// Moves a block of `had_bytes` to one of `bytes`; null if memory is exhausted.
void* move(void* block, std::size_t had_bytes, std::size_t bytes, std::size_t alignment) noexcept {
  void* const moved = allocate(bytes, alignment, BlockKind::Malloc);
  if (moved != nullptr) {
    __builtin_memcpy(moved, block, had_bytes < bytes ? had_bytes : bytes);
    deallocate(block, Call::Realloc);
  }
  return moved;
}

/// As reallocate(), for a block in a slot.
void* reallocate_slot(const heap::Place& place, void* block, std::size_t bytes,
                      std::size_t alignment) noexcept {
  if (!may_free(place, block, named_or(Call::Realloc), no_size)) {
    return nullptr;
  }
  const BlockTrailer trailer = trailer_of(block, place.slot_bytes());
  const BlockTrailer::Facts facts = trailer.read();
  if (class_for(bytes, alignment) != place.info.class_index) {
    void* const moved = move(block, facts.bytes, bytes, alignment);
    // Programs assume that shrinking a block succeeds.
    if (moved != nullptr || bytes > facts.bytes) {
      return moved;
    }
  }
  trailer.write(bytes, facts.kind, options.canaries);
  return block;
}

/// As reallocate(), for a block that is in no slot, or for an address that is no block.
void* reallocate_large(void* block, std::size_t bytes, std::size_t alignment) noexcept {
  const std::size_t had_bytes = heap::usable_bytes(block);
  if (had_bytes == 0) {
    return nullptr;
  }
  void* result = nullptr;
  if (class_for(bytes, alignment) == heap::SizeClasses::no_class) {
    result = process_arena.resize_large(block, bytes_with_trailer(bytes), alignment);
  }
  if (result == nullptr) {
    result = move(block, had_bytes, bytes, alignment);
  }
  // Programs assume that shrinking a block succeeds.
  if (result == nullptr && bytes <= had_bytes) {
    heap::note_kept_size();
    return block;
  }
  return result;
}

}  // namespace

void* reallocate(void* block, std::size_t bytes, std::size_t alignment) noexcept {
  const NamedCall name(named_or(Call::Realloc));
  if (zero_size_blocks.contains(block)) {
    if (zero_size_blocks.is_live(block)) {
      return move(block, 0, bytes, alignment);
    }
    report_no_zero_size_block(block, named_or(Call::Realloc));
    return nullptr;
  }
  const heap::Place place = heap::place_of(block);
  return place.page != nullptr && place.is_live() ? reallocate_slot(place, block, bytes, alignment)
                                                  : reallocate_large(block, bytes, alignment);
}

std::size_t usable_bytes(const void* block) noexcept {
  if (zero_size_blocks.contains(block)) {
    return 0;
  }
  const heap::Place place = heap::place_of(block);
  if (place.page == nullptr || !place.is_live()) {
    return heap::usable_bytes(block);
  }
  const BlockTrailer::Facts facts =
      read_trailer(place, const_cast<void*>(block), named_or(Call::UsableSize));
  return facts.is_sound ? facts.bytes : 0;
}

}  // namespace slabmalloc::hardened
