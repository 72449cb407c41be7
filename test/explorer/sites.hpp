// SPDX-License-Identifier: MIT
//
// Sites: the operations in the source, and which of them is broken. A cell's default argument tells
// the place of the call, so the code under test need not name its operations.
#pragma once

#include <cstddef>
#include <vector>

#include "explorer/explorer.hpp"

namespace slabmalloc::explorer {

/// The number of the site at `where`, which is used now.
std::size_t site_of(Operation operation, Order order, const Place& where) noexcept;

bool is_mutated(std::size_t site, Mutation kind) noexcept;
/// `order`, or what is left of it at a mutated site.
Order mutated(std::size_t site, Order order) noexcept;

/// Notes what Site says of these.
void note_shared(std::size_t site) noexcept;
void note_confirmed(std::size_t site) noexcept;

/// The sites that were used since the last forget_used_sites().
const std::vector<bool>& used_sites() noexcept;
void forget_used_sites() noexcept;

}  // namespace slabmalloc::explorer
