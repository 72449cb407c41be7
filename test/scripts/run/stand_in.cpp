// SPDX-License-Identifier: MIT
// Stands in for libslabmalloc in the driver's tests: allocates nothing itself and appends one fixed
// record at exit. The text of STAND_IN_EXTRA is printed then, to make an output differ.
#include <fcntl.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

namespace {

std::string records_path() {
  const char* options = std::getenv("SLABMALLOC_OPTIONS");
  const char* found = options == nullptr ? nullptr : std::strstr(options, "stats_file:");
  if (found == nullptr) return {};
  const std::string rest = found + std::strlen("stats_file:");
  return rest.substr(0, rest.find(','));
}

void append(const std::string& path, const std::string& text) {
  const int file = open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
  if (file < 0) return;
  if (write(file, text.data(), text.size()) < 0) std::perror("stand-in");
  close(file);
}

struct AtExit {
  ~AtExit() {
    const std::string path = records_path();
    if (path.empty()) return;
    append(path, "{\"version\":\"0.1.0\",\"pid\":" + std::to_string(getpid()) + ",\"program\":\"" +
                     program_invocation_short_name +
                     "\",\"threads\":1,\"allocations\":20000,\"frees\":19900,\"remote_frees\":7,"
                     "\"live_bytes\":2048,\"live_objects\":101,\"committed_bytes\":65536,"
                     "\"committed_peak_bytes\":65536,\"classes\":[{\"size\":16,\"pages\":1,"
                     "\"slots\":4096,\"used\":90,\"allocations\":900,\"frees\":810,"
                     "\"remote_frees\":7},{\"size\":64,\"pages\":1,\"slots\":1024,\"used\":10,"
                     "\"allocations\":100,\"frees\":90,\"remote_frees\":0}],"
                     "\"large\":{\"count\":1,\"bytes\":300000,\"allocations\":1,\"frees\":0}}\n");
    const char* extra = std::getenv("STAND_IN_EXTRA");
    if (extra != nullptr) std::puts(extra);
  }
};

const AtExit at_exit;

}  // namespace
