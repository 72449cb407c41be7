// SPDX-License-Identifier: MIT
//
// Slow paths of the process heap: requests that the calling thread's zone cannot serve at once.
#include "malloc/heap.hpp"

#include "malloc/background.hpp"
#include "malloc/clock_checks.hpp"
#include "malloc/fork.hpp"
#include "malloc/guarded_sampling.hpp"
#include "malloc/options.hpp"
#include "malloc/place.hpp"
#include "malloc/thread_zones.hpp"
#include "os/os.hpp"
#include "tunables.hpp"

namespace slabmalloc {

constinit thread_local NotedCall noted_call;
constinit thread_local Call named_call = Call::Unknown;

}  // namespace slabmalloc

namespace slabmalloc::heap {

[[gnu::noinline]] Chunk* find_in_new_view(const void* address) noexcept {
  thread_heap.window = process_arena.view();
  return thread_heap.window.chunk_of(address);
}

namespace {

/// The calling thread's zone, created if it has none; null if that fails.
ArenaZone* own_zone() noexcept {
  return thread_heap.zone != &empty_zone ? thread_heap.zone : thread_zones.acquire();
}

/// The calling thread's zone, for the free of the block at `place`; null if the thread has none. A
/// thread that only frees gets a zone as well, once it has freed many small blocks: the zone
/// buffers their frees, or in the hardened library lets blocks rest.
ArenaZone* zone_for_free_of(const Place& place) noexcept {
  static constinit thread_local std::uint32_t frees = 0;
  if (thread_heap.zone != &empty_zone) [[likely]] {
    return thread_heap.zone;
  }
  const bool counts = MallocConfig::hardened || ArenaZone::is_buffered(place.slot_bytes());
  if (!counts || ++frees < Tunables::frees_before_zone) {
    return nullptr;
  }
  frees = 0;
  return thread_zones.acquire();
}

/// Reports that `call` got an address that is not the first byte of a large object.
[[gnu::cold, gnu::noinline]] void report_no_large_object(const void* address, LargeFree answer,
                                                         Call call) noexcept {
  if (answer == LargeFree::Freed) {
    return;
  }
  noted_call = {address, call};
  Misuse misuse{MisuseKind::ForeignPointer, address, 0, 0};
  if (answer == LargeFree::Foreign) {
    misuse.state =
        process_arena.may_have_forgotten(address) ? BlockState::Unknown : BlockState::NoBlock;
    report_misuse(misuse);
    return;
  }
  const LargePlace place = process_arena.place_of(address);
  misuse.block = place.start;
  misuse.object_size = place.bytes;
  if (answer == LargeFree::Inside) {
    misuse.kind = MisuseKind::MisalignedFree;
    misuse.state = BlockState::InUse;
  } else {
    misuse.kind = MisuseKind::DoubleFree;
    misuse.state = place.bytes != 0 ? BlockState::Freed : BlockState::Free;
  }
  report_misuse(misuse);
}

/// Reports that `call` got an address in a page of slots that is not the first byte of a live slot.
[[gnu::cold, gnu::noinline]] void report_not_live(const Place& place, const void* address,
                                                  Call call) noexcept {
  noted_call = {address, call};
  const std::size_t bytes = place.slot_bytes();
  Misuse misuse{MisuseKind::DoubleFree, address, bytes, place.slot, address};
  std::uint32_t slot = place.slot;
  if (slot == ChunkInfo::no_slot) {
    const std::byte* const slots = process_arena.address_of(Chunk::of(place.page));
    const std::size_t offset =
        static_cast<std::size_t>(static_cast<const std::byte*>(address) - slots);
    slot = static_cast<std::uint32_t>(offset / bytes);
    if (slot >= place.info.slots) {
      report_misuse({MisuseKind::MisalignedFree, address, bytes, 0});
      return;
    }
    misuse = {MisuseKind::MisalignedFree, address, bytes, slot, slots + slot * bytes};
  }
  if (!place.page->is_free(slot, place.info.words())) {
    misuse.state = BlockState::InUse;
  } else if (place.page->is_owned_by(thread_heap.zone->tag())) {
    misuse.state = thread_heap.zone->state_of_free(place.page, place.info.class_index, slot);
  } else {
    misuse.state = BlockState::Free;
  }
  report_misuse(misuse);
}

/// The bytes of the large object or the guarded block that starts at `address`.
/// Fails: 0 if there is none, after a report that `call` got it.
std::size_t large_bytes(const void* address, Call call) noexcept {
  if (guarded_blocks.contains(address)) [[unlikely]] {
    return guarded_blocks.usable_bytes(address, named_or(call));
  }
  const std::size_t bytes = process_arena.large_usable_bytes(address);
  if (bytes == 0) {
    report_no_large_object(address, process_arena.classify(address), named_or(call));
  }
  return bytes;
}

/// What a call asks for.
struct Request {
  std::size_t bytes;
  std::size_t alignment = minimum_alignment;
};

/// A guarded block for the sample that is due in `size_class`. Sets the next one.
/// Fails: null if none is to be had.
[[gnu::cold, gnu::noinline]] void* take_sample(ArenaClass& size_class,
                                               const Request& request) noexcept {
  size_class.set_next_sample(draw_gap(SizeClasses::size_of(size_class.index())));
  return guard(request.bytes, request.alignment);
}

/// A block of class `index` of `zone`, the calling thread's.
Extent allocate_in(ArenaZone& zone, std::uint32_t index, const Request& request) noexcept {
  ArenaClass& size_class = zone.class_at(index);
  if (size_class.is_sample_due()) [[unlikely]] {
    if (void* const block = take_sample(size_class, request)) {
      return {block, true};
    }
  }
  return allocate_from(zone, index);
}

/// A block of class `index`, of which the thread's zone has no page: from the shared zone in its
/// turn, else from the thread's.
[[gnu::noinline]] Extent allocate_without_page(std::uint32_t index, const Request& request,
                                               SharedBlocks which) noexcept {
  if (thread_zones.take_shared_turn(index, which)) {
    if (sampling.is_on() && draw_gap(SizeClasses::size_of(index)) == 0) [[unlikely]] {
      if (void* const block = guard(request.bytes, request.alignment)) {
        return {block, true};
      }
    }
    if (const Extent shared = thread_zones.allocate_shared(index)) {
      return shared;
    }
  }
  ArenaZone* const zone = own_zone();
  return zone != nullptr ? allocate_in(*zone, index, request) : thread_zones.allocate_shared(index);
}

/// A block of class `index`.
Extent allocate_of_class(std::uint32_t index, const Request& request,
                         SharedBlocks which = SharedBlocks::FirstAndLarge) noexcept {
  ArenaZone& zone = *thread_heap.zone;
  return zone.class_at(index).pages() == 0 ? allocate_without_page(index, request, which)
                                           : allocate_in(zone, index, request);
}

/// Drains all frees before memory is declared exhausted; true if memory returned to the arena.
bool drain_everything() noexcept {
  const bool others = thread_zones.drain_all();
  return (thread_heap.zone != &empty_zone && thread_heap.zone->trim() != 0) || others;
}

/// Frequent slow calls that need nothing from the arena, with the weight of each. An allocation
/// claims up to 64 slots. A free may be of another thread's block that could not be merged.
enum class SlowCall : std::uint32_t { Free = 1, Allocation = Tunables::calls_per_claim };

constinit thread_local ClockChecks clock_checks;

/// True if the thread should read the clock. Then zones and dirty memory may need scavenging.
[[gnu::always_inline]] inline bool is_scavenge_due(SlowCall call) noexcept {
  return clock_checks.count(static_cast<std::uint32_t>(call));
}

/// The slow calls that a claim of `size_class` counts as.
[[gnu::always_inline]] inline std::uint32_t weight_of_claim(const ArenaClass& size_class) noexcept {
  const std::uint32_t claims =
      thread_heap.zone->queue().is_empty() ? 1 : Tunables::claims_per_late_claim;
  return size_class.most_claimed_eighths() * (Tunables::calls_per_claim / 8) * claims;
}

std::uint32_t now_milliseconds() noexcept {
  return static_cast<std::uint32_t>(os::interface().now_milliseconds());
}

/// If remote frees have waited in the calling thread's zone for a time, drains as many pages as one
/// call may, since the thread may need no page for long. False if it is too early.
bool drain_if_late(ArenaZone& zone, std::uint32_t now) noexcept {
  static constinit thread_local std::uint32_t drained_at = 0;
  bool is_late = false;
  if (zone.has_remote_frees()) {
    is_late = now - drained_at >= Tunables::full_drain_milliseconds;
    if (is_late) {
      zone.drain_some(Tunables::full_drain_pages);
      clock_checks.expect_rare_calls();  // To drain the rest, and to see the memory decay.
    }
  }
  if (!zone.has_remote_frees()) {
    drained_at = now;
  }
  return is_late;
}

/// Reads the clock. If work is due, drains the calling thread's zone, then scavenges the others.
/// This may report misuse to a handler that allocates.
[[gnu::cold, gnu::noinline]] void scavenge_zones() noexcept {
  if (thread_heap.zone != &empty_zone) {
    ThreadZone::of(*thread_heap.zone).follow_sampling();
  }
  const std::uint32_t now = now_milliseconds();
  if (!clock_checks.note(now)) {
    return;
  }
  if (thread_heap.zone != &empty_zone && !drain_if_late(*thread_heap.zone, now)) {
    thread_heap.zone->drain_some();
  }
  if (thread_heap.zone != &empty_zone) {
    scan_own_pages(*thread_heap.zone->queue().zone());
  }
  thread_zones.scavenge_if_due();
  background::start_if_wanted();
}

void note_slow_call(SlowCall call) noexcept {
  if (is_scavenge_due(call)) [[unlikely]] {
    scavenge_zones();
  }
}

Extent allocate_large(std::size_t bytes, std::size_t alignment,
                      Contents contents = Contents::Any) noexcept {
  follow_forks();
  note_slow_call(SlowCall::Allocation);
  Extent extent = process_arena.allocate_large(
      bytes, alignment, &ThreadZones::large_cache_of(*thread_heap.zone), contents);
  if (!extent && drain_everything()) {
    extent = process_arena.allocate_large(bytes, alignment, nullptr, contents);
  }
  return extent;
}

/// True once a block kept its size when it was made smaller. Relaxed: who frees the block has it
/// from the thread that noted that.
constinit HardwareAtomics::Cell<bool> has_kept_a_size{false};

/// Copies `had_bytes` of `block` to `moved`, a block of `bytes`, frees `block` and returns `moved`.
/// A null `moved` means that memory is exhausted: it then returns `block` if that is large enough,
/// else null.
[[gnu::always_inline]] inline void* move(void* block, std::size_t had_bytes, void* moved,
                                         std::size_t bytes) noexcept {
  if (moved == nullptr) [[unlikely]] {
    if (bytes > had_bytes) {
      return nullptr;
    }
    // Programs assume that shrinking a block succeeds.
    note_kept_size();
    return block;
  }
  __builtin_memcpy(moved, block, had_bytes < bytes ? had_bytes : bytes);
  deallocate<Call::Realloc>(block);
  return moved;
}

/// Writes to each OS page of `block`, whose bytes are zero. Few callers of calloc read a page and
/// never write it. A read maps a fresh page to the shared page of zeros. The first write then costs
/// a second fault and a TLB shootdown on every CPU that runs the process.
void* map_for_writing(void* block, std::size_t bytes) noexcept {
  constexpr std::uintptr_t least_os_page_bytes = 4096;
  const auto first = reinterpret_cast<std::uintptr_t>(block);
  for (std::uintptr_t address = first; address < first + bytes;
       address = (address | (least_os_page_bytes - 1)) + 1) {
    // Volatile, since the compiler may remove a store of the same value.
    *reinterpret_cast<volatile std::byte*>(address) = std::byte{0};
  }
  return block;
}

/// Makes the first `bytes` of `block` zero.
[[gnu::always_inline]] inline void* zero(void* block, std::size_t bytes, bool is_zero) noexcept {
  if (!is_zero) {
    return __builtin_memset(block, 0, bytes);
  }
  return bytes <= Tunables::touched_zeroed_bytes ? map_for_writing(block, bytes) : block;
}

/// A block of `size_class`, a class of the calling thread's zone, that is no sample.
/// Pre: the class has nothing claimed.
[[gnu::always_inline]] inline void* claim_unsampled(ArenaClass& size_class,
                                                    std::size_t bytes) noexcept {
  if (void* block = thread_heap.zone->claim(size_class)) [[likely]] {
    return block;
  }
  const std::uint32_t index = size_class.index();
  if (size_class.pages() == 0) [[unlikely]] {
    return allocate_without_page(index, {bytes}, SharedBlocks::FirstAndLarge).address;
  }
  return thread_heap.zone->allocate_unclaimed(index).value_or(nullptr);
}

/// The same, of which the next block is a sample.
[[gnu::cold, gnu::noinline]] void* allocate_sampled(ArenaClass& size_class,
                                                    std::size_t bytes) noexcept {
  void* block = take_sample(size_class, {bytes});
  // The sample may have allocated, and so claimed slots.
  block = block != nullptr ? block : ArenaZone::allocate_claimed(size_class);
  return block != nullptr ? block : claim_unsampled(size_class, bytes);
}

/// A block of `size_class`, a class of the calling thread's zone.
/// Pre: the class has nothing claimed.
[[gnu::always_inline]] inline void* claim_or_allocate(ArenaClass& size_class,
                                                      std::size_t bytes) noexcept {
  return size_class.is_sample_due() ? allocate_sampled(size_class, bytes)
                                    : claim_unsampled(size_class, bytes);
}

/// The same after a look at the clock, which may claim slots: the work behind it may allocate.
[[gnu::noinline]] void* scavenge_and_allocate(ArenaClass& size_class, std::size_t bytes) noexcept {
  scavenge_zones();
  void* const block = ArenaZone::allocate_claimed(size_class);
  return block != nullptr ? block : claim_or_allocate(size_class, bytes);
}

}  // namespace

void note_kept_size() noexcept { has_kept_a_size.store(true, Order::relaxed); }

[[gnu::noinline]] void* allocate_slow(std::size_t bytes, ArenaClass* size_class) noexcept {
  if (size_class == nullptr) {
    return allocate_large(bytes, minimum_alignment).address;
  }
  if (thread_heap.zone == &empty_zone) {
    return allocate_of_class(SizeClasses::index_for(bytes), {bytes}).address;
  }
  return clock_checks.count(weight_of_claim(*size_class))
             ? scavenge_and_allocate(*size_class, bytes)
             : claim_or_allocate(*size_class, bytes);
}

void* allocate_aligned(std::size_t bytes, std::size_t alignment) noexcept {
  const std::uint32_t index = SizeClasses::index_for(bytes, alignment);
  if (index == SizeClasses::no_class) {
    return allocate_large(bytes, alignment).address;
  }
  if (void* block = thread_heap.zone->allocate_fast(index)) {
    return block;
  }
  note_slow_call(SlowCall::Allocation);
  // Programs with large aligned blocks have many: these would soon use pages of both zones.
  return allocate_of_class(index, {bytes, alignment}, SharedBlocks::First).address;
}

void* allocate_zeroed(std::size_t bytes, std::size_t alignment) noexcept {
  // All usable bytes become zero: programs that grow a block clear from its old usable size on.
  if (bytes <= ThreadHeap::direct_bytes && alignment <= minimum_alignment) [[likely]] {
    ArenaClass* const size_class = thread_heap.class_for(bytes);
    if (void* block = ArenaZone::allocate_claimed(*size_class)) [[likely]] {
      return zero(block, SizeClasses::size_of(size_class->index()), size_class->is_zero(block));
    }
  }
  const std::uint32_t index = SizeClasses::index_for(bytes, alignment);
  if (index == SizeClasses::no_class) {
    const Extent extent = allocate_large(bytes, alignment, Contents::Zeros);
    return extent ? zero(extent.address,
                         extent.zeroed ? bytes : process_arena.large_usable_bytes(extent.address),
                         extent.zeroed)
                  : nullptr;
  }
  const std::size_t usable_bytes = SizeClasses::size_of(index);
  ArenaClass& size_class = thread_heap.zone->class_at(index);
  if (void* block = ArenaZone::allocate_claimed(size_class)) {
    return zero(block, usable_bytes, size_class.is_zero(block));
  }
  const Extent extent = allocate_of_class(
      index, {bytes, alignment},
      alignment <= minimum_alignment ? SharedBlocks::FirstAndLarge : SharedBlocks::First);
  note_slow_call(SlowCall::Allocation);
  if (guarded_blocks.contains(extent.address)) {
    return extent.address;  // It is zero, and has `bytes`.
  }
  return extent ? zero(extent.address, usable_bytes, extent.zeroed) : nullptr;
}

[[gnu::noinline]] void deallocate_any(void* block, Call call) noexcept {
  if (block == nullptr) {
    return;
  }
  const Place place = place_of(block);
  if (place.page == nullptr) {
    if (guarded_blocks.contains(block)) [[unlikely]] {
      free_guarded(block, call);
      return;
    }
    const LargeFree answer =
        process_arena.deallocate_large(block, &ThreadZones::large_cache_of(*thread_heap.zone));
    if (answer != LargeFree::Freed) [[unlikely]] {
      report_no_large_object(block, answer, call);
    }
    return;
  }
  if (place.slot == ChunkInfo::no_slot) {
    report_not_live(place, block, call);
    return;
  }
  noted_call = {block, call};
  const std::uint32_t index = place.info.class_index;
  if (ArenaZone* const zone = zone_for_free_of(place)) {
    zone->deallocate_slot(place.page, index, place.slot, block);
  } else {
    ArenaZone::deallocate_slot_remote(place.page, index, place.slot);
  }
  note_slow_call(SlowCall::Free);
}

namespace {

/// The usable bytes of the block that starts at `address`, whose place is `place`; 0 if no live one
/// does.
std::size_t bytes_of_live(const Place& place, const void* address) noexcept {
  if (place.page != nullptr) {
    return place.is_live() ? place.slot_bytes() : 0;
  }
  return guarded_blocks.contains(address) ? guarded_blocks.bytes_at(address)
                                          : process_arena.large_usable_bytes(address);
}

/// True if the live block at `address`, of `usable` bytes, is not of the size that is allocated for
/// a request of `bytes` at a multiple of `alignment`.
bool is_wrong_size(const Place& place, const void* address, std::size_t usable, std::size_t bytes,
                   std::size_t alignment) noexcept {
  const std::uint32_t index = SizeClasses::index_for(bytes, alignment);
  bool is_right = false;
  if (place.page != nullptr) {
    is_right = index == place.info.class_index;
  } else if (guarded_blocks.contains(address)) {
    is_right = index == SizeClasses::index_for(usable, alignment);
  } else {
    is_right = index == SizeClasses::no_class && Arena::is_large_size(usable, bytes);
  }
  return !is_right && !(bytes < usable && has_kept_a_size.load(Order::relaxed));
}

}  // namespace

[[gnu::noinline]] void deallocate_any_sized(void* block, std::size_t bytes, std::size_t alignment,
                                            Call call, std::size_t added) noexcept {
  if (block != nullptr && options.size_check) {
    const Place place = place_of(block);
    const std::size_t usable = bytes_of_live(place, block);
    // The free reports an address that is no live block.
    if (usable != 0 && is_wrong_size(place, block, usable, bytes, alignment)) [[unlikely]] {
      noted_call = {block, call};
      report_misuse({MisuseKind::SizeMismatch, block, usable,
                     place.page != nullptr ? place.slot : 0, block, BlockState::InUse,
                     FoundAt::Call, bytes - added});
      return;
    }
  }
  deallocate_any(block, call);
}

[[gnu::noinline]] void deallocate_apart(Place place, void* block, Call call) noexcept {
  if (place.slot == ChunkInfo::no_slot || thread_heap.zone == &empty_zone) [[unlikely]] {
    deallocate_any(block, call);
    return;
  }
  noted_call = {block, call};
  ArenaZone& zone = *thread_heap.zone;
  if (place.page->tag.load(Order::relaxed) == (zone.tag() | PageState::full)) {
    zone.deallocate_in_full_page(place.page, place.info.class_index, place.slot, block);
  } else {
    zone.deallocate_slot(place.page, place.info.class_index, place.slot, block);
  }
  note_slow_call(SlowCall::Free);
}

namespace {

/// Frees a block that was not merged. `page` is as in deallocate_slow().
[[gnu::noinline]] void deallocate_unmerged(void* block, ArenaTable::Header* page,
                                           Call call) noexcept {
  const ChunkInfo info = Chunk::of(page)->snapshot();
  deallocate_apart({page, info, info.slot_at(offset_in_chunk(block))}, block, call);
}

}  // namespace

template <Call call>
[[gnu::noinline]] void deallocate_slow(void* block, ArenaTable::Header* page) noexcept {
  const std::uint32_t slot = Chunk::of(page)->snapshot().slot_at(offset_in_chunk(block));
  if (slot == ChunkInfo::no_slot || !thread_heap.zone->merge_remote(page, slot)) {
    deallocate_unmerged(block, page, call);
  }
}
template void deallocate_slow<Call::Free>(void*, ArenaTable::Header*) noexcept;
template void deallocate_slow<Call::Delete>(void*, ArenaTable::Header*) noexcept;
template void deallocate_slow<Call::DeleteArray>(void*, ArenaTable::Header*) noexcept;
template void deallocate_slow<Call::Realloc>(void*, ArenaTable::Header*) noexcept;
template void deallocate_slow<Call::ReallocToNothing>(void*, ArenaTable::Header*) noexcept;
template void deallocate_slow<Call::FreeSized>(void*, ArenaTable::Header*) noexcept;
template void deallocate_slow<Call::FreeAlignedSized>(void*, ArenaTable::Header*) noexcept;
template void deallocate_slow<Call::HeapDeallocate>(void*, ArenaTable::Header*) noexcept;
template void deallocate_slow<Call::CFree>(void*, ArenaTable::Header*) noexcept;
template void deallocate_slow<Call::ZoneDestroy>(void*, ArenaTable::Header*) noexcept;

[[gnu::noinline]] void finish_deallocate(void* block) noexcept {
  const Place place = place_of(block);
  thread_heap.zone->word_emptied(place.page, place.info.class_index);
}

namespace {

/// As reallocate(), for a guarded block. A guarded block does not change its size in place: another
/// size is another block.
[[gnu::cold, gnu::noinline]] void* reallocate_guarded(void* block, std::size_t bytes,
                                                      std::size_t alignment) noexcept {
  const std::size_t had_bytes = guarded_blocks.usable_bytes(block, named_or(Call::Realloc));
  if (had_bytes == 0 || had_bytes == bytes) {
    return had_bytes != 0 ? block : nullptr;
  }
  return move(block, had_bytes, allocate_aligned(bytes, alignment), bytes);
}

/// As reallocate(), for a large object.
[[gnu::noinline]] void* reallocate_large(void* block, std::size_t bytes,
                                         std::size_t alignment) noexcept {
  const std::size_t had_bytes = large_bytes(block, Call::Realloc);
  if (had_bytes == 0) {
    return nullptr;
  }
  if (SizeClasses::index_for(bytes, alignment) == SizeClasses::no_class) {
    if (void* resized = process_arena.resize_large(block, bytes, alignment)) {
      if (!Arena::is_large_size(process_arena.large_usable_bytes(resized), bytes)) {
        note_kept_size();
      }
      return resized;
    }
  }
  return move(block, had_bytes, allocate_aligned(bytes, alignment), bytes);
}

}  // namespace

void* reallocate(void* block, std::size_t bytes, std::size_t alignment) noexcept {
  const Place place = place_of(block);
  if (place.page == nullptr) {
    return guarded_blocks.contains(block) ? reallocate_guarded(block, bytes, alignment)
                                          : reallocate_large(block, bytes, alignment);
  }
  if (!place.is_live()) [[unlikely]] {
    report_not_live(place, block, named_or(Call::Realloc));
    return nullptr;
  }
  const std::size_t had_bytes = place.slot_bytes();
  if (alignment > minimum_alignment) [[unlikely]] {
    return SizeClasses::index_for(bytes, alignment) == place.info.class_index
               ? block
               : move(block, had_bytes, allocate_aligned(bytes, alignment), bytes);
  }
  ArenaClass* const size_class = class_for(bytes);
  if (size_class == &thread_heap.zone->class_at(place.info.class_index)) {
    return block;
  }
  void* const moved = allocate_fast(size_class);
  return move(block, had_bytes, moved != nullptr ? moved : allocate_slow(bytes, size_class), bytes);
}

std::size_t usable_bytes(const void* block) noexcept {
  const Place place = place_of(block);
  if (place.page == nullptr) {
    return large_bytes(block, Call::UsableSize);
  }
  if (!place.is_live()) [[unlikely]] {
    report_not_live(place, block, named_or(Call::UsableSize));
    return 0;
  }
  return place.slot_bytes();
}

std::size_t trim() noexcept {
  const std::size_t purged_before = process_arena.purged_bytes();
  thread_zones.deliver_all();
  if (thread_heap.zone != &empty_zone) {
    thread_heap.zone->trim();
  }
  thread_zones.trim_shared();
  thread_zones.drain_all();  // Drops holes too.
  // The arena may purge while it frees these pages; its own trim() then has less to purge.
  const std::size_t purged_bytes = process_arena.purged_bytes() - purged_before;
  return purged_bytes + process_arena.trim();
}

}  // namespace slabmalloc::heap
