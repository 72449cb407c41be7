// SPDX-License-Identifier: MIT
//
// Job `idle`: all CPUs but one fill the memory and go idle. CPU 0 frees their objects and gets the
// memory, without an interrupt to them. Then their timer interrupts use the heap as well.
#include <cstddef>
#include <cstdint>

#include "kernel/cpus.hpp"
#include "kernel/heap.hpp"
#include "kernel/interrupts.hpp"
#include "kernel/jobs.hpp"
#include "kernel/machine.hpp"
#include "kernel/print.hpp"

namespace boot {
namespace {

using slabmalloc::Context;
using slabmalloc::Layout;

constexpr std::size_t idle_bytes = std::size_t{page_bytes < 65536 ? 4 : 16} << 20;
constexpr Layout first_layout = Layout::from_size_align(64, 8).value_or(Layout());
constexpr Layout second_layout = Layout::from_size_align(128, 8).value_or(Layout());
/// Of so many objects CPU 0 leaves one, which pins its page.
constexpr std::uint32_t kept_one_in = 4096;

/// The objects of one CPU, linked through their first words.
struct alignas(64) List {
  void** first = nullptr;
  std::uint64_t count = 0;
  Cell<std::uint64_t> offers{0};  ///< How often the CPU went idle.

  void push(void* object) noexcept {
    *static_cast<void***>(object) = first;
    first = static_cast<void**>(object);
    ++count;
  }
  void* pop() noexcept {
    void** const object = first;
    if (object != nullptr) {
      first = static_cast<void**>(*object);
      --count;
    }
    return object;
  }
};

template <class Heap>
class Idle {
 public:
  static void run(Text name) noexcept {
    KernelMemory<Heap>& memory = make_memory<Heap>(idle_bytes);
    heap_ = &memory.heap;
    set_idle_work([]() noexcept {
      expect(heap_->enter_idle(), "an idle loop is in no section");
      // Order: release, with the acquire in wait_until_idle().
      lists_[cpu()].offers.fetch_add(1, Order::release);
    });
    try_once(name);
    set_timer_handler([]() noexcept { handle(); });
    try_once(name);
    set_timer_handler(nullptr);
    set_idle_work(nullptr);
    // An idle CPU may still be at its work.
    run_on_all_cpus([](std::uint32_t) noexcept {});
    print_line(name, ": CPUs took ", memory.heap.statistics().idle_drains,
               " steps of drains for idle ones");
    expect(cpu_count() == 1 || memory.heap.statistics().idle_drains != 0, "CPUs drain idle ones");
    expect_all_is_back(memory);
  }

 private:
  static void try_once(Text name) noexcept {
    const std::uint64_t filled = fill();
    wait_until_idle();
    const std::uint64_t got = free_and_take();
    print_line(name, ": ", filled, " objects on the others, then ", got,
               " of twice the size on CPU 0");
    expect(got > filled / 3, "CPU 0 gets two thirds of the memory, and more");
  }
  /// Has each CPU but 0 allocate until nothing is left; the only CPU too.
  static std::uint64_t fill() noexcept {
    run_on_all_cpus([](std::uint32_t number) noexcept {
      if (number == 0 && cpu_count() != 1) {
        return;
      }
      while (void* const object = heap_->allocate(first_layout).value_or(nullptr)) {
        lists_[number].push(object);
      }
    });
    std::uint64_t count = 0;
    for (const List& list : lists_) {
      count += list.count;
    }
    return count;
  }
  static void wait_until_idle() noexcept {
    for (std::uint32_t number = 1; number < cpu_count(); ++number) {
      const std::uint64_t before = lists_[number].offers.load(Order::relaxed);
      while (lists_[number].offers.load(Order::acquire) == before) {
        relax();
      }
    }
  }
  /// Frees what all CPUs have, and takes all memory for objects of another size.
  static std::uint64_t free_and_take() noexcept {
    List kept, taken;
    for (List& list : lists_) {
      while (void* const object = list.pop()) {
        if (list.count % kept_one_in == kept_one_in - 1) {
          kept.push(object);
        } else {
          heap_->deallocate(object, first_layout);
        }
      }
    }
    while (void* const object = heap_->allocate(second_layout).value_or(nullptr)) {
      taken.push(object);
    }
    const std::uint64_t count = taken.count;
    while (void* const object = taken.pop()) {
      heap_->deallocate(object, second_layout);
    }
    while (void* const object = kept.pop()) {
      heap_->deallocate(object, first_layout);
    }
    return count;
  }
  /// Wakes the part of a CPU that sleeps.
  static void handle() noexcept {
    void* const object = heap_->allocate(second_layout, Context::Interrupt).value_or(nullptr);
    if (object != nullptr) {
      heap_->deallocate(object, second_layout);
    }
  }

  static constinit inline Heap* heap_ = nullptr;
  static constinit inline List lists_[maximum_cpus];
};

}  // namespace

void idle_job() {
  Idle<ClosedHeap>::run("sections without interrupts");
  Idle<OpenHeap>::run("sections with interrupts");
}

}  // namespace boot
