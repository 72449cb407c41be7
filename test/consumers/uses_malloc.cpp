// SPDX-License-Identifier: MIT
//
//   consumer FILE     exits with 0 if malloc and operator new are those of FILE, if they work, and
//                     if a zone of the program's own shares nothing with them.
#include <dlfcn.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <numeric>
#include <slabmalloc/slabmalloc.hpp>
#include <string>
#include <thread>
#include <vector>

static bool comes_from(const char* function, const std::filesystem::path& file) {
  Dl_info found{};
  if (dladdr(dlsym(RTLD_DEFAULT, function), &found) == 0) {
    std::printf("%s is in no file\n", function);
    return false;
  }
  if (!std::filesystem::equivalent(found.dli_fname, file)) {
    std::printf("%s comes from %s\n", function, found.dli_fname);
    return false;
  }
  return true;
}

static int misuses = 0;

/// A double free in the program's zone calls the program's handler.
static bool own_zone_is_separate() {
  alignas(4096) static slabmalloc::ObjectPage page;
  static constinit slabmalloc::ZoneAllocator zone;
  slabmalloc::set_misuse_handler([](const slabmalloc::Misuse&) noexcept { ++misuses; });
  const slabmalloc::Layout layout = slabmalloc::Layout::of<long>();
  if (!zone.refill(layout, &page)) {
    return false;
  }
  void* const object = zone.allocate(layout).value_or(nullptr);
  zone.deallocate(object, layout);
  zone.deallocate(object, layout);
  return misuses == 1;
}

int main(int, char** arguments) {
  for (const char* function : {"malloc", "free", "calloc", "realloc", "_Znwm", "_ZdlPv"}) {
    if (!comes_from(function, arguments[1])) {
      return 1;
    }
  }
  if (!own_zone_is_separate()) {
    return 3;
  }
  auto numbers = std::make_unique<std::vector<int>>(100'000);
  std::thread([&numbers] {
    std::iota(numbers->begin(), numbers->end(), 0);
    numbers->resize(200'000, 1);
  }).join();
  const long sum = std::accumulate(numbers->begin(), numbers->end(), 0L);
  std::thread([freed = std::move(numbers)]() mutable { freed.reset(); }).join();

  char* text = static_cast<char*>(std::malloc(10));
  text = static_cast<char*>(std::realloc(text, 100));
  std::free(text);
  return sum == 4'999'950'000 + 100'000 ? 0 : 2;
}
