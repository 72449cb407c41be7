// SPDX-License-Identifier: MIT
//
// CpuParts: the parts of all CPUs of a CpuZones, and the sections in which they are used.
//
//   part pointer ──► | zone | frame cache of empty frames | reserve of objects |
//     ▲        ▲         ▲                ▲                      ▲
//     │        └── in a section only ─────┘                      └── anyone takes, in any context
//     └── a pointer of the CPU's; null for as long as a section lasts
//
// A section saves interrupts, takes the part from the part pointer, and puts it back. An NMI may
// still interrupt it, or a handler where the hooks keep away other threads alone. The interrupter
// finds nothing behind the part pointer and takes another path. Handlers end before the interrupted
// code goes on, so plain loads and stores in program order are enough.
//
// All parts are made with the heap, or each at its CPU's first slow path (part_array.hpp).
//
// A CPU that goes idle offers its part instead of putting it back (part_owner.hpp). Its part
// pointer stays null then. So its next slow path notices, and takes the part back. Until then
// other CPUs may drain the part. One CPU makes each step, in a section on its own part.
//
// It owns the parts and their pointers. A section is short: an allocation's slow path reads the
// words of three pages and drains a few more. Invariant between sections, with its line in
// validate(), beside those of each part:
//   K7  a part pointer leads to its CPU's part if that CPU owns the part; else it is null
#pragma once

#include <cstddef>
#include <cstdint>
#include <new>

#include "slabmalloc/kernel/cpu_part.hpp"
#include "slabmalloc/kernel/hooks.hpp"
#include "slabmalloc/kernel/part_array.hpp"

namespace slabmalloc {

/// The part pointers of all CPUs. Null at first: a CPU's first slow path takes its part.
template <KernelHooks Hooks, class Config>
class CpuPartPointers {
 public:
  using Part = CpuPart<Hooks, Config>;
  using Cell = typename Config::Atomics::template Cell<Part*>;

  /// The part pointer of the CPU that runs the caller. Pre: the caller saved interrupts.
  class PartPointer {
   public:
    [[gnu::always_inline]] explicit PartPointer(CpuPartPointers& pointers) noexcept
        : part_(pointers.cell_of(Hooks::cpu())) {}
    [[gnu::always_inline]] Part* load() const noexcept {
      return part_ != nullptr ? part_->load(Order::relaxed) : nullptr;
    }
    /// Pre: the CPU has a part.
    [[gnu::always_inline]] void store(Part* part) const noexcept {
      part_->store(part, Order::relaxed);
    }

   private:
    Cell* part_;
  };

  /// K7, or null. Pre: no CPU is in a section. `parts` has one for each CPU.
  template <class Array>
  const char* validate(const Array& parts) const noexcept {
    for (std::uint32_t number = 0; number < Hooks::maximum_cpus; ++number) {
      const bool is_its = parts.there().has(number) && parts[number].owner.is_its_cpu();
      const Part* const expected = is_its ? &parts[number] : nullptr;
      if (part_pointers_[number].part.load(Order::relaxed) != expected) {
        return "K7: a part pointer leads to its CPU's part if that CPU owns it; else it is null";
      }
    }
    return nullptr;
  }

 private:
  struct alignas(64) Own {
    Cell part;
  };
  /// Null for a number that is too large. A caller that finds no part takes a slow path, which
  /// reports that (own_part()).
  [[gnu::always_inline]] Cell* cell_of(std::uint32_t number) noexcept {
    return number < Hooks::maximum_cpus ? &part_pointers_[number].part : nullptr;
  }

  Own part_pointers_[Hooks::maximum_cpus];
};

/// The same, in memory that each CPU has for itself.
template <KernelHooks Hooks, class Config>
  requires(Config::local_slot != Config::no_local_slot)
class CpuPartPointers<Hooks, Config> {
  static_assert(LocalHooks<Hooks>,
                "local_slot needs hooks with local<slot>() and set_local<slot>()");

 public:
  using Part = CpuPart<Hooks, Config>;

  class PartPointer {
   public:
    [[gnu::always_inline]] explicit PartPointer(CpuPartPointers&) noexcept {}
    [[gnu::always_inline]] Part* load() const noexcept {
      return static_cast<Part*>(Hooks::template local<Config::local_slot>());
    }
    [[gnu::always_inline]] void store(Part* part) const noexcept {
      Hooks::template set_local<Config::local_slot>(part);
    }
  };

