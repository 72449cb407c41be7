// SPDX-License-Identifier: MIT
//
// class_rows writes the size classes of a configuration as text, one line each, for golden tests.
//
//   bytes of an object, bytes of its page, slots of the page
#pragma once

#include <cstdint>
#include <string>

#include "slabmalloc/zone/class_table.hpp"

namespace slabmalloc::test {

template <class Config>
std::string class_rows() {
  using Classes = ClassTable<Config>;
  std::string rows = "\n";
  for (std::uint32_t index = 0; index < Classes::class_count; ++index) {
    Classes::with_group(index, [&]<class Group>(std::uint32_t position) {
      const SlotGeometry& geometry = Group::geometries.at[position];
      rows += std::to_string(geometry.object_size) + ' ' +
              std::to_string(Group::frame_bytes_at(position)) + ' ' +
              std::to_string(geometry.slots) + '\n';
    });
  }
  return rows;
}

}  // namespace slabmalloc::test
