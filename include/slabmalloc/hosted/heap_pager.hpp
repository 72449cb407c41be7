// SPDX-License-Identifier: MIT
//
// HeapPager: the frames and runs of one heap, in chunks that it maps when it needs them.
//
//   chunk 0   | the heap itself | states | frames and runs …                   M |
//   chunk 1                     | states | frames and runs …                   M |
//
//   states: a byte for each frame of the chunk          M: meta-data of the FrameAllocator
//
// A chunk has as many bytes as all chunks before it, and at least 1 MiB. If that is refused, it has
// half, and so on. So 64 chunks fill any address space. All stay mapped until the heap ends.
//
// State of a frame:
//
//   | was dirty | is dirty | order + 1, of a frame of 2^order base frames in use; else 0 |
//     1 bit       1 bit      6 bits
//
// Memory is clean as long as the system has it: it reads as zeros. It is dirty from its first use
// on, until the pager drops it. "was dirty" says so of memory in use, before that use. The thread
// that has a frame or run writes its states, so they need no lock. So a free without a size looks
// up the frame of an object without a lock, in a signal handler too.
//
// Free dirty memory is at most kept_bytes, and a quarter of the bytes in use beside. At more, the
// pager drops free dirty memory until half as much is left. So it looks at O(1) free blocks for
// each frame that it drops. If the system refuses, it tries again at twice as much. Kept memory
// comes first: the FrameAllocator takes low addresses first.
//
// It owns the FrameAllocator, the chunks and the figures of dirty memory. Invariants, with their
// lines in validate(), beside those of the FrameAllocator:
//   H2  bytes in use = those of the FrameAllocator's clients
//   H3  free dirty bytes = those of the free frames whose state says "is dirty"
//   H4  a free frame has order 0
#pragma once

#include <cstddef>
#include <cstdint>

#include "slabmalloc/base/bits.hpp"
#include "slabmalloc/hosted/process_memory.hpp"
#include "slabmalloc/kernel/frame_allocator.hpp"
#include "slabmalloc/kernel/spin_lock.hpp"
#include "slabmalloc/zone/pager.hpp"
#include "slabmalloc/zone/statistics.hpp"

namespace slabmalloc {

/// Thread: any. Context: one that may call the pager; block_at() of a frame in use: any.
template <KernelHooks Hooks, HeapMemory Memory>
class HeapPager {
  using Atomics = HardwareAtomics;
  using State = Atomics::Cell<std::uint8_t>;
  using Guard = typename SpinLock<Hooks>::Guard;

 public:
  static constexpr std::size_t base_bytes = 4096;
  static constexpr std::size_t least_chunk_bytes = std::size_t{1} << 20;
  static constexpr std::uint32_t maximum_chunks = 64;
  static constexpr std::size_t default_kept_bytes = std::size_t{64} << 20;

  /// Maps the first chunk of a heap of `own_bytes`, which begins there; null if that is refused.
  static void* map_first(std::size_t own_bytes) noexcept {
    return Memory::map(first_bytes(own_bytes));
  }
  /// Pre: `first` is of map_first(own_bytes).
  HeapPager(void* first, std::size_t own_bytes) noexcept {
    add_chunk(first, first_bytes(own_bytes), own_bytes);
  }
  HeapPager(const HeapPager&) = delete;
  HeapPager& operator=(const HeapPager&) = delete;

  /// Unmaps all chunks, the first one last. It may hold the pager.
  void unmap_all() noexcept {
    for (std::uint32_t number = chunk_count(); number-- > 0;) {
      const Chunk chunk = chunks_[number];
      Memory::unmap(reinterpret_cast<void*>(chunk.begin), chunk.bytes);
    }
  }

  // ---- frames and runs -------------------------------------------------------------------------

  std::size_t allocate_frames(std::size_t bytes, void** frames, std::size_t count) noexcept {
    const std::size_t got =
        get_or_grow(bytes, bytes, [&] { return frames_.allocate_frames(bytes, frames, count); });
    for (std::size_t number = 0; number < got; ++number) {
      begin_use(frames[number], bytes, order_of_frame(bytes) + 1);
    }
    return got;
  }
  Frame allocate_frame(std::size_t bytes) noexcept {
    void* frame = nullptr;
    allocate_frames(bytes, &frame, 1);
    return frame;
  }
  void deallocate_frame(void* frame, std::size_t bytes) noexcept {
    for (std::size_t number = 0; number < bytes / base_bytes; ++number) {
      state_of(frame)[number].store(is_dirty, Order::relaxed);
    }
    frames_.deallocate_frame(frame, bytes);
    end_use(bytes);
  }

