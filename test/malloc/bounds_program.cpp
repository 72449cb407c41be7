// SPDX-License-Identifier: MIT
//
// A correct program that makes random calls of the malloc at a bound of the kernel, on two threads
// that free the blocks of each other. It knows what each block holds.
//
//   bounds_program BOUND ROOM SEED
//
//   address_space    RLIMIT_AS leaves ROOM MiB more than is mapped
//   data             RLIMIT_DATA leaves ROOM MiB more than is writable
//   mappings         the limit on mappings leaves ROOM more
//   resident         all blocks are written. The process may have ROOM MiB more in memory, of those
//                    that the option hard_limit allows
//   given            the caller has set a soft limit of resources
//
// At the bound a call succeeds or returns null with ENOMEM. When it is lifted, every call succeeds.
// Prints the calls and the refused ones. Exits with 0 if all went well, with 77 if there is no such
// bound here.
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <barrier>
#include <cstdint>
#include <thread>
#include <utility>

#include "scenarios/random.hpp"
#include "support/pattern.hpp"

namespace {

using slabmalloc::test::fill_pattern;
using slabmalloc::test::holds_pattern;
using slabmalloc::test::holds_zeroes;

constexpr size_t kibibyte = 1024;
constexpr size_t mebibyte = size_t{1} << 20;
constexpr int strange_errno = 12345;
constexpr int steps = 500;

void expect(bool is_so, const char* what) {
  if (!is_so) {
    fprintf(stderr, "not so: %s (errno %d)\n", what, errno);
    _exit(1);
  }
}

// ---- the process --------------------------------------------------------------------------------

/// Of /proc/self/statm, in bytes.
struct Memory {
  size_t mapped = 0;
  size_t resident = 0;
  size_t writable = 0;

