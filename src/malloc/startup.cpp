// SPDX-License-Identifier: MIT
//
// What happens once when the library is loaded and once when the process ends. The heap works before and
// after: only what options ask for and reports of misuse depend on it.
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "malloc/options.hpp"
#include "malloc/report.hpp"
#include "malloc/text.hpp"
#include "os/os.hpp"

namespace slabmalloc {

namespace {

/// A second way to stderr for the summary, since many programs close theirs before they end.
class KeptStderr {
 public:
  void keep() noexcept {
    // Beyond the numbers that shells and scripts use themselves.
    constexpr int least_descriptor = 100;
    descriptor_ = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, least_descriptor);
    if (descriptor_ >= 0 && fstat(descriptor_, &file_) != 0) {
      descriptor_ = -1;
    }
  }

  /// stderr if it is open, else what was kept of it if the program has not closed that too: then
  /// the number may be another file's. -1: there is neither.
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

/// Before the constructors of the program, which may start threads.
[[gnu::constructor(101)]] void start() noexcept {
  set_misuse_handler(&report_misuse_and_abort);
  // Not from the environment of whoever called a set-user-id program.
  read_options(secure_getenv("SLABMALLOC_OPTIONS"));
  if (options.huge_pages) {
    os::replace_interface(os::huge_page_interface);
  }
  if (options.stats != 0) {
    kept_stderr.keep();
  }
}

/// After the destructors of the program, as far as the loader's order goes.
[[gnu::destructor(101)]] void finish() noexcept {
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
