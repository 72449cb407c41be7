// SPDX-License-Identifier: MIT
#include "slabmalloc/kernel/grace_list.hpp"

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>

#include "kernel/reading_kernel.hpp"

namespace slabmalloc::test {
namespace {

struct Node {
  Node* next = nullptr;
  bool is_here = false;
  bool was_read[2] = {};  ///< The sections that were open when it was pushed, and are still.
};

/// A list with two readers, and what must hold of it.
class Trial {
 public:
  static constexpr std::uint32_t most_nodes = 16;

  ~Trial() { Readers::close_all(); }

  void push() {
    Node& node = nodes_[pushed_++];
    node.is_here = true;
    for (std::size_t reader = 0; reader < 2; ++reader) {
      node.was_read[reader] = Readers::is_open(reader);
    }
    list_.push(&node);
    ++inside_;
  }
  void take(std::uint32_t most) {
    std::uint32_t taken = 0;
    for (Node* node = list_.take(most); node != nullptr; node = node->next) {
      ASSERT_TRUE(node->is_here) << "a node was taken twice";
      ASSERT_FALSE(node->was_read[0] || node->was_read[1]) << "a reader may still look at it";
      node->is_here = false;
      --inside_;
      ++taken;
    }
    ASSERT_LE(taken, most);
  }
  void open(std::size_t reader) { Readers::open(reader); }
  void close(std::size_t reader) {
    Readers::close(reader);
    for (Node& node : nodes_) {
      node.was_read[reader] = false;
    }
  }
  void expect_sound() {
    ASSERT_EQ(list_.size(), inside_);
    ASSERT_EQ(list_.validate(), nullptr);
  }
  /// Without readers two batches pass: the one that waited, and the one to come.
  void expect_all_pass() {
    close(0);
    close(1);
    for (int batch = 0; batch < 3; ++batch) {
      take(most_nodes);
    }
    ASSERT_EQ(inside_, 0u) << "a node passes within three calls";
    ASSERT_TRUE(list_.is_empty());
  }

 private:
  GraceList<ReadingKernel, HardwareAtomics, Node> list_;
  Node nodes_[most_nodes] = {};
  std::uint32_t pushed_ = 0;
  std::uint32_t inside_ = 0;
};

/// A step: a push, a take of one or two, or a reader that opens or closes its section.
constexpr std::uint32_t step_kinds = 5;
void do_step(Trial& trial, std::uint32_t kind) {
  switch (kind) {
    case 0:
      return trial.push();
    case 1:
    case 2:
      return trial.take(kind);
    default:
      const std::size_t reader = kind - 3;
      Readers::is_open(reader) ? trial.close(reader) : trial.open(reader);
  }
}

TEST(GraceList, no_node_leaves_before_its_readers_do_in_any_order_of_eight_steps) {
  constexpr std::uint32_t steps = 8;
  std::uint32_t orders = 1;
  for (std::uint32_t step = 0; step < steps; ++step) {
    orders *= step_kinds;
  }
  for (std::uint32_t order = 0; order < orders; ++order) {
    Trial trial;
    std::uint32_t rest = order;
    for (std::uint32_t step = 0; step < steps; ++step, rest /= step_kinds) {
      do_step(trial, rest % step_kinds);
      trial.expect_sound();
    }
    trial.expect_all_pass();
    ASSERT_FALSE(testing::Test::HasFailure()) << "order " << order;
  }
}

TEST(GraceList, a_node_for_reuse_leaves_while_it_is_read) {
  GraceList<ReadingKernel, HardwareAtomics, Node> list;
  Node nodes[3];
  Readers::open(0);
  list.push(&nodes[0]);
  list.push(&nodes[1]);
  EXPECT_EQ(list.take(1), nullptr) << "they wait from here on";
  list.push(&nodes[2]);
  EXPECT_EQ(list.take_any(), &nodes[1]);
  EXPECT_EQ(list.take_any(), &nodes[0]);
  EXPECT_EQ(list.take_any(), &nodes[2]);
  EXPECT_EQ(list.take_any(), nullptr);
  EXPECT_TRUE(list.is_empty());
  Readers::close_all();
}

TEST(GraceList, a_handler_in_the_middle_pushes_and_takes_nothing) {
  GraceList<ReadingKernel, HardwareAtomics, Node> list;
  Node nodes[2];
  list.push(&nodes[0]);
  EXPECT_EQ(list.take(1), nullptr);
  int calls = 0;
  ReadingKernel::in_hook = [&] {
    if (++calls == 1) {
      list.push(&nodes[1]);
      EXPECT_EQ(list.take(2), nullptr) << "the interrupted caller has the batches";
      EXPECT_EQ(list.take_any(), nullptr);
    }
  };
  EXPECT_EQ(list.take(2), &nodes[0]);
  EXPECT_EQ(list.take(2), &nodes[1]);
  ReadingKernel::in_hook = nullptr;
  EXPECT_EQ(calls, 2);
  EXPECT_EQ(list.validate(), nullptr);
}

/// Closes the section of reader 0 at the hundredth look.
struct ClosingKernel : ReadingKernel {
  static inline int looks = 0;
  static void relax() noexcept {
    if (++looks == 100) {
      Readers::close(0);
    }
  }
};

TEST(GraceList, a_caller_that_may_wait_waits_for_the_readers) {
  GraceList<ClosingKernel, HardwareAtomics, Node> list;
  EXPECT_TRUE(list.wait()) << "nothing to wait for";
  Node node;
  Readers::open(0);
  list.push(&node);
  EXPECT_EQ(list.take(1), nullptr);
  EXPECT_TRUE(list.wait());
  EXPECT_EQ(ClosingKernel::looks, 100);
  EXPECT_EQ(list.take(1), &node);

  Readers::open(0);
  ClosingKernel::looks = 0;
  EXPECT_TRUE(wait_for_grace_period<ClosingKernel>());
  EXPECT_EQ(ClosingKernel::looks, 100);
}

}  // namespace
}  // namespace slabmalloc::test
