// SPDX-License-Identifier: MIT
//
// Standard containers with a zone as their allocator. A node's size class is chosen at compile time:
// in most cases a node takes no call. Here a cache drops the least recently used of its entries.
#include <cstddef>
#include <cstdio>
#include <functional>
#include <list>
#include <string>
#include <unordered_map>
#include <utility>

#include "slabmalloc/adaptors/mmap_pager.hpp"
#include "slabmalloc/adaptors/stl_allocator.hpp"

namespace {

using Zone = slabmalloc::ScopedZone<slabmalloc::MmapPager, slabmalloc::PoolConfig>;
template <class T>
using InZone = slabmalloc::StlAllocator<T, Zone>;

/// Squares of numbers, of which it keeps the `limit` used last. One zone holds its nodes and table.
class Squares {
 public:
  Squares(Zone& zone, std::size_t limit) : limit_(limit), order_(zone), places_(limit, zone) {}

  long square(long number) {
    if (const auto found = places_.find(number); found != places_.end()) {
      ++hits_;
      order_.splice(order_.begin(), order_, found->second);
      return found->second->second;
    }
    if (order_.size() == limit_) {
      places_.erase(order_.back().first);
      order_.pop_back();
    }
    order_.emplace_front(number, number * number);
    places_.emplace(number, order_.begin());
    return number * number;
  }
  std::size_t hits() const { return hits_; }

 private:
  using Entry = std::pair<long, long>;
  using Order = std::list<Entry, InZone<Entry>>;
  using Place = std::pair<const long, Order::iterator>;

  std::size_t limit_;
  std::size_t hits_ = 0;
  Order order_;
  std::unordered_map<long, Order::iterator, std::hash<long>, std::equal_to<>, InZone<Place>>
      places_;
};

}  // namespace

int main() {
  slabmalloc::MmapPager pager;
  Zone zone(pager);
  bool sound = true;
  {
    Squares squares(zone, 1000);
    for (long number = 0; number < 1'000'000; ++number) {
      const long wanted = number % 3 == 0 ? number % 500 : number;
      sound = sound && squares.square(wanted) == wanted * wanted;
    }
    const slabmalloc::ZoneStatistics statistics = zone.statistics();
    std::printf("%zu of 1000000 were there\n", squares.hits());
    std::printf("%zu allocations, %zu bytes in use, at most %zu KiB of pages\n",
                statistics.allocations, statistics.used_bytes,
                statistics.frame_bytes_high_water / slabmalloc::kibibyte);
    sound = sound && squares.hits() > 0 && statistics.frame_bytes_high_water < 1'000'000;
  }
  return sound && zone.statistics().used_bytes == 0 ? 0 : 1;
}
