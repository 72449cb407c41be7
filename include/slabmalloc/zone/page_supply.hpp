// SPDX-License-Identifier: MIT
//
// PageSupply: where a size class gets a page, and where its empty ones go.
//
//                     idle, beyond the class's limit
//   pager ──► class ─────────────────────────────────► depot ──► pager, beyond the depot's limit
//             ▲ ▲ ▲                                      │
//   refill ───┘ │ └── first of all ──────────────────────┘
//               └── then an idle page of another class on frames of that size
//
// Each page kind has a depot. Without a pager pages come by refill alone, and the depot keeps all
// that it gets. The supply knows nothing of objects.
//
// Invariant, with its line in validate():
//   Z1  frame bytes = bytes of the pages of all classes and of the depots
#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>

#include "slabmalloc/page/lookup.hpp"
#include "slabmalloc/zone/class_table.hpp"
#include "slabmalloc/zone/pager.hpp"
#include "slabmalloc/zone/statistics.hpp"

namespace slabmalloc {

/// Empty pages of one kind that belong to no class, last in first out. They carry their owner's tag
/// and a seal that no class has, so that such a page is recognised when it is offered once more.
template <class Header>
class Depot {
 public:
  constexpr Depot() noexcept = default;
  std::uint32_t size() const noexcept { return size_; }

  void push(Header* page, std::uintptr_t owner_tag) noexcept {
    page->tag.store(owner_tag | PageState::idle, Order::relaxed);
    page->seal.store(page->seal_for(0), Order::relaxed);
    page->next = top_;
    top_ = page;
    ++size_;
  }
  Header* pop() noexcept {
    Header* page = top_;
    if (page != nullptr) {
      page->tag.store(0, Order::relaxed);
      page->seal.store(0, Order::relaxed);
      top_ = page->next;
      --size_;
    }
    return page;
  }

  static bool is_marked(const Header* page) noexcept { return page->has_seal_for(0); }

 private:
  Header* top_ = nullptr;
  std::uint32_t size_ = 0;
};

/// The frames of a zone whose classes are a `Table`. `Group` and `Class` are that table's.
/// Thread: the owner.
template <class Config, Pager PagerT>
class PageSupply {
 public:
  using Table = ClassTable<Config>;
  using Header = PageHeader<typename Config::Atomics>;

  static constexpr bool is_paged = !std::same_as<PagerT, NoPager>;

  /// A null pager is none.
  constexpr explicit PageSupply(PagerT* pager) noexcept : pager_(pager) {}

  PagerT* pager() const noexcept { return pager_; }

  // ---- in --------------------------------------------------------------------------------------

  /// Gives the class a page from wherever there is one; false if there is none.
  template <class Group, class Class>
  bool add_page(Group& group, Class& size_class) noexcept {
    if (Header* page = take_spare(group, size_class.frame_bytes())) {
      size_class.add_page(page, false);
      return true;
    }
    return add_frame(group, size_class);
  }

  /// Takes an empty page from the depot, or from a class whose frames are of `bytes`; or null.
  template <class Group>
  Header* take_spare(Group& group, std::size_t bytes) noexcept {
    Header* page = has_depot<Group> ? depot_of(group).pop() : nullptr;
    return page != nullptr ? page : borrow_idle(group, bytes);
  }

  /// Gives the class a page on a frame of the pager's; false if there is none.
  template <class Group, class Class>
  bool add_frame([[maybe_unused]] Group& group, [[maybe_unused]] Class& size_class) noexcept {
    if constexpr (is_paged) {
      const std::size_t bytes = size_class.frame_bytes();
      // The pager may allocate from this zone: nothing read before this call is used after it.
      const Frame frame = ask_pager<Group>(size_class, bytes);
      if (frame.address != nullptr) {
        if ((reinterpret_cast<std::uintptr_t>(frame.address) & (bytes - 1)) != 0) [[unlikely]] {
          report_misuse({MisuseKind::InvalidPage, frame.address, 0, 0});
          pager_->deallocate_frame(frame.address, bytes);
          return false;
        }
        Header* const page = size_class.frames().header_of(frame.address);
        Group::shape(size_class, page);
        add_new(size_class, page, frame.zeroed);
        return true;
      }
    }
    return false;
  }

