// SPDX-License-Identifier: MIT
//
// Objects with their own mappings: allocation, resizing, unmapping, and the register of them.
#include "arena/direct_map.hpp"

#include <cstdint>

#include "os/os.hpp"
#include "slabmalloc/base/bits.hpp"

namespace slabmalloc {
namespace {

constexpr const char* object_label = "slabmalloc large object";
constexpr const char* register_label = "slabmalloc register";

constexpr std::size_t largest_size = PTRDIFF_MAX;

void* at(std::uintptr_t address) noexcept { return reinterpret_cast<void*>(address); }

std::uintptr_t number(const void* address) noexcept {
  return reinterpret_cast<std::uintptr_t>(address);
}

}  // namespace

void* DirectMap::allocate(std::size_t bytes, std::size_t alignment, std::size_t& usable,
                          bool& zeroed) noexcept {
  Record record;
  bool reused = false;
  {
    const os::Lock lock(mutex_);
    if (!promise_room()) {
      return nullptr;
    }
    reused = !Tunables::hardened && retired_ != 0 && reuse_retired(bytes, alignment, record);
  }
  if (!reused && !map(bytes, alignment, record)) {
    const os::Lock lock(mutex_);
    --promised_;
    return nullptr;
  }
  const std::size_t mapped_before = reused ? record.mapping_bytes : 0;
  unmap_slack(record);
  os::interface().name(at(record.address), record.bytes, object_label);
  note_mapped(mapped_before, record.mapping_bytes);
  usable = record.bytes;
  zeroed = !reused;
  put(record);
  return at(record.address);
}

void* DirectMap::allocate_cached(std::size_t bytes, std::size_t alignment,
                                 std::size_t& usable) noexcept {
  const std::size_t size = size_for(bytes);
  CachedMapping mapping;
  {
    const os::Lock lock(mutex_);
    if (size == 0 || alignment > os::interface().os_page_bytes() || cache_.bytes() == 0 ||
        !promise_room()) {
      return nullptr;
    }
    mapping = cache_.take(size);
    cached_bytes_.store(cache_.bytes(), Order::relaxed);
  }
  Record record{mapping.base, mapping.bytes, mapping.base, mapping.bytes};
  if (mapping.bytes < size) {
    void* const moved = os::interface().remap(at(mapping.base), mapping.bytes, size, true);
    if (moved == nullptr) {
      unmap_or_retire(record);
      return nullptr;
    }
    note_mapped(mapping.bytes, size);
    record = {number(moved), size, number(moved), size};
  }
  usable = size;
  put(record);
  return at(record.address);
}

std::size_t DirectMap::deallocate(const void* address, bool may_keep,
                                  std::uint32_t stamp) noexcept {
  Record record;
  Record evicted;
  {
    const os::Lock lock(mutex_);
    if (!take(address, record)) {
      return 0;
    }
    remember_end(record.address, record.bytes);
    evicted = record;
    if (Tunables::hardened) {
      if (may_keep && tunables.guards && record.bytes <= Tunables::quarantined_bytes) {
        evicted = quarantine(record);
      }
      if (evicted.mapping_bytes == 0) {
        --promised_;
        return record.bytes;
      }
    } else if (may_keep && record.bytes == record.mapping_bytes && !cache(record, stamp, evicted)) {
      return record.bytes;
    }
  }
  unmap_or_retire(evicted);
  return record.bytes;
}

/// The bytes of the guard on each side of an object; 0 if there is none.
std::size_t DirectMap::guard_bytes() noexcept {
  return Tunables::hardened ? os::interface().os_page_bytes() : 0;
}

/// Makes a mapping inaccessible and keeps it so for a while. Returns one to unmap instead: the
/// oldest of those, or this one if the system refuses; none yet if its `mapping_bytes` are 0.
DirectMap::Record DirectMap::quarantine(const Record& record) noexcept {
  if (!os::interface().forbid_access(at(record.mapping_base), record.mapping_bytes)) {
    return record;
  }
  Quarantined& place = quarantine_[quarantines_++ % (quarantined_mappings + 1)];
  const Quarantined oldest = place;
  place = {record.mapping_base, record.mapping_bytes};
  note_mapped(place.bytes, oldest.bytes);
  return {oldest.base, oldest.bytes, oldest.base, oldest.bytes};
}

/// Caches a mapping that was promised room; true if that evicts another one, which keeps the
/// promise.
bool DirectMap::cache(const Record& record, std::uint32_t stamp, Record& evicted) noexcept {
  const CachedMapping oldest = cache_.put({record.mapping_base, record.mapping_bytes, stamp});
  cached_bytes_.store(cache_.bytes(), Order::relaxed);
  if (oldest.bytes == 0) {
    --promised_;
    return false;
  }
  evicted = {oldest.base, oldest.bytes, oldest.base, oldest.bytes};
  return true;
}

/// Unmaps a mapping that was promised room, and returns its bytes; 0 if it must retire.
std::size_t DirectMap::unmap_or_retire(const Record& record) noexcept {
  if (!os::interface().unmap(at(record.mapping_base), record.mapping_bytes)) {
    retire(record);
    return 0;
  }
  note_mapped(record.mapping_bytes, 0);
  const os::Lock lock(mutex_);
  --promised_;
  return record.mapping_bytes;
}

std::size_t DirectMap::unmap_oldest(std::size_t most) noexcept {
  CachedMapping mapping;
  {
    const os::Lock lock(mutex_);
    mapping = cache_.remove_oldest();
    if (mapping.bytes == 0) {
      return 0;
    }
    cached_bytes_.store(cache_.bytes(), Order::relaxed);
    ++promised_;
  }
  if (mapping.bytes <= most) {
    unmap_or_retire({mapping.base, mapping.bytes, mapping.base, mapping.bytes});
    return mapping.bytes;
  }
  mapping.bytes -= most;
  if (!os::interface().unmap(at(mapping.end()), most)) {
    retire({mapping.base, 0, mapping.base, mapping.bytes + most});
    return mapping.bytes + most;
  }
  note_mapped(most, 0);
  const Record rest{mapping.base, mapping.bytes, mapping.base, mapping.bytes};
  Record evicted;
  bool evicts = false;
  {
    const os::Lock lock(mutex_);
    evicts = cache(rest, mapping.stamp, evicted);
  }
  return most + (evicts ? unmap_or_retire(evicted) : 0);
}

std::size_t DirectMap::trim() noexcept {
  std::size_t bytes = give_back_retired();
  for (std::size_t count = 0; count < Tunables::cached_mappings; ++count) {
    bytes += unmap_oldest(largest_size);
  }
  return bytes;
}

std::size_t DirectMap::end_quarantine() noexcept {
  std::size_t bytes = 0;
  for (Quarantined& place : quarantine_) {
    Quarantined ended;
    {
      const os::Lock lock(mutex_);
      if (place.bytes == 0 || !promise_room()) {
        continue;
      }
      ended = place;
      place = {};
      note_mapped(0, ended.bytes);
    }
    bytes += unmap_or_retire({ended.base, ended.bytes, ended.base, ended.bytes});
  }
  return bytes;
}

bool DirectMap::find_oldest(std::uint32_t& stamp) noexcept {
  if (cached_bytes() == 0) {
    return false;
  }
  const os::Lock lock(mutex_);
  return cache_.find_oldest_stamp(stamp);
}

std::size_t DirectMap::usable_bytes(const void* address) noexcept {
  const os::Lock lock(mutex_);
  const Record* const record = find(address);
  return record != nullptr ? record->bytes : 0;
}

LargePlace DirectMap::place_of(const void* address) noexcept {
  const os::Lock lock(mutex_);
  for (std::size_t slot = 0; slot < capacity_; ++slot) {
    if (number(address) - records_[slot].address < records_[slot].bytes) {
      return {at(records_[slot].address), records_[slot].bytes};
    }
  }
  return find_ended(address);
}

bool DirectMap::is_inside(const void* address) noexcept {
  const LargePlace place = place_of(address);
  return place.bytes != 0 && place.start != address;
}

bool DirectMap::has_ended(const void* address) noexcept {
  const os::Lock lock(mutex_);
  return find_ended(address).bytes != 0;
}

bool DirectMap::may_have_forgotten(const void* address) noexcept {
  const os::Lock lock(mutex_);
  return ends_ > Tunables::remembered_ends &&
         number(address) % os::interface().os_page_bytes() == 0;
}

void* DirectMap::resize(void* address, std::size_t bytes, std::size_t alignment) noexcept {
  Record record;
  {
    const os::Lock lock(mutex_);
    if (!take(address, record)) {
      return nullptr;
    }
  }
  if (Tunables::hardened) {
    const std::size_t wanted = size_for(bytes);
    const bool fits = wanted != 0 && wanted <= record.bytes;
    const std::uintptr_t end = record.address + wanted;
    // What is too much becomes a part of the guard.
    if (fits && wanted != record.bytes &&
        os::interface().forbid_access(at(end), record.bytes - wanted)) {
      record.bytes = wanted;
    }
    put(record);
    return fits ? address : nullptr;
  }
  const std::size_t head = record.address - record.mapping_base;
  const std::size_t bytes_before = record.bytes;
  void* moved = nullptr;
  if (bytes <= largest_size / 2) {
    const std::size_t os_page_bytes = os::interface().os_page_bytes();
    const std::size_t total = align_up(head + (bytes != 0 ? bytes : 1), os_page_bytes);
    moved = os::interface().remap(at(record.mapping_base), record.mapping_bytes, total,
                                  alignment <= os_page_bytes);
    if (moved != nullptr) {
      note_mapped(record.mapping_bytes, total);
      record = {number(moved) + head, total - head, number(moved), total};
      if (record.address != number(address)) {
        const os::Lock lock(mutex_);
        remember_end(number(address), bytes_before);
      }
    }
  }
  const bool refused = moved == nullptr && bytes > record.bytes;
  put(record);
  return refused ? nullptr : at(record.address);
}

std::size_t DirectMap::give_back_retired() noexcept {
  const os::Lock lock(mutex_);
  std::size_t given_back = 0;
  for (std::size_t slot = 0; slot < capacity_ && retired_ != 0;) {
    Record& record = records_[slot];
    const bool retired = record.address != 0 && record.bytes == 0;
    if (retired && os::interface().unmap(at(record.mapping_base), record.mapping_bytes)) {
      given_back += record.mapping_bytes;
      --retired_;
      remove(&record);  // Another record may have moved here: check this slot again.
    } else {
      ++slot;
    }
  }
  note_mapped(given_back, 0);
  return given_back;
}

/// The mapped bytes of an object of `bytes`; 0 if that is too large.
std::size_t DirectMap::size_for(std::size_t bytes) noexcept {
  return bytes <= largest_size / 2
             ? align_up(bytes != 0 ? bytes : 1, os::interface().os_page_bytes())
             : 0;
}

/// Maps an object, with slack to reach an aligned address.
bool DirectMap::map(std::size_t bytes, std::size_t alignment, Record& record) noexcept {
  const std::size_t os_page_bytes = os::interface().os_page_bytes();
  const std::size_t guard = guard_bytes();
  const std::size_t slack = (alignment > os_page_bytes ? alignment - os_page_bytes : 0) + 2 * guard;
  const std::size_t size = size_for(bytes);
  if (size == 0 || slack > largest_size / 2) {
    return false;
  }
  void* const got = os::interface().map(size + slack);
  if (got == nullptr) {
    return false;
  }
  record.mapping_base = number(got);
  record.mapping_bytes = size + slack;
  record.address = align_up(record.mapping_base + guard, alignment);
  record.bytes = size;
  return true;
}

/// Unmaps what lies beside an object in its mapping, and beside its guards. What the system does
/// not unmap, or forbid to use, stays there.
void DirectMap::unmap_slack(Record& record) noexcept {
  const std::size_t guard = guard_bytes();
  if (Tunables::hardened && tunables.guards) {
    os::interface().forbid_access(at(record.address - guard), guard);
    os::interface().forbid_access(at(record.address + record.bytes), guard);
  }
  const std::size_t head = record.address - guard - record.mapping_base;
  const std::size_t tail = record.mapping_bytes - head - record.bytes - 2 * guard;
  if (tail != 0 && os::interface().unmap(at(record.address + record.bytes + guard), tail)) {
    record.mapping_bytes -= tail;
  }
  if (head != 0 && os::interface().unmap(at(record.mapping_base), head)) {
    record.mapping_base += head;
    record.mapping_bytes -= head;
  }
}

std::size_t DirectMap::slot_for(std::uintptr_t address) const noexcept {
  // Fibonacci hashing of the OS page's number: Knuth, The Art of Computer Programming 3, 6.4.
  const std::uint64_t mixed = std::uint64_t{address >> 12} * 0x9E3779B97F4A7C15u;
  return static_cast<std::size_t>(mixed >> 32) & (capacity_ - 1);
}

/// The record of the object at `address`; null if there is none.
DirectMap::Record* DirectMap::find(const void* address) noexcept {
  if (capacity_ == 0 || address == nullptr) {
    return nullptr;
  }
  for (std::size_t slot = slot_for(number(address)); records_[slot].address != 0;
       slot = (slot + 1) & (capacity_ - 1)) {
    if (records_[slot].address == number(address)) {
      return records_[slot].bytes != 0 ? &records_[slot] : nullptr;
    }
  }
  return nullptr;
}

/// The latest freed object that started at `address`.
LargePlace DirectMap::find_ended(const void* address) const noexcept {
  for (std::size_t age = 1; age <= Tunables::remembered_ends; ++age) {
    const LargePlace& ended = ended_[(ends_ - age) % Tunables::remembered_ends];
    if (ended.bytes != 0 && ended.start == address) {
      return ended;
    }
  }
  return {};
}

/// Guarantees that one more record can be inserted later, whatever happens until then.
bool DirectMap::promise_room() noexcept {
  if ((count_ + cache_.count() + promised_ + 1) * 2 > capacity_ && !enlarge()) {
    return false;
  }
  ++promised_;
  return true;
}

bool DirectMap::enlarge() noexcept {
  const std::size_t old_capacity = capacity_;
  const std::size_t capacity =
      old_capacity != 0 ? old_capacity * 2 : os::interface().os_page_bytes() / sizeof(Record);
  void* const room = os::interface().map(capacity * sizeof(Record));
  if (room == nullptr) {
    return false;
  }
  os::interface().name(room, capacity * sizeof(Record), register_label);
  Record* const old = records_;
  records_ = static_cast<Record*>(room);
  capacity_ = capacity;
  count_ = 0;
  for (std::size_t slot = 0; slot < old_capacity; ++slot) {
    if (old[slot].address != 0) {
      insert(old[slot]);
    }
  }
  if (old != nullptr) {
    // If this fails, a few OS pages stay mapped, which is not worth a record.
    os::interface().unmap(old, old_capacity * sizeof(Record));
  }
  note_mapped(old_capacity * sizeof(Record), capacity * sizeof(Record));
  return true;
}

void DirectMap::insert(const Record& record) noexcept {
  std::size_t slot = slot_for(record.address);
  while (records_[slot].address != 0) {
    slot = (slot + 1) & (capacity_ - 1);
  }
  records_[slot] = record;
  ++count_;
}

/// Empties a slot and moves back every later record that a search would no longer reach past it.
void DirectMap::remove(Record* record) noexcept {
  auto hole = static_cast<std::size_t>(record - records_);
  const std::size_t mask = capacity_ - 1;
  for (std::size_t slot = (hole + 1) & mask; records_[slot].address != 0;
       slot = (slot + 1) & mask) {
    const std::size_t home = slot_for(records_[slot].address);
    const bool found_past_hole = ((slot - home) & mask) < ((slot - hole) & mask);
    if (!found_past_hole) {
      records_[hole] = records_[slot];
      hole = slot;
    }
  }
  records_[hole] = Record{};
  --count_;
}

/// Takes a retired mapping that suits an object out of the register.
bool DirectMap::reuse_retired(std::size_t bytes, std::size_t alignment, Record& record) noexcept {
  const std::size_t size = size_for(bytes);
  if (size == 0 || alignment > largest_size / 2) {
    return false;
  }
  for (std::size_t slot = 0; slot < capacity_; ++slot) {
    const Record& candidate = records_[slot];
    const std::size_t head = align_up(candidate.mapping_base, alignment) - candidate.mapping_base;
    if (candidate.address != 0 && candidate.bytes == 0 && head <= candidate.mapping_bytes &&
        candidate.mapping_bytes - head >= size && candidate.mapping_bytes / 2 <= size) {
      record = candidate;
      record.address += head;
      record.bytes = size;
      remove(&records_[slot]);
      --retired_;
      return true;
    }
  }
  return false;
}

/// Takes the object's record out of the register, and promises room to put it back.
bool DirectMap::take(const void* address, Record& record) noexcept {
  Record* const found = find(address);
  if (found == nullptr) {
    return false;
  }
  record = *found;
  remove(found);
  ++promised_;
  live_count_.fetch_sub(1, Order::relaxed);
  live_bytes_.fetch_sub(record.bytes, Order::relaxed);
  return true;
}

void DirectMap::remember_end(std::uintptr_t address, std::size_t bytes) noexcept {
  ended_[ends_ % Tunables::remembered_ends] = {at(address), bytes};
  ++ends_;
}

/// Registers an object in promised room.
void DirectMap::put(const Record& record) noexcept {
  const os::Lock lock(mutex_);
  --promised_;
  insert(record);
  live_count_.fetch_add(1, Order::relaxed);
  live_bytes_.fetch_add(record.bytes, Order::relaxed);
}

/// Keeps a mapping that the kernel would not unmap, in promised room.
void DirectMap::retire(Record record) noexcept {
  os::interface().purge(at(record.mapping_base), record.mapping_bytes);
  record.address = record.mapping_base;
  record.bytes = 0;
  const os::Lock lock(mutex_);
  --promised_;
  insert(record);
  ++retired_;
}

void DirectMap::note_mapped(std::size_t before, std::size_t after) noexcept {
  committed_.change(before, after);
  mapped_bytes_.fetch_add(after - before, Order::relaxed);
}

bool DirectMap::validate() noexcept {
  const os::Lock lock(mutex_);
  std::size_t records = 0;
  std::size_t retired = 0;
  std::size_t objects_bytes = 0;
  std::size_t mapped = capacity_ * sizeof(Record) + cache_.bytes();
  for (std::size_t slot = 0; slot < capacity_; ++slot) {
    const Record& record = records_[slot];
    if (record.address == 0) {
      continue;
    }
    for (std::size_t probe = slot_for(record.address); probe != slot;
         probe = (probe + 1) & (capacity_ - 1)) {
      if (records_[probe].address == 0 || records_[probe].address == record.address) {
        return false;  // D1
      }
    }
    ++records;
    retired += record.bytes == 0 ? 1 : 0;
    objects_bytes += record.bytes;
    mapped += record.mapping_bytes;
  }
  return records == count_ && retired == retired_ &&
         records - retired == live_count_.load(Order::relaxed) &&
         objects_bytes == live_bytes_.load(Order::relaxed) &&       // D2
         mapped == mapped_bytes_.load(Order::relaxed) &&            // D3
         (count_ + cache_.count() + promised_) * 2 <= capacity_ &&  // D4
         cache_.bytes() == cached_bytes() && cache_.validate();
}

}  // namespace slabmalloc
