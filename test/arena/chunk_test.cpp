// SPDX-License-Identifier: MIT
#include "arena/chunk.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <set>
#include <vector>

namespace slabmalloc {
namespace {

TEST(Chunk, record_of_zeros_is_clear) {
  const auto zeros = std::make_unique<std::byte[]>(sizeof(Chunk) + alignof(Chunk));
  std::memset(zeros.get(), 0, sizeof(Chunk) + alignof(Chunk));
  const auto* const chunk = reinterpret_cast<const Chunk*>(
      align_up(reinterpret_cast<std::uintptr_t>(zeros.get()), alignof(Chunk)));
  EXPECT_EQ(chunk->info.kind, ChunkKind::Unclaimed);
  EXPECT_EQ(chunk->header.tag.load(Order::relaxed), 0u);
  EXPECT_EQ(chunk->header.seal.load(Order::relaxed), 0u);
}

TEST(Chunk, clearing_takes_away_owner_seal_and_kind) {
  const auto chunk = std::make_unique<Chunk>();
  chunk->header.tag.store(64, Order::relaxed);
  chunk->header.seal.store(7, Order::relaxed);
  chunk->info = ChunkInfo::large_head(5);
  chunk->clear();
  EXPECT_EQ(chunk->info.kind, ChunkKind::Unclaimed);
  EXPECT_EQ(chunk->header.tag.load(Order::relaxed), 0u);
  EXPECT_EQ(chunk->header.seal.load(Order::relaxed), 0u);
}

TEST(Chunk, is_found_from_its_header) {
  const auto chunk = std::make_unique<Chunk>();
  EXPECT_EQ(Chunk::of(&chunk->header), chunk.get());
}

TEST(Chunk, bitmaps_of_the_smallest_slots_fit_below_the_header) {
  const auto chunk = std::make_unique<Chunk>();
  const auto words = static_cast<std::uint32_t>(Chunk::maximum_words);
  EXPECT_GE(Chunk::maximum_words * word_bits * 16, chunk_bytes);
  const auto* const last = reinterpret_cast<std::byte*>(&chunk->header.remote(words - 1, words));
  EXPECT_EQ(last, reinterpret_cast<std::byte*>(chunk.get()));
}

TEST(Chunk, tail_leads_to_head) {
  const auto chunks = std::make_unique<Chunk[]>(4);
  chunks[3].publish(ChunkInfo::slab_tail(2));
  EXPECT_EQ(chunks[3].head(chunks[3].snapshot()), &chunks[1]);
}

TEST(Chunk, finds_the_head_by_the_snapshot_after_the_page_has_ended) {
  const auto chunks = std::make_unique<Chunk[]>(4);
  chunks[3].publish(ChunkInfo::slab_tail(2));
  const ChunkInfo snapshot = chunks[3].snapshot();
  chunks[3].clear();
  EXPECT_EQ(chunks[3].head(snapshot), &chunks[1]);
}

TEST(Chunk, headers_of_successive_chunks_use_every_cache_set) {
  std::set<std::size_t> sets;
  for (std::size_t chunk = 0; chunk < 64; ++chunk) {
    sets.insert((chunk * sizeof(Chunk) + Chunk::bitmap_bytes) / 64 % 64);
  }
  EXPECT_EQ(sets.size(), 64u);
}

}  // namespace
}  // namespace slabmalloc
