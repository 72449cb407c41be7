// SPDX-License-Identifier: MIT
//
// BlockChecks: finds the block of a call by its record (block_record.hpp), checks what lies around
// it, and reports.
//
//   address ─► page: seal ─► slot around it ─► record: state, owner, size ─► a block, or misuse
//   block   ─► guard before it, red zone behind it, free_byte in it      ─► nothing, or damage
//
// A bad call has no effect, as without a debug mode; but after WrongContext it goes on. Damage is
// repaired after the report, so the next one tells of the next write.
#pragma once

#include <cstddef>
#include <cstdint>

#include "slabmalloc/kernel/block_record.hpp"
#include "slabmalloc/kernel/debug_hooks.hpp"
#include "slabmalloc/kernel/debug_report.hpp"
#include "slabmalloc/page/lookup.hpp"

namespace slabmalloc {

/// A slot of a size class, or a run, and its record.
template <class BlocksT>
struct DebugBlock {
  using Blocks = BlocksT;

  DebugBlock() noexcept = default;
  DebugBlock(void* address, std::size_t slot_bytes, bool is_of_run) noexcept
      : begin(static_cast<std::byte*>(address)),
        record(&Blocks::record_at(begin, slot_bytes)),
        bytes(slot_bytes),
        is_run(is_of_run) {}

  explicit operator bool() const noexcept { return begin != nullptr; }
  /// The bytes before the record.
  std::size_t room() const noexcept { return Blocks::record_offset(bytes); }

  std::byte* begin = nullptr;
  typename Blocks::Record* record = nullptr;
  std::size_t bytes = 0;
  bool is_run = false;
};

/// The slots of a heap with size classes. ShapedSlots (object_checks.hpp) are those of a cache.
template <class Zone>
struct ClassSlots {
  using SizeClasses = typename Zone::SizeClasses;
  static constexpr bool has_runs = true;

  static constexpr std::size_t size_of(std::uint32_t index) noexcept {
    return SizeClasses::size_of(index);
  }
  /// The slot that holds the byte at `address`, on a page of the kind that class `index` has. The
  /// page may be another class's, or another heap's.
  static FoundAround around(const void* address, std::uint32_t index) noexcept {
    return Zone::slot_around(address, index);
  }
  /// The same in the frame of `bytes` at `frame`.
  static FoundAround in_frame(const void* frame, std::size_t bytes, const void* address) noexcept {
    const std::uint32_t index = Zone::class_of_page(frame, bytes);
    return index != SizeClasses::no_class ? around(address, index) : FoundAround();
  }
  /// The number of the slot of `bytes` at `begin`, if it is known.
  static std::size_t number_of(const std::byte* begin, std::size_t bytes) noexcept {
    const std::uint32_t index = SizeClasses::index_for(bytes);
    return index < Zone::class_count ? around(begin, index).slot : 0;
  }
};

/// The checks of one heap, whose slots `Slots` finds. Thread: any, in any context.
template <KernelHooks Hooks, class SlotsT, class BlocksT>
class BlockChecks {
 public:
  using Slots = SlotsT;
  using Blocks = BlocksT;
  using Block = DebugBlock<Blocks>;
  using Record = typename Blocks::Record;
  using State = typename Record::State;

  static constexpr std::size_t any_size = ~std::size_t{0};

  constexpr BlockChecks() noexcept = default;
  constexpr explicit BlockChecks(const Slots& slots) noexcept : slots_(slots) {}
  BlockChecks(const BlockChecks&) = delete;
  BlockChecks& operator=(const BlockChecks&) = delete;

  constexpr const BlockOwner& owner() const noexcept { return owner_; }
  const Slots& slots() const noexcept { return slots_; }
  constexpr void set_name(const char* name) noexcept { owner_.name = name; }

  // ---- the block of a call ---------------------------------------------------------------------

