// SPDX-License-Identifier: MIT
//
// ZoneEngine: what happens inside a zone. zone_allocator.hpp is what a client of one calls.
//
//   allocate   class's word ► its pages ► depot, idle pages of other classes ► pager ► the rest
//   free       own page: a bit       other owner's page: remote buffer ► its bitmap, its inbox
//   inbox      absorbed a few pages at a time by slow paths, at the latest every words_per_take of them; wholly by collect()
//
// Objects are named by page, class and slot here; who knows only an address and a layout finds them
// first, and pages that describe themselves need no layout.
//
// Invariant, with its line in validate():
//   Z1  frame bytes = bytes of the pages of all classes and of the depots
#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>

#include "slabmalloc/base/layout.hpp"
#include "slabmalloc/zone/class_banks.hpp"
#include "slabmalloc/zone/empty_zone.hpp"
#include "slabmalloc/zone/lookup.hpp"
#include "slabmalloc/zone/pager.hpp"
#include "slabmalloc/zone/pager_runs.hpp"
#include "slabmalloc/zone/remote_buffer.hpp"

namespace slabmalloc {

/// The size classes, the inbox, the remote buffer and the pager of one owner.
/// Thread: the owner, but for the static functions. Its address must not change.
template <class ConfigT, Pager PagerT>
class ZoneEngine {
 public:
  using Config = ConfigT;
  using Atomics = typename Config::Atomics;
  using SizeClasses = typename Config::SizeClasses;
  using Header = PageHeader<Atomics>;

  static constexpr bool is_paged = !std::same_as<PagerT, NoPager>;
  static constexpr bool has_runs = PagerRuns<PagerT>::exist;
  static constexpr std::uint32_t class_count = SizeClasses::count;

  ZoneEngine(const ZoneEngine&) = delete;
  ZoneEngine& operator=(const ZoneEngine&) = delete;

  /// Delivers what the remote buffer holds and takes in every free by others that was announced, but for
  /// what a visitor holds whom the pager cannot stop. Thread: owner. Cost: O(queued pages).
  void collect() noexcept {
    remote_.flush_all();
    if (enter_after_visit()) {
      while (absorb_one()) {
      }
      owner_.leave();
    }
  }

  /// Delivers what the remote buffer holds, or some of it, and takes in a few queued pages. Thread: owner.
  void take_in_some() noexcept {
    words_since_take_ = 0;
    remote_.flush_some(Config::flush_words);
    for (std::uint32_t count = 0; count < Config::drain_pages && absorb_one(); ++count) {
    }
  }

  /// As collect(), and makes every current page one of the others, so that the empty ones are idle.
  /// Thread: owner. Cost: O(queued pages + size classes).
  void settle() noexcept {
    collect();
    banks_.for_each_bank([&](auto& bank) noexcept {
      for (auto& size_class : bank.classes) {
        size_class.leave_current();
        retire_excess(bank, size_class);
      }
    });
  }

  /// True if frees wait here: others' of this zone's objects, announced, or this zone's of others' objects,
  /// gathered. Thread: any; a hint.
  bool has_mail() const noexcept { return owner_.has_mail() || remote_.holds_some(); }

  // ---- for visitors: threads that look after a zone whose owner may sleep for ever ------------------

  /// See Owner. Thread: any but the owner.
  bool has_new_mail() const noexcept { return owner_.has_new_mail(); }
  bool has_taken_since() noexcept { return owner_.has_taken_since(); }
  template <class Fence, class Done>
  bool visit_queue(Fence&& fence, std::uint32_t most, Done&& done) noexcept {
    return owner_.visit_queue(fence, most, done);
  }

  /// True if frees of others' objects are gathered here. Thread: any; a hint.
  bool withholds() const noexcept { return remote_.holds_some(); }

  using Withheld = typename RemoteBuffer<Atomics, Config::remote_buffer_entries>::Withheld;

  /// Takes out the frees that this zone gathered, for the caller to deliver: their owners wait for them. Nothing
  /// if there are none, the owner is at it or there is no fence. Thread: any. `fence` is as in Gate::visit().
  template <class Fence>
  Withheld take_withheld(Fence&& fence) noexcept {
    return remote_.take_all(fence);
  }

  // ---- for allocators built on a zone whose pages describe themselves ----------------------------

  /// The tag of this zone's open pages.
  [[gnu::always_inline]] std::uintptr_t tag() const noexcept { return owner_.tag(); }

