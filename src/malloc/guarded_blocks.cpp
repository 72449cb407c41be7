// SPDX-License-Identifier: MIT
//
// The places of guarded blocks: their region, their queue, and what is wrong with a free.
#include "malloc/guarded_blocks.hpp"

#include <initializer_list>

#include "malloc/random.hpp"
#include "os/os.hpp"
#include "slabmalloc/base/bits.hpp"

namespace slabmalloc {

constinit GuardedBlocks guarded_blocks;

namespace {

/// The most bytes on either side of a block that are filled: a longer look would cost more than the
/// rest of the free.
constexpr std::size_t most_fill_bytes = 128;

std::size_t guard_bytes() noexcept { return os::interface().os_page_bytes(); }
std::size_t place_bytes() noexcept {
  return align_up(GuardedBlocks::most_bytes, os::interface().os_page_bytes());
}

/// A block's first byte, and the OS pages that the block touches.
struct PlacedBytes {
  std::uintptr_t address;
  std::uintptr_t pages;
  std::size_t pages_bytes;
};

/// Lays a block of `bytes` out in the place that starts at `start`: at its end or its start.
PlacedBytes lay_out(std::uintptr_t start, std::size_t bytes, std::size_t alignment,
                    bool at_end) noexcept {
  const std::size_t os_page_bytes = os::interface().os_page_bytes();
  const std::uintptr_t last = (start + place_bytes() - bytes) & ~(alignment - 1);
  const std::uintptr_t address = at_end ? last : start;
  const std::uintptr_t pages = address & ~(os_page_bytes - 1);
  return {address, pages, align_up(address + bytes, os_page_bytes) - pages};
}

/// A range of bytes.
struct Range {
  std::byte* begin;
  std::byte* end;
};

/// The bytes before and behind the block that are filled.
Range fill_before(const GuardedBlock& block) noexcept {
  const std::size_t bytes = block.address - block.accessible;
  auto* const begin = reinterpret_cast<std::byte*>(block.address);
  return {begin - (bytes < most_fill_bytes ? bytes : most_fill_bytes), begin};
}
Range fill_behind(const GuardedBlock& block) noexcept {
  const std::uintptr_t end = block.address + block.bytes;
  const std::size_t bytes = block.accessible + block.accessible_bytes - end;
  auto* const begin = reinterpret_cast<std::byte*>(end);
  return {begin, begin + (bytes < most_fill_bytes ? bytes : most_fill_bytes)};
}

}  // namespace

void* GuardedBlocks::allocate(std::size_t bytes, std::size_t alignment,
                              const CallStack& stack) noexcept {
  if (bytes > most_bytes || alignment > os::interface().os_page_bytes()) {
    note_refusal();
    return nullptr;
  }
  const os::Lock lock(mutex_);
  const std::uint32_t place = map_region() ? pop() : no_place;
  if (place == no_place) {
    note_refusal();
    return nullptr;
  }
  GuardedBlock& block = blocks_[place];
  const bool at_end = (thread_random_bits() & 1) != 0;
  const PlacedBytes layout = lay_out(start_of(place), bytes, alignment, at_end);
  // Pages of the block before may be accessible still: they would lie beside this one.
  if (!forbid(block) ||
      !os::interface().permit_access(reinterpret_cast<void*>(layout.pages), layout.pages_bytes)) {
    push_front(place);
    note_refusal();
    return nullptr;
  }
  block.address = layout.address;
  block.bytes = bytes;
  block.state = GuardedBlock::State::Live;
  block.accessible = layout.pages;
  block.accessible_bytes = layout.pages_bytes;
  block.allocating_thread = os::interface().thread_id();
  block.allocation = stack;
  block.free.count = 0;
  for (const Range& range : {fill_before(block), fill_behind(block)}) {
    __builtin_memset(range.begin, static_cast<int>(fill),
                     static_cast<std::size_t>(range.end - range.begin));
  }
  allocations_.fetch_add(1, Order::relaxed);
  live_count_.fetch_add(1, Order::relaxed);
  live_bytes_.fetch_add(bytes, Order::relaxed);
  return reinterpret_cast<void*>(block.address);
}

void GuardedBlocks::deallocate(const void* address, Call call, const CallStack& stack) noexcept {
  Misuse misuse{MisuseKind::ForeignPointer, address, 0, 0};
  {
    const os::Lock lock(mutex_);
    const std::uint32_t place = place_of(reinterpret_cast<std::uintptr_t>(address));
    GuardedBlock& block = blocks_[place];
    if (find_live(address) == nullptr) {
      misuse = misuse_at(block, address);
    } else if (const std::byte* const damage = find_damage(block); damage != nullptr) {
      misuse = misuse_at(block, address);
      misuse.kind = damage < address ? MisuseKind::Underflow : MisuseKind::Overflow;
      misuse.given_size = block.bytes;
    } else {
      block.state = GuardedBlock::State::Freed;
      block.freeing_thread = os::interface().thread_id();
      block.free = stack;
      live_count_.fetch_sub(1, Order::relaxed);
      live_bytes_.fetch_sub(block.bytes, Order::relaxed);
      if (!forbid(block)) {
        // At the limit on mappings. The pages are accessible until the place is used again.
        os::interface().purge(reinterpret_cast<void*>(block.accessible), block.accessible_bytes);
      }
      push(place);
      return;
    }
  }
  noted_call = {address, call};
  report_misuse(misuse);
}

std::size_t GuardedBlocks::bytes_at(const void* address) noexcept {
  const os::Lock lock(mutex_);
  const GuardedBlock* const block = find_live(address);
  return block != nullptr ? block->bytes : 0;
}

std::size_t GuardedBlocks::usable_bytes(const void* address, Call call) noexcept {
  Misuse misuse{MisuseKind::ForeignPointer, address, 0, 0};
  {
    const os::Lock lock(mutex_);
    if (const GuardedBlock* const block = find_live(address)) {
      return block->bytes;
    }
    misuse = misuse_at(blocks_[place_of(reinterpret_cast<std::uintptr_t>(address))], address);
  }
  noted_call = {address, call};
  report_misuse(misuse);
  return 0;
}

GuardedFault GuardedBlocks::find_fault(const void* address) const noexcept {
  const auto at = reinterpret_cast<std::uintptr_t>(address);
  const std::uint32_t place = place_of(at);
  GuardedFault nearest;
  std::size_t least_bytes = 0;  // From the address to the nearest byte of `nearest`.
  for (std::uint32_t one = place != 0 ? place - 1 : 0; one < places_ && one <= place + 1; ++one) {
    const GuardedBlock& block = blocks_[one];
    if (block.state == GuardedBlock::State::Unused) {
      continue;
    }
    GuardedFault found{&block, GuardedAccess::Inside, at - block.address};
    if (at < block.address) {
      found = {&block, GuardedAccess::Before, block.address - at};
    } else if (found.distance >= block.bytes) {
      found = {&block, GuardedAccess::Beyond, found.distance - block.bytes};
    }
    if (found.where == GuardedAccess::Inside) {
      return found;
    }
    const std::size_t bytes = found.distance + (found.where == GuardedAccess::Beyond ? 1 : 0);
    if (nearest.block == nullptr || bytes < least_bytes) {
      nearest = found;
      least_bytes = bytes;
    }
  }
  return nearest;
}

const char* GuardedBlocks::validate() noexcept {
  const os::Lock lock(mutex_);
  std::size_t waiting = 0;
  for (std::uint32_t place = first_; place != no_place && waiting <= places_;
       place = blocks_[place].next) {
    if (blocks_[place].state == GuardedBlock::State::Live) {
      return "E1: no Live place waits";
    }
    ++waiting;
  }
  std::size_t live = 0;
  std::size_t bytes = 0;
  for (std::uint32_t place = 0; place < places_; ++place) {
    if (blocks_[place].state == GuardedBlock::State::Live) {
      ++live;
      bytes += blocks_[place].bytes;
    }
  }
  if (waiting + live != places_) {
    return "E1: each place is Live or waits, once";
  }
  return live == live_count() && bytes == live_bytes() ? nullptr : "E2: the counts are the places'";
}

/// Maps the region and the records at the first call; false if that fails.
/// Pre: the mutex is held.
bool GuardedBlocks::map_region() noexcept {
  if (blocks_ != nullptr) {
    return true;
  }
  const os::Interface& os = os::interface();
  const std::uint32_t places = tunables.guarded_places;
  const std::size_t region_bytes = places * (place_bytes() + guard_bytes()) + guard_bytes();
  const std::size_t record_bytes = align_up(places * sizeof(GuardedBlock), os.os_page_bytes());
  void* const region = os.map(region_bytes);
  void* const records = region != nullptr ? os.map(record_bytes) : nullptr;
  if (records == nullptr || !os.forbid_access(region, region_bytes)) {
    if (region != nullptr) {
      os.unmap(region, region_bytes);
    }
    if (records != nullptr) {
      os.unmap(records, record_bytes);
    }
    return false;
  }
  os.name(region, region_bytes, "slabmalloc guarded blocks");
  os.name(records, record_bytes, "slabmalloc guarded blocks' records");
  blocks_ = static_cast<GuardedBlock*>(records);
  places_ = places;
  for (std::uint32_t place = 0; place < places; ++place) {
    push(place);
  }
  start_.store(reinterpret_cast<std::uintptr_t>(region), Order::relaxed);
  region_bytes_.store(region_bytes, Order::release);
  return true;
}

/// The place that holds `address`, or the guard behind it; the first one for the guard before it.
std::uint32_t GuardedBlocks::place_of(std::uintptr_t address) const noexcept {
  const std::size_t offset = address - start_.load(Order::relaxed);
  return offset < guard_bytes() ? 0
                                : static_cast<std::uint32_t>((offset - guard_bytes()) /
                                                             (place_bytes() + guard_bytes()));
}

std::uintptr_t GuardedBlocks::start_of(std::uint32_t place) const noexcept {
  return start_.load(Order::relaxed) + guard_bytes() + place * (place_bytes() + guard_bytes());
}

void GuardedBlocks::push(std::uint32_t place) noexcept {
  blocks_[place].next = no_place;
  (last_ != no_place ? blocks_[last_].next : first_) = place;
  last_ = place;
}

void GuardedBlocks::push_front(std::uint32_t place) noexcept {
  blocks_[place].next = first_;
  first_ = place;
  last_ = last_ != no_place ? last_ : place;
}

std::uint32_t GuardedBlocks::pop() noexcept {
  const std::uint32_t place = first_;
  if (place != no_place) {
    first_ = blocks_[place].next;
    last_ = first_ != no_place ? last_ : no_place;
  }
  return place;
}

/// The live block that starts at `address`, or null. Pre: the mutex is held.
const GuardedBlock* GuardedBlocks::find_live(const void* address) const noexcept {
  const GuardedBlock& block = blocks_[place_of(reinterpret_cast<std::uintptr_t>(address))];
  const bool is_found = block.state == GuardedBlock::State::Live &&
                        block.address == reinterpret_cast<std::uintptr_t>(address);
  return is_found ? &block : nullptr;
}

/// Makes the pages of `block` inaccessible, unless they are.
/// Fails: false if the system refuses. They are then as before.
bool GuardedBlocks::forbid(GuardedBlock& block) noexcept {
  if (block.accessible_bytes != 0 &&
      !os::interface().forbid_access(reinterpret_cast<void*>(block.accessible),
                                     block.accessible_bytes)) {
    return false;
  }
  block.accessible_bytes = 0;
  return true;
}

/// A byte of the fill that was written, or null.
const std::byte* GuardedBlocks::find_damage(const GuardedBlock& block) noexcept {
  for (const Range& range : {fill_before(block), fill_behind(block)}) {
    for (const std::byte* at = range.begin; at != range.end; ++at) {
      if (*at != fill) {
        return at;
      }
    }
  }
  return nullptr;
}

/// A use of `address`, which is not the first byte of a live block, or is damaged, beside `block`.
Misuse GuardedBlocks::misuse_at(const GuardedBlock& block, const void* address) noexcept {
  const std::size_t offset = reinterpret_cast<std::uintptr_t>(address) - block.address;
  if (block.state == GuardedBlock::State::Unused || offset >= block.bytes) {
    // An earlier block of the place may have started there.
    const bool is_unused = block.state == GuardedBlock::State::Unused;
    return {MisuseKind::ForeignPointer,
            address,
            0,
            0,
            nullptr,
            is_unused ? BlockState::NoBlock : BlockState::Unknown};
  }
  const bool is_live = block.state == GuardedBlock::State::Live;
  return {offset != 0 ? MisuseKind::MisalignedFree : MisuseKind::DoubleFree,
          address,
          block.bytes,
          0,
          reinterpret_cast<const void*>(block.address),
          is_live ? BlockState::InUse : BlockState::Freed};
}

}  // namespace slabmalloc
