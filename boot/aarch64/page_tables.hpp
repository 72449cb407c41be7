// SPDX-License-Identifier: MIT
//
// The page tables: every address is mapped to itself, if at all, by the granule that the kernel was
// built for.
#pragma once

namespace boot {

/// Makes the tables. Pre: the MMU is off; machine.memory is known. Post: it has lost what cannot be
/// mapped.
void make_page_tables() noexcept;

/// Turns this CPU's MMU on.
void use_page_tables() noexcept;

}  // namespace boot
