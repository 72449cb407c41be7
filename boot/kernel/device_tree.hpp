// SPDX-License-Identifier: MIT
//
// A reader of flattened device trees (devicetree.org, Devicetree Specification 0.4, chapter 5),
// version 17.
//
//   0          header: ten big-endian words
//   o_rsvmap   reserved regions: pairs of 64-bit numbers, up to a pair of zeroes
//   o_struct   tokens: BEGIN_NODE name | PROPERTY length, name, value | NOP | END_NODE | END;
//              each at a multiple of 4
//   o_strings  names of properties
//
// The reader does not trust the blob. open() walks all of it, and every read checks its bounds.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernel/region.hpp"
#include "kernel/text.hpp"

namespace boot {

/// Bytes of the blob. Numbers in them are big-endian.
class TreeBytes {
 public:
  constexpr TreeBytes() noexcept = default;
  constexpr TreeBytes(const std::byte* data, std::size_t bytes) noexcept
      : data_(data), bytes_(bytes) {}

  constexpr std::size_t bytes() const noexcept { return bytes_; }
  constexpr bool holds(std::size_t offset, std::size_t bytes) const noexcept {
    return offset <= bytes_ && bytes <= bytes_ - offset;
  }
  /// The part of `bytes` bytes from `offset` on; no bytes if it is not all inside.
  constexpr TreeBytes part(std::size_t offset, std::size_t bytes) const noexcept {
    return holds(offset, bytes) ? TreeBytes(data_ + offset, bytes) : TreeBytes();
  }
  /// The number in `cells` 32-bit cells at `offset`. 0 if they are not inside, or do not fit 64
  /// bits.
  constexpr std::uint64_t number(std::size_t offset, std::size_t cells) const noexcept {
    std::uint64_t value = 0;
    if (cells <= 2 && holds(offset, cells * 4)) {
      for (std::size_t index = 0; index < cells * 4; ++index) {
        value = value << 8 | std::to_integer<std::uint64_t>(data_[offset + index]);
      }
    }
    return value;
  }
  constexpr std::uint32_t word(std::size_t offset) const noexcept {
    return static_cast<std::uint32_t>(number(offset, 1));
  }
  /// The characters from `offset` up to a zero; `terminated` tells whether there is one.
  Text text(std::size_t offset, bool& terminated) const noexcept {
    std::size_t length = 0;
    while (holds(offset + length, 1) && data_[offset + length] != std::byte{0}) {
      ++length;
    }
    terminated = holds(offset, length + 1);
    return terminated ? Text(reinterpret_cast<const char*>(data_) + offset, length) : Text();
  }
  Text text() const noexcept {
    bool terminated = false;
    return text(0, terminated);
  }

 private:
  const std::byte* data_ = nullptr;
  std::size_t bytes_ = 0;
};

class DeviceTree {
 public:
  static constexpr std::size_t header_bytes = 40;

  /// A node, named by the place of the first token inside it. The caller knows how two nodes are
  /// related: on the same level, or parent and child.
  class Node {
   public:
    explicit operator bool() const noexcept { return tree_ != nullptr; }
    /// Its name, unit address included: "memory@40000000".
    Text name() const noexcept { return name_; }
    /// The value of its property `name`; `found` tells whether there is one.
    TreeBytes property(Text name, bool& found) const noexcept;
    TreeBytes property(Text name) const noexcept;
    /// Entry `index` of property "reg", in the cells that its parent prescribes. No bytes if there
    /// is none.
    Region region(const Node& parent, std::size_t index) const noexcept;
    /// The number of cells, by property `kind`, of its children's addresses or sizes.
    std::size_t cells(Text kind, std::size_t otherwise) const noexcept;
    bool is_enabled() const noexcept;
    /// The number of its NUMA node; 0 if the tree does not have it.
    std::uint32_t numa_node() const noexcept { return property("numa-node-id").word(0); }

