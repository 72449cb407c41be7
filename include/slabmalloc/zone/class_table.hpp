// SPDX-License-Identifier: MIT
//
// ClassTable: the size classes of a zone, in one group for each page kind of its configuration.
//
//   group 0 (base pages):  class 0 … class k-1
//   group 1 (large pages): class k … class n-1
//
// The type of a class depends on its page type, so a class is reached by calling a function with
// it: with_class(index, f). Where the index is a constant, the compiler resolves that; else it is
// one comparison for each group but the last.
//
// Page kinds that are all SizedPages make one group, of classes on ShapedPages.
#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>

#include "slabmalloc/zone/config.hpp"
#include "slabmalloc/zone/size_class.hpp"

namespace slabmalloc {

/// True if a page has a slot by each of `geometries`.
template <std::size_t Count>
constexpr bool all_fit(const SlotGeometry (&geometries)[Count]) noexcept {
  for (const SlotGeometry& geometry : geometries) {
    if (geometry.slots == 0) {
      return false;
    }
  }
  return true;
}

/// The size classes from number `First` on that live on pages of one kind; group number `Number`.
template <class SizeClasses, class Queue, std::uint32_t Number, std::uint32_t First, class Kind,
          bool Last>
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
  static constexpr std::uint32_t number = Number;
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

  static_assert(all_fit(geometries.at), "an object of every size class fits its page kind");

  /// The bytes of the frames of the group's smallest class.
  static constexpr std::size_t first_frame_bytes = Page::frame_bytes(SizeClasses::size_of(First));
  /// True if all classes of the group have frames of one size.
  static constexpr bool has_one_frame_size =
      first_frame_bytes == Page::frame_bytes(SizeClasses::size_of(First + count - 1));

  /// True if a client may hand pages of type `P` in and get them back.
  template <class P>
  static constexpr bool has_pages = std::same_as<P, Page>;

  /// False if no class has frames of `bytes`.
  static constexpr bool may_have_frames_of(std::size_t bytes) noexcept {
    return bytes == first_frame_bytes || !has_one_frame_size;
  }
  /// Of the class at `position`.
  static constexpr std::size_t frame_bytes_at(std::uint32_t position) noexcept {
    return Page::frame_bytes(SizeClasses::size_of(First + position));
  }
  static constexpr FramesOf<Page> frames_at(std::uint32_t) noexcept { return {}; }
  /// As Page::offset_of(), of an address in a page of the group.
  [[gnu::always_inline]] static std::size_t offset_of(const void* address, Header* header,
                                                      const FramesOf<Page>&) noexcept {
    return Page::offset_of(address, header);
  }
  /// Called before the frame of `header` becomes a page.
  template <class Class>
  static void shape(const Class&, Header*) noexcept {}

  SizeClass<Page, Queue> classes[count];
};

/// The SizedPages of a configuration, as the page kind of one group.
template <class... Kinds>
struct SizedKinds;
template <class Kind, class... Rest>
struct SizedKinds<Kind, Rest...> {
  using Atomics = typename Kind::Page::Atomics;

  /// Of the first kind that takes objects of `size`; the last takes all.
  static constexpr std::size_t frame_bytes(std::size_t size) noexcept {
    if constexpr (sizeof...(Rest) != 0) {
      if (size > Kind::max_object_bytes) {
        return SizedKinds<Rest...>::frame_bytes(size);
      }
    }
    return Kind::Page::frame_bytes(size);
  }
};

/// All size classes of a zone on SizedPages. They have one type, since they know their pages as
/// ShapedPages.
template <class SizeClasses, class Queue, class... Kinds>
struct ClassGroup<SizeClasses, Queue, 0, 0, SizedKinds<Kinds...>, true> {
  using Page = ShapedPage<typename SizedKinds<Kinds...>::Atomics>;
  using Header = typename Page::Header;

