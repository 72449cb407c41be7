// SPDX-License-Identifier: MIT
//
// Scenarios of memory that waits for readers. Threads are readers, CPUs and their handlers.
#include <new>

#include "explorer/cpu_hooks.hpp"
#include "explorer/scenarios.hpp"
#include "explorer/tiny_pages.hpp"
#include "slabmalloc/kernel/retired_objects.hpp"

namespace slabmalloc::explorer {

namespace {

/// Read sections of one reader. Their count is odd while one is open, so it serves as the number of
/// a grace period too.
struct Reader {
  ExploredAtomics::Cell<std::uintptr_t> sections;

  std::uintptr_t latest() noexcept { return sections.fetch_add(0, Order::acq_rel); }
  void open() noexcept { sections.fetch_add(1, Order::acq_rel); }
  void close() noexcept { sections.fetch_add(1, Order::acq_rel); }
};

struct Hooks : CpuHooks<1> {
  /// The scenario's reader lies at the start of the region.
  static Reader& reader() noexcept { return *reinterpret_cast<Reader*>(region()); }
  static std::uintptr_t grace_period_begin() noexcept { return reader().latest(); }
  static bool has_passed(std::uintptr_t number) noexcept {
    return number % 2 == 0 || reader().latest() != number;
  }
};

// ---- GraceList ----------------------------------------------------------------------------------

struct Node {
  Node* next = nullptr;
  Object mark = live;
};

struct NodeList {
  Reader reader;
  Passed passed;
  static constexpr unsigned count = 3;

  GraceList<Hooks, ExploredAtomics, Node> list;
  ExploredAtomics::Cell<Node*> found_by_reader;
  Node nodes[count];

  /// Takes nodes, and frees them.
  unsigned take(unsigned most) noexcept {
    unsigned taken = 0;
    for (Node* node = list.take(most); node != nullptr; node = node->next) {
      expect(node->mark == live, "a node was taken twice");
      node->mark = dead;
      count_event();
      ++taken;
    }
    return taken;
  }
  void read() noexcept {
    reader.open();
    if (const Node* const node = found_by_reader.load(Order::acquire)) {
      expect(node->mark == live, "a reader looks at a node that was freed");
    }
    reader.close();
  }
  void retire(unsigned number) noexcept {
    found_by_reader.store(nullptr, Order::release);
    list.push(&nodes[number]);
  }
  void expect_all_taken(unsigned expected) noexcept {
    expect(list.validate() == nullptr, "G1");
    for (int batch = 0; batch < 3; ++batch) {
      take(count);
    }
    expect(events() == expected, "a node was lost");
    expect(list.is_empty(), "the size of an empty list");
  }
};

/// A node leaves while a reader may hold it, and while others take and push.
class ReadNodes : public StateScenario<NodeList> {
 public:
  ReadNodes(const char* name, bool is_batched) : StateScenario(name, 4), is_batched_(is_batched) {}

  void set_up() override {
    NodeList& one = make_state();
    one.found_by_reader.store(&one.nodes[0], Order::relaxed);
    one.list.push(&one.nodes[1]);
    one.list.push(&one.nodes[2]);
    if (is_batched_) {
      one.take(1);
    }
  }
  void run(unsigned thread) override {
    NodeList& one = state();
    if (thread == 0) {
      one.read();
    } else if (thread == 1) {
      one.retire(0);
    } else {
      one.take(1);
      one.take(1);
    }
  }
  void check() override { state().expect_all_taken(NodeList::count); }

 private:
  bool is_batched_;  ///< The first batch waits at the start.
};

/// What happened before is found.
class NodeBefore : public StateScenario<NodeList> {
 public:
  NodeBefore() : StateScenario("a CPU takes a node of which it was told", 2) {}

