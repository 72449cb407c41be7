// SPDX-License-Identifier: MIT
//
// The operations on cells: for ExploredAtomics, and those of scenarios.
#include <cstring>
#include <utility>

#include "explorer/execution.hpp"
#include "explorer/sites.hpp"

namespace slabmalloc::explorer {

namespace {

using Access = RaceDetector::Access;

constexpr unsigned no_location = ~0u;

/// What the threads of this search did with a byte of the region.
struct Sharing {
  std::uint8_t threads = 0;
  bool is_written = false;
  bool is_shared = false;  ///< By two threads, and written: operations are steps.
};

Sharing sharing[region_bytes];

/// The location of the cell at each offset.
struct KnownCell {
  std::uint32_t execution = 0;
  std::uint16_t location = 0;
};
KnownCell cells[region_bytes];
std::uint32_t execution = 0;

/// The operation that made each store but the first.
struct Writer {
  std::uint8_t thread = 0;
  std::uint16_t site = 0;
};
Writer writers[most_locations][most_stores];

/// What a thread looked at last, and the interrupt that may come to it.
struct Looks {
  unsigned last_location = no_location;  ///< And the store that it found there.
  unsigned last_store = 0;
  std::size_t last_load_site = 0;  ///< Of the latest load, at last_location.
  const void* last_private_cell = nullptr;
  void (*handler)(void*) = nullptr;
  void* handler_context = nullptr;
};
Looks looks[most_threads + 1];  ///< Of the explorer's own fibre too.
unsigned stale_reads = 0;

/// Calls the handler of an interrupt that may come now.
void may_be_interrupted() noexcept {
  Looks& mine = looks[self];
  if (mine.handler != nullptr && search.choose(2) == 1) {
    std::exchange(mine.handler, nullptr)(mine.handler_context);
  }
}

std::uint64_t read_memory(const void* cell, std::size_t bytes) noexcept {
  std::uint64_t value = 0;
  std::memcpy(&value, cell, bytes);
  return value;
}
void write_memory(void* cell, std::size_t bytes, std::uint64_t value) noexcept {
  std::memcpy(cell, &value, bytes);
}

/// The location of a cell, or no_location if no other thread uses it, or all only read it.
unsigned touch(const void* cell, std::size_t bytes, bool is_write) noexcept {
  const unsigned offset = offset_of(cell);
  if (const char* const race = races.access(offset, Access::Atomic, self, memory.clock(self))) {
    fail(race);
  }
  Sharing& one = sharing[offset];
  one.threads = static_cast<std::uint8_t>(one.threads | set_of(self));
  one.is_written = one.is_written || is_write;
  if (!one.is_shared) {
    if ((one.threads & (one.threads - 1)) == 0 || !one.is_written) {
      looks[self].last_private_cell = cell;
      return no_location;
    }
    one.is_shared = true;
    leave(End::Restart);
  }
  looks[self].last_private_cell = nullptr;
  KnownCell& known = cells[offset];
  if (known.execution != execution) {
    if (memory.location_count() == most_locations) {
      fail("more locations than there is room for");
    }
    known.execution = execution;
    known.location = static_cast<std::uint16_t>(memory.add(read_memory(cell, bytes)));
    search.begin_location(known.location);
  }
  return known.location;
}

/// The thread looks at a store: it may be another thread's.
void look_at(unsigned location, unsigned store, std::size_t site) noexcept {
  looks[self].last_location = location;
  looks[self].last_store = store;
  const Writer& writer = writers[location][store];
  if (store != 0 && writer.thread != self) {
    note_shared(site);
    note_shared(writer.site);
  }
}

std::uint64_t load_shared(const void* cell, unsigned location, Order order,
                          std::size_t site) noexcept {
  come_to({Step::Kind::Read, location, Step::no_store});
  const unsigned latest = memory.store_count(location) - 1;
  unsigned choices = 1;
  if (stale_reads < bounds.stale_reads) {
    // It may miss a store that is in its past. A store that is not was missed in an execution in
    // which this load comes first.
    const unsigned oldest = memory.oldest(self, location);
    while (choices <= latest - oldest && search.was_in_past(location, latest - choices + 1)) {
      ++choices;
    }
  }
  const unsigned missed = choices > 1 ? search.choose(choices) : 0;
  stale_reads += missed != 0 ? 1 : 0;
  const unsigned found = latest - missed;
  memory.read(self, location, found, order);
  look_at(location, found, site);
  looks[self].last_load_site = site;
  const std::uint64_t value = memory.value(location, found);
  note(site, cell, value);
  return value;
}

void write_shared(void* cell, std::size_t bytes, unsigned location, std::uint64_t value,
                  Order order, bool is_update, std::size_t site) noexcept {
  if (!memory.has_room(location)) {
    fail("an execution without end");
  }
  search.note_store(location, memory.store_count(location));
  writers[location][memory.store_count(location)] = {static_cast<std::uint8_t>(self),
                                                     static_cast<std::uint16_t>(site)};
  memory.write(self, location, value, order, is_update);
  write_memory(cell, bytes, value);
  note(site, cell, value);
}

std::uint64_t truncated(std::uint64_t value, std::size_t bytes) noexcept {
  return bytes == 8 ? value : value & ((std::uint64_t{1} << (bytes * 8)) - 1);
}

std::uint64_t result_of(Operation operation, std::uint64_t before, std::uint64_t operand,
                        std::size_t bytes) noexcept {
  switch (operation) {
    case Operation::FetchAdd:
      return truncated(before + operand, bytes);
    case Operation::FetchSub:
      return truncated(before - operand, bytes);
    case Operation::FetchOr:
      return before | operand;
    default:
      return operand;
  }
}

/// The value of the latest store; the second half of the operation must follow at once.
std::uint64_t begin_update(unsigned location, Order order, std::size_t site) noexcept {
  come_to({Step::Kind::Write, location, Step::no_store});
  const unsigned latest = memory.store_count(location) - 1;
  memory.read(self, location, latest, order);
  look_at(location, latest, site);
  return memory.value(location, latest);
}

}  // namespace

void forget_sharing() noexcept { std::memset(static_cast<void*>(sharing), 0, sizeof(sharing)); }

void begin_cells() noexcept {
  ++execution;
  stale_reads = 0;
  for (Looks& one : looks) {
    one = {};
  }
}

void forget_cell(unsigned offset) noexcept { cells[offset].execution = 0; }

// ---- for scenarios ------------------------------------------------------------------------------

void wait_for_change() noexcept {
  Looks& mine = looks[self];
  if (mine.last_private_cell != nullptr) {
    // Another thread is going to write it.
    sharing[offset_of(mine.last_private_cell)].is_shared = true;
    leave(End::Restart);
  }
  const unsigned awaited = mine.last_store + 1;
  come_to({Step::Kind::Read, mine.last_location, awaited});
  memory.forget_older(self, mine.last_location, awaited);
}

std::uint32_t latest_value(const std::uint32_t* word) noexcept {
  if (is_explored(word)) {
    const unsigned location = touch(word, sizeof(*word), false);
    if (location != no_location) {
      come_to({Step::Kind::Read, location, Step::no_store});
    }
  }
  return static_cast<std::uint32_t>(read_memory(word, sizeof(*word)));
}

void interrupt_once(void (*handler)(void*), void* context) noexcept {
  looks[self].handler = handler;
  looks[self].handler_context = context;
}

// ---- for ExploredAtomics ------------------------------------------------------------------------

std::uint64_t load(const void* cell, std::size_t bytes, Order order, Place where) noexcept {
  if (!is_explored(cell)) {
    return read_memory(cell, bytes);
  }
  may_be_interrupted();
  const std::size_t site = site_of(Operation::Load, order, where);
  const unsigned location = touch(cell, bytes, false);
  if (is_mutated(site, Mutation::Blind)) {
    return 0;
  }
  return location == no_location ? read_memory(cell, bytes)
                                 : load_shared(cell, location, mutated(site, order), site);
}

void store(void* cell, std::size_t bytes, std::uint64_t value, Order order, Place where) noexcept {
  if (!is_explored(cell)) {
    write_memory(cell, bytes, value);
    return;
  }
  may_be_interrupted();
  const std::size_t site = site_of(Operation::Store, order, where);
  const unsigned location = touch(cell, bytes, true);
  if (is_mutated(site, Mutation::Omit)) {
    return;
  }
  if (location == no_location) {
    write_memory(cell, bytes, value);
    return;
  }
  come_to({Step::Kind::Write, location, Step::no_store});
  write_shared(cell, bytes, location, value, mutated(site, order), false, site);
}

void toggle(void* cell, std::size_t bytes, std::uint64_t mask, Place where) noexcept {
  if (!is_explored(cell)) {
    write_memory(cell, bytes, read_memory(cell, bytes) ^ mask);
    return;
  }
  may_be_interrupted();
  const std::size_t site = site_of(Operation::Toggle, Order::relaxed, where);
  const unsigned location = touch(cell, bytes, true);
  if (is_mutated(site, Mutation::Omit)) {
    return;
  }
  // The cell has one writer, which reads what it wrote.
  const std::uint64_t value = read_memory(cell, bytes) ^ mask;
  if (location == no_location) {
    write_memory(cell, bytes, value);
    return;
  }
  come_to({Step::Kind::Write, location, Step::no_store});
  write_shared(cell, bytes, location, value, Order::relaxed, false, site);
}

std::uint64_t update(Operation operation, void* cell, std::size_t bytes, std::uint64_t operand,
                     Order order, Place where) noexcept {
  if (!is_explored(cell)) {
    const std::uint64_t before = read_memory(cell, bytes);
    write_memory(cell, bytes, result_of(operation, before, operand, bytes));
    return before;
  }
  may_be_interrupted();
  const std::size_t site = site_of(operation, order, where);
  const unsigned location = touch(cell, bytes, true);
  if (location == no_location) {
    const std::uint64_t before = read_memory(cell, bytes);
    if (!is_mutated(site, Mutation::Omit)) {
      write_memory(cell, bytes, result_of(operation, before, operand, bytes));
    }
    return before;
  }
  const Order effective = mutated(site, order);
  if (is_mutated(site, Mutation::Omit)) {
    return load_shared(cell, location, effective, site);
  }
  if (is_mutated(site, Mutation::Split)) {
    const std::uint64_t before = load_shared(cell, location, effective, site);
    come_to({Step::Kind::Write, location, Step::no_store});
    write_shared(cell, bytes, location, result_of(operation, before, operand, bytes), effective,
                 false, site);
    return before;
  }
  const std::uint64_t before = begin_update(location, effective, site);
  write_shared(cell, bytes, location, result_of(operation, before, operand, bytes), effective, true,
               site);
  return before;
}

bool compare_exchange(void* cell, std::size_t bytes, std::uint64_t& expected, std::uint64_t desired,
                      Order order, Place where) noexcept {
  if (!is_explored(cell)) {
    const std::uint64_t before = read_memory(cell, bytes);
    const bool is_equal = before == expected;
    if (is_equal) {
      write_memory(cell, bytes, desired);
    }
    expected = before;
    return is_equal;
  }
  may_be_interrupted();
  const std::size_t site = site_of(Operation::CompareExchange, order, where);
  const unsigned location = touch(cell, bytes, true);
  const Order effective = mutated(site, order);
  const bool is_omitted = is_mutated(site, Mutation::Omit);
  const bool is_split = is_mutated(site, Mutation::Split);
  std::uint64_t before = 0;
  if (location == no_location) {
    before = read_memory(cell, bytes);
  } else if (is_omitted || is_split) {
    before = load_shared(cell, location, effective, site);
  } else {
    if (looks[self].last_location == location) {
      note_confirmed(looks[self].last_load_site);
    }
    // A failed one is relaxed.
    come_to({Step::Kind::Write, location, Step::no_store});
    const unsigned latest = memory.store_count(location) - 1;
    before = memory.value(location, latest);
    memory.read(self, location, latest, before == expected ? effective : Order::relaxed);
    look_at(location, latest, site);
  }
  const bool is_equal = before == expected;
  expected = before;
  if (!is_equal || is_omitted) {
    if (location != no_location) {
      note(site, cell, before);
    }
    return is_equal;
  }
  if (location == no_location) {
    write_memory(cell, bytes, desired);
    return true;
  }
  if (is_split) {
    come_to({Step::Kind::Write, location, Step::no_store});
  }
  write_shared(cell, bytes, location, desired, effective, !is_split, site);
  return true;
}

}  // namespace slabmalloc::explorer
