// SPDX-License-Identifier: MIT
//
// Tests of whole programs on the malloc: unusual times of their lives, limits, options, and
// programs of others.
#include <dlfcn.h>
#include <errno.h>
#include <gtest/gtest.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <regex>
#include <semaphore>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "run_program.hpp"
#include "support/child.hpp"

namespace slabmalloc::test {
namespace {

constexpr rlim_t mebibyte = rlim_t{1} << 20;

Outcome run_life(const char* name, Form form, const Surroundings& surroundings = {}) {
  return run({program("lifetime_program", form), name}, form, surroundings);
}

Surroundings with_limit(int resource, rlim_t bytes) {
  Surroundings surroundings;
  surroundings.in_child = [=] {
    const rlimit limit{bytes, bytes};
    setrlimit(static_cast<__rlimit_resource>(resource), &limit);
  };
  return surroundings;
}

Surroundings with_options(const std::string& text) {
  return {{"SLABMALLOC_OPTIONS=" + text}, "", [] {}};
}

/// A path in a folder of its own, which ends with the scope.
class TemporaryPath {
 public:
  TemporaryPath() {
    EXPECT_NE(mkdtemp(folder_), nullptr);
    chmod(folder_, 0755);
  }
  ~TemporaryPath() {
    unlink(path().c_str());
    rmdir(folder_);
  }
  std::string path() const { return std::string(folder_) + "/file"; }
  std::string contents() const {
    std::ostringstream text;
    text << std::ifstream(path()).rdbuf();
    return text.str();
  }

