// SPDX-License-Identifier: MIT
//
// Result: a value or an error. Exhausted memory is an error value, never an exception.
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "slabmalloc/base/language.hpp"

namespace slabmalloc {

/// The reason why an allocation or a refill failed. Every structure is then as before the call.
enum class AllocationError : std::uint8_t {
  OutOfMemory,    ///< No free memory: refill and retry.
  InvalidLayout,  ///< This allocator never serves that size and alignment.
  TooMany,        ///< A limit of the configuration is reached, although memory is free.
};

/// Either a `T` or an `AllocationError`.
template <class T>
class [[nodiscard]] Result {
 public:
  constexpr Result(T value) noexcept : value_(value), has_value_(true) {}
  constexpr Result(AllocationError error) noexcept : error_(error) {}

  constexpr explicit operator bool() const noexcept { return has_value_; }
  /// The value.
  /// Pre: there is one; in a constant expression the compiler checks that.
  constexpr const T& value() const noexcept {
    if (std::is_constant_evaluated() && !has_value_) {
      there_is_no_value();
    }
    return value_;
  }
  constexpr const T& operator*() const noexcept { return value(); }
  constexpr const T* operator->() const noexcept { return &value(); }
  /// The reason.
  /// Pre: there is no value.
  constexpr AllocationError error() const noexcept { return error_; }
  constexpr T value_or(T other) const noexcept { return has_value_ ? value_ : other; }

 private:
  /// Not constexpr, so that a call in a constant expression is an error, which shows this name.
  static void there_is_no_value() noexcept {}

  T value_{};
  AllocationError error_{};
  bool has_value_ = false;
};

/// Success without a value, or an `AllocationError`.
template <>
class [[nodiscard]] Result<void> {
 public:
  constexpr Result() noexcept = default;
  constexpr Result(AllocationError error) noexcept : error_(error), has_value_(false) {}

  constexpr explicit operator bool() const noexcept { return has_value_; }
  constexpr AllocationError error() const noexcept { return error_; }

 private:
  AllocationError error_{};
  bool has_value_ = true;
};

/// A pointer or an `AllocationError`, in one register: the errors are the addresses 0 to 2.
template <class T>
class [[nodiscard]] Result<T*> {
 public:
  Result(T* value) noexcept : bits_(reinterpret_cast<std::uintptr_t>(value)) {}
  constexpr Result(AllocationError error) noexcept : bits_(static_cast<std::uintptr_t>(error)) {}

  explicit operator bool() const noexcept { return bits_ > last_error; }
  /// The pointer, never null.
  /// Pre: there is one.
  T* value() const noexcept { return reinterpret_cast<T*>(bits_); }
  T* operator*() const noexcept { return value(); }
  AllocationError error() const noexcept { return static_cast<AllocationError>(bits_); }
  T* value_or(T* other) const noexcept { return *this ? value() : other; }

 private:
  static constexpr auto last_error = static_cast<std::uintptr_t>(AllocationError::TooMany);
  std::uintptr_t bits_;
};

}  // namespace slabmalloc
