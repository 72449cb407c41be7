// SPDX-License-Identifier: MIT
//
// Per-CPU zones: a kernel's hooks, its frames, its heap, and an interrupt handler that frees and
// allocates. Here threads play the CPUs, signals the interrupts between them, and a static buffer
// the memory. A kernel has its own `machine`.
#include <pthread.h>

#include <atomic>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <new>
#include <thread>

#include "slabmalloc/kernel.hpp"

namespace machine {

constexpr std::uint32_t cpus = 4;
thread_local std::uint32_t number_of_cpu = 0;

/// Returns whether they were enabled.
static bool disable_interrupts() noexcept {
  sigset_t interrupts, before;
  sigemptyset(&interrupts);
  sigaddset(&interrupts, SIGUSR1);
  pthread_sigmask(SIG_BLOCK, &interrupts, &before);
  return sigismember(&before, SIGUSR1) == 0;
}
static void enable_interrupts() noexcept {
  sigset_t interrupts;
  sigemptyset(&interrupts);
  sigaddset(&interrupts, SIGUSR1);
  pthread_sigmask(SIG_UNBLOCK, &interrupts, nullptr);
}

}  // namespace machine

// ---- the port starts here ----

namespace {

struct Kernel {
  static constexpr std::uint32_t maximum_cpus = machine::cpus;
  using InterruptState = bool;
  static std::uint32_t cpu() noexcept { return machine::number_of_cpu; }
  static InterruptState save_interrupts() noexcept { return machine::disable_interrupts(); }
  static void restore_interrupts(InterruptState were_enabled) noexcept {
    if (were_enabled) {
      machine::enable_interrupts();
    }
  }
  [[noreturn]] static void panic(const char*) noexcept { std::abort(); }
  static void log(const char* line) noexcept { std::puts(line); }
};

using Frames = slabmalloc::FrameAllocator<Kernel>;
using Heap = slabmalloc::CpuZones<Kernel, Frames>;
using slabmalloc::Context;

constinit Frames frames;
constinit Heap heap(frames);

struct Packet {
  std::uint32_t from;
  std::byte bytes[60];
};
constexpr auto packet_layout = slabmalloc::Layout::of<Packet>();

/// Each CPU's handler takes the last packet from here, and leaves the next one.
slabmalloc::HardwareAtomics::Cell<Packet*> waiting[Kernel::maximum_cpus];

/// Call once, as soon as the memory map is known.
bool start_heap(const slabmalloc::MemoryRegion* regions, std::size_t count) noexcept {
  return frames.add(regions, count) && heap.reserve_for_interrupts(packet_layout, 4);
}
Packet* make_packet(Context context) noexcept {
  void* const memory = heap.allocate(packet_layout, context).value_or(nullptr);
  return memory != nullptr ? ::new (memory) Packet{Kernel::cpu(), {}} : nullptr;
}
void drop_packet(Packet* packet) noexcept { heap.deallocate(packet, packet_layout); }
/// Call in an interrupt handler, whatever it interrupts. If there is no memory, it leaves no
/// packet, and the next call tries again.
void receive() noexcept {
  Packet* const packet = make_packet(Context::Interrupt);
  drop_packet(waiting[Kernel::cpu()].exchange(packet, slabmalloc::Order::acq_rel));
}
/// Call before a CPU halts, and before you take it away: the other CPUs then get the memory that it
/// does not use, also what they free later.
bool sleep() noexcept { return heap.enter_idle(); }

}  // namespace

// ---- the port ends here ----

static std::atomic<std::uint32_t> received{0};
static std::atomic<bool> has_failed{false};
static pthread_t threads[machine::cpus];
static std::atomic<std::uint32_t> started{0};
static std::atomic<std::uint32_t> finished{0};

static void wait_for_all(std::atomic<std::uint32_t>& count) {
  ++count;
  while (count < machine::cpus) {
    std::this_thread::yield();
  }
}

static void run_cpu(std::uint32_t number) {
  constexpr std::uint32_t packets = 5000;
  machine::number_of_cpu = number;
  threads[number] = pthread_self();
  wait_for_all(started);
  for (std::uint32_t count = 0; count < packets; ++count) {
    const std::uint32_t other = (number + 1 + count % (machine::cpus - 1)) % machine::cpus;
    Packet* const packet = make_packet(Context::MayWait);
    if (packet == nullptr || packet->from != number) {
      has_failed = true;
    }
    // Any CPU may take it from there and free it, here or in the handler.
    drop_packet(waiting[other].exchange(packet, slabmalloc::Order::acq_rel));
    if (count % 8 == 0) {
      pthread_kill(threads[other], SIGUSR1);
      (void)sleep();
      std::this_thread::yield();
    }
  }
  wait_for_all(finished);
  machine::disable_interrupts();
  if (!sleep()) {
    has_failed = true;
  }
}

int main() {
  alignas(4096) static std::byte memory[4 * slabmalloc::mebibyte];
  const slabmalloc::MemoryRegion region{reinterpret_cast<std::uintptr_t>(memory), sizeof memory};
  struct sigaction action = {};
  action.sa_handler = [](int) {
    receive();
    ++received;
  };
  action.sa_flags = SA_RESTART;
  sigaction(SIGUSR1, &action, nullptr);
  if (!start_heap(&region, 1)) {
    return 1;
  }
  std::thread cpus[machine::cpus];
  for (std::uint32_t number = 0; number < machine::cpus; ++number) {
    cpus[number] = std::thread(run_cpu, number);
  }
  for (std::thread& cpu : cpus) {
    cpu.join();
  }
  for (auto& place : waiting) {
    drop_packet(place.exchange(nullptr, slabmalloc::Order::acq_rel));
  }
  const slabmalloc::CpuZonesStatistics now = heap.statistics();
  std::printf("%u interrupts; %zu KiB of frames at most, %zu frees by other CPUs\n",
              received.load(), now.frame_bytes_high_water / 1024, now.zones.remote_frees);
  // All memory goes back: this CPU does it for the others, which sleep.
  bool is_sound = static_cast<bool>(heap.reserve_for_interrupts(packet_layout, 0));
  heap.trim();
  is_sound = is_sound && !has_failed && received > 0 && heap.frame_bytes() == 0 &&
             frames.statistics().used_bytes == 0 && heap.validate() == nullptr;
  return is_sound ? 0 : 1;
}
