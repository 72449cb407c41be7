// SPDX-License-Identifier: MIT
//
// A heap of which little is left: objects that live for long lie among many that were freed. Their
// OS pages are the least memory that an allocator can hold that has placed them so.
//   sparse          128 MiB of objects of 512 B to 2 KiB, of which one in 20 stays
//   sparse-phases   eight phases, each of 48 MiB of another size, of which one object in 1000 stays
#include <dlfcn.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <mutex>
#include <vector>

#include "block.hpp"
#include "measure.hpp"
#include "random.hpp"
#include "threads.hpp"

namespace slabmalloc::benchmark {
namespace {

constexpr std::size_t mebibyte = 1024 * 1024;
constexpr std::array<std::size_t, 8> sizes{48, 96, 160, 320, 640, 1200, 2500, 6000};

std::mutex survivors_mutex;
std::vector<void*> survivors;

void keep(const std::vector<void*>& objects) {
  const std::lock_guard lock(survivors_mutex);
  survivors.insert(survivors.end(), objects.begin(), objects.end());
}

/// Fills `bytes` with objects of `least` to `most` bytes, then frees all but one in `part`.
Result fill_and_thin_out(unsigned thread, std::size_t bytes, std::size_t least, std::size_t most,
                         std::size_t part) {
  Random random(thread + most);
  Result result;
  std::vector<void*> objects;
  std::vector<void*> kept;
  std::uint64_t serial = first_serial(thread);
  for (std::size_t used = 0; used < bytes; ++result.operations) {
    const std::size_t size = random.between(least, most);
    objects.push_back(make_block(size, serial++));
    used += size;
  }
  for (void* object : objects) {
    if (random.below(part) == 0)
      kept.push_back(object);
    else
      result.checksum += drop_block(object);
  }
  keep(kept);
  return result;
}

/// Notes what lives: the survivors, and the list of them.
void measure_live(Held& held) {
  const auto page_bytes = static_cast<std::uintptr_t>(sysconf(_SC_PAGESIZE));
  std::uint64_t pages = 0;
  std::uintptr_t counted_to = 0;  // The first OS page that is not counted yet.
  std::sort(survivors.begin(), survivors.end());
  for (const void* object : survivors) {
    const auto address = reinterpret_cast<std::uintptr_t>(object);
    const std::uintptr_t end = (address + block_bytes(object) - 1) / page_bytes + 1;
    pages += end - std::max(address / page_bytes, counted_to);
    counted_to = end;
    held.live_bytes += block_bytes(object);
  }
  const std::uint64_t list_bytes = survivors.size() * sizeof(void*);
  held.live_bytes += list_bytes;
  held.least_bytes = pages * page_bytes + list_bytes;
}

/// Asks the allocator for all memory that it can give back, each in its own way.
void give_back() {
  const auto find = [](const char* name) { return dlsym(RTLD_DEFAULT, name); };
  if (void* const collect = find("mi_collect")) {
    reinterpret_cast<void (*)(bool)>(collect)(true);
  } else if (void* const control = find("mallctl")) {
    constexpr const char* purge = "arena.4096.purge";  // 4096: all arenas.
    reinterpret_cast<int (*)(const char*, void*, std::size_t*, void*, std::size_t)>(control)(
        purge, nullptr, nullptr, nullptr, 0);
  } else if (void* const release = find("MallocExtension_ReleaseFreeMemory")) {
    reinterpret_cast<void (*)()>(release)();
  } else if (void* const trim = find("malloc_trim")) {
    reinterpret_cast<int (*)(std::size_t)>(trim)(0);
  }
}

/// Calls that an idle program makes now and then, for that long.
void make_ordinary_calls(double seconds) {
  const double end = wall_seconds() + seconds;
  while (wall_seconds() < end) {
    std::array<void*, 256> blocks;
    for (void*& block : blocks) block = require(std::malloc(100));
    for (void* block : blocks) std::free(block);
  }
}

}  // namespace

Result run_sparse(const Job& job) {
  return run_threads(job.threads, [&](unsigned thread) {
    return fill_and_thin_out(thread, job.share(128 * mebibyte), 512, 2048, 20);
  });
}

Result run_sparse_phases(const Job& job) {
  return run_threads(job.threads, [&](unsigned thread) {
    Result result;
    for (const std::size_t size : sizes)
      result += fill_and_thin_out(thread, job.share(48 * mebibyte), size / 2, size * 3 / 2, 1000);
    return result;
  });
}

Held measure_held() {
  Held held;
  measure_live(held);
  make_ordinary_calls(2.2);  // Two decay intervals of slabmalloc.
  held.later_bytes = resident_bytes();
  give_back();
  held.trimmed_bytes = resident_bytes();
  for (void* object : survivors) held.checksum += drop_block(object);
  std::vector<void*>().swap(survivors);
  return held;
}

}  // namespace slabmalloc::benchmark