  /// True if `object`, of class `index` and just allocated, is known to be all zero.
  bool is_zero(std::uint32_t index, const void* object) noexcept {
    return banks_.with_class(
        index, [object](auto&, auto& size_class) { return size_class.is_zero(object); });
  }

  /// An object of class `index` without further ado, or null: allocate_class() then does more. Thread: owner.
  /// Cost: constant, no call.
  [[gnu::always_inline]] void* allocate_fast(std::uint32_t index) noexcept {
    return banks_.with_class(
        index, [index](auto& bank, auto& size_class) { return issue(bank, size_class, index); });
  }

  /// An object of class `index` on a frame of the pager's, or null. Pre: allocate_class() found none. Thread: owner.
  void* allocate_from_new_frame(std::uint32_t index) noexcept {
    return banks_.with_class(index, [this](auto& bank, auto& size_class) -> void* {
      return this->add_frame(bank, size_class) ? size_class.allocate_from_pages() : nullptr;
    });
  }

  /// True if class `index` has a page for trim_class() to give back. Thread: owner.
  bool has_empty_page(std::uint32_t index) noexcept {
    return banks_.with_class(
        index, [](auto&, auto& size_class) { return size_class.has_empty_page(); });
  }

  /// Frees `object` of class `index` without further ado; what is not Freed is for finish_deallocate(). Thread: owner.
  /// Cost: constant, no call.
  [[gnu::always_inline]] FreeOutcome deallocate_fast(std::uint32_t index, void* object) noexcept {
    return banks_.with_class(index, [&](auto& bank, auto& size_class) {
      return free_if_open(bank, size_class, index, object);
    });
  }

  /// The class numbered `index`. Thread: owner.
  [[gnu::always_inline]] constexpr auto& class_at(std::uint32_t index) noexcept {
    return banks_.with_class(index, [](auto&, auto& one) -> auto& { return one; });
  }

  /// What is left to do after deallocate_fast(). Thread: owner.
  void finish_deallocate(std::uint32_t index, FreeOutcome outcome, void* object) noexcept {
    banks_.with_class(index, [&](auto& bank, auto& size_class) {
      finish_deallocate_in(bank, size_class, outcome, object);
    });
  }

  /// What is left to do if free_slot() of the slot at `object` did not simply free it. Thread: owner.
  [[gnu::noinline]] void finish_free(FreeOutcome outcome, Header* page, std::uint32_t index,
                                     std::uint32_t slot, void* object) noexcept {
    if (outcome == FreeOutcome::Rejected) {
      deallocate_slot(page, index, slot, object);
      return;
    }
    banks_.with_class(index, [&](auto& bank, auto& size_class) {
      size_class.word_emptied(page);
      retire_excess(bank, size_class);
    });
  }

  /// Frees slot `slot`, at `object`, of a page of class `index` of any zone. Thread: owner.
  [[gnu::noinline]] void deallocate_slot(Header* page, std::uint32_t index, std::uint32_t slot,
                                         void* object) noexcept {
    banks_.with_class(index, [&](auto& bank, auto& size_class) {
      using Bank = typename std::remove_reference_t<decltype(bank)>;
      if (Owner<Atomics>::of(page->tag.load(Order::relaxed)) == &owner_) {
        free_own(bank, size_class, page, slot, object);
      } else {
        gather(remote_free<Bank>(page, index - Bank::first, slot));
      }
    });
  }

  /// Frees slot `slot` of another owner's page along with others of its word; false if there are none,
  /// and then nothing is done. Thread: owner. Cost: constant, no call.
  [[gnu::always_inline]] bool merge_remote(const Header* page, std::uint32_t slot) noexcept {
    return remote_.merge(page, slot);
  }

  /// Frees slot `slot` of a page of class `index` of any zone. Thread: any.
  static void deallocate_slot_remote(Header* page, std::uint32_t index,
                                     std::uint32_t slot) noexcept {
    Banks::with_bank(index, [&]<class Bank>(std::uint32_t position) {
      remote_free<Bank>(page, position, slot).deliver();
    });
  }

 protected:
  using Runs = PagerRuns<PagerT>;
  using Banks = typename BanksFor<SizeClasses, typename Config::Pages>::Type;
  static_assert(class_count <= 256, "a page header has 8 bits for the class");
  static_assert(SizeClasses::validate(), "the table of size classes is not sound");

