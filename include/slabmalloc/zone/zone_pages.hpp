// SPDX-License-Identifier: MIT
//
// ZonePages: the pages of a zone: whence a size class gets one, and where its empty ones go.
//
//                     idle, beyond what the class keeps
//   pager ──► class ─────────────────────────────────────► depot ──► pager, beyond what the depot keeps
//             ▲ ▲ ▲                                          │
//   refill ───┘ │ └── first of all ──────────────────────────┘
//               └── then an idle page of another class on frames of that size
//
// Without a pager pages come by refill alone, and the depot keeps whatever it gets. It knows nothing of objects:
// what is allocated and freed on the pages is zone_engine.hpp's business, and pages that others' frees have emptied
// are found by remote_frees.hpp.
//
// Invariant, with its line in validate_pages():
//   Z1  frame bytes = bytes of the pages of all classes and of the depots
#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>

#include "slabmalloc/zone/class_groups.hpp"
#include "slabmalloc/zone/empty_zone.hpp"
#include "slabmalloc/zone/lookup.hpp"
#include "slabmalloc/zone/pager.hpp"

namespace slabmalloc {

/// The size classes of one owner with their depots, and the frames that they live on.
/// Thread: the owner. Its address must not change.
template <class ConfigT, Pager PagerT>
class ZonePages {
 public:
  using Config = ConfigT;
  using Atomics = typename Config::Atomics;
  using SizeClasses = typename Config::SizeClasses;
  using Header = PageHeader<Atomics>;

  static constexpr bool is_paged = !std::same_as<PagerT, NoPager>;
  static constexpr std::uint32_t class_count = SizeClasses::count;

  ZonePages(const ZonePages&) = delete;
  ZonePages& operator=(const ZonePages&) = delete;

 protected:
  using Groups = typename GroupsFor<SizeClasses, typename Config::Pages>::Type;
  static_assert(class_count <= 256, "a page header has 8 bits for the class");
  static_assert(SizeClasses::validate(), "the table of size classes is not sound");

  /// All zero, and good for nothing but what EmptyZone says.
  constexpr explicit ZonePages(EmptyZone) noexcept : pager_(nullptr) {}

  constexpr explicit ZonePages(PagerT* pager) noexcept : pager_(pager) {
    std::uint32_t index = 0;
    groups_.for_each_group([&](auto& group) noexcept {
      std::uint32_t position = 0;
      for (auto& size_class : group.classes) {
        size_class.configure(group.geometries.at[position++], index++, owner_);
      }
    });
  }

  // ---- in --------------------------------------------------------------------------------------

  /// Gives the class a page from wherever there is one.
  template <class Group, class Class>
  bool add_page(Group& group, Class& size_class) noexcept {
    if (Header* page = take_spare(group, size_class.frame_bytes())) {
      size_class.add_page(page, false);
      return true;
    }
    return add_frame(group, size_class);
  }

  /// Takes an empty page from the depot or from a class whose frames are of `bytes`, or null.
  template <class Group>
  static Header* take_spare(Group& group, std::size_t bytes) noexcept {
    Header* page = has_depot<Group> ? group.depot.pop() : nullptr;
    return page != nullptr ? page : borrow_idle(group, bytes);
  }

