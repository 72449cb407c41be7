// SPDX-License-Identifier: MIT
//
// CpuMemory: the memory of a CpuZones outside all zones, and how it moves.
//
//   pager ──► FrameSupply ──grow──► frame cache of a CPU ◄──► its zone
//     ▲        ▲   └─refill─┐          │
//     │        │            ▼          │
//     │        │      FrameReserve ◄───┤ one is missing there
//     │        └───────── give_back ───┘ else
//     └── give_back_run ── RunSupply: deferred runs
//
// In a type-stable cache the supply parks frames for a grace period on their way back.
//
// It owns the supply of frames, the frame reserve, and the supply of runs. The CPUs' parts own the
// frame caches. CpuMemory calls the pager between sections, with nothing held. A frame on its way
// to the pager joins the reserve instead while one is missing there.
//
// Invariants: those of the members; for all frames see K1 (cpu_zones.hpp).
#pragma once

#include <cstddef>
#include <cstdint>

#include "slabmalloc/base/result.hpp"
#include "slabmalloc/kernel/cpu_parts.hpp"
#include "slabmalloc/kernel/frame_reserve.hpp"
#include "slabmalloc/kernel/frame_supply.hpp"
#include "slabmalloc/kernel/guarded_counter.hpp"
#include "slabmalloc/kernel/run_supply.hpp"

namespace slabmalloc {

/// The frames that the zones of configuration `Config` park.
template <KernelHooks Hooks, class Config>
struct ParkedFramesOf {
  using Type = NoParkedFrames;
};
template <KernelHooks Hooks, class Config>
  requires(Config::type_stable)
struct ParkedFramesOf<Hooks, Config> {
  using Type = ParkedFrames<Hooks, typename Config::BasePage>;
};
template <KernelHooks Hooks, class Config>
using ParkedFramesFor = typename ParkedFramesOf<Hooks, Config>::Type;

/// Memory between one pager and the CPUs' zones.
/// Thread: any that holds nothing. Context: where not said otherwise, one that may call the pager.
template <KernelHooks Hooks, Pager PagerT, class Config, FrameLife Life,
          class RunReturn = PlainRunReturn>
class CpuMemory {
 public:
  using Parts = CpuParts<Hooks, Config>;
  using Part = typename Parts::Part;
  using Section = typename Parts::Section;
  using Caches = typename Part::Caches;
  using Atomics = typename Config::Atomics;
  using Frames = FrameSupply<Hooks, PagerT, Atomics, Life, ParkedFramesFor<Hooks, Config>>;
  static constexpr bool parks_frames = Frames::Parked::exist;
  using Reserve = FrameReserve<Hooks, typename Config::Pages, Atomics>;
  using Runs = RunSupply<Hooks, PagerT, Atomics, RunReturn>;
  using Counter = GuardedCounter<Hooks, Atomics>;

  static constexpr std::size_t no_bytes = 0;  ///< No frame's.

  /// Pre: `parts` and `pager` outlive it.
  constexpr CpuMemory(Parts& parts, PagerT& pager, Life life, RunReturn run_return = {}) noexcept
      : parts_(parts), frames_(pager, life), runs_(pager, frames_.account(), run_return) {
    parts.attach(waiters());
  }

  /// Tells the size of the frames where it is known at run time. Thread: before anyone uses it.
  constexpr void set_frame_bytes(std::size_t bytes) noexcept {
    reserve_.set_frame_bytes(bytes);
    frames_.parked().set_frame_bytes(bytes);
  }

  Frames& frames() noexcept { return frames_; }
  const Frames& frames() const noexcept { return frames_; }
  const Reserve& reserve() const noexcept { return reserve_; }
  Runs& runs() noexcept { return runs_; }
  const Runs& runs() const noexcept { return runs_; }
  constexpr auto& waiters() noexcept { return frames_.account().waiters(); }

  // ---- from the pager --------------------------------------------------------------------------

  /// An object of class `index` on a frame from the pager, or null if that has none.
  [[gnu::noinline]] void* allocate(std::uint32_t index, Context context) noexcept {
    void* object = nullptr;
    grow(index, context, [&](Part& part) { object = part.zone.allocate_again(index); });
    return object;
  }

  /// Fills the reserve of the caller's CPU with objects of class `index`. False if memory did not
  /// suffice. Context: any; calls the pager if `context` allows it.
  bool fill_object_reserve(std::uint32_t index, Context context) noexcept {
    bool is_full = false;
    {
      const Section part = parts_.enter(part_wait_of(context));
      if (!part) {
        return false;
      }
      is_full = part->adjust_reserve(index);
    }
    const auto adjust = [&](Part& part) { is_full = part.adjust_reserve(index); };
    while (!is_full && may_call_pager(context) && grow(index, context, adjust)) {
    }
    return is_full;
  }