 private:
  char folder_[64] = "/tmp/slabmalloc_program_XXXXXX";
};

class Life : public testing::TestWithParam<Form> {};

INSTANTIATE_TEST_SUITE_P(Forms, Life, testing::Values(Form::preload, Form::fixed, Form::override),
                         [](const auto& form) { return std::string(name_of(form.param)); });

TEST_P(Life, blocks_may_be_freed_after_main_and_after_their_threads) {
  const Outcome outcome = run_life("frees_after_main", GetParam());
  EXPECT_TRUE(outcome.exited_with(0)) << outcome;
  EXPECT_EQ(outcome.errors, "");
}

TEST_P(Life, statistics_are_written_after_the_programs_own_destructors) {
  const Outcome outcome = run_life("frees_after_main", GetParam(), with_options("stats"));
  EXPECT_TRUE(outcome.exited_with(0)) << outcome;
  EXPECT_NE(outcome.errors.find("slabmalloc "), std::string::npos) << outcome;
}

TEST_P(Life, threads_may_run_on_while_the_process_ends) {
  for (int round = 0; round < 5; ++round) {
    const Outcome outcome = run_life("threads_run_on_while_the_process_ends", GetParam());
    EXPECT_TRUE(outcome.exited_with(0)) << outcome;
  }
}

TEST_P(Life, the_main_thread_may_end_first) {
  const Outcome outcome = run_life("main_thread_ends_first", GetParam());
  EXPECT_TRUE(outcome.exited_with(0)) << outcome;
}

TEST_P(Life, threads_may_start_at_once) {
  for (int round = 0; round < 10; ++round) {
    const Outcome outcome = run_life("starts_threads_at_once", GetParam());
    EXPECT_TRUE(outcome.exited_with(0)) << outcome;
  }
}

TEST_P(Life, a_handler_of_sigabrt_may_allocate_and_fork_after_misuse) {
  const Outcome outcome = run_life("allocates_and_forks_in_its_handler_of_sigabrt", GetParam());
  EXPECT_TRUE(outcome.exited_with(42)) << outcome;
}

TEST_P(Life, a_program_works_under_a_bound_on_the_address_space) {
  const Outcome outcome =
      run_life("allocates_until_refused", GetParam(), with_limit(RLIMIT_AS, 200 * mebibyte));
  EXPECT_TRUE(outcome.exited_with(0)) << outcome;
}

TEST_P(Life, a_bound_that_the_program_sets_itself_leaves_room_for_its_stack_and_mappings) {
  const Outcome outcome = run_life("bounds_its_own_address_space", GetParam());
  EXPECT_TRUE(outcome.exited_with(0)) << outcome;
}

TEST_P(Life, a_program_works_under_a_bound_on_writable_memory) {
  const Outcome outcome =
      run_life("allocates_until_refused", GetParam(), with_limit(RLIMIT_DATA, 150 * mebibyte));
  EXPECT_TRUE(outcome.exited_with(0)) << outcome;
}

TEST_P(Life, address_space_may_be_filled_upwards) {
  Surroundings surroundings;
  surroundings.in_child = [] { personality(ADDR_COMPAT_LAYOUT); };
  const Outcome outcome = run_life("maps_while_it_allocates", GetParam(), surroundings);
  EXPECT_TRUE(outcome.exited_with(0)) << outcome;
}

// ---- early --------------------------------------------------------------------------------------

TEST(EarlyStart, a_library_may_allocate_before_the_malloc_was_started) {
  Surroundings surroundings;
  surroundings.preloaded_after = SLABMALLOC_TEST_FOLDER "/libmalloc_early_library.so";
  const Outcome outcome = run_life("frees_blocks_that_a_library_allocated_before_the_start",
                                   Form::preload, surroundings);
  EXPECT_TRUE(outcome.exited_with(0)) << outcome;
}

TEST(EarlyStart, a_library_that_was_started_before_may_allocate_in_its_handlers_of_fork) {
  Surroundings surroundings;
  surroundings.preloaded_after = SLABMALLOC_TEST_FOLDER "/libmalloc_early_library.so";
  const Outcome outcome = run_life("forks", Form::preload, surroundings);
  EXPECT_TRUE(outcome.exited_with(0)) << outcome;
}

TEST(EarlyStart, a_wrapper_may_look_the_malloc_up_while_it_allocates) {
  Surroundings surroundings;
  surroundings.preloaded_before = SLABMALLOC_TEST_FOLDER "/libmalloc_wrapper_library.so";
  const Outcome outcome = run_life("runs_on_a_wrapped_malloc", Form::preload, surroundings);
  EXPECT_TRUE(outcome.exited_with(0)) << outcome;
}

// ---- the first call -----------------------------------------------------------------------------

class FirstCall : public testing::TestWithParam<Form> {};

INSTANTIATE_TEST_SUITE_P(Forms, FirstCall,
                         testing::Values(Form::preload, Form::hardened, Form::fixed,
                                         Form::override),
                         [](const auto& form) {
                           return form.param == Form::hardened ? std::string("hardened")
                                                               : std::string(name_of(form.param));
                         });

TEST_P(FirstCall, of_a_process_and_of_a_thread_may_be_any) {
  const std::string path = program("first_call_program", GetParam());
  std::istringstream names(run({path, "list"}, GetParam()).output);
  int calls = 0;
  for (std::string name; std::getline(names, name); ++calls) {
    const Outcome outcome = run({path, name}, GetParam());
    EXPECT_TRUE(outcome.exited_with(0)) << name << ": " << outcome;
  }
  EXPECT_GT(calls, 30);
}

// ---- libraries and surroundings -----------------------------------------------------------------

TEST_P(Life, a_program_may_lock_itself_up_and_allocate_on) {
  const Outcome outcome = run_life("allocates_in_a_sandbox", GetParam());
  if (outcome.exited_with(77)) {
    GTEST_SKIP() << "there are no such sandboxes here";
  }
  EXPECT_TRUE(outcome.exited_with(0)) << outcome;
}

/// From now on, system call `number` returns `result` without effect where its argument `argument`
/// has a bit of `bits`. False if there are no such filters here.
bool pretend(std::uint32_t number, std::uint32_t argument, std::uint32_t bits, int result) {
  sock_filter steps[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 0, 3),
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
               static_cast<std::uint32_t>(offsetof(seccomp_data, args[0]) + 8 * argument)),
      BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, bits, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | static_cast<std::uint32_t>(result)),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  const sock_fprog filter{std::size(steps), steps};
  return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
         prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) == 0;
}

