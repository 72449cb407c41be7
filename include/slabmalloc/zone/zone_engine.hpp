// SPDX-License-Identifier: MIT
//
// ZoneEngine: what happens to an object of a zone. zone_allocator.hpp is what a client of one calls.
//
//   allocate   class's word ► its pages ► an empty page of the depot or of another class ► pager ► the rest
//   free       own page: a bit       other owner's page: remote buffer
//
// Where pages come from and go to is zone_pages.hpp's business, what passes between owners remote_frees.hpp's.
// Objects are named by page, class and slot here; who knows only an address and a layout finds them
// first, and pages that describe themselves need no layout.
#pragma once

#include <cstddef>
#include <cstdint>

#include "slabmalloc/zone/lookup.hpp"
#include "slabmalloc/zone/pager.hpp"
#include "slabmalloc/zone/remote_frees.hpp"

namespace slabmalloc {

/// Allocation and free of objects by class, for one owner.
/// Thread: the owner, but for the static functions. Its address must not change.
template <class ConfigT, Pager PagerT>
class ZoneEngine : public RemoteFrees<ConfigT, PagerT> {
  using Base = RemoteFrees<ConfigT, PagerT>;

 public:
  using typename Base::Atomics;
  using typename Base::Config;
  using typename Base::Header;

  /// As drain(), and makes every current page one of the others, so that the empty ones are idle.
  /// Thread: owner. Cost: O(queued pages + size classes).
  void drain_and_leave_current() noexcept {
    this->drain();
    groups_.for_each_group([&](auto& group) noexcept {
      for (auto& size_class : group.classes) {
        size_class.leave_current();
        this->retire_excess(group, size_class);
      }
    });
  }

  // ---- for allocators built on a zone whose pages describe themselves ----------------------------

  /// The tag of this zone's open pages.
  [[gnu::always_inline]] std::uintptr_t tag() const noexcept { return owner_.tag(); }

  /// True if `object`, of class `index` and just allocated, is known to be all zero.
  bool is_zero(std::uint32_t index, const void* object) noexcept {
    return groups_.with_class(
        index, [object](auto&, auto& size_class) { return size_class.is_zero(object); });
  }

  /// An object of class `index` without further ado, or null: allocate_class() then does more. Thread: owner.
  /// Cost: constant, no call.
  [[gnu::always_inline]] void* allocate_fast(std::uint32_t index) noexcept {
    return groups_.with_class(
        index, [index](auto& group, auto& size_class) { return issue(group, size_class, index); });
  }

  /// An object of class `index` from its pages or a frame of the pager's, or null. Pre: allocate_class() found none;
  /// pages or frames came in since. Thread: owner.
  void* allocate_again(std::uint32_t index) noexcept {
    return groups_.with_class(index, [this](auto& group, auto& size_class) -> void* {
      void* const object = size_class.allocate_from_pages();
      return object == nullptr && this->add_frame(group, size_class)
                 ? size_class.allocate_from_pages()
                 : object;
    });
  }

  /// True if class `index` has a page for trim_class() to give back. Thread: owner.
  bool has_empty_page(std::uint32_t index) noexcept {
    return groups_.with_class(
        index, [](auto&, auto& size_class) { return size_class.has_empty_page(); });
  }

  /// Frees `object` of class `index` without further ado; what is not Freed is for finish_deallocate(). Thread: owner.
  /// Cost: constant, no call.
  [[gnu::always_inline]] FreeOutcome deallocate_fast(std::uint32_t index, void* object) noexcept {
    return groups_.with_class(index, [&](auto& group, auto& size_class) {
      return free_if_open(group, size_class, index, object);
    });
  }

  /// The class numbered `index`. Thread: owner.
  [[gnu::always_inline]] constexpr auto& class_at(std::uint32_t index) noexcept {
    return groups_.with_class(index, [](auto&, auto& one) -> auto& { return one; });
  }

  /// What is left to do after deallocate_fast(). Thread: owner.
  void finish_deallocate(std::uint32_t index, FreeOutcome outcome, void* object) noexcept {
    groups_.with_class(index, [&](auto& group, auto& size_class) {
      finish_deallocate_in(group, size_class, outcome, object);
    });
  }