  /// All zero, and good for nothing but what EmptyZone says.
  constexpr explicit ZoneEngine(EmptyZone) noexcept : pager_(nullptr) {}

  constexpr explicit ZoneEngine(PagerT* pager) noexcept : pager_(pager) {
    std::uint32_t index = 0;
    banks_.for_each_bank([&](auto& bank) noexcept {
      std::uint32_t position = 0;
      for (auto& size_class : bank.classes) {
        size_class.configure(bank.geometries.at[position++], index++, owner_);
      }
    });
  }

  /// The geometry of class `index`, as a constant where the index is one.
  template <class Bank, class Class>
  [[gnu::always_inline]] static const SlotGeometry& geometry_of(Bank&, const Class& size_class,
                                                                std::uint32_t index) noexcept {
    return __builtin_constant_p(index) ? Bank::geometries.at[index - Bank::first]
                                       : size_class.geometry();
  }

  /// A slot of class `index` from the selected word, or null.
  template <class Bank, class Class>
  [[gnu::always_inline]] static void* issue(Bank& bank, Class& size_class,
                                            std::uint32_t index) noexcept {
    if constexpr (Config::hardened) {
      size_class.check_selected_word();
    }
    return size_class.allocate_fast(geometry_of(bank, size_class, index).object_size);
  }

  // ---- allocation's slow path ------------------------------------------------------------------

  template <class Bank, class Class>
  [[gnu::noinline]] Result<void*> allocate_slow(Bank& bank, Class& size_class) noexcept {
    if (void* object = size_class.allocate_from_current()) {
      // A class whose words become free again in time needs nothing further, for ever.
      if (++words_since_take_ == Config::words_per_take) [[unlikely]] {
        take_in_some();
      }
      return object;
    }
    take_in_some();
    if (void* object = size_class.allocate_from_pages()) {
      retire_excess(bank, size_class);
      return object;
    }
    if (add_page(bank, size_class)) {
      return size_class.allocate_from_pages();
    }
    if constexpr (Config::last_resort) {
      return allocate_from_rest(bank, size_class);
    }
    return AllocationError::OutOfMemory;
  }

  /// The last resort: takes in all of the inbox, of which the slow path drained a part, and makes empty
  /// pages of other classes serve this one, current pages too. The pager is asked once more only if that
  /// gave it frames.
  template <class Bank, class Class>
  [[gnu::cold, gnu::noinline]] Result<void*> allocate_from_rest(Bank& bank,
                                                                Class& size_class) noexcept {
    const std::size_t held_bytes = frame_bytes_.get();
    settle();
    if (void* object = size_class.allocate_from_pages()) {
      return object;
    }
    if (Header* page = take_spare(bank, size_class.frame_bytes())) {
      size_class.add_page(page, false);
      return size_class.allocate_from_pages();
    }
    if (frame_bytes_.get() < held_bytes && add_page(bank, size_class)) {
      return size_class.allocate_from_pages();
    }
    return AllocationError::OutOfMemory;
  }

  /// Takes an empty page from the depot or from a class with such frames, or null.
  template <class Bank>
  static Header* take_spare(Bank& bank, std::size_t bytes) noexcept {
    Header* page = has_depot<Bank> ? bank.depot.pop() : nullptr;
    return page != nullptr ? page : borrow_idle(bank, bytes);
  }

  /// Gives the class a page from wherever there is one.
  template <class Bank, class Class>
  bool add_page(Bank& bank, Class& size_class) noexcept {
    const std::size_t bytes = size_class.frame_bytes();
    if (Header* page = take_spare(bank, bytes)) {
      size_class.add_page(page, false);
      return true;
    }
    return add_frame(bank, size_class);
  }

  /// Gives the class a page on a frame of the pager's.
  template <class Bank, class Class>
  bool add_frame([[maybe_unused]] Bank& bank, [[maybe_unused]] Class& size_class) noexcept {
    if constexpr (is_paged) {
      const std::size_t bytes = size_class.frame_bytes();
      // The pager may allocate from this zone: nothing read before this call is used after it.
      const Frame frame = pager_->allocate_frame(bytes);
      if (frame.address != nullptr) {
        if ((reinterpret_cast<std::uintptr_t>(frame.address) & (bytes - 1)) != 0) [[unlikely]] {
          report_misuse({MisuseKind::InvalidPage, frame.address, 0, 0});
          pager_->deallocate_frame(frame.address, bytes);
          return false;
        }
        take_in(size_class, Bank::Page::header_of(frame.address), frame.zeroed);
        return true;
      }
    }
    return false;
  }