TEST(OddSystems, where_madvise_does_nothing_calloc_gives_zeros) {
  Surroundings surroundings = with_options("decay_ms:0");
  surroundings.in_child = [] { pretend(SYS_madvise, 2, 4, 0); };  // MADV_DONTNEED
  const Outcome outcome = run_life("fills_frees_and_asks_for_zeros", Form::preload, surroundings);
  EXPECT_TRUE(outcome.exited_with(0)) << outcome;
}

TEST(OddSystems, that_refuse_to_map_at_an_address_without_replacement_work) {
  for (const int error : {EINVAL, EOPNOTSUPP}) {
    Surroundings surroundings;
    surroundings.in_child = [=] { pretend(SYS_mmap, 3, MAP_FIXED_NOREPLACE, error); };
    for (const char* const life : {"fills_frees_and_asks_for_zeros", "maps_while_it_allocates"}) {
      const Outcome outcome = run_life(life, Form::preload, surroundings);
      EXPECT_TRUE(outcome.exited_with(0)) << outcome;
    }
  }
}

// The C library then serves the plug-in, unless the flag is taken away.
TEST(Plugins, that_are_deeply_bound_use_the_malloc_of_the_program) {
  const char* const life = "frees_blocks_of_a_deeply_bound_plugin";
  const Outcome outcome = run_life(life, Form::preload);
  EXPECT_TRUE(outcome.exited_with(0)) << outcome;
  EXPECT_TRUE(run_life(life, Form::preload, with_options("deep_bind")).died_of(SIGABRT));
}

TEST(Plugins, are_found_by_the_runpath_of_the_library_that_opens_them) {
  const Outcome outcome = run_life("opens_a_library_by_the_runpath_of_another", Form::preload);
  EXPECT_TRUE(outcome.exited_with(0)) << outcome;
}

/// Uses the malloc in `library` on the C library's one, closes it, and then ends a thread that has
/// used it, forks, and returns.
void open_and_close(const char* library) {
  for (int round = 0; round < 3; ++round) {
    void* const handle = dlopen(library, RTLD_NOW | RTLD_LOCAL);
    ASSERT_NE(handle, nullptr) << dlerror();
    const auto allocate = reinterpret_cast<void* (*)(std::size_t)>(dlsym(handle, "malloc"));
    const auto deallocate = reinterpret_cast<void (*)(void*)>(dlsym(handle, "free"));
    ASSERT_TRUE(allocate != nullptr && allocate != &malloc && deallocate != nullptr);
    const auto use = [&] {
      for (std::size_t bytes = 1; bytes < 64 * mebibyte; bytes *= 3) {
        void* blocks[100];
        for (void*& block : blocks) {
          block = allocate(bytes < mebibyte ? bytes : bytes / 100);
          EXPECT_NE(block, nullptr);
        }
        std::for_each(std::begin(blocks), std::end(blocks), deallocate);
      }
    };
    use();
    std::binary_semaphore has_used{0};
    std::binary_semaphore may_end{0};
    std::thread thread([&] {
      use();
      has_used.release();
      may_end.acquire();
    });
    has_used.acquire();
    EXPECT_EQ(dlclose(handle), 0);
    may_end.release();
    thread.join();
    EXPECT_EQ(status_of_child([] { return 0; }), 0);
  }
}

TEST(Libraries, of_the_malloc_may_be_closed_before_the_threads_that_have_used_them_end) {
  for (const char* const library : {SLABMALLOC_TEST_LIBRARY, SLABMALLOC_TEST_HARDENED}) {
    EXPECT_EXIT(
        {
          open_and_close(library);
          exit(testing::Test::HasFailure() ? 1 : 0);
        },
        testing::ExitedWithCode(0), "")
        << library;
  }
}

std::string allocating_library() {
  return SLABMALLOC_TEST_FOLDER "/libmalloc_allocating_library.so";
}

/// The symbols that `nm` lists for a library; "U" and "T" are kinds.
std::vector<std::string> symbols(const std::string& library, const std::string& kind) {
  std::vector<std::string> result;
  std::istringstream lines(run({"nm", "-D", library}, Form::fixed).output);
  for (std::string line; std::getline(lines, line);) {
    const std::size_t at = line.find(" " + kind + " ");
    if (at != std::string::npos) {
      result.push_back(line.substr(at + 3, line.find('@', at) - at - 3));
    }
  }
  return result;
}

