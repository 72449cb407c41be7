// SPDX-License-Identifier: MIT
//
// The language that all headers but slabmalloc.h need. Each header includes this one before its
// first declaration, most of them by way of another one.
#pragma once

#if __cplusplus < 202002L
// A file that nobody has stops every compiler here. After #error it would go on, and print an
// error for each concept and each constraint.
#include "slabmalloc needs C++20: compile with -std=c++20 or newer"
#endif