  void set_up() override { make_state(); }
  void run(unsigned thread) override {
    NodeList& one = state();
    if (thread == 0) {
      one.list.push(&one.nodes[0]);
      one.passed.pass(0, &one);
      one.passed.receive(1);
      expect(one.take(1) == 1, "a batch that was closed before was not found");
    } else {
      one.passed.receive(0);
      expect(!one.list.has_batch() && one.take(1) == 0, "no batch is closed yet");
      expect(one.list.has_batch(), "the batch of a node that was pushed before was not closed");
      one.passed.pass(1, &one);
    }
  }
  void check() override { state().expect_all_taken(1); }
};

/// A node that is reused goes to one caller.
class ReusedNodes : public StateScenario<NodeList> {
 public:
  ReusedNodes() : StateScenario("two CPUs reuse nodes that wait", 3) {}

  void set_up() override {
    NodeList& one = make_state();
    one.list.push(&one.nodes[1]);
    one.list.push(&one.nodes[2]);
  }
  void run(unsigned thread) override {
    NodeList& one = state();
    if (thread == 0) {
      one.list.push(&one.nodes[0]);
    } else if (Node* const node = one.list.take_any()) {
      expect(node->mark == live, "a node was taken twice");
      node->mark = dead;
      count_event();
    }
  }
  void check() override { state().expect_all_taken(NodeList::count); }
};

// ---- RetiredObjects -----------------------------------------------------------------------------

/// A heap of one kind of object, and of blocks of pointers.
struct Zones {
  static constexpr bool has_layouts = true;
  using Hooks = explorer::Hooks;
  using Atomics = ExploredAtomics;
  static constexpr unsigned blocks = 3;
  static constexpr std::size_t block_bytes = 256;

  ExploredAtomics::Cell<std::uint32_t> used_blocks;
  alignas(64) std::byte memory[blocks][block_bytes];

  Result<void*> allocate(Layout, Context) noexcept {
    const std::uint32_t number = used_blocks.fetch_add(1, Order::acq_rel);
    expect(number < blocks, "a thread takes one block at most");
    return memory[number];
  }
  void deallocate(void* block, Layout layout, Context) noexcept {
    if (layout == object_layout()) {
      end_use(block);
      count_event();
    }
  }
};

struct RetiredSet {
  Reader reader;
  Passed passed;
  static constexpr unsigned count = 3;

  Zones zones;
  RetiredObjects<Zones> retired{zones};
  Object objects[count] = {live, live, live};

  void retire(unsigned number) noexcept {
    expect(static_cast<bool>(retired.retire(&objects[number], object_layout(), Context::Interrupt)),
           "a block was refused");
  }
};

/// Threads and handlers add to the open block of one CPU.
class OpenBlocks : public StateScenario<RetiredSet> {
 public:
  OpenBlocks() : StateScenario("callers on one CPU retire objects without links", 3) {}

  void set_up() override { make_state(); }
  void run(unsigned thread) override { state().retire(thread); }
  void check() override {
    RetiredSet& set = state();
    expect(set.retired.validate() == nullptr, "G1, G2");
    for (int batch = 0; batch < 4; ++batch) {
      set.retired.free_passed();
    }
    expect(events() == RetiredSet::count, "a retired object was lost");
    expect(set.retired.is_empty(), "something waits still");
  }
};

/// Objects in a block that was left before are freed.
class BlockBefore : public StateScenario<RetiredSet> {
 public:
  BlockBefore() : StateScenario("a CPU frees a retired object of which it was told", 2) {}

  void set_up() override { make_state(); }
  void run(unsigned thread) override {
    RetiredSet& set = state();
    if (thread == 0) {
      set.retire(0);
      set.passed.pass(0, &set);
    } else {
      set.passed.receive(0);
      expect(!set.retired.is_empty(), "an open block was not found");
      set.retire(1);
      set.retired.free_passed();
      set.retired.free_passed();
      expect(events() == 2, "objects that were retired before were not freed");
    }
  }
};

}  // namespace

void add_grace_scenarios(Scenarios& all) {
  const auto add = [&all]<class S>(S* scenario) { all.emplace_back(scenario); };
  add(new NodeBefore);
  add(new ReadNodes("a reader looks at a node that CPUs retire and take", false));
  add(new ReadNodes("a reader looks at a node while a batch waits", true));
  add(new ReusedNodes);
  add(new BlockBefore);
  add(new OpenBlocks);
}

}  // namespace slabmalloc::explorer
