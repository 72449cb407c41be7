// SPDX-License-Identifier: MIT
//
// A search of the vDSO's symbols (System V ABI, chapter 5; DT_GNU_HASH as in binutils).
#include "os/vdso.hpp"

#include <link.h>

#include <cstddef>
#include <cstdint>

namespace slabmalloc::os {

namespace {

#if defined(__aarch64__)
constexpr char clock_name[] = "__kernel_clock_gettime";
#else
constexpr char clock_name[] = "__vdso_clock_gettime";
#endif

/// What the dynamic section of an image refers to.
struct Tables {
  const ElfW(Sym) * symbols = nullptr;
  const char* names = nullptr;
  const std::uint32_t* hash = nullptr;
  const std::uint32_t* gnu_hash = nullptr;
};

Tables read_dynamic_section(const std::byte* base, const ElfW(Dyn) * entry) noexcept {
  Tables tables;
  for (; entry->d_tag != DT_NULL; ++entry) {
    const std::byte* const target = base + entry->d_un.d_ptr;
    switch (entry->d_tag) {
      case DT_SYMTAB:
        tables.symbols = reinterpret_cast<const ElfW(Sym)*>(target);
        break;
      case DT_STRTAB:
        tables.names = reinterpret_cast<const char*>(target);
        break;
      case DT_HASH:
        tables.hash = reinterpret_cast<const std::uint32_t*>(target);
        break;
      case DT_GNU_HASH:
        tables.gnu_hash = reinterpret_cast<const std::uint32_t*>(target);
        break;
      default:
        break;
    }
  }
  return tables;
}

/// The number of symbols. No table states it, but both hash tables reach the last one.
std::uint32_t count_symbols(const Tables& tables) noexcept {
  if (tables.hash != nullptr) {
    return tables.hash[1];
  }
  if (tables.gnu_hash == nullptr) {
    return 0;
  }
  const std::uint32_t buckets = tables.gnu_hash[0];
  const std::uint32_t first_hashed = tables.gnu_hash[1];
  const std::uint32_t filter_words =
      tables.gnu_hash[2] * static_cast<std::uint32_t>(sizeof(ElfW(Addr)) / sizeof(std::uint32_t));
  const std::uint32_t* const bucket = tables.gnu_hash + 4 + filter_words;
  const std::uint32_t* const chain = bucket + buckets;
  std::uint32_t last = 0;
  for (std::uint32_t number = 0; number < buckets; ++number) {
    last = bucket[number] > last ? bucket[number] : last;
  }
  if (last < first_hashed) {
    return first_hashed;
  }
  while ((chain[last - first_hashed] & 1) == 0) {
    ++last;
  }
  return last + 1;
}

bool is_same(const char* one, const char* other) noexcept {
  for (; *one == *other; ++one, ++other) {
    if (*one == '\0') {
      return true;
    }
  }
  return false;
}

}  // namespace

ClockGetTime find_clock(const void* vdso) noexcept {
  if (vdso == nullptr) {
    return nullptr;
  }
  const auto* const image = static_cast<const std::byte*>(vdso);
  const auto* const header = static_cast<const ElfW(Ehdr)*>(vdso);
  const auto* const segments = reinterpret_cast<const ElfW(Phdr)*>(image + header->e_phoff);
  const std::byte* base = nullptr;
  const ElfW(Dyn)* dynamic = nullptr;
  for (std::size_t number = 0; number < header->e_phnum; ++number) {
    const ElfW(Phdr)& segment = segments[number];
    if (segment.p_type == PT_LOAD && base == nullptr) {
      base = image + segment.p_offset - segment.p_vaddr;
    } else if (segment.p_type == PT_DYNAMIC) {
      dynamic = reinterpret_cast<const ElfW(Dyn)*>(image + segment.p_offset);
    }
  }
  if (base == nullptr || dynamic == nullptr) {
    return nullptr;
  }
  const Tables tables = read_dynamic_section(base, dynamic);
  if (tables.symbols == nullptr || tables.names == nullptr) {
    return nullptr;
  }
  const std::uint32_t count = count_symbols(tables);
  for (std::uint32_t number = 0; number < count; ++number) {
    const ElfW(Sym)& symbol = tables.symbols[number];
    if (symbol.st_shndx != SHN_UNDEF && is_same(tables.names + symbol.st_name, clock_name)) {
      return reinterpret_cast<ClockGetTime>(
          reinterpret_cast<std::uintptr_t>(base + symbol.st_value));
    }
  }
  return nullptr;
}

}  // namespace slabmalloc::os
