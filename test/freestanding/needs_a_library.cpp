// SPDX-License-Identifier: MIT
//
// This file is not freestanding: the check must refuse it.
int* make_counter() { return new int(0); }
