// SPDX-License-Identifier: MIT
//
// EmptyZone: what makes a zone that nobody owns and that has nothing.
#pragma once

namespace slabmalloc {

/// Given to a zone's constructor: for threads that have none. Every byte of such a zone is zero, so that it takes no room
/// in a program's file and no start-up. Of its functions only those may be called that find nothing to do: tag(),
/// merge_remote(), and of its classes allocate_fast().
struct EmptyZone {};

}  // namespace slabmalloc