  /// Null: no CPU reads another one's memory.
  template <class Array>
  static constexpr const char* validate(const Array&) noexcept {
    return nullptr;
  }
};

/// Takes the part from behind `pointer`, so that nobody else finds it there until put_back(). Null
/// if it is in use.
template <class PartPointer>
[[gnu::always_inline]] inline auto* take_from(const PartPointer& pointer) noexcept {
  auto* const part = pointer.load();
  if (part != nullptr) [[likely]] {
    pointer.store(nullptr);
    compiler_fence();
  }
  return part;
}
template <class PartPointer, class Part>
[[gnu::always_inline]] inline void put_back(const PartPointer& pointer, Part* part) noexcept {
  compiler_fence();
  pointer.store(part);
}

/// That of `parts`, one for each CPU, that belongs to the CPU of the caller. For slow paths.
/// Pre: the caller saved interrupts. Panics if there is none.
template <KernelHooks Hooks, class Part>
Part& own_part(Part* parts) noexcept {
  const std::uint32_t number = Hooks::cpu();
  require<Hooks>(number < Hooks::maximum_cpus, "cpu() < maximum_cpus");
  return parts[number];
}

/// How long a section waits for another CPU that has the part for a step.
enum class PartWait : std::uint8_t {
  None,      ///< Not at all: for frees, which have another way.
  Bounded,   ///< For bounded_looks looks: for handlers, who may have stopped the other CPU.
  Unbounded  ///< As for a spin lock: for callers that may call the pager.
};
inline constexpr std::uint32_t bounded_looks = std::uint32_t{1} << 14;
constexpr PartWait part_wait_of(Context context) noexcept {
  return may_call_pager(context) ? PartWait::Unbounded : PartWait::Bounded;
}

/// Takes `own`, the part of the caller's CPU, which did not lie behind `pointer`. Null if it is in
/// use. A handler may come at any point, take the part back, and leave it behind the pointer. So
/// each look asks for the owner first, and then looks there. Pre: the caller saved interrupts.
template <KernelHooks Hooks, class PartPointer, class Part>
[[gnu::cold]] Part* take_back(const PartPointer& pointer, Part& own, PartWait wait) noexcept {
  Part* part = nullptr;
  bool has_waited = false;
  for (std::uint32_t looks = 0;;) {
    if (own.owner.is_its_cpu()) {
      part = take_from(pointer);
      break;
    }
    if (own.owner.take_back()) {
      part = &own;
      break;
    }
    if (own.owner.is_another_cpu()) {
      if (wait == PartWait::None || (wait == PartWait::Bounded && ++looks > bounded_looks)) {
        break;
      }
      // Again each time: a handler that waited for the part as well has cleared it.
      own.owner.set_wanted(true);
      has_waited = true;
      relax<Hooks>();
    }
  }
  if (has_waited) {
    own.owner.set_wanted(false);
  }
  return part;
}

/// Uses the part of the CPU that runs the caller. False, and no effect, if the part is already in
/// use.
template <KernelHooks Hooks, class Config>
class CpuSection {
 public:
  using Part = CpuPart<Hooks, Config>;
  using Pointers = CpuPartPointers<Hooks, Config>;

  [[gnu::always_inline]] explicit CpuSection(Pointers& pointers) noexcept
      : interrupts_(Hooks::save_interrupts()), pointer_(pointers), part_(take_from(pointer_)) {}
  /// As above, for slow paths: takes a part back that nobody owns.
  template <class Parts>
  CpuSection(Pointers& pointers, Parts& parts, PartWait wait) noexcept : CpuSection(pointers) {
    if (part_ == nullptr) [[unlikely]] {
      if (Part* const own = parts.find_own()) {
        part_ = take_back<Hooks>(pointer_, *own, wait);
      }
    }
  }
  /// Continues a section that began without it: the caller took `part` and saved `interrupts`.
  CpuSection(Part* part, typename Hooks::InterruptState interrupts) noexcept
      : interrupts_(interrupts), pointer_(*part->pointers), part_(part) {}
  [[gnu::always_inline]] ~CpuSection() {
    if (part_ != nullptr) [[likely]] {
      put_back(pointer_, part_);
    }
    Hooks::restore_interrupts(interrupts_);
  }
  CpuSection(const CpuSection&) = delete;
  CpuSection& operator=(const CpuSection&) = delete;

