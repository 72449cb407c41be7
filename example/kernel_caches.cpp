// SPDX-License-Identifier: MIT
//
// Object caches for drivers in C and Rust: a C interface over one instantiation of Cache. A driver
// makes a cache when it loads, and ends it when it goes. Here a static buffer is the memory.
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <new>

#include "slabmalloc/kernel.hpp"

namespace {

struct Kernel {
  static constexpr std::uint32_t maximum_cpus = 1;
  using InterruptState = bool;
  static std::uint32_t cpu() noexcept { return 0; }
  static InterruptState save_interrupts() noexcept { return true; }
  static void restore_interrupts(InterruptState) noexcept {}
  [[noreturn]] static void panic(const char* line) noexcept {
    std::puts(line);
    std::abort();
  }
  static void log(const char* line) noexcept { std::puts(line); }
};

using slabmalloc::Context;
using Frames = slabmalloc::FrameAllocator<Kernel>;
using Heap = slabmalloc::CpuZones<Kernel, Frames>;
using Caches = slabmalloc::Cache<Kernel, Frames>;

constinit Frames frames;
constinit Heap heap(frames);
constinit slabmalloc::Reclaimer<Kernel> reclaimer;

}  // namespace

// ---- the C interface starts here ----

extern "C" {

/// The values of slabmalloc::Context: 0 may wait, 1 may not wait, 2 interrupt, 3 emergency.
typedef unsigned char kernel_context;
typedef bool (*kernel_construct)(void* place, kernel_context context, void* argument);
typedef void (*kernel_destroy)(void* object, void* argument);
typedef struct kernel_cache kernel_cache;

/// A cache, or null: then `*error` is a line that says why. The callbacks may be null.
kernel_cache* kernel_cache_create(const char* name, std::size_t bytes, std::size_t alignment,
                                  kernel_construct construct, kernel_destroy destroy,
                                  void* argument, const char** error);
/// Returns how many objects are in use, and then the cache stays; all ones if the reclaimer is
/// using it at this moment: try again.
std::size_t kernel_cache_destroy(kernel_cache* cache);
void* kernel_cache_allocate(kernel_cache* cache, kernel_context context);
void kernel_cache_free(kernel_cache* cache, void* object);
}

/// A cache with the driver's constructor, and its entry for the report and for reclaim.
struct kernel_cache {
  kernel_construct construct;
  kernel_destroy destroy;
  void* argument;
  Caches cache;
  slabmalloc::Reclaimable entry;

  kernel_cache(const char* name, const slabmalloc::CacheShape& shape, kernel_construct constructor,
               kernel_destroy destructor, void* its_argument) noexcept
      : construct(constructor),
        destroy(destructor),
        argument(its_argument),
        cache(name, frames, shape,
              {constructor != nullptr ? &begin : nullptr, destructor != nullptr ? &end : nullptr,
               this}),
        entry(cache) {}

 private:
  /// Passes a context as the byte that it is.
  static bool begin(void* place, Context context, void* self) {
    const auto* const made = static_cast<const kernel_cache*>(self);
    return made->construct(place, static_cast<kernel_context>(context), made->argument);
  }
  static void end(void* object, void* self) {
    const auto* const made = static_cast<const kernel_cache*>(self);
    made->destroy(object, made->argument);
  }
};

kernel_cache* kernel_cache_create(const char* name, std::size_t bytes, std::size_t alignment,
                                  kernel_construct construct, kernel_destroy destroy,
                                  void* argument, const char** error) {
  const slabmalloc::CacheShape shape = Caches::shape_for(bytes, alignment);
  const auto layout = slabmalloc::Layout::of<kernel_cache>();
  void* const place = shape.error == slabmalloc::CacheError::None
                          ? heap.allocate(layout, Context::MayWait).value_or(nullptr)
                          : nullptr;
  if (place == nullptr) {
    *error =
        describe(shape.error != slabmalloc::CacheError::None ? shape.error
                                                             : slabmalloc::CacheError::OutOfMemory);
    return nullptr;
  }
  auto* const made = ::new (place) kernel_cache(name, shape, construct, destroy, argument);
  reclaimer.add(made->entry);
  return made;
}
std::size_t kernel_cache_destroy(kernel_cache* cache) {
  if (!reclaimer.remove(cache->entry)) {
    return ~std::size_t{0};
  }
  const std::size_t used = cache->cache.destroy();
  if (used == 0) {
    heap.deallocate(cache, slabmalloc::Layout::of<kernel_cache>());
  } else {
    reclaimer.add(cache->entry);
  }
  return used;
}
void* kernel_cache_allocate(kernel_cache* cache, kernel_context context) {
  return cache->cache.allocate(static_cast<Context>(context));
}
void kernel_cache_free(kernel_cache* cache, void* object) { cache->cache.deallocate(object); }

// ---- the C interface ends here ----

namespace {

/// What a driver in C does.
struct Request {
  int magic;
  char data[180];
};
bool begin_request(void* place, kernel_context, void* argument) {
  static_cast<Request*>(place)->magic = 7;
  ++*static_cast<int*>(argument);
  return true;
}
void end_request(void*, void* argument) { --*static_cast<int*>(argument); }

}  // namespace

int main() {
  alignas(65536) static std::byte memory[256 * 1024];
  const slabmalloc::MemoryRegion region{reinterpret_cast<std::uintptr_t>(memory), sizeof memory};
  if (!frames.add(&region, 1)) {
    return 1;
  }
  const char* error = nullptr;
  const bool is_refused =
      kernel_cache_create("bad", 40, 24, nullptr, nullptr, nullptr, &error) == nullptr;
  std::printf("refused: %s\n", error);
  int alive = 0;
  kernel_cache* const requests = kernel_cache_create("request", sizeof(Request), 64, begin_request,
                                                     end_request, &alive, &error);
  if (requests == nullptr) {
    return 1;
  }
  auto* const request = static_cast<Request*>(kernel_cache_allocate(requests, 0));
  slabmalloc::log_slabinfo(reclaimer);
  const bool is_constructed = request != nullptr && request->magic == 7 && alive > 0;
  const std::size_t in_use = kernel_cache_destroy(requests);
  kernel_cache_free(requests, request);
  const std::size_t at_the_end = kernel_cache_destroy(requests);
  heap.release_all();
  const std::size_t lost = frames.statistics().used_bytes;
  std::printf("%zu in use, then %zu; %d alive, %zu bytes lost\n", in_use, at_the_end, alive, lost);
  const bool is_sound = is_refused && is_constructed && in_use == 1 && at_the_end == 0;
  return is_sound && alive == 0 && lost == 0 ? 0 : 1;
}
