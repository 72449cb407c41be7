// SPDX-License-Identifier: MIT
//
// Window: the arena's part of the address space, and its growth.
//
//     records_base             tags_base          data_base
//     | Chunk records … |guard | RunTags … |guard | chunk 0 | chunk 1 | …             (limit) |
//     '-usable-'-not yet-'     '-usable-'-not yet-'  '-- usable --'------- not yet ------------'
//
// The window reserves nothing: its layout lies over empty address space, and growth maps more
// pieces at their exact addresses. So the process maps only the memory that the arena uses. A limit
// on its address space, or a lock on all its memory, counts no more than that.
//
// All three parts grow upwards from their bases: the record and the tag of every usable chunk are
// usable too. The window never maps the guards. If another mapping blocks the data, the window
// skips the gap and reports the gap's chunks. The arena never allocates them.
//
// The window lies in a space that the system proposes, where nothing is mapped over its records and
// tags. Later mappings of the system come down from the far end of that space. Where the system
// fills address space upwards, they first use the room before the window. If the address space is
// limited, the system proposes none. The window then lies at one of a few addresses that programs
// leave empty.
#pragma once

#include <cstddef>
#include <cstdint>

#include "arena/chunk.hpp"
#include "arena/run_tag.hpp"
#include "os/os.hpp"

namespace slabmalloc {

/// The result of grow(): `skipped` foreign chunks, then `added` chunks that are usable and zero. If
/// `added` is 0, nothing changed.
struct Growth {
  std::uint32_t skipped = 0;
  std::uint32_t added = 0;
  constexpr explicit operator bool() const noexcept { return added != 0; }
};

/// The arena's part of the address space.
/// Thread: every call under the arena's mutex.
class Window {
 public:
  constexpr Window() noexcept = default;

  /// Makes at least `minimum` more chunks usable, and more than that if memory allows. The first
  /// call chooses the window's address.
  /// Fails: nothing added; all usable chunks are as before, and a retry is allowed.
  Growth grow(std::uint32_t minimum) noexcept;

  /// True if the address space is limited, or if a step of growth was refused. Then the arena
  /// searches every free run before growth, and grows by small steps.
  bool is_bounded() const noexcept { return is_bounded_; }

  std::byte* data() const noexcept { return reinterpret_cast<std::byte*>(data_base_); }
  Chunk* records() const noexcept { return reinterpret_cast<Chunk*>(records_base_); }
  RunTag* tags() const noexcept { return reinterpret_cast<RunTag*>(tags_base_); }

  /// Usable bytes: of data, and of records with tags.
  std::size_t data_bytes() const noexcept { return data_bytes_; }
  std::size_t metadata_bytes() const noexcept { return records_bytes_ + tags_bytes_; }

 private:
  Growth open(std::uint32_t minimum) noexcept;
  Growth open_at(std::uintptr_t base, std::size_t data_bytes, std::uint32_t minimum) noexcept;
  Growth open_at_known_place(std::uint32_t minimum) noexcept;
  bool has_empty_metadata(std::uintptr_t base, std::size_t data_bytes) noexcept;
  std::size_t place(std::uintptr_t base, std::size_t data_bytes) noexcept;
  Growth grow_by_step(std::uint32_t minimum) noexcept;
  std::uint32_t preferred_step() const noexcept;
  Growth grow_by(std::uint32_t chunks) noexcept;
  bool cover(std::uintptr_t base, std::size_t& usable, std::size_t wanted,
             const char* label) noexcept;
  bool uncover(std::uintptr_t base, std::size_t& usable) noexcept;
  bool cover_metadata(std::uint64_t chunks) noexcept;

  bool is_open_ = false;  ///< The address is final.
  bool is_bounded_ = false;
  bool was_refused_ = false;  ///< A step was refused, though no limit was known.
  std::uintptr_t records_base_ = 0;
  std::uintptr_t tags_base_ = 0;
  std::uintptr_t data_base_ = 0;
  std::uint32_t limit_ = 0;        ///< Chunks that the layout has room for.
  std::uint32_t end_ = 0;          ///< Chunks with usable or skipped data.
  std::size_t data_bytes_ = 0;     ///< Usable data.
  std::size_t records_bytes_ = 0;  ///< Usable from records_base_ on.
  std::size_t tags_bytes_ = 0;     ///< Usable from tags_base_ on.
};

}  // namespace slabmalloc
