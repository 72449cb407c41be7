// SPDX-License-Identifier: MIT
//
// `instructions_program PATTERN COUNT` allocates and frees COUNT objects of 64 B. callgrind counts
// the instructions (test/malloc/instructions). Every pattern has a counterpart that calls empty
// functions, so that the two differ only by the calls.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <new>
#include <thread>
#include <vector>

#include "slabmalloc/slabmalloc.hpp"

namespace {

constexpr size_t object_bytes = 64;

using Allocate = void* (*)(size_t);
using Free = void (*)(void*);
using SizedFree = void (*)(void*, size_t);

/// Hidden from the compiler, which would leave out calls that it knows.
[[gnu::noinline]] void* no_allocation(size_t) {
  void* null = nullptr;
  asm volatile("" : "+r"(null));
  return null;
}
[[gnu::noinline]] void no_free(void*) { asm volatile(""); }
[[gnu::noinline]] void no_sized_free(void*, size_t) { asm volatile(""); }

/// A pager of pages of one large buffer.
struct BufferPager {
  alignas(4096) static inline unsigned char bytes[size_t{64} << 20];
  static inline size_t used = 0;
  void* allocate_frame(size_t frame_bytes) noexcept {
    const size_t start = (used + frame_bytes - 1) / frame_bytes * frame_bytes;
    used = start + frame_bytes;
    return used <= sizeof bytes ? bytes + start : nullptr;
  }
  void deallocate_frame(void*, size_t) noexcept {}
};

constinit BufferPager pager;
constinit slabmalloc::PagedZone<BufferPager> zone{pager};
constexpr slabmalloc::Layout layout = slabmalloc::Layout::from_size_align(object_bytes, 8).value();

/// The code of a client that inlines the core, with a call and a return around it.
[[gnu::noinline]] void* core_allocate(size_t) { return zone.allocate(layout).value_or(nullptr); }
[[gnu::noinline]] void core_free(void* object) { zone.deallocate(object, layout); }

struct Calls {
  Allocate allocate = no_allocation;
  Free free = no_free;
  SizedFree sized_free = no_sized_free;
};

/// Frees each object at once, or first allocates all of them.
void in_pairs(const Calls& calls, size_t count) {
  for (size_t number = 0; number < count; ++number) {
    calls.free(calls.allocate(object_bytes));
  }
}
void fill(const Calls& calls, std::vector<void*>& objects) {
  for (void*& object : objects) {
    object = calls.allocate(object_bytes);
  }
}
void empty(const Calls& calls, const std::vector<void*>& objects) {
  for (void* object : objects) {
    calls.free(object);
  }
}
void empty_sized(const Calls& calls, const std::vector<void*>& objects) {
  for (void* object : objects) {
    calls.sized_free(object, object_bytes);
  }
}

struct Pattern {
  const char* name;
  void (*run)(std::vector<void*>& objects);
};

const Calls nothing;
const Calls libc{malloc, free};
const Calls operators{[](size_t bytes) { return ::operator new(bytes); }, no_free,
                      ::operator delete };
const Calls core{core_allocate, core_free};

/// Frees the objects of another thread that has ended.
void fill_elsewhere(std::vector<void*>& objects) {
  std::thread([&] { fill(libc, objects); }).join();
}

const Pattern patterns[] = {
    {"pairs-of-nothing", [](auto& objects) { in_pairs(nothing, objects.size()); }},
    {"pairs", [](auto& objects) { in_pairs(libc, objects.size()); }},
    {"core-pairs", [](auto& objects) { in_pairs(core, objects.size()); }},
    {"fill-nothing", [](auto& objects) { fill(nothing, objects); }},
    {"fill", [](auto& objects) { fill(libc, objects); }},
    {"fill-elsewhere", fill_elsewhere},
    {"core-fill", [](auto& objects) { fill(core, objects); }},
    {"fill+empty-nothing", [](auto& objects) { fill(libc, objects), empty(nothing, objects); }},
    {"fill+empty", [](auto& objects) { fill(libc, objects), empty(libc, objects); }},
    {"fill-elsewhere+empty-nothing",
     [](auto& objects) { fill_elsewhere(objects), empty(nothing, objects); }},
    {"fill-elsewhere+empty", [](auto& objects) { fill_elsewhere(objects), empty(libc, objects); }},
    {"fill+empty-sized-nothing",
     [](auto& objects) { fill(operators, objects), empty_sized(nothing, objects); }},
    {"fill+empty-sized",
     [](auto& objects) { fill(operators, objects), empty_sized(operators, objects); }},
    {"core-fill+empty-nothing",
     [](auto& objects) { fill(core, objects), empty(nothing, objects); }},
    {"core-fill+empty", [](auto& objects) { fill(core, objects), empty(core, objects); }},
};

}  // namespace

int main(int argument_count, char** arguments) {
  for (const Pattern& pattern : patterns) {
    if (argument_count == 3 && strcmp(arguments[1], pattern.name) == 0) {
      std::vector<void*> objects(strtoul(arguments[2], nullptr, 10));
      pattern.run(objects);
      return 0;
    }
  }
  fprintf(stderr, "instructions_program PATTERN COUNT\n");
  return 2;
}