  // ---- reserved frames -------------------------------------------------------------------------

  /// Reserves `count` frames of `bytes` from now on. False if not all were available; those it got
  /// stay. Context: any; calls the pager if `context` allows it.
  bool reserve_frames(std::size_t bytes, std::uint32_t count, Context context) noexcept {
    reserve_.want(bytes, count);
    for (;;) {
      {
        const Section part = parts_.enter(part_wait_of(context));
        if (!part) {
          return false;
        }
        // Other CPUs may want more or fewer meanwhile.
        if (!reserve_.is_short_now(bytes)) {
          break;
        }
      }
      void* const frame =
          may_call_pager(context) ? frames_.get_to_reserve(bytes, context) : nullptr;
      if (frame == nullptr) {
        return false;
      }
      if (!refill_reserve(frame, bytes)) {
        frames_.leave(frame, bytes);
      }
    }
    while (release_reserved(bytes)) {
    }
    return true;
  }

  /// An object of class `index`, on a reserved frame if need be, or null. Context: any.
  void* allocate_reserved(std::uint32_t index, PartWait wait = PartWait::Bounded) noexcept {
    const Section part = parts_.enter(wait);
    if (!part) {
      return nullptr;
    }
    part->pager.use_reserve(&reserve_);
    void* const object = part->zone.allocate_again(index);
    part->pager.use_reserve(nullptr);
    return object;
  }

  // ---- back to the pager -----------------------------------------------------------------------

  /// Gives all deferred runs back, and all frames of frame caches but for `keep` of each size and
  /// CPU; returns their bytes.
  std::size_t give_back(std::uint32_t keep) noexcept {
    // Bounded by the runs and frames that exist now: others may add more as fast as this removes
    // them.
    std::size_t given = 0;
    for (const std::size_t waiting = runs_.deferred_bytes(); given < waiting;) {
      const std::size_t bytes = give_back_run();
      if (bytes == 0) {
        break;
      }
      given += bytes;
    }
    for (Part& other : parts_) {
      for (const std::size_t bytes : sizes()) {
        for (std::uint32_t count = other.frame_cache.size(bytes); count > keep; --count) {
          if (!give_back_one(other, bytes, keep, given)) {
            break;
          }
        }
      }
    }
    if constexpr (parks_frames) {
      const auto most = static_cast<std::uint32_t>(frames_.parked().size());
      given += frames_.give_passed(parked_bytes(), most) * parked_bytes();
    }
    return given;
  }

  /// Gives back a few frames beyond Config::cached_frames from the caller's CPU. False if it had
  /// none.
  bool give_back_excess() noexcept {
    Part* own = nullptr;
    {
      const InterruptGuard<Hooks> interrupts;
      own = &parts_.own();
    }
    std::uint32_t count = 0;
    std::size_t given = 0;
    for (const std::size_t bytes : sizes()) {
      const std::uint32_t kept = Config::frames_of(Config::cached_frames, bytes);
      while (count < excess_at_once && give_back_one(*own, bytes, kept, given)) {
        ++count;
      }
    }
    if constexpr (parks_frames) {
      count += frames_.give_passed(parked_bytes(), excess_at_once);
    }
    return count != 0;
  }

  /// Gives a deferred run back, or else a frame of other bytes than `bytes`, larger ones first.
  /// False if there was none.
  bool give_back_other(std::size_t bytes) noexcept {
    std::size_t given = give_back_run();
    for (std::uint32_t index = sizes().count; index-- > 0;) {
      const std::size_t others = sizes().at[index];
      for (auto part = parts_.begin(); given == 0 && others != bytes && part != parts_.end();
           ++part) {
        give_back_one(*part, others, 0, given);
      }
    }
    return given != 0;
  }

  /// Gives a deferred run back, and returns its bytes; 0 if there is none.
  std::size_t give_back_run() noexcept {
    if (!runs_.has_deferred()) {
      return 0;
    }
    // The pager may refuse some, which were none of its runs.
    for (;;) {
      typename Runs::Run run;
      {
        const Section part = parts_.enter();
        if (part) {
          run = runs_.take_deferred();
        }
      }
      const std::size_t bytes = runs_.give_back(run);
      if (bytes != 0 || run.address == nullptr) {
        return bytes;
      }
    }
  }

  /// Gives everything back but runs of clients, the zones' memory included, and ends all
  /// reservations. A type-stable cache parks its frames.
  /// Pre: nobody else uses it or its objects, but readers of parked frames; nothing is reserved for
  /// handlers.
  void release_all() noexcept {
    const auto give = [this](void* frame, std::size_t bytes) noexcept {
      frames_.leave(frame, bytes);
    };
    for (Part& part : parts_) {
      part.zone.release_all(give);
      for (std::uint32_t index = 0; index < Part::Zone::class_count; ++index) {
        part.reserve.want(index, 0);
      }
    }
    for (const std::size_t bytes : sizes()) {
      reserve_.want(bytes, 0);
    }
    give_back(0);
    for (const std::size_t bytes : sizes()) {
      while (void* const frame = reserve_.take(bytes)) {
        give(frame, bytes);
      }
    }
  }

