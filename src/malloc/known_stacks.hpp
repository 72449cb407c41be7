// SPDX-License-Identifier: MIT
//
// KnownStacks: the call stacks captured last. libgcc's unwinder takes 2,000 instructions for each
// stack frame. To see that a known stack repeats takes 20.
//
// A stack is known by the words from which the unwinder computed it: the address of each, as its
// distance from the capture's stack frame, and its value. They are in the order in which the
// unwinder needs them.
//
//     stack frames    | capture()      | caller of capture() | its caller, with alloca |
//     stack           | rbp | return 0 | …   | rbp | return 1 | … | rbp | return 2     |  … upwards
//                        ▲      ▲               ▲        ▲                 ▲
//     words                     0               2        1                 3
//
//     entries         8 sets by the address of the capture's stack frame, of 16 stacks each
//
// The words of a stack frame are
//   - its return address, 8 bytes below its end (System V ABI, AMD64, 3.2.2);
//   - if its rbp points into itself: the word that holds this rbp, in an inner stack frame. Then
//     rbp may tell its end, as with alloca() or without -fomit-frame-pointer;
//   - the word near rbp that holds its end, if there is one: GCC keeps it there in functions that
//     align the stack.
//
// A stack repeats if the capture's stack frame is at the same address and all words have the same
// values. The proof goes from one stack frame to its caller's. Its start and its code are the same.
// So the rule that computes its end is the same, and that rule reads rsp and the words above, which
// are the same. Hence its end and its return address are the same too.
//
// So find() reads a word only if the unwinder would read it now. It follows no stale address: not
// on a thread's stack that lies where another one was, nor on the stack of a coroutine.
//
// What the proof assumes:
//   - Code at an address does not change. If a library is loaded at the place of another, or a
//     compiler at run time replaces code, a stack may be taken for an older one. That needs the
//     same return addresses, and all words unchanged.
//   - A function saves rbp within the eight words below its return address, and no word between is
//     equal. Compilers save at most six registers, and they save them first.
//   - No other register tells the end of a stack frame. Compilers for x86-64 use rsp and rbp.
//
// Stacks with a signal handler are not kept: the interrupted return address is in no fixed place.
// Nor are those with a stack frame of more than 64 KiB: it may end on the stack of another
// coroutine, as its unwind tables tell by rules of their own.
//
// Invariants of an entry that is not locked and has a stack, checked by validate():
//   N1  its first word is the return address of capture(), 8 bytes above the address of its frame
//   N2  it has at most `most_words` words, of which at most CallStack::most_calls are calls
//   N3  the addresses of its calls ascend
#pragma once

#include <cstddef>
#include <cstdint>

#include "malloc/call_stack.hpp"
#include "slabmalloc/base/atomics.hpp"

namespace slabmalloc {

/// Thread: any, also in signal handlers and in the child of a fork. Nothing waits: an entry that is
/// in use is passed over. If its user never ends, as in a child, one entry is lost.
class KnownStacks {
 public:
  using Word = std::uintptr_t;

  /// True for processors whose return addresses lie at the end of a stack frame.
#if defined(__x86_64__) && defined(__LP64__)
  static constexpr bool is_supported = true;
#else
  static constexpr bool is_supported = false;
#endif

  /// What an unwinder tells of a stack frame at its call of the next inner one.
  struct StackFrame {
    Word call;            ///< Where it goes on.
    Word stack_pointer;   ///< Which is the end of the next inner stack frame.
    Word frame_pointer;   ///< The value of rbp.
    bool is_interrupted;  ///< By a signal handler: it did not call.
  };

  class Recording;

  constexpr KnownStacks() noexcept = default;
  KnownStacks(const KnownStacks&) = delete;
  KnownStacks& operator=(const KnownStacks&) = delete;

  /// Writes the calls to `calls`, and returns their number, if this stack is known; else 0.
  /// Pre: `frame` is the frame address of the calling function, which keeps rbp there; `calls` has
  /// room for CallStack::most_calls.
  /// Cost: 20 instructions for each call.
  std::uint32_t find(const Word* frame, void** calls) noexcept;

  /// The number of the first invariant that does not hold, as text; null if all hold.
  /// Pre: no other thread uses it.
  const char* validate() const noexcept;

 private:
  static constexpr std::uint32_t most_words = 64;
  /// Of a stack that is kept.
  static constexpr Word most_frame_bytes = Word{64} * 1024;
  static constexpr std::size_t set_bits = 3;
  static constexpr std::size_t ways = 16;
  static constexpr std::uint32_t is_call = 1;  ///< A bit that no distance has.

  struct Entry {
    HardwareAtomics::Cell<bool> is_locked;
    std::uint32_t count = 0;
    std::uint32_t distances[most_words] = {};  ///< In bytes, with `is_call`.
    Word values[most_words] = {};

    /// Order: acquire, with the release in unlock(): the holder sees the words of the one before.
    bool try_lock() noexcept { return !is_locked.exchange(true, Order::acquire); }
    void unlock() noexcept { is_locked.store(false, Order::release); }
    std::uint32_t match(const Word* frame, void** calls) const noexcept;
    const char* validate() const noexcept;
  };

  /// The frame addresses lie together, so that a search reads few cache lines.
  struct Set {
    HardwareAtomics::Cell<const Word*> frames[ways];  ///< Null: the entry has no stack.
    Entry entries[ways];
  };

  Set& set_of(const Word* frame) noexcept {
    constexpr std::uint64_t golden_ratio = 0x9E37'79B9'7F4A'7C15;
    return sets_[reinterpret_cast<Word>(frame) * golden_ratio >> (64 - set_bits)];
  }

  Set sets_[std::size_t{1} << set_bits];
  HardwareAtomics::Cell<std::uint32_t> next_way_{0};
};

/// Takes the stack frames of an unwinder, and keeps the stack at its end.
///
///     KnownStacks::Recording recording(stacks, frame, calls);
///     while (recording.add(unwinder.next())) {
///     }
///     recording.count()
class KnownStacks::Recording {
 public:
  /// Pre: as find().
  Recording(KnownStacks& stacks, const Word* frame, void** calls) noexcept;
  ~Recording();
  Recording(const Recording&) = delete;
  Recording& operator=(const Recording&) = delete;

  /// Adds a stack frame, unless it is one inside of the capture's caller. False if it is the last.
  bool add(const StackFrame& frame) noexcept;

  std::uint32_t count() const noexcept { return count_; }

 private:
  bool add_words(const StackFrame& frame) noexcept;
  bool add_end(const StackFrame& frame) noexcept;
  bool add_word(const Word* word, std::uint32_t mark) noexcept;

  const Word* const frame_;
  void** const calls_;
  Set& set_;
  const std::uint32_t way_;
  bool is_locked_;  ///< This holds the entry's lock.
  bool is_kept_;    ///< All words so far are in the entry.
  std::uint32_t count_ = 0;
  const Word* rbp_at_;   ///< The word that holds rbp of `before_`; null: unknown.
  StackFrame before_{};  ///< The stack frame before this one, if `count_` is not 0.
};

}  // namespace slabmalloc