    Node first_child() const noexcept;
    Node next_sibling() const noexcept;
    Node child(Text name) const noexcept;

   private:
    friend DeviceTree;
    Node() noexcept = default;
    Node(const DeviceTree* tree, std::size_t inside, Text name) noexcept
        : tree_(tree), inside_(inside), name_(name) {}

    const DeviceTree* tree_ = nullptr;
    std::size_t inside_ = 0;
    Text name_;
  };

  /// Reads the tree at `blob`, of at most `available` bytes. Returns an empty text.
  /// Fails: returns the defect of the tree, which is empty then.
  Text open(const void* blob, std::size_t available) noexcept;

  std::size_t bytes() const noexcept { return blob_.bytes(); }
  Node root() const noexcept;

  /// Calls visit(Region, NUMA node) for all memory, reserved memory included.
  template <class Visit>
  void for_each_memory(Visit visit) const;
  /// Calls visit(Region) for both kinds of reserved memory, which nobody may use. The blob itself
  /// and the initial file system are not among them.
  template <class Visit>
  void for_each_reservation(Visit visit) const;
  /// Calls visit(id, NUMA node) with the hardware's id of each CPU that can be used.
  template <class Visit>
  void for_each_cpu(Visit visit) const;
  /// Calls visit(from, to, distance) for each pair of NUMA nodes whose distance the tree has.
  template <class Visit>
  void for_each_distance(Visit visit) const;

  /// The file that the loader was given beside the kernel; no bytes if there is none.
  Region initial_file_system() const noexcept;

  /// The command line.
  Text bootargs() const noexcept;
  /// Ticks of the CPUs' clock in a second; 0 if the tree does not have it.
  std::uint32_t timebase_frequency() const noexcept;

 private:
  enum class Kind : std::uint32_t {
    malformed = 0,
    begin_node = 1,
    end_node = 2,
    property = 3,
    nop = 4,
    end = 9,
  };
  struct Token {
    Kind kind = Kind::malformed;
    std::size_t next = 0;  ///< The place of the next token.
    Text name;
    TreeBytes value;
  };

  Token token_at(std::size_t offset) const noexcept;
  Text check_structure() const noexcept;
  Node node_at(std::size_t offset) const noexcept;
  template <class Visit>
  static void for_each_region(const Node& node, const Node& parent, Visit visit);

