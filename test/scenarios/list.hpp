// SPDX-License-Identifier: MIT
//
// Box and List hold a scenario's data in frames of the host, since a kernel's stacks are small.
#pragma once

#include <cstddef>
#include <new>
#include <type_traits>

#include "scenarios/trial.hpp"

namespace slabmalloc::scenario {

inline constexpr std::size_t smallest_frame_bytes = 4096;

/// Bytes of the smallest frame for `bytes`.
constexpr std::size_t frame_bytes_for(std::size_t bytes) noexcept {
  std::size_t frame_bytes = smallest_frame_bytes;
  while (frame_bytes < bytes) {
    frame_bytes *= 2;
  }
  return frame_bytes;
}

/// One `T` in a frame of its own.
template <class T>
class Box {
 public:
  template <class... Arguments>
  explicit Box(Trial& trial, Arguments&... arguments) noexcept
      : trial_(trial), memory_(trial.allocate_frame(bytes)) {
    if (trial.check(memory_ != nullptr, "the host has room for what a scenario keeps")) {
      object_ = new (memory_) T(arguments...);
    }
  }
  Box(const Box&) = delete;
  Box& operator=(const Box&) = delete;
  ~Box() {
    if (object_ != nullptr) {
      object_->~T();
      trial_.deallocate_frame(memory_, bytes);
    }
  }

  explicit operator bool() const noexcept { return object_ != nullptr; }
  T& operator*() const noexcept { return *object_; }
  T* operator->() const noexcept { return object_; }

 private:
  static constexpr std::size_t bytes = frame_bytes_for(sizeof(T));

  Trial& trial_;
  void* memory_;
  T* object_ = nullptr;
};

/// Holds up to a fixed number of elements in order of insertion, except after a removal.
template <class T>
class List {
  static_assert(std::is_trivially_copyable_v<T> && std::is_trivially_destructible_v<T>);

 public:
  List(Trial& trial, std::size_t capacity) noexcept
      : trial_(&trial),
        bytes_(frame_bytes_for(capacity * sizeof(T))),
        elements_(static_cast<T*>(trial.allocate_frame(bytes_))),
        capacity_(elements_ != nullptr ? bytes_ / sizeof(T) : 0) {
    trial.check(elements_ != nullptr, "the host has room for what a scenario keeps");
  }
  List(List&& other) noexcept
      : trial_(other.trial_),
        bytes_(other.bytes_),
        elements_(other.elements_),
        capacity_(other.capacity_),
        size_(other.size_) {
    other.elements_ = nullptr;
    other.capacity_ = other.size_ = 0;
  }
  List& operator=(List&&) = delete;
  ~List() {
    if (elements_ != nullptr) {
      trial_->deallocate_frame(elements_, bytes_);
    }
  }

  std::size_t size() const noexcept { return size_; }
  bool empty() const noexcept { return size_ == 0; }
  T* begin() noexcept { return elements_; }
  T* end() noexcept { return elements_ + size_; }
  const T* begin() const noexcept { return elements_; }
  const T* end() const noexcept { return elements_ + size_; }
  T& operator[](std::size_t index) noexcept { return elements_[index]; }
  const T& operator[](std::size_t index) const noexcept { return elements_[index]; }
  T& front() noexcept { return elements_[0]; }
  T& back() noexcept { return elements_[size_ - 1]; }

  void push_back(T element) noexcept {
    if (trial_->check(size_ < capacity_, "a list has room for what is added")) {
      new (&elements_[size_++]) T(element);
    }
  }
  void pop_back() noexcept { --size_; }
  void clear() noexcept { size_ = 0; }
  void swap(std::size_t first, std::size_t second) noexcept {
    const T element = elements_[first];
    elements_[first] = elements_[second];
    elements_[second] = element;
  }
  /// Removes element `index`; the last takes its place.
  T remove_at(std::size_t index) noexcept {
    const T element = elements_[index];
    elements_[index] = elements_[--size_];
    return element;
  }
  /// Removes the first element that equals `element`; false if there is none.
  bool remove(const T& element) noexcept {
    const std::size_t index = index_of(element);
    return index < size_ && (remove_at(index), true);
  }
  bool contains(const T& element) const noexcept { return index_of(element) < size_; }
  /// The index of the first element that equals `element`, or size().
  std::size_t index_of(const T& element) const noexcept {
    std::size_t index = 0;
    while (index < size_ && !(elements_[index] == element)) {
      ++index;
    }
    return index;
  }

  /// Sorts by `<` with heapsort, which needs no stack.
  void sort() noexcept {
    for (std::size_t root = size_ / 2; root-- > 0;) {
      sift_down(root, size_);
    }
    for (std::size_t rest = size_; rest > 1; --rest) {
      swap(0, rest - 1);
      sift_down(0, rest - 1);
    }
  }

 private:
  void sift_down(std::size_t root, std::size_t size) noexcept {
    for (std::size_t child = 2 * root + 1; child < size; child = 2 * root + 1) {
      child += child + 1 < size && elements_[child] < elements_[child + 1] ? 1 : 0;
      if (!(elements_[root] < elements_[child])) {
        return;
      }
      swap(root, child);
      root = child;
    }
  }

  Trial* trial_;
  std::size_t bytes_;
  T* elements_;
  std::size_t capacity_;
  std::size_t size_ = 0;
};

using Objects = List<void*>;

/// True if the two hold the same elements, each once. Sorts both.
inline bool same_elements(Objects& one, Objects& other) noexcept {
  one.sort();
  other.sort();
  bool same = one.size() == other.size();
  for (std::size_t index = 0; same && index < one.size(); ++index) {
    same = one[index] == other[index] && (index == 0 || one[index - 1] != one[index]);
  }
  return same;
}

}  // namespace slabmalloc::scenario
