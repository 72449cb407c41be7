// SPDX-License-Identifier: MIT
//
// Scenarios of bad calls to an allocator of one size: it reports each, and changes nothing.
#pragma once

#include <cstddef>
#include <cstdint>

#include "scenarios/misuse_log.hpp"
#include "scenarios/pages.hpp"
#include "scenarios/scenario.hpp"
#include "scenarios/snapshot.hpp"

namespace slabmalloc::scenario {

/// An allocator of 48 B with some pages.
template <class Page>
struct OneSizeMisuse {
  using Allocator = SCAllocator<Page>;
  using Header = typename Page::Header;

  static constexpr std::size_t object_bytes = 48;
  static constexpr std::size_t most_pages = 4;
  static constexpr Layout layout = layout_of(object_bytes, 8);

  explicit OneSizeMisuse(Trial& its_trial) noexcept
      : trial(its_trial),
        misuse(trial),
        source(trial),
        pages(trial, most_pages),
        allocator(object_bytes) {}

  void add_page() {
    pages.push_back(source.page());
    trial.check(allocator.refill(pages.back()));
  }
  std::byte* frame(std::size_t index) { return reinterpret_cast<std::byte*>(pages[index]); }
  void* allocate() { return allocator.allocate(layout).value_or(nullptr); }
  Objects allocate_all() {
    return scenario::allocate_all(trial, allocator, layout,
                                  most_pages * Page::geometry(object_bytes).slots);
  }

  /// Every byte of the allocator, of its frames, and of their meta-data.
  Snapshot snapshot() {
    Snapshot bytes(trial, sizeof(allocator) + 2 * most_pages * Page::frame_bytes(object_bytes));
    bytes.add(&allocator, sizeof(allocator));
    for (Page* page : pages) {
      bytes.add(page, Page::frame_bytes(object_bytes));
      Header* header = Page::header_of(page);
      const std::uint32_t words = Page::geometry(object_bytes).words;
      const auto* lowest = reinterpret_cast<const std::byte*>(&header->remote(words - 1, words));
      bytes.add(lowest,
                static_cast<std::size_t>(reinterpret_cast<std::byte*>(header + 1) - lowest));
    }
    return bytes;
  }

  /// Makes `bad_call`. Checks that it causes one report of `kind` and changes no byte.
  template <class BadCall>
  bool expect_harmless(MisuseKind kind, BadCall bad_call, Where where = Where::here()) {
    const Snapshot before = snapshot();
    bad_call();
    const bool is_reported = misuse.take_one(kind, where);
    return trial.check(before.holds(), "a bad call changes nothing", where) &&
           trial.sound(allocator.validate(), where) && is_reported;
  }

  void a_double_free_on_the_current_page() {
    add_page();
    void* object = allocate();
    allocator.deallocate(object, layout);
    expect_harmless(MisuseKind::DoubleFree, [&] { allocator.deallocate(object, layout); });
  }

  void a_free_of_any_slot_that_was_never_given_out() {
    add_page();
    if (!trial.differ(allocate(), nullptr)) {
      return;
    }
    for (std::size_t slot = 1; slot < Page::geometry(object_bytes).slots; ++slot) {
      if (!expect_harmless(MisuseKind::DoubleFree,
                           [&] { allocator.deallocate(frame(0) + slot * object_bytes, layout); })) {
        return;
      }
    }
  }

  void a_double_free_of_a_slot_that_is_next_to_be_given_out() {
    add_page();
    const Objects objects = allocate_all();
    allocator.deallocate(objects[3], layout);
    allocator.deallocate(objects[7], layout);
    if (!trial.equal(allocate(), objects[3])) {
      return;
    }
    expect_harmless(MisuseKind::DoubleFree, [&] { allocator.deallocate(objects[7], layout); });
    trial.equal(allocate(), objects[7]);
    trial.equal(allocate(), nullptr, "no slot is given out twice");
  }

  void a_double_free_on_a_partial_page() {
    add_page();
    add_page();
    const Objects objects = allocate_all();
    for (const std::size_t indices[] = {std::size_t{0}, objects.size() - 1};
         const std::size_t index : indices) {
      allocator.deallocate(objects[index], layout);
      expect_harmless(MisuseKind::DoubleFree,
                      [&] { allocator.deallocate(objects[index], layout); });
    }
  }

