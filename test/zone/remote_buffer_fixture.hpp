// SPDX-License-Identifier: MIT
//
// A fixture with pages whose objects go through a remote buffer when they are freed.
#pragma once

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>

#include "slabmalloc/page/embedded_page.hpp"
#include "slabmalloc/zone/remote_buffer.hpp"
#include "support/frames.hpp"
#include "support/misuse_recorder.hpp"

namespace slabmalloc {

inline constexpr std::size_t no_limit = std::size_t{1} << 40;

/// Open pages of small live objects, and their owner.
class RemoteBufferTest : public testing::Test {
 protected:
  using Page = ObjectPage;
  using Header = Page::Header;
  static constexpr std::size_t object_bytes = 16;
  static inline const SlotGeometry geometry = Page::geometry(object_bytes);

  Header* add_page() {
    Header* page = Page::header_of(frames_.page<Page>());
    page->tag.store(queue_.tag(), Order::relaxed);
    page->seal.store(page->seal_for(object_bytes), Order::relaxed);
    page->announced.store(0, Order::relaxed);
    for (std::uint32_t word = 0; word < geometry.words; ++word) {
      page->local(word).store(~geometry.word_mask(word), Order::relaxed);
      page->remote(word, geometry.words).store(0, Order::relaxed);
    }
    return page;
  }
  static RemoteFree<HardwareAtomics> free_of(Header* page, std::uint32_t slot) {
    return {page, Page::frame_of(page), &geometry, slot / word_bits, Word{1} << (slot % word_bits)};
  }
  static Word remote(Header* page, std::uint32_t word) {
    return page->remote(word, geometry.words).load(Order::relaxed);
  }
  static std::uint32_t announced(Header* page) { return page->announced.load(Order::relaxed); }

  test::FrameSource frames_;
  test::MisuseRecorder misuse_;
  RemoteFreeQueue<HardwareAtomics> queue_;
};

}  // namespace slabmalloc
