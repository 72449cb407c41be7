// SPDX-License-Identifier: MIT
//
// AllocablePage: the requirements that a size class has of a page type. The library supplies two:
// one with the meta-data at the end of the frame (embedded_page.hpp), one beside it
// (beside_page.hpp). A client can add more.
//
// RunTimePage: the same of a page type whose frames have a size that is known at run time, such as
// ShapedPage (shaped_page.hpp). The size class holds the size (FramesOf).
#pragma once

#include <concepts>
#include <cstddef>

#include "slabmalloc/classes/slot_geometry.hpp"
#include "slabmalloc/page/page_header.hpp"

namespace slabmalloc {

/// A frame carved into slots, with a PageHeader.
///   slots_of(header)    the first byte of the first slot: the frame's, or a little above
///   offset_of(address, header)  how many bytes `address` lies above slots_of(header)
///   open(header, geometry) and close(header, geometry): called when a frame becomes a page of a
///                       class and when it stops being one
template <class P>
concept SlottedPage =
    requires(const void* address, typename P::Header* header, const SlotGeometry& geometry) {
      requires std::same_as<typename P::Header, PageHeader<typename P::Atomics>>;
      { P::slots_of(header) } noexcept -> std::same_as<std::byte*>;
      { P::offset_of(address, header) } noexcept -> std::same_as<std::size_t>;
      { P::open(header, geometry) } noexcept;
      { P::close(header, geometry) } noexcept;
    };

/// A page type whose PageHeader is found from any address in the frame.
///   frame_bytes(size)   bytes of a frame for slots of that size: a power of two; frames are
///                       aligned to it
///   geometry(size)      how slots of that size lie in it; `slots` 0 if they do not fit
///   header_of(address)  the header of the frame that holds `address`; any address may be asked;
///                       the answer is only trusted after its seal was checked
///   head_of(address)    the same, or null where the page type knows that there is no page
///   frame_of(header)    the first byte of the frame
template <class P>
concept AllocablePage =
    SlottedPage<P> && requires(const void* address, typename P::Header* header, std::size_t size) {
      { P::frame_bytes(size) } noexcept -> std::same_as<std::size_t>;
      { P::geometry(size) } noexcept -> std::same_as<SlotGeometry>;
      { P::header_of(address) } noexcept -> std::same_as<typename P::Header*>;
      { P::head_of(address) } noexcept -> std::same_as<typename P::Header*>;
      { P::frame_of(header) } noexcept -> std::same_as<std::byte*>;
    };

/// A page type whose frames have one size for each size class, known at run time. `P::Frames` holds
/// it, a small value with these functions, which do as those of AllocablePage:
///   Frames(bytes), bytes(), header_of(address), frame_of(header)
template <class P>
concept RunTimePage = SlottedPage<P> && requires(const void* address, typename P::Header* header,
                                                 const typename P::Frames& frames) {
  { frames.bytes() } noexcept -> std::same_as<std::size_t>;
  { frames.header_of(address) } noexcept -> std::same_as<typename P::Header*>;
  { frames.frame_of(header) } noexcept -> std::same_as<std::byte*>;
};

/// A page type that a size class takes.
template <class P>
concept ClassPage = AllocablePage<P> || RunTimePage<P>;

/// How a size class finds the frames and headers of its pages: by the page type, which needs no
/// memory.
template <ClassPage P>
struct FramesOf {
  using Header = typename P::Header;

  static constexpr FramesOf of(std::size_t) noexcept { return {}; }
  static constexpr std::size_t bytes_for(std::size_t object_size) noexcept {
    return P::frame_bytes(object_size);
  }
  [[gnu::always_inline]] static Header* header_of(const void* address) noexcept {
    return P::header_of(address);
  }
  static Header* head_of(const void* address) noexcept { return P::head_of(address); }
  static std::byte* frame_of(Header* header) noexcept { return P::frame_of(header); }
};
/// By the bytes of a frame.
template <RunTimePage P>
struct FramesOf<P> {
  using Header = typename P::Header;

  typename P::Frames frames{};

  static constexpr FramesOf of(std::size_t bytes) noexcept { return {typename P::Frames(bytes)}; }
  constexpr std::size_t bytes_for(std::size_t) const noexcept { return frames.bytes(); }
  [[gnu::always_inline]] Header* header_of(const void* address) const noexcept {
    return frames.header_of(address);
  }
  Header* head_of(const void* address) const noexcept { return frames.header_of(address); }
  std::byte* frame_of(Header* header) const noexcept { return frames.frame_of(header); }
};

/// A page type whose free slots may lose their memory while the page is in use: a *hole* is memory
/// of a page that holds no live slot and went back to the system, or may soon. A page type without
/// these functions has no holes, and claims do nothing for it.
///   claim(header, object_size, first, end)  called when slots are claimed; the lowest is number
///                       `first`, the highest end - 1: none of their memory is a hole any more;
///                       true if all of it is known to be zero
///   check_holes(header, geometry, word, claimed)  the broken invariant, as an equation, or null,
///                       where the slots `claimed` of bitmap word `word` are claimed
/// Thread: the page's owner, under its queue's lock.
template <class P>
concept HoleTracking =
    AllocablePage<P> && requires(typename P::Header* header, std::uint32_t number, Word slots,
                                 const SlotGeometry& geometry) {
      { P::claim(header, number, number, number) } noexcept -> std::same_as<bool>;
      { P::check_holes(header, geometry, number, slots) } noexcept -> std::same_as<const char*>;
    };

/// A page type whose classes have samples: the owner may set how many slots a class issues before
/// the next sample (SizeClass::set_next_sample()). Claims end there, so that the allocation which
/// is the sample takes the slow path by itself.
template <class P>
concept SampledPage = AllocablePage<P> && P::has_samples;

}  // namespace slabmalloc
