// SPDX-License-Identifier: MIT
//
// DebugPage: a page kind for heaps in debug mode. It makes the record of each slot when a frame
// becomes a page.
//
//   slots of the page kind below
//   | unused | guard | slot 0: free_byte … | record | guard | slot 1: free_byte … | record | …
//    `Lead` bytes
//
// The guard before the first slot costs the slots that fit `Lead` bytes, a multiple of every
// alignment that a class of the page can have.
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "slabmalloc/kernel/block_record.hpp"
#include "slabmalloc/page/allocable_page.hpp"
#include "slabmalloc/zone/config.hpp"

namespace slabmalloc {

/// `PageT` with records.
template <AllocablePage PageT, std::size_t Lead>
class DebugPage : public PageT {
 public:
  using typename PageT::Atomics;
  using typename PageT::Header;
  using Blocks = BlockLayout<Atomics>;

  static_assert(is_power_of_two(Lead) && Lead >= Blocks::guard_bytes);

  static constexpr SlotGeometry geometry(std::size_t object_size) noexcept {
    SlotGeometry result = PageT::geometry(object_size);
    if (result.slots == 0) {
      return {};
    }
    const std::size_t lost = (Lead + object_size - 1) / object_size;
    if (result.slots <= lost) {
      return {};
    }
    result.slots -= static_cast<std::uint32_t>(lost);
    result.words = static_cast<std::uint32_t>((result.slots + word_bits - 1) / word_bits);
    return result;
  }

  static std::byte* slots_of(Header* header) noexcept { return PageT::slots_of(header) + Lead; }
  static std::size_t offset_of(const void* address, Header* header) noexcept {
    return PageT::offset_of(address, header) - Lead;
  }

  static void open(Header* header, const SlotGeometry& geometry) noexcept {
    PageT::open(header, geometry);
    const std::size_t bytes = geometry.object_size;
    if (bytes <= Blocks::overhead_bytes) {
      return;  // No block of a heap in debug mode is that small.
    }
    std::byte* slot = slots_of(header);
    __builtin_memset(slot - Blocks::guard_bytes, red_byte, Blocks::guard_bytes);
    for (std::uint32_t number = 0; number < geometry.slots; ++number, slot += bytes) {
      __builtin_memset(slot, free_byte, Blocks::record_offset(bytes));
      Blocks::record_at(slot, bytes).begin();
      __builtin_memset(slot + bytes - Blocks::guard_bytes, red_byte, Blocks::guard_bytes);
    }
  }
  static void close(Header* header, const SlotGeometry& geometry) noexcept {
    PageT::close(header, geometry);
  }
};

namespace detail {

/// The bytes before the first slot of a page with objects of up to `most_bytes`.
constexpr std::size_t lead_for(std::size_t most_bytes) noexcept {
  return std::size_t{1} << highest_bit(most_bytes > 16 ? most_bytes : 16);
}

/// Adds a page of each kind to `Done...`.
template <class SizeClasses, class Done, class... Kinds>
struct DebugKinds;
template <class SizeClasses, class... Done>
struct DebugKinds<SizeClasses, PageKinds<Done...>> {
  using Type = PageKinds<Done...>;
};
template <class SizeClasses, class... Done, class Kind, class... Rest>
struct DebugKinds<SizeClasses, PageKinds<Done...>, Kind, Rest...> {
  static constexpr std::size_t most_bytes =
      sizeof...(Rest) == 0 ? SizeClasses::max_size : Kind::max_object_bytes;
  using One =
      PageKind<DebugPage<typename Kind::Page, lead_for(most_bytes)>, Kind::max_object_bytes>;
  using Type = typename DebugKinds<SizeClasses, PageKinds<Done..., One>, Rest...>::Type;
};

}  // namespace detail

/// The page kinds `Pages` with records.
template <class Pages, class SizeClasses>
struct DebugPages;
template <class... Kinds, class SizeClasses>
struct DebugPages<PageKinds<Kinds...>, SizeClasses> {
  using Type = typename detail::DebugKinds<SizeClasses, PageKinds<>, Kinds...>::Type;
};

}  // namespace slabmalloc
