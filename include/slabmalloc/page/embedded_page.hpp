// SPDX-License-Identifier: MIT
//
// EmbeddedPage: a page whose meta-data lies at the end of its own frame. It needs no other memory.
//
//   frame (aligned to its size)
//   | slot 0 | slot 1 | … | slot n-1 | unused | remote bitmap | local bitmap | PageHeader |
//
// Each bitmap has as many words as this class's slots need.
#pragma once

#include <cstddef>
#include <cstdint>

#include "slabmalloc/page/allocable_page.hpp"

namespace slabmalloc {

/// A page of `FrameBytes`, meta-data included. Its object representation is the frame itself. The
/// header takes `HeaderBytes` at its end.
template <std::size_t FrameBytes, class AtomicsT = HardwareAtomics,
          std::size_t HeaderBytes = sizeof(PageHeader<AtomicsT>)>
class EmbeddedPage {
  static_assert(is_power_of_two(FrameBytes), "a frame is a power of two of bytes");

 public:
  using Atomics = AtomicsT;
  using Header = PageHeader<Atomics>;

  static constexpr std::size_t size_bytes = FrameBytes;

  std::byte bytes[FrameBytes];  ///< The frame; code never constructs a page, only points to it.

  static constexpr std::size_t frame_bytes(std::size_t) noexcept { return FrameBytes; }

  static constexpr SlotGeometry geometry(std::size_t object_size) noexcept {
    return SlotGeometry::fit(object_size, FrameBytes, HeaderBytes, true);
  }

  [[gnu::always_inline]] static Header* header_of(const void* address) noexcept {
    return reinterpret_cast<Header*>(frame_start(address) + header_offset);
  }
  static Header* head_of(const void* address) noexcept { return header_of(address); }

  [[gnu::always_inline]] static std::byte* frame_of(Header* header) noexcept {
    return reinterpret_cast<std::byte*>(frame_start(header));
  }
  [[gnu::always_inline]] static std::byte* slots_of(Header* header) noexcept {
    return frame_of(header);
  }

  [[gnu::always_inline]] static std::size_t offset_of(const void* address, Header*) noexcept {
    return reinterpret_cast<std::uintptr_t>(address) & (FrameBytes - 1);
  }

  static void open(Header*, const SlotGeometry&) noexcept {}
  static void close(Header*, const SlotGeometry&) noexcept {}

 private:
  static constexpr std::size_t header_offset = FrameBytes - HeaderBytes;

  [[gnu::always_inline]] static std::uintptr_t frame_start(const void* address) noexcept {
    return align_down(reinterpret_cast<std::uintptr_t>(address), FrameBytes);
  }
};

inline constexpr std::size_t kibibyte = 1024;
inline constexpr std::size_t mebibyte = 1024 * kibibyte;

/// The base page and the large page (one level up the page table) for a translation granule of 4,
/// 16 or 64 KiB.
template <std::size_t GranuleBytes, class Atomics = HardwareAtomics>
struct PageSizes {
  static_assert(GranuleBytes == 4 * kibibyte || GranuleBytes == 16 * kibibyte ||
                    GranuleBytes == 64 * kibibyte,
                "hardware has granules of 4, 16 and 64 KiB");
  /// A table of one granule holds GranuleBytes / 8 entries of 8 bytes.
  using Base = EmbeddedPage<GranuleBytes, Atomics>;
  using Large = EmbeddedPage<GranuleBytes*(GranuleBytes / 8), Atomics>;
};

using ObjectPage = PageSizes<4 * kibibyte>::Base;        ///< 4 KiB
using LargeObjectPage = PageSizes<4 * kibibyte>::Large;  ///< 2 MiB
using ObjectPage16K = PageSizes<16 * kibibyte>::Base;
using LargeObjectPage16K = PageSizes<16 * kibibyte>::Large;  ///< 32 MiB
using ObjectPage64K = PageSizes<64 * kibibyte>::Base;
using LargeObjectPage64K = PageSizes<64 * kibibyte>::Large;  ///< 512 MiB

static_assert(sizeof(ObjectPage) == 4 * kibibyte && sizeof(LargeObjectPage) == 2 * mebibyte,
              "a page type is exactly its frame");
static_assert(AllocablePage<ObjectPage> && AllocablePage<LargeObjectPage>);

}  // namespace slabmalloc
