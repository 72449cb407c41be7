// SPDX-License-Identifier: MIT
//
// The operating system interface on Linux: thin calls into the C library. Each restores errno,
// since malloc and free must not change it on success.
#include <errno.h>
#include <linux/futex.h>
#include <linux/membarrier.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "os/os.hpp"
#include "tunables.hpp"

namespace slabmalloc::os {
namespace {

/// Restores errno at the end of the scope.
class ErrnoKeeper {
 public:
  ErrnoKeeper() noexcept : saved_(errno) {}
  ~ErrnoKeeper() { errno = saved_; }
  ErrnoKeeper(const ErrnoKeeper&) = delete;
  ErrnoKeeper& operator=(const ErrnoKeeper&) = delete;

 private:
  int saved_;
};

constexpr int anonymous = MAP_PRIVATE | MAP_ANONYMOUS;
constexpr int read_write = PROT_READ | PROT_WRITE;

std::uintptr_t find_space(std::size_t bytes) {
  // The kernel chooses the highest gap that fits, and the high end of that gap. With address space
  // randomisation the gap is at a random address. After the munmap, later mappings come from this
  // gap, again from its high end.
  const ErrnoKeeper keeper;
  void* const address = mmap(nullptr, bytes, PROT_NONE, anonymous | MAP_NORESERVE, -1, 0);
  if (address == MAP_FAILED || munmap(address, bytes) != 0) {
    return 0;
  }
  return reinterpret_cast<std::uintptr_t>(address);
}

MapOutcome map_at(void* address, std::size_t bytes) {
  const ErrnoKeeper keeper;
  void* const got = mmap(address, bytes, read_write, anonymous | MAP_FIXED_NOREPLACE, -1, 0);
  if (got == MAP_FAILED) {
    // Past the end of the address space a fixed mapping fails with ENOMEM or EINVAL. ENOMEM can
    // also mean that memory is short. No other address helps then.
    return errno == EEXIST || errno == EINVAL || errno == EPERM ? MapOutcome::Occupied
                                                                : MapOutcome::Exhausted;
  }
  if (got != address) {
    // Kernels before 4.17 treat the address as a hint.
    munmap(got, bytes);
    return MapOutcome::Occupied;
  }
  return MapOutcome::Mapped;
}

void* map(std::size_t bytes) {
  const ErrnoKeeper keeper;
  void* const address = mmap(nullptr, bytes, read_write, anonymous, -1, 0);
  return address == MAP_FAILED ? nullptr : address;
}

bool unmap(void* address, std::size_t bytes) {
  const ErrnoKeeper keeper;
  return munmap(address, bytes) == 0;
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

bool purge(void* address, std::size_t bytes) {
  // EINVAL tells of locked memory. Kernels since 5.18 have a call of its own for that.
  const ErrnoKeeper keeper;
  return madvise(address, bytes, MADV_DONTNEED) == 0 ||
         (errno == EINVAL && madvise(address, bytes, purge_locked) == 0);
}

void* remap(void* address, std::size_t old_bytes, std::size_t new_bytes, bool may_move) {
  const ErrnoKeeper keeper;
  void* const moved = mremap(address, old_bytes, new_bytes, may_move ? MREMAP_MAYMOVE : 0);
  return moved == MAP_FAILED ? nullptr : moved;
}

void name(void* address, std::size_t bytes, const char* label) {
#if defined(PR_SET_VMA) && defined(PR_SET_VMA_ANON_NAME)
  constexpr int set_vma = PR_SET_VMA;
  constexpr unsigned long anonymous_name = PR_SET_VMA_ANON_NAME;
#else
  constexpr int set_vma = 0x53564d41;
  constexpr unsigned long anonymous_name = 0;
#endif
  const ErrnoKeeper keeper;
  prctl(set_vma, anonymous_name, address, bytes, label);
}

std::size_t os_page_bytes() {
  // getauxval() works before the C library's start-up code has run; sysconf() may not.
  const ErrnoKeeper keeper;
  const unsigned long bytes = getauxval(AT_PAGESZ);
  return bytes != 0 ? bytes : 4096;
}

std::size_t resident_bytes(void* address, std::size_t bytes) {
  const ErrnoKeeper keeper;
  const std::size_t os_page = os_page_bytes();
  std::size_t resident = 0;
  unsigned char states[512];
  for (std::size_t done = 0; done < bytes;) {
    const std::size_t left = (bytes - done) / os_page;
    const std::size_t count = left < sizeof(states) ? left : sizeof(states);
    if (mincore(static_cast<std::byte*>(address) + done, count * os_page, states) != 0) {
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
  const ErrnoKeeper keeper;
  madvise(address, bytes, MADV_HUGEPAGE);
}

void end_huge_pages(void* address, std::size_t bytes) {
  const ErrnoKeeper keeper;
  madvise(address, bytes, MADV_NOHUGEPAGE);
}

void split_huge_page(void* address) {
  // Linux since 5.4 splits a huge page of which a part is called cold.
  const ErrnoKeeper keeper;
  madvise(address, os_page_bytes(), cold);
}

void* map_huge(std::size_t bytes) {
  void* const address = map(bytes);
  if (address != nullptr && bytes >= Tunables::huge_page_bytes) {
    allow_huge_pages(address, bytes);
  }
  return address;
}

std::size_t address_space_limit() {
  const ErrnoKeeper keeper;
  rlimit limit{};
  if (getrlimit(RLIMIT_AS, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY ||
      limit.rlim_cur >= unlimited) {
    return unlimited;
  }
  return static_cast<std::size_t>(limit.rlim_cur);
}

bool fence_all_threads() {
  // A process must register once: until then the kernel answers EPERM. Kernels since 4.14 have it.
  const ErrnoKeeper keeper;
  const auto command = [](int what) { return syscall(SYS_membarrier, what, 0, 0) == 0; };
  return command(MEMBARRIER_CMD_PRIVATE_EXPEDITED) ||
         (command(MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED) &&
          command(MEMBARRIER_CMD_PRIVATE_EXPEDITED));
}

std::uint64_t now_milliseconds() {
  const ErrnoKeeper keeper;
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
  return static_cast<std::uint64_t>(now.tv_sec) * 1000 +
         static_cast<std::uint64_t>(now.tv_nsec) / 1000000;
}

std::uint64_t random_bits() {
  // The kernel stores 16 random bytes in the image of every new program.
  const ErrnoKeeper keeper;
  const auto* const bytes = reinterpret_cast<const unsigned char*>(getauxval(AT_RANDOM));
  std::uint64_t bits = 0;
  if (bytes != nullptr) {
    __builtin_memcpy(&bits, bytes + 8, sizeof(bits));
  }
  return bits;
}

void wait(const std::uint32_t* word, std::uint32_t expected) {
  const ErrnoKeeper keeper;
  syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, expected, nullptr, nullptr, 0);
}

void wake(const std::uint32_t* word, std::uint32_t count) {
  const ErrnoKeeper keeper;
  syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, count, nullptr, nullptr, 0);
}

void sleep(std::uint32_t microseconds) {
  // A futex that nobody wakes. A sandbox that allows threads allows that too, and it is no point of
  // cancellation. The kernel's structure has two of its words, whatever the C library's has.
  struct {
    long seconds;
    long nanoseconds;
  } const time{static_cast<long>(microseconds / 1'000'000),
               static_cast<long>(microseconds % 1'000'000) * 1000};
  const ErrnoKeeper keeper;
  const std::uint32_t word = 0;
  syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, word, &time, nullptr, 0);
}

std::size_t write(int descriptor, const char* text, std::size_t bytes) {
  const ErrnoKeeper keeper;
  std::size_t done = 0;
  while (done < bytes) {
    const ssize_t step = ::write(descriptor, text + done, bytes - done);
    if (step > 0) {
      done += static_cast<std::size_t>(step);
    } else if (step == 0 || errno != EINTR) {
      break;
    }
  }
  return done;
}

std::uint32_t process_id() { return static_cast<std::uint32_t>(getpid()); }

std::uint32_t thread_id() { return static_cast<std::uint32_t>(syscall(SYS_gettid)); }

constexpr Interface table = {
    .find_space = find_space,
    .map_at = map_at,
    .map = map,
    .unmap = unmap,
    .purge = purge,
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
}  // namespace slabmalloc::os
