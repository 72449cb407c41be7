// SPDX-License-Identifier: MIT
//
// Counts the process heap and prints the numbers.
#include "malloc/report.hpp"

#include <errno.h>
#include <pthread.h>
#include <unistd.h>

#include "malloc/text.hpp"
#include "malloc/thread_zones.hpp"
#include "slabmalloc/version.hpp"

namespace slabmalloc {

namespace {

constexpr std::uint32_t class_count = heap::SizeClasses::count;

/// The counts at the start of counting.
constinit ProcessStatistics start{};

/// `count`, or `least` if that is more: an operation in progress may be counted in part.
constexpr std::size_t at_least(std::size_t count, std::size_t least) noexcept {
  return count > least ? count : least;
}

/// Adds up a page: its slots, and those in neither bitmap.
void add_page(ClassStatistics& one, const Chunk& record, const ChunkInfo& info) noexcept {
  auto& header = const_cast<Chunk&>(record).header;
  const std::uint32_t words = info.words();
  std::size_t free = 0;
  for (std::uint32_t word = 0; word < words; ++word) {
    const Word local = header.local(word).load(Order::relaxed);
    const Word remote = header.remote(word, words).load(Order::relaxed);
    // Bits beyond the last slot are set.
    free += count_ones(local | remote);
    // Other threads freed these and the owner has not drained them. The owner counts what it
    // drains.
    one.remote_frees += count_ones(remote & ~local);
  }
  ++one.pages;
  one.slots += info.slots;
  const std::size_t bits = std::size_t{words} * word_bits;
  one.used += bits > free ? bits - free : 0;
}

void add_pages(ProcessStatistics& sum) noexcept {
  const std::size_t chunks = process_arena.committed_chunks();
  for (std::size_t number = 0; number < chunks; ++number) {
    const Chunk& record = process_arena.record(number);
    const ChunkInfo info = record.snapshot();
    if (info.kind == ChunkKind::SlabHead && info.class_index < class_count) {
      add_page(sum.classes[info.class_index], record, info);
    }
  }
}

void add_zones(ProcessStatistics& sum) noexcept {
  thread_zones.for_each([&](const ArenaZone& zone) noexcept {
    for (std::uint32_t index = 0; index < class_count; ++index) {
      ClassStatistics one = zone.class_counts(index);
      one.pages = one.slots = 0;  // Those were counted with their bitmaps.
      sum.classes[index] += one;
    }
  });
}

/// Everything but the totals of the process, since it began.
ProcessStatistics count_parts() noexcept {
  ProcessStatistics sum{};
  sum.arena = process_arena.statistics();
  const std::size_t guarded_now = guarded_blocks.live_count();
  sum.guarded = at_least(guarded_blocks.allocations(), guarded_now);
  sum.guarded_frees = sum.guarded - guarded_now;
  sum.guards_refused = guarded_blocks.refusals();
  add_pages(sum);
  add_zones(sum);
  for (std::uint32_t index = 0; index < class_count; ++index) {
    ClassStatistics& one = sum.classes[index];
    one.object_size = heap::SizeClasses::size_of(index);
    one.allocations = at_least(one.allocations, one.used);
    one.frees = one.allocations - one.used;
  }
  return sum;
}

const char* program_name() noexcept {
  return program_invocation_short_name != nullptr ? program_invocation_short_name : "?";
}

/// True if the size class has anything to report.
bool was_used(const ClassStatistics& one) noexcept {
  return one.allocations != 0 || one.pages != 0;
}

/// The bytes of a report with every counter at its longest: its name, 20 digits and the punctuation
/// between them.
template <class Counters>
constexpr std::size_t longest_report() noexcept {
  std::size_t bytes = 0;
  for_each_counter<Counters>(
      [&](const auto& entry) noexcept { bytes += __builtin_strlen(entry.name) + 32; });
  return bytes;
}
using Report =
    Text<1024 + longest_report<ProcessTotals>() + longest_report<ArenaStatistics>() +
         longest_report<LargeStatistics>() + class_count * longest_report<ClassStatistics>()>;

void append_json_string(Report& text, const char* string) noexcept {
  text.append("\"");
  for (; *string != '\0'; ++string) {
    const auto byte = static_cast<unsigned char>(*string);
    if (byte == '"' || byte == '\\' || byte < 0x20 || byte >= 0x7F) {
      text.append("\\u%04x", byte);
    } else {
      text.append("%c", byte);
    }
  }
  text.append("\"");
}

/// Appends `"name":value` for each counter, separated by commas.
template <class Counters>
void append_json_counters(Report& text, const Counters& counters) noexcept {
  const char* separator = "";
  for_each_counter<Counters>([&](const auto& entry) noexcept {
    text.append("%s\"%s\":%zu", separator, entry.name, counters.*entry.member);
    separator = ",";
  });
}

void append_json_classes(Report& text, const ProcessStatistics& sum) noexcept {
  const char* separator = "";
  for (const ClassStatistics& one : sum.classes) {
    if (was_used(one)) {
      text.append("%s{", separator);
      append_json_counters(text, one);
      text.append("}");
      separator = ",";
    }
  }
}

/// Appends the line of JSON.
void append_json(Report& text, const ProcessStatistics& sum) noexcept {
  text.append("{\"version\":\"%d.%d.%d\",\"pid\":%u,\"program\":", version_major, version_minor,
              version_patch, os::interface().process_id());
  append_json_string(text, program_name());
  text.append(",");
  append_json_counters<ProcessTotals>(text, sum);
  text.append(",");
  append_json_counters(text, sum.arena);
  text.append(",\"classes\":[");
  append_json_classes(text, sum);
  text.append("],\"large\":{");
  append_json_counters(text, sum.arena.large);
  text.append("}}\n");
}

/// Appends a line for each counter.
template <class Counters>
void append_list(Report& text, const char* title, const Counters& counters) noexcept {
  text.append("%s\n", title);
  for_each_counter<Counters>([&](const auto& entry) noexcept {
    text.append("  %-20s %15zu\n", entry.name, counters.*entry.member);
  });
}

/// Appends a line for each used size class, below the names of its counters. printf widths align
/// the columns. A kernel has no printf, so slabinfo.hpp uses TextLine instead.
void append_class_table(Report& text, const ProcessStatistics& sum) noexcept {
  text.append("size classes\n");
  for_each_counter<ClassStatistics>(
      [&](const auto& entry) noexcept { text.append("  %7s", entry.name); });
  text.append("  used%%\n");
  for (const ClassStatistics& one : sum.classes) {
    if (was_used(one)) {
      for_each_counter<ClassStatistics>([&](const auto& entry) noexcept {
        const int width = static_cast<int>(__builtin_strlen(entry.name));
        text.append("  %*zu", width > 7 ? width : 7, one.*entry.member);
      });
      text.append("  %4zu%%\n", one.slots != 0 ? one.used * 100 / one.slots : 0);
    }
  }
}

}  // namespace

ProcessStatistics process_statistics() noexcept {
  ProcessStatistics sum = count_parts();
  sum.threads = thread_zones.threads();
  sum.live_objects = sum.guarded - sum.guarded_frees;
  sum.live_bytes = guarded_blocks.live_bytes();
  sum.guarded -= start.guarded;
  sum.guarded_frees = at_least(sum.guarded_frees, start.guarded_frees) - start.guarded_frees;
  sum.guards_refused -= start.guards_refused;
  sum.allocations = sum.guarded;
  sum.frees = sum.guarded_frees;
  for (std::uint32_t index = 0; index < class_count; ++index) {
    ClassStatistics& one = sum.classes[index];
    subtract_start(one, start.classes[index]);
    add_counters<Turnover>(sum, one);
    sum.live_objects += one.used;
    sum.live_bytes += one.used * one.object_size;
  }
  LargeStatistics& large = sum.arena.large;
  subtract_start(sum.arena, start.arena);
  subtract_start(large, start.arena.large);
  sum.allocations += large.allocations;
  sum.frees += large.frees;
  sum.live_objects += large.count;
  sum.live_bytes += large.bytes;
  return sum;
}

void start_counting_anew() noexcept { start = count_parts(); }

void print_statistics(int descriptor, std::uint32_t parts) noexcept {
  const ProcessStatistics sum = process_statistics();
  Report text;
  if ((parts & (stats_totals | stats_classes)) != 0) {
    text.append("slabmalloc %d.%d.%d: %s (process %u)\n", version_major, version_minor,
                version_patch, program_name(), os::interface().process_id());
  }
  if ((parts & stats_totals) != 0) {
    append_list<ProcessTotals>(text, "process", sum);
    append_list(text, "arena", sum.arena);
    append_list(text, "large objects", sum.arena.large);
  }
  if ((parts & stats_classes) != 0) {
    append_class_table(text, sum);
  }
  text.write(descriptor);
  if ((parts & stats_json) != 0) {
    Report json;
    append_json(json, sum);
    json.write(descriptor);
  }
}

bool append_json(const char* path) noexcept {
  Report text;
  append_json(text, process_statistics());
  const int descriptor = os::interface().open_to_append(path);
  if (descriptor < 0) {
    return false;
  }
  const bool written = os::interface().write(descriptor, text.data(), text.size()) == text.size();
  os::interface().close(descriptor);
  return written;
}

bool print_xml(FILE* stream) noexcept {
  // fprintf() is a point of cancellation, but no function of an allocator is one.
  int cancel_state = 0;
  pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel_state);
  const ProcessStatistics sum = process_statistics();
  fprintf(stream, "<malloc version=\"slabmalloc-%d.%d.%d\">\n<heap nr=\"0\">\n<sizes>\n",
          version_major, version_minor, version_patch);
  for (const ClassStatistics& one : sum.classes) {
    if (one.pages != 0) {
      fprintf(stream, "  <size from=\"%zu\" to=\"%zu\" total=\"%zu\" count=\"%zu\"/>\n",
              one.object_size, one.object_size, one.object_size * (one.slots - one.used),
              one.slots - one.used);
    }
  }
  fprintf(stream,
          "</sizes>\n<total type=\"mmap\" count=\"%zu\" size=\"%zu\"/>\n"
          "<system type=\"current\" size=\"%zu\"/>\n<system type=\"max\" size=\"%zu\"/>\n"
          "</heap>\n</malloc>\n",
          sum.arena.large.count, sum.arena.large.bytes, sum.arena.committed_bytes,
          sum.arena.committed_peak_bytes);
  pthread_setcancelstate(cancel_state, nullptr);
  return ferror(stream) == 0;
}

}  // namespace slabmalloc
