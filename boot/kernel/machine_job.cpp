// SPDX-License-Identifier: MIT
//
// Job `machine` tests the promises of machine.hpp.
#include <cstddef>
#include <cstdint>

#include "kernel/cpus.hpp"
#include "kernel/hooks.hpp"
#include "kernel/interrupts.hpp"
#include "kernel/jobs.hpp"
#include "kernel/machine.hpp"
#include "kernel/print.hpp"
#include "slabmalloc/kernel/spin_lock.hpp"

namespace boot {
namespace {

// Each CPU writes notes about itself. The others read them when its work is done.
struct alignas(64) Notes {
  Cell<std::uint64_t> visits{0};
  Cell<std::uint64_t> handled{0};
  Cell<std::uint64_t> rounds{0};
};
constinit Notes notes[maximum_cpus];
constinit Barrier barrier;

void add_one(Cell<std::uint64_t>& count) noexcept {
  count.store(count.load(Order::relaxed) + 1, Order::relaxed);
}

/// Returns true if `condition` becomes true within about half a minute. The limit depends on the
/// emulator's speed, because it needs time of its own to make interrupts.
template <class Condition>
bool comes_true(Condition condition) noexcept {
  for (std::uint32_t attempts = 0; attempts < 20'000'000; ++attempts) {
    if (condition()) {
      return true;
    }
    count_down(1'000);
  }
  return false;
}

void every_cpu_runs_the_work_once() noexcept {
  run_on_all_cpus([](std::uint32_t number) {
    expect(number == cpu(), "work is told the CPU it runs on");
    add_one(notes[number].visits);
  });
  for (std::uint32_t number = 0; number < cpu_count(); ++number) {
    expect(notes[number].visits.load(Order::relaxed) == 1, "each CPU did the work once");
  }
}

void no_cpu_passes_a_barrier_before_the_last_has_come() noexcept {
  run_on_all_cpus([](std::uint32_t number) {
    bool together = true;
    for (std::uint64_t round = 1; round <= 50; ++round) {
      notes[number].rounds.store(round, Order::relaxed);
      barrier.wait();
      for (std::uint32_t other = 0; other < cpu_count(); ++other) {
        together &= notes[other].rounds.load(Order::relaxed) == round;
      }
      barrier.wait();
    }
    expect(together, "after a barrier all CPUs are in the same round");
  });
}

void a_lock_of_the_kernel_services_keeps_cpus_apart() noexcept {
  static constinit slabmalloc::SpinLock<Hooks> lock;
  static constinit std::uint64_t sum = 0;  // the lock's
  constexpr std::uint64_t additions = 100;
  run_on_all_cpus([](std::uint32_t) {
    barrier.wait();
    for (std::uint64_t addition = 0; addition < additions; ++addition) {
      const slabmalloc::SpinLock<Hooks>::Guard guard(lock);
      const std::uint64_t before = sum;
      count_down(1'000);
      sum = before + 1;
    }
  });
  expect(sum == additions * cpu_count(), "no addition is lost");
}

void timers_tick_on_every_cpu() noexcept {
  set_timer_handler([]() noexcept {
    expect(!interrupts_enabled(), "handlers run with interrupts disabled");
    add_one(notes[cpu()].handled);
  });
  run_on_all_cpus([](std::uint32_t number) {
    const Cell<std::uint64_t>& handled = notes[number].handled;
    const std::uint64_t before = handled.load(Order::relaxed);
    expect(interrupts_enabled(), "work runs with interrupts enabled");
    expect(comes_true([&] { return handled.load(Order::relaxed) >= before + 3; }),
           "the timer ticks");
  });
  set_timer_handler(nullptr);
}

void interrupts_are_kept_out_until_the_outermost_restore() noexcept {
  run_on_all_cpus([](std::uint32_t number) {
    const Cell<std::uint64_t>& ticks = interrupt_counts[number].ticks;
    const InterruptState outer = save_interrupts();
    const std::uint64_t before = ticks.load(Order::relaxed);
    const InterruptState inner = save_interrupts();
    expect(!interrupts_enabled(), "saved twice");
    restore_interrupts(inner);
    expect(!interrupts_enabled(), "restored once");
    count_down(5'000'000);  // some ticks' time
    expect(ticks.load(Order::relaxed) == before, "no tick came");
    restore_interrupts(outer);
    expect(interrupts_enabled(), "restored twice");
    expect(comes_true([&] { return ticks.load(Order::relaxed) > before; }), "then one comes");
  });
}

/// Each CPU sends a signal to the next one; with one CPU to itself.
void signals_arrive_once() noexcept {
  run_on_all_cpus([](std::uint32_t number) {
    const Cell<std::uint64_t>& signals = interrupt_counts[number].signals;
    const std::uint64_t before = signals.load(Order::relaxed);
    barrier.wait();
    const InterruptState state = save_interrupts();
    if (!signals_are_non_maskable) {
      barrier.wait();
      send_signal((number + 1) % cpu_count());
      barrier.wait();
      count_down(100'000);
      expect(signals.load(Order::relaxed) == before, "no signal comes while interrupts are out");
      restore_interrupts(state);
    } else {
      send_signal((number + 1) % cpu_count());
    }
    expect(comes_true([&] { return signals.load(Order::relaxed) > before; }), "a signal comes");
    count_down(100'000);
    expect(signals.load(Order::relaxed) == before + 1, "it comes once");
    restore_interrupts(state);
  });
}

void addresses_are_translated_as_they_should_be() noexcept {
  run_on_all_cpus([](std::uint32_t) {
    const Text wrong = check_translation();
    expect(wrong.empty(), wrong);
  });
}

std::uint64_t instructions_of(std::uint64_t iterations) noexcept {
  const InterruptsDisabled disabled;
  asm volatile("" : "+r"(iterations));  // puts it in its register before the counting begins
  const std::uint64_t before = instructions();
  count_down(iterations);
  return instructions() - before;
}

void instructions_are_counted() noexcept {
  const std::uint64_t few = instructions_of(1'000);
  const std::uint64_t many = instructions_of(1'001'000);
  expect(many - few == 2'000'000, "a million iterations more are two million instructions");
  expect(few >= 2'000 && few < 2'020, "asking costs next to nothing");
  print_line("loops of 2,000 and 2,002,000 instructions took ", few, " and ", many);
}

void memory_is_writable_and_not_the_kernels() noexcept {
  expect(machine.memory.validate() == nullptr, "the memory's invariants hold");
  expect(free_bytes() > image().bytes, "there is memory");
  const auto last = [](const Region& region) { return region.end() - 8; };
  const auto word = [](std::uintptr_t address) {
    return reinterpret_cast<volatile std::uint64_t*>(address);
  };
  for_each_free([&](Region region) {
    expect(!region.overlaps(image()), "free memory is outside of the kernel");
    *word(region.start) = ~region.start;
    *word(last(region)) = ~last(region);
  });
  for_each_free([&](Region region) {
    expect(*word(region.start) == ~region.start, "the first word keeps its value");
    expect(*word(last(region)) == ~last(region), "the last word keeps its value");
  });
}

constexpr std::size_t buffer_bytes = 64;
struct Buffer {
  unsigned char byte[buffer_bytes];
  void number() noexcept {
    for (std::size_t index = 0; index < buffer_bytes; ++index) {
      byte[index] = static_cast<unsigned char>(index);
    }
  }
};

/// True if `moved` is the numbered buffer after `bytes` bytes at `from` were moved to `to`.
bool is_moved(const Buffer& moved, std::size_t to, std::size_t from, std::size_t bytes) noexcept {
  for (std::size_t index = 0; index < buffer_bytes; ++index) {
    const bool inside = index >= to && index < to + bytes;
    if (moved.byte[index] != (inside ? index - to + from : index)) {
      return false;
    }
  }
  return true;
}

struct Outcome {
  bool copies = true;
  bool moves = true;
  bool sets = true;
};

/// Copies, moves and sets `bytes` bytes within numbered buffers.
void try_memory_functions(std::size_t to, std::size_t from, std::size_t bytes,
                          Outcome& outcome) noexcept {
  Buffer source, target;
  source.number();
  target.number();
  __builtin_memcpy(target.byte + to, source.byte + from, bytes);
  outcome.copies &= is_moved(target, to, from, bytes);
  __builtin_memmove(source.byte + to, source.byte + from, bytes);
  outcome.moves &= is_moved(source, to, from, bytes);
  outcome.copies &= __builtin_memcmp(&source, &target, sizeof(source)) == 0;
  __builtin_memset(source.byte + to, 0xfe, bytes);
  for (std::size_t index = 0; index < bytes; ++index) {
    outcome.sets &= source.byte[to + index] == 0xfe;
  }
  outcome.sets &= source.byte[to + bytes] == target.byte[to + bytes];
}

void memory_functions_do_what_compilers_expect() noexcept {
  Outcome outcome;
  for (std::size_t to = 0; to < 24; ++to) {
    for (std::size_t from = 0; from < 24; ++from) {
      for (std::size_t bytes = 0; bytes < 40; bytes += bytes < 20 ? 1 : 5) {
        try_memory_functions(to, from, bytes, outcome);
      }
    }
  }
  expect(outcome.copies, "memcpy copies, and memcmp finds no difference");
  expect(outcome.moves, "memmove moves overlapping bytes");
  expect(outcome.sets, "memset sets what it is told to");
  Buffer left, right;
  left.number();
  right.number();
  right.byte[40] = 0xff;
  expect(__builtin_memcmp(&left, &right, 41) < 0 && __builtin_memcmp(&right, &left, 41) > 0 &&
             __builtin_memcmp(&left, &right, 40) == 0,
         "memcmp compares as unsigned bytes");
}

}  // namespace

void machine_job() {
  every_cpu_runs_the_work_once();
  no_cpu_passes_a_barrier_before_the_last_has_come();
  a_lock_of_the_kernel_services_keeps_cpus_apart();
  timers_tick_on_every_cpu();
  interrupts_are_kept_out_until_the_outermost_restore();
  signals_arrive_once();
  addresses_are_translated_as_they_should_be();
  if (machine.command_line.has("icount")) {
    instructions_are_counted();
  }
  memory_is_writable_and_not_the_kernels();
  memory_functions_do_what_compilers_expect();
}

}  // namespace boot
