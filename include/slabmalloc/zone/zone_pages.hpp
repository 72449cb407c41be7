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
// are found by zone_mail.hpp.
//
// Invariant, with its line in validate_pages():
//   Z1  frame bytes = bytes of the pages of all classes and of the depots
#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>

#include "slabmalloc/zone/class_banks.hpp"
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
  using Banks = typename BanksFor<SizeClasses, typename Config::Pages>::Type;
  static_assert(class_count <= 256, "a page header has 8 bits for the class");
  static_assert(SizeClasses::validate(), "the table of size classes is not sound");

  /// All zero, and good for nothing but what EmptyZone says.
  constexpr explicit ZonePages(EmptyZone) noexcept : pager_(nullptr) {}

  constexpr explicit ZonePages(PagerT* pager) noexcept : pager_(pager) {
    std::uint32_t index = 0;
    banks_.for_each_bank([&](auto& bank) noexcept {
      std::uint32_t position = 0;
      for (auto& size_class : bank.classes) {
        size_class.configure(bank.geometries.at[position++], index++, owner_);
      }
    });
  }

  // ---- in --------------------------------------------------------------------------------------

  /// Gives the class a page from wherever there is one.
  template <class Bank, class Class>
  bool add_page(Bank& bank, Class& size_class) noexcept {
    if (Header* page = take_spare(bank, size_class.frame_bytes())) {
      size_class.add_page(page, false);
      return true;
    }
    return add_frame(bank, size_class);
  }

  /// Takes an empty page from the depot or from a class whose frames are of `bytes`, or null.
  template <class Bank>
  static Header* take_spare(Bank& bank, std::size_t bytes) noexcept {
    Header* page = has_depot<Bank> ? bank.depot.pop() : nullptr;
    return page != nullptr ? page : borrow_idle(bank, bytes);
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
  template <class Bank, class Class>
  [[gnu::always_inline]] void retire_excess([[maybe_unused]] Bank& bank,
                                            [[maybe_unused]] Class& size_class) noexcept {
    if constexpr (is_paged || has_depot<Bank>) {
      while (size_class.idle_pages() > Config::idle_pages_per_class) [[unlikely]] {
        retire_one(bank, size_class);
      }
    }
  }

  /// Gives the empty pages of class `index` back to the pager. Not constrained: clang 14 instantiates trim() for
  /// zones without a pager too.
  void give_back_class(std::uint32_t index) noexcept {
    banks_.with_class(index, [this](auto& bank, auto& size_class) {
      size_class.remove_empty_pages(size_class.pages(), [&](Header* page) noexcept {
        give_back(bank, size_class.frame_bytes(), page);
      });
    });
  }

  /// Gives every empty page back to the pager; returns their bytes.
  std::size_t give_back_all() noexcept {
    const std::size_t before = frame_bytes_.get();
    for (std::uint32_t index = 0; index < class_count; ++index) {
      give_back_class(index);
    }
    banks_.for_each_bank([&](auto& bank) noexcept {
      while (Header* page = bank.depot.pop()) {
        give_back(bank, uniform_frame_bytes(bank), page);
      }
    });
    return before - frame_bytes_.get();
  }

  /// Hands at most `limit` empty pages of type `Page` to `give(Page*)`; returns how many.
  template <class Page, class Give>
  std::size_t remove_empty_pages(std::size_t limit, Give&& give) noexcept {
    std::size_t count = 0;
    banks_.for_each_bank([&](auto& bank) noexcept {
      using Bank = typename std::remove_reference_t<decltype(bank)>;
      if constexpr (std::same_as<typename Bank::Page, Page>) {
        const auto hand_over = [&](Header* page, std::size_t bytes) noexcept {
          frame_bytes_.subtract(bytes);
          give(reinterpret_cast<Page*>(Page::frame_of(page)));
        };
        for (; count < limit && bank.depot.size() != 0; ++count) {
          hand_over(bank.depot.pop(), uniform_frame_bytes(bank));
        }
        for (auto& size_class : bank.classes) {
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
    banks_.for_each_bank([&](auto& bank) noexcept {
      using Page = typename std::remove_reference_t<decltype(bank)>::Page;
      for (auto& size_class : bank.classes) {
        size_class.remove_all_pages([&](Header* page) noexcept {
          give(static_cast<void*>(Page::frame_of(page)), size_class.frame_bytes());
        });
      }
      while (Header* page = bank.depot.pop()) {
        give(static_cast<void*>(Page::frame_of(page)), uniform_frame_bytes(bank));
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
    banks_.for_each_bank([&](const auto& bank) noexcept {
      for (const auto& size_class : bank.classes) {
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
    banks_.for_each_bank([&](const auto& bank) noexcept {
      for (const auto& size_class : bank.classes) {
        if (broken == nullptr) {
          broken = size_class.validate();
        }
        bytes += size_class.pages() * size_class.frame_bytes();
      }
      bytes += bank.depot.size() * uniform_frame_bytes(bank);
    });
    if (broken == nullptr && bytes != frame_bytes_.get()) {
      broken = "Z1: frame bytes = pages of all classes + depots";
    }
    return broken;
  }

  Owner<Atomics> owner_;  ///< Its address is the tag of all pages.
  PagerT* pager_;
  Banks banks_;

 private:
  /// A depot holds frames of one size.
  template <class Bank>
  static constexpr bool has_depot =
      Bank::Page::frame_bytes(SizeClasses::size_of(Bank::first)) ==
      Bank::Page::frame_bytes(SizeClasses::size_of(Bank::first + Bank::count - 1));

  template <class Bank>
  static constexpr std::size_t uniform_frame_bytes(const Bank&) noexcept {
    return Bank::Page::frame_bytes(SizeClasses::size_of(Bank::first));
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

  Counter<Atomics> frame_bytes_;
  Counter<Atomics> frame_bytes_high_water_;
};

}  // namespace slabmalloc
