// SPDX-License-Identifier: MIT
//
// Cache: objects of one size and alignment that stay constructed while they are free (Bonwick, The
// Slab Allocator, USENIX Summer 1994). Size, name and constructor are known at run time, as of
// kmem_cache_create() and uma_zcreate(). ObjectCache (object_cache.hpp) adds a type.
//
//   using Caches = Cache<MyKernel, MyFrames>;
//   const auto made = Caches::create_in(heap, frames, {"urb", 192, 64, {&begin, &end, driver}});
//   void* urb = made.cache->allocate(Context::MayWait);   // constructed, as its last user left it
//   made.cache->deallocate(urb);                          // Pre: in its constructed state again
//   made.cache->destroy_in(heap);
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
// frame caches, limits. All caches with the same hooks, pager and options share one body of code.
//
// Invariant, with its line in validate(), beside those of the shape (cache_shape.hpp):
//   O1  objects in use <= objects in all frames
#pragma once

#include <cstddef>
#include <cstdint>
#include <new>
#include <type_traits>

#include "slabmalloc/kernel/cache_config.hpp"
#include "slabmalloc/kernel/cache_shape.hpp"
#include "slabmalloc/kernel/cache_statistics.hpp"
#include "slabmalloc/kernel/cpu_zones.hpp"

namespace slabmalloc {

/// How the objects of a cache begin and end. The functions must not throw; their types do not say
/// so, since functions of C and Rust cannot.
///   construct(place, context, argument)  makes one, for an allocation with that context; false if
///                                        it could not, and then there is none
///   destroy(object, argument)            ends one, in its constructed state. It must not wait for
///                                        memory
/// Both may allocate from other caches, not from the one they serve. A null pointer does nothing.
struct ObjectCallbacks {
  bool (*construct)(void* place, Context context, void* argument) = nullptr;
  void (*destroy)(void* object, void* argument) = nullptr;
  void* argument = nullptr;
};

/// The life of a frame: begin() constructs all slots, or none. `Shape` is CacheShape or DebugShape.
template <class Page, class Shape>
class ConstructedFrames {
 public:
  /// Pre: `shape` outlives it.
  constexpr ConstructedFrames(const Shape& shape, const ObjectCallbacks& callbacks) noexcept
      : shape_(&shape), callbacks_(callbacks) {}

  bool begin(void* frame, Context context) noexcept {
    std::byte* const slots = shape_->first_slot(frame);
    Page::set_slots(header_of(frame), slots);
    const std::uint32_t count = callbacks_.construct != nullptr ? shape_->geometry.slots : 0;
    for (std::uint32_t slot = 0; slot < count; ++slot) {
      if (!callbacks_.construct(slots + slot * shape_->object_bytes(), context,
                                callbacks_.argument)) {
        destroy_first(slot, slots);
        return false;
      }
    }
    return true;
  }
  void end(void* frame) noexcept { destroy_first(shape_->geometry.slots, first_slot(frame)); }

  // ---- for a debug mode ------------------------------------------------------------------------

  constexpr const Shape& shape() const noexcept { return *shape_; }
  /// Pre: begin() succeeded for `frame`.
  std::byte* first_slot(void* frame) const noexcept { return Page::slots_of(header_of(frame)); }
  constexpr FreeContent free_content() const noexcept {
    const bool is_raw = callbacks_.construct == nullptr && callbacks_.destroy == nullptr;
    return is_raw ? FreeContent::Raw : FreeContent::Kept;
  }

 private:
  typename Page::Header* header_of(void* frame) const noexcept {
    return typename Page::Frames(shape_->page_bytes).header_of(frame);
  }
  void destroy_first(std::uint32_t number, std::byte* slots) noexcept {
    number = callbacks_.destroy != nullptr ? number : 0;
    for (std::uint32_t slot = 0; slot < number; ++slot) {
      callbacks_.destroy(slots + slot * shape_->object_bytes(), callbacks_.argument);
    }
  }

  const Shape* shape_;
  ObjectCallbacks callbacks_;
};

/// The size class of a cache with the shape `shape`, for the fast paths. A shape that is a constant
/// makes their sizes constants.
struct ShapedClass {
  static constexpr std::uint32_t index = 0;
  const CacheShape& shape;