  [[gnu::always_inline]] explicit operator bool() const noexcept { return part_ != nullptr; }
  [[gnu::always_inline]] Part* operator->() const noexcept { return part_; }
  [[gnu::always_inline]] Part* part() const noexcept { return part_; }

  /// Offers the part to other CPUs. Pre: there is one. Post: this section has none.
  void offer() noexcept {
    Part* const part = part_;
    part_ = nullptr;
    part->owner.offer();
  }

 private:
  typename Hooks::InterruptState interrupts_;
  [[no_unique_address]] typename Pointers::PartPointer pointer_;
  Part* part_;
};

/// Wakes waiters at its end, if there are any.
template <class Waiters>
struct WakeAtEnd {
  Waiters* waiters = nullptr;
  ~WakeAtEnd() {
    if (waiters != nullptr) [[unlikely]] {
      waiters->wake();
    }
  }
};

/// A section of a slow path. After it ended, it wakes those who wait for memory that its user
/// freed.
template <KernelHooks Hooks, class Config>
class SlowSection : WakeAtEnd<MemoryWaiters<Hooks, typename Config::Atomics>>,
                    public CpuSection<Hooks, Config> {
 public:
  using CpuSection<Hooks, Config>::CpuSection;
  ~SlowSection() {
    if (*this && this->part()->has_news_for_waiters()) [[unlikely]] {
      this->waiters = this->part()->waiters;
    }
  }
};

/// A part for each CPU. Its address must not change.
template <KernelHooks Hooks, class Config>
class CpuParts {
 public:
  using Part = CpuPart<Hooks, Config>;
  using Pointers = CpuPartPointers<Hooks, Config>;
  using Section = SlowSection<Hooks, Config>;
  using Zone = typename Part::Zone;
  using Waiters = MemoryWaiters<Hooks, typename Config::Atomics>;

  constexpr CpuParts() noexcept {
    if constexpr (Config::makes_parts_late) {
      make(0);
    } else {
      for (std::uint32_t number = 0; number < Hooks::maximum_cpus; ++number) {
        connect(number);
      }
    }
  }

  /// Has those of `waiters` woken when memory of a part becomes free. Pre: `waiters` outlives it.
  constexpr void attach(Waiters& waiters) noexcept {
    for (Part& part : parts_) {
      part.waiters = &waiters;
    }
  }

  /// For fast paths.
  [[gnu::always_inline]] Pointers& pointers() noexcept { return pointers_; }
  /// A section of the CPU that runs the caller, for slow paths.
  Section enter(PartWait wait = PartWait::Bounded) noexcept {
    return Section(pointers_, *this, wait);
  }
  /// Panics if a caller that may call the pager got no part: then it interrupted a section.
  static void require_own(const Section& part) noexcept {
    require<Hooks>(static_cast<bool>(part), "a caller of the pager interrupts no section");
  }
  /// The part of the CPU that runs the caller; it makes it if need be. Null if the caller
  /// interrupted that. Pre: the caller saved interrupts. Panics if the CPU has none.
  Part* find_own() noexcept {
    Part* const own = &own_part<Hooks>(parts_.all());
    if constexpr (Config::makes_parts_late) {
      const auto number = static_cast<std::uint32_t>(own - parts_.all());
      make(number);
      if (!parts_.there().has(number)) {
        return nullptr;
      }
    }
    return own;
  }
  /// The same; a caller that interrupted its making gets part 0, to use as any CPU may.
  Part& own() noexcept {
    Part* const own = find_own();
    return own != nullptr ? *own : parts_[0];
  }

  /// Makes the one class of all zones, on pages of a size known at run time, one of slots laid out
  /// by `geometry` in frames of `bytes`. Thread: before anyone uses it.
  constexpr void configure_class(const SlotGeometry& geometry, std::size_t bytes) noexcept {
    for (Part& part : parts_) {
      part.zone.configure_class(0, geometry, Zone::FramesOfClass::of(bytes));
      part.frame_cache.set_frame_bytes(bytes);
    }
  }
  /// Bytes of the frames of class `index`. Thread: any.
  std::size_t frame_bytes_of(std::uint32_t index) const noexcept {
    return parts_[0].zone.frame_bytes_of(index);
  }

