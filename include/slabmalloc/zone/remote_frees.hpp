// SPDX-License-Identifier: MIT
//
// RemoteFrees: the frees that pass between a zone and the owners of other pages.
//
//   out   gather ──► remote buffer ──► a page's remote bitmap, its owner's inbox
//                          └── by the zone's slow paths, or by a scavenger
//   in    inbox ──► the page's class ──► its empty pages are let go
//            └── a few pages at a time by slow paths, at the latest every claims_per_drain claims; wholly by drain()
//
// A zone whose thread sleeps for ever does neither, so there are two calls for scavengers: one to what it gathered, one
// to its queue (docs/CONCURRENCY.md, Scavenging). What it holds is bounded by the remote buffer, and by nothing on the inbox.
#pragma once

#include <cstddef>
#include <cstdint>

#include "slabmalloc/zone/remote_buffer.hpp"
#include "slabmalloc/zone/zone_pages.hpp"

namespace slabmalloc {

/// The inbox and the remote buffer of a zone. Thread: the owner, where nothing else is said.
template <class ConfigT, Pager PagerT>
class RemoteFrees : public ZonePages<ConfigT, PagerT> {
  using Base = ZonePages<ConfigT, PagerT>;

 public:
  using typename Base::Atomics;
  using typename Base::Config;
  using typename Base::Header;

  /// Delivers what the remote buffer holds and takes in every free by others that was announced, but for
  /// what a scavenger holds whom the pager cannot stop. Thread: owner. Cost: O(queued pages).
  [[gnu::noinline]] void drain() noexcept {
    remote_.flush_all();
    if (lock_after_scavenging()) {
      while (drain_queued_page()) {
      }
      owner_.unlock();
    }
  }

  /// Delivers what the remote buffer holds, or some of it, and takes in up to `pages` queued pages. Thread: owner.
  void drain_some(std::uint32_t pages = Config::drain_pages) noexcept {
    claims_since_drain_ = 0;
    remote_.flush_some(Config::flush_words);
    for (; pages != 0 && drain_queued_page(); --pages) {
    }
  }

  /// True if frees wait here: others' of this zone's objects, announced, or this zone's of others' objects,
  /// gathered. Thread: any; a hint.
  bool has_remote_frees() const noexcept { return owner_.has_remote_frees() || remote_.holds_some(); }

  /// Frees slot `slot` of another owner's page along with others of its word; false if there are none,
  /// and then nothing is done. Thread: owner. Cost: constant, no call.
  [[gnu::always_inline]] bool merge_remote(const Header* page, std::uint32_t slot) noexcept {
    return remote_.merge(page, slot);
  }

  // ---- for scavengers: threads that look after a zone whose owner may sleep for ever ------------------

  /// See Owner. Thread: any but the owner.
  bool has_queued_pages() const noexcept { return owner_.has_queued_pages(); }
  bool has_drained_since() noexcept { return owner_.has_drained_since(); }
  template <class Fence, class Done>
  bool scavenge_queue(Fence&& fence, std::uint32_t most, Done&& done) noexcept {
    return owner_.scavenge_queue(fence, most, done);
  }

  /// True if frees of others' objects are gathered here. Thread: any; a hint.
  bool has_buffered_frees() const noexcept { return remote_.holds_some(); }

  using BufferedFrees = typename RemoteBuffer<Atomics, Config::remote_buffer_entries>::BufferedFrees;

  /// Takes out the frees that this zone gathered, for the caller to deliver: their owners wait for them. Nothing
  /// if there are none, the owner is at it or there is no fence. Thread: any. `fence` is as in AsymmetricLock::try_lock_scavenger().
  template <class Fence>
  BufferedFrees take_buffered(Fence&& fence) noexcept {
    return remote_.take_all(fence);
  }

 protected:
  using Base::groups_;
  using Base::owner_;
  using Base::pager_;

  using Base::Base;

  /// Counts a claim that needed no other page; every claims_per_drain of them take in up to `pages` queued pages. A class
  /// whose words become free again in time would need nothing further, for ever.
  [[gnu::always_inline]] void count_claim(std::uint32_t pages) noexcept {
    if (++claims_since_drain_ == Config::claims_per_drain) [[unlikely]] {
      drain_some(pages);
    }
  }

  /// Keeps a free of another owner's object for a while, where that is allowed.
  void gather(const RemoteFree<Atomics>& free) noexcept {
    if (Config::hardened || free.geometry->object_size > Config::remote_buffer_max_object_bytes) {
      free.deliver();
    } else {
      remote_.add(free, Config::remote_buffer_bytes);
    }
  }

  /// Bytes of others' objects whose frees are gathered here.
  std::size_t buffered_bytes() const noexcept { return remote_.buffered_bytes(); }

 private:
  /// As Owner::try_lock(), after a scavenge that goes on if the pager can have it end.
  bool lock_after_scavenging() noexcept {
    if (owner_.try_lock()) [[likely]] {
      return true;
    }
    bool is_inside = false;
    if constexpr (ScavengingPauser<PagerT>) {
      pager_->pause_scavenging();
      is_inside = owner_.try_lock();
      pager_->resume_scavenging();
    }
    return is_inside;
  }

  /// False if no page is queued, or if a scavenger is at them.
  bool drain_queued_page() noexcept {
    if (!owner_.has_remote_frees() || !owner_.try_lock()) {
      return false;
    }
    Header* page = owner_.take();
    if (page != nullptr) {
      groups_.with_class(page->class_index, [&](auto& group, auto& size_class) {
        size_class.drain_page(page);
        this->retire_excess(group, size_class);
      });
    }
    owner_.unlock();
    return page != nullptr;
  }

  std::uint32_t claims_since_drain_ = 0;
  RemoteBuffer<Atomics, Config::remote_buffer_entries> remote_;
};

}  // namespace slabmalloc