  /// Takes an idle page from a class of the bank whose frames are of `bytes`, or null.
  template <class Bank>
  static Header* borrow_idle(Bank& bank, std::size_t bytes) noexcept {
    if constexpr (is_paged && Config::idle_pages_per_class == 0) {
      return nullptr;
    }
    for (auto& size_class : bank.classes) {
      if (size_class.idle_pages() != 0 && size_class.frame_bytes() == bytes) {
        if (Header* page = size_class.remove_idle_page()) {
          return page;
        }
      }
    }
    return nullptr;
  }

  template <class Class>
  void take_in(Class& size_class, Header* page, bool zeroed) noexcept {
    frame_bytes_.add(size_class.frame_bytes());
    frame_bytes_high_water_.raise_to(frame_bytes_.get());
    size_class.add_page(page, zeroed);
  }

  // ---- empty pages -----------------------------------------------------------------------------

  /// A depot holds frames of one size.
  template <class Bank>
  static constexpr bool has_depot =
      Bank::Page::frame_bytes(SizeClasses::size_of(Bank::first)) ==
      Bank::Page::frame_bytes(SizeClasses::size_of(Bank::first + Bank::count - 1));

  template <class Bank>
  static constexpr std::size_t uniform_frame_bytes(const Bank&) noexcept {
    return Bank::Page::frame_bytes(SizeClasses::size_of(Bank::first));
  }

  /// Lets go of the idle pages that a class has beyond what it may keep, if there is a place for them.
  template <class Bank, class Class>
  [[gnu::always_inline]] void retire_excess([[maybe_unused]] Bank& bank,
                                            [[maybe_unused]] Class& size_class) noexcept {
    if constexpr (is_paged || has_depot<Bank>) {
      while (size_class.idle_pages() > Config::idle_pages_per_class) [[unlikely]] {
        retire_one(bank, size_class);
      }
    }
  }

  template <class Bank, class Class>
  [[gnu::noinline]] void retire_one(Bank& bank, Class& size_class) noexcept {
    Header* page = size_class.remove_idle_page();
    if (page == nullptr) {
      return;
    }
    if (has_depot<Bank> && (!is_paged || bank.depot.size() < Config::depot_pages)) {
      bank.depot.push(page, owner_.tag());
    } else {
      give_back(bank, size_class.frame_bytes(), page);
    }
  }

  template <class Bank>
  void give_back(Bank&, std::size_t bytes, Header* page) noexcept {
    frame_bytes_.subtract(bytes);
    pager_->deallocate_frame(Bank::Page::frame_of(page), bytes);
  }

  template <class Class, class Page>
  bool accept_frame(const Class& size_class, const Page* page) const noexcept {
    return slabmalloc::accept_frame(
        page, size_class.frame_bytes(), size_class.geometry().object_size, owner_,
        [](const Header* header) {
          return Depot<Header>::is_marked(header) || has_seal_of_any_class<Page>(header);
        });
  }

  // ---- free ------------------------------------------------------------------------------------

  /// Frees `object` if its page is an open one of this owner and of class `index`; else Rejected.
  template <class Bank, class Class>
  [[gnu::always_inline]] FreeOutcome free_if_open(Bank& bank, Class& size_class,
                                                  std::uint32_t index, void* object) noexcept {
    using Page = typename Bank::Page;
    if (object == nullptr) [[unlikely]] {
      return FreeOutcome::Rejected;
    }
    Header* page = Page::header_of(object);
    if (page->tag.load(Order::relaxed) != owner_.tag() || page->class_index != index) [[unlikely]] {
      return FreeOutcome::Rejected;
    }
    const SlotGeometry& geometry = geometry_of(bank, size_class, index);
    const std::uint32_t slot = geometry.slot_at(Page::offset_of(object, page));
    if (slot == SlotGeometry::no_slot) [[unlikely]] {
      return FreeOutcome::Rejected;
    }
    return Class::template free_slot<Config::hardened>(page, geometry.words, slot);
  }

  template <class Bank, class Class>
  [[gnu::always_inline]] void deallocate_in(Bank& bank, Class& size_class, std::uint32_t index,
                                            void* object) noexcept {
    const FreeOutcome outcome = free_if_open(bank, size_class, index, object);
    if (outcome != FreeOutcome::Freed) [[unlikely]] {
      finish_deallocate_in(bank, size_class, outcome, object);
    }
  }

