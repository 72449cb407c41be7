// SPDX-License-Identifier: MIT
//
// The operating system interface on Linux: system calls (system_call.hpp says why), and the vDSO's
// clock.
#include <errno.h>
#include <fcntl.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>

#include "os/os.hpp"
#include "os/system_call.hpp"
#include "os/vdso.hpp"
#include "tunables.hpp"

namespace slabmalloc::os {
namespace {

// ---- what the system tells once -----------------------------------------------------------------

/// Facts that do not change. All are asked before a program can lock itself up in a sandbox, whose
/// list of system calls may lack prlimit64. Threads that ask at the same time store the same.
/// Order: the release of `known`, with the acquire in facts(): a thread that sees it sees the rest.
struct Facts {
  HardwareAtomics::Cell<bool> known;
  HardwareAtomics::Cell<std::size_t> os_page_bytes;
  HardwareAtomics::Cell<std::size_t> address_space_limit;
  HardwareAtomics::Cell<std::uint64_t> random_bits;
  HardwareAtomics::Cell<ClockGetTime> clock;
};
constinit Facts asked_facts;

std::size_t ask_address_space_limit() {
  struct {
    std::uint64_t current;
    std::uint64_t most;
  } limit{};
  const long result = system_call(SYS_prlimit64, 0, RLIMIT_AS, nullptr, &limit);
  return is_failure(result) || limit.current >= unlimited ? unlimited
                                                          : static_cast<std::size_t>(limit.current);
}

std::uint64_t ask_random_bits() {
  // The kernel stores 16 random bytes in the image of every new program.
  const auto* const bytes = reinterpret_cast<const unsigned char*>(getauxval(AT_RANDOM));
  std::uint64_t bits = 0;
  if (bytes != nullptr) {
    __builtin_memcpy(&bits, bytes + 8, sizeof(bits));
  }
  return bits;
}

[[gnu::cold]] void ask() {
  // getauxval() works before the C library's start-up code has run; sysconf() may not.
  const int saved_errno = errno;
  const unsigned long page_bytes = getauxval(AT_PAGESZ);
  const unsigned long vdso = getauxval(AT_SYSINFO_EHDR);
  asked_facts.os_page_bytes.store(page_bytes != 0 ? page_bytes : 4096, Order::relaxed);
  asked_facts.random_bits.store(ask_random_bits(), Order::relaxed);
  asked_facts.clock.store(find_clock(reinterpret_cast<const void*>(vdso)), Order::relaxed);
  asked_facts.address_space_limit.store(ask_address_space_limit(), Order::relaxed);
  asked_facts.known.store(true, Order::release);
  errno = saved_errno;
}

const Facts& facts() {
  if (!asked_facts.known.load(Order::acquire)) [[unlikely]] {
    ask();
  }
  return asked_facts;
}

std::size_t os_page_bytes() { return facts().os_page_bytes.load(Order::relaxed); }
std::size_t address_space_limit() { return facts().address_space_limit.load(Order::relaxed); }
std::uint64_t random_bits() { return facts().random_bits.load(Order::relaxed); }

/// True once the program may have locked itself up. Relaxed: its thread goes on to lock itself up
/// only after the store, and other threads are outside until it reaches them.
constinit HardwareAtomics::Cell<bool> may_be_in_sandbox;

// ---- memory -------------------------------------------------------------------------------------

constexpr int anonymous = MAP_PRIVATE | MAP_ANONYMOUS;
constexpr int read_write = PROT_READ | PROT_WRITE;

#ifdef SYS_mmap2
constexpr long map_call = SYS_mmap2;
#else
constexpr long map_call = SYS_mmap;
#endif

/// As mmap() of anonymous memory: its address, or a failure.
long map_anonymous(void* address, std::size_t bytes, int protection, int flags) {
  return system_call(map_call, address, bytes, protection, anonymous | flags, -1, 0);
}

/// As map_anonymous(), never over an existing mapping. It may map at another address.
long map_new(void* address, std::size_t bytes, int protection, int flags) {
  const long got = map_anonymous(address, bytes, protection, flags | MAP_FIXED_NOREPLACE);
  // Some emulations refuse the flag. Then the address is a hint, as for kernels before 4.17.
  return got == -EOPNOTSUPP || got == -EINVAL ? map_anonymous(address, bytes, protection, flags)
                                              : got;
}

std::uintptr_t find_space(std::size_t bytes) {
  // The kernel chooses the highest gap that fits, and the high end of that gap. With address space
  // randomisation the gap is at a random address. After the munmap, later mappings come from this
  // gap, again from its high end. An emulator of user programs needs memory for each page that is
  // mapped. So no more is mapped than it takes to find a gap that is not one between two libraries:
  // programs have their mappings above it, and nothing for terabytes below.
  constexpr std::size_t most_mapped = std::size_t{1} << 30;
  constexpr std::uintptr_t least_address = std::uintptr_t{1} << (sizeof(void*) == 8 ? 32 : 28);
  const std::size_t mapped = bytes < most_mapped ? bytes : most_mapped;
  const long address = map_anonymous(nullptr, mapped, PROT_NONE, MAP_NORESERVE);
  if (is_failure(address) || is_failure(system_call(SYS_munmap, address, mapped))) {
    return 0;
  }
  const std::uintptr_t end = static_cast<std::uintptr_t>(address) + mapped;
  return end > least_address && end - least_address > bytes ? end - bytes : 0;
}

bool is_empty(void* address, std::size_t bytes) {
  const long got = map_new(address, bytes, PROT_NONE, MAP_NORESERVE);
  return !is_failure(got) && !is_failure(system_call(SYS_munmap, got, bytes)) &&
         got == reinterpret_cast<long>(address);
}

bool unmap(void* address, std::size_t bytes) {
  return !is_failure(system_call(SYS_munmap, address, bytes));
}

MapOutcome map_at(void* address, std::size_t bytes) {
  const long got = map_new(address, bytes, read_write, 0);
  if (is_failure(got)) {
    // Past the end of the address space a fixed mapping fails with ENOMEM or EINVAL. ENOMEM can
    // also mean that memory is short. No other address helps then.
    return got == -EEXIST || got == -EINVAL || got == -EPERM ? MapOutcome::Occupied
                                                             : MapOutcome::Exhausted;
  }
  if (got != reinterpret_cast<long>(address)) {
    system_call(SYS_munmap, got, bytes);
    return MapOutcome::Occupied;
  }
  return MapOutcome::Mapped;
}

void* map(std::size_t bytes) {
  const long address = map_anonymous(nullptr, bytes, read_write, 0);
  return is_failure(address) ? nullptr : reinterpret_cast<void*>(address);
}

#ifdef MADV_DONTNEED_LOCKED
constexpr int purge_locked = MADV_DONTNEED_LOCKED;
#else
constexpr int purge_locked = 24;
#endif

#ifdef MADV_COLD
constexpr int cold = MADV_COLD;
#else
constexpr int cold = 20;
#endif

bool drop(void* address, std::size_t bytes) {
  // EINVAL tells of locked memory. Kernels since 5.18 have a call of its own for that.
  const long result = system_call(SYS_madvise, address, bytes, MADV_DONTNEED);
  return !is_failure(result) ||
         (result == -EINVAL && !is_failure(system_call(SYS_madvise, address, bytes, purge_locked)));
}

/// Whether purges leave zeros behind, once that is known. Old emulators accept the call and do
/// nothing.
constinit HardwareAtomics::Cell<bool> purges_were_seen;
constinit HardwareAtomics::Cell<bool> purges_do_nothing;

/// True unless a purge of a page of this function's own leaves its contents.
[[gnu::cold]] bool look_at_a_purge() {
  const std::size_t bytes = os_page_bytes();
  auto* const page = static_cast<volatile std::byte*>(map(bytes));
  if (page == nullptr) {
    return true;
  }
  *page = std::byte{1};
  const bool is_zero = !drop(const_cast<std::byte*>(page), bytes) || *page == std::byte{0};
  unmap(const_cast<std::byte*>(page), bytes);
  (is_zero ? purges_were_seen : purges_do_nothing).store(true, Order::relaxed);
  return is_zero;
}

bool purge(void* address, std::size_t bytes) {
  if (!purges_were_seen.load(Order::relaxed)) [[unlikely]] {
    if (purges_do_nothing.load(Order::relaxed) || !look_at_a_purge()) {
      return false;
    }
  }
  return drop(address, bytes);
}

/// Replaces a mapping, in one call of a kind that sandboxes allow.
bool replace(void* address, std::size_t bytes, int protection) {
  return !is_failure(map_anonymous(address, bytes, protection, MAP_FIXED));
}

bool forbid_access(void* address, std::size_t bytes) { return replace(address, bytes, PROT_NONE); }

bool permit_access(void* address, std::size_t bytes) {
  if (replace(address, bytes, PROT_READ | PROT_WRITE)) {
    return true;
  }
  // Where memory is accounted strictly, the kernel may have unmapped the range before it refused.
  map_anonymous(address, bytes, PROT_NONE, MAP_FIXED_NOREPLACE);
  return false;
}

void* remap(void* address, std::size_t old_bytes, std::size_t new_bytes, bool may_move) {
  const long moved =
      system_call(SYS_mremap, address, old_bytes, new_bytes, may_move ? MREMAP_MAYMOVE : 0);
  return is_failure(moved) ? nullptr : reinterpret_cast<void*>(moved);
}

void name(void* address, std::size_t bytes, const char* label) {
#if defined(PR_SET_VMA) && defined(PR_SET_VMA_ANON_NAME)
  constexpr int set_vma = PR_SET_VMA;
  constexpr unsigned long anonymous_name = PR_SET_VMA_ANON_NAME;
#else
  constexpr int set_vma = 0x53564d41;
  constexpr unsigned long anonymous_name = 0;
#endif
  if (!may_be_in_sandbox.load(Order::relaxed)) {
    system_call(SYS_prctl, set_vma, anonymous_name, address, bytes, label);
  }
}

std::size_t resident_bytes(void* address, std::size_t bytes) {
  if (may_be_in_sandbox.load(Order::relaxed)) {
    return 0;
  }
  const std::size_t os_page = os_page_bytes();
  std::size_t resident = 0;
  unsigned char states[512];
  for (std::size_t done = 0; done < bytes;) {
    const std::size_t left = (bytes - done) / os_page;
    const std::size_t count = left < sizeof(states) ? left : sizeof(states);
    if (is_failure(system_call(SYS_mincore, static_cast<std::byte*>(address) + done,
                               count * os_page, states))) {
      return 0;
    }
    for (std::size_t state = 0; state < count; ++state) {
      resident += (states[state] & 1) != 0 ? os_page : 0;
    }
    done += count * os_page;
  }
  return resident;
}

// The advice may fail: then the system backs the range as it would without.
void allow_huge_pages(void* address, std::size_t bytes) {
  system_call(SYS_madvise, address, bytes, MADV_HUGEPAGE);
}

void end_huge_pages(void* address, std::size_t bytes) {
  system_call(SYS_madvise, address, bytes, MADV_NOHUGEPAGE);
}

void split_huge_page(void* address) {
  // Linux since 5.4 splits a huge page of which a part is called cold.
  system_call(SYS_madvise, address, os_page_bytes(), cold);
}

void* map_huge(std::size_t bytes) {
  void* const address = map(bytes);
  if (address != nullptr && bytes >= Tunables::huge_page_bytes) {
    allow_huge_pages(address, bytes);
  }
  return address;
}

// ---- threads and time ---------------------------------------------------------------------------

// From linux/futex.h and linux/membarrier.h, which a system with musl may lack.
constexpr int futex_wait_private = 0 | 128;
constexpr int futex_wake_private = 1 | 128;
constexpr int membarrier_private_expedited = 1 << 3;
constexpr int membarrier_register_private_expedited = 1 << 4;

bool fence_all_threads() {
  if (may_be_in_sandbox.load(Order::relaxed)) {
    return false;
  }
  // A process must register once: until then the kernel answers EPERM. Kernels since 4.14 have it.
  const auto command = [](int what) { return system_call(SYS_membarrier, what, 0, 0) == 0; };
  return command(membarrier_private_expedited) ||
         (command(membarrier_register_private_expedited) && command(membarrier_private_expedited));
}

std::uint64_t now_milliseconds() {
  KernelTime now{};
  const ClockGetTime clock = facts().clock.load(Order::relaxed);
  if (clock == nullptr || clock(CLOCK_MONOTONIC_COARSE, &now) != 0) {
    system_call(SYS_clock_gettime, CLOCK_MONOTONIC_COARSE, &now);
  }
  return static_cast<std::uint64_t>(now.seconds) * 1000 +
         static_cast<std::uint64_t>(now.nanoseconds) / 1'000'000;
}

void wait(const std::uint32_t* word, std::uint32_t expected) {
  system_call(SYS_futex, word, futex_wait_private, expected, nullptr, nullptr, 0);
}

void wake(const std::uint32_t* word, std::uint32_t count) {
  system_call(SYS_futex, word, futex_wake_private, count, nullptr, nullptr, 0);
}

void sleep(std::uint32_t microseconds) {
  // A futex that nobody wakes: a sandbox that allows threads allows that too.
  const KernelTime time{static_cast<long>(microseconds / 1'000'000),
                        static_cast<long>(microseconds % 1'000'000) * 1000};
  const std::uint32_t word = 0;
  system_call(SYS_futex, &word, futex_wait_private, word, &time, nullptr, 0);
}

std::size_t write(int descriptor, const char* text, std::size_t bytes) {
  std::size_t done = 0;
  while (done < bytes) {
    const long step = system_call(SYS_write, descriptor, text + done, bytes - done);
    if (step > 0) {
      done += static_cast<std::size_t>(step);
    } else if (step != -EINTR) {
      break;
    }
  }
  return done;
}

int open_to_append(const char* path) {
  const long descriptor =
      system_call(SYS_openat, AT_FDCWD, path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0666);
  return is_failure(descriptor) ? -1 : static_cast<int>(descriptor);
}

void close(int descriptor) { system_call(SYS_close, descriptor); }

std::uint32_t process_id() { return static_cast<std::uint32_t>(system_call(SYS_getpid)); }

std::uint32_t thread_id() { return static_cast<std::uint32_t>(system_call(SYS_gettid)); }

constexpr Interface table = {
    .find_space = find_space,
    .is_empty = is_empty,
    .map_at = map_at,
    .map = map,
    .unmap = unmap,
    .purge = purge,
    .forbid_access = forbid_access,
    .permit_access = permit_access,
    .resident_bytes = resident_bytes,
    .allow_huge_pages = allow_huge_pages,
    .end_huge_pages = end_huge_pages,
    .split_huge_page = split_huge_page,
    .remap = remap,
    .name = name,
    .os_page_bytes = os_page_bytes,
    .address_space_limit = address_space_limit,
    .fence_all_threads = fence_all_threads,
    .now_milliseconds = now_milliseconds,
    .random_bits = random_bits,
    .wait = wait,
    .wake = wake,
    .sleep = sleep,
    .write = write,
    .open_to_append = open_to_append,
    .close = close,
    .process_id = process_id,
    .thread_id = thread_id,
};

constexpr Interface with_huge_pages() noexcept {
  Interface result = table;
  result.map = map_huge;
  result.end_huge_pages = [](void*, std::size_t) {};
  return result;
}

}  // namespace

constinit const Interface linux_interface = table;
constinit const Interface huge_page_interface = with_huge_pages();

namespace detail {

constinit HardwareAtomics::Cell<const Interface*> current{&linux_interface};

}  // namespace detail

void ask_system() noexcept { facts(); }

void expect_sandbox() noexcept { may_be_in_sandbox.store(true, Order::relaxed); }

}  // namespace slabmalloc::os
