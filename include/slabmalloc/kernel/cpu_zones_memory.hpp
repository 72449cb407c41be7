// SPDX-License-Identifier: MIT
//
// CpuZones: frames from the pager and back, and what the whole looks like. Part of cpu_zones.hpp.
#pragma once

#include "slabmalloc/kernel/cpu_zones.hpp"

namespace slabmalloc {

// ---- from the pager ---------------------------------------------------------------------------------

/// Counts up to `most` more frames of `bytes`, as many as the limit allows; returns how many.
template <KernelHooks HooksT, Pager PagerT, class ConfigT, FrameLife Life>
std::uint32_t CpuZones<HooksT, PagerT, ConfigT, Life>::charge(std::size_t bytes,
                                                              std::uint32_t most) noexcept {
  const InterruptGuard<Hooks> interrupts;  // For handlers, where there are no atomics.
  std::size_t before = frame_bytes_.load(Order::relaxed);
  std::uint32_t count = 0;
  do {
    // What does not fit is never counted: it would keep others from what does.
    const std::size_t limit = limit_bytes_.load(Order::relaxed);
    const std::size_t room = before < limit ? (limit - before) / bytes : 0;
    count = room < most ? static_cast<std::uint32_t>(room) : most;
    if (count == 0) {
      return 0;
    }
  } while (!frame_bytes_.compare_exchange(before, before + count * bytes, Order::relaxed));
  return count;
}

/// After frames came of what was charged, and the rest was discharged: what others have just charged is counted too.
template <KernelHooks HooksT, Pager PagerT, class ConfigT, FrameLife Life>
void CpuZones<HooksT, PagerT, ConfigT, Life>::note_high_water() noexcept {
  const InterruptGuard<Hooks> interrupts;
  const std::size_t now = frame_bytes_.load(Order::relaxed);
  std::size_t highest = frame_bytes_high_water_.load(Order::relaxed);
  while (now > highest &&
         !frame_bytes_high_water_.compare_exchange(highest, now, Order::relaxed)) {
  }
}

/// Counts `bytes` less.
template <KernelHooks HooksT, Pager PagerT, class ConfigT, FrameLife Life>
void CpuZones<HooksT, PagerT, ConfigT, Life>::discharge(std::size_t bytes) noexcept {
  const InterruptGuard<Hooks> interrupts;
  frame_bytes_.fetch_sub(bytes, Order::relaxed);
}

/// Gets up to `count` frames of the pager's, as it gives them: all by one call if it can.
template <KernelHooks HooksT, Pager PagerT, class ConfigT, FrameLife Life>
std::uint32_t CpuZones<HooksT, PagerT, ConfigT, Life>::ask_pager(std::size_t bytes, Context context,
                                                                 void** frames,
                                                                 std::uint32_t count) noexcept {
  if constexpr (requires { pager_.allocate_frames(bytes, frames, std::size_t{count}); }) {
    const std::size_t got = pager_.allocate_frames(bytes, frames, std::size_t{count});
    return got < count ? static_cast<std::uint32_t>(got) : count;
  } else {
    std::uint32_t got = 0;
    for (Frame frame; got < count; ++got) {
      if constexpr (requires { pager_.allocate_frame(bytes, context); }) {
        frame = pager_.allocate_frame(bytes, context);
      } else {
        frame = pager_.allocate_frame(bytes);
      }
      if (frame.address == nullptr) {
        break;
      }
      frames[got] = frame.address;
    }
    return got;
  }
}

/// Gets up to `count` frames fit for use, for as many of which was charged; returns how many there were.
/// A frame that the pager gives twice in a row is this heap's once. That it is in use elsewhere cannot be told from what
/// lies in it: memory that outlived a restart is full of pages that look so.
template <KernelHooks HooksT, Pager PagerT, class ConfigT, FrameLife Life>
std::uint32_t CpuZones<HooksT, PagerT, ConfigT, Life>::get_frames(std::size_t bytes, Context context,
                                                                  void** frames,
                                                                  std::uint32_t count) noexcept {
  const std::uint32_t given = ask_pager(bytes, context, frames, count);
  std::uint32_t kept = 0;
  for (std::uint32_t number = 0; number < given; ++number) {
    void* const frame = frames[number];
    const bool is_aligned = (reinterpret_cast<std::uintptr_t>(frame) & (bytes - 1)) == 0;
    const bool is_again = kept != 0 && frame == frames[kept - 1];
    if (!is_aligned || is_again) [[unlikely]] {
      report_misuse({MisuseKind::InvalidPage, frame, 0, 0});
    }
    if (is_again) [[unlikely]] {
      continue;
    }
    if (is_aligned && life_.begin(frame, context)) [[likely]] {
      frames[kept++] = frame;
    } else {
      pager_.deallocate_frame(frame, bytes);
    }
  }
  return kept;
}

/// Gets frames of `bytes`, at most Config::growth_frames, for use and for those that are reserved; returns how many there
/// are for use.
template <KernelHooks HooksT, Pager PagerT, class ConfigT, FrameLife Life>
[[gnu::noinline]] std::uint32_t CpuZones<HooksT, PagerT, ConfigT, Life>::get_more(
    std::size_t bytes, Context context, void** frames) noexcept {
  constexpr std::uint32_t most = Config::growth_frames;
  std::uint32_t charged = 0;
  for (bool was_told = false;;) {
    charged = charge(bytes, bytes == Caches::base_bytes ? most : 1);
    if (charged != 0 || was_told || limit_callback_ == nullptr) {
      break;
    }
    was_told = true;
    limit_callback_(limit_argument_);
  }
  const std::uint32_t got = get_frames(bytes, context, frames, charged);
  discharge((charged - got) * bytes);
  if (got == 0) {
    return 0;
  }
  note_high_water();
  counts_.growths.add(1);
  // The first is for the caller.
  const bool is_one_reserved = most > 1 && got > 1 && refill_reserved(frames[got - 1], bytes);
  return is_one_reserved ? got - 1 : got;
}

/// Gets frames for class `index`, and calls use(part) in a section of the CPU on which the caller then is, whose zone
/// has one of them for certain: others could take whatever lies in a frame cache, again and again. False if there are none.
template <KernelHooks HooksT, Pager PagerT, class ConfigT, FrameLife Life>
template <class Use>
bool CpuZones<HooksT, PagerT, ConfigT, Life>::grow(std::uint32_t index, Context context,
                                                   Use&& use) noexcept {
  const std::size_t bytes = bytes_of_class(index);
  void* frames[Config::growth_frames];
  const std::uint32_t count = get_more(bytes, context, frames);
  if (count == 0) {
    return false;
  }
  const Section part(part_pointers_, parts_);
  require_own(part);
  if constexpr (Config::growth_frames > 1) {
    part->frame_cache.push(frames + 1, count - 1, bytes);
  }
  part->pager.hand(frames[0]);
  use(*part.part());
  if (void* const frame = part->pager.take_back()) {
    part->frame_cache.push(frame, bytes);
  }
  return true;
}

/// An object of class `index` on a frame from the pager, or null if that has none.
template <KernelHooks HooksT, Pager PagerT, class ConfigT, FrameLife Life>
[[gnu::noinline]] void* CpuZones<HooksT, PagerT, ConfigT, Life>::allocate_from_pager(
    std::uint32_t index, Context context) noexcept {
  void* object = nullptr;
  grow(index, context, [&](Part& part) { object = part.zone.allocate_again(index); });
  return object;
}

// ---- back to the pager ------------------------------------------------------------------------------

/// Gives a frame back, which lies nowhere any more.
template <KernelHooks HooksT, Pager PagerT, class ConfigT, FrameLife Life>
void CpuZones<HooksT, PagerT, ConfigT, Life>::give_back_frame(void* frame,
                                                              std::size_t bytes) noexcept {
  life_.end(frame);
  pager_.deallocate_frame(frame, bytes);
  discharge(bytes);
}

/// Moves a frame out of `other`'s frame cache, to the reserved ones if any is missing there, else to the pager, and adds its bytes
/// to `given` then. False if there are no more than `keep`.
template <KernelHooks HooksT, Pager PagerT, class ConfigT, FrameLife Life>
bool CpuZones<HooksT, PagerT, ConfigT, Life>::give_back_one(Part& other, std::size_t bytes,
                                                            std::uint32_t keep,
                                                            std::size_t& given) noexcept {
  if (other.frame_cache.size(bytes) <= keep) {
    return false;
  }
  void* frame = nullptr;
  bool is_excess = false;
  {
    const Section part(part_pointers_, parts_);
    is_excess =
        part && reserved_frames_.move_or_take(other.frame_cache, bytes, reserved_frames_wanted(bytes), frame);
  }
  if (frame != nullptr) {
    give_back_frame(frame, bytes);
    given += bytes;
  }
  return is_excess;
}

template <KernelHooks HooksT, Pager PagerT, class ConfigT, FrameLife Life>
std::size_t CpuZones<HooksT, PagerT, ConfigT, Life>::give_back(std::uint32_t keep) noexcept {
  // As many as there are now, of runs and of frames: others may put there as fast as this takes.
  std::size_t given = 0;
  for (const std::size_t waiting = deferred_runs_.bytes(); given < waiting;) {
    const std::size_t bytes = give_back_run();
    if (bytes == 0) {
      break;
    }
    given += bytes;
  }
  for (Part& other : parts_) {
    for (const std::size_t bytes : Caches::sizes) {
      for (std::uint32_t count = other.frame_cache.size(bytes); count > keep; --count) {
        if (!give_back_one(other, bytes, keep, given)) {
          break;
        }
      }
    }
  }
  return given;
}

/// Gives a few frames back that the caller's CPU has beyond Config::cached_frames. False if there were none.
template <KernelHooks HooksT, Pager PagerT, class ConfigT, FrameLife Life>
bool CpuZones<HooksT, PagerT, ConfigT, Life>::give_back_excess() noexcept {
  Part* own = nullptr;
  {
    const InterruptGuard<Hooks> interrupts;
    own = &own_part<Hooks>(parts_);
  }
  std::uint32_t count = 0;
  std::size_t given = 0;
  for (const std::size_t bytes : Caches::sizes) {
    while (count < excess_at_once && give_back_one(*own, bytes, Config::cached_frames, given)) {
      ++count;
    }
  }
  return count != 0;
}

/// Gives a run back that waits for it, or else a frame of other bytes, larger ones first. False if there was none.
template <KernelHooks HooksT, Pager PagerT, class ConfigT, FrameLife Life>
bool CpuZones<HooksT, PagerT, ConfigT, Life>::give_back_other(std::size_t bytes) noexcept {
  std::size_t given = give_back_run();
  for (std::uint32_t index = Caches::sizes.count; index-- > 0;) {
    const std::size_t others = Caches::sizes.at[index];
    for (std::uint32_t cpu = 0; given == 0 && others != bytes && cpu < Hooks::maximum_cpus; ++cpu) {
      give_back_one(parts_[cpu], others, 0, given);
    }
  }
  return given != 0;
}

// ---- empty pages ---------------------------------------------------------------------------------------

/// Goes on with draining, or begins with it: takes in up to `pages` queued pages, or puts the empty pages of the next
/// class that has any into the frame cache; looks at a few. What others freed meanwhile makes it go round again. False if that was a round's end. In a section of `part`'s.
template <KernelHooks HooksT, Pager PagerT, class ConfigT, FrameLife Life>
bool CpuZones<HooksT, PagerT, ConfigT, Life>::drain_some(Part& part, std::uint32_t pages) noexcept {
  if (part.next_to_drain == Zone::class_count) {
    // Before anything is looked at: what is wanted from here on is another time.
    part.drain_is_wanted.store(false, Order::relaxed);
    part.next_to_drain = 0;
  }
  if (pages != 0 && part.zone.has_remote_frees()) {
    part.zone.drain_some(pages);
    return true;
  }
  bool has_trimmed = false;
  for (std::uint32_t looks = 0;
       looks < looks_per_section && part.next_to_drain < Zone::class_count && !has_trimmed; ++looks) {
    const std::uint32_t index = part.next_to_drain++;
    has_trimmed = part.zone.has_empty_page(index);
    if (has_trimmed) {
      part.zone.trim_class(index);
    }
  }
  const bool goes_on = part.next_to_drain != Zone::class_count;
  if (!goes_on && part.zone.has_remote_frees()) {
    part.drain_is_wanted.store(true, Order::relaxed);
  }
  return goes_on;
}

/// As drain_some(), for a step of a search: by turns with remote frees and without, so that frees that come as fast as they are
/// taken in keep none from what is empty.
template <KernelHooks HooksT, Pager PagerT, class ConfigT, FrameLife Life>
bool CpuZones<HooksT, PagerT, ConfigT, Life>::drain_in_search(Part& part) noexcept {
  part.search_drained = !part.search_drained;
  return drain_some(part, part.search_drained ? 1 : 0);
}

template <KernelHooks HooksT, Pager PagerT, class ConfigT, FrameLife Life>
bool CpuZones<HooksT, PagerT, ConfigT, Life>::drain_this_cpu() noexcept {
  {
    const InterruptGuard<Hooks> interrupts;
    own_part<Hooks>(parts_).drain_is_wanted.store(true, Order::relaxed);
  }
  for (bool is_first = true, goes_on = true; goes_on; is_first = false) {
    const Section part(part_pointers_, parts_);
    if (!part) {
      return false;
    }
    if (is_first) {
      part->next_to_drain = Zone::class_count;
    }
    goes_on = drain_some(*part.part(), Config::drain_pages);
  }
  return true;
}

template <KernelHooks HooksT, Pager PagerT, class ConfigT, FrameLife Life>
void CpuZones<HooksT, PagerT, ConfigT, Life>::release_all() noexcept {
  drain_and_leave_current();
  for (Part& part : parts_) {
    part.zone.release_all(
        [&](void* frame, std::size_t bytes) noexcept { give_back_frame(frame, bytes); });
    for (std::uint32_t index = 0; index < Zone::class_count; ++index) {
      part.reserve.want(index, 0);
    }
  }
  for (auto& wanted : reserved_frames_wanted_) {
    wanted.store(0, Order::relaxed);
  }
  give_back();
  for (const std::size_t bytes : Caches::sizes) {
    while (void* const frame = reserved_frames_.pop(bytes)) {
      give_back_frame(frame, bytes);
    }
  }
}

template <KernelHooks HooksT, Pager PagerT, class ConfigT, FrameLife Life>
void CpuZones<HooksT, PagerT, ConfigT, Life>::drain_and_leave_current() noexcept {
  // What one zone delivers another takes in.
  for (int round = 0; round < 2; ++round) {
    for (Part& part : parts_) {
      for (std::uint32_t index = 0; index < Zone::class_count; ++index) {
        while (void* const object = part.reserve.take(index)) {
          part.deallocate(object, index);
        }
      }
      part.zone.drain();
    }
  }
  for (Part& part : parts_) {
    for (std::uint32_t index = 0; index < Zone::class_count; ++index) {
      part.zone.trim_class(index);
    }
  }
}

// ---- looking ----------------------------------------------------------------------------------------

template <KernelHooks HooksT, Pager PagerT, class ConfigT, FrameLife Life>
CpuZonesStatistics CpuZones<HooksT, PagerT, ConfigT, Life>::statistics() const noexcept {
  CpuZonesStatistics result;
  read_counters(counts_, result);
  for (const Part& part : parts_) {
    result.zones += part.zone.statistics();
    for (const std::size_t bytes : Caches::sizes) {
      result.cached_frame_bytes += part.frame_cache.size(bytes) * bytes;
    }
    result.nested_allocations += part.nested_allocations.load(Order::relaxed);
    result.nested_frees += part.frees.nested();
  }
  for (const std::size_t bytes : Caches::sizes) {
    result.reserved_frame_bytes += reserved_frames_.size(bytes) * bytes;
  }
  result.deferred_bytes = deferred_runs_.bytes();
  result.frame_bytes = frame_bytes();
  result.frame_bytes_high_water = frame_bytes_high_water_.load(Order::relaxed);
  return result;
}

template <KernelHooks HooksT, Pager PagerT, class ConfigT, FrameLife Life>
ClassStatistics CpuZones<HooksT, PagerT, ConfigT, Life>::class_statistics(
    std::uint32_t index) const noexcept {
  ClassStatistics result;
  for (const Part& part : parts_) {
    result += part.zone.class_statistics(index);
  }
  return result;
}

template <KernelHooks HooksT, Pager PagerT, class ConfigT, FrameLife Life>
ClassStatistics CpuZones<HooksT, PagerT, ConfigT, Life>::class_counts(
    std::uint32_t index) const noexcept {
  ClassStatistics result;
  std::size_t in_reserves = 0;
  for (const Part& part : parts_) {
    result += part.zone.class_counts(index);
    if constexpr (Config::counts_frees) {
      result.frees += part.frees.all(index);
      in_reserves += part.reserve.size(index);
    }
  }
  if constexpr (Config::counts_frees) {
    const std::size_t gone = result.frees + in_reserves;
    result.used = result.allocations > gone ? result.allocations - gone : 0;
  }
  return result;
}

template <KernelHooks HooksT, Pager PagerT, class ConfigT, FrameLife Life>
const char* CpuZones<HooksT, PagerT, ConfigT, Life>::validate() const noexcept {
  for (const Part& part : parts_) {
    if (const char* const broken = part.zone.validate()) {
      return broken;
    }
  }
  const CpuZonesStatistics now = statistics();
  const std::size_t bytes =
      now.zones.page_bytes + now.zones.depot_bytes + now.cached_frame_bytes + now.reserved_frame_bytes;
  return bytes == now.frame_bytes ? nullptr
                                  : "K1: frame bytes = those of all zones + frame caches + reserved frames";
}

}  // namespace slabmalloc