  /// What is left to do of a free that was not simple.
  template <class Bank, class Class>
  [[gnu::noinline]] void finish_deallocate_in(Bank& bank, Class& size_class, FreeOutcome outcome,
                                              void* object) noexcept {
    if (outcome == FreeOutcome::WordEmptied) {
      size_class.word_emptied(Bank::Page::header_of(object));
      retire_excess(bank, size_class);
    } else if (object != nullptr) {
      deallocate_slow(bank, size_class, object);
    }
  }

  /// Frees an object whose page is not an open one of this owner: most often a full one.
  template <class Bank, class Class>
  [[gnu::noinline]] void deallocate_slow(Bank& bank, Class& size_class, void* object) noexcept {
    using Page = typename Bank::Page;
    Header* page = Page::header_of(object);
    if (!Config::hardened && page->tag.load(Order::relaxed) == (owner_.tag() | PageState::full) &&
        page->class_index == size_class.index()) [[likely]] {
      const std::uint32_t slot = size_class.geometry().slot_at(Page::offset_of(object, page));
      if (slot != SlotGeometry::no_slot) [[likely]] {
        if (!size_class.pass_on(page, slot, object)) {
          free_own(bank, size_class, page, slot, object);
        }
        return;
      }
    }
    deallocate_anywhere(bank, size_class, object);
  }

  /// Frees slot `slot`, at `object`, of a page of this owner in whatever state.
  template <class Bank, class Class>
  [[gnu::noinline]] void free_own(Bank& bank, Class& size_class, Header* page, std::uint32_t slot,
                                  void* object) noexcept {
    size_class.template free_in_any_state<Config::hardened>(page, slot, object);
    retire_excess(bank, size_class);
  }

  template <class Bank, class Class>
  [[gnu::noinline]] void deallocate_anywhere(Bank& bank, Class& size_class, void* object) noexcept {
    const RemoteFree<Atomics> free = find<Bank>(object, size_class.index() - Bank::first);
    if (free.page == nullptr) {
      return;
    }
    if (Owner<Atomics>::of(free.page->tag.load(Order::relaxed)) == &owner_) {
      free_own(bank, size_class, free.page, free.slot(), object);
    } else {
      gather(free);
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

  template <class Bank>
  static RemoteFree<Atomics> remote_free(Header* page, std::uint32_t position,
                                         std::uint32_t slot) noexcept {
    return free_of_slot<typename Bank::Page>(page, Bank::geometries.at[position], slot);
  }

  /// The free of `object` of the class at `position` of the bank; without a page for a null pointer
  /// and after a report.
  template <class Bank>
  static RemoteFree<Atomics> find(void* object, std::uint32_t position) noexcept {
    using Page = typename Bank::Page;
    return find_object<Page>(object, Bank::geometries.at[position], has_seal_of_any_class<Page>);
  }

  template <class Page>
  [[gnu::cold]] static bool has_seal_of_any_class(const Header* page) noexcept {
    for (std::uint32_t index = 0; index < class_count; ++index) {
      if (page->seal.load(Order::relaxed) == page->seal_for(SizeClasses::size_of(index))) {
        return true;
      }
    }
    return false;
  }

  /// As Owner::enter(), after a visit that goes on if the pager can have it end.
  bool enter_after_visit() noexcept {
    if (owner_.enter()) [[likely]] {
      return true;
    }
    bool is_inside = false;
    if constexpr (VisitStopper<PagerT>) {
      pager_->stop_visits();
      is_inside = owner_.enter();
      pager_->resume_visits();
    }
    return is_inside;
  }

  /// False if no page is queued, or if a visitor is at them.
  bool absorb_one() noexcept {
    if (!owner_.has_mail() || !owner_.enter()) {
      return false;
    }
    Header* page = owner_.take();
    if (page != nullptr) {
      banks_.with_class(page->class_index, [&](auto& bank, auto& size_class) {
        size_class.absorb(page);
        retire_excess(bank, size_class);
      });
    }
    owner_.leave();
    return page != nullptr;
  }

  Owner<Atomics> owner_;
  PagerT* pager_;
  Banks banks_;
  RemoteBuffer<Atomics, Config::remote_buffer_entries> remote_;
  std::uint32_t words_since_take_ = 0;
  Counter<Atomics> frame_bytes_;
  Counter<Atomics> frame_bytes_high_water_;
};

}  // namespace slabmalloc