TEST(Wrappers, may_allocate_in_every_function_that_the_malloc_calls) {
  if (access(allocating_library().c_str(), R_OK) != 0) {
    GTEST_SKIP() << "not for this processor";
  }
  const std::vector<std::string> wrapped = symbols(allocating_library(), "T");
  const std::vector<std::string> data{"__progname", "program_invocation_short_name"};
  for (const std::string& called : symbols(SLABMALLOC_TEST_LIBRARY, "U")) {
    EXPECT_TRUE(std::find(wrapped.begin(), wrapped.end(), called) != wrapped.end() ||
                std::find(data.begin(), data.end(), called) != data.end())
        << called << " is called and not wrapped here";
  }
  for (const bool is_before : {true, false}) {
    Surroundings surroundings =
        with_options("stats:totals+classes+json,background_thread,decay_ms:10,scavenge_ms:5");
    (is_before ? surroundings.preloaded_before : surroundings.preloaded_after) =
        allocating_library();
    const Outcome outcome = run_life("does_everything_once", Form::preload, surroundings);
    EXPECT_TRUE(outcome.exited_with(0)) << outcome;
  }
}

TEST(Wrappers, may_refuse_what_the_c_library_can_refuse) {
  Surroundings surroundings = with_options("background_thread,scavenge_ms:5");
  surroundings.preloaded_before = SLABMALLOC_TEST_FOLDER "/libmalloc_refusing_library.so";
  const Outcome outcome = run_life("forks_amid_allocations", Form::preload, surroundings);
  EXPECT_TRUE(outcome.exited_with(0)) << outcome;
}

// libfaketime's clock_gettime allocates.
TEST(Wrappers, of_time_may_allocate) {
  const std::filesystem::path libraries = "/usr/lib";
  std::string library;
  for (const auto& folder : std::filesystem::directory_iterator(libraries)) {
    const std::filesystem::path path = folder.path() / "faketime" / "libfaketime.so.1";
    library = std::filesystem::exists(path) ? path.string() : library;
  }
  if (library.empty()) {
    GTEST_SKIP() << "libfaketime is missing";
  }
  for (const bool is_before : {true, false}) {
    Surroundings surroundings;
    surroundings.environment = {"FAKETIME=2001-02-03 04:05:06"};
    (is_before ? surroundings.preloaded_before : surroundings.preloaded_after) = library;
    const Outcome date = run({"date", "+%Y-%m-%d"}, Form::preload, surroundings);
    EXPECT_TRUE(date.exited_with(0)) << date;
    EXPECT_EQ(date.output, "2001-02-03\n") << date;
    const Outcome python = run({"python3", "-c", "import time; print(time.localtime().tm_year)"},
                               Form::preload, surroundings);
    EXPECT_TRUE(python.exited_with(0)) << python;
    const Outcome threads = run_life("starts_threads_at_once", Form::preload, surroundings);
    EXPECT_TRUE(threads.exited_with(0)) << threads;
  }
}

// ---- others' programs ---------------------------------------------------------------------------

/// Memory of a small program in KiB, without memory that it shares with files.
std::size_t own_kibibytes(Form form) {
  const Outcome outcome = run({"cat", "/proc/self/smaps_rollup"}, form);
  std::smatch amount;
  const bool is_told =
      std::regex_search(outcome.output, amount, std::regex("Anonymous: +([0-9]+) kB"));
  return is_told ? std::stoul(amount[1]) : 0;
}

TEST(Programs, a_small_one_has_little_more_memory_than_on_the_c_librarys_malloc) {
  // A zone has four pages, its records, and one page for each class in use. The library itself has
  // two.
  const std::size_t without = own_kibibytes(Form::fixed);
  if (without == 0 || sysconf(_SC_PAGESIZE) != 4096) {
    GTEST_SKIP() << "the kernel does not tell, or counts in larger pages";
  }
  EXPECT_LE(own_kibibytes(Form::preload), without + 140);
}