  [[gnu::always_inline]] constexpr explicit ShapedClass(const CacheShape& its_shape) noexcept
      : shape(its_shape) {}

  template <class Zone>
  [[gnu::always_inline]] void* allocate(Zone& zone) const noexcept {
    return zone.allocate_fast(index, shape.geometry.object_size);
  }
  template <class Zone>
  [[gnu::always_inline]] FreeOutcome deallocate(Zone& zone, void* object) const noexcept {
    return zone.deallocate_fast(index, object, shape.geometry,
                                Zone::FramesOfClass::of(shape.page_bytes));
  }
};

/// What a cache is made of at run time.
struct CacheParameters {
  const char* name;  ///< Outlives the cache.
  std::size_t object_bytes;
  std::size_t alignment = sizeof(std::uint64_t);  ///< Of each object: a power of two.
  ObjectCallbacks callbacks{};
};

/// A cache, or the reason why there is none.
template <class C>
struct [[nodiscard]] MadeCache {
  C* cache = nullptr;
  CacheError error = CacheError::None;

  constexpr explicit operator bool() const noexcept { return cache != nullptr; }
};

/// A cache of objects of one shape over one pager. It must not move, and outlives its objects; its
/// destructor does nothing (destroy()). Thread: any CPU, in any context, where not said otherwise.
template <class HooksT, class PagerT, class Options = CacheOptions>
class Cache {
  static_assert(sizeof(HooksMessage<HooksT>) != 0);
  static_assert(!ObjectCacheOptionsOrDefault<Options>::type_stable || GraceHooks<HooksT>,
                "a type-stable cache needs the hooks grace_period_begin() and has_passed(number)");
  static_assert(ObjectCacheOptions<Options>,
                "a cache takes CacheOptions, or what inherits from them or from "
                "GranuleCacheOptions, or in debug mode DebugCacheOptions");
  static_assert(!TaggedCacheOptions<Options>,
                "an object cache has no tags, but a name and a limit: leave tags 0 in the options");

 public:
  using Hooks = CheckedHooks<HooksT>;
  using Config = CacheConfig<ObjectCacheOptionsOrDefault<Options>>;
  using Page = typename Config::BasePage;
  /// CacheShape, and in debug mode DebugShape.
  using Shape = std::conditional_t<Config::Debug::is_on, DebugShape, CacheShape>;
  using Frames = ConstructedFrames<Page, Shape>;
  using Zones = CpuZones<Hooks, PagerT, Config, Frames>;
  using Made = MadeCache<Cache>;

  // ---- creation --------------------------------------------------------------------------------

  /// The shape of a cache for objects of `bytes`, aligned to `alignment`.
  /// Fails: NoSize, AlignmentNotPower or TooLarge in its `error`.
  static constexpr Shape shape_for(std::size_t bytes, std::size_t alignment) noexcept {
    return Shape::template of<Config>(bytes, alignment);
  }

  /// Pre: `shape` is of shape_for() and has no error; `name` and `pager` outlive the cache.
  constexpr Cache(const char* name, PagerT& pager, const Shape& shape,
                  const ObjectCallbacks& callbacks = {}) noexcept
      : name_(name),
        shape_(shape),
        zones_(pager, Frames(shape_, callbacks), shape.geometry, shape.page_bytes) {
    if constexpr (Zones::is_debugged) {
      zones_.debug().set_name(name);
    }
  }

  /// Makes a cache in `storage`, which has the size and alignment of a Cache and outlives it.
  /// Pre: `pager` and the name outlive it.
  /// Fails: NoSize, AlignmentNotPower or TooLarge, and it wrote nothing.
  static Made create(void* storage, PagerT& pager, const CacheParameters& parameters) noexcept {
    const Shape shape = shape_for(parameters.object_bytes, parameters.alignment);
    if (shape.error != CacheError::None) {
      return {nullptr, shape.error};
    }
    return {::new (storage) Cache(parameters.name, pager, shape, parameters.callbacks)};
  }