  /// The live block of class `index` and, unless it is any_size, of `size` at `address`.
  /// Fails: none after a report of MisalignedFree, ForeignPointer, SizeMismatch, MismatchedFree,
  /// DoubleFree, or of Overflow if the record was overwritten.
  Block find(const void* address, std::uint32_t index, std::size_t size,
             const BlockUser& user) const noexcept {
    const FoundAround around = slots_.around(address, index);
    const std::size_t class_bytes = slots_.size_of(index);
    if (around.bytes <= Blocks::overhead_bytes) {
      report({MisuseKind::ForeignPointer, address, class_bytes, 0}, user);
      return {};
    }
    if (around.begin == nullptr) {
      report({MisuseKind::MisalignedFree, address, around.bytes, 0}, user);
      return {};
    }
    const Block block(around.begin, around.bytes, false);
    return accept(block, address, size, around.bytes == class_bytes, user) ? block : Block();
  }

  /// The live run of `bytes` at `address`; the pager knows it if `is_known`. Fails: as find().
  Block find_run(void* address, std::size_t bytes, std::size_t size, bool is_known,
                 const BlockUser& user) const noexcept {
    const Block block(address, bytes, true);
    const State state = block.record->state();
    if (!is_known && (state == State::Damaged || state == State::NeverAllocated)) {
      report({MisuseKind::ForeignPointer, address, bytes, 0}, user);
      return {};
    }
    return accept(block, address, size, true, user) ? block : Block();
  }

  void report_double_free(const Block& block, const BlockUser& user) const noexcept {
    report_block(MisuseKind::DoubleFree, block.begin, block, user);
  }
  void report_context(const BlockUser& user) const noexcept {
    BlockHistory history;
    history.heap = owner_.name;
    Misuse misuse{MisuseKind::WrongContext, user.caller, 0, 0};
    misuse.history = &history;
    report(misuse, user);
  }
  /// Reports misuse of an address of which no block is known.
  void report(const Misuse& misuse, const BlockUser& user) const noexcept {
    write_report(misuse, user, owner_.name, [](const char* line) { Hooks::log(line); });
    report_misuse(misuse);
  }

  // ---- damage ----------------------------------------------------------------------------------

  /// Checks D1 to D4 of a block that nobody else frees or allocates now, and repairs what it can.
  /// False after a report.
  bool check_block(const Block& block, const BlockUser& user) const noexcept {
    if (!check_record(block, user)) {
      return false;
    }
    const bool is_sound = block.is_run || check_guard(block, user);
    const std::size_t room = block.room();
    const bool is_filled =
        is_in_use(block.record->state())
            ? check_bytes(MisuseKind::Overflow, block, {block.record->size(), room}, red_byte, user)
            : check_bytes(MisuseKind::WriteAfterFree, block, {0, room}, free_byte, user);
    return is_filled && is_sound;
  }

  /// A block was free, and its record says something else: it was overwritten.
  void report_lost_record(const Block& block, const BlockUser& user) const noexcept {
    report_damage(MisuseKind::WriteAfterFree, block, as_offset(block.room()), user);
  }

 protected:
  /// Some bytes of a block, from `first` up to `end`.
  struct Range {
    std::size_t first;
    std::size_t end;
  };
  /// Of damage somewhere in an object.
  static constexpr std::ptrdiff_t no_offset = BlockHistory::no_offset;

  static constexpr bool is_in_use(State state) noexcept {
    return state == State::Live || state == State::Reached || state == State::Freeing;
  }
  static constexpr std::ptrdiff_t as_offset(std::size_t bytes) noexcept {
    return static_cast<std::ptrdiff_t>(bytes);
  }

  /// True if `block` is live, this heap's, and begins at `address`; else it reports.
  bool accept(const Block& block, const void* address, std::size_t size, bool is_class_right,
              const BlockUser& user) const noexcept {
    const State state = block.record->state();
    const bool has_owner = is_in_use(state) || state == State::Freed;
    if (has_owner && block.record->owner() != &owner_) {
      report_block(MisuseKind::MismatchedFree, address, block, user);
    } else if (address != block.begin) {
      report_block(MisuseKind::MisalignedFree, address, block, user);
    } else if (state == State::Damaged) {
      report_damage(MisuseKind::Overflow, block, as_offset(block.room()), user);
    } else if (state != State::Live) {
      report_block(MisuseKind::DoubleFree, address, block, user);
    } else if (!is_class_right || (size != any_size && size != block.record->size())) {
      report_block(MisuseKind::SizeMismatch, address, block, user, size);
    } else {
      return true;
    }
    return false;
  }

