// SPDX-License-Identifier: MIT
//
// ObjectRecord: what the debug mode stores with each object of a cache, and how an object lies in
// its slot. A free object stays constructed, so the record keeps sums of its bytes instead of a
// pattern in them.
//
//   frame
//   | colour | lead: guard | slot 0                                             | slot 1 | …
//                     ┌────┘ | object | red zone: 16 bytes or more | record | guard |
//                     └─ 16 B before each object
//
//   state of an object    object                                    red zone, guards
//   Live, Reached         its client's                              red_byte
//   Freeing               its client's, until it is Freed           red_byte
//   NeverAllocated, Freed kept, raw: see FreeContent                red_byte
//
// Equations over a slot, with their lines in ObjectChecks::check_block(): D1 to D3 of
// block_record.hpp, and
//   D4  from size to the record all is red_byte
//   D6  of a free object: its sums are those of the record, or all its bytes are free_byte
#pragma once

#include <cstddef>
#include <cstdint>

#include "slabmalloc/kernel/block_record.hpp"
#include "slabmalloc/kernel/cache_shape.hpp"

namespace slabmalloc {

/// What the bytes of a free object are.
enum class FreeContent : std::uint8_t {
  Kept,    ///< Constructed, as its last user left it.
  Raw,     ///< All free_byte: the cache has neither constructor nor destructor.
  Shared,  ///< Readers may still write it, so it has no check.
};

/// Two sums over an object's words of 32 bits. They tell whether it changed. If one word changed,
/// they tell which one and what it was; if two did, the sums always differ. (The sums of Fletcher,
/// An Arithmetic Checksum for Serial Transmissions, 1982, here without a modulus: 64 bits hold them
/// for up to 128 KiB.)
struct ObjectSums {
  std::uint64_t plain = 0;     ///< Of word[i].
  std::uint64_t weighted = 0;  ///< Of (i + 1) * word[i].

  static ObjectSums of(const std::byte* begin, std::size_t bytes) noexcept {
    ObjectSums sums;
    for (std::size_t index = 0; index < words_of(bytes); ++index) {
      const std::uint64_t word = word_at(begin, bytes, index);
      sums.plain += word;
      sums.weighted += word * (index + 1);
    }
    return sums;
  }

  static constexpr std::size_t no_offset = ~std::size_t{0};
  /// The first byte that changed in the object at `begin` since its sums were `before`; no_offset
  /// if more than one word did. Pre: the sums of the object are these, and differ.
  std::size_t first_change(const ObjectSums& before, const std::byte* begin,
                           std::size_t bytes) const noexcept {
    const std::uint64_t change = plain - before.plain;
    const std::uint64_t weighted_change = weighted - before.weighted;
    for (std::size_t index = 0; change != 0 && index < words_of(bytes); ++index) {
      const std::uint32_t now = word_at(begin, bytes, index);
      const std::uint64_t earlier = now - change;
      if (change * (index + 1) == weighted_change && earlier >> 32 == 0) {
        return index * sizeof(std::uint32_t) +
               first_difference(now, static_cast<std::uint32_t>(earlier));
      }
    }
    return no_offset;
  }

  friend bool operator==(const ObjectSums&, const ObjectSums&) = default;

 private:
  static constexpr std::size_t words_of(std::size_t bytes) noexcept {
    return (bytes + sizeof(std::uint32_t) - 1) / sizeof(std::uint32_t);
  }
  /// Bytes beyond the end count as 0.
  static std::uint32_t word_at(const std::byte* begin, std::size_t bytes,
                               std::size_t index) noexcept {
    const std::size_t offset = index * sizeof(std::uint32_t);
    std::uint32_t word = 0;
    __builtin_memcpy(&word, begin + offset,
                     bytes - offset < sizeof(word) ? bytes - offset : sizeof(word));
    return word;
  }
  static std::size_t first_difference(std::uint32_t one, std::uint32_t other) noexcept {
    std::byte bytes[2][sizeof(std::uint32_t)];
    __builtin_memcpy(bytes[0], &one, sizeof(one));
    __builtin_memcpy(bytes[1], &other, sizeof(other));
    std::size_t index = 0;
    while (index + 1 < sizeof(std::uint32_t) && bytes[0][index] == bytes[1][index]) {
      ++index;
    }
    return index;
  }
};

/// A record with sums. Thread: as BlockRecord; the sums are for the call that changes the state.
template <class Atomics>
class ObjectRecord : public BlockRecord<Atomics> {
 public:
  const ObjectSums& sums() const noexcept { return sums_; }
  void set_sums(const ObjectSums& sums) noexcept { sums_ = sums; }

 private:
  ObjectSums sums_;
};

template <class Atomics>
using ObjectLayout = BlockLayout<Atomics, ObjectRecord<Atomics>>;

/// The pages of a cache in debug mode. Slots have the object, its red zone, record and guard, and
/// the frame has a guard before the first one. So more of the largest page may be wasted than Q3
/// says.
struct DebugShape : CacheShape {
  std::size_t client_bytes = 0;  ///< Those of an object that its client asked for.

  /// As CacheShape::of().
  template <class Options>
  static constexpr DebugShape of(std::size_t bytes, std::size_t alignment) noexcept {
    using Slots = ObjectLayout<typename Options::Atomics>;
    return {CacheShape::of<Options, Slots::overhead_bytes, alignof(typename Slots::Record),
                           Slots::guard_bytes>(bytes, alignment),
            bytes};
  }

  /// The bytes before the first slot of the first colour.
  constexpr std::size_t lead_bytes() const noexcept {
    return lead_for(ObjectLayout<HardwareAtomics>::guard_bytes, step_bytes);
  }
  std::byte* first_slot(void* frame) const noexcept {
    return CacheShape::first_slot(frame) + lead_bytes();
  }
  constexpr const char* validate(std::size_t header_bytes) const noexcept {
    return validate_slots(header_bytes + lead_bytes());
  }
};

}  // namespace slabmalloc