  /// Gives the class a page on a frame of the pager's.
  template <class Group, class Class>
  bool add_frame([[maybe_unused]] Group& group, [[maybe_unused]] Class& size_class) noexcept {
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
        take_in(size_class, Group::Page::header_of(frame.address), frame.zeroed);
        return true;
      }
    }
    return false;
  }

  /// Gives the class the frame at `page`. Fails: InvalidPage, reported, if it is null, misaligned or in this zone
  /// already; then false, and nothing was written.
  template <class Class, class Page>
  bool refill_class(Class& size_class, Page* page) noexcept {
    const auto is_held = [](const Header* header) {
      return Depot<Header>::is_marked(header) || has_seal_of_any_class<Page>(header);
    };
    if (!accept_frame(page, size_class.frame_bytes(), size_class.geometry().object_size, owner_,
                      is_held)) {
      return false;
    }
    take_in(size_class, Page::header_of(page), false);
    return true;
  }

  // ---- out -------------------------------------------------------------------------------------

  /// Lets go of the idle pages that a class has beyond what it may keep, if there is a place for them.
  template <class Group, class Class>
  [[gnu::always_inline]] void retire_excess([[maybe_unused]] Group& group,
                                            [[maybe_unused]] Class& size_class) noexcept {
    if constexpr (is_paged || has_depot<Group>) {
      while (size_class.idle_pages() > Config::idle_pages_per_class) [[unlikely]] {
        retire_one(group, size_class);
      }
    }
  }

  /// Gives the empty pages of class `index` back to the pager. Not constrained: clang 14 instantiates trim() for
  /// zones without a pager too.
  void give_back_class(std::uint32_t index) noexcept {
    groups_.with_class(index, [this](auto& group, auto& size_class) {
      size_class.remove_empty_pages(size_class.pages(), [&](Header* page) noexcept {
        give_back(group, size_class.frame_bytes(), page);
      });
    });
  }

  /// Gives every empty page back to the pager; returns their bytes.
  std::size_t give_back_all() noexcept {
    const std::size_t before = frame_bytes_.get();
    for (std::uint32_t index = 0; index < class_count; ++index) {
      give_back_class(index);
    }
    groups_.for_each_group([&](auto& group) noexcept {
      while (Header* page = group.depot.pop()) {
        give_back(group, uniform_frame_bytes(group), page);
      }
    });
    return before - frame_bytes_.get();
  }

  /// Hands at most `limit` empty pages of type `Page` to `give(Page*)`; returns how many.
  template <class Page, class Give>
  std::size_t remove_empty_pages(std::size_t limit, Give&& give) noexcept {
    std::size_t count = 0;
    groups_.for_each_group([&](auto& group) noexcept {
      using Group = typename std::remove_reference_t<decltype(group)>;
      if constexpr (std::same_as<typename Group::Page, Page>) {
        const auto hand_over = [&](Header* page, std::size_t bytes) noexcept {
          frame_bytes_.subtract(bytes);
          give(reinterpret_cast<Page*>(Page::frame_of(page)));
        };
        for (; count < limit && group.depot.size() != 0; ++count) {
          hand_over(group.depot.pop(), uniform_frame_bytes(group));
        }
        for (auto& size_class : group.classes) {
          count += size_class.remove_empty_pages(limit - count, [&](Header* page) noexcept {
            hand_over(page, size_class.frame_bytes());
          });
        }
      }
    });
    return count;
  }

  /// Hands every page to `give(void* frame, std::size_t bytes)`, whatever lives in it, and forgets them all.
  template <class Give>
  void remove_all_pages(Give&& give) noexcept {
    groups_.for_each_group([&](auto& group) noexcept {
      using Page = typename std::remove_reference_t<decltype(group)>::Page;
      for (auto& size_class : group.classes) {
        size_class.remove_all_pages([&](Header* page) noexcept {
          give(static_cast<void*>(Page::frame_of(page)), size_class.frame_bytes());
        });
      }
      while (Header* page = group.depot.pop()) {
        give(static_cast<void*>(Page::frame_of(page)), uniform_frame_bytes(group));
      }
    });
    frame_bytes_.set(0);
  }

  // ---- looking ---------------------------------------------------------------------------------

  /// True if `page` has the seal of a class of this configuration.
  template <class Page>
  [[gnu::cold]] static bool has_seal_of_any_class(const Header* page) noexcept {
    for (std::uint32_t index = 0; index < class_count; ++index) {
      if (page->seal.load(Order::relaxed) == page->seal_for(SizeClasses::size_of(index))) {
        return true;
      }
    }
    return false;
  }

  /// Bytes of the frames of all pages.
  std::size_t frame_bytes_held() const noexcept { return frame_bytes_.get(); }

  /// The sums over all classes and depots. Cost: O(pages).
  ZoneStatistics page_statistics() const noexcept {
    ZoneStatistics result;
    groups_.for_each_group([&](const auto& group) noexcept {
      for (const auto& size_class : group.classes) {
        result += size_class.statistics();
      }
    });
    result.depot_bytes = frame_bytes_.get() - result.page_bytes;
    result.frame_bytes_high_water = frame_bytes_high_water_.get();
    return result;
  }

  /// The first broken invariant of the classes or of this, as an equation, or null. Cost: O(pages).
  const char* validate_pages() const noexcept {
    const char* broken = nullptr;
    std::size_t bytes = 0;
    groups_.for_each_group([&](const auto& group) noexcept {
      for (const auto& size_class : group.classes) {
        if (broken == nullptr) {
          broken = size_class.validate();
        }
        bytes += size_class.pages() * size_class.frame_bytes();
      }
      bytes += group.depot.size() * uniform_frame_bytes(group);
    });
    if (broken == nullptr && bytes != frame_bytes_.get()) {
      broken = "Z1: frame bytes = pages of all classes + depots";
    }
    return broken;
  }

  Owner<Atomics> owner_;  ///< Its address is the tag of all pages.
  PagerT* pager_;
  Groups groups_;

 private:
  /// A depot holds frames of one size.
  template <class Group>
  static constexpr bool has_depot =
      Group::Page::frame_bytes(SizeClasses::size_of(Group::first)) ==
      Group::Page::frame_bytes(SizeClasses::size_of(Group::first + Group::count - 1));

  template <class Group>
  static constexpr std::size_t uniform_frame_bytes(const Group&) noexcept {
    return Group::Page::frame_bytes(SizeClasses::size_of(Group::first));
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
  void take_in(Class& size_class, Header* page, bool zeroed) noexcept {
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
    if (has_depot<Group> && (!is_paged || group.depot.size() < Config::depot_pages)) {
      group.depot.push(page, owner_.tag());
    } else {
      give_back(group, size_class.frame_bytes(), page);
    }
  }

  template <class Group>
  void give_back(Group&, std::size_t bytes, Header* page) noexcept {
    frame_bytes_.subtract(bytes);
    pager_->deallocate_frame(Group::Page::frame_of(page), bytes);
  }

  Counter<Atomics> frame_bytes_;
  Counter<Atomics> frame_bytes_high_water_;
};

}  // namespace slabmalloc
