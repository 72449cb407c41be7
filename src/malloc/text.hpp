// SPDX-License-Identifier: MIT
//
// Text: a line or a report, built in place and written at once, without an allocation.
//
// The malloc has a C library, whose printf formats compilers check. A kernel has none and uses
// TextLine.
#pragma once

#include <stdarg.h>
#include <stdio.h>

#include <cstddef>

#include "os/os.hpp"

namespace slabmalloc {

/// At most `Capacity` bytes of text; the excess is dropped.
template <std::size_t Capacity>
class Text {
 public:
  [[gnu::format(printf, 2, 3)]] void append(const char* format, ...) noexcept {
    va_list arguments;
    va_start(arguments, format);
    const int wanted = vsnprintf(bytes_ + size_, Capacity - size_, format, arguments);
    va_end(arguments);
    const std::size_t room = Capacity - size_ - 1;
    if (wanted > 0) {
      size_ += static_cast<std::size_t>(wanted) < room ? static_cast<std::size_t>(wanted) : room;
    }
  }

  /// Writes the text, with one system call if the file accepts all of it.
  void write(int descriptor) const noexcept { os::interface().write(descriptor, bytes_, size_); }

  const char* data() const noexcept { return bytes_; }
  std::size_t size() const noexcept { return size_; }

 private:
  char bytes_[Capacity] = {};
  std::size_t size_ = 0;
};

}  // namespace slabmalloc
