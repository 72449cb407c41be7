// SPDX-License-Identifier: MIT
//
// BesidePage: a page whose meta-data lies away from its frame, in a table of the client's. So a
// linear overflow of an object cannot reach it, and slots fill the frame to the last byte. The
// table's stride need not be a power of two, so that bitmaps do not compete for one cache set.
//
//   frame   | slot 0 | slot 1 | … | slot n-1 |
//   table   … | remote bitmap | local bitmap | PageHeader | (the table's own) | …
#pragma once

#include <concepts>
#include <cstddef>

#include "slabmalloc/page/allocable_page.hpp"

namespace slabmalloc {

/// The place of the meta-data of each frame, which a client with a frame table supplies.
///   maximum_words       bitmap words of one kind that a record has room for
///   the other members   as in AllocablePage
template <class T>
concept FrameTable = requires(const void* address, PageHeader<typename T::Atomics>* header,
                              std::size_t size, const SlotGeometry& geometry) {
  { T::maximum_words } -> std::convertible_to<std::size_t>;
  { T::frame_bytes(size) } noexcept -> std::same_as<std::size_t>;
  { T::header_of(address) } noexcept -> std::same_as<PageHeader<typename T::Atomics>*>;
  { T::head_of(address) } noexcept -> std::same_as<PageHeader<typename T::Atomics>*>;
  { T::frame_of(header) } noexcept -> std::same_as<std::byte*>;
  { T::open(header, geometry) } noexcept;
  { T::close(header, geometry) } noexcept;
};

/// A page described by `Table`. Code never creates one: a pointer to one is a frame's address.
template <FrameTable Table>
class BesidePage {
 public:
  using Atomics = typename Table::Atomics;
  using Header = PageHeader<Atomics>;

  BesidePage() = delete;

  /// As in SampledPage.
  static constexpr bool has_samples = requires { requires Table::has_samples; };

  static constexpr std::size_t frame_bytes(std::size_t object_size) noexcept {
    return Table::frame_bytes(object_size);
  }

  static constexpr SlotGeometry geometry(std::size_t object_size) noexcept {
    const SlotGeometry fitted =
        SlotGeometry::fit(object_size, Table::frame_bytes(object_size), 0, false);
    return fitted.words <= Table::maximum_words ? fitted : SlotGeometry{};
  }

  [[gnu::always_inline]] static Header* header_of(const void* address) noexcept {
    return Table::header_of(address);
  }
  static Header* head_of(const void* address) noexcept { return Table::head_of(address); }
  [[gnu::always_inline]] static std::byte* frame_of(Header* header) noexcept {
    return Table::frame_of(header);
  }
  [[gnu::always_inline]] static std::byte* slots_of(Header* header) noexcept {
    return frame_of(header);
  }
  [[gnu::always_inline]] static std::size_t offset_of(const void* address,
                                                      Header* header) noexcept {
    return static_cast<std::size_t>(static_cast<const std::byte*>(address) - slots_of(header));
  }
  static void open(Header* header, const SlotGeometry& geometry) noexcept {
    Table::open(header, geometry);
  }
  static void close(Header* header, const SlotGeometry& geometry) noexcept {
    Table::close(header, geometry);
  }

  /// If the table chooses which slots a claim may take.
  [[gnu::always_inline]] static Word choose(Word slots) noexcept
    requires requires { Table::choose(slots); }
  {
    return Table::choose(slots);
  }

  // What HoleTracking asks for, if the table has it.
  [[gnu::always_inline]] static bool claim(Header* header, std::uint32_t object_size,
                                           std::uint32_t first, std::uint32_t end) noexcept
    requires requires { Table::claim(header, object_size, first, end); }
  {
    return Table::claim(header, object_size, first, end);
  }
  static const char* check_holes(Header* header, const SlotGeometry& geometry, std::uint32_t word,
                                 Word claimed) noexcept
    requires requires { Table::check_holes(header, geometry, word, claimed); }
  {
    return Table::check_holes(header, geometry, word, claimed);
  }
};

}  // namespace slabmalloc
