// SPDX-License-Identifier: MIT
//
// The work at load time and at exit. The heap works before and after: only options and reports of
// misuse depend on this file.
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "libc/libc.hpp"
#include "malloc/background.hpp"
#include "malloc/fork.hpp"
#include "malloc/guarded_blocks.hpp"
#include "malloc/hardened_heap.hpp"
#include "malloc/heap.hpp"
#include "malloc/options.hpp"
#include "malloc/report.hpp"
#include "malloc/text.hpp"
#include "malloc/thread_zones.hpp"
#include "os/os.hpp"
#include "tunables.hpp"

namespace slabmalloc {

namespace {

/// A duplicate of stderr for the statistics, since many programs close theirs before they end.
class KeptStderr {
 public:
  void keep() noexcept {
    // Above the numbers that shells and scripts use.
    constexpr int least_descriptor = 100;
    descriptor_ = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, least_descriptor);
    if (descriptor_ >= 0 && fstat(descriptor_, &file_) != 0) {
      descriptor_ = -1;
    }
  }

  /// stderr if it is open, else the duplicate; -1 if both are closed. The program may have closed
  /// the duplicate and reused its number, so this compares the files.
  int descriptor() const noexcept {
    struct stat now = {};
    if (fcntl(STDERR_FILENO, F_GETFD) >= 0) {
      return STDERR_FILENO;
    }
    const bool is_kept = descriptor_ >= 0 && fstat(descriptor_, &now) == 0 &&
                         now.st_dev == file_.st_dev && now.st_ino == file_.st_ino;
    return is_kept ? descriptor_ : -1;
  }

 private:
  int descriptor_ = -1;
  struct stat file_ = {};
};

constinit KeptStderr kept_stderr;

/// Runs before the program's constructors, which may start threads.
[[gnu::constructor(101)]] void start() noexcept {
  if constexpr (!CLibrary::allocates_for_threads) {
    follow_forks();
  }
  set_misuse_handler(&report_misuse_and_abort);
  // A set-user-id program must not read options from its caller's environment.
  read_options(secure_getenv("SLABMALLOC_OPTIONS"));
  tunables.guards = tunables.guards && options.guards;
  tunables.random_order = tunables.random_order && options.random_order;
  tunables.class_addresses = tunables.class_addresses && options.class_addresses;
  if (options.huge_pages) {
    tunables.huge_threshold_bytes = 0;
    os::replace_interface(os::huge_page_interface);
  }
  if (options.stats != 0) {
    kept_stderr.keep();
  }
  if (tunables.guard_one_in != 0 || tunables.guard_bytes != 0) {
    set_guarded_sampling(tunables.guard_one_in, tunables.guard_bytes);
  }
  background::start_if_wanted();
}

/// Runs after the program's destructors, as far as the loader's order permits.
[[gnu::destructor(101)]] void finish() noexcept {
  if constexpr (MallocConfig::hardened) {
    // A signal handler that ends the process may have interrupted a call of this thread.
    if (!holds_heap_mutex()) {
      hardened::release_quarantined();
    }
  }
  if (options.stats != 0) {
    print_statistics(kept_stderr.descriptor(), options.stats);
  }
  if (options.stats_file[0] != '\0' && !append_json(options.stats_file)) {
    Text<Options::path_bytes + 128> text;
    text.append("slabmalloc: cannot write the statistics to '%s'\n", options.stats_file);
    text.write(STDERR_FILENO);
  }
}

}  // namespace

}  // namespace slabmalloc
