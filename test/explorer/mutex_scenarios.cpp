// SPDX-License-Identifier: MIT
//
// Scenarios of the malloc's mutex, also of a zone that changes hands under it.
#include "explorer/malloc_system.hpp"

namespace slabmalloc::explorer {

namespace {

struct Parked : TinyHeap<2> {
  os::Mutex mutex;
};

class Adoption : public SystemScenario<Parked> {
 public:
  Adoption() : SystemScenario("two threads own a zone in turn while one frees", 3) {}

  void set_up() override {
    Parked& heap = make_state();
    heap.fill();
    heap.keep(0, {0, 1});
  }
  void run(unsigned thread) override {
    Parked& heap = state();
    if (thread == 2) {
      heap.free_remotely(heap.slot(0, 0));
      return;
    }
    heap.mutex.lock();
    if (thread == 0) {
      heap.free(heap.slot(0, 1));
    }
    heap.give_back_pages();
    heap.mutex.unlock();
  }
  void check() override { state().expect_nothing_lost(); }
};

class Mutexes : public SystemScenario<Parked> {
 public:
  Mutexes() : SystemScenario("three threads lock the mutex", 3) {}

  void set_up() override { make_state(); }
  void run(unsigned) override {
    state().mutex.lock();
    auto* const count = static_cast<Object*>(state().slot(0, 0));
    ++*count;
    state().mutex.unlock();
  }
  void check() override {
    expect(*static_cast<Object*>(state().slot(0, 0)) == 3, "two threads held a mutex together");
  }
};

}  // namespace

void add_mutex_scenarios(Scenarios& all) {
  const auto add = [&all]<class S>(S* scenario) { all.emplace_back(scenario); };
  add(new Mutexes);
  add(new Adoption);
}

}  // namespace slabmalloc::explorer
