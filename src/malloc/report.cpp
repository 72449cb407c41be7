// SPDX-License-Identifier: MIT
//
// Counting the process heap and putting the numbers into words; the line that ends a misuse.
#include "malloc/report.hpp"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "malloc/text.hpp"
#include "malloc/thread_zones.hpp"
#include "slabmalloc/version.hpp"

namespace slabmalloc {

namespace {

constexpr std::uint32_t class_count = heap::SizeClasses::count;

/// What was counted when counting started.
struct Beginning {
  std::size_t allocations[class_count];
  std::size_t remote_frees[class_count];
  std::size_t frees[class_count];
  std::size_t large_allocations;
  std::size_t large_frees;
};
constinit Beginning beginning{};

/// Adds up a page: its slots, and those in neither bitmap.
void add_page(ProcessClass& one, const Chunk& record, const ChunkInfo& info) noexcept {
  auto& header = const_cast<Chunk&>(record).header;
  const std::uint32_t words = info.words();
  std::size_t free = 0;
  for (std::uint32_t word = 0; word < words; ++word) {
    const Word local = header.local(word).load(Order::relaxed);
    const Word remote = header.remote(word, words).load(Order::relaxed);
    // Bits beyond the last slot are set.
    free += count_ones(local | remote);
    // Freed by others, and not taken in by the owner yet, who counts what it takes in.
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
      ProcessClass& one = sum.classes[index];
      one.allocations += zone.allocations(index);
      one.remote_frees += zone.remote_frees(index);
    }
  });
}

ProcessStatistics statistics_since_start() noexcept {
  ProcessStatistics sum{};
  sum.arena = process_arena.statistics();
  sum.threads = thread_zones.threads();
  add_pages(sum);
  add_zones(sum);
  for (std::uint32_t index = 0; index < class_count; ++index) {
    ProcessClass& one = sum.classes[index];
    one.object_size = heap::SizeClasses::size_of(index);
    // What threads do now may be seen in part.
    one.allocations = one.allocations > one.used ? one.allocations : one.used;
    one.frees = one.allocations - one.used;
    sum.live_objects += one.used;
    sum.live_bytes += one.used * one.object_size;
  }
  sum.live_objects += sum.arena.large_count;
  sum.live_bytes += sum.arena.large_bytes;
  return sum;
}

/// `value - start`, or 0 where the count ran behind.
std::size_t since(std::size_t value, std::size_t start) noexcept {
  return value > start ? value - start : 0;
}

const char* program_name() noexcept {
  return program_invocation_short_name != nullptr ? program_invocation_short_name : "?";
}

using Report = Text<16 * 1024>;

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

void append_json_classes(Report& text, const ProcessStatistics& sum) noexcept {
  const char* separator = "";
  for (const ProcessClass& one : sum.classes) {
    if (one.allocations != 0 || one.pages != 0) {
      text.append("%s{\"size\":%zu,\"pages\":%zu,\"slots\":%zu,\"used\":%zu,\"allocations\":%zu,"
                  "\"frees\":%zu,\"remote_frees\":%zu}",
                  separator, one.object_size, one.pages, one.slots, one.used, one.allocations,
                  one.frees, one.remote_frees);
      separator = ",";
    }
  }
}

/// The line of JSON.
void append_json(Report& text, const ProcessStatistics& sum) noexcept {
  text.append("{\"version\":\"%d.%d.%d\",\"pid\":%u,\"program\":", version_major, version_minor,
              version_patch, os::interface().process_id());
  append_json_string(text, program_name());
  text.append(",\"threads\":%zu,\"allocations\":%zu,\"frees\":%zu,\"remote_frees\":%zu,"
              "\"live_bytes\":%zu,\"live_objects\":%zu,\"committed_bytes\":%zu,"
              "\"committed_peak_bytes\":%zu,\"classes\":[",
              sum.threads, sum.allocations, sum.frees, sum.remote_frees, sum.live_bytes,
              sum.live_objects, sum.arena.committed_bytes, sum.arena.committed_peak_bytes);
  append_json_classes(text, sum);
  text.append("],\"large\":{\"count\":%zu,\"bytes\":%zu,\"allocations\":%zu,\"frees\":%zu}}\n",
              sum.arena.large_count, sum.arena.large_bytes,
              static_cast<std::size_t>(sum.arena.large_allocations),
              static_cast<std::size_t>(sum.arena.large_frees));
}

