// SPDX-License-Identifier: MIT
//
// Scenarios of LargeCache.
#include "explorer/malloc_system.hpp"

namespace slabmalloc::explorer {

namespace {

struct LargeObjects {
  static constexpr unsigned count = 4;

  LargeCache cache;
  Passed passed;
  Object objects[count];

  static CachedRun run(unsigned number) noexcept {
    return {(number + 1) * chunk_bytes, large_step_bytes};
  }
  /// A run that somebody has now.
  void use(CachedRun run) noexcept {
    if (run.bytes != 0) {
      begin_use(&objects[run.address / chunk_bytes - 1]);
    }
  }
  void put(unsigned number) noexcept {
    end_use(&objects[number]);
    use(cache.put(run(number)));
  }
};

/// A run that was put before is found.
class LargeBefore : public SystemScenario<LargeObjects> {
 public:
  LargeBefore() : SystemScenario("a thread takes a cached object of which it was told", 2) {}

  void set_up() override {
    LargeObjects& all = make_state();
    for (Object& object : all.objects) {
      object = live;
    }
  }
  void run(unsigned thread) override {
    LargeObjects& all = state();
    if (thread == 0) {
      all.put(0);
      all.put(1);
      all.passed.pass(0, &all);
    } else {
      all.passed.receive(0);
      const CachedRun taken = all.cache.take(large_step_bytes);
      expect(taken.bytes != 0, "a run that was put before was not found");
      all.use(taken);
      const CachedRun cleared = all.cache.clear(1, false);
      expect(cleared.bytes != 0, "a run that was put before was not found");
      all.use(cleared);
    }
  }
};

/// Two puts into a full cache evict the two runs that were there.
class LargeEvictions : public SystemScenario<LargeObjects> {
 public:
  LargeEvictions() : SystemScenario("two threads put large objects into a full cache", 2) {}

  void set_up() override {
    LargeObjects& all = make_state();
    for (Object& object : all.objects) {
      object = live;
    }
    all.put(0);
    all.put(1);
  }
  void run(unsigned thread) override { state().put(2 + thread); }
  void check() override {
    LargeObjects& all = state();
    expect(all.objects[0] == live && all.objects[1] == live, "a put evicts what was just put");
  }
};

class LargeCaches : public SystemScenario<LargeObjects> {
 public:
  LargeCaches() : SystemScenario("threads put, take and clear cached large objects", 3) {}

  void set_up() override {
    LargeObjects& all = make_state();
    for (Object& object : all.objects) {
      object = live;
    }
    all.put(0);
  }
  void run(unsigned thread) override {
    LargeObjects& all = state();
    if (thread == 0) {
      all.put(1);
      all.put(2);
    } else if (thread == 1) {
      all.put(3);
      all.use(all.cache.take(large_step_bytes));
    } else {
      all.use(all.cache.clear(0, false));
      all.use(all.cache.clear(1, true));
      all.use(all.cache.clear(1, true));
    }
  }
  void check() override {
    LargeObjects& all = state();
    for (std::uint32_t place = 0; place < Tunables::large_cache_places; ++place) {
      all.use(all.cache.clear(place, false));
    }
    for (const Object object : all.objects) {
      expect(object == live, "a run was lost");
    }
  }
};

}  // namespace

void add_large_cache_scenarios(Scenarios& all) {
  const auto add = [&all]<class S>(S* scenario) { all.emplace_back(scenario); };
  add(new LargeBefore);
  add(new LargeEvictions);
  add(new LargeCaches);
}

}  // namespace slabmalloc::explorer
