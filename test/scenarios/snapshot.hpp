// SPDX-License-Identifier: MIT
//
// A Snapshot copies the bytes of some places, and shows later whether any has changed.
#pragma once

#include <cstddef>

#include "scenarios/list.hpp"

namespace slabmalloc::scenario {

class Snapshot {
 public:
  /// Pre: all added places together have at most `capacity` bytes.
  Snapshot(Trial& trial, std::size_t capacity) noexcept
      : trial_(trial), copies_(trial, capacity), places_(trial, most_places), capacity_(capacity) {}

  void add(const void* place, std::size_t bytes) noexcept {
    if (trial_.at_most(used_ + bytes, capacity_, "a snapshot has room for what is added")) {
      __builtin_memcpy(copies_.begin() + used_, place, bytes);
      places_.push_back({place, bytes});
      used_ += bytes;
    }
  }
  bool holds() const noexcept {
    const std::byte* copy = copies_.begin();
    for (const Place& place : places_) {
      if (__builtin_memcmp(copy, place.address, place.bytes) != 0) {
        return false;
      }
      copy += place.bytes;
    }
    return true;
  }

 private:
  struct Place {
    const void* address;
    std::size_t bytes;
  };
  static constexpr std::size_t most_places = 64;

  Trial& trial_;
  List<std::byte> copies_;
  List<Place> places_;
  std::size_t capacity_;
  std::size_t used_ = 0;
};

}  // namespace slabmalloc::scenario