  /// Gives the class the frame at `page`. Fails: InvalidPage, reported, if it is null, misaligned
  /// or in this zone already; then false, and nothing was written.
  template <class Group, class Class, class Page>
  bool refill(Group&, Class& size_class, Page* page) noexcept {
    const auto is_held = [](const Header* header) {
      return Depot<Header>::is_marked(header) ||
             Table::template has_seal_of_any_class<Page>(header);
    };
    if (!accept_frame(page, size_class.frame_bytes(), size_class.geometry().object_size,
                      size_class.owner_tag(), is_held)) {
      return false;
    }
    Group::shape(size_class, Page::header_of(page));
    add_new(size_class, Page::header_of(page), false);
    return true;
  }

  // ---- out -------------------------------------------------------------------------------------

  /// Lets go of the idle pages that a class has beyond what it may keep, if there is a place for
  /// them.
  template <class Group, class Class>
  [[gnu::always_inline]] void retire_excess([[maybe_unused]] Group& group,
                                            [[maybe_unused]] Class& size_class) noexcept {
    if constexpr (is_paged || has_depot<Group>) {
      while (size_class.idle_pages() > Config::idle_pages_per_class) [[unlikely]] {
        retire_one(group, size_class);
      }
    }
  }

  /// Gives the empty pages of class `index` back to the pager. Not constrained: clang 14
  /// instantiates trim() for zones without a pager too.
  void give_back_class(Table& table, std::uint32_t index) noexcept {
    table.with_class(index, [this](auto&, auto& size_class) {
      size_class.remove_empty_pages(size_class.pages(), [&](Header* page) noexcept {
        give_back(size_class, size_class.frame_bytes(), page);
      });
    });
  }

  /// Gives every empty page back to the pager; returns their bytes.
  std::size_t give_back_all(Table& table) noexcept {
    const std::size_t before = frame_bytes_.get();
    for (std::uint32_t index = 0; index < Table::class_count; ++index) {
      give_back_class(table, index);
    }
    table.for_each_group([&](auto& group) noexcept {
      while (Header* page = depot_of(group).pop()) {
        give_back(group.classes[0], group.first_frame_bytes, page);
      }
    });
    return before - frame_bytes_.get();
  }

  /// Hands at most `limit` empty pages of type `Page` to `give(Page*)`; returns how many.
  template <class Page, class Give>
  std::size_t remove_empty_pages(Table& table, std::size_t limit, Give&& give) noexcept {
    std::size_t count = 0;
    table.for_each_group([&](auto& group) noexcept {
      using Group = typename std::remove_reference_t<decltype(group)>;
      if constexpr (Group::template has_pages<Page>) {
        const auto hand_over = [&](Header* page, std::size_t bytes) noexcept {
          frame_bytes_.subtract(bytes);
          give(reinterpret_cast<Page*>(Page::frame_of(page)));
        };
        for (; count < limit && depot_of(group).size() != 0; ++count) {
          hand_over(depot_of(group).pop(), Group::first_frame_bytes);
        }
        for (auto& size_class : group.classes) {
          if (!size_class.template has_frames_of<Page>()) {
            continue;
          }
          count += size_class.remove_empty_pages(limit - count, [&](Header* page) noexcept {
            hand_over(page, size_class.frame_bytes());
          });
        }
      }
    });
    return count;
  }

  /// Hands every page to `give(void* frame, std::size_t bytes)`, whatever lives in it, and forgets
  /// them all.
  template <class Give>
  void remove_all_pages(Table& table, Give&& give) noexcept {
    table.for_each_group([&](auto& group) noexcept {
      for (auto& size_class : group.classes) {
        size_class.remove_all_pages([&](Header* page) noexcept {
          give(static_cast<void*>(size_class.frames().frame_of(page)), size_class.frame_bytes());
        });
      }
      while (Header* page = depot_of(group).pop()) {
        give(static_cast<void*>(group.classes[0].frames().frame_of(page)), group.first_frame_bytes);
      }
    });
    frame_bytes_.set(0);
  }