  Frame allocate_run(std::size_t bytes, std::size_t alignment) noexcept {
    if (bytes > PTRDIFF_MAX || alignment > PTRDIFF_MAX - bytes) {
      return nullptr;
    }
    void* const run = get_or_grow(bytes, alignment,
                                  [&] { return frames_.allocate_run(bytes, alignment).address; });
    if (run != nullptr) {
      begin_use(run, align_up(bytes, base_bytes), 0);
      run_allocations_.add(1);
    }
    return run;
  }
  bool deallocate_run(void* run, std::size_t bytes, std::size_t alignment) noexcept {
    if (!frames_.deallocate_run(run, bytes, alignment)) {
      return false;
    }
    run_frees_.add(1);
    end_use(align_up(bytes, base_bytes));
    return true;
  }
  /// Clears the bytes of `run` that are not 0. Pre: nobody wrote there since allocate_run().
  void clear(void* run, std::size_t bytes) noexcept {
    const State* const states = state_of(run);
    auto* const first = static_cast<std::byte*>(run);
    for (std::size_t offset = 0; offset < bytes; offset += base_bytes) {
      if ((states[offset / base_bytes].load(Order::relaxed) & was_dirty) != 0) {
        const std::size_t left = bytes - offset;
        __builtin_memset(first + offset, 0, left < base_bytes ? left : base_bytes);
      }
    }
  }

  // ---- by address ------------------------------------------------------------------------------

  /// True if `address` lies in a chunk. Cost: O(chunks), the newest first.
  bool owns(const void* address) const noexcept { return chunk_of(address) != nullptr; }
  /// The frame in use in which `address` lies, or none. Cost: as owns(); no lock.
  [[gnu::always_inline]] PagerBlock frame_at(const void* address) const noexcept {
    const Chunk* const chunk = chunk_of(address);
    if (chunk == nullptr) [[unlikely]] {
      return {};
    }
    const auto number = reinterpret_cast<std::uintptr_t>(address);
    const std::uint32_t order =
        chunk->states[(number - chunk->begin) / base_bytes].load(Order::relaxed) & order_mask;
    if (order == 0) [[unlikely]] {
      return {};
    }
    const std::size_t bytes = base_bytes << (order - 1);
    return {reinterpret_cast<void*>(number & ~(bytes - 1)), bytes, PagerUse::Frame};
  }
  /// What lies there. Cost: as frame_at(); for all but frames in use as FrameAllocator::block_at().
  PagerBlock block_at(const void* address) const noexcept {
    const PagerBlock frame = frame_at(address);
    return frame.use == PagerUse::Frame || !owns(address) ? frame : frames_.block_at(address);
  }

  // ---- dirty memory ----------------------------------------------------------------------------

  /// Thread: any; it counts from the next free on.
  void set_kept_bytes(std::size_t bytes) noexcept { kept_bytes_.store(bytes, Order::relaxed); }

  /// Drops free dirty memory until at most `left` bytes of it are there; returns how many it
  /// dropped. 0 if another thread does so just now.
  std::size_t drop_free(std::size_t left) noexcept {
    std::size_t sum = 0;
    std::size_t dropped = 0;
    // Again for what others freed meanwhile: they saw that this goes on, and left it to it.
    do {
      if (is_dropping_.exchange(true, Order::relaxed)) {
        return sum;
      }
      dropped = 0;
      bool can_more = true;
      frames_.for_each_block([&](void* address, std::size_t bytes, FrameUse use) {
        auto* next = static_cast<std::byte*>(address);
        while (use == FrameUse::Free && bytes != 0 && free_dirty_bytes() > left) {
          const std::size_t step = bytes < drop_step_bytes ? bytes : drop_step_bytes;
          dropped += drop(next, step, can_more);
          next += step;
          bytes -= step;
        }
      });
      retry_bytes_.store(can_more ? 0 : 2 * free_dirty_bytes(), Order::relaxed);
      is_dropping_.store(false, Order::relaxed);
      sum += dropped;
    } while (dropped != 0 && free_dirty_bytes() > left);
    return sum;
  }

  // ---- figures and checks ----------------------------------------------------------------------

  std::size_t mapped_bytes() const noexcept { return mapped_bytes_.get(); }
  std::size_t used_bytes() const noexcept { return used_bytes_.get(); }
  /// Frees of other threads may come in between: never below 0.
  std::size_t free_dirty_bytes() const noexcept {
    const auto bytes = static_cast<std::ptrdiff_t>(free_dirty_bytes_.get());
    return bytes > 0 ? static_cast<std::size_t>(bytes) : 0;
  }
  std::size_t run_allocations() const noexcept { return run_allocations_.get(); }
  std::size_t run_frees() const noexcept { return run_frees_.get(); }

