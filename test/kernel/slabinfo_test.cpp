// SPDX-License-Identifier: MIT
#include "slabmalloc/kernel/slabinfo.hpp"

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "kernel/hosted_kernel.hpp"
#include "slabmalloc/kernel/object_cache.hpp"
#include "support/frames.hpp"

namespace slabmalloc {
namespace {

using test::FrameSource;
using test::HostedCpu;
using test::OpenKernel;

using Lines = std::vector<std::string>;

struct Inode {
  std::uint64_t words[75];
};

TEST(TextLine, aligns_columns_and_never_cuts_a_number) {
  TextLine<64> line;
  line.append("abc");
  line.end_column(6);
  line.right(std::size_t{42}, 5);
  line.right("-", 4);
  EXPECT_STREQ(line.c_str(), "abc      42   -");
  line.clear();
  line.append("a longer name");
  line.end_column(6);
  line.right(std::size_t{1234567}, 5);
  line.right(std::size_t{8}, 14);
  EXPECT_STREQ(line.c_str(), "a longer name 1234567   8") << "later columns catch up";
  line.clear();
  line.append(~std::uint64_t{0});
  line.append('/');
  line.append(std::size_t{0});
  EXPECT_STREQ(line.c_str(), "18446744073709551615/0");
}

TEST(TextLine, leaves_out_what_does_not_fit) {
  TextLine<8> line;
  line.append("0123456789");
  EXPECT_STREQ(line.c_str(), "0123456");
  line.append(std::size_t{5});
  line.right("more", 100);
  EXPECT_STREQ(line.c_str(), "0123456");
  line.clear();
  EXPECT_STREQ(line.c_str(), "");
  line.right(std::size_t{7}, 20);
  EXPECT_STREQ(line.c_str(), "       ");
}

TEST(Slabinfo, shows_every_cache_and_every_size_class_in_use) {
  HostedCpu::number = 0;
  FrameSource frames;
  ObjectCache<Inode, OpenKernel, FrameSource> inodes("inode", frames);
  ObjectCache<Inode, OpenKernel, FrameSource> unused("a_cache_of_a_long_name", frames);
  CpuZones<OpenKernel, FrameSource> heap(frames);
  Reclaimer<OpenKernel> reclaimer;
  Reclaimable entries[] = {Reclaimable(inodes), Reclaimable("heap", heap), Reclaimable(unused)};
  for (Reclaimable& entry : entries) {
    reclaimer.add(entry);
  }
  inodes.set_limit(100);
  Inode* objects[25];
  ASSERT_EQ(inodes.allocate_many(objects, 25), 25u);
  HostedCpu::number = 1;
  inodes.deallocate_many(objects, 13);
  inodes.zones().drain_this_cpu();
  HostedCpu::number = 0;
  inodes.zones().drain_this_cpu();
  void* const object = heap.allocate(Layout::of<std::uint64_t[8]>()).value();
  const Layout run_layout = Layout::from_size_align(100'000, 8).value();
  void* const run = heap.allocate(run_layout).value();
  heap.deallocate(heap.allocate(run_layout).value(), run_layout);
  heap.set_limit(400 * kibibyte);

  Lines lines;
  HostedCpu::lines = &lines;
  log_slabinfo(reclaimer);
  HostedCpu::lines = nullptr;
  // clang-format off
  const Lines expected = {
      "name                 in use  objects  bytes per page   KiB   pages"
      "    most   limit   refills    remote  nested  failed",
      "inode                    12       48    600        6     4       8"
      "       8      17         5        13       0       0",
      "heap-64                   -       63     64       63     4       1"
      "       1       -         1         0       -       -",
      "heap-runs                 -        -      -        -     4      25"
      "      49       -         -         -       -       -",
      "heap                      -        -      -        -     4      29"
      "      53     100         -         -       0       0",
      "a_cache_of_a_long_name    0        0    600        6     4       0"
      "       0       -         0         0       0       0"};
  // clang-format on
  EXPECT_EQ(lines, expected);

  heap.deallocate(run, run_layout);
  heap.deallocate(object, Layout::of<std::uint64_t[8]>());
  inodes.deallocate_many(objects + 13, 12);
  for (Reclaimable& entry : entries) {
    EXPECT_TRUE(reclaimer.remove(entry));
  }
  EXPECT_EQ(inodes.destroy(), 0u);
  heap.release_all();
}

TEST(Slabinfo, has_a_title_for_every_column) {
  SlabinfoLine line;
  const std::string header = line.header();
  CacheStatistics nothing;
  nothing.name = "";
  const std::string row = line.of(nothing);
  EXPECT_EQ(header.size(), row.size());
}

}  // namespace
}  // namespace slabmalloc