  // ---- statistics and checks -------------------------------------------------------------------

  /// Bytes of the frames of all pages.
  std::size_t frame_bytes() const noexcept { return frame_bytes_.get(); }

  /// The sums over all classes and depots. Cost: O(pages).
  ZoneStatistics statistics(const Table& table) const noexcept {
    ZoneStatistics result;
    table.for_each_class(
        [&](const auto& size_class) noexcept { result += size_class.statistics(); });
    result.depot_bytes = frame_bytes_.get() - result.page_bytes;
    result.frame_bytes_high_water = frame_bytes_high_water_.get();
    return result;
  }

  /// The first broken invariant of the classes or of this, as an equation, or null. Cost: O(pages).
  const char* validate(const Table& table) const noexcept {
    const char* broken = nullptr;
    std::size_t bytes = 0;
    table.for_each_group([&](const auto& group) noexcept {
      for (const auto& size_class : group.classes) {
        if (broken == nullptr) {
          broken = size_class.validate();
        }
        bytes += size_class.pages() * size_class.frame_bytes();
      }
      bytes += depots_[group.number].size() * group.first_frame_bytes;
    });
    if (broken == nullptr && bytes != frame_bytes_.get()) {
      broken = "Z1: frame bytes = pages of all classes + depots";
    }
    return broken;
  }

 private:
  /// The pager's answer to a request for a frame for the class.
  template <class Group, class Class>
  Frame ask_pager([[maybe_unused]] const Class& size_class, std::size_t bytes) noexcept {
    if constexpr (ClassPager<PagerT>) {
      static_assert(
          (!has_depot<Group> || Config::depot_pages == 0) && Config::idle_pages_per_class == 0,
          "a class gets no empty page of another one past the pager");
      return pager_->allocate_class_frame(bytes, size_class.index());
    } else {
      return pager_->allocate_frame(bytes);
    }
  }

  /// A depot holds frames of one size.
  template <class Group>
  static constexpr bool has_depot = Group::has_one_frame_size;

  template <class Group>
  Depot<Header>& depot_of(const Group&) noexcept {
    return depots_[Group::number];
  }

  /// Takes an idle page from a class of the group whose frames are of `bytes`, or null.
  template <class Group>
  static Header* borrow_idle(Group& group, std::size_t bytes) noexcept {
    if constexpr (is_paged && Config::idle_pages_per_class == 0) {
      return nullptr;
    }
    for (auto& size_class : group.classes) {
      if (size_class.idle_pages() != 0 && size_class.frame_bytes() == bytes) {
        if (Header* page = size_class.remove_idle_page()) {
          return page;
        }
      }
    }
    return nullptr;
  }

  template <class Class>
  void add_new(Class& size_class, Header* page, bool zeroed) noexcept {
    frame_bytes_.add(size_class.frame_bytes());
    frame_bytes_high_water_.raise_to(frame_bytes_.get());
    size_class.add_page(page, zeroed);
  }

  template <class Group, class Class>
  [[gnu::noinline]] void retire_one(Group& group, Class& size_class) noexcept {
    Header* page = size_class.remove_idle_page();
    if (page == nullptr) {
      return;
    }
    if (has_depot<Group> && (!is_paged || depot_of(group).size() < Config::depot_pages)) {
      depot_of(group).push(page, size_class.owner_tag());
    } else {
      give_back(size_class, size_class.frame_bytes(), page);
    }
  }

  template <class Class>
  void give_back(const Class& size_class, std::size_t bytes, Header* page) noexcept {
    frame_bytes_.subtract(bytes);
    pager_->deallocate_frame(size_class.frames().frame_of(page), bytes);
  }

  PagerT* pager_;
  Depot<Header> depots_[Table::group_count];
  Counter<typename Config::Atomics> frame_bytes_;
  Counter<typename Config::Atomics> frame_bytes_high_water_;
};

}  // namespace slabmalloc
