// SPDX-License-Identifier: MIT
//
// ObjectCache: objects of one type that stay constructed while they are free (Bonwick, The Slab
// Allocator, USENIX Summer 1994).
//
//   constinit ObjectCache<Inode, MyKernel, MyFrames> inodes("inode", frames);
//   Inode* inode = inodes.allocate(Context::MayWait);   // constructed, as the last user left it
//   inodes.deallocate(inode);                           // Pre: in its constructed state again
//
//   pager ──frame──► all slots constructed ──► frame cache ──► pages of each CPU ──► client
//     ▲                                          │ ▲          │        ▲          │
//     └──── all slots destroyed ◄────frame───────┘ └──empty───┘        └──free────┘
//
// A cache initialises the locks, lists and buffers of an object once, not at each allocation. This
// costs no memory: the bitmaps tell which slots are free, and page headers link empty frames. So a
// cache never writes into a free object. Constructors and destructors run where the cache calls the
// pager: with nothing held, so they may use other caches.
//
// CpuZones (cpu_zones.hpp) supplies the rest, for one size class: a zone for each CPU, contexts,
// frame caches, limits. Invariant, with its line in validate():
//   O1  objects in use <= objects in all frames
#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <new>
#include <type_traits>

#include "slabmalloc/kernel/cache_config.hpp"
#include "slabmalloc/kernel/cache_statistics.hpp"
#include "slabmalloc/kernel/cpu_zones.hpp"

namespace slabmalloc {

/// How objects of type `T` begin and end.
///   construct(place, context)   makes one, for an allocation with that context; false if it could
///                               not, and then there is none
///   destroy(object)             ends one, in its constructed state. It must not wait for memory
/// Both may allocate from other caches, not from the one they serve.
template <class L, class T>
concept ObjectLife = requires(L& life, void* place, T* object, Context context) {
  { life.construct(place, context) } noexcept -> std::same_as<bool>;
  { life.destroy(object) } noexcept;
};

/// By the type's own default constructor and destructor. ObjectCache states the requirements on the
/// constructor.
template <class T>
struct OwnLife {
  static bool construct(void* place, Context) noexcept {
    if constexpr (std::is_default_constructible_v<T>) {
      ::new (place) T();
      return true;
    } else {
      return false;
    }
  }
  static void destroy(T* object) noexcept { object->~T(); }
};

/// The life of a frame: begin() constructs all slots of `Page`, or none.
template <class T, class Page, std::size_t ObjectBytes, ObjectLife<T> Life>
class ConstructedFrames {
 public:
  constexpr explicit ConstructedFrames(Life life) noexcept : life_(life) {}

  bool begin(void* frame, Context context) noexcept {
    std::byte* const slots = Page::slots_of(Page::header_of(frame));
    for (std::uint32_t slot = 0; slot < count; ++slot) {
      if (!life_.construct(slots + slot * ObjectBytes, context)) {
        destroy_first(slot, slots);
        return false;
      }
    }
    return true;
  }
  void end(void* frame) noexcept { destroy_first(count, Page::slots_of(Page::header_of(frame))); }

 private:
  static constexpr std::uint32_t count = Page::geometry(ObjectBytes).slots;

  void destroy_first(std::uint32_t number, std::byte* slots) noexcept {
    for (std::uint32_t slot = 0; slot < number; ++slot) {
      life_.destroy(std::launder(reinterpret_cast<T*>(slots + slot * ObjectBytes)));
    }
  }

  [[no_unique_address]] Life life_;
};

/// A cache of objects of type `T` over one pager. It must not move, and outlives its objects; its
/// destructor does nothing (destroy()). Thread: any CPU, in any context, where not said otherwise.
template <class T, class HooksT, class PagerT, class Options = CacheOptions,
          ObjectLife<T> Life = OwnLife<T>>
class ObjectCache {
  static_assert(sizeof(HooksMessage<HooksT>) != 0);
  static_assert(ObjectCacheOptions<Options>,
                "ObjectCache takes CacheOptions, or what inherits from them or from "
                "GranuleCacheOptions");
  static_assert(!std::same_as<Life, OwnLife<T>> || std::is_nothrow_default_constructible_v<T>,
                "a cache makes its objects without arguments: give the type a default constructor "
                "that is noexcept, or the cache an ObjectLife");

