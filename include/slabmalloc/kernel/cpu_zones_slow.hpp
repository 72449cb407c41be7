// SPDX-License-Identifier: MIT
//
// CpuZones: what an allocation and a free do when the CPU's zone cannot serve them at once. Part of cpu_zones.hpp.
#pragma once

#include "slabmalloc/kernel/cpu_zones.hpp"

namespace slabmalloc {

template <KernelHooks HooksT, Pager PagerT, class ConfigT, FrameLife Life>
[[gnu::noinline]] Result<void*> CpuZones<HooksT, PagerT, ConfigT, Life>::allocate_slow(
    std::uint32_t index, Context context) noexcept {
  bool is_nested = false;
  if (void* const object = allocate_in_zone(index, is_nested)) {
    if (!is_nested && may_call_pager(context)) {
      run_some_deferred(0);
    }
    return object;
  }
  if (is_nested || !may_call_pager(context)) {
    return allocate_from_reserves(index, context);
  }
  if (void* const object = allocate_from_pager(index, context)) {
    return object;
  }
  return allocate_from_rest(index, context);
}

template <KernelHooks HooksT, Pager PagerT, class ConfigT, FrameLife Life>
void* CpuZones<HooksT, PagerT, ConfigT, Life>::allocate_in_zone(std::uint32_t index,
                                                                bool& is_nested) noexcept {
  const Section part(part_pointers_, parts_);
  if (!part) {
    is_nested = true;
    own_part<Hooks>(parts_).nested_allocations.fetch_add(1, Order::relaxed);
    return nullptr;
  }
  return part->allocate(index);
}

template <KernelHooks HooksT, Pager PagerT, class ConfigT, FrameLife Life>
Result<void*> CpuZones<HooksT, PagerT, ConfigT, Life>::out_of_memory() noexcept {
  counts_.failures.add(1);
  return AllocationError::OutOfMemory;
}

/// The end of the way for handlers, for whoever interrupted a section, and for emergencies.
template <KernelHooks HooksT, Pager PagerT, class ConfigT, FrameLife Life>
Result<void*> CpuZones<HooksT, PagerT, ConfigT, Life>::allocate_from_reserves(
    std::uint32_t index, Context context) noexcept {
  if (void* const object = allocate_from_reserved(index, context)) {
    return object;
  }
  {
    const InterruptGuard<Hooks> interrupts;
    if (void* const object = own_part<Hooks>(parts_).reserve.take(index)) {
      return object;
    }
  }
  if (context == Context::Emergency) {
    for (Part& part : parts_) {
      const InterruptGuard<Hooks> interrupts;
      if (void* const object = part.reserve.take(index)) {
        return object;
      }
    }
  }
  return out_of_memory();
}

/// The end of the way for all others: the pager has nothing.
template <KernelHooks HooksT, Pager PagerT, class ConfigT, FrameLife Life>
[[gnu::cold]] Result<void*> CpuZones<HooksT, PagerT, ConfigT, Life>::allocate_from_rest(
    std::uint32_t index, Context context) noexcept {
  counts_.searches.add(1);
  void* object = context == Context::MayWait ? search(index) : search_some(index);
  if (object == nullptr) {
    object = allocate_from_reserved(index, context);
  }
  return object != nullptr ? object : out_of_memory();
}

/// Looks through all that this CPU can look through, then reclaims.
template <KernelHooks HooksT, Pager PagerT, class ConfigT, FrameLife Life>
void* CpuZones<HooksT, PagerT, ConfigT, Life>::search(std::uint32_t index) noexcept {
  bool is_nested = false;
  drain_this_cpu();
  void* object = allocate_in_zone(index, is_nested);
  // What lies in frame caches now is of other sizes: the pager can make frames of this one of it, of a larger one at once.
  if (object == nullptr && give_back_other(bytes_of_class(index))) {
    object = allocate_from_pager(index, Context::MayWait);
  }
  if (object == nullptr && give_back() != 0) {
    object = allocate_from_pager(index, Context::MayWait);
  }
  if (object != nullptr) {
    return object;
  }
  drain_later();
  if (reclaim_ == nullptr || !reclaim_(reclaim_argument_)) {
    return nullptr;
  }
  object = allocate_from_pager(index, Context::MayWait);
  return object != nullptr ? object : allocate_in_zone(index, is_nested);
}

/// A step of such a search, of constant length; the next call takes the next one.
template <KernelHooks HooksT, Pager PagerT, class ConfigT, FrameLife Life>
void* CpuZones<HooksT, PagerT, ConfigT, Life>::search_some(std::uint32_t index) noexcept {
  {
    const Section part(part_pointers_, parts_);
    require_own(part);
    // A step drains or gives back. A run that waits is given back by every second one at least, a frame by the one
    // after a round's end.
    const bool gives =
        part->search_ended_round || (!part->search_gave && !deferred_runs_.is_empty());
    part->search_gave = gives;
    part->search_ended_round = !gives && !drain_in_search(*part.part());
    if (!gives) {
      return part->zone.allocate_again(index);
    }
  }
  void* const object = give_back_other(bytes_of_class(index))
                           ? allocate_from_pager(index, Context::MayNotWait)
                           : nullptr;
  if (object == nullptr) {
    drain_later();
  }
  return object;
}

/// An object, from a reserved frame if need be, or null.
template <KernelHooks HooksT, Pager PagerT, class ConfigT, FrameLife Life>
void* CpuZones<HooksT, PagerT, ConfigT, Life>::allocate_from_reserved(std::uint32_t index,
                                                                  Context context) noexcept {
  if (!may_use_reserved(context)) {
    return nullptr;
  }
  const Section part(part_pointers_, parts_);
  if (!part) {
    return nullptr;
  }
  part->pager.use_reserved(&reserved_frames_);
  void* const object = part->zone.allocate_again(index);
  part->pager.use_reserved(nullptr);
  return object;
}

template <KernelHooks HooksT, Pager PagerT, class ConfigT, FrameLife Life>
[[gnu::noinline]] void CpuZones<HooksT, PagerT, ConfigT, Life>::deallocate_slow(
    void* object, std::uint32_t index) noexcept {
  {
    const Section part(part_pointers_, parts_);
    if (part) {
      part->deallocate(object, index);
      return;
    }
    own_part<Hooks>(parts_).frees.add_nested(index, object);
  }
  Zone::deallocate_remote_class(object, index);
}

/// The rest of deallocate(), in its section.
template <KernelHooks HooksT, Pager PagerT, class ConfigT, FrameLife Life>
[[gnu::noinline]] void CpuZones<HooksT, PagerT, ConfigT, Life>::finish_deallocate(
    void* object, Part* part, typename Hooks::InterruptState interrupts, std::uint32_t index,
    FreeOutcome outcome) noexcept {
  const Section section(part, interrupts);
  part->zone.finish_deallocate(index, outcome, object);
  part->frees.add(index, object);
}

template <KernelHooks HooksT, Pager PagerT, class ConfigT, FrameLife Life>
void CpuZones<HooksT, PagerT, ConfigT, Life>::run_deferred() noexcept {
  // Every second one leaves the zone alone.
  while (run_some_deferred(Config::drain_pages) || run_some_deferred(Config::drain_pages)) {
  }
}

/// A part of what run_deferred() does, of constant length, a drain taking in `pages` queued pages; with 0 it waits with the
/// rest for the allocations to take in what others freed. False if nothing was left to do, or could be done, in this turn.
template <KernelHooks HooksT, Pager PagerT, class ConfigT, FrameLife Life>
bool CpuZones<HooksT, PagerT, ConfigT, Life>::run_some_deferred(std::uint32_t pages) noexcept {
  bool pager_is_first = false;
  bool excess_is_first = false;
  {
    const Section part(part_pointers_, parts_);
    if (!part) {
      return false;
    }
    // By turns: what always has something to do keeps nothing else from being done.
    const std::uint32_t turn = part->turns++;
    pager_is_first = turn % 2 != 0;
    excess_is_first = turn % 4 == 3;
    if (!pager_is_first && run_deferred_in_zone(*part.part(), pages)) {
      return true;
    }
  }
  return excess_is_first ? give_back_excess() || give_back_run() != 0
                         : give_back_run() != 0 || give_back_excess();
}

/// The same of a CPU's zone and reserve. In a section of `part`'s.
template <KernelHooks HooksT, Pager PagerT, class ConfigT, FrameLife Life>
bool CpuZones<HooksT, PagerT, ConfigT, Life>::run_deferred_in_zone(Part& part,
                                                               std::uint32_t pages) noexcept {
  const bool drains = part.is_draining();
  const bool drain_is_first = part.turns % 4 >= 2;
  // A reserve that nothing can fill now does not keep anybody from what is empty.
  if (!(drains && drain_is_first) && part.reserve.has_work() && part.adjust_some_reserve()) {
    return true;
  }
  if (drains) {
    drain_some(part, pages);
  }
  return drains;
}

}  // namespace slabmalloc
