// SPDX-License-Identifier: MIT
//
// ExploredAtomics: the atomics policy whose operations are steps of the explorer.
#pragma once

#include <cstddef>
#include <cstdint>

#include "explorer/explorer.hpp"
#include "slabmalloc/base/atomics.hpp"

namespace slabmalloc::explorer {

struct ExploredAtomics {
  /// As large as its value: the library computes the addresses of adjacent cells. The value is that
  /// of the latest store; the explorer keeps the earlier ones.
  template <class T>
  class Cell {
    static_assert(sizeof(T) <= sizeof(std::uint64_t));

   public:
    constexpr Cell() noexcept = default;
    constexpr explicit Cell(T value) noexcept : value_(value) {}
    Cell(const Cell&) = delete;
    Cell& operator=(const Cell&) = delete;

    T load(Order order, Place where = Place::here()) const noexcept {
      return value_of(explorer::load(&value_, sizeof(T), order, where));
    }
    void store(T value, Order order, Place where = Place::here()) noexcept {
      explorer::store(&value_, sizeof(T), bits_of(value), order, where);
    }
    void toggle(T mask, Place where = Place::here()) noexcept {
      explorer::toggle(&value_, sizeof(T), bits_of(mask), where);
    }
    T exchange(T value, Order order, Place where = Place::here()) noexcept {
      return update(Operation::Exchange, value, order, where);
    }
    bool compare_exchange(T& expected, T desired, Order order,
                          Place where = Place::here()) noexcept {
      std::uint64_t found = bits_of(expected);
      const bool is_done =
          explorer::compare_exchange(&value_, sizeof(T), found, bits_of(desired), order, where);
      expected = value_of(found);
      return is_done;
    }
    T fetch_add(T value, Order order, Place where = Place::here()) noexcept {
      return update(Operation::FetchAdd, value, order, where);
    }
    T fetch_sub(T value, Order order, Place where = Place::here()) noexcept {
      return update(Operation::FetchSub, value, order, where);
    }
    T fetch_or(T value, Order order, Place where = Place::here()) noexcept {
      return update(Operation::FetchOr, value, order, where);
    }

   private:
    T update(Operation operation, T operand, Order order, Place where) noexcept {
      return value_of(
          explorer::update(operation, &value_, sizeof(T), bits_of(operand), order, where));
    }
    static std::uint64_t bits_of(T value) noexcept {
      std::uint64_t bits = 0;
      __builtin_memcpy(&bits, &value, sizeof(T));
      return bits;
    }
    static T value_of(std::uint64_t bits) noexcept {
      T value{};
      __builtin_memcpy(&value, &bits, sizeof(T));
      return value;
    }

    T value_{};
  };
};

}  // namespace slabmalloc::explorer
