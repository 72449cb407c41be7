// SPDX-License-Identifier: MIT
//
// Tests of the report, which writes the numbers of the heap as text, JSON and XML.
#include "malloc/report.hpp"

#include <errno.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <regex>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "malloc/guarded_sampling.hpp"

namespace slabmalloc {
namespace {

/// A file that ends with the scope.
class TemporaryFile {
 public:
  TemporaryFile() : descriptor_(mkstemp(path_)) { EXPECT_GE(descriptor_, 0); }
  ~TemporaryFile() {
    close(descriptor_);
    unlink(path_);
  }
  const char* path() const { return path_; }
  int descriptor() const { return descriptor_; }
  std::string contents() const {
    std::ostringstream text;
    text << std::ifstream(path_).rdbuf();
    return text.str();
  }

 private:
  char path_[64] = "/tmp/slabmalloc_report_XXXXXX";
  int descriptor_;
};

/// The number after the first `"name":`.
std::size_t number(const std::string& json, const std::string& name) {
  const std::size_t place = json.find("\"" + name + "\":");
  EXPECT_NE(place, std::string::npos) << name;
  return place == std::string::npos ? 0 : std::stoul(json.substr(place + name.size() + 3));
}

/// Python is a JSON reader that is not ours. True if it accepts every line of the file, and no
/// object has a name twice.
bool is_json_lines(const char* path) {
  const std::string command =
      std::string(
          "python3 -c 'import json,sys\n"
          "def once(pairs): assert len(dict(pairs)) == len(pairs), pairs\n"
          "for line in open(sys.argv[1]): json.loads(line, object_pairs_hook=once)' ") +
      path;
  return system(command.c_str()) == 0;
}

/// Checks that `json` has each of the counters with its value.
template <class Counters>
void expect_in_json(const std::string& json, const Counters& expected) {
  for_each_counter<Counters>([&](const auto& entry) noexcept {
    EXPECT_EQ(number(json, entry.name), expected.*entry.member) << entry.name;
  });
}

/// Checks that `text` has a line for each of the counters with its value.
template <class Counters>
void expect_in_text(const std::string& text, const Counters& expected) {
  for_each_counter<Counters>([&](const auto& entry) noexcept {
    const std::string line =
        "  " + std::string(entry.name) + " +" + std::to_string(expected.*entry.member);
    EXPECT_TRUE(std::regex_search(text, std::regex("\n" + line + "\n"))) << line << "\n" << text;
  });
}

/// The part of the line `json` from this beginning to the next brace.
std::string part(const std::string& json, const std::string& begin) {
  const std::size_t place = json.find(begin);
  EXPECT_NE(place, std::string::npos) << begin << " in " << json;
  return place == std::string::npos ? "" : json.substr(place, json.find('}', place) - place + 1);
}

/// Blocks that stay live as long as it lives.
class Blocks {
 public:
  ~Blocks() {
    for (void* block : blocks_) {
      heap::deallocate(block);
    }
  }
  void add(std::size_t bytes) { blocks_.push_back(heap::allocate(bytes)); }
  /// The first block, which then belongs to the caller.
  void* take() {
    void* const block = blocks_.front();
    blocks_.erase(blocks_.begin());
    return block;
  }
  std::size_t count() const { return blocks_.size(); }

