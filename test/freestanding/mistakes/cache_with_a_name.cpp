// SPDX-License-Identifier: MIT
#include "freestanding/mistakes/kernel.hpp"

namespace slabmalloc {

constinit Reclaimable entry("int", cache);

}  // namespace slabmalloc
