// SPDX-License-Identifier: MIT
//
// The page tables map every address to itself, or not at all. They use the granule that the kernel
// was built for.
#pragma once

namespace boot {

/// Makes the tables.
/// Pre: the MMU is off; machine.memory is known.
/// Post: memory that cannot be mapped is reserved.
void make_page_tables() noexcept;

/// Turns this CPU's MMU on.
void use_page_tables() noexcept;

}  // namespace boot
