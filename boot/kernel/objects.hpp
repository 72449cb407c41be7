// SPDX-License-Identifier: MIT
//
// Objects that detect writes by others, and places where CPUs and handlers swap objects.
//
//   | bytes | key | a pattern made of the key … |
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernel/machine.hpp"
#include "scenarios/random.hpp"
#include "slabmalloc/kernel.hpp"

namespace boot {

using slabmalloc::scenario::Random;

struct Object {
  std::uint32_t bytes;  ///< A multiple of 8, its own included.
  std::uint32_t key;

  static constexpr std::uint32_t smallest = 16;

  /// The bytes of a small object. At times, with the given frequency each, those of a larger object
  /// or of a run of the frame allocator.
  static std::uint32_t draw_bytes(Random& random, std::uint32_t run_once_in,
                                  std::uint32_t larger_once_in) noexcept {
    if (random.one_in(run_once_in)) {
      return 8192 + 8 * random.below(1024);
    }
    return random.one_in(larger_once_in) ? 256 + 8 * random.below(993)
                                         : smallest + 8 * random.below(31);
  }

  slabmalloc::Layout layout() const noexcept {
    return slabmalloc::Layout::from_size_align(bytes, 8).value();
  }
  std::uint64_t* words() noexcept { return reinterpret_cast<std::uint64_t*>(this) + 1; }
  std::uint32_t word_count() const noexcept { return bytes / 8 - 1; }
  std::uint64_t word(std::uint32_t index) const noexcept {
    return (std::uint64_t{key} << 32 | bytes) + index * 0x9E37'79B9'7F4A'7C15;
  }

  static Object* make(void* memory, std::uint32_t bytes, std::uint32_t key) noexcept {
    auto* const object = ::new (memory) Object{bytes, key};
    for (std::uint32_t index = 0; index < object->word_count(); ++index) {
      object->words()[index] = object->word(index);
    }
    return object;
  }
  bool is_intact() noexcept {
    for (std::uint32_t index = 0; index < word_count(); ++index) {
      if (words()[index] != word(index)) {
        return false;
      }
    }
    return true;
  }
};

/// Places that hold one object or none. Thread: any CPU, in any context.
template <class Heap>
class Exchange {
 public:
  constexpr explicit Exchange(Heap& heap) noexcept : heap_(heap) {}

  /// Puts a new object of `bytes` at a place and frees the old one. False if there was no memory.
  bool turn(std::uint64_t place, std::uint32_t bytes, slabmalloc::Context context) noexcept {
    const auto layout = slabmalloc::Layout::from_size_align(bytes, 8).value();
    void* const memory = heap_.allocate(layout, context).value_or(nullptr);
    Object* const object =
        memory == nullptr ? nullptr
                          : Object::make(memory, bytes, static_cast<std::uint32_t>(place >> 32));
    // Order: acq_rel, with itself: the taker of an object sees all writes into it.
    dispose(places_[place % count].exchange(object, Order::acq_rel), context);
    return object != nullptr;
  }

  void dispose(Object* object, slabmalloc::Context context) noexcept {
    if (object != nullptr) {
      if (!object->is_intact()) {
        overwritten_.fetch_add(1, Order::relaxed);
        return;
      }
      heap_.deallocate(object, object->layout(), context);
    }
  }
  void clear() noexcept {
    for (auto& place : places_) {
      dispose(place.exchange(nullptr, Order::acq_rel), slabmalloc::Context::MayWait);
    }
  }

  /// Objects with writes by others. They are not freed, because their size is lost.
  std::uint64_t overwritten() const noexcept { return overwritten_.load(Order::relaxed); }

 private:
  static constexpr std::uint32_t count = 1024;

  Heap& heap_;
  Cell<Object*> places_[count];
  Cell<std::uint64_t> overwritten_;
};

}  // namespace boot