  /// D1 and D2.
  bool check_record(const Block& block, const BlockUser& user) const noexcept {
    if (block.record->state() != State::Damaged &&
        block.record->size() + Blocks::guard_bytes <= block.room()) {
      return true;
    }
    report_damage(MisuseKind::Overflow, block, as_offset(block.room()), user);
    return false;
  }
  /// D3. The nearest damaged byte counts.
  bool check_guard(const Block& block, const BlockUser& user) const noexcept {
    std::byte* const guard = block.begin - Blocks::guard_bytes;
    if (first_other(guard, Blocks::guard_bytes, red_byte) == Blocks::guard_bytes) {
      return true;
    }
    std::size_t index = Blocks::guard_bytes - 1;
    while (static_cast<std::uint8_t>(guard[index]) == red_byte) {
      --index;
    }
    report_damage(MisuseKind::Underflow, block, as_offset(index) - as_offset(Blocks::guard_bytes),
                  user);
    __builtin_memset(guard, red_byte, Blocks::guard_bytes);
    return false;
  }
  /// D4: all bytes of `range` are `value`.
  bool check_bytes(MisuseKind kind, const Block& block, Range range, std::uint8_t value,
                   const BlockUser& user) const noexcept {
    const std::size_t bytes = range.end - range.first;
    const std::size_t index = first_other(block.begin + range.first, bytes, value);
    if (index == bytes) {
      return true;
    }
    report_damage(kind, block, as_offset(range.first + index), user);
    __builtin_memset(block.begin + range.first, value, bytes);
    return false;
  }

  [[gnu::cold]] void report_damage(MisuseKind kind, const Block& block, std::ptrdiff_t offset,
                                   const BlockUser& user) const noexcept {
    const std::ptrdiff_t place = offset != no_offset ? offset : 0;
    report_block(kind, block.begin + place, block, user, 0, offset);
  }

 private:
  [[gnu::cold, gnu::noinline]] void report_block(MisuseKind kind, const void* address,
                                                 const Block& block, const BlockUser& user,
                                                 std::size_t given_size = 0,
                                                 std::ptrdiff_t offset = 0) const noexcept {
    const State state = block.record->state();
    const BlockOwner* const owner = state == State::Damaged          ? nullptr
                                    : state == State::NeverAllocated ? &owner_
                                                                     : block.record->owner();
    BlockHistory history;
    if (state != State::Damaged) {
      history.size = block.record->size();
      history.allocated = block.record->allocated();
      history.freed = block.record->freed();
    }
    history.heap = owner != nullptr ? owner->name : owner_.name;
    if (is_damage(kind)) {
      history.offset = offset;
      history.value =
          offset != no_offset ? static_cast<std::uint8_t>(block.begin[offset]) : std::uint8_t{0};
    }
    Misuse misuse{kind, address, block.bytes,
                  block.is_run ? 0 : slots_.number_of(block.begin, block.bytes)};
    misuse.block = block.begin;
    // Of two frees at the same time the second may come while the first one checks.
    misuse.state = state == State::NeverAllocated ? BlockState::NeverAllocated
                   : state == State::Damaged      ? BlockState::Unknown
                   : state == State::Freed || kind == MisuseKind::DoubleFree ? BlockState::Freed
                                                                             : BlockState::InUse;
    misuse.given_size = given_size;
    misuse.allocated_by = kind == MisuseKind::MismatchedFree ? history.heap : nullptr;
    misuse.history = &history;
    report(misuse, user);
  }

  BlockOwner owner_;
  [[no_unique_address]] Slots slots_;
};

}  // namespace slabmalloc
