// SPDX-License-Identifier: MIT
//
// The allocators that the containers are measured with. Each is a type with a name and version, an
// allocator template, and a function that makes one:
//
//   SlabZone         StlAllocator over a zone of its own
//   SlabResource     polymorphic_allocator over a ZoneResource
//   StandardPool     polymorphic_allocator over an unsynchronized_pool_resource
//   StandardHeap     std::allocator, so glibc's malloc
//   BoostPool        boost::fast_pool_allocator without a mutex
//   MimallocHeap     as mimalloc's mi_stl_allocator
#pragma once

#include <benchmark/benchmark.h>
#include <dlfcn.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <list>
#include <map>
#include <memory>
#include <memory_resource>
#include <string>
#include <utility>

#include "slabmalloc/adaptors/memory_resource.hpp"
#include "slabmalloc/adaptors/mmap_pager.hpp"
#include "slabmalloc/adaptors/stl_allocator.hpp"

#if __has_include(<boost/pool/pool_alloc.hpp>)
#include <boost/pool/pool_alloc.hpp>
#include <boost/version.hpp>
#endif

namespace slabmalloc::benchmark_containers {

using PoolZone = ScopedZone<MmapPager, PoolConfig>;

struct SlabZone {
  static std::string name() { return "slabmalloc"; }
  template <class T>
  using Allocator = StlAllocator<T, PoolZone>;
  template <class T>
  Allocator<T> allocator() {
    return zone;
  }
  MmapPager pager;
  PoolZone zone{pager};
};

struct SlabResource {
  static std::string name() { return "slabmalloc-pmr"; }
  template <class T>
  using Allocator = std::pmr::polymorphic_allocator<T>;
  template <class T>
  Allocator<T> allocator() {
    return &resource;
  }
  MmapPager pager;
  PoolZone zone{pager};
  ZoneResource<PoolZone> resource{zone};
};

struct StandardPool {
  static std::string name() { return "std::pmr"; }
  template <class T>
  using Allocator = std::pmr::polymorphic_allocator<T>;
  template <class T>
  Allocator<T> allocator() {
    return &resource;
  }
  std::pmr::unsynchronized_pool_resource resource;
};

struct StandardHeap {
  static std::string name() { return "std::allocator"; }
  template <class T>
  using Allocator = std::allocator<T>;
  template <class T>
  static Allocator<T> allocator() {
    return {};
  }
};

/// mimalloc's functions. The library is loaded apart from the program's symbols, else it would
/// replace malloc for all others.
struct Mimalloc {
  static inline void* (*allocate)(std::size_t count, std::size_t bytes) = nullptr;
  static inline void (*free)(void* block) = nullptr;
  static inline int (*version)() = nullptr;

  static bool load() {
    void* const library = ::dlopen("libmimalloc.so.2", RTLD_NOW | RTLD_LOCAL);
    if (library == nullptr) {
      return false;
    }
    allocate = reinterpret_cast<decltype(allocate)>(::dlsym(library, "mi_new_n"));
    free = reinterpret_cast<decltype(free)>(::dlsym(library, "mi_free"));
    version = reinterpret_cast<decltype(version)>(::dlsym(library, "mi_version"));
    return allocate != nullptr && free != nullptr && version != nullptr;
  }
};

template <class T>
struct MimallocAllocator {
  using value_type = T;
  MimallocAllocator() noexcept = default;
  template <class U>
  MimallocAllocator(const MimallocAllocator<U>&) noexcept {}
  T* allocate(std::size_t count) const {
    return static_cast<T*>(Mimalloc::allocate(count, sizeof(T)));
  }
  void deallocate(T* objects, std::size_t) const noexcept { Mimalloc::free(objects); }
  bool operator==(const MimallocAllocator&) const noexcept { return true; }
};

struct MimallocHeap {
  static std::string name() {
    const int version = Mimalloc::version();
    return "mimalloc-" + std::to_string(version / 100) + "." + std::to_string(version / 10 % 10) +
           "." + std::to_string(version % 10);
  }
  template <class T>
  using Allocator = MimallocAllocator<T>;
  template <class T>
  static Allocator<T> allocator() {
    return {};
  }
};

#if __has_include(<boost/pool/pool_alloc.hpp>)
struct BoostPool {
  static std::string name() {
    std::string version = BOOST_LIB_VERSION;
    std::ranges::replace(version, '_', '.');
    return "boost-" + version;
  }
  template <class T>
  using Allocator = boost::fast_pool_allocator<T, boost::default_user_allocator_new_delete,
                                               boost::details::pool::null_mutex>;
  template <class T>
  static Allocator<T> allocator() {
    return {};
  }
  /// Its pools are the program's. Without this, each measurement would find the free lists as the
  /// last one left them.
  ~BoostPool() {
    purge<sizeof(void*)>();
    purge<sizeof(std::_List_node<std::size_t>)>();
    purge<sizeof(std::_Rb_tree_node<std::pair<const std::uint64_t, std::size_t>>)>();
  }

 private:
  template <unsigned bytes>
  static void purge() {
    boost::singleton_pool<boost::fast_pool_allocator_tag, bytes,
                          boost::default_user_allocator_new_delete,
                          boost::details::pool::null_mutex, 32, 0>::purge_memory();
  }
};
#endif

/// Registers `row/peer/size` for every peer that is there and each size. `Function<Peer>` measures
/// one.
template <template <class> class Function>
bool register_row(const std::string& row, std::initializer_list<std::size_t> sizes) {
  const auto add = [&]<class Peer>() {
    for (const std::size_t size : sizes) {
      const std::string name = row + "/" + Peer::name() + "/" + std::to_string(size);
      benchmark::RegisterBenchmark(name.c_str(), [size](benchmark::State& state) {
        Function<Peer>::measure(state, size);
      })->UseManualTime();
    }
  };
  static const bool has_mimalloc = Mimalloc::load();
  add.template operator()<SlabZone>();
  add.template operator()<SlabResource>();
  add.template operator()<StandardPool>();
  add.template operator()<StandardHeap>();
  if (has_mimalloc) {
    add.template operator()<MimallocHeap>();
  }
#if __has_include(<boost/pool/pool_alloc.hpp>)
  add.template operator()<BoostPool>();
#endif
  return true;
}

}  // namespace slabmalloc::benchmark_containers