  /// The same in a block of `heap`, a CpuZones. Context: as an allocation with `context`.
  /// Fails: as create(); OutOfMemory.
  template <class Heap>
  static Made create_in(Heap& heap, PagerT& pager, const CacheParameters& parameters,
                        Context context = Context::MayWait) noexcept {
    const Shape shape = shape_for(parameters.object_bytes, parameters.alignment);
    if (shape.error != CacheError::None) {
      return {nullptr, shape.error};
    }
    void* const storage = heap.allocate(Layout::of<Cache>(), context).value_or(nullptr);
    return storage != nullptr ? create(storage, pager, parameters)
                              : Made{nullptr, CacheError::OutOfMemory};
  }

  /// destroy(), and gives the cache's own block back to `heap`, where create_in() made it. Returns
  /// how many objects are in use, and then the cache stays.
  /// Pre: nobody else uses it, and no Reclaimer lists it. Context: one that may call the pager; as
  /// a free in `heap` with `context`.
  template <class Heap>
  std::size_t destroy_in(Heap& heap, Context context = Context::MayWait) noexcept {
    const std::size_t used = destroy();
    if (used == 0) {
      heap.deallocate(this, Layout::of<Cache>(), context);
    }
    return used;
  }

  // ---- objects ---------------------------------------------------------------------------------

  /// A constructed object, as its last user left it, or null if there is no memory.
  /// Cost: as CpuZones::allocate(), plus a frame's constructors if a frame comes from the pager.
  [[gnu::always_inline]] void* allocate(Context context = Context::MayWait) noexcept {
    return allocate_as(ShapedClass(shape_), context);
  }

  /// Frees an object of any CPU, or nothing for a null pointer. Pre: it is in its constructed
  /// state.
  /// Fails: as CpuZones::deallocate(). An object of another cache is a ForeignPointer.
  [[gnu::always_inline]] void deallocate(void* object) noexcept {
    deallocate_as(ShapedClass(shape_), object);
  }

  /// Allocates up to `count` objects into `objects`; returns how many it got.
  [[gnu::always_inline]] std::size_t allocate_many(void** objects, std::size_t count,
                                                   Context context = Context::MayWait) noexcept {
    return allocate_many_for(objects, count, context, Mode::caller());
  }
  /// Frees `count` objects. As deallocate().
  [[gnu::always_inline]] void deallocate_many(void* const* objects, std::size_t count) noexcept {
    deallocate_many_for(objects, count, Mode::caller());
  }

  // ---- the same for ObjectCache ----------------------------------------------------------------

  using Mode = typename Zones::Mode;

