// SPDX-License-Identifier: MIT
//
// The window: the choice of its place, and its growth.
#include "arena/window.hpp"

#include "slabmalloc/base/bits.hpp"
#include "tunables.hpp"

namespace slabmalloc {
namespace {

constexpr bool wide = sizeof(void*) == 8;
constexpr std::size_t mebibyte = std::size_t{1} << 20;

/// The data starts at a boundary of huge OS pages.
constexpr std::size_t data_alignment = 2 * mebibyte;

/// Addresses that programs leave empty. The first lies below 2^38, the end of the smallest 64-bit
/// address spaces. It is between the heap of a fixed-address program and a relocatable program. The
/// thread and memory sanitizers treat it as application memory. The others serve where it is
/// occupied.
constexpr std::uintptr_t known_bases[] = {
    static_cast<std::uintptr_t>(wide ? 0x10'0000'0000u : 0x2000'0000u),
    static_cast<std::uintptr_t>(wide ? 0x2000'0000'0000u : 0x4000'0000u),
    static_cast<std::uintptr_t>(wide ? 0x3000'0000'0000u : 0x6000'0000u),
};
/// A window at a known address starts at one of this many distances from it, so that its address is
/// hard to guess.
constexpr std::uint64_t known_distances = wide ? 1024 : 1;
constexpr std::size_t known_distance_step = 8 * mebibyte;

constexpr const char* data_label = "slabmalloc data";
constexpr const char* records_label = "slabmalloc records";
constexpr const char* tags_label = "slabmalloc tags";

constexpr std::uint32_t clamp(std::uint32_t value, std::uint32_t low, std::uint32_t high) noexcept {
  return value < low ? low : value > high ? high : value;
}

os::MapOutcome map_at(std::uintptr_t address, std::size_t bytes, const char* label) noexcept {
  void* const start = reinterpret_cast<void*>(address);
  const os::MapOutcome outcome = os::interface().map_at(start, bytes);
  if (outcome == os::MapOutcome::Mapped) {
    os::interface().name(start, bytes, label);
  }
  return outcome;
}

}  // namespace

Growth Window::grow(std::uint32_t minimum) noexcept {
  if (os::interface().os_page_bytes() > chunk_bytes) {
    return {};
  }
  is_bounded_ = was_refused_ || os::interface().address_space_limit() != os::unlimited;
  return is_open_ ? grow_by_step(minimum) : open(minimum);
}

Growth Window::open(std::uint32_t minimum) noexcept {
  for (std::size_t size = Tunables::largest_window_bytes;
       size >= Tunables::smallest_window_bytes && !is_bounded_; size /= 4) {
    const std::size_t room = size / Tunables::window_part_left_empty;
    const std::size_t total = room + place(0, size);
    const std::uintptr_t base = os::interface().find_space(total);
    if (base != 0 && has_empty_metadata(base + room, size)) {
      const Growth growth = open_at(base + room, size, minimum);
      if (growth || is_open_) {
        return growth;
      }
    }
  }
  return open_at_known_place(minimum);
}

Growth Window::open_at_known_place(std::uint32_t minimum) noexcept {
  const std::size_t bound = os::interface().address_space_limit();
  const std::size_t distance =
      static_cast<std::size_t>(os::interface().random_bits() % known_distances) *
      known_distance_step;
  constexpr std::size_t sizes[] = {Tunables::largest_window_bytes, Tunables::bounded_window_bytes};
  for (const std::size_t size : sizes) {
    if (size == Tunables::largest_window_bytes && bound <= Tunables::bounded_window_bytes) {
      continue;
    }
    for (const std::uintptr_t base : known_bases) {
      if (const Growth growth = open_at(base + distance, size, minimum)) {
        return growth;
      }
      if (is_open_) {
        return {};
      }
    }
  }
  return {};
}

/// Tries one address. On failure nothing stays mapped there; if the unmap fails too, the window
/// keeps this address.
Growth Window::open_at(std::uintptr_t base, std::size_t data_bytes,
                       std::uint32_t minimum) noexcept {
  place(base, data_bytes);
  const Growth growth = grow_by_step(minimum);
  is_open_ = true;
  if (!growth) {
    const bool records_gone = uncover(records_base_, records_bytes_);
    const bool tags_gone = uncover(tags_base_, tags_bytes_);
    is_open_ = !records_gone || !tags_gone;
  }
  return growth;
}

/// True if nothing is mapped where a window's records and tags would be: those skip no mappings.
bool Window::has_empty_metadata(std::uintptr_t base, std::size_t data_bytes) noexcept {
  place(base, data_bytes);
  return os::interface().is_empty(reinterpret_cast<void*>(records_base_),
                                  data_base_ - records_base_);
}

/// Computes the layout of the header's picture from `base` on, a multiple of the OS page. Returns
/// its length in bytes.
std::size_t Window::place(std::uintptr_t base, std::size_t data_bytes) noexcept {
  limit_ = static_cast<std::uint32_t>(data_bytes / chunk_bytes);
  records_base_ = align_up(base, chunk_bytes);
  tags_base_ = align_up(records_base_ + limit_ * sizeof(Chunk), chunk_bytes) + chunk_bytes;
  data_base_ = align_up(tags_base_ + limit_ * sizeof(RunTag) + chunk_bytes, data_alignment);
  // For every base, alignment adds at most this much.
  return data_base_ + data_bytes + data_alignment - base;
}

/// Grows by a larger step if memory allows, else by `minimum`. A program may limit its address
/// space at any time. A refused step tells of that: later steps are those of bounded windows.
Growth Window::grow_by_step(std::uint32_t minimum) noexcept {
  const std::uint32_t preferred = preferred_step();
  if (preferred > minimum) {
    if (const Growth growth = grow_by(preferred)) {
      return growth;
    }
  }
  const Growth growth = grow_by(minimum);
  if (growth && preferred > minimum) {
    was_refused_ = was_refused_ || !is_bounded_;
    is_bounded_ = true;
  }
  return growth;
}

std::uint32_t Window::preferred_step() const noexcept {
  return is_bounded_
             ? clamp(end_ / Tunables::bounded_growth_part, Tunables::smallest_bounded_growth_chunks,
                     Tunables::largest_bounded_growth_chunks)
             : clamp(end_ / Tunables::growth_part, Tunables::smallest_growth_chunks,
                     Tunables::largest_growth_chunks);
}

Growth Window::grow_by(std::uint32_t chunks) noexcept {
  const std::size_t bytes = std::size_t{chunks} * chunk_bytes;
  const std::uint32_t last_gap =
      is_bounded_ ? Tunables::largest_bounded_gap_chunks : Tunables::largest_gap_chunks;
  for (std::uint32_t gap = 0; gap <= last_gap;
       gap = gap == 0 ? Tunables::first_gap_chunks : gap * 2) {
    const std::uint64_t new_end = std::uint64_t{end_} + gap + chunks;
    if (new_end > limit_) {
      return {};
    }
    // Over a gap the window maps the records after the data, since it may try many gaps.
    if (gap == 0 && !cover_metadata(new_end)) {
      return {};
    }
    const std::uintptr_t address = data_base_ + (std::size_t{end_} + gap) * chunk_bytes;
    const os::MapOutcome outcome = map_at(address, bytes, data_label);
    if (outcome == os::MapOutcome::Occupied) {
      continue;
    }
    if (outcome == os::MapOutcome::Mapped) {
      if (cover_metadata(new_end)) {
        end_ = static_cast<std::uint32_t>(new_end);
        data_bytes_ += bytes;
        return {gap, chunks};
      }
      // If this fails, the window treats it as another foreign mapping to skip.
      os::interface().unmap(reinterpret_cast<void*>(address), bytes);
    }
    return {};
  }
  return {};
}

bool Window::cover_metadata(std::uint64_t chunks) noexcept {
  const auto count = static_cast<std::size_t>(chunks);
  return cover(records_base_, records_bytes_, count * sizeof(Chunk), records_label) &&
         cover(tags_base_, tags_bytes_, count * sizeof(RunTag), tags_label);
}

/// Makes the part at `base` usable for `wanted` bytes; the first `usable` bytes are usable already.
bool Window::cover(std::uintptr_t base, std::size_t& usable, std::size_t wanted,
                   const char* label) noexcept {
  const std::size_t total = align_up(wanted, os::interface().os_page_bytes());
  if (total > usable) {
    if (map_at(base + usable, total - usable, label) != os::MapOutcome::Mapped) {
      return false;
    }
    usable = total;
  }
  return true;
}

/// Unmaps the usable bytes at `base`; false if the kernel refuses.
bool Window::uncover(std::uintptr_t base, std::size_t& usable) noexcept {
  if (usable != 0 && !os::interface().unmap(reinterpret_cast<void*>(base), usable)) {
    return false;
  }
  usable = 0;
  return true;
}

}  // namespace slabmalloc