  TreeBytes blob_, structure_, strings_, reservations_;
};

// ---- Tokens --------------------------------------------------------------------------

inline DeviceTree::Token DeviceTree::token_at(std::size_t offset) const noexcept {
  const auto aligned = [](std::size_t end) { return (end + 3) / 4 * 4; };
  Token token;
  bool terminated = true;
  token.next = offset + 4;
  const auto kind = static_cast<Kind>(structure_.word(offset));
  if (!structure_.holds(offset, 4)) {
    return token;
  }
  switch (kind) {
    case Kind::begin_node:
      token.name = structure_.text(offset + 4, terminated);
      token.next = aligned(offset + 4 + token.name.length() + 1);
      break;
    case Kind::property: {
      const std::size_t bytes = structure_.word(offset + 4);
      if (!structure_.holds(offset + 4, 8) || !structure_.holds(offset + 12, bytes)) {
        return token;
      }
      token.value = structure_.part(offset + 12, bytes);
      token.name = strings_.text(structure_.word(offset + 8), terminated);
      token.next = aligned(offset + 12 + bytes);
      break;
    }
    case Kind::end_node:
    case Kind::nop:
    case Kind::end:
      break;
    default:
      return token;
  }
  token.kind = terminated ? kind : Kind::malformed;
  return token;
}

inline Text DeviceTree::check_structure() const noexcept {
  std::size_t depth = 0;
  bool any = false;
  for (std::size_t offset = 0;;) {
    const Token token = token_at(offset);
    offset = token.next;
    switch (token.kind) {
      case Kind::begin_node:
        if (depth++ == 0 && any) {
          return "there are two roots";
        }
        any = true;
        break;
      case Kind::end_node:
        if (depth-- == 0) {
          return "a node ends that has not begun";
        }
        break;
      case Kind::property:
        if (depth == 0) {
          return "a property is outside of all nodes";
        }
        break;
      case Kind::nop:
        break;
      case Kind::end:
        return depth > 0 ? Text("a node does not end") : any ? Text() : Text("there is no node");
      case Kind::malformed:
        return "a token is malformed or out of bounds";
    }
  }
}

inline Text DeviceTree::open(const void* blob, std::size_t available) noexcept {
  *this = {};
  const TreeBytes header(static_cast<const std::byte*>(blob), available);
  if (!header.holds(0, header_bytes) || header.word(0) != 0xd00d'feed) {
    return "there is no device tree";
  }
  const std::size_t total = header.word(4);
  if (header.word(20) < 17 || header.word(24) > 17) {
    return "it is of another version";
  }
  if (total < header_bytes || total > available) {
    return "it is longer than there is room";
  }
  DeviceTree tree;
  const std::size_t reservations = header.word(16);
  tree.blob_ = header.part(0, total);
  tree.structure_ = tree.blob_.part(header.word(8), header.word(36));
  tree.strings_ = tree.blob_.part(header.word(12), header.word(32));
  if (reservations < total) {
    tree.reservations_ = tree.blob_.part(reservations, total - reservations);
  }
  const Text wrong = tree.check_structure();
  if (wrong.empty()) {
    *this = tree;
  }
  return wrong;
}

// ---- Nodes ---------------------------------------------------------------------------

/// The node that begins at `offset`, after NOPs; none if another token is there.
inline DeviceTree::Node DeviceTree::node_at(std::size_t offset) const noexcept {
  Token token = token_at(offset);
  while (token.kind == Kind::nop) {
    token = token_at(token.next);
  }
  return token.kind == Kind::begin_node ? Node(this, token.next, token.name) : Node();
}

inline DeviceTree::Node DeviceTree::root() const noexcept { return node_at(0); }

inline TreeBytes DeviceTree::Node::property(Text name, bool& found) const noexcept {
  Token token = tree_->token_at(inside_);
  while (token.kind == Kind::property || token.kind == Kind::nop) {
    if (token.kind == Kind::property && token.name == name) {
      found = true;
      return token.value;
    }
    token = tree_->token_at(token.next);
  }
  found = false;
  return {};
}

inline TreeBytes DeviceTree::Node::property(Text name) const noexcept {
  bool found = false;
  return property(name, found);
}

inline DeviceTree::Node DeviceTree::Node::first_child() const noexcept {
  std::size_t offset = inside_;
  Token token = tree_->token_at(offset);
  while (token.kind == Kind::property || token.kind == Kind::nop) {
    offset = token.next;
    token = tree_->token_at(offset);
  }
  return tree_->node_at(offset);
}

inline DeviceTree::Node DeviceTree::Node::next_sibling() const noexcept {
  std::size_t offset = inside_;
  for (std::size_t depth = 1; depth > 0;) {
    const Token token = tree_->token_at(offset);
    if (token.kind == Kind::malformed || token.kind == Kind::end) {
      return {};
    }
    depth += token.kind == Kind::begin_node ? 1 : 0;
    depth -= token.kind == Kind::end_node ? 1 : 0;
    offset = token.next;
  }
  return tree_->node_at(offset);
}

inline DeviceTree::Node DeviceTree::Node::child(Text name) const noexcept {
  Node node = first_child();
  while (node && !(node.name_ == name)) {
    node = node.next_sibling();
  }
  return node;
}

inline std::size_t DeviceTree::Node::cells(Text kind, std::size_t otherwise) const noexcept {
  bool found = false;
  const TreeBytes value = property(kind, found);
  return found ? value.word(0) : otherwise;
}

inline Region DeviceTree::Node::region(const Node& parent, std::size_t index) const noexcept {
  const std::size_t address_cells = parent.cells("#address-cells", 2);
  const std::size_t size_cells = parent.cells("#size-cells", 1);
  if (address_cells > 2 || size_cells > 2) {
    return {};
  }
  const std::size_t stride = 4 * (address_cells + size_cells);
  const TreeBytes entry = property("reg").part(index * stride, stride);
  return {entry.number(0, address_cells), entry.number(4 * address_cells, size_cells)};
}

inline bool DeviceTree::Node::is_enabled() const noexcept {
  bool found = false;
  const Text status = property("status", found).text();
  return !found || status == "okay" || status == "ok";
}

// ---- The kernel's questions ----------------------------------------------------------

template <class Visit>
void DeviceTree::for_each_region(const Node& node, const Node& parent, Visit visit) {
  for (std::size_t index = 0;; ++index) {
    const Region region = node.region(parent, index);
    if (region.bytes == 0) {
      return;
    }
    visit(region);
  }
}

template <class Visit>
void DeviceTree::for_each_memory(Visit visit) const {
  const Node top = root();
  if (!top) {
    return;
  }
  for (Node node = top.first_child(); node; node = node.next_sibling()) {
    if (node.property("device_type").text() == "memory" && node.is_enabled()) {
      for_each_region(node, top, [&](Region region) { visit(region, node.numa_node()); });
    }
  }
}

template <class Visit>
void DeviceTree::for_each_reservation(Visit visit) const {
  for (std::size_t offset = 0; reservations_.holds(offset, 16); offset += 16) {
    const Region region{reservations_.number(offset, 2), reservations_.number(offset + 8, 2)};
    if (region == Region{}) {
      break;
    }
    visit(region);
  }
  const Node top = root();
  const Node parent = top ? top.child("reserved-memory") : top;
  for (Node node = parent ? parent.first_child() : parent; node; node = node.next_sibling()) {
    for_each_region(node, parent, visit);
  }
}

template <class Visit>
void DeviceTree::for_each_cpu(Visit visit) const {
  const Node top = root();
  const Node parent = top ? top.child("cpus") : top;
  for (Node node = parent ? parent.first_child() : parent; node; node = node.next_sibling()) {
    if (node.property("device_type").text() == "cpu" && node.is_enabled()) {
      visit(node.property("reg").number(0, parent.cells("#address-cells", 1)), node.numa_node());
    }
  }
}

template <class Visit>
void DeviceTree::for_each_distance(Visit visit) const {
  const Node top = root();
  const Node node = top ? top.child("distance-map") : top;
  if (node) {
    const TreeBytes matrix = node.property("distance-matrix");
    for (std::size_t offset = 0; matrix.holds(offset, 12); offset += 12) {
      visit(matrix.word(offset), matrix.word(offset + 4), matrix.word(offset + 8));
    }
  }
}

inline Region DeviceTree::initial_file_system() const noexcept {
  const Node top = root();
  const Node chosen = top ? top.child("chosen") : top;
  if (!chosen) {
    return {};
  }
  // Each is of one cell or two.
  const TreeBytes start = chosen.property("linux,initrd-start");
  const TreeBytes end = chosen.property("linux,initrd-end");
  return Region::between(start.number(0, start.bytes() / 4), end.number(0, end.bytes() / 4));
}

inline Text DeviceTree::bootargs() const noexcept {
  const Node top = root();
  const Node chosen = top ? top.child("chosen") : top;
  return chosen ? chosen.property("bootargs").text() : Text();
}

inline std::uint32_t DeviceTree::timebase_frequency() const noexcept {
  const Node top = root();
  const Node cpus = top ? top.child("cpus") : top;
  return cpus ? cpus.property("timebase-frequency").word(0) : 0;
}

}  // namespace boot