  void a_double_free_on_an_empty_page() {
    add_page();
    void* object = allocate();
    allocator.deallocate(object, layout);
    allocator.try_reclaim_pages(0, [](Page*) {});
    expect_harmless(MisuseKind::DoubleFree, [&] { allocator.deallocate(object, layout); });
    expect_harmless(MisuseKind::DoubleFree, [&] { allocator.deallocate_remote(object, layout); });
  }

  void a_free_of_any_address_inside_a_block_or_beyond_the_last() {
    add_page();
    allocate_all();
    const std::size_t end = Page::geometry(object_bytes).slots * object_bytes;
    const std::size_t bytes = Page::frame_bytes(object_bytes);
    const Snapshot before = snapshot();
    std::size_t bad_calls = 0;
    for (std::size_t offset = 0; offset < bytes; ++offset) {
      if (offset >= end || offset % object_bytes != 0) {
        allocator.deallocate(frame(0) + offset, layout);
        allocator.deallocate_remote(frame(0) + offset, layout);
        bad_calls += 2;
      }
    }
    misuse.take_all(MisuseKind::MisalignedFree, bad_calls);
    trial.check(before.holds());
  }

  void a_free_of_memory_that_is_not_in_a_page() {
    add_page();
    Page* stranger = source.page();
    expect_harmless(MisuseKind::ForeignPointer, [&] { allocator.deallocate(stranger, layout); });
    expect_harmless(MisuseKind::ForeignPointer,
                    [&] { allocator.deallocate_remote(stranger, layout); });
  }

  void a_free_on_a_page_that_was_reclaimed() {
    add_page();
    void* object = allocate();
    allocator.deallocate(object, layout);
    if (!trial.equal(allocator.try_reclaim_pages(1, [](Page*) {}), 1u)) {
      return;
    }
    expect_harmless(MisuseKind::ForeignPointer, [&] { allocator.deallocate(object, layout); });
  }

  void a_free_on_a_page_of_objects_of_another_size() {
    add_page();
    void* object = allocate();
    SCAllocator<Page> other(2 * object_bytes);
    expect_harmless(MisuseKind::ForeignPointer,
                    [&] { other.deallocate(object, layout_of(2 * object_bytes, 8)); });
  }

  void a_free_with_a_layout_that_is_never_served() {
    add_page();
    void* object = allocate();
    for (const Layout layouts[] = {layout_of(object_bytes + 1), layout_of(8, 64)};
         const Layout wrong : layouts) {
      expect_harmless(MisuseKind::SizeMismatch, [&] { allocator.deallocate(object, wrong); });
      expect_harmless(MisuseKind::SizeMismatch,
                      [&] { allocator.deallocate_remote(object, wrong); });
    }
  }

  void a_refill_with_a_page_that_is_in_use() {
    add_page();
    add_page();
    if (!trial.differ(allocate(), nullptr)) {
      return;
    }
    for (Page* page : pages) {
      expect_harmless(MisuseKind::InvalidPage, [&] {
        trial.equal(allocator.refill(page).error(), AllocationError::InvalidLayout);
      });
    }
  }

  void a_refill_with_no_page_or_a_misaligned_one() {
    add_page();
    std::byte* const first = frame(0);
    for (std::byte* const addresses[] = {nullptr, first + 1, first + 64,
                                         first + Page::frame_bytes(object_bytes) / 2};
         std::byte * address : addresses) {
      expect_harmless(MisuseKind::InvalidPage, [&] {
        trial.equal(allocator.refill(reinterpret_cast<Page*>(address)).error(),
                    AllocationError::InvalidLayout);
      });
    }
  }

  void reports_name_the_address_the_size_and_the_slot() {
    add_page();
    allocate_all();
    std::byte* object = frame(0) + 70 * object_bytes;
    allocator.deallocate(object, layout);
    allocator.deallocate(object, layout);
    allocator.deallocate(object + 8, layout);
    if (!trial.equal(misuse.take(), 2u)) {
      return;
    }
    trial.equal(misuse[0].address, object);
    trial.equal(misuse[0].object_size, object_bytes);
    trial.equal(misuse[0].slot, 70u);
    trial.check(misuse[0].block == object && misuse[0].state != BlockState::NeverAllocated);
    trial.equal(misuse[1].address, object + 8);
    trial.equal(misuse[1].object_size, object_bytes);
    trial.equal(misuse[1].slot, 70u);
    trial.check(misuse[1].block == object && misuse[1].state == BlockState::Free);
  }