 private:
  std::vector<void*> blocks_;
};

TEST(Report, json_is_one_line_that_agrees_with_the_statistics) {
  Blocks blocks;
  for (std::size_t bytes = 1; bytes < 200000; bytes += bytes / 3 + 1) {
    blocks.add(bytes);
  }
  const std::size_t remote_frees = process_statistics().remote_frees;
  std::thread([block = blocks.take()] { heap::deallocate(block); }).join();
  heap::trim();
  const TemporaryFile file;
  const ProcessStatistics expected = process_statistics();
  ASSERT_TRUE(append_json(file.path()));
  const std::string json = file.contents();
  EXPECT_EQ(std::count(json.begin(), json.end(), '\n'), 1);
  EXPECT_TRUE(is_json_lines(file.path())) << json;
  EXPECT_EQ(number(json, "pid"), static_cast<std::size_t>(getpid()));
  expect_in_json<ProcessTotals>(json, expected);
  expect_in_json(json, expected.arena);
  expect_in_json(part(json, "\"large\":{"), expected.arena.large);
  for (const ClassStatistics& one : expected.classes) {
    if (one.pages != 0) {
      expect_in_json(part(json, "{\"size\":" + std::to_string(one.object_size) + ","), one);
    }
  }
  EXPECT_EQ(number(json, "remote_frees"), remote_frees + 1);
  EXPECT_EQ(number(json, "live_objects"), blocks.count());
}

TEST(Report, further_lines_are_appended) {
  const TemporaryFile file;
  for (int count = 0; count < 3; ++count) {
    ASSERT_TRUE(append_json(file.path()));
  }
  const std::string json = file.contents();
  EXPECT_EQ(std::count(json.begin(), json.end(), '\n'), 3);
  EXPECT_TRUE(is_json_lines(file.path()));
}

TEST(Report, every_class_at_once_fits_the_line) {
  Blocks blocks;
  for (std::uint32_t index = 0; index < heap::SizeClasses::count; ++index) {
    blocks.add(heap::SizeClasses::size_of(index));
  }
  const TemporaryFile file;
  ASSERT_TRUE(append_json(file.path()));
  EXPECT_TRUE(is_json_lines(file.path()));
  const std::string json = file.contents();
  std::size_t classes = 0;
  for (std::size_t place = json.find("\"size\":"); place != std::string::npos;
       place = json.find("\"size\":", place + 1)) {
    ++classes;
  }
  EXPECT_EQ(classes, heap::SizeClasses::count);
}

TEST(Report, names_of_programs_are_quoted) {
  char name[] = "a \"quoted\\\" name\twith \x01 and \xC3\xA9";
  char* const before = program_invocation_short_name;
  program_invocation_short_name = name;
  const TemporaryFile file;
  EXPECT_TRUE(append_json(file.path()));
  program_invocation_short_name = before;
  EXPECT_TRUE(is_json_lines(file.path())) << file.contents();
}

TEST(Report, reports_a_file_that_cannot_be_written_to_the_caller) {
  EXPECT_FALSE(append_json("/nonexistent/folder/file"));
  EXPECT_FALSE(append_json("/dev/full"));
}

TEST(Report, the_summary_names_live_blocks) {
  Blocks blocks;
  blocks.add(100);
  const TemporaryFile file;
  const ProcessStatistics expected = process_statistics();
  EXPECT_EQ(expected.live_objects, 1u);
  EXPECT_EQ(expected.live_bytes, 112u);
  print_statistics(file.descriptor());
  const std::string text = file.contents();
  expect_in_text<ProcessTotals>(text, expected);
  expect_in_text(text, expected.arena);
  expect_in_text(text, expected.arena.large);
  std::string titles;
  std::string row;
  for_each_counter<ClassStatistics>([&](const auto& entry) {
    titles += " +" + std::string(entry.name);
    row += " +" + std::to_string(expected.classes[heap::SizeClasses::index_for(100)].*entry.member);
  });
  EXPECT_TRUE(std::regex_search(text, std::regex("\n" + titles + " +used%\n"))) << text;
  EXPECT_TRUE(std::regex_search(text, std::regex("\n" + row + " +0%\n"))) << row << "\n" << text;
}

TEST(Report, prints_the_requested_parts_of_the_statistics) {
  Blocks blocks;
  blocks.add(100);
  const auto has = [](std::uint32_t parts, const char* text) {
    const TemporaryFile file;
    print_statistics(file.descriptor(), parts);
    return file.contents().find(text) != std::string::npos;
  };
  for (std::uint32_t parts = 0; parts < 8; ++parts) {
    EXPECT_EQ(has(parts, "large objects\n"), (parts & stats_totals) != 0);
    EXPECT_EQ(has(parts, "size classes\n"), (parts & stats_classes) != 0);
    EXPECT_EQ(has(parts, "{\"version\":"), (parts & stats_json) != 0);
    EXPECT_EQ(has(parts, "slabmalloc "), (parts & (stats_totals | stats_classes)) != 0);
  }
}

TEST(Report, counting_anew_forgets_calls_but_not_live_blocks) {
  Blocks blocks;
  for (int count = 0; count < 10; ++count) {
    blocks.add(100);
  }
  heap::deallocate(blocks.take());
  start_counting_anew();
  ProcessStatistics now = process_statistics();
  EXPECT_EQ(now.allocations, 0u);
  EXPECT_EQ(now.frees, 0u);
  EXPECT_EQ(now.refills, 0u);
  EXPECT_EQ(now.arena.large.allocations, 0u);
  EXPECT_EQ(now.live_objects, 9u);
  EXPECT_NE(now.pages, 0u);
  EXPECT_NE(now.arena.committed_peak_bytes, 0u);
  heap::deallocate(blocks.take());
  void* large = heap::allocate(1000000);
  now = process_statistics();
  EXPECT_EQ(now.allocations, 1u);
  EXPECT_EQ(now.frees, 1u);
  heap::deallocate(large);
}

TEST(Report, counting_anew_counts_later_frees_of_guarded_blocks) {
  set_guarded_sampling(1, 0);
  Blocks claimed_before;
  while (guarded_blocks.allocations() == 0) {
    claimed_before.add(100);
  }
  Blocks blocks;
  for (int count = 0; count < 5; ++count) {
    blocks.add(100);
  }
  heap::deallocate(blocks.take());
  start_counting_anew();
  const std::size_t live = process_statistics().live_objects;
  heap::deallocate(blocks.take());
  ProcessStatistics now = process_statistics();
  EXPECT_EQ(now.guarded, 0u);
  EXPECT_EQ(now.allocations, 0u);
  EXPECT_EQ(now.frees, 1u);
  EXPECT_EQ(now.live_objects, live - 1);
  blocks.add(100);
  set_guarded_sampling(0, 0);
  now = process_statistics();
  EXPECT_EQ(now.guarded, 1u);
  EXPECT_EQ(now.allocations, 1u);
  EXPECT_EQ(now.frees, 1u);
  EXPECT_EQ(now.live_objects, live);
}

TEST(Report, xml_is_well_formed) {
  Blocks blocks;
  blocks.add(100);
  const TemporaryFile file;
  FILE* stream = fdopen(dup(file.descriptor()), "w");
  ASSERT_TRUE(print_xml(stream));
  fclose(stream);
  const std::string command =
      std::string("python3 -c 'import sys,xml.dom.minidom as m; m.parse(sys.argv[1])' ") +
      file.path();
  EXPECT_EQ(system(command.c_str()), 0) << file.contents();
}

}  // namespace
}  // namespace slabmalloc