  /// Gives all parked frames back, and waits for their grace periods. False if that took too long,
  /// or others park frames meanwhile. Context: MayWait, in no read section.
  bool drain_parked() noexcept
    requires(parks_frames)
  {
    return frames_.drain_parked(parked_bytes());
  }
  /// Gives all parked frames back at once. Pre: nobody looks at their objects.
  void give_parked() noexcept
    requires(parks_frames)
  {
    frames_.give_parked(parked_bytes());
  }

  /// The first broken invariant of its members, or null. Pre: nobody uses it.
  const char* validate() const noexcept {
    const char* broken = frames_.account().validate();
    broken = broken != nullptr ? broken : frames_.parked().validate();
    broken = broken != nullptr ? broken : reserve_.validate();
    return broken != nullptr ? broken : runs_.validate();
  }

 private:
  static constexpr std::uint32_t excess_at_once = 2;

  /// Gets frames for class `index`, and calls use(part) in a section of the CPU on which the caller
  /// then runs. Hands one of them to the zone directly: others could take every frame of a frame
  /// cache, again and again. False if there are none.
  template <class Use>
  bool grow(std::uint32_t index, Context context, Use&& use) noexcept {
    const std::size_t bytes = parts_.frame_bytes_of(index);
    void* frames[Config::growth_frames];
    const std::uint32_t count = get_some(bytes, context, frames);
    if (count == 0) {
      return false;
    }
    const Section part = parts_.enter(PartWait::Unbounded);
    Parts::require_own(part);
    if constexpr (Config::growth_frames > 1) {
      part->frame_cache.push(frames + 1, count - 1, bytes);
      part->has_news = true;
    }
    part->pager.hand(frames[0]);
    use(*part.part());
    if (void* const frame = part->pager.take_back()) {
      part->frame_cache.push(frame, bytes);
      part->has_news = true;
    }
    return true;
  }
  /// Gets frames for use, and puts one into the reserve if it is short; returns how many remain for
  /// the caller.
  std::uint32_t get_some(std::size_t bytes, Context context, void** frames) noexcept {
    const std::uint32_t most =
        bytes == sizes().at[0] ? Config::frames_of(Config::growth_frames, bytes) : 1;
    const std::uint32_t got = frames_.get(bytes, context, frames, most);
    // The first frame is for the caller.
    return Config::growth_frames > 1 && got > 1 && refill_reserve(frames[got - 1], bytes) ? got - 1
                                                                                          : got;
  }

  /// Puts a frame that lies nowhere into the reserve, if one is missing there.
  bool refill_reserve(void* frame, std::size_t bytes) noexcept {
    if (!reserve_.is_short(bytes)) {
      return false;
    }
    const Section part = parts_.enter();
    return part && reserve_.refill(frame, bytes);
  }
  /// Moves a reserved frame beyond the wanted number to the frame cache of the caller's CPU. False
  /// if there is none, or the CPU's part is occupied.
  bool release_reserved(std::size_t bytes) noexcept {
    const Section part = parts_.enter();
    void* const frame = part ? reserve_.take_excess(bytes) : nullptr;
    if (frame == nullptr) {
      return false;
    }
    part->frame_cache.push(frame, bytes);
    part->has_news = true;
    return true;
  }

  /// Moves a frame out of `other`'s frame cache: to the reserve if one is missing there, else to
  /// the pager. Then it adds the frame's bytes to `given`. False if there are no more than `keep`.
  bool give_back_one(Part& other, std::size_t bytes, std::uint32_t keep,
                     std::size_t& given) noexcept {
    if (other.frame_cache.size(bytes) <= keep) {
      return false;
    }
    void* frame = nullptr;
    bool is_excess = false;
    {
      const Section part = parts_.enter();
      is_excess = part && reserve_.refill_or_take(other.frame_cache, bytes, frame);
    }
    if (frame != nullptr) {
      given += frames_.leave(frame, bytes);
    }
    return is_excess;
  }

  /// A type-stable cache has frames of one size.
  std::size_t parked_bytes() const noexcept { return sizes().at[0]; }
  /// The bytes of frames.
  const auto& sizes() const noexcept { return parts_.begin()->frame_cache.sizes; }

  Parts& parts_;
  Frames frames_;
  Reserve reserve_;
  Runs runs_;
};

}  // namespace slabmalloc
