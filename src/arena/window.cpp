// SPDX-License-Identifier: MIT
#include "arena/window.hpp"

#include "slabmalloc/base/bits.hpp"

namespace slabmalloc {
namespace {

constexpr bool wide = sizeof(void*) == 8;
constexpr std::size_t mebibyte = std::size_t{1} << 20;

/// Reservations tried, largest first, each a quarter of the one before.
constexpr std::size_t largest_reservation = std::size_t{1} << (wide ? 40 : 30);
constexpr std::size_t smallest_reservation = std::size_t{1} << (wide ? 30 : 28);
/// The window starts where a huge page could.
constexpr std::size_t window_alignment = 2 * mebibyte;

/// Data that a limited window has room for. Its size costs nothing; it must only fit between what
/// programs map. The large one is for programs whose bound says that they are large.
constexpr std::size_t large_limited_window = largest_reservation;
constexpr std::size_t small_limited_window = std::size_t{1} << (wide ? 36 : 29);

/// Where limited windows may start. The first lies in the lowest 2^38 bytes, all that the smallest
/// 64-bit address spaces have, between a fixed-address program's heap and a relocatable program; it
/// is application memory to the thread and memory sanitizers. The others serve where it is taken.
constexpr std::uintptr_t limited_bases[] = {
    static_cast<std::uintptr_t>(wide ? 0x10'0000'0000u : 0x2000'0000u),
    static_cast<std::uintptr_t>(wide ? 0x2000'0000'0000u : 0x4000'0000u),
    static_cast<std::uintptr_t>(wide ? 0x3000'0000'0000u : 0x6000'0000u),
};
/// Limited windows start at one of so many places, so that a fixed base does not give addresses
/// away.
constexpr std::uint64_t limited_places = wide ? 1024 : 1;
constexpr std::size_t limited_place_step = 8 * mebibyte;

/// Growth steps in chunks.
constexpr std::uint32_t reserved_step = 64;
constexpr std::uint32_t largest_reserved_step = 1024;
constexpr std::uint32_t limited_step = 16;
constexpr std::uint32_t largest_limited_step = 64;
/// Foreign mappings are stepped over by gaps of this many chunks, doubling.
constexpr std::uint32_t first_gap = 16;
constexpr std::uint32_t largest_gap = 4096;

constexpr const char* data_label = "slabmalloc data";
constexpr const char* records_label = "slabmalloc records";
constexpr const char* tags_label = "slabmalloc tags";

constexpr std::uint32_t clamp(std::uint32_t value, std::uint32_t low, std::uint32_t high) noexcept {
  return value < low ? low : value > high ? high : value;
}

}  // namespace

Growth Window::grow(std::uint32_t minimum) noexcept {
  if (mode_ == Mode::Unopened) {
    if (os::interface().page_bytes() > chunk_bytes) {
      return {};
    }
    const bool bounded = os::interface().address_space_limit() != os::unlimited;
    if (bounded || !open_reserved()) {
      return open_limited(minimum);
    }
  }
  const std::uint32_t preferred = preferred_step();
  if (preferred > minimum) {
    if (const Growth growth = grow_by(preferred)) {
      return growth;
    }
  }
  return grow_by(minimum);
}

/// Lays the picture of the header comment over the address space and returns its length in bytes.
std::size_t Window::place(std::uintptr_t base, std::size_t data_bytes) noexcept {
  limit_ = static_cast<std::uint32_t>(data_bytes / chunk_bytes);
  data_base_ = base;
  records_base_ = data_base_ + data_bytes + chunk_bytes;
  tags_base_ = align_up(records_base_ + limit_ * sizeof(Chunk), chunk_bytes) + chunk_bytes;
  return align_up(tags_base_ + limit_ * sizeof(RunTag), chunk_bytes) - base;
}

bool Window::open_reserved() noexcept {
  for (std::size_t size = largest_reservation; size >= smallest_reservation; size /= 4) {
    const std::size_t total = place(0, size);
    if (void* const got = os::interface().reserve(total + window_alignment); got != nullptr) {
      place(align_up(reinterpret_cast<std::uintptr_t>(got), window_alignment), size);
      mode_ = Mode::Reserved;
      os::interface().name(got, total + window_alignment, data_label);
      return true;
    }
  }
  return false;
}

Growth Window::open_limited(std::uint32_t minimum) noexcept {
  const std::size_t bound = os::interface().address_space_limit();
  const std::size_t offset =
      static_cast<std::size_t>(os::interface().random_bits() % limited_places) * limited_place_step;
  constexpr std::size_t sizes[] = {large_limited_window, small_limited_window};
  for (const std::size_t size : sizes) {
    if (size == large_limited_window && bound <= small_limited_window) {
      continue;
    }
    for (const std::uintptr_t base : limited_bases) {
      if (const Growth growth = open_limited_at(base + offset, size, minimum)) {
        return growth;
      }
      if (mode_ != Mode::Unopened) {
        return {};
      }
    }
  }
  return {};
}

/// Tries one place. On failure nothing stays mapped there, and if that fails too, the place is
/// kept.
Growth Window::open_limited_at(std::uintptr_t base, std::size_t data_bytes,
                               std::uint32_t minimum) noexcept {
  place(base, data_bytes);
  mode_ = Mode::Limited;
  const Growth growth = grow_by(minimum > limited_step ? minimum : limited_step);
  if (!growth) {
    const bool records_gone = uncover(records_base_, records_bytes_);
    const bool tags_gone = uncover(tags_base_, tags_bytes_);
    if (records_gone && tags_gone) {
      mode_ = Mode::Unopened;
    }
  }
  return growth;
}

/// Steps grow with the window, so that their number stays logarithmic until they are large.
std::uint32_t Window::preferred_step() const noexcept {
  return mode_ == Mode::Reserved ? clamp(end_ / 8, reserved_step, largest_reserved_step)
                                 : clamp(end_ / 16, limited_step, largest_limited_step);
}

Growth Window::grow_by(std::uint32_t chunks) noexcept {
  const std::uint32_t last_gap = mode_ == Mode::Limited ? largest_gap : 0;
  for (std::uint32_t gap = 0; gap <= last_gap; gap = gap == 0 ? first_gap : gap * 2) {
    const std::uint64_t new_end = std::uint64_t{end_} + gap + chunks;
    if (new_end > limit_ || !cover_metadata(new_end)) {
      return {};
    }
    const std::size_t bytes = std::size_t{chunks} * chunk_bytes;
    const std::uintptr_t address = data_base_ + (std::size_t{end_} + gap) * chunk_bytes;
    switch (make_usable(address, bytes, data_label)) {
      case os::MapOutcome::Mapped:
        end_ = static_cast<std::uint32_t>(new_end);
        data_bytes_ += bytes;
        return {gap, chunks};
      case os::MapOutcome::Exhausted:
        return {};
      case os::MapOutcome::Occupied:
        break;
    }
    if (last_gap == 0) {
      break;
    }
  }
  return {};
}

bool Window::cover_metadata(std::uint64_t chunks) noexcept {
  const auto count = static_cast<std::size_t>(chunks);
  return cover(records_base_, records_bytes_, count * sizeof(Chunk), records_label) &&
         cover(tags_base_, tags_bytes_, count * sizeof(RunTag), tags_label);
}

/// Makes the part at `base` usable for `wanted` bytes, of which `usable` are so already.
bool Window::cover(std::uintptr_t base, std::size_t& usable, std::size_t wanted,
                   const char* label) noexcept {
  const std::size_t total = align_up(wanted, os::interface().page_bytes());
  if (total > usable) {
    if (make_usable(base + usable, total - usable, label) != os::MapOutcome::Mapped) {
      return false;
    }
    usable = total;
  }
  return true;
}

/// Gives back what cover() made usable at `base`; false if it cannot be.
bool Window::uncover(std::uintptr_t base, std::size_t& usable) noexcept {
  if (usable != 0 && !os::interface().unmap(reinterpret_cast<void*>(base), usable)) {
    return false;
  }
  usable = 0;
  return true;
}

os::MapOutcome Window::make_usable(std::uintptr_t address, std::size_t bytes,
                                   const char* label) noexcept {
  void* const start = reinterpret_cast<void*>(address);
  if (mode_ == Mode::Reserved) {
    return os::interface().commit(start, bytes) ? os::MapOutcome::Mapped
                                                : os::MapOutcome::Exhausted;
  }
  const os::MapOutcome outcome = os::interface().map_at(start, bytes);
  if (outcome == os::MapOutcome::Mapped) {
    os::interface().name(start, bytes, label);
  }
  return outcome;
}

}  // namespace slabmalloc
