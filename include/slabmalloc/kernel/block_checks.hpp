// SPDX-License-Identifier: MIT
//
// BlockChecks: finds the block of a call by its record (block_record.hpp), checks what lies around
// it, and reports.
//
//   address ─► page: seal ─► slot around it ─► record: state, owner, size ─► a block, or misuse
//   block   ─► guard before it, red zone behind it, free_byte in it      ─► nothing, or damage
//
// A bad call has no effect, as without a debug mode. Damage is repaired after the report, so the
// next one tells of the next write.
#pragma once

#include <cstddef>
#include <cstdint>

#include "slabmalloc/kernel/block_record.hpp"
#include "slabmalloc/kernel/debug_hooks.hpp"
#include "slabmalloc/kernel/debug_report.hpp"

namespace slabmalloc {

/// A slot of a size class, or a run, and its record.
template <class Atomics>
struct DebugBlock {
  using Blocks = BlockLayout<Atomics>;

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

/// The checks of one heap. Thread: any, in any context.
template <KernelHooks Hooks, class Zone, class Atomics>
class BlockChecks {
 public:
  using Blocks = BlockLayout<Atomics>;
  using Block = DebugBlock<Atomics>;
  using Record = typename Blocks::Record;
  using State = typename Record::State;

  static constexpr std::size_t any_size = ~std::size_t{0};

  constexpr BlockChecks() noexcept = default;
  BlockChecks(const BlockChecks&) = delete;
  BlockChecks& operator=(const BlockChecks&) = delete;

  constexpr const BlockOwner& owner() const noexcept { return owner_; }
  constexpr void set_name(const char* name) noexcept { owner_.name = name; }

  // ---- the block of a call ---------------------------------------------------------------------

  /// The live block of class `index` and, unless it is any_size, of `size` at `address`.
  /// Fails: none after a report of MisalignedFree, ForeignPointer, SizeMismatch, MismatchedFree,
  /// DoubleFree, or of Overflow if the record was overwritten.
  Block find(const void* address, std::uint32_t index, std::size_t size,
             const BlockUser& user) const noexcept {
    const typename Zone::FoundAround around = Zone::slot_around(address, index);
    const std::size_t class_bytes = Zone::SizeClasses::size_of(index);
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
    const State state = block.record->state();
    const std::size_t room = block.room();
    const bool is_live = is_in_use(state);
    if (state == State::Damaged) {
      report_damage(MisuseKind::Overflow, block, as_offset(room), user);
      return false;
    }
    const std::size_t size = block.record->size();
    if (size + Blocks::guard_bytes > room) {
      report_damage(MisuseKind::Overflow, block, as_offset(room), user);
      return false;
    }
    const bool is_sound = block.is_run || check_guard(block, user);
    if (is_live) {
      return check_bytes(MisuseKind::Overflow, block, size, red_byte, user) && is_sound;
    }
    return check_bytes(MisuseKind::WriteAfterFree, block, 0, free_byte, user) && is_sound;
  }

  /// A block was free, and its record says something else: it was overwritten.
  void report_lost_record(const Block& block, const BlockUser& user) const noexcept {
    report_damage(MisuseKind::WriteAfterFree, block, as_offset(block.room()), user);
  }

 private:
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
  /// D4: from `first` to the record all bytes are `value`.
  bool check_bytes(MisuseKind kind, const Block& block, std::size_t first, std::uint8_t value,
                   const BlockUser& user) const noexcept {
    const std::size_t bytes = block.room() - first;
    const std::size_t index = first_other(block.begin + first, bytes, value);
    if (index == bytes) {
      return true;
    }
    report_damage(kind, block, as_offset(first + index), user);
    __builtin_memset(block.begin + first, value, bytes);
    return false;
  }

  // ---- reports ---------------------------------------------------------------------------------

  [[gnu::cold]] void report_damage(MisuseKind kind, const Block& block, std::ptrdiff_t offset,
                                   const BlockUser& user) const noexcept {
    report_block(kind, block.begin + offset, block, user, 0, offset);
  }
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
      history.value = static_cast<std::uint8_t>(block.begin[offset]);
    }
    Misuse misuse{kind, address, block.bytes, block.is_run ? 0 : slot_of(block)};
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
  static std::size_t slot_of(const Block& block) noexcept {
    const std::uint32_t index = Zone::SizeClasses::index_for(block.bytes);
    return index < Zone::class_count ? Zone::slot_around(block.begin, index).slot : 0;
  }

  BlockOwner owner_;
};

}  // namespace slabmalloc
