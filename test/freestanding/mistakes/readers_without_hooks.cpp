// SPDX-License-Identifier: MIT
#include "freestanding/mistakes/kernel.hpp"

namespace slabmalloc {

constinit RetiredObjects retired_of_a_kernel_without_readers(heap);

}  // namespace slabmalloc
