// SPDX-License-Identifier: MIT
//
// The search of a vDSO's symbols, in images of which one names its symbols by one of the two hash
// tables. Which one the kernel's vDSO has depends on the kernel.
#include "os/vdso.hpp"

#include <gtest/gtest.h>
#include <link.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

namespace slabmalloc::os {
namespace {

#if defined(__aarch64__)
const std::string clock_name = "__kernel_clock_gettime";
#else
const std::string clock_name = "__vdso_clock_gettime";
#endif

enum class Hash : std::uint8_t { none, system_v, gnu, gnu_of_nothing };

/// A shared library of two symbols: header, segments, dynamic section, symbols, names, hash table.
struct Image {
  explicit Image(Hash hash, const std::string& second_name = clock_name) {
    const std::string text = std::string(1, '\0') + "other" + '\0' + second_name + '\0';
    text.copy(names, sizeof names);
    header.e_phoff = offsetof(Image, segments);
    header.e_phnum = 2;
    segments[0].p_type = PT_LOAD;
    segments[0].p_vaddr = segments[0].p_offset = 0;
    segments[1].p_type = PT_DYNAMIC;
    segments[1].p_offset = offsetof(Image, dynamic);
    symbols[1].st_name = 1;
    symbols[1].st_shndx = symbols[2].st_shndx = 1;
    symbols[2].st_name = 7;
    symbols[2].st_value = offsetof(Image, code);
    set(0, DT_SYMTAB, offsetof(Image, symbols));
    set(1, DT_STRTAB, offsetof(Image, names));
    if (hash == Hash::system_v) {
      set(2, DT_HASH, offsetof(Image, words));
      words[1] = 3;  // Symbols.
    } else if (hash != Hash::none) {
      set(2, DT_GNU_HASH, offsetof(Image, words));
      // Buckets, the first symbol that has a hash, words of the filter, its shift; filter; buckets.
      constexpr std::size_t filter = sizeof(ElfW(Addr)) / sizeof(std::uint32_t);
      words[0] = 2;
      words[1] = hash == Hash::gnu ? 1 : 3;
      words[2] = 1;
      words[4 + filter] = hash == Hash::gnu ? 1 : 0;
      words[4 + filter + 2] = 0x20;      // Symbol 1: more follow in its bucket.
      words[4 + filter + 3] = 0x30 | 1;  // Symbol 2 is the last.
    }
  }
  void set(std::size_t entry, std::size_t tag, std::size_t offset) {
    dynamic[entry].d_tag = static_cast<decltype(dynamic[entry].d_tag)>(tag);
    dynamic[entry].d_un.d_ptr = offset;
  }

  ElfW(Ehdr) header {};
  ElfW(Phdr) segments[2] {};
  ElfW(Dyn) dynamic[4] {};  // The last one has DT_NULL.
  ElfW(Sym) symbols[3] {};
  char names[64]{};
  std::uint32_t words[16]{};
  char code[16]{};
};

const void* clock_in(const Image& image) {
  return reinterpret_cast<const void*>(find_clock(&image));
}

TEST(Vdso, a_clock_is_found_by_either_hash_table) {
  for (const Hash hash : {Hash::system_v, Hash::gnu, Hash::gnu_of_nothing}) {
    const Image image(hash);
    EXPECT_EQ(clock_in(image), image.code) << static_cast<int>(hash);
  }
}

TEST(Vdso, without_a_clock_or_a_table_nothing_is_found) {
  EXPECT_EQ(find_clock(nullptr), nullptr);
  EXPECT_EQ(clock_in(Image(Hash::none)), nullptr) << "nothing tells how many symbols there are";
  EXPECT_EQ(clock_in(Image(Hash::gnu, "__vdso_getcpu")), nullptr);
  EXPECT_EQ(clock_in(Image(Hash::gnu, clock_name + "64")), nullptr);
  Image undefined(Hash::gnu);
  undefined.symbols[2].st_shndx = SHN_UNDEF;
  EXPECT_EQ(clock_in(undefined), nullptr);
  Image without_symbols(Hash::gnu);
  without_symbols.dynamic[0].d_tag = DT_DEBUG;
  EXPECT_EQ(clock_in(without_symbols), nullptr);
  Image without_dynamic(Hash::gnu);
  without_dynamic.segments[1].p_type = PT_NOTE;
  EXPECT_EQ(clock_in(without_dynamic), nullptr);
}

}  // namespace
}  // namespace slabmalloc::os