  void reports_tell_what_is_known_of_the_state_of_a_block() {
    add_page();
    std::byte* const first = static_cast<std::byte*>(allocate());
    std::byte* const never = frame(0) + (Page::geometry(object_bytes).slots - 1) * object_bytes;
    allocator.deallocate(never, layout);
    allocator.deallocate_remote(never, layout);
    allocator.drain();
    allocator.deallocate(first + 1, layout);
    allocator.deallocate(first, layout);
    allocator.deallocate(first, layout);
    if (!trial.equal(misuse.take(), 4u)) {
      return;
    }
    trial.check(misuse[0].state == BlockState::NeverAllocated &&
                misuse[0].found_at == FoundAt::Call);
    // Another thread does not know how far the owner has got.
    trial.check(misuse[1].state == BlockState::Free && misuse[1].found_at == FoundAt::Call);
    trial.check(misuse[2].state == BlockState::InUse && misuse[2].block == first);
    trial.check(misuse[3].state == BlockState::Freed && misuse[3].found_at == FoundAt::Call);
  }

  void nothing_has_leaked_after_all_steps() {
    add_page();
    add_page();
    Objects objects = allocate_all();
    for (void* object : objects) {
      allocator.deallocate(static_cast<std::byte*>(object) + 1, layout);
      allocator.deallocate(object, layout);
      allocator.deallocate(object, layout);
      allocator.deallocate_remote(object, layout);
      allocator.deallocate(object, layout_of(8, 64));
      if (!trial.sound(allocator.validate())) {
        return;
      }
    }
    allocator.drain();
    trial.equal(misuse.take(), 4 * objects.size());
    trial.sound(allocator.validate());
    trial.equal(allocator.statistics().used, 0u);
    Objects again = allocate_all();
    trial.check(same_elements(again, objects));
    for (void* object : again) {
      allocator.deallocate(object, layout);
    }
    trial.equal(reclaim_all(allocator, source), 2u);
  }

  Trial& trial;
  MisuseLog misuse;
  PageSource<Page> source;
  List<Page*> pages;
  Allocator allocator;
};

template <class Page>
inline constexpr Scenario one_size_misuse_scenarios[] = {
    scenario<&OneSizeMisuse<Page>::a_double_free_on_the_current_page>(),
    scenario<&OneSizeMisuse<Page>::a_free_of_any_slot_that_was_never_given_out>(),
    scenario<&OneSizeMisuse<Page>::a_double_free_of_a_slot_that_is_next_to_be_given_out>(),
    scenario<&OneSizeMisuse<Page>::a_double_free_on_a_partial_page>(),
    scenario<&OneSizeMisuse<Page>::a_double_free_on_an_empty_page>(),
    scenario<&OneSizeMisuse<Page>::a_free_of_any_address_inside_a_block_or_beyond_the_last>(),
    scenario<&OneSizeMisuse<Page>::a_free_of_memory_that_is_not_in_a_page>(),
    scenario<&OneSizeMisuse<Page>::a_free_on_a_page_that_was_reclaimed>(),
    scenario<&OneSizeMisuse<Page>::a_free_on_a_page_of_objects_of_another_size>(),
    scenario<&OneSizeMisuse<Page>::a_free_with_a_layout_that_is_never_served>(),
    scenario<&OneSizeMisuse<Page>::a_refill_with_a_page_that_is_in_use>(),
    scenario<&OneSizeMisuse<Page>::a_refill_with_no_page_or_a_misaligned_one>(),
    scenario<&OneSizeMisuse<Page>::reports_name_the_address_the_size_and_the_slot>(),
    scenario<&OneSizeMisuse<Page>::reports_tell_what_is_known_of_the_state_of_a_block>(),
    scenario<&OneSizeMisuse<Page>::nothing_has_leaked_after_all_steps>(),
};

}  // namespace slabmalloc::scenario
