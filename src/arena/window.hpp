// SPDX-License-Identifier: MIT
//
// Window: the part of the address space that the arena lives in, and how it grows.
//
//     records_base             tags_base          data_base
//     | Chunk records … |guard | RunTags … |guard | chunk 0 | chunk 1 | …             (limit) |
//     '-usable-'-not yet-'     '-usable-'-not yet-'  '-- usable --'------- not yet ------------'
//
// Nothing of the picture is reserved: it is laid over empty address space, and growth maps further
// pieces at their exact places. So what the process has mapped is what the arena has use for, and a
// bound on its address space or a lock on all its memory meets no more than that.
//
// All three parts grow upwards from their bases: for every chunk whose data is usable, record and tag
// are usable too. The guards are never mapped by the window. If
// something else is mapped in the way of the data, the gap is skipped; its chunks are reported so
// that they are never handed out.
//
// The place is in a space that the system proposes. Its own later mappings come down from the far
// end of that, or, where it fills address space upwards, go first into the room that is left before
// the picture. Where it proposes none, because the address space is bounded, the place is one of a
// few that programs leave empty.
#pragma once

#include <cstddef>
#include <cstdint>

#include "arena/chunk.hpp"
#include "arena/run_tag.hpp"
#include "os/os.hpp"

namespace slabmalloc {

/// What grow() did: after the chunks that were there, `skipped` chunks that are not ours, then
/// `added` that are usable and zero. Nothing, if `added` is 0.
struct Growth {
  std::uint32_t skipped = 0;
  std::uint32_t added = 0;
  constexpr explicit operator bool() const noexcept { return added != 0; }
};

/// The arena's piece of the address space. Thread: every call under the arena's mutex.
class Window {
 public:
  constexpr Window() noexcept = default;

  /// Makes at least `minimum` chunks more usable, more than that if memory allows. The first call
  /// chooses the place.
  /// Fails: nothing added, all usable chunks as before; it may be tried again.
  Growth grow(std::uint32_t minimum) noexcept;

  /// True if address space was bounded when the window last grew: reuse comes before growth then,
  /// and growth is by little.
  bool is_bounded() const noexcept { return is_bounded_; }

  std::byte* data() const noexcept { return reinterpret_cast<std::byte*>(data_base_); }
  Chunk* records() const noexcept { return reinterpret_cast<Chunk*>(records_base_); }
  RunTag* tags() const noexcept { return reinterpret_cast<RunTag*>(tags_base_); }

  /// Bytes that were made usable: data, and records with tags.
  std::size_t data_bytes() const noexcept { return data_bytes_; }
  std::size_t metadata_bytes() const noexcept { return records_bytes_ + tags_bytes_; }

 private:
  Growth open(std::uint32_t minimum) noexcept;
  Growth open_at(std::uintptr_t base, std::size_t data_bytes, std::uint32_t minimum) noexcept;
  Growth open_at_known_place(std::uint32_t minimum) noexcept;
  std::size_t place(std::uintptr_t base, std::size_t data_bytes) noexcept;
  Growth grow_by_step(std::uint32_t minimum) noexcept;
  std::uint32_t preferred_step() const noexcept;
  Growth grow_by(std::uint32_t chunks) noexcept;
  bool cover(std::uintptr_t base, std::size_t& usable, std::size_t wanted,
             const char* label) noexcept;
  bool uncover(std::uintptr_t base, std::size_t& usable) noexcept;
  bool cover_metadata(std::uint64_t chunks) noexcept;

  bool is_open_ = false;  ///< The place is chosen for good.
  bool is_bounded_ = false;
  std::uintptr_t records_base_ = 0;
  std::uintptr_t tags_base_ = 0;
  std::uintptr_t data_base_ = 0;
  std::uint32_t limit_ = 0;        ///< Chunks that the picture has room for.
  std::uint32_t end_ = 0;          ///< Chunks whose data is usable or skipped.
  std::size_t data_bytes_ = 0;     ///< Usable data.
  std::size_t records_bytes_ = 0;  ///< Usable from records_base_ on.
  std::size_t tags_bytes_ = 0;     ///< Usable from tags_base_ on.
};

}  // namespace slabmalloc