const char* const python_work =
    "import json, subprocess, threading\n"
    "words = {str(i): 'x' * (i % 1000) for i in range(20000)}\n"
    "threads = [threading.Thread(target=lambda: json.loads(json.dumps(words))) for _ in range(3)]\n"
    "[t.start() for t in threads]; [t.join() for t in threads]\n"
    "print(len(words), subprocess.run(['true']).returncode)\n";

TEST(Programs, python_runs_within_a_million_kilobytes_of_address_space) {
  Surroundings surroundings = with_limit(RLIMIT_AS, rlim_t{1000000} * 1024);
  surroundings.environment = {"PYTHONMALLOC=malloc"};
  const Outcome outcome = run({"python3", "-c", python_work}, Form::preload, surroundings);
  EXPECT_TRUE(outcome.exited_with(0)) << outcome;
  EXPECT_EQ(outcome.output, "20000 0\n");
}

TEST(Programs, python_gets_a_memory_error_at_a_bound_and_goes_on) {
  Surroundings surroundings = with_limit(RLIMIT_AS, rlim_t{400} << 20);
  surroundings.environment = {"PYTHONMALLOC=malloc"};
  const Outcome outcome = run({"python3", "-c",
                               "blocks = []\n"
                               "try:\n"
                               "  while True: blocks.append(bytearray(1 << 20))\n"
                               "except MemoryError: pass\n"
                               "count = len(blocks); blocks = None\n"
                               "print(count > 200, len(bytearray(100 << 20)) == 100 << 20)\n"},
                              Form::preload, surroundings);
  EXPECT_TRUE(outcome.exited_with(0)) << outcome;
  EXPECT_EQ(outcome.output, "True True\n");
}

// ---- options ------------------------------------------------------------------------------------

TEST(OptionsOfAProcess, a_summary_is_written_at_exit) {
  const Outcome outcome = run_life("allocates_and_frees", Form::preload, with_options("stats"));
  EXPECT_TRUE(outcome.exited_with(0)) << outcome;
  EXPECT_NE(outcome.errors.find("lifetime_program_preload"), std::string::npos) << outcome;
  EXPECT_EQ(outcome.output, "");
}

TEST(OptionsOfAProcess, a_summary_is_written_though_the_program_closes_stderr) {
  const Outcome outcome =
      run_life("closes_stderr_at_its_end", Form::preload, with_options("stats"));
  EXPECT_TRUE(outcome.exited_with(0)) << outcome;
  EXPECT_NE(outcome.errors.find("lifetime_program_preload"), std::string::npos) << outcome;
}

TEST(OptionsOfAProcess, a_summary_is_never_written_into_a_file_of_the_programs) {
  const Outcome outcome =
      run_life("closes_all_files_at_its_end", Form::preload, with_options("stats"));
  EXPECT_TRUE(outcome.exited_with(0)) << outcome;
  EXPECT_EQ(outcome.errors + outcome.output, "");
}

TEST(OptionsOfAProcess, without_options_nothing_is_written) {
  const Outcome outcome = run_life("allocates_and_frees", Form::preload);
  EXPECT_TRUE(outcome.exited_with(0)) << outcome;
  EXPECT_EQ(outcome.errors + outcome.output, "");
}

TEST(OptionsOfAProcess, each_process_appends_one_line_to_the_file) {
  const TemporaryPath file;
  for (int count = 0; count < 2; ++count) {
    const Outcome outcome =
        run_life("forks", Form::preload, with_options("stats_file:" + file.path()));
    EXPECT_TRUE(outcome.exited_with(0)) << outcome;
    EXPECT_EQ(outcome.errors, "");
  }
  const std::string text = file.contents();
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 4) << text;
  // Before its fork, the program makes a thousand calls, which the child must not count.
  const std::regex few_calls("\"threads\":1,[^\\[]*\"allocations\":[0-9]{1,3},");
  EXPECT_EQ(std::distance(std::sregex_iterator(text.begin(), text.end(), few_calls),
                          std::sregex_iterator()),
            2)
      << text;
}

