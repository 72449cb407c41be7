// SPDX-License-Identifier: MIT
//
// The checks of the hardened library.
#include "malloc/hardened_heap.hpp"

#include <cstdint>

#include "malloc/heap.hpp"
#include "malloc/options.hpp"
#include "malloc/place.hpp"
#include "malloc/random.hpp"
#include "malloc/siphash.hpp"
#include "malloc/thread_zones.hpp"
#include "malloc/zero_size_blocks.hpp"
#include "os/os.hpp"

namespace slabmalloc::hardened {

namespace {

constinit ZeroSizeBlocks zero_size_blocks;

/// The secrets of the process's trailers.
class ProcessKeys {
 public:
  constexpr ProcessKeys() noexcept = default;

  /// Order: acquire, with the release in make(): who finds that they are made finds them.
  [[gnu::always_inline]] TrailerKeys get() noexcept {
    if (!are_made_.load(Order::acquire)) [[unlikely]] {
      make();
    }
    return {block_.load(Order::relaxed), facts_.load(Order::relaxed), fill_.load(Order::relaxed)};
  }

 private:
  /// Threads that do this at the same time store the same values.
  /// Order: release, with the acquire in get().
  [[gnu::cold, gnu::noinline]] void make() noexcept {
    // One-way, since a read beyond a block shows its fill, and the C library has the same bits.
    const std::uint64_t seed = os::interface().random_bits();
    block_.store(siphash(seed, ~seed, 1), Order::relaxed);
    facts_.store(siphash(seed, ~seed, 2), Order::relaxed);
    fill_.store(siphash(seed, ~seed, 3), Order::relaxed);
    are_made_.store(true, Order::release);
  }

