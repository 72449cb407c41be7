// SPDX-License-Identifier: MIT
//
// BlockLookup: what lies at an address of which the caller knows no size. For a CpuZones whose
// pager finds its frames.
//
//   address ─► pager: block_at ─┬─ a run ───────────────────────────► a block, if it begins there
//                               ├─ a frame ─► seal of its page ─────► a block of that size class
//                               └─ free, or none of the pager's ────► misuse
//
// Headers lie in the frames, and outlive them. So only the pager can tell that an address lies in a
// page: a client may write what it likes into a run, or leave there what was in it.
#pragma once

#include <cstddef>
#include <cstdint>

#include "slabmalloc/base/misuse.hpp"
#include "slabmalloc/zone/pager.hpp"

namespace slabmalloc {

/// A block that was found by its address.
struct FoundBlock {
  enum class Kind : std::uint8_t { None, Object, Run };

  Kind kind = Kind::None;
  std::uint32_t index = 0;  ///< The size class of an object.
  std::size_t bytes = 0;    ///< That the client may use.
};

/// The block at `address`: a run, or an object of a page of the zones of type `Zone`. The address
/// of an object may yet be no slot's. Thread: any. Context: as PagerT::block_at().
/// Fails: ForeignPointer, MisalignedFree or DoubleFree to `report(misuse)`; then none.
/// Cost: that of block_at(), and O(page kinds).
template <class Zone, class PagerT, class Report>
FoundBlock find_block(const PagerT& pager, const void* address, Report&& report) noexcept {
  static_assert(FindingPager<PagerT>,
                "a block is found by its address if the pager has block_at(), as FrameAllocator");
  const PagerBlock block = pager.block_at(address);
  MisuseKind misuse = MisuseKind::ForeignPointer;
  if (block.use == PagerUse::Frame) {
    const std::uint32_t index = Zone::class_of_page(block.address, block.bytes);
    if (index != Zone::SizeClasses::no_class) {
      return {FoundBlock::Kind::Object, index, Zone::SizeClasses::size_of(index)};
    }
  } else if (block.use == PagerUse::Run) {
    if (block.address == address) {
      return {FoundBlock::Kind::Run, 0, block.bytes};
    }
    misuse = MisuseKind::MisalignedFree;
  } else if (block.use == PagerUse::Free) {
    misuse = MisuseKind::DoubleFree;
  }
  report(Misuse{misuse, address, block.bytes, 0});
  return {};
}
/// As above, with reports to the misuse hook.
template <class Zone, class PagerT>
FoundBlock find_block(const PagerT& pager, const void* address) noexcept {
  return find_block<Zone>(pager, address, report_misuse);
}

}  // namespace slabmalloc