  /// What is left to do if free_slot() of the slot at `object` did not simply free it. Thread: owner.
  [[gnu::noinline]] void finish_free(FreeOutcome outcome, Header* page, std::uint32_t index,
                                     std::uint32_t slot, void* object) noexcept {
    if (outcome == FreeOutcome::Rejected) {
      deallocate_slot(page, index, slot, object);
      return;
    }
    groups_.with_class(index, [&](auto& group, auto& size_class) {
      size_class.word_emptied(page);
      this->retire_excess(group, size_class);
    });
  }

  /// Frees slot `slot`, at `object`, of a page of class `index` of any zone. Thread: owner.
  [[gnu::noinline]] void deallocate_slot(Header* page, std::uint32_t index, std::uint32_t slot,
                                         void* object) noexcept {
    groups_.with_class(index, [&](auto& group, auto& size_class) {
      using Group = typename std::remove_reference_t<decltype(group)>;
      if (Owner<Atomics>::of(page->tag.load(Order::relaxed)) == &owner_) {
        free_own(group, size_class, page, slot, object);
      } else {
        this->gather(remote_free<Group>(page, index - Group::first, slot));
      }
    });
  }

  /// Frees slot `slot` of a page of class `index` of any zone. Thread: any.
  static void deallocate_slot_remote(Header* page, std::uint32_t index,
                                     std::uint32_t slot) noexcept {
    Groups::with_group(index, [&]<class Group>(std::uint32_t position) {
      remote_free<Group>(page, position, slot).deliver();
    });
  }

 protected:
  using typename Base::Groups;
  using Base::groups_;
  using Base::owner_;

  using Base::Base;

  /// The geometry of class `index`, as a constant where the index is one.
  template <class Group, class Class>
  [[gnu::always_inline]] static const SlotGeometry& geometry_of(Group&, const Class& size_class,
                                                                std::uint32_t index) noexcept {
    return __builtin_constant_p(index) ? Group::geometries.at[index - Group::first]
                                       : size_class.geometry();
  }

  /// A slot of class `index` from the selected word, or null.
  template <class Group, class Class>
  [[gnu::always_inline]] static void* issue(Group& group, Class& size_class,
                                            std::uint32_t index) noexcept {
    if constexpr (Config::hardened) {
      size_class.check_selected_word();
    }
    return size_class.allocate_fast(geometry_of(group, size_class, index).object_size);
  }

  // ---- allocation's slow path ------------------------------------------------------------------

  /// Takes in up to `pages` queued pages on the way.
  template <class Group, class Class>
  [[gnu::noinline]] Result<void*> allocate_slow(Group& group, Class& size_class,
                                                std::uint32_t pages) noexcept {
    if (void* object = size_class.allocate_from_current()) {
      this->count_claim(pages);
      return object;
    }
    this->drain_some(pages);
    if (void* object = size_class.allocate_from_pages()) {
      this->retire_excess(group, size_class);
      return object;
    }
    if (this->add_page(group, size_class)) {
      return size_class.allocate_from_pages();
    }
    if constexpr (Config::last_resort) {
      return allocate_from_rest(group, size_class);
    }
    return AllocationError::OutOfMemory;
  }

  /// The last resort: takes in all of the inbox, of which the slow path drained a part, and makes empty
  /// pages of other classes serve this one, current pages too. The pager is asked once more only if that
  /// gave it frames.
  template <class Group, class Class>
  [[gnu::cold, gnu::noinline]] Result<void*> allocate_from_rest(Group& group,
                                                                Class& size_class) noexcept {
    const std::size_t held_bytes = this->frame_bytes_held();
    drain_and_leave_current();
    if (void* object = size_class.allocate_from_pages()) {
      return object;
    }
    if (Header* page = this->take_spare(group, size_class.frame_bytes())) {
      size_class.add_page(page, false);
      return size_class.allocate_from_pages();
    }
    if (this->frame_bytes_held() < held_bytes && this->add_page(group, size_class)) {
      return size_class.allocate_from_pages();
    }
    return AllocationError::OutOfMemory;
  }

  // ---- free ------------------------------------------------------------------------------------

