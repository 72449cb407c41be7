// SPDX-License-Identifier: MIT
//
// ClassGroups: the size classes of a zone, grouped by page kind, each group with its depot of empty
// pages that any of its classes may take.
//
//   group 0 (base pages):  class 0 … class k-1    depot
//   group 1 (large pages): class k … class n-1    depot
#pragma once

#include <cstddef>
#include <cstdint>

#include "slabmalloc/zone/config.hpp"
#include "slabmalloc/zone/size_class.hpp"

namespace slabmalloc {

/// Empty pages of one kind that belong to no class, last in first out. They carry their owner's tag and
/// a seal that no class has, so that such a page is known when it is offered once more.
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

  static bool is_marked(const Header* page) noexcept {
    return page->seal.load(Order::relaxed) == page->seal_for(0);
  }

 private:
  Header* top_ = nullptr;
  std::uint32_t size_ = 0;
};

/// The size classes on pages of one kind, and their depot.
template <class SizeClasses, std::uint32_t First, class Kind, bool Last>
struct ClassGroup {
  using Page = typename Kind::Page;
  using Header = typename Page::Header;

  static constexpr std::uint32_t end() noexcept {
    std::uint32_t index = First;
    while (index < SizeClasses::count &&
           (Last || SizeClasses::size_of(index) <= Kind::max_object_bytes)) {
      ++index;
    }
    return index;
  }
  static constexpr std::uint32_t first = First;
  static constexpr std::uint32_t count = end() - First;
  static_assert(count != 0, "each page kind serves at least one size class");

  struct Geometries {
    SlotGeometry at[count];
  };
  static constexpr Geometries make_geometries() noexcept {
    Geometries result{};
    for (std::uint32_t index = 0; index < count; ++index) {
      result.at[index] = Page::geometry(SizeClasses::size_of(First + index));
    }
    return result;
  }
  static constexpr Geometries geometries = make_geometries();

  static constexpr bool all_fit() noexcept {
    for (const SlotGeometry& geometry : geometries.at) {
      if (geometry.slots == 0) {
        return false;
      }
    }
    return true;
  }
  static_assert(all_fit(), "an object of every size class fits its page kind");

  SizeClass<Page> classes[count];
  Depot<Header> depot;
};

/// The groups from class `First` on.
template <class SizeClasses, std::uint32_t First, class... Kinds>
struct ClassGroups;

template <class SizeClasses, std::uint32_t First, class Kind, class... Rest>
struct ClassGroups<SizeClasses, First, Kind, Rest...> {
  using Group = ClassGroup<SizeClasses, First, Kind, sizeof...(Rest) == 0>;
  using Next = ClassGroups<SizeClasses, First + Group::count, Rest...>;

  Group group;
  [[no_unique_address]] Next next;

  /// Calls f(group, class) for the class numbered `index`. Pre: index < SizeClasses::count.
  template <class F>
  [[gnu::always_inline]] constexpr decltype(auto) with_class(std::uint32_t index, F&& f) noexcept {
    return with_class_of(*this, index, f);
  }
  template <class F>
  [[gnu::always_inline]] constexpr decltype(auto) with_class(std::uint32_t index,
                                                             F&& f) const noexcept {
    return with_class_of(*this, index, f);
  }

  /// Calls f.template operator()<Group>(position in the group) for the class numbered `index`.
  template <class F>
  [[gnu::always_inline]] static constexpr decltype(auto) with_group(std::uint32_t index,
                                                                   F&& f) noexcept {
    if constexpr (sizeof...(Rest) == 0) {
      return f.template operator()<Group>(index - First);
    } else {
      if (index < First + Group::count) {
        return f.template operator()<Group>(index - First);
      }
      return Next::with_group(index, f);
    }
  }

  /// Calls f(group) for every group.
  template <class F>
  constexpr void for_each_group(F&& f) noexcept {
    f(group);
    next.for_each_group(f);
  }
  template <class F>
  constexpr void for_each_group(F&& f) const noexcept {
    f(group);
    next.for_each_group(f);
  }

 private:
  template <class Self, class F>
  [[gnu::always_inline]] static constexpr decltype(auto) with_class_of(Self& self,
                                                                       std::uint32_t index,
                                                                       F& f) noexcept {
    if constexpr (sizeof...(Rest) == 0) {
      return f(self.group, self.group.classes[index - First]);
    } else {
      if (index < First + Group::count) {
        return f(self.group, self.group.classes[index - First]);
      }
      return self.next.with_class(index, f);
    }
  }
};

template <class SizeClasses, std::uint32_t First>
struct ClassGroups<SizeClasses, First> {
  static_assert(First == SizeClasses::count, "every size class has a page kind");
  template <class F>
  constexpr void for_each_group(F&&) const noexcept {}
};

/// The groups for a configuration's `SizeClasses` and `Pages`.
template <class SizeClasses, class Pages>
struct GroupsFor;
template <class SizeClasses, class... Kinds>
struct GroupsFor<SizeClasses, PageKinds<Kinds...>> {
  using Type = ClassGroups<SizeClasses, 0, Kinds...>;
};

}  // namespace slabmalloc