  /// As allocate() and deallocate(), where the shape of `one` is a constant.
  [[gnu::always_inline]] void* allocate_as(const ShapedClass& one, Context context) noexcept {
    if constexpr (Zones::is_debugged) {
      return zones_.debug().allocate(zones_, context, Mode::caller());
    } else {
      return zones_.allocate_of(one, context).value_or(nullptr);
    }
  }
  [[gnu::always_inline]] void deallocate_as(const ShapedClass& one, void* object) noexcept {
    if constexpr (Zones::is_debugged) {
      zones_.debug().deallocate(zones_, object, Mode::caller());
    } else {
      zones_.deallocate_of(one, object);
    }
  }
  /// As allocate_many() and deallocate_many(), with the address of their caller in debug mode.
  std::size_t allocate_many_for(void** objects, std::size_t count, Context context,
                                [[maybe_unused]] typename Mode::Caller caller) noexcept {
    if constexpr (Zones::is_debugged) {
      std::size_t done = 0;
      while (done < count &&
             (objects[done] = zones_.debug().allocate(zones_, context, caller)) != nullptr) {
        ++done;
      }
      return done;
    } else {
      return zones_.allocate_many_of(0, objects, count, context);
    }
  }
  void deallocate_many_for(void* const* objects, std::size_t count,
                           [[maybe_unused]] typename Mode::Caller caller) noexcept {
    if constexpr (Zones::is_debugged) {
      for (std::size_t done = 0; done < count; ++done) {
        zones_.debug().deallocate(zones_, objects[done], caller);
      }
    } else {
      zones_.deallocate_many_of(0, objects, count);
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
    const std::size_t pages = shape_.pages_for(objects, Hooks::maximum_cpus);
    const auto counted = static_cast<std::uint32_t>(pages);
    return counted == pages ? zones_.reserve_frames_of(0, counted, context)
                            : AllocationError::TooMany;
  }

  /// Makes each CPU keep `objects` objects for calls that can get them nowhere else; see CpuZones.
  Result<void> reserve_for_interrupts(std::uint32_t objects,
                                      Context context = Context::MayWait) noexcept {
    return zones_.reserve_for_interrupts_of(0, objects, context);
  }

  /// Bounds the pages to those that `objects` need, rounded up to a whole one. CPUs do not share
  /// pages, so fewer objects may reach the limit. Before an allocation fails for it, `callback` may
  /// free some.
  void set_limit(std::size_t objects, LimitCallback callback = nullptr,
                 void* argument = nullptr) noexcept {
    const std::size_t per_page = shape_.objects_per_page();
    const std::size_t pages = objects / per_page + (objects % per_page != 0 ? 1 : 0);
    constexpr std::size_t most = ~std::size_t{0};
    const std::size_t page_bytes = shape_.page_bytes;
    zones_.set_limit(pages < most / page_bytes ? pages * page_bytes : most, callback, argument);
  }
  /// See CpuZones::set_waiting().
  void set_waiting(bool waits) noexcept { zones_.set_waiting(waits); }
  void set_reclaim(ReclaimCallback callback, void* argument) noexcept {
    zones_.set_reclaim(callback, argument);
  }
  /// See CpuZones::enter_idle().
  bool enter_idle() noexcept { return zones_.enter_idle(); }

  // ---- destruction -----------------------------------------------------------------------------

  /// Destroys all objects and gives all frames back if none is in use. Returns how many are in use,
  /// and then all stay. A caller may use the cache again afterwards. Pre: nobody else uses it.
  /// A type-stable cache waits for its readers. If that takes too long, it returns the number of
  /// objects that readers may look at, and keeps these; call it again later. Context of that:
  /// MayWait, in no read section. Pre: no reader finds an object from here on.
  /// Cost: O(pages).
  std::size_t destroy() noexcept {
    zones_.drain_and_leave_current();
    const std::size_t used = zones_.class_statistics(0).used;
    if constexpr (Zones::parks_frames) {
      return used != 0 || zones_.release_after_readers() ? used : parked_objects();
    } else if (used == 0) {
      zones_.release_all();
    }
    return used;
  }

  // ---- statistics and checks -------------------------------------------------------------------

  const char* name() const noexcept { return name_; }
  const Shape& shape() const noexcept { return shape_; }

  /// The zones that supply the objects; in debug mode, they have its calls.
  Zones& zones() noexcept { return zones_; }

  /// Thread: any; the figures may lag behind other CPUs. Calls reported as misuse count as frees.
  /// Cost: O(CPUs).
  CacheStatistics statistics() const noexcept {
    const std::size_t per_page = shape_.objects_per_page();
    const std::size_t page_bytes = shape_.page_bytes;
    CacheStatistics result =
        CacheStatistics::of(name_, zones_.class_counts(0), per_page, Config::counts_frees);
    result.object_bytes = shape_.object_bytes();
    result.page_bytes = page_bytes;
    result.pages = zones_.frame_bytes() / page_bytes;
    result.objects = result.pages * per_page;
    result.pages_high_water = zones_.frame_bytes_high_water() / page_bytes;
    const std::size_t limit = zones_.limit_bytes();
    result.limit_pages = limit != ~std::size_t{0} ? limit / page_bytes : CacheStatistics::no_limit;
    result.nested_calls = zones_.nested_calls();
    result.failures = zones_.failures();
    return result;
  }

  /// The first broken invariant, as an equation, or null. Pre: no CPU allocates or frees.
  const char* validate() const noexcept {
    const char* broken = shape_.validate(Page::header_bytes);
    broken = broken != nullptr ? broken : zones_.validate();
    if (broken != nullptr) {
      return broken;
    }
    const CacheStatistics now = statistics();
    return now.objects_in_use <= now.objects ? nullptr
                                             : "O1: objects in use <= objects in all frames";
  }

 private:
  std::size_t parked_objects() const noexcept {
    return zones_.parked_frame_bytes() / shape_.page_bytes * shape_.objects_per_page();
  }

  const char* name_;
  Shape shape_;
  Zones zones_;
};

}  // namespace slabmalloc
