// SPDX-License-Identifier: MIT
//
// Not freestanding: the check must refuse it.
int* make_counter() { return new int(0); }