  auto begin() noexcept { return parts_.begin(); }
  auto end() noexcept { return parts_.end(); }
  auto begin() const noexcept { return parts_.begin(); }
  auto end() const noexcept { return parts_.end(); }
  const Part& operator[](std::uint32_t cpu) const noexcept { return parts_[cpu]; }

  // ---- objects, by the slow paths --------------------------------------------------------------

  /// An object of the caller's CPU, or null; `is_nested` if its part is occupied.
  void* allocate(std::uint32_t index, bool& is_nested,
                 PartWait wait = PartWait::Unbounded) noexcept {
    const Section part = enter(wait);
    if (!part) {
      is_nested = true;
      own().nested_allocations.fetch_add(1, Order::relaxed);
      return nullptr;
    }
    return part->allocate(index);
  }

  /// An object that the caller's CPU keeps for handlers, or if `of_all` any CPU; or null.
  void* take_reserved(std::uint32_t index, bool of_all) noexcept {
    {
      const InterruptGuard<Hooks> interrupts;
      if (void* const object = own().reserve.take(index)) {
        return object;
      }
    }
    for (auto part = begin(); of_all && part != end(); ++part) {
      const InterruptGuard<Hooks> interrupts;
      if (void* const object = part->reserve.take(index)) {
        return object;
      }
    }
    return nullptr;
  }

  [[gnu::noinline]] void deallocate(void* object, std::uint32_t index) noexcept {
    {
      const Section part = enter(PartWait::None);
      if (part) {
        part->deallocate(object, index);
        return;
      }
      own().frees.add_nested(index, object);
    }
    parts_[0].zone.deallocate_remote_as(object, index);
    if (Waiters* const waiters = parts_[0].waiters) {
      waiters->note_change();
    }
  }

  /// The rest of a free whose fast path took `part` and saved interrupts.
  [[gnu::noinline]] static void finish_deallocate(void* object, Part* part,
                                                  typename Hooks::InterruptState interrupts,
                                                  std::uint32_t index,
                                                  FreeOutcome outcome) noexcept {
    const Section section(part, interrupts);
    part->zone.finish_deallocate(index, outcome, object);
    part->frees.add(index, object);
    part->has_news = true;
  }

  // ---- drains ----------------------------------------------------------------------------------

  /// Drains the caller's CPU, in sections of a constant length. False if its part was occupied:
  /// then its next slow paths drain it.
  bool drain_this_cpu() noexcept {
    {
      const InterruptGuard<Hooks> interrupts;
      own().drain.want();
    }
    for (bool is_first = true, goes_on = true; goes_on; is_first = false) {
      const Section part = enter();
      if (!part) {
        return false;
      }
      if (is_first) {
        part->drain.begin_anew();
      }
      goes_on = part->drain.step(part->zone, Config::drain_pages);
    }
    return true;
  }
  /// Makes each CPU drain in its next slow paths, or others do so for it if it is idle.
  void drain_later() noexcept {
    for (Part& part : parts_) {
      // An idle CPU has drained all but these, or its drain is wanted already.
      if (!part.owner.is_nobody() || part.zone.has_remote_frees()) {
        part.drain.want();
      }
    }
  }

  // ---- idle CPUs -------------------------------------------------------------------------------

