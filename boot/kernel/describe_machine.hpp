// SPDX-License-Identifier: MIT
//
// Fills in the description of the machine from a device tree, for architectures whose loader passes
// one.
#pragma once

#include <cstdint>

#include "kernel/device_tree.hpp"
#include "kernel/text.hpp"

namespace boot {

/// Fills in `machine` from the device tree at `blob`, of at most `available` bytes. CPU 0 is the
/// one that the hardware calls `boot_id`. Returns the tree.
/// Fails: panics if the tree is malformed or lacks that CPU.
DeviceTree describe_machine(const void* blob, std::size_t available,
                            std::uint64_t boot_id) noexcept;

}  // namespace boot