void append_totals(Report& text, const ProcessStatistics& sum) noexcept {
  text.append("  allocations %zu, frees %zu (%zu by another thread), live %zu objects, %zu bytes\n",
              sum.allocations, sum.frees, sum.remote_frees, sum.live_objects, sum.live_bytes);
  text.append("  memory: %zu KiB committed now, %zu KiB at most; %zu threads\n",
              sum.arena.committed_bytes / 1024, sum.arena.committed_peak_bytes / 1024, sum.threads);
}

void append_classes(Report& text, const ProcessStatistics& sum) noexcept {
  text.append("  %9s %8s %10s %10s %6s %12s %12s %10s\n", "size", "pages", "slots", "used", "used%",
              "allocations", "frees", "by others");
  for (const ProcessClass& one : sum.classes) {
    if (one.allocations != 0 || one.pages != 0) {
      text.append("  %9zu %8zu %10zu %10zu %5zu%% %12zu %12zu %10zu\n", one.object_size, one.pages,
                  one.slots, one.used, one.slots != 0 ? one.used * 100 / one.slots : 0,
                  one.allocations, one.frees, one.remote_frees);
    }
  }
  text.append("  %9s %8zu %10s %10zu %6s %12zu %12zu\n", "large", sum.arena.large_count, "",
              sum.arena.large_count, "", static_cast<std::size_t>(sum.arena.large_allocations),
              static_cast<std::size_t>(sum.arena.large_frees));
}

}  // namespace

ProcessStatistics process_statistics() noexcept {
  ProcessStatistics sum = statistics_since_start();
  for (std::uint32_t index = 0; index < class_count; ++index) {
    ProcessClass& one = sum.classes[index];
    one.allocations = since(one.allocations, beginning.allocations[index]);
    one.frees = since(one.frees, beginning.frees[index]);
    one.remote_frees = since(one.remote_frees, beginning.remote_frees[index]);
    sum.allocations += one.allocations;
    sum.frees += one.frees;
    sum.remote_frees += one.remote_frees;
  }
  sum.arena.large_allocations = since(sum.arena.large_allocations, beginning.large_allocations);
  sum.arena.large_frees = since(sum.arena.large_frees, beginning.large_frees);
  sum.allocations += sum.arena.large_allocations;
  sum.frees += sum.arena.large_frees;
  return sum;
}

void start_counting_anew() noexcept {
  const ProcessStatistics sum = statistics_since_start();
  for (std::uint32_t index = 0; index < class_count; ++index) {
    beginning.allocations[index] = sum.classes[index].allocations;
    beginning.frees[index] = sum.classes[index].frees;
    beginning.remote_frees[index] = sum.classes[index].remote_frees;
  }
  beginning.large_allocations = sum.arena.large_allocations;
  beginning.large_frees = sum.arena.large_frees;
}

void print_statistics(int descriptor, std::uint32_t parts) noexcept {
  const ProcessStatistics sum = process_statistics();
  Report text;
  if ((parts & (stats_totals | stats_classes)) != 0) {
    text.append("slabmalloc %d.%d.%d: %s (process %u)\n", version_major, version_minor,
                version_patch, program_name(), os::interface().process_id());
  }
  if ((parts & stats_totals) != 0) {
    append_totals(text, sum);
  }
  if ((parts & stats_classes) != 0) {
    append_classes(text, sum);
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
  const int descriptor = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0666);
  if (descriptor < 0) {
    return false;
  }
  const bool written =
      os::interface().write(descriptor, text.data(), text.size()) == text.size();
  close(descriptor);
  return written;
}

bool print_xml(FILE* stream) noexcept {
  const ProcessStatistics sum = process_statistics();
  fprintf(stream, "<malloc version=\"slabmalloc-%d.%d.%d\">\n<heap nr=\"0\">\n<sizes>\n",
          version_major, version_minor, version_patch);
  for (const ProcessClass& one : sum.classes) {
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
          sum.arena.large_count, sum.arena.large_bytes, sum.arena.committed_bytes,
          sum.arena.committed_peak_bytes);
  return ferror(stream) == 0;
}

void report_misuse_and_abort(const Misuse& misuse) noexcept {
  Text<512> text;
  text.append("slabmalloc: %s: address %p", describe(misuse.kind), misuse.address);
  if (misuse.object_size != 0) {
    text.append(", slot %zu of a page of %zu-byte slots", misuse.slot, misuse.object_size);
  }
  text.append(" (process %u, thread %u). Stopping: the program is wrong.\n",
              os::interface().process_id(), os::interface().thread_id());
  text.write(STDERR_FILENO);
  const OtherZone for_handler_of_sigabrt;
  abort();
}

}  // namespace slabmalloc