  /// The first broken invariant, or null. Pre: nobody uses it.
  const char* validate() const noexcept {
    const char* const broken = frames_.validate();
    if (broken != nullptr) {
      return broken;
    }
    std::size_t dirty = 0;
    bool has_order = false;
    frames_.for_each_block([&](void* address, std::size_t bytes, FrameUse use) {
      for (std::size_t number = 0; use == FrameUse::Free && number < bytes / base_bytes; ++number) {
        const std::uint8_t state = state_of(address)[number].load(Order::relaxed);
        dirty += (state & is_dirty) != 0 ? base_bytes : 0;
        has_order = has_order || (state & order_mask) != 0;
      }
    });
    if (used_bytes() != frames_.statistics().used_bytes) {
      return "H2: bytes in use = those of the FrameAllocator's clients";
    }
    if (dirty != free_dirty_bytes()) {
      return "H3: free dirty bytes = those of free frames that are dirty";
    }
    return has_order ? "H4: a free frame has order 0" : nullptr;
  }

 private:
  static constexpr std::uint8_t order_mask = 0x3f;
  static constexpr std::uint8_t is_dirty = 0x40;
  static constexpr std::uint8_t was_dirty = 0x80;
  /// Bounds the time for which others wait for memory that is being dropped.
  static constexpr std::size_t drop_step_bytes = std::size_t{4} << 20;

  struct Chunk {
    std::uintptr_t begin;
    std::size_t bytes;
    State* states;
  };

  static constexpr std::size_t first_bytes(std::size_t own_bytes) noexcept {
    return align_up(own_bytes, base_bytes) + least_chunk_bytes;
  }
  static constexpr std::uint32_t order_of_frame(std::size_t bytes) noexcept {
    return highest_bit(bytes / base_bytes);
  }

  /// Order: acquire, with the release in add_chunk(): the caller sees the new chunk's entry.
  std::uint32_t chunk_count() const noexcept { return chunk_count_.load(Order::acquire); }
  const Chunk* chunk_of(const void* address) const noexcept {
    const auto number = reinterpret_cast<std::uintptr_t>(address);
    for (const Chunk* chunk = chunks_ + chunk_count(); chunk-- != chunks_;) {
      if (number - chunk->begin < chunk->bytes) {
        return chunk;
      }
    }
    return nullptr;
  }
  /// Pre: a frame of a chunk begins at `address`.
  State* state_of(const void* address) const noexcept {
    const Chunk* const chunk = chunk_of(address);
    return chunk->states + (reinterpret_cast<std::uintptr_t>(address) - chunk->begin) / base_bytes;
  }

  // ---- use -------------------------------------------------------------------------------------

  /// Pre: the caller has just got the memory.
  void begin_use(void* memory, std::size_t bytes, std::uint32_t order) noexcept {
    State* const states = state_of(memory);
    std::size_t dirty = 0;
    for (std::size_t number = 0; number < bytes / base_bytes; ++number) {
      const bool was = (states[number].load(Order::relaxed) & is_dirty) != 0;
      dirty += was ? base_bytes : 0;
      states[number].store(
          static_cast<std::uint8_t>(order | is_dirty | (was ? was_dirty : std::uint8_t{0})),
          Order::relaxed);
    }
    free_dirty_bytes_.subtract(dirty);
    used_bytes_.add(bytes);
  }
  void end_use(std::size_t bytes) noexcept {
    used_bytes_.subtract(bytes);
    free_dirty_bytes_.add(bytes);
    const std::size_t kept = kept_bytes_.load(Order::relaxed);
    const std::size_t most = kept != 0 ? kept + used_bytes() / 4 : 0;
    const std::size_t free = free_dirty_bytes();
    if (free > most && free > retry_bytes_.load(Order::relaxed)) {
      drop_free(most / 2);
    }
  }

