// SPDX-License-Identifier: MIT
#include "freestanding/mistakes/kernel.hpp"

namespace slabmalloc {

constexpr Layout layout = Layout::from_size_align(192, 48).value();
std::size_t size() { return layout.size(); }

}  // namespace slabmalloc