TEST(OptionsOfAProcess, a_file_that_cannot_be_written_is_reported_and_changes_no_exit_status) {
  const Outcome outcome =
      run_life("allocates_and_frees", Form::preload, with_options("stats_file:/nonexistent/file"));
  EXPECT_TRUE(outcome.exited_with(0)) << outcome;
  EXPECT_NE(outcome.errors.find("/nonexistent/file"), std::string::npos);
}

TEST(OptionsOfAProcess, a_closed_stderr_changes_nothing) {
  Surroundings surroundings = with_options("stats,nonsense,stats_file:/nonexistent/file");
  surroundings.in_child = [] { close(2); };
  const Outcome outcome = run_life("frees_after_main", Form::preload, surroundings);
  EXPECT_TRUE(outcome.exited_with(0)) << outcome;
  EXPECT_EQ(outcome.output, "");
}

TEST(OptionsOfAProcess, unknown_options_are_reported_and_the_program_runs) {
  const Outcome outcome = run_life("allocates_and_frees", Form::preload, with_options("stast"));
  EXPECT_TRUE(outcome.exited_with(0)) << outcome;
  EXPECT_NE(outcome.errors.find("did you mean 'stats'?"), std::string::npos) << outcome;
}

TEST(OptionsOfAProcess, a_summary_has_the_requested_parts) {
  const char* const life = "allocates_and_frees";
  const Outcome totals = run_life(life, Form::preload, with_options("stats:totals"));
  EXPECT_NE(totals.errors.find("\nlarge objects\n"), std::string::npos) << totals;
  EXPECT_EQ(totals.errors.find("\nsize classes\n"), std::string::npos) << totals;
  const Outcome json = run_life(life, Form::preload, with_options("stats:json"));
  EXPECT_TRUE(json.errors.starts_with("{\"version\":")) << json;
  EXPECT_TRUE(json.errors.ends_with("}\n")) << json;
}

TEST(OptionsOfAProcess, memory_stays_dirty_for_the_decay_time) {
  const auto is_resident = [](const std::string& text) {
    return run_life("says_whether_freed_memory_is_resident", Form::preload, with_options(text))
        .output;
  };
  EXPECT_EQ(is_resident("decay_ms:0"), "0 0\n");
  EXPECT_EQ(is_resident("decay_ms:200"), "1 0\n");
  EXPECT_EQ(is_resident("decay_ms:60000"), "1 1\n");
}

TEST(OptionsOfAProcess, the_background_thread_purges_while_the_program_makes_no_calls) {
  const auto run_with = [](const std::string& text) {
    return run_life("says_whether_idle_memory_is_resident", Form::preload, with_options(text));
  };
  // In the parent, then in a child of a fork.
  const Outcome with = run_with("decay_ms:200,scavenge_ms:20,background_thread");
  EXPECT_EQ(with.output, "0 2 threads\n0 2 threads\n") << with;
  const Outcome without = run_with("decay_ms:200,scavenge_ms:20");
  EXPECT_EQ(without.output, "1 1 threads\n1 1 threads\n") << without;
}

/// The number of this name in the JSON that a program wrote to stderr.
std::size_t number_named(const std::string& name, const Outcome& outcome) {
  const std::string key = "\"" + name + "\":";
  const std::size_t place = outcome.errors.find(key);
  EXPECT_NE(place, std::string::npos) << outcome;
  return place != std::string::npos ? std::stoul(outcome.errors.substr(place + key.size())) : 0;
}

TEST(OptionsOfAProcess, blocks_get_mappings_from_the_direct_threshold_on) {
  // All else in use is chunks. A mapping has OS pages.
  const std::size_t chunk_bytes = 65536;
  const std::size_t os_page_bytes = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
  const auto rest_in_use = [](const std::string& text) {
    const Outcome outcome =
        run_life("leaves_a_block_in_use", Form::preload, with_options("stats:json" + text));
    return number_named("in_use_bytes", outcome) % chunk_bytes;
  };
  EXPECT_EQ(rest_in_use(""), 0u);
  EXPECT_EQ(rest_in_use(",direct_threshold:1M"), os_page_bytes % chunk_bytes);
}

