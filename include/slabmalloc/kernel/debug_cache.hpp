// SPDX-License-Identifier: MIT
//
// The debug mode of an object cache. Its objects stay constructed while they are free, so it keeps
// sums of their bytes, where a heap fills free blocks with a pattern (object_record.hpp).
//
//   allocate ─► context, failure plan ─► the zones' allocate ─► check, record, shadow, trace
//   free     ─► find, check, record, sums, shadow, trace ─► delayed ─► check ─► the zones' free
//
// Invariants: D1 to D4 and D6 of each object, and those of DebugCore.
#pragma once

#include <cstddef>
#include <cstdint>

#include "slabmalloc/kernel/debug_mode.hpp"
#include "slabmalloc/kernel/object_checks.hpp"

namespace slabmalloc {

template <KernelHooks Hooks, class Config>
using CacheDebugCore = DebugCore<Hooks, Config, ObjectChecks<Hooks, typename Config::BasePage>>;

/// The debug mode of the zones of one cache, a `Heap` that is its friend.
/// Thread: any, in any context, where not said otherwise.
template <KernelHooks Hooks, class Zone, class Config>
  requires(Config::Debug::is_on && Config::SizeClasses::max_size == 0)
class DebugMode<Hooks, Zone, Config> : public CacheDebugCore<Hooks, Config> {
  using Core = CacheDebugCore<Hooks, Config>;

 public:
  using typename Core::Block;
  using typename Core::Caller;
  using typename Core::Checks;
  template <class Life>
  using Frames = DebugFrames<Hooks, Life, Checks>;

  /// Pre: the shape of `life` outlives it.
  template <class Life>
  constexpr explicit DebugMode(const Life& life) noexcept
      : Core(life.shape(), Config::type_stable ? FreeContent::Shared : life.free_content()) {}

  /// The life of the frames.
  template <class Life>
  constexpr Frames<Life> frames(Life life) noexcept {
    return {life, this->checks_};
  }

  /// An object, or null.
  template <class Heap>
  [[gnu::noinline]] void* allocate(Heap& heap, Context context, Caller caller) noexcept {
    void* const object = allocate_checked(heap, context, caller);
    trace_event<Hooks>({HeapEvent::Kind::Allocate, object, this->checks_.client_bytes(), context,
                        caller, this->name()});
    return object;
  }

  template <class Heap>
  [[gnu::noinline]] void deallocate(Heap& heap, void* object, Caller caller) noexcept {
    if (object == nullptr) {
      return;
    }
    const BlockUser user = block_user<Hooks>(caller);
    const Block block = this->checks_.find(object, 0, Checks::any_size, user);
    // A free tells no context.
    if (!block || !this->begin_free(block, Context::MayWait, user)) {
      return;
    }
    this->checks_.end_content(block);
    block.record->end_use(user);
    if (this->checks_.content() != FreeContent::Shared) {
      poison_shadow<Hooks>(block.begin, this->checks_.client_bytes());
    }
    this->flush_if_wanted(heap);
    this->delay(heap, {block.begin, 0, static_cast<std::uint32_t>(block.bytes)});
  }

 private:
  template <class Heap>
  void* allocate_checked(Heap& heap, Context context, Caller caller) noexcept {
    const BlockUser user = block_user<Hooks>(caller);
    this->check_allocation(heap, context, false, user);
    this->flush_if_wanted(heap);
    if (this->plan_.is_due()) {
      return nullptr;
    }
    const Result<void*> object = this->allocate_or_flush(heap, context, [&](Context one) {
      return heap.allocate_of(typename Heap::Numbered{0}, one);
    });
    if (!object) {
      return nullptr;
    }
    const Block block(object.value(), this->checks_.slots().size_of(0), false);
    this->check_free(block, user);
    block.record->begin_use(&this->checks_.owner(), this->checks_.client_bytes(), user);
    unpoison_shadow<Hooks>(block.begin, this->checks_.client_bytes());
    return block.begin;
  }
};

}  // namespace slabmalloc