  static constexpr std::uint32_t number = 0;
  static constexpr std::uint32_t first = 0;
  static constexpr std::uint32_t count = SizeClasses::count;

  template <class P>
  static constexpr bool has_pages = is_sized_page<P>;

  static constexpr bool may_have_frames_of(std::size_t bytes) noexcept {
    return ((Kinds::Page::size_bytes == bytes) || ...);
  }
  static constexpr std::size_t frame_bytes_at(std::uint32_t position) noexcept {
    return SizedKinds<Kinds...>::frame_bytes(SizeClasses::size_of(position));
  }

  struct Geometries {
    SlotGeometry at[count];
  };
  static constexpr Geometries make_geometries() noexcept {
    Geometries result{};
    for (std::uint32_t position = 0; position < count; ++position) {
      result.at[position] = SlotGeometry::fit(SizeClasses::size_of(position),
                                              frame_bytes_at(position), Page::header_bytes, true);
    }
    return result;
  }
  static constexpr Geometries geometries = make_geometries();

  struct AllFrames {
    FramesOf<Page> at[count];
  };
  static constexpr AllFrames make_frames() noexcept {
    AllFrames result{};
    for (std::uint32_t position = 0; position < count; ++position) {
      result.at[position] = FramesOf<Page>::of(frame_bytes_at(position));
    }
    return result;
  }
  static constexpr AllFrames frames = make_frames();
  /// From a table, so that a constant position gives a constant.
  [[gnu::always_inline]] static constexpr FramesOf<Page> frames_at(
      std::uint32_t position) noexcept {
    return frames.at[position];
  }
  /// It need not ask the header, since slots begin where the frame does.
  [[gnu::always_inline]] static std::size_t offset_of(const void* address, Header*,
                                                      const FramesOf<Page>& its_frames) noexcept {
    return its_frames.frames.offset_in_frame(address);
  }
  static_assert(all_fit(geometries.at), "an object of every size class fits its page kind");

  /// It has no depot.
  static constexpr std::size_t first_frame_bytes = 0;
  static constexpr bool has_one_frame_size = false;

  template <class Class>
  static void shape(const Class& size_class, Header* header) noexcept {
    Page::set_slots(header, size_class.frames().frame_of(header));
  }

  SizeClass<Page, Queue> classes[count];
};

/// The one class of a zone on pages of a size that is known at run time. Zone::configure_class()
/// tells its slots and frames.
template <class SizeClasses, class Queue, class Kind, bool Last>
  requires RunTimePage<typename Kind::Page>
struct ClassGroup<SizeClasses, Queue, 0, 0, Kind, Last> {
  using Page = typename Kind::Page;
  using Header = typename Page::Header;

  static constexpr std::uint32_t number = 0;
  static constexpr std::uint32_t first = 0;
  static constexpr std::uint32_t count = 1;
  static_assert(SizeClasses::count == 1, "pages of a size known at run time serve one size class");

  /// It has no depot.
  static constexpr std::size_t first_frame_bytes = 0;
  static constexpr bool has_one_frame_size = false;

  template <class P>
  static constexpr bool has_pages = false;

  [[gnu::always_inline]] static std::size_t offset_of(const void* address, Header* header,
                                                      const FramesOf<Page>&) noexcept {
    return Page::offset_of(address, header);
  }
  /// The supplier of the frame did it.
  template <class Class>
  static void shape(const Class&, Header*) noexcept {}

  SizeClass<Page, Queue> classes[1];
};

/// The groups from number `Number` on, whose first class is number `First`.
template <class SizeClasses, class Queue, std::uint32_t Number, std::uint32_t First, class... Kinds>
struct ClassGroups {
  static_assert(First == SizeClasses::count, "every size class has a page kind");
  static constexpr std::uint32_t group_count = Number;
  template <class F>
  constexpr void for_each_group(F&&) const noexcept {}
};

