// SPDX-License-Identifier: MIT
//
// ObjectChecks: the checks of an object cache in debug mode (object_record.hpp), and the records of
// its frames.
//
//   frame from the pager ─► constructed ─► begin_frame: records, red zones, sums
//   frame to the pager   ─► end_frame: check of each free object ─► destroyed
//   free                 ─► check_block ─► end_content: sums, or free_byte
//   allocation           ─► check_block
//
// A red zone keeps its bytes from one use to the next, so an allocation writes none.
#pragma once

#include <cstddef>
#include <cstdint>

#include "slabmalloc/kernel/block_checks.hpp"
#include "slabmalloc/kernel/object_record.hpp"

namespace slabmalloc {

/// The slots of a cache, whose shape is known at run time.
template <class Page>
class ShapedSlots {
 public:
  using Blocks = ObjectLayout<typename Page::Atomics>;
  static constexpr bool has_runs = false;

  constexpr ShapedSlots() noexcept = default;
  /// Pre: `shape` outlives it.
  constexpr explicit ShapedSlots(const DebugShape& shape) noexcept : shape_(&shape) {}

  const DebugShape& shape() const noexcept { return *shape_; }
  std::size_t size_of(std::uint32_t) const noexcept { return shape_->object_bytes(); }

  /// The slot that holds the byte at `address`. In a page of another cache it is one whose record
  /// names that cache.
  FoundAround around(const void* address, std::uint32_t = 0) const noexcept {
    typename Page::Header* const page = frames().header_of(address);
    const std::size_t size = page->size_to_prove();
    if (size <= Blocks::overhead_bytes || !page->has_seal_for(size)) {
      return {};
    }
    const std::size_t offset = Page::offset_of(address, page);
    return size == shape_->object_bytes() ? own_slot(page, offset) : other_slot(page, size, offset);
  }
  FoundAround in_frame(const void*, std::size_t bytes, const void* address) const noexcept {
    return bytes == shape_->page_bytes ? around(address) : FoundAround();
  }
  std::size_t number_of(const std::byte* begin, std::size_t) const noexcept {
    return around(begin).slot;
  }

 private:
  typename Page::Frames frames() const noexcept {
    return typename Page::Frames(shape_->page_bytes);
  }
  FoundAround own_slot(typename Page::Header* page, std::size_t offset) const noexcept {
    const std::size_t size = shape_->object_bytes();
    const std::uint32_t slot = shape_->geometry.slot_around(offset);
    return slot != SlotGeometry::no_slot
               ? FoundAround{Page::slots_of(page) + std::size_t{slot} * size, size, slot}
               : FoundAround{nullptr, size, 0};
  }
  static FoundAround other_slot(typename Page::Header* page, std::size_t size,
                                std::size_t offset) noexcept {
    const std::size_t room =
        static_cast<std::size_t>(reinterpret_cast<std::byte*>(page) - Page::slots_of(page));
    if (offset >= room || size > room - offset / size * size) {
      return {};
    }
    std::byte* const begin = Page::slots_of(page) + offset / size * size;
    // A cache without a debug mode has slots of any size, and no records.
    if (!Blocks::has_place_for_record(begin, size)) {
      return {};
    }
    using State = typename Blocks::Record::State;
    const State state = Blocks::record_at(begin, size).state();
    return state != State::Damaged && state != State::NeverAllocated
               ? FoundAround{begin, size, static_cast<std::uint32_t>(offset / size)}
               : FoundAround{};
  }

  const DebugShape* shape_ = nullptr;
};

/// The checks of one cache. Thread: any, in any context.
template <KernelHooks Hooks, class Page>
class ObjectChecks
    : public BlockChecks<Hooks, ShapedSlots<Page>, typename ShapedSlots<Page>::Blocks> {
  using Base = BlockChecks<Hooks, ShapedSlots<Page>, typename ShapedSlots<Page>::Blocks>;

 public:
  using Blocks = typename Base::Blocks;
  using Block = typename Base::Block;

  constexpr ObjectChecks() noexcept = default;
  /// Pre: `shape` outlives it.
  constexpr ObjectChecks(const DebugShape& shape, FreeContent content) noexcept
      : Base(ShapedSlots<Page>(shape)), content_(content) {}

  std::size_t client_bytes() const noexcept { return this->slots().shape().client_bytes; }
  FreeContent content() const noexcept { return content_; }

  /// Checks D1 to D4 and D6 of an object that nobody else frees or allocates now, and repairs what
  /// it can. False after a report.
  bool check_block(const Block& block, const BlockUser& user) const noexcept {
    if (!this->check_record(block, user)) {
      return false;
    }
    const bool is_guarded = this->check_guard(block, user);
    const bool is_live = Base::is_in_use(block.record->state());
    const bool is_inside =
        this->check_bytes(is_live ? MisuseKind::Overflow : MisuseKind::WriteAfterFree, block,
                          {client_bytes(), block.room()}, red_byte, user);
    return (is_live || check_content(block, user)) && is_inside && is_guarded;
  }

  /// Makes the bytes of an object those of a free one.
  void end_content(const Block& block) const noexcept {
    if (content_ == FreeContent::Raw) {
      __builtin_memset(block.begin, free_byte, client_bytes());
    } else if (content_ == FreeContent::Kept) {
      block.record->set_sums(ObjectSums::of(block.begin, client_bytes()));
    }
  }

  // ---- frames ----------------------------------------------------------------------------------

  /// Makes the records of the slots from `slot` on, whose objects are constructed.
  void begin_frame(std::byte* slot) const noexcept {
    const DebugShape& shape = this->slots().shape();
    __builtin_memset(slot - Blocks::guard_bytes, red_byte, Blocks::guard_bytes);
    for (std::uint32_t number = 0; number < shape.geometry.slots; ++number) {
      const Block block(slot, shape.object_bytes(), false);
      __builtin_memset(slot + client_bytes(), red_byte, shape.object_bytes() - client_bytes());
      block.record->begin();
      block.record->set_size(client_bytes());
      end_content(block);
      slot += shape.object_bytes();
    }
  }
  /// Checks the free objects of a frame that nobody uses any more.
  void end_frame(std::byte* slot) const noexcept {
    const DebugShape& shape = this->slots().shape();
    for (std::uint32_t number = 0; number < shape.geometry.slots; ++number) {
      const Block block(slot, shape.object_bytes(), false);
      if (!Base::is_in_use(block.record->state())) {
        check_block(block, {});
      }
      slot += shape.object_bytes();
    }
  }

 private:
  /// D6.
  bool check_content(const Block& block, const BlockUser& user) const noexcept {
    if (content_ == FreeContent::Raw) {
      return this->check_bytes(MisuseKind::WriteAfterFree, block, {0, client_bytes()}, free_byte,
                               user);
    }
    if (content_ == FreeContent::Shared) {
      return true;
    }
    const ObjectSums before = block.record->sums();
    const ObjectSums now = ObjectSums::of(block.begin, client_bytes());
    if (now == before) {
      return true;
    }
    const std::size_t first = now.first_change(before, block.begin, client_bytes());
    this->report_damage(MisuseKind::WriteAfterFree, block,
                        first != ObjectSums::no_offset ? Base::as_offset(first) : Base::no_offset,
                        user);
    block.record->set_sums(now);
    return false;
  }

  FreeContent content_ = FreeContent::Kept;
};

}  // namespace slabmalloc
