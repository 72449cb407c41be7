// SPDX-License-Identifier: MIT
//
// Reads a text as SLABMALLOC_OPTIONS, and catches the messages.
#pragma once

#include <gtest/gtest.h>

#include <cstddef>
#include <string>

#include "malloc/options.hpp"
#include "os/os.hpp"
#include "tunables.hpp"

namespace slabmalloc::test {

/// Reads `text`, starting from the defaults; returns the output to stderr.
inline std::string read_from_defaults(const std::string& text) {
  static std::string written;
  static os::Interface table = os::linux_interface;
  table.write = [](int descriptor, const char* bytes, std::size_t count) {
    EXPECT_EQ(descriptor, 2);
    written.append(bytes, count);
    return count;
  };
  options = Options{};
  tunables = Tunables{};
  written.clear();
  const os::Interface& before = os::replace_interface(table);
  read_options(text.c_str());
  os::replace_interface(before);
  return written;
}

}  // namespace slabmalloc::test