  /// True if the caller's CPU does not own its part, or has none yet. Cost: a few loads.
  bool is_idle() noexcept {
    const InterruptGuard<Hooks> interrupts;
    const Part& own = own_part<Hooks>(parts_.all());
    const auto number = static_cast<std::uint32_t>(&own - parts_.all());
    return !parts_.there().has(number) || !own.owner.is_its_cpu();
  }
  /// Offers the part of the caller's CPU to the others. False if it is occupied.
  /// Cost: O(size classes), a few loads each.
  bool offer() noexcept {
    Section part = enter();
    if (!part) {
      return false;
    }
    // Handlers and other threads of this CPU may have emptied a page after its drain.
    if (part->has_empty_page()) {
      part->drain.want();
    }
    part.offer();
    return true;
  }
  /// Drains all idle CPUs, in steps. False if there was nothing to drain, or if the caller's part
  /// is occupied.
  bool drain_idle() noexcept {
    bool has_drained = false;
    const bool is_occupied = !enter();
    for (auto part = begin(); !is_occupied && part != end(); ++part) {
      // The step of another CPU may bring what the caller looks for. So it waits for its end.
      while (part->needs_help() || part->owner.is_another_cpu()) {
        has_drained = true;
        if (!drain_for(*part)) {
          relax<Hooks>();
        }
      }
    }
    return has_drained;
  }
  /// Takes one step of a drain of one idle CPU, in turn with the others. False if there was
  /// nothing to drain. Cost: O(CPUs), a few loads each, and a step.
  bool drain_some_idle() noexcept {
    const std::uint32_t first = next_to_help_.load(Order::relaxed);
    for (std::uint32_t count = 0; count < Hooks::maximum_cpus; ++count) {
      const std::uint32_t number = (first + count) % Hooks::maximum_cpus;
      if (parts_.there().has(number) && parts_[number].needs_help() && drain_for(parts_[number])) {
        next_to_help_.store(number + 1, Order::relaxed);
        return true;
      }
    }
    return false;
  }

  // ---- all parts -------------------------------------------------------------------------------

  /// Drains all CPUs to the end, and frees the objects reserved for handlers. Empty pages then lie
  /// in frame caches, but for each class's current one. Pre: nobody else uses any. Cost: O(pages).
  void drain_all() noexcept {
    // A zone may deliver frees to another, which drains them then.
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

  // ---- statistics and checks -------------------------------------------------------------------

  /// The sum over all CPUs. Exact while none allocates or frees; nobody may use a zone meanwhile.
  ClassStatistics class_statistics(std::uint32_t index) const noexcept {
    ClassStatistics result;
    for (const Part& part : parts_) {
      result += part.zone.class_statistics(index);
    }
    return result;
  }
  /// See CpuZones. Thread: any; the figures may lag behind other CPUs. Cost: O(CPUs).
  ClassStatistics class_counts(std::uint32_t index) const noexcept {
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
  /// Calls that came while their CPU's part was occupied. Thread: any.
  std::size_t nested_calls() const noexcept {
    std::size_t calls = 0;
    for (const Part& part : parts_) {
      calls += part.nested_allocations.load(Order::relaxed) + part.frees.nested();
    }
    return calls;
  }

  /// The first broken invariant of a part, or null. Pre: no CPU allocates or frees.
  const char* validate() const noexcept {
    for (const Part& part : parts_) {
      if (const char* const broken = part.validate()) {
        return broken;
      }
    }
    return pointers_.validate(parts_);
  }

 private:
  constexpr void connect(std::uint32_t number) noexcept {
    parts_[number].pager.attach(parts_.all(), number, parts_.there());
    parts_[number].pointers = &pointers_;
  }
  /// Makes part `number` if it is absent. Thread: its CPU, with interrupts saved.
  void make(std::uint32_t number) noexcept
    requires(Config::makes_parts_late)
  {
    if (parts_.there().begin(number)) {
      ::new (static_cast<void*>(parts_.all() + number)) Part;
      connect(number);
      parts_[number].waiters = number != 0 ? parts_[0].waiters : nullptr;
      parts_.there().end(number);
    }
  }

  /// Takes one step of a drain of `part` for its CPU. False if that is not idle, if another CPU has
  /// the part, or if the caller's part is occupied. Cost: constant.
  bool drain_for(Part& part) noexcept {
    const Section own = enter();
    if (!own || !part.owner.begin_step()) {
      return false;
    }
    part.drain.step(part.zone, Config::drain_pages);
    own->has_news = own->has_news || part.has_news;
    part.has_news = false;
    part.owner.end_step();
    own->steps_for_others.add(1);
    return true;
  }

  Pointers pointers_;
  PartArray<Part, Hooks::maximum_cpus, Config::makes_parts_late> parts_;
  typename Config::Atomics::template Cell<std::uint32_t> next_to_help_;
};

}  // namespace slabmalloc
