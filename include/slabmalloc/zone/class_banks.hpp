// SPDX-License-Identifier: MIT
//
// ClassBanks: the size classes of a zone, grouped by page kind, each group with its depot of empty
// pages that any of its classes may take.
//
//   bank 0 (base pages):  class 0 … class k-1    depot
//   bank 1 (large pages): class k … class n-1    depot
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
struct ClassBank {
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

/// The banks from class `First` on.
template <class SizeClasses, std::uint32_t First, class... Kinds>
struct ClassBanks;

template <class SizeClasses, std::uint32_t First, class Kind, class... Rest>
struct ClassBanks<SizeClasses, First, Kind, Rest...> {
  using Bank = ClassBank<SizeClasses, First, Kind, sizeof...(Rest) == 0>;
  using Next = ClassBanks<SizeClasses, First + Bank::count, Rest...>;

  Bank bank;
  [[no_unique_address]] Next next;

  /// Calls f(bank, class) for the class numbered `index`. Pre: index < SizeClasses::count.
  template <class F>
  [[gnu::always_inline]] constexpr decltype(auto) with_class(std::uint32_t index, F&& f) noexcept {
    return with_class_of(*this, index, f);
  }
  template <class F>
  [[gnu::always_inline]] constexpr decltype(auto) with_class(std::uint32_t index,
                                                             F&& f) const noexcept {
    return with_class_of(*this, index, f);
  }

  /// Calls f.template operator()<Bank>(position in the bank) for the class numbered `index`.
  template <class F>
  [[gnu::always_inline]] static constexpr decltype(auto) with_bank(std::uint32_t index,
                                                                   F&& f) noexcept {
    if constexpr (sizeof...(Rest) == 0) {
      return f.template operator()<Bank>(index - First);
    } else {
      if (index < First + Bank::count) {
        return f.template operator()<Bank>(index - First);
      }
      return Next::with_bank(index, f);
    }
  }

  /// Calls f(bank) for every bank.
  template <class F>
  constexpr void for_each_bank(F&& f) noexcept {
    f(bank);
    next.for_each_bank(f);
  }
  template <class F>
  constexpr void for_each_bank(F&& f) const noexcept {
    f(bank);
    next.for_each_bank(f);
  }

 private:
  template <class Self, class F>
  [[gnu::always_inline]] static constexpr decltype(auto) with_class_of(Self& self,
                                                                       std::uint32_t index,
                                                                       F& f) noexcept {
    if constexpr (sizeof...(Rest) == 0) {
      return f(self.bank, self.bank.classes[index - First]);
    } else {
      if (index < First + Bank::count) {
        return f(self.bank, self.bank.classes[index - First]);
      }
      return self.next.with_class(index, f);
    }
  }
};

template <class SizeClasses, std::uint32_t First>
struct ClassBanks<SizeClasses, First> {
  static_assert(First == SizeClasses::count, "every size class has a page kind");
  template <class F>
  constexpr void for_each_bank(F&&) const noexcept {}
};

/// The banks for a configuration's `SizeClasses` and `Pages`.
template <class SizeClasses, class Pages>
struct BanksFor;
template <class SizeClasses, class... Kinds>
struct BanksFor<SizeClasses, PageKinds<Kinds...>> {
  using Type = ClassBanks<SizeClasses, 0, Kinds...>;
};

}  // namespace slabmalloc
