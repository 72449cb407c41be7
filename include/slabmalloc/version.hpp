// SPDX-License-Identifier: MIT
//
// The version of slabmalloc: the one place. The build reads these three lines.
#pragma once

namespace slabmalloc {

inline constexpr int version_major = 0;
inline constexpr int version_minor = 1;
inline constexpr int version_patch = 0;

}  // namespace slabmalloc
