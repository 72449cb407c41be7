// SPDX-License-Identifier: MIT
//
// ObjectCache: a Cache (cache.hpp) of objects of one type.
//
//   constinit ObjectCache<Inode, MyKernel, MyFrames> inodes("inode", frames);
//   Inode* inode = inodes.allocate(Context::MayWait);   // constructed, as the last user left it
//   inodes.deallocate(inode);                           // Pre: in its constructed state again
//
//   client ──► ObjectCache<T>: casts, and fast paths with the sizes of T as constants
//                └──► Cache: everything else, the same code for all types
//
// It owns the cache and the life of its objects, which the cache calls by pointers.
#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <new>
#include <type_traits>

#include "slabmalloc/kernel/cache.hpp"

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

/// A cache of objects of type `T` over one pager. It must not move, and outlives its objects; its
/// destructor does nothing (destroy()). Thread: any CPU, in any context, where not said otherwise.
template <class T, class HooksT, class PagerT, class Options = CacheOptions,
          ObjectLife<T> Life = OwnLife<T>>
class ObjectCache {
  static_assert(sizeof(HooksMessage<HooksT>) != 0);
  static_assert(ObjectCacheOptions<Options>,
                "ObjectCache takes CacheOptions, or what inherits from them or from "
                "GranuleCacheOptions, or in debug mode DebugCacheOptions");
  static_assert(!TaggedCacheOptions<Options>,
                "an object cache has no tags, but a name and a limit: leave tags 0 in the options");
  static_assert(!std::same_as<Life, OwnLife<T>> || std::is_nothrow_default_constructible_v<T>,
                "a cache makes its objects without arguments: give the type a default constructor "
                "that is noexcept, or the cache an ObjectLife");

 public:
  using Hooks = CheckedHooks<HooksT>;
  /// The cache without the type.
  using Untyped = Cache<Hooks, PagerT, ObjectCacheOptionsOrDefault<Options>>;
  using Zones = typename Untyped::Zones;

  static constexpr typename Untyped::Shape shape = Untyped::shape_for(sizeof(T), alignof(T));
  static_assert(
      shape.error != CacheError::TooLarge,
      "for larger objects, raise Options::largest_page_bytes or give a layout to CpuZones");
  static_assert(shape.validate(Untyped::Page::header_bytes) == nullptr, "the shape is sound");

  static constexpr std::size_t object_bytes = shape.object_bytes();
  static constexpr std::size_t page_bytes = shape.page_bytes;
  static constexpr std::size_t objects_per_page = shape.objects_per_page();

  /// Pre: `name` and `pager` outlive it.
  constexpr ObjectCache(const char* name, PagerT& pager, Life life = {}) noexcept
      : cache_(name, pager, shape, callbacks()), life_(life) {}

  /// For code that serves caches of all types.
  constexpr Untyped& untyped() noexcept { return cache_; }

  // ---- objects ---------------------------------------------------------------------------------

  /// A constructed object, as its last user left it, or null if there is no memory.
  /// Cost: as CpuZones::allocate(), plus a frame's constructors if a frame comes from the pager.
  [[gnu::always_inline]] T* allocate(Context context = Context::MayWait) noexcept {
    return static_cast<T*>(cache_.allocate_as(ShapedClass(shape), context));
  }

  /// Frees an object of any CPU, or nothing for a null pointer. Pre: it is in its constructed
  /// state.
  /// Fails: as CpuZones::deallocate().
  [[gnu::always_inline]] void deallocate(T* object) noexcept {
    cache_.deallocate_as(ShapedClass(shape), object);
  }

  /// Allocates up to `count` objects into `objects`; returns how many it got.
  [[gnu::always_inline]] std::size_t allocate_many(T** objects, std::size_t count,
                                                   Context context = Context::MayWait) noexcept {
    return allocate_many_for(objects, count, context, Untyped::Mode::caller());
  }
  /// Frees `count` objects. As deallocate().
  [[gnu::always_inline]] void deallocate_many(T* const* objects, std::size_t count) noexcept {
    deallocate_many_for(objects, count, Untyped::Mode::caller());
  }

  // ---- the rest is that of Cache ---------------------------------------------------------------

  Result<void> reserve(std::size_t objects, Context context = Context::MayWait) noexcept {
    return cache_.reserve(objects, context);
  }
  /// The pages that reserve(objects) keeps.
  static constexpr std::size_t pages_for(std::size_t objects) noexcept {
    return shape.pages_for(objects, Hooks::maximum_cpus);
  }
  Result<void> reserve_for_interrupts(std::uint32_t objects,
                                      Context context = Context::MayWait) noexcept {
    return cache_.reserve_for_interrupts(objects, context);
  }
  void set_limit(std::size_t objects, LimitCallback callback = nullptr,
                 void* argument = nullptr) noexcept {
    cache_.set_limit(objects, callback, argument);
  }
  void set_waiting(bool waits) noexcept { cache_.set_waiting(waits); }
  void set_reclaim(ReclaimCallback callback, void* argument) noexcept {
    cache_.set_reclaim(callback, argument);
  }
  bool enter_idle() noexcept { return cache_.enter_idle(); }
  std::size_t destroy() noexcept { return cache_.destroy(); }

  const char* name() const noexcept { return cache_.name(); }
  Zones& zones() noexcept { return cache_.zones(); }
  CacheStatistics statistics() const noexcept { return cache_.statistics(); }
  const char* validate() const noexcept { return cache_.validate(); }

 private:
  using Caller = typename Untyped::Mode::Caller;

  std::size_t allocate_many_for(T** objects, std::size_t count, Context context,
                                Caller caller) noexcept {
    void* some[batch];
    std::size_t done = 0;
    while (done < count) {
      const std::size_t wanted = count - done < batch ? count - done : batch;
      const std::size_t got = cache_.allocate_many_for(some, wanted, context, caller);
      for (std::size_t index = 0; index < got; ++index) {
        objects[done++] = static_cast<T*>(some[index]);
      }
      if (got < wanted) {
        break;
      }
    }
    return done;
  }

  void deallocate_many_for(T* const* objects, std::size_t count, Caller caller) noexcept {
    void* some[batch];
    for (std::size_t done = 0; done < count;) {
      std::size_t index = 0;
      for (; index < batch && done < count; ++index) {
        some[index] = objects[done++];
      }
      cache_.deallocate_many_for(some, index, caller);
    }
  }

  constexpr ObjectCallbacks callbacks() noexcept {
    ObjectCallbacks result;
    result.construct = [](void* place, Context context, void* life) noexcept {
      return static_cast<Life*>(life)->construct(place, context);
    };
    if constexpr (!std::same_as<Life, OwnLife<T>> || !std::is_trivially_destructible_v<T>) {
      result.destroy = [](void* object, void* life) noexcept {
        static_cast<Life*>(life)->destroy(std::launder(static_cast<T*>(object)));
      };
    }
    result.argument = &life_;
    return result;
  }

  /// The objects that one call hands over at once.
  static constexpr std::size_t batch = 16;

  Untyped cache_;
  [[no_unique_address]] Life life_;
};

}  // namespace slabmalloc