  /// Frees `object` if its page is an open one of this owner and of class `index`; else Rejected.
  template <class Group, class Class>
  [[gnu::always_inline]] FreeOutcome free_if_open(Group& group, Class& size_class,
                                                  std::uint32_t index, void* object) noexcept {
    using Page = typename Group::Page;
    if (object == nullptr) [[unlikely]] {
      return FreeOutcome::Rejected;
    }
    Header* page = Page::header_of(object);
    if (page->tag.load(Order::relaxed) != owner_.tag() || page->class_index != index) [[unlikely]] {
      return FreeOutcome::Rejected;
    }
    const SlotGeometry& geometry = geometry_of(group, size_class, index);
    const std::uint32_t slot = geometry.slot_at(Page::offset_of(object, page));
    if (slot == SlotGeometry::no_slot) [[unlikely]] {
      return FreeOutcome::Rejected;
    }
    return Class::template free_slot<Config::hardened>(page, geometry.words, slot);
  }

  template <class Group, class Class>
  [[gnu::always_inline]] void deallocate_in(Group& group, Class& size_class, std::uint32_t index,
                                            void* object) noexcept {
    const FreeOutcome outcome = free_if_open(group, size_class, index, object);
    if (outcome != FreeOutcome::Freed) [[unlikely]] {
      finish_deallocate_in(group, size_class, outcome, object);
    }
  }

  /// What is left to do of a free that was not simple.
  template <class Group, class Class>
  [[gnu::noinline]] void finish_deallocate_in(Group& group, Class& size_class, FreeOutcome outcome,
                                              void* object) noexcept {
    if (outcome == FreeOutcome::WordEmptied) {
      size_class.word_emptied(Group::Page::header_of(object));
      this->retire_excess(group, size_class);
    } else if (object != nullptr) {
      deallocate_slow(group, size_class, object);
    }
  }

  /// Frees an object whose page is not an open one of this owner: most often a full one.
  template <class Group, class Class>
  [[gnu::noinline]] void deallocate_slow(Group& group, Class& size_class, void* object) noexcept {
    using Page = typename Group::Page;
    Header* page = Page::header_of(object);
    if (!Config::hardened && page->tag.load(Order::relaxed) == (owner_.tag() | PageState::full) &&
        page->class_index == size_class.index()) [[likely]] {
      const std::uint32_t slot = size_class.geometry().slot_at(Page::offset_of(object, page));
      if (slot != SlotGeometry::no_slot) [[likely]] {
        if (!size_class.hand_off(page, slot, object)) {
          free_own(group, size_class, page, slot, object);
        }
        return;
      }
    }
    deallocate_anywhere(group, size_class, object);
  }

  /// Frees slot `slot`, at `object`, of a page of this owner in whatever state.
  template <class Group, class Class>
  [[gnu::noinline]] void free_own(Group& group, Class& size_class, Header* page, std::uint32_t slot,
                                  void* object) noexcept {
    size_class.template free_in_any_state<Config::hardened>(page, slot, object);
    this->retire_excess(group, size_class);
  }

  template <class Group, class Class>
  [[gnu::noinline]] void deallocate_anywhere(Group& group, Class& size_class, void* object) noexcept {
    const RemoteFree<Atomics> free = find<Group>(object, size_class.index() - Group::first);
    if (free.page == nullptr) {
      return;
    }
    if (Owner<Atomics>::of(free.page->tag.load(Order::relaxed)) == &owner_) {
      free_own(group, size_class, free.page, free.slot(), object);
    } else {
      this->gather(free);
    }
  }

  template <class Group>
  static RemoteFree<Atomics> remote_free(Header* page, std::uint32_t position,
                                         std::uint32_t slot) noexcept {
    return free_of_slot<typename Group::Page>(page, Group::geometries.at[position], slot);
  }

  /// The free of `object` of the class at `position` of the group; without a page for a null pointer
  /// and after a report.
  template <class Group>
  static RemoteFree<Atomics> find(void* object, std::uint32_t position) noexcept {
    using Page = typename Group::Page;
    return find_object<Page>(object, Group::geometries.at[position],
                             Base::template has_seal_of_any_class<Page>);
  }
};

}  // namespace slabmalloc
