// SPDX-License-Identifier: MIT
//
// The lines of a report of misuse that a debug mode found:
//
//   slabmalloc: write beyond the end of a block
//     heap       inode
//     block      0xffff800000123400, 100 bytes, in use
//     damage     0x41 at offset 100
//     allocated  by 0xffffffff80104a2c on CPU 1 at 123456
//     freed      by 0xffffffff80104b10 on CPU 3 at 123999
//     found      by 0xffffffff80107f04 on CPU 0 at 124001
//     in         inode
//
// The first heap is that of the block, the last that of the call.
// A line whose facts are not known is absent.
#pragma once

#include <cstddef>
#include <cstdint>

#include "slabmalloc/base/misuse.hpp"
#include "slabmalloc/kernel/text_line.hpp"

namespace slabmalloc {

constexpr bool is_damage(MisuseKind kind) noexcept {
  return kind == MisuseKind::Overflow || kind == MisuseKind::Underflow ||
         kind == MisuseKind::WriteAfterFree;
}

/// Calls sink(const char*) with each line of the report of `misuse`, which `finder` found in a call
/// of `heap`; null if that has no name.
template <class Sink>
void write_report(const Misuse& misuse, const BlockUser& finder, const char* heap,
                  Sink&& sink) noexcept {
  TextLine<128> line;
  const auto end_line = [&] {
    sink(line.c_str());
    line.clear();
  };
  const auto address = [&line](const void* value) {
    line.append_hexadecimal(reinterpret_cast<std::uintptr_t>(value));
  };
  const auto user = [&](const char* what, const BlockUser& one) {
    if (one.caller == nullptr) {
      return;
    }
    line.append(what);
    address(one.caller);
    line.append(" on CPU ");
    line.append(std::size_t{one.cpu});
    line.append(" at ");
    line.append(static_cast<std::size_t>(one.time));
    end_line();
  };

  line.append("slabmalloc: ");
  line.append(describe(misuse.kind));
  end_line();
  const BlockHistory none;
  const BlockHistory& history = misuse.history != nullptr ? *misuse.history : none;
  if (history.heap != nullptr) {
    line.append("  heap       ");
    line.append(history.heap);
    end_line();
  }
  if (misuse.block != nullptr) {
    line.append("  block      ");
    address(misuse.block);
    line.append(", ");
    line.append(history.size);
    line.append(misuse.state == BlockState::InUse            ? " bytes, in use"
                : misuse.state == BlockState::NeverAllocated ? " bytes, never allocated"
                                                             : " bytes, free");
    end_line();
  }
  if (is_damage(misuse.kind) && history.offset == BlockHistory::no_offset) {
    line.append("  damage     in more than one place");
    end_line();
  } else if (is_damage(misuse.kind)) {
    line.append("  damage     ");
    line.append_hexadecimal(history.value);
    line.append(history.offset < 0 ? " at offset -" : " at offset ");
    line.append(static_cast<std::size_t>(history.offset < 0 ? -history.offset : history.offset));
    end_line();
  } else if (misuse.address != misuse.block && misuse.kind != MisuseKind::WrongContext) {
    line.append("  address    ");
    address(misuse.address);
    end_line();
  }
  if (misuse.kind == MisuseKind::SizeMismatch) {
    line.append("  size       ");
    line.append(misuse.given_size);
    line.append(" bytes in the call");
    end_line();
  }
  user("  allocated  by ", history.allocated);
  user("  freed      by ", history.freed);
  user("  found      by ", finder);
  if (heap != nullptr) {
    line.append("  in         ");
    line.append(heap);
    end_line();
  }
}

}  // namespace slabmalloc
