// SPDX-License-Identifier: MIT
//
// Small objects that die young, as in programs made of small functions. A call makes 1 to 16
// objects of 16 to 128 B and frees them at its end; every other call frees the youngest first. One
// object in 64 survives in a ring of 4096 until the ring reuses its place.
// Source: the weak generational hypothesis (D. Ungar, "Generation scavenging", 1984), and the
// traces of cfrac and espresso in B. Zorn, D. Grunwald, "Empirical measurements of six
// allocation-intensive C programs", 1992.
#include <array>
#include <vector>

#include "block.hpp"
#include "random.hpp"
#include "threads.hpp"

namespace slabmalloc::benchmark {
namespace {

constexpr std::size_t total_calls = 5'000'000;
constexpr std::size_t survivors = 4096;
constexpr std::size_t most_objects = 16;

Result run_calls(unsigned thread, std::size_t calls) {
  Random random(thread);
  Result result;
  std::vector<void*> ring(survivors);
  std::size_t oldest = 0;
  std::uint64_t serial = first_serial(thread);
  std::array<void*, most_objects> objects{};
  for (std::size_t call = 0; call < calls; ++call) {
    const std::size_t count = random.between(1, most_objects);
    for (std::size_t index = 0; index < count; ++index)
      objects[index] = make_block(random.between(least_block_bytes, 128), serial++);
    if (random.below(64) < count) {
      std::swap(objects[random.below(count)], ring[oldest]);
      oldest = (oldest + 1) % survivors;
    }
    for (std::size_t index = 0; index < count; ++index)
      result.checksum += drop_block(objects[call % 2 == 0 ? index : count - 1 - index]);
    result.operations += count;
  }
  for (void* object : ring) result.checksum += drop_block(object);
  return result;
}

}  // namespace

Result run_short_lived(const Job& job) {
  return run_threads(job.threads,
                     [&](unsigned thread) { return run_calls(thread, job.share(total_calls)); });
}

}  // namespace slabmalloc::benchmark
