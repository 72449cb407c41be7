// SPDX-License-Identifier: MIT
//
// Input and output ports, and model-specific registers.
#pragma once

#include <cstdint>

namespace boot {

inline void write_port(std::uint16_t port, std::uint8_t value) noexcept {
  asm volatile("outb %0, %1" : : "a"(value), "Nd"(port));
}
inline void write_port_word(std::uint16_t port, std::uint16_t value) noexcept {
  asm volatile("outw %0, %1" : : "a"(value), "Nd"(port));
}
inline std::uint8_t read_port(std::uint16_t port) noexcept {
  std::uint8_t value;
  asm volatile("inb %1, %0" : "=a"(value) : "Nd"(port));
  return value;
}

inline void write_register(std::uint32_t number, std::uint64_t value) noexcept {
  asm volatile("wrmsr" : : "c"(number), "a"(static_cast<std::uint32_t>(value)), "d"(value >> 32));
}

}  // namespace boot