  /// Drops the memory if it is still free; returns its dirty bytes. `can_more` becomes false if the
  /// system cannot, or refuses. Who finds no memory meanwhile waits in get_or_grow().
  std::size_t drop(std::byte* memory, std::size_t bytes, bool& can_more) noexcept {
    const auto address = reinterpret_cast<std::uintptr_t>(memory);
    const std::size_t page = Memory::page_bytes() > base_bytes ? Memory::page_bytes() : base_bytes;
    const std::uintptr_t begin = align_up(address, page);
    const std::uintptr_t end = (address + bytes) & ~(page - 1);
    if (begin >= end) {
      can_more = false;
      return 0;
    }
    void* const first = reinterpret_cast<void*>(begin);
    State* const states = state_of(first);
    const auto dirty_bytes = [&] {
      std::size_t dirty = 0;
      for (std::size_t number = 0; number < (end - begin) / base_bytes; ++number) {
        dirty += (states[number].load(Order::relaxed) & is_dirty) != 0 ? base_bytes : 0;
      }
      return dirty;
    };
    if (dirty_bytes() == 0) {
      return 0;
    }
    const Guard guard(growth_lock_);
    if (frames_.allocate_run_at(first, end - begin).address == nullptr) {
      return 0;
    }
    const std::size_t dirty = Memory::drop(first, end - begin) ? dirty_bytes() : 0;
    can_more = can_more && dirty != 0;
    for (std::size_t number = 0; dirty != 0 && number < (end - begin) / base_bytes; ++number) {
      states[number].store(0, Order::relaxed);
    }
    free_dirty_bytes_.subtract(dirty);
    frames_.deallocate_run(first, end - begin, base_bytes);
    return dirty;
  }

  // ---- chunks ----------------------------------------------------------------------------------

  /// What get() gets, if need be from a new chunk.
  template <class Get>
  auto get_or_grow(std::size_t bytes, std::size_t alignment, Get&& get) noexcept {
    auto got = get();
    if (!got) [[unlikely]] {
      const Guard guard(growth_lock_);
      got = get();
      // Others may take the memory of the new chunk first.
      while (!got && map_chunk(bytes, alignment)) {
        got = get();
      }
    }
    return got;
  }
  /// Maps a chunk with room for a run of `bytes` at `alignment`. Thread: holder of growth_lock_.
  [[gnu::cold, gnu::noinline]] bool map_chunk(std::size_t bytes, std::size_t alignment) noexcept {
    if (chunk_count() == maximum_chunks) {
      return false;
    }
    const std::size_t unit = Memory::page_bytes() > base_bytes ? Memory::page_bytes() : base_bytes;
    // States are 1/4096, and the meta-data of the FrameAllocator about as much.
    const std::size_t room = bytes + alignment;
    const std::size_t least = align_up(room + room / 1024 + 4 * base_bytes, unit);
    std::size_t wanted = mapped_bytes() < least_chunk_bytes ? least_chunk_bytes : mapped_bytes();
    for (wanted = align_up(wanted, unit); wanted > least; wanted = align_up(wanted / 2, unit)) {
      if (void* const memory = Memory::map(wanted)) {
        return add_chunk(memory, wanted, 0);
      }
      if (wanted <= least_chunk_bytes) {
        break;
      }
    }
    void* const memory = Memory::map(least);
    return memory != nullptr && add_chunk(memory, least, 0);
  }
  /// Order: release, with the acquire in chunk_count().
  bool add_chunk(void* memory, std::size_t bytes, std::size_t own_bytes) noexcept {
    const auto begin = reinterpret_cast<std::uintptr_t>(memory);
    const std::uint32_t number = chunk_count_.load(Order::relaxed);
    const std::size_t states_at = align_up(own_bytes, alignof(State));
    const std::size_t frames_at = align_up(states_at + bytes / base_bytes, base_bytes);
    // Zero bytes of the system are states already.
    chunks_[number] = {begin, bytes, reinterpret_cast<State*>(begin + states_at)};
    chunk_count_.store(number + 1, Order::release);
    mapped_bytes_.add(bytes);
    const MemoryRegion region{begin + frames_at, bytes - frames_at};
    require<Hooks>(static_cast<bool>(frames_.add(&region, 1)), "a chunk has room for its frames");
    return true;
  }

  FrameAllocator<Hooks, base_bytes> frames_;
  SpinLock<Hooks> growth_lock_;
  Atomics::Cell<bool> is_dropping_;
  Atomics::Cell<std::uint32_t> chunk_count_;
  Atomics::Cell<std::size_t> kept_bytes_{default_kept_bytes};
  Atomics::Cell<std::size_t> retry_bytes_;  ///< Not 0: the system did not take all.
  SharedCounter<Atomics> mapped_bytes_;
  SharedCounter<Atomics> used_bytes_;
  SharedCounter<Atomics> free_dirty_bytes_;
  SharedCounter<Atomics> run_allocations_;
  SharedCounter<Atomics> run_frees_;
  Chunk chunks_[maximum_chunks] = {};
};

}  // namespace slabmalloc