  /// Does not allocate.
  static Memory now() {
    char text[256] = {};
    const int file = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
    expect(file >= 0 && read(file, text, sizeof text - 1) > 0, "the process knows its memory");
    close(file);
    unsigned long pages[6] = {};
    char* rest = text;
    for (unsigned long& one : pages) {
      one = strtoul(rest, &rest, 10);
    }
    const auto page_bytes = static_cast<size_t>(sysconf(_SC_PAGESIZE));
    return {pages[0] * page_bytes, pages[1] * page_bytes, pages[5] * page_bytes};
  }
};

void set_soft_limit(__rlimit_resource resource, rlim_t bytes) {
  rlimit limit{};
  getrlimit(resource, &limit);
  limit.rlim_cur = std::min(bytes, limit.rlim_max);
  expect(setrlimit(resource, &limit) == 0, "the limit can be set");
}

constexpr size_t region_pages = 140'000;
char* region = nullptr;

/// Leaves the process as many mappings of those that the kernel allows. Each second page becomes a
/// mapping of its own, until the kernel refuses.
void use_up_mappings(size_t left) {
  const auto page_bytes = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  void* const got = mmap(nullptr, region_pages * page_bytes, PROT_NONE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  expect(got != MAP_FAILED, "the program can map");
  region = static_cast<char*>(got);
  size_t page = 0;
  while (page < region_pages && mprotect(region + page * page_bytes, page_bytes, PROT_READ) == 0) {
    page += 2;
  }
  if (page >= region_pages) {
    _exit(77);
  }
  for (size_t freed = 0; freed < left; freed += 2) {
    page -= 2;
    expect(mprotect(region + page * page_bytes, page_bytes, PROT_NONE) == 0, "mappings can join");
  }
}

// ---- the calls ----------------------------------------------------------------------------------

bool may_refuse = true;
bool writes_all = false;
size_t most_resident = ~size_t{0};

class Model {
 public:
  explicit Model(std::uint64_t seed) : random_(seed) {}

  void run(int count) {
    for (int step = 0; step < count; ++step) {
      act();
      if (most_resident != ~size_t{0} && step % 16 == 0) {
        expect(Memory::now().resident <= most_resident, "memory is within its bound");
      }
    }
  }
  void swap_blocks(Model& other) {
    std::swap(blocks_, other.blocks_);
    std::swap(count_, other.count_);
  }
  void free_all() {
    while (count_ != 0) {
      free_block(count_ - 1);
    }
  }
  size_t calls() const { return calls_; }
  size_t refused() const { return refused_; }

 private:
  struct Block {
    char* address;
    size_t bytes;
  };
  static constexpr size_t most_blocks = 400;
  static constexpr size_t marked_bytes = 64;

  void act() {
    ++calls_;
    bytes_ = some_bytes();
    const size_t alignment = size_t{16} << random_.below(random_.one_in(4) ? 20 : 9);
    errno = strange_errno;
    if (count_ == most_blocks) {
      return free_block(random_.below(count_));
    }
    switch (random_.below(8)) {
      case 0:
      case 1:
        return add(malloc(bytes_));
      case 2: {
        void* const block = calloc(1, bytes_);
        const size_t checked = writes_all ? bytes_ : std::min(bytes_, size_t{4096});
        expect(block == nullptr || holds_zeroes(block, checked), "calloc gives zeros");
        return add(block);
      }
      case 3: {
        void* const block = aligned_alloc(alignment, bytes_);
        expect(reinterpret_cast<uintptr_t>(block) % alignment == 0, "alignments are kept");
        return add(block);
      }
      case 4:
      case 5:
        return count_ != 0 ? resize_block(random_.below(count_)) : void();
      case 6:
        if (random_.one_in(50)) {
          malloc_trim(0);
          return expect(errno == strange_errno, "malloc_trim keeps errno");
        }
        [[fallthrough]];
      default:
        return count_ != 0 ? free_block(random_.below(count_)) : void();
    }
  }

  size_t some_bytes() {
    switch (random_.below(16)) {
      case 0:
        return random_.between(1, 300) * mebibyte / 8;
      case 1:
      case 2:
        return random_.between(32 * kibibyte, 1024 * kibibyte);
      case 3:
      case 4:
      case 5:
        return random_.between(1, 32 * kibibyte);
      default:
        return random_.between(1, 600);
    }
  }

  bool is_given(const void* block) {
    if (block != nullptr) {
      expect(errno == strange_errno, "a call that succeeds keeps errno");
      return true;
    }
    ++refused_;
    expect(errno == ENOMEM, "a call that fails sets ENOMEM");
    expect(may_refuse, "memory is given where no bound is");
    return false;
  }

  void add(void* given) {
    if (!is_given(given)) {
      return;
    }
    auto* const block = static_cast<char*>(given);
    for (size_t number = 0; number < count_; ++number) {
      const Block& other = blocks_[number];
      expect(block + bytes_ <= other.address || other.address + other.bytes <= block,
             "blocks lie apart");
    }
    if (writes_all) {
      memset(block, 1, bytes_);
    }
    mark({block, bytes_});
    blocks_[count_++] = {block, bytes_};
  }

  void free_block(size_t number) {
    check(blocks_[number]);
    errno = strange_errno;
    free(blocks_[number].address);
    expect(errno == strange_errno, "free keeps errno");
    blocks_[number] = blocks_[--count_];
  }

  void resize_block(size_t number) {
    const Block block = blocks_[number];
    check(block);
    errno = strange_errno;
    auto* const moved = static_cast<char*>(realloc(block.address, bytes_));
    if (moved == nullptr) {
      expect(bytes_ > block.bytes, "making a block smaller always succeeds");
      is_given(nullptr);
      return check(block);
    }
    const size_t kept = std::min({block.bytes, bytes_, marked_bytes});
    expect(holds_pattern(moved, kept, key_of(block.address)), "realloc keeps the contents");
    blocks_[number] = blocks_[--count_];
    add(moved);
  }

  // The end first: the start counts where both are one.
  static void mark(const Block& block) {
    if (block.bytes > 2 * marked_bytes) {
      fill_pattern(block.address + block.bytes - marked_bytes, marked_bytes, block.bytes);
    }
    fill_pattern(block.address, std::min(block.bytes, marked_bytes), key_of(block.address));
  }
  static void check(const Block& block) {
    expect(holds_pattern(block.address, std::min(block.bytes, marked_bytes), key_of(block.address)),
           "the start of a block is whole");
    expect(block.bytes <= 2 * marked_bytes ||
               holds_pattern(block.address + block.bytes - marked_bytes, marked_bytes, block.bytes),
           "the end of a block is whole");
  }
  static std::uint64_t key_of(const char* address) { return reinterpret_cast<uintptr_t>(address); }

  slabmalloc::scenario::Random random_;
  Block blocks_[most_blocks] = {};
  size_t count_ = 0;
  size_t bytes_ = 0;
  size_t calls_ = 0;
  size_t refused_ = 0;
};

void set_bound(const char* bound, size_t room) {
  const Memory now = Memory::now();
  if (strcmp(bound, "address_space") == 0) {
    set_soft_limit(RLIMIT_AS, now.mapped + room * mebibyte);
  } else if (strcmp(bound, "data") == 0) {
    set_soft_limit(RLIMIT_DATA, now.writable + room * mebibyte);
  } else if (strcmp(bound, "mappings") == 0) {
    use_up_mappings(room);
  } else if (strcmp(bound, "resident") == 0) {
    writes_all = true;
    most_resident = now.resident + room * mebibyte;
  } else {
    expect(strcmp(bound, "given") == 0, "the bound is known");
  }
}

/// False if the bound stays.
bool lift_bound() {
  set_soft_limit(RLIMIT_AS, RLIM_INFINITY);
  set_soft_limit(RLIMIT_DATA, RLIM_INFINITY);
  if (region != nullptr) {
    munmap(region, region_pages * static_cast<size_t>(sysconf(_SC_PAGESIZE)));
  }
  return most_resident == ~size_t{0};
}

}  // namespace

int main(int count, char** arguments) {
  if (count != 4) {
    return 2;
  }
  const std::uint64_t seed = strtoull(arguments[3], nullptr, 0);
  static Model models[2] = {Model(seed), Model(seed + 1)};
  std::barrier both(2);
  size_t in_use_before = 0;
  const auto run = [&](size_t number) {
    both.arrive_and_wait();
    models[number].run(steps);
    both.arrive_and_wait();
    if (number == 0) {
      models[0].swap_blocks(models[1]);
    }
    both.arrive_and_wait();
    models[number].run(steps);
    both.arrive_and_wait();
    if (number == 0) {
      may_refuse = !lift_bound();
    }
    both.arrive_and_wait();
    models[number].run(steps / 2);
    models[number].free_all();
  };
  std::thread other([&] { run(1); });
  in_use_before = mallinfo2().uordblks;
  set_bound(arguments[1], strtoull(arguments[2], nullptr, 0));
  run(0);
  other.join();
  malloc_trim(0);
  expect(mallinfo2().uordblks <= in_use_before, "nothing is lost");
  printf("%zu calls, %zu refused\n", models[0].calls() + models[1].calls(),
         models[0].refused() + models[1].refused());
  return 0;
}