 public:
  using Hooks = CheckedHooks<HooksT>;
  using Config = CacheConfig<T, ObjectCacheOptionsOrDefault<Options>>;
  using Page = typename Config::BasePage;
  using Frames = ConstructedFrames<T, Page, Config::slot_bytes, Life>;
  using Zones = CpuZones<Hooks, PagerT, Config, Frames>;

  static constexpr std::size_t object_bytes = Config::object_bytes;
  static constexpr std::size_t page_bytes = Config::page_bytes;
  static constexpr std::size_t objects_per_page = Page::geometry(Config::slot_bytes).slots;

  /// Pre: `name` and `pager` outlive it.
  constexpr ObjectCache(const char* name, PagerT& pager, Life life = {}) noexcept
      : name_(name), zones_(pager, Frames(life)) {
    if constexpr (Zones::is_debugged) {
      zones_.debug().set_name(name);
    }
  }

  // ---- objects ---------------------------------------------------------------------------------

  /// A constructed object, as its last user left it, or null if there is no memory.
  /// Cost: as CpuZones::allocate(), plus a frame's constructors if a frame comes from the pager.
  [[gnu::always_inline]] T* allocate(Context context = Context::MayWait) noexcept {
    return static_cast<T*>(zones_.allocate(layout, context).value_or(nullptr));
  }

  /// Frees an object of any CPU, or nothing for a null pointer. Pre: it is in its constructed
  /// state.
  /// Fails: as CpuZones::deallocate().
  [[gnu::always_inline]] void deallocate(T* object) noexcept { zones_.deallocate(object, layout); }

  /// Allocates up to `count` objects into `objects`; returns how many it got.
  std::size_t allocate_many(T** objects, std::size_t count,
                            Context context = Context::MayWait) noexcept {
    void* some[batch];
    std::size_t done = 0;
    while (done < count) {
      const std::size_t wanted = count - done < batch ? count - done : batch;
      const std::size_t got = zones_.allocate_many(layout, some, wanted, context);
      for (std::size_t index = 0; index < got; ++index) {
        objects[done++] = static_cast<T*>(some[index]);
      }
      if (got < wanted) {
        break;
      }
    }
    return done;
  }

  /// Frees `count` objects. As deallocate().
  void deallocate_many(T* const* objects, std::size_t count) noexcept {
    void* some[batch];
    for (std::size_t done = 0; done < count;) {
      std::size_t index = 0;
      for (; index < batch && done < count; ++index) {
        some[index] = objects[done++];
      }
      zones_.deallocate_many(some, index, layout);
    }
  }

  // ---- reserves and limits ---------------------------------------------------------------------

  /// Guarantees `objects` further allocations, whatever the pager answers. The guarantee holds in
  /// every context that may enter a section, or in Emergency alone if
  /// Options::reserved_frames_are_for_all is false. A caller that interrupts a section has
  /// reserve_for_interrupts(); each object that refills such a reserve counts as an allocation. The
  /// cache refills the reserve before frames go back to the pager. 0 ends it. Context: as an
  /// allocation with `context`. Fails: OutOfMemory, and it keeps the frames it got; TooMany if the
  /// pages are more than 32 bits can count.
  ///
  /// The cache keeps pages_for() frames for it. They suffice, with s objects a page, for this
  /// reason. A CPU takes a frame when no slot of its pages is free and its own frame cache is
  /// empty. So after its pages and frame cache grew by g frames, it made more than (g - 1) s
  /// allocations. It made at least g s if it needs yet another frame. No frame goes to the pager
  /// while fewer are kept than wanted, so the kept frames are those by which the CPUs grew. Suppose
  /// that an allocation fails, as the last of m, of which CPU i made m(i). Then at most sum
  /// ceil(m(i) / s) - 1 frames are used up. That sum is largest where all CPUs but one have a
  /// single object on their last page: m for m < c, else c + floor((m - c) / s).
  Result<void> reserve(std::size_t objects, Context context = Context::MayWait) noexcept {
    const auto pages = static_cast<std::uint32_t>(pages_for(objects));
    if (pages != pages_for(objects)) {
      return AllocationError::TooMany;
    }
    return zones_.reserve_frames(layout, pages, context);
  }
  /// The pages that reserve(objects) keeps.
  static constexpr std::size_t pages_for(std::size_t objects) noexcept {
    constexpr std::size_t cpus = Hooks::maximum_cpus;
    return objects < cpus ? objects : cpus + (objects - cpus) / objects_per_page;
  }

