// SPDX-License-Identifier: MIT
//
// The four functions that compilers call with any flags. They work word by word where both sides
// allow it. An optimisation would turn each loop into a call of its own function, so it is off
// here.
#include <cstddef>
#include <cstdint>

namespace {

using Word [[gnu::may_alias]] = std::uintptr_t;

bool both_aligned(const void* left, const void* right) {
  return ((reinterpret_cast<std::uintptr_t>(left) | reinterpret_cast<std::uintptr_t>(right)) %
          sizeof(Word)) == 0;
}

}  // namespace

extern "C" {

void* memcpy(void* __restrict target, const void* __restrict source, std::size_t bytes) {
  auto* to = static_cast<unsigned char*>(target);
  const auto* from = static_cast<const unsigned char*>(source);
  if (both_aligned(to, from)) {
    for (; bytes >= sizeof(Word); bytes -= sizeof(Word)) {
      *reinterpret_cast<Word*>(to) = *reinterpret_cast<const Word*>(from);
      to += sizeof(Word);
      from += sizeof(Word);
    }
  }
  for (; bytes > 0; --bytes) {
    *to++ = *from++;
  }
  return target;
}

void* memmove(void* target, const void* source, std::size_t bytes) {
  auto* to = static_cast<unsigned char*>(target);
  const auto* from = static_cast<const unsigned char*>(source);
  if (reinterpret_cast<std::uintptr_t>(to) <= reinterpret_cast<std::uintptr_t>(from)) {
    for (; bytes > 0; --bytes) {
      *to++ = *from++;
    }
  } else {
    for (; bytes > 0; --bytes) {
      to[bytes - 1] = from[bytes - 1];
    }
  }
  return target;
}

void* memset(void* target, int value, std::size_t bytes) {
  auto* to = static_cast<unsigned char*>(target);
  const auto byte = static_cast<unsigned char>(value);
  const Word word = byte * (~Word{0} / 0xff);
  for (; bytes > 0 && !both_aligned(to, to); --bytes) {
    *to++ = byte;
  }
  for (; bytes >= sizeof(Word); bytes -= sizeof(Word)) {
    *reinterpret_cast<Word*>(to) = word;
    to += sizeof(Word);
  }
  for (; bytes > 0; --bytes) {
    *to++ = byte;
  }
  return target;
}

int memcmp(const void* left, const void* right, std::size_t bytes) {
  const auto* one = static_cast<const unsigned char*>(left);
  const auto* other = static_cast<const unsigned char*>(right);
  for (; bytes > 0; --bytes, ++one, ++other) {
    if (*one != *other) {
      return *one < *other ? -1 : 1;
    }
  }
  return 0;
}

}  // extern "C"
