// SPDX-License-Identifier: MIT
//
// Objects that move between ending threads. In each of several rounds, N threads make objects of 16
// B to 8 KiB by a power law. A thread frees some at its end and swaps one in eight with a table
// that all threads share. All threads end with the round; every other round the main thread clears
// half the table.
// Source: the pattern of mstress in daanx/mimalloc-bench (D. Leijen).
#include <atomic>
#include <vector>

#include "block.hpp"
#include "random.hpp"
#include "threads.hpp"

namespace slabmalloc::benchmark {
namespace {

constexpr std::size_t total_objects = 16'000'000;
constexpr unsigned rounds = 20;
constexpr std::size_t table_places = 4000;
constexpr std::size_t least_bytes = 16;
constexpr unsigned doublings = 9;

using Table = std::vector<std::atomic<void*>>;

Result live(unsigned thread, unsigned round, std::size_t count, Table& table) {
  Random random(round * 1000 + thread);
  Result result{.operations = count};
  std::vector<void*> kept;
  std::vector<void*> current(200);
  std::uint64_t serial = first_serial(thread) + (std::uint64_t{round} << 24);
  for (std::size_t index = 0; index < count; ++index) {
    void* object = make_block(random.power_law(least_bytes, doublings), serial++);
    const std::size_t fate = random.below(64);
    if (fate < 8) object = table[random.below(table_places)].exchange(object);
    if (fate == 63) {
      kept.push_back(object);
    } else {
      std::swap(object, current[random.below(current.size())]);
      result.checksum += drop_block(object);
    }
  }
  for (void* object : current) result.checksum += drop_block(object);
  for (void* object : kept) result.checksum += drop_block(object);
  return result;
}

Result clear(Table& table, std::size_t first, std::size_t stride) {
  Result result;
  for (std::size_t index = first; index < table_places; index += stride)
    result.checksum += drop_block(table[index].exchange(nullptr));
  return result;
}

}  // namespace

Result run_migrating(const Job& job) {
  Table table(table_places);
  Result result;
  for (unsigned round = 0; round < rounds; ++round) {
    // A single thread ends each round too.
    std::vector<std::thread> owners;
    owners.emplace_back([&] {
      result += run_threads(job.threads, [&](unsigned thread) {
        return live(thread, round, job.share(total_objects) / rounds + 1, table);
      });
    });
    owners.front().join();
    if (round % 2 == 1) result += clear(table, 0, 2);
  }
  return result += clear(table, 0, 1);
}

}  // namespace slabmalloc::benchmark
