// SPDX-License-Identifier: MIT
//
// An object cache. Every session needs a lock and a list. The cache makes them once for each slot,
// not at each allocation. So the code that frees a session must leave them as they were made.
#include <cstdio>

#include "slabmalloc/kernel.hpp"

namespace {

/// The kernel has one CPU and no interrupts. A real kernel disables them.
struct Kernel {
  static constexpr std::uint32_t maximum_cpus = 1;
  using InterruptState = int;
  static std::uint32_t cpu() noexcept { return 0; }
  static InterruptState save_interrupts() noexcept { return 0; }
  static void restore_interrupts(InterruptState) noexcept {}
  [[noreturn]] static void panic(const char*) noexcept { __builtin_trap(); }
  static void log(const char* line) noexcept { std::puts(line); }
};

struct Session {
  Session() noexcept { ++made; }
  slabmalloc::SpinLock<Kernel> lock;
  Session* first_waiter = nullptr;
  char buffer[480];

  static inline int made = 0;
};

alignas(65536) constinit unsigned char memory[256 * 1024] = {};
constinit slabmalloc::FrameAllocator<Kernel> frames;
constinit slabmalloc::ObjectCache<Session, Kernel, decltype(frames)> sessions("session", frames);
constinit slabmalloc::Reclaimable sessions_entry(sessions);
constinit slabmalloc::Reclaimer<Kernel> reclaimer;

}  // namespace

int main() {
  const slabmalloc::MemoryRegion region{reinterpret_cast<std::uintptr_t>(memory), sizeof memory};
  if (!frames.add(&region, 1) || !sessions.reserve(10)) {
    return 1;
  }
  reclaimer.add(sessions_entry);
  for (int round = 0; round < 1000; ++round) {
    Session* const session = sessions.allocate(slabmalloc::Context::MayWait);
    session->buffer[0] = 's';
    sessions.deallocate(session);  // Its lock is free and its list is empty again.
  }
  Session* open[20];
  const std::size_t count = sessions.allocate_many(open, 20);
  slabmalloc::log_slabinfo(reclaimer);
  std::printf("%d sessions made for 1000 + %zu allocations\n", Session::made, count);
  sessions.deallocate_many(open, count);
  const bool is_sound = reclaimer.remove(sessions_entry) && sessions.destroy() == 0;
  return is_sound && Session::made < 100 ? 0 : 1;
}
