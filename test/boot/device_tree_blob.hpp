// SPDX-License-Identifier: MIT
//
// Makes flattened device trees token by token, well-formed or not.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

namespace boot::test {

using Bytes = std::vector<std::byte>;

inline void append(Bytes& bytes, std::uint64_t value, std::size_t cells) {
  for (std::size_t shift = cells * 32; shift > 0;) {
    shift -= 8;
    bytes.push_back(static_cast<std::byte>(value >> shift));
  }
}

inline void overwrite(Bytes& bytes, std::size_t offset, std::uint32_t value) {
  Bytes word;
  append(word, value, 1);
  std::memcpy(bytes.data() + offset, word.data(), word.size());
}

class BlobBuilder {
 public:
  BlobBuilder& begin(const std::string& name) { return token(1).text(name); }
  BlobBuilder& end() { return token(2); }
  BlobBuilder& nop() { return token(4); }
  BlobBuilder& token(std::uint32_t kind) {
    append(structure_, kind, 1);
    return *this;
  }

  BlobBuilder& property(const std::string& name, const Bytes& value) {
    token(3);
    append(structure_, value.size(), 1);
    append(structure_, strings_.size(), 1);
    put(strings_, name);
    structure_.insert(structure_.end(), value.begin(), value.end());
    return pad();
  }
  BlobBuilder& property(const std::string& name, const std::string& value) {
    Bytes bytes;
    put(bytes, value);
    return property(name, bytes);
  }
  BlobBuilder& property(const std::string& name, const std::vector<std::uint32_t>& cells) {
    Bytes bytes;
    for (const std::uint32_t cell : cells) {
      append(bytes, cell, 1);
    }
    return property(name, bytes);
  }

  BlobBuilder& reserve(std::uint64_t start, std::uint64_t bytes) {
    append(reservations_, start, 2);
    append(reservations_, bytes, 2);
    return *this;
  }

  /// The blob, with a final END token.
  Bytes finish() {
    token(9);
    return assemble();
  }
  /// The blob without any addition.
  Bytes assemble() const {
    constexpr std::size_t header_bytes = 40;
    Bytes reservations = reservations_;
    append(reservations, 0, 2);
    append(reservations, 0, 2);
    const std::size_t structure = header_bytes + reservations.size();
    const std::size_t strings = structure + structure_.size();
    Bytes blob;
    for (const std::size_t word :
         {std::size_t{0xd00dfeed}, strings + strings_.size(), structure, strings, header_bytes,
          std::size_t{17}, std::size_t{16}, std::size_t{0}, strings_.size(), structure_.size()}) {
      append(blob, word, 1);
    }
    for (const Bytes& part : {reservations, structure_, strings_}) {
      blob.insert(blob.end(), part.begin(), part.end());
    }
    return blob;
  }

 private:
  static void put(Bytes& bytes, const std::string& text) {
    for (const char character : text) {
      bytes.push_back(static_cast<std::byte>(character));
    }
    bytes.push_back(std::byte{0});
  }
  BlobBuilder& text(const std::string& text) {
    put(structure_, text);
    return pad();
  }
  BlobBuilder& pad() {
    structure_.resize((structure_.size() + 3) / 4 * 4);
    return *this;
  }

  Bytes structure_, strings_, reservations_;
};

/// Copies bytes to the end of mapped memory, so that a read beyond them crashes.
class GuardedCopy {
 public:
  explicit GuardedCopy(const Bytes& bytes)
      : page_(static_cast<std::size_t>(sysconf(_SC_PAGESIZE))),
        mapped_((bytes.size() + page_ - 1) / page_ * page_ + page_) {
    memory_ = static_cast<std::byte*>(
        mmap(nullptr, mapped_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    start_ = memory_ + mapped_ - page_ - bytes.size();
    if (!bytes.empty()) {
      std::memcpy(start_, bytes.data(), bytes.size());
    }
    mprotect(memory_ + mapped_ - page_, page_, PROT_NONE);
  }
  ~GuardedCopy() { munmap(memory_, mapped_); }
  GuardedCopy(const GuardedCopy&) = delete;
  GuardedCopy& operator=(const GuardedCopy&) = delete;

  std::byte* data() const { return start_; }

 private:
  std::size_t page_;
  std::size_t mapped_;
  std::byte* memory_;
  std::byte* start_;
};

}  // namespace boot::test