  /// Makes each CPU keep `objects` objects for calls that can get them nowhere else; see CpuZones.
  Result<void> reserve_for_interrupts(std::uint32_t objects,
                                      Context context = Context::MayWait) noexcept {
    return zones_.reserve_for_interrupts(layout, objects, context);
  }

  /// Bounds the pages to those that `objects` need, rounded up to a whole one. CPUs do not share
  /// pages, so fewer objects may reach the limit. Before an allocation fails for it, `callback` may
  /// free some.
  void set_limit(std::size_t objects, LimitCallback callback = nullptr,
                 void* argument = nullptr) noexcept {
    const std::size_t pages =
        objects / objects_per_page + (objects % objects_per_page != 0 ? 1 : 0);
    constexpr std::size_t most = ~std::size_t{0};
    zones_.set_limit(pages < most / page_bytes ? pages * page_bytes : most, callback, argument);
  }
  void set_reclaim(ReclaimCallback callback, void* argument) noexcept {
    zones_.set_reclaim(callback, argument);
  }

  // ---- destruction -----------------------------------------------------------------------------

  /// Destroys all objects and gives all frames back if none is in use. Returns how many are in use,
  /// and then all stay. A caller may use the cache again afterwards. Pre: nobody else uses it.
  /// Cost: O(pages).
  std::size_t destroy() noexcept {
    zones_.drain_and_leave_current();
    const std::size_t used = zones_.class_statistics(0).used;
    if (used == 0) {
      zones_.release_all();
    }
    return used;
  }

  // ---- statistics and checks -------------------------------------------------------------------

  const char* name() const noexcept { return name_; }

  /// The zones that supply the objects.
  Zones& zones() noexcept { return zones_; }

  /// Thread: any; the figures may lag behind other CPUs. Calls reported as misuse count as frees.
  /// Cost: O(CPUs).
  CacheStatistics statistics() const noexcept;

  /// The first broken invariant, as an equation, or null. Pre: no CPU allocates or frees.
  const char* validate() const noexcept {
    if (const char* const broken = zones_.validate()) {
      return broken;
    }
    const CacheStatistics now = statistics();
    return now.objects_in_use <= now.objects ? nullptr
                                             : "O1: objects in use <= objects in all frames";
  }

 private:
  static constexpr Layout layout =
      Layout::from_size_align(object_bytes, Config::alignment).value_or(Layout());
  /// The objects that one call hands over at once.
  static constexpr std::size_t batch = 16;

  const char* name_;
  Zones zones_;
};

template <class T, class Hooks, class PagerT, class Options, ObjectLife<T> Life>
CacheStatistics ObjectCache<T, Hooks, PagerT, Options, Life>::statistics() const noexcept {
  CacheStatistics result =
      CacheStatistics::of(name_, zones_.class_counts(0), objects_per_page, Config::counts_frees);
  result.object_bytes = object_bytes;
  result.page_bytes = page_bytes;
  result.pages = zones_.frame_bytes() / page_bytes;
  result.objects = result.pages * objects_per_page;
  result.pages_high_water = zones_.frame_bytes_high_water() / page_bytes;
  const std::size_t limit = zones_.limit_bytes();
  result.limit_pages = limit != ~std::size_t{0} ? limit / page_bytes : 0;
  result.nested_calls = zones_.nested_calls();
  result.failures = zones_.failures();
  return result;
}

}  // namespace slabmalloc