template <class SizeClasses, class Queue, std::uint32_t Number, std::uint32_t First, class Kind,
          class... Rest>
struct ClassGroups<SizeClasses, Queue, Number, First, Kind, Rest...> {
  using Group = ClassGroup<SizeClasses, Queue, Number, First, Kind, sizeof...(Rest) == 0>;
  using Next = ClassGroups<SizeClasses, Queue, Number + 1, First + Group::count, Rest...>;
  static constexpr std::uint32_t group_count = Next::group_count;

  Group first_group;
  [[no_unique_address]] Next rest;

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

  /// Calls `f.template operator()<Group>(position in the group)` for the class numbered `index`.
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
    f(first_group);
    rest.for_each_group(f);
  }
  template <class F>
  constexpr void for_each_group(F&& f) const noexcept {
    f(first_group);
    rest.for_each_group(f);
  }

 private:
  template <class Self, class F>
  [[gnu::always_inline]] static constexpr decltype(auto) with_class_of(Self& self,
                                                                       std::uint32_t index,
                                                                       F& f) noexcept {
    if constexpr (sizeof...(Rest) == 0) {
      return f(self.first_group, self.first_group.classes[index - First]);
    } else {
      if (index < First + Group::count) {
        return f(self.first_group, self.first_group.classes[index - First]);
      }
      return self.rest.with_class(index, f);
    }
  }
};

template <class Config>
using QueueOf = typename Config::template Queue<typename Config::Atomics>;

template <class SizeClasses, class Queue, class Pages>
struct GroupsFor;
template <class SizeClasses, class Queue, class... Kinds>
struct GroupsFor<SizeClasses, Queue, PageKinds<Kinds...>> {
  using Type = ClassGroups<SizeClasses, Queue, 0, 0, Kinds...>;
};
template <class SizeClasses, class Queue, class... Kinds>
  requires has_sized_pages<PageKinds<Kinds...>>
struct GroupsFor<SizeClasses, Queue, PageKinds<Kinds...>> {
  using Type = ClassGroups<SizeClasses, Queue, 0, 0, SizedKinds<Kinds...>>;
};

/// The size classes of a configuration. Thread: the owner.
template <class Config>
class ClassTable : public GroupsFor<typename Config::SizeClasses, QueueOf<Config>,
                                    typename Config::Pages>::Type {
 public:
  using Queue = QueueOf<Config>;
  using SizeClasses = typename Config::SizeClasses;

  static constexpr std::uint32_t class_count = SizeClasses::count;
  static_assert(class_count <= 256, "a page header has 8 bits for the class");
  static_assert(SizeClasses::validate(), "the table of size classes is not sound");

  /// All zero: allocate_fast() of its classes finds nothing, and nothing else may be called.
  constexpr ClassTable() noexcept = default;

  /// Numbers the classes and tells them their owner.
  constexpr explicit ClassTable(Queue& queue) noexcept {
    std::uint32_t index = 0;
    this->for_each_group([&](auto& group) noexcept {
      if constexpr (requires { group.geometries; }) {
        std::uint32_t position = 0;
        for (auto& size_class : group.classes) {
          size_class.configure(group.geometries.at[position], index++, queue,
                               group.frames_at(position));
          ++position;
        }
      }
    });
  }

  /// Calls f(class) for every class.
  template <class F>
  constexpr void for_each_class(F&& f) const noexcept {
    this->for_each_group([&](const auto& group) noexcept {
      for (const auto& size_class : group.classes) {
        f(size_class);
      }
    });
  }

  /// True if `page` has the seal of a class on pages of type `Page`.
  template <class Page>
  [[gnu::cold]] static bool has_seal_of_any_class(const typename Page::Header* page) noexcept {
    for (std::uint32_t index = 0; index < class_count; ++index) {
      if (page->has_seal_for(SizeClasses::size_of(index))) {
        return true;
      }
    }
    return false;
  }
};

}  // namespace slabmalloc