TEST(OptionsOfAProcess, a_program_goes_on_after_the_hard_limit_refused_an_allocation) {
  const Outcome outcome = run_life("allocates_until_refused", Form::preload,
                                   with_options("hard_limit:64M,soft_limit:48M,stats:json"));
  EXPECT_TRUE(outcome.exited_with(0)) << outcome;
  // Three rounds of three sizes, each up to the limit. A request may be repeated after a drain.
  EXPECT_GE(number_named("limit_refusals", outcome), 9u);
  EXPECT_LE(number_named("limit_refusals", outcome), 18u);
  EXPECT_GE(number_named("limit_purges", outcome), 1u);
  EXPECT_EQ(number_named("hard_limit_bytes", outcome), 64 * mebibyte);
  EXPECT_EQ(number_named("soft_limit_bytes", outcome), 48 * mebibyte);
  EXPECT_LE(number_named("in_use_peak_bytes", outcome), 64 * mebibyte);
}

TEST(OptionsOfAProcess, a_program_with_threads_gives_free_memory_back_above_the_soft_limit) {
  const Outcome outcome =
      run_life("starts_threads_at_once", Form::preload, with_options("soft_limit:1M,stats:json"));
  EXPECT_TRUE(outcome.exited_with(0)) << outcome;
  EXPECT_GE(number_named("limit_purges", outcome), 1u);
  EXPECT_EQ(number_named("limit_refusals", outcome), 0u);
}

/// In this sandbox, membarrier ends the process.
void forbid_membarrier() {
  sock_filter steps[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_membarrier, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  const sock_fprog filter{std::size(steps), steps};
  prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
  prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter);
}

TEST(OptionsOfAProcess, without_scavenging_membarrier_is_never_called) {
  Surroundings sandbox;
  sandbox.in_child = forbid_membarrier;
  const char* const life = "trims_while_a_thread_sleeps";
  const Outcome with_scavenging = run_life(life, Form::preload, sandbox);
  if (with_scavenging.exited_with(0)) {
    GTEST_SKIP() << "there are no such sandboxes here";
  }
  EXPECT_TRUE(with_scavenging.died_of(SIGSYS)) << with_scavenging << "the test wants a scavenge";
  sandbox.environment = with_options("no_scavenging").environment;
  const Outcome outcome = run_life(life, Form::preload, sandbox);
  EXPECT_TRUE(outcome.exited_with(0)) << outcome;
}

TEST(OptionsOfAProcess, huge_pages_are_for_heaps_that_ask_for_them) {
  const auto count_advised = [](const Surroundings& surroundings) {
    const std::string maps = run({"cat", "/proc/self/smaps"}, Form::preload, surroundings).output;
    const std::regex advised("VmFlags:.* hg ");
    return std::distance(std::sregex_iterator(maps.begin(), maps.end(), advised), {});
  };
  if (!std::ifstream("/sys/kernel/mm/transparent_hugepage/enabled")) {
    GTEST_SKIP() << "the kernel has none";
  }
  EXPECT_EQ(count_advised({}), 0);
  EXPECT_GE(count_advised(with_options("huge_pages")), 1);
}

TEST(OptionsOfAProcess, set_user_id_programs_ignore_the_options_of_their_caller) {
  const TemporaryPath copy;
  std::ofstream(copy.path(), std::ios::binary)
      << std::ifstream(program("lifetime_program", Form::override), std::ios::binary).rdbuf();
  const bool is_set_user_id = geteuid() == 0 && chown(copy.path().c_str(), 65534, 65534) == 0 &&
                              chmod(copy.path().c_str(), 04755) == 0;
  const Outcome outcome = run({copy.path(), "says_whether_its_caller_is_trusted"}, Form::override,
                              with_options("stats,help"));
  if (!is_set_user_id || outcome.output != "secure\n") {
    GTEST_SKIP() << "set-user-id programs cannot be made here";
  }
  EXPECT_TRUE(outcome.exited_with(0)) << outcome;
  EXPECT_EQ(outcome.errors, "");
}

}  // namespace
}  // namespace slabmalloc::test
