// SPDX-License-Identifier: MIT
//
// Compares the stack with the known ones, and chooses the words that identify a new one.
#include "malloc/known_stacks.hpp"

#include <limits>

namespace slabmalloc {

namespace {

using Word = KnownStacks::Word;

constexpr Word word_bytes = sizeof(Word);
/// A function saves at most six registers before all else.
constexpr int most_saved = 8;

const Word* at(Word address) noexcept { return reinterpret_cast<const Word*>(address); }

/// A word of the stack. Sanitizers see misuse where a function reads another one's stack frame.
[[gnu::no_sanitize_address, gnu::no_sanitize_thread]] Word read(const Word* word) noexcept {
  return *word;
}

/// The first word with `value` of those from `top` down to `bottom`, at most `most_saved`; or null.
const Word* find_saved(Word value, Word top, Word bottom) noexcept {
  for (int number = 0; number < most_saved && top >= bottom; ++number, top -= word_bytes) {
    if (read(at(top)) == value) {
      return at(top);
    }
  }
  return nullptr;
}

}  // namespace

// ---- find ---------------------------------------------------------------------------------------

std::uint32_t KnownStacks::find(const Word* frame, void** calls) noexcept {
  Set& set = set_of(frame);
  for (std::size_t way = 0; way < ways; ++way) {
    Entry& entry = set.entries[way];
    if (set.frames[way].load(Order::relaxed) != frame || !entry.try_lock()) {
      continue;
    }
    // Another thread may have taken the entry for another stack before the lock.
    const bool is_same = set.frames[way].load(Order::relaxed) == frame;
    const std::uint32_t found = is_same ? entry.match(frame, calls) : 0;
    entry.unlock();
    if (found != 0) {
      return found;
    }
  }
  return 0;
}

/// Writes the calls if all words are the same, and returns their number; else 0. The order of the
/// words matters: those before prove that the next one is there.
std::uint32_t KnownStacks::Entry::match(const Word* frame, void** calls) const noexcept {
  std::uint32_t found = 0;
  for (std::uint32_t number = 0; number < count; ++number) {
    const std::uint32_t distance = distances[number];
    if (read(frame + distance / word_bytes) != values[number]) {
      return 0;
    }
    // The last word is a call, so the next one overwrites each other word.
    calls[found] = reinterpret_cast<void*>(values[number]);
    found += distance & is_call;
  }
  return found;
}

// ---- record -------------------------------------------------------------------------------------

KnownStacks::Recording::Recording(KnownStacks& stacks, const Word* frame, void** calls) noexcept
    : frame_(frame),
      calls_(calls),
      set_(stacks.set_of(frame)),
      way_(stacks.next_way_.fetch_add(1, Order::relaxed) % ways),
      is_locked_(set_.entries[way_].try_lock()),
      is_kept_(is_locked_),
      rbp_at_(frame) {
  if (is_locked_) {
    set_.frames[way_].store(nullptr, Order::relaxed);
    set_.entries[way_].count = 0;
  }
}

KnownStacks::Recording::~Recording() {
  if (is_locked_) {
    set_.frames[way_].store(is_kept_ && count_ != 0 ? frame_ : nullptr, Order::relaxed);
    set_.entries[way_].unlock();
  }
}

bool KnownStacks::Recording::add(const StackFrame& frame) noexcept {
  if (count_ == 0 && at(frame.stack_pointer) != frame_ + 2) {
    return true;  // Of the unwinder, of its caller or of capture().
  }
  const bool is_repeated =
      count_ != 0 && frame.call == before_.call && frame.stack_pointer == before_.stack_pointer;
  if (frame.call == 0 || is_repeated) {
    return false;
  }
  is_kept_ = is_kept_ && add_words(frame);
  calls_[count_++] = reinterpret_cast<void*>(frame.call);
  before_ = frame;
  return count_ < CallStack::most_calls;
}

/// Adds the words that prove that `frame` follows on `before_`. False if there are none.
bool KnownStacks::Recording::add_words(const StackFrame& frame) noexcept {
  if (frame.is_interrupted || (count_ == 0 && read(frame_) != frame.frame_pointer) ||
      (count_ != 0 && !add_end(frame))) {
    return false;
  }
  const Word* const return_address = at(frame.stack_pointer) - 1;
  return read(return_address) == frame.call && add_word(return_address, is_call);
}

/// Adds the words that tell the end of `before_`, which `frame` called. False if one is unknown.
bool KnownStacks::Recording::add_end(const StackFrame& frame) noexcept {
  const Word start = before_.stack_pointer;
  const Word end = frame.stack_pointer;
  const Word rbp = before_.frame_pointer;
  if (end <= start || end - start > most_frame_bytes) {
    return false;
  }
  const bool is_inside = rbp >= start && rbp < end && rbp % word_bytes == 0;
  const Word top = end - 2 * word_bytes;  // Where most functions save rbp.
  bool is_known = !is_inside || add_word(rbp_at_, 0);
  if (is_inside && rbp != top) {
    const Word* const kept_end = find_saved(end, rbp - word_bytes, start);
    is_known = is_known && (kept_end == nullptr || add_word(kept_end, 0));
  }
  if (frame.frame_pointer != rbp) {
    rbp_at_ = is_inside && read(at(rbp)) == frame.frame_pointer
                  ? at(rbp)
                  : find_saved(frame.frame_pointer, top, start);
  }
  return is_known;
}

/// Adds `word` with its value. False if there is no place for it, or if it is null.
bool KnownStacks::Recording::add_word(const Word* word, std::uint32_t mark) noexcept {
  Entry& entry = set_.entries[way_];
  const auto distance =
      static_cast<Word>(reinterpret_cast<Word>(word) - reinterpret_cast<Word>(frame_));
  if (word == nullptr || entry.count == most_words ||
      distance > std::numeric_limits<std::uint32_t>::max()) {
    return false;
  }
  entry.distances[entry.count] = static_cast<std::uint32_t>(distance) | mark;
  entry.values[entry.count] = read(word);
  ++entry.count;
  return true;
}

// ---- invariants ---------------------------------------------------------------------------------

const char* KnownStacks::validate() const noexcept {
  for (const Set& set : sets_) {
    for (std::size_t way = 0; way < ways; ++way) {
      const bool has_stack = set.frames[way].load(Order::relaxed) != nullptr &&
                             !set.entries[way].is_locked.load(Order::relaxed);
      if (const char* const broken = has_stack ? set.entries[way].validate() : nullptr) {
        return broken;
      }
    }
  }
  return nullptr;
}

const char* KnownStacks::Entry::validate() const noexcept {
  if (distances[0] != (word_bytes | is_call)) {
    return "N1: the first word is the return address of capture()";
  }
  std::uint32_t calls = 0;
  std::uint32_t last = 0;
  for (std::uint32_t number = 0; number < count && number < most_words; ++number) {
    if ((distances[number] & is_call) != 0) {
      if (distances[number] <= last) {
        return "N3: the addresses of the calls ascend";
      }
      last = distances[number];
      ++calls;
    }
  }
  const bool has_room = count <= most_words && calls <= CallStack::most_calls;
  return has_room && calls != 0 ? nullptr : "N2: the words and the calls have their room";
}

}  // namespace slabmalloc