  HardwareAtomics::Cell<std::uint64_t> block_{};
  HardwareAtomics::Cell<std::uint64_t> facts_{};
  HardwareAtomics::Cell<std::uint64_t> fill_{};
  HardwareAtomics::Cell<bool> are_made_{false};
};
constinit ProcessKeys process_keys;

[[gnu::always_inline]] inline BlockTrailer trailer_of(void* block, std::size_t capacity) noexcept {
  return BlockTrailer(block, capacity, process_keys.get());
}

/// The class of a slot for `bytes` and a trailer; no_class if the block is large.
std::uint32_t class_for(std::size_t bytes, std::size_t alignment) noexcept {
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

/// Two words, in a register of their own on most processors.
using Pair [[gnu::vector_size(16), gnu::may_alias]] = std::uint64_t;

[[gnu::always_inline]] inline bool is_zero(Pair pair) noexcept { return (pair[0] | pair[1]) == 0; }

/// Larger memory is left to the C library's functions, which use the widest registers.
constexpr std::size_t most_inline_bytes = 256;

/// True if `bytes` at `block` are 0.
/// Pre: both are multiples of 16, and `bytes` is not 0.
[[gnu::always_inline]] inline bool is_zero(const void* block, std::size_t bytes) noexcept {
  const auto* const pairs = static_cast<const Pair*>(block);
  if (bytes > most_inline_bytes) {
    // Each byte is like the one 16 bytes before it.
    return is_zero(pairs[0]) && __builtin_memcmp(pairs, pairs + 1, bytes - sizeof(Pair)) == 0;
  }
  Pair any = pairs[0];
  for (std::size_t number = 1; number < bytes / sizeof(Pair); ++number) {
    any |= pairs[number];
  }
  return is_zero(any);
}

/// Makes `bytes` at `block` zero.
/// Pre: `block` is at a multiple of 16, and `bytes` is 8 more than one.
[[gnu::always_inline]] inline void make_zero(void* block, std::size_t bytes) noexcept {
  if (bytes > most_inline_bytes) {
    __builtin_memset(block, 0, bytes);
    return;
  }
  auto* pair = static_cast<Pair*>(block);
  for (std::size_t count = bytes / sizeof(Pair); count != 0; --count) {
    *pair++ = Pair{};
    asm("" : "+r"(pair));  // Else the compiler makes a call of memset() of the loop.
  }
  __builtin_memset(pair, 0, sizeof(std::uint64_t));
}

/// Reports a write into the slot at `block`, which no client has, somewhere from `near` on. Makes
/// its `capacity` bytes zero.
[[gnu::cold, gnu::noinline]] void report_write_after_free(void* block, std::size_t capacity,
                                                          const std::byte* near) noexcept {
  const std::byte* const end = static_cast<std::byte*>(block) + capacity;
  const std::byte* written = near;
  while (written + 1 != end && *written == std::byte{0}) {
    ++written;
  }
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

/// Reports that `call` may not free the block at `block`, since it rests, or because of its kind or
/// of `bytes`.
[[gnu::cold, gnu::noinline]] void report_mismatch(const void* block, std::size_t capacity,
                                                  BlockTrailer::Facts facts, Call call,
                                                  std::size_t bytes) noexcept {
  noted_call = {block, call};
  Misuse misuse{MisuseKind::SizeMismatch, block, facts.bytes, 0, block, BlockState::InUse};
  misuse.given_size = bytes;
  if (facts.is_resting) {
    misuse = {MisuseKind::DoubleFree, block, capacity, 0, block, BlockState::Freed};
  } else if (options.kind_check && facts.kind != kind_for(call)) {
    misuse = {MisuseKind::MismatchedFree, block, capacity, 0, block, BlockState::InUse};
    misuse.allocated_by = allocator_of(facts.kind);
  }
  report_misuse(misuse);
}

/// A slot that is not free, and all that a free of its block looks at.
class UsedSlot {
 public:
  /// Slot `number` of `slots` in `page`, of `capacity` bytes, at `block`.
  [[gnu::always_inline]] UsedSlot(ArenaTable::Header* page, std::uint32_t number,
                                  std::uint32_t slots, std::size_t capacity, void* block) noexcept
      : keys_(process_keys.get()),
        page_(page),
        number_(number),
        slots_(slots),
        capacity_(capacity),
        block_(static_cast<std::byte*>(block)) {}
  [[gnu::always_inline]] UsedSlot(const heap::Place& place, void* block) noexcept
      : UsedSlot(place.page, place.slot, place.info.slots, place.slot_bytes(), block) {}

  void* block() const noexcept { return block_; }
  std::size_t capacity() const noexcept { return capacity_; }
  BlockTrailer trailer() const noexcept { return {block_, capacity_, keys_}; }

  /// Its trailer, for `call`. The block may be resting.
  /// Fails: unsound facts, after a report.
  [[gnu::always_inline]] BlockTrailer::Facts read(Call call) const noexcept {
    BlockTrailer::Facts facts = trailer().read();
    if (!facts.is_sound) [[unlikely]] {
      report_overflow(block_, block_, capacity_, 0, call);
    } else if (facts.is_filled && !trailer().has_fill(facts.bytes)) [[unlikely]] {
      report_overflow(block_, block_, capacity_, facts.bytes, call);
      facts.is_sound = false;
    }
    return facts;
  }

  /// True if `call` may free it as one of `bytes`; else false, after a report.
  [[gnu::always_inline]] bool may_be_freed(Call call, std::size_t bytes) const noexcept {
    const BlockTrailer::Facts facts = read(call);
    if (!facts.is_sound) [[unlikely]] {
      return false;
    }
    if ((facts.kind != kind_for(call) && (options.kind_check || facts.is_resting)) ||
        (options.size_check && bytes != no_size && bytes != facts.bytes)) [[unlikely]] {
      report_mismatch(block_, capacity_, facts, call, bytes);
      return false;
    }
    return true;
  }

  /// Reports each write into the slots beside it, for `call`. It reads free slots if the page
  /// `is_own`: else their owner may be issuing them.
  [[gnu::always_inline]] void check_neighbours(Call call, bool is_own) const noexcept {
    const bool may_read_free = is_own && options.reuse_check;
    check_at(1, call, may_read_free);
    if (capacity_ < checked_bytes) [[unlikely]] {
      check_at(2, call, may_read_free);
    }
  }

  /// Makes its block zero and lets it rest.
  [[gnu::always_inline]] void clear() const noexcept {
    if (options.clearing) [[likely]] {
      make_zero(block_, capacity_ - BlockTrailer::bytes);
    }
    trailer().write_resting();
  }

 private:
  /// Beside a block on each side: of one slot, or of two of the smallest ones.
  static constexpr std::size_t checked_bytes = 32;
  static_assert(heap::SizeClasses::size_of(0) * 2 == checked_bytes);

  /// Looks at the two slots `distance` from this one.
  [[gnu::always_inline]] void check_at(std::uint32_t distance, Call call,
                                       bool may_read_free) const noexcept {
    const std::size_t bytes = capacity_ < checked_bytes ? capacity_ : checked_bytes;
    if (number_ >= distance) [[likely]] {
      std::byte* const start = block_ - distance * capacity_;
      check(number_ - distance, start, start + capacity_ - bytes, bytes, call, may_read_free);
    }
    if (number_ + distance < slots_) [[likely]] {
      std::byte* const start = block_ + distance * capacity_;
      check(number_ + distance, start, start, bytes, call, may_read_free);
    }
  }

  /// Looks at slot `slot`, at `start`: at the trailer of a live one; if it `may_read_free`, at the
  /// `bytes` from `near` on of a free one. Other threads may allocate and free slots meanwhile,
  /// except those that are free for the owner, if that is this thread.
  [[gnu::always_inline]] void check(std::uint32_t slot, std::byte* start, const std::byte* near,
                                    std::size_t bytes, Call call,
                                    bool may_read_free) const noexcept {
    // Relaxed: only the owner writes it. Another thread's look at the trailer decides for itself.
    const Word local = page_->local(slot / word_bits).load(Order::relaxed);
    if (is_set(local, slot % word_bits)) {
      if (may_read_free && !is_zero(near, bytes)) [[unlikely]] {
        report_write_after_free(start, capacity_, near);
      }
    } else if (!BlockTrailer(start, capacity_, keys_).is_sound_or_clear() &&
               !page_->is_free(slot, (slots_ + word_bits - 1) / word_bits)) [[unlikely]] {
      report_overflow(block_, start, capacity_, 0, call);
    }
  }

  TrailerKeys keys_;
  ArenaTable::Header* page_;
  std::uint32_t number_;
  std::uint32_t slots_;
  std::size_t capacity_;
  std::byte* block_;
};

/// When a block was looked at for writes after its free.
enum class Looks : std::uint8_t { WhenIssued, Now };

/// Reports what happened to `block`, whose trailer does not say that it rests. False if its slot
/// must stay as it is: another thread had freed the block at the same time as this one.
[[gnu::cold, gnu::noinline]] bool report_unrest(void* block) noexcept {
  const heap::Place place = heap::place_of(block);
  if (place.page == nullptr || !place.is_live()) {
    heap::deallocate_any(block, Call::Free);
    return false;
  }
  const BlockTrailer trailer = trailer_of(block, place.slot_bytes());
  BlockTrailer::Facts facts = trailer.read();
  if (facts.is_sound) {
    facts.is_resting = true;  // A new client has it. The old one freed it twice.
    report_mismatch(block, place.slot_bytes(), facts, Call::Free, no_size);
    return false;
  }
  auto* const end = static_cast<std::byte*>(block) + place.slot_bytes();
  report_write_after_free(block, place.slot_bytes(), end - BlockTrailer::bytes);
  return true;
}

/// Frees the slot of `block`, which rests.
/// Fails: WriteAfterFree to the hook, if its trailer was overwritten, or if it is looked at now;
/// DoubleFree, if another thread freed it at the same time.
template <Looks looks>
[[gnu::always_inline]] inline void free_slot(void* block) noexcept {
  // True if the slot may be free: its trailer said that it rests, and is clear now.
  const auto may_free = [block](std::size_t capacity) noexcept {
    const BlockTrailer trailer = trailer_of(block, capacity);
    if (!trailer.is_resting() && !report_unrest(block)) [[unlikely]] {
      return false;
    }
    trailer.clear();
    if (looks == Looks::Now && options.clearing && options.reuse_check && !is_zero(block, capacity))
        [[unlikely]] {
      report_write_after_free(block, capacity, static_cast<const std::byte*>(block));
    }
    return true;
  };
  Chunk* const chunk = thread_heap.window.chunk_of(block);
  if (chunk == nullptr || chunk->header.tag.load(Order::relaxed) != thread_heap.zone->tag())
      [[unlikely]] {
    const heap::Place place = heap::place_of(block);
    if (place.page == nullptr || place.slot == ChunkInfo::no_slot) [[unlikely]] {
      heap::deallocate_any(block, Call::Free);  // Another thread freed it too, and the page ended.
    } else if (may_free(place.slot_bytes())) {
      heap::deallocate_apart(place, block, Call::Free);
    }
    return;
  }
  if (!may_free(chunk->info.extent)) [[unlikely]] {
    return;
  }
  const FreeOutcome outcome = chunk->header.free_slot<MallocConfig::hardened>(
      chunk->info.words(), chunk->info.slot_around(heap::offset_in_chunk(block)));
  if (outcome == FreeOutcome::WordEmptied) [[unlikely]] {
    heap::finish_deallocate(block);
  } else if (outcome == FreeOutcome::Rejected) [[unlikely]] {
    heap::deallocate_any(block, Call::Free);  // Another thread freed it at the same moment.
  }
}

/// Frees the block of `slot` for `call` as one of `bytes`: it rests. Its page `is_own` if the
/// calling thread owns it.
/// Fails: misuse to the hook; then the block is as it was.
[[gnu::always_inline]] inline void free_used(const UsedSlot& slot, bool is_own, Call call,
                                             std::size_t bytes) noexcept {
  if (!slot.may_be_freed(call, bytes)) [[unlikely]] {
    return;
  }
  // Without clearing, a slot that another thread has just got may hold anything.
  if (options.canaries && options.clearing) [[likely]] {
    slot.check_neighbours(call, is_own);
  }
  slot.clear();
  void* block = slot.block();
  if (options.quarantine && thread_heap.zone != &empty_zone) [[likely]] {
    Quarantine& quarantine = ThreadZone::of(*thread_heap.zone).quarantine;
    block = quarantine.exchange(block, slot.capacity(), thread_random_bits());
    if (block == nullptr) [[unlikely]] {
      return;
    }
  }
  free_slot<Looks::WhenIssued>(block);
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

/// Makes a block of `bytes` of the slot at `block`, of `capacity` bytes, which was issued just now.
[[gnu::always_inline]] inline void* prepare(void* block, std::size_t capacity, std::size_t bytes,
                                            BlockKind kind) noexcept {
  if (!options.clearing) [[unlikely]] {
    __builtin_memset(block, 0, bytes);
  } else if (options.reuse_check && !is_zero(block, capacity)) [[unlikely]] {
    report_write_after_free(block, capacity, static_cast<const std::byte*>(block));
  }
  trailer_of(block, capacity).write(bytes, kind, options.canaries);
  return block;
}

/// A slot's block, or a large one, for allocate_any().
void* try_allocate(std::size_t bytes, std::size_t alignment, BlockKind kind) noexcept {
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
  return block != nullptr ? prepare(block, heap::SizeClasses::size_of(index), bytes, kind)
                          : nullptr;
}

/// As allocate(), for any size and alignment.
[[gnu::noinline]] void* allocate_any(std::size_t bytes, std::size_t alignment,
                                     BlockKind kind) noexcept {
  // No more rests than that. A larger request, which may come from an attacker, releases nothing.
  constexpr std::size_t most_rested_bytes = Quarantine::small_places * Quarantine::small_bytes +
                                            Quarantine::large_places * heap::max_class_bytes;
  void* const block = try_allocate(bytes, alignment, kind);
  return block == nullptr && bytes <= most_rested_bytes && release_quarantined()
             ? try_allocate(bytes, alignment, kind)
             : block;
}

/// As deallocate(), for an address at `place` that is not that of a live slot.
void deallocate_elsewhere(const heap::Place& place, void* block, Call call, std::size_t bytes,
                          std::size_t alignment) noexcept {
  if (zero_size_blocks.contains(block)) {
    if (!zero_size_blocks.deallocate(block)) [[unlikely]] {
      report_no_zero_size_block(block, call);
    }
  } else if (bytes != no_size && place.page == nullptr) {
    heap::deallocate_any_sized(block, bytes_with_trailer(bytes), alignment, call,
                               bytes_with_trailer(bytes) - bytes);
  } else {
    heap::deallocate_any(block, call);
  }
}

/// As deallocate(), for any address.
[[gnu::noinline]] void deallocate_any(void* block, Call call, std::size_t bytes,
                                      std::size_t alignment) noexcept {
  if (block == nullptr) {
    return;
  }
  const heap::Place place = heap::place_of(block);
  if (place.page == nullptr || !place.is_live()) {
    deallocate_elsewhere(place, block, call, bytes, alignment);
  } else {
    free_used({place, block}, place.page->is_owned_by(thread_heap.zone->tag()), call, bytes);
  }
}

}  // namespace

void* allocate(std::size_t bytes, std::size_t alignment, BlockKind kind) noexcept {
  constexpr std::size_t most_bytes = ThreadHeap::direct_bytes - BlockTrailer::bytes;
  if (bytes - 1 < most_bytes && alignment <= heap::minimum_alignment) [[likely]] {
    const std::size_t with_trailer = bytes + BlockTrailer::bytes;
    ArenaClass& size_class = *thread_heap.class_for(with_trailer);
    if (void* const block = ArenaZone::allocate_claimed(size_class)) [[likely]] {
      return prepare(block, size_class.geometry().object_size, bytes, kind);
    }
  }
  return allocate_any(bytes, alignment, kind);
}

void deallocate(void* block, Call call, std::size_t bytes, std::size_t alignment) noexcept {
  Chunk* const chunk = thread_heap.window.chunk_of(block);
  if (chunk == nullptr || chunk->header.tag.load(Order::relaxed) != thread_heap.zone->tag())
      [[unlikely]] {
    deallocate_any(block, call, bytes, alignment);
    return;
  }
  ArenaTable::Header& page = chunk->header;
  const ChunkInfo& info = chunk->info;
  const std::uint32_t slot = info.slot_at(heap::offset_in_chunk(block));
  if (slot == ChunkInfo::no_slot || page.is_free(slot, info.words())) [[unlikely]] {
    heap::deallocate_any(block, call);
    return;
  }
  free_used({&page, slot, info.slots, info.extent, block}, true, call, bytes);
}

bool release_quarantined(ThreadZone& zone) noexcept {
  bool are_some = false;
  zone.quarantine.release([&](void* block) noexcept {
    free_slot<Looks::Now>(block);
    are_some = true;
  });
  return are_some;
}

bool release_quarantined() noexcept {
  return thread_heap.zone != &empty_zone && release_quarantined(ThreadZone::of(*thread_heap.zone));
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
  const UsedSlot slot(place, block);
  if (!slot.may_be_freed(named_or(Call::Realloc), no_size)) {
    return nullptr;
  }
  const BlockTrailer trailer = slot.trailer();
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
  const UsedSlot slot(place, const_cast<void*>(block));
  const BlockTrailer::Facts facts = slot.read(named_or(Call::UsableSize));
  if (facts.is_resting) [[unlikely]] {
    report_mismatch(block, place.slot_bytes(), facts, named_or(Call::UsableSize), no_size);
  }
  return facts.is_sound ? facts.bytes : 0;
}

}  // namespace slabmalloc::hardened
