// SPDX-License-Identifier: MIT
#include "kernel/processor_record.hpp"

#include "kernel/machine.hpp"

namespace boot {

constinit ProcessorRecord processor_records[] = {
    {0, {}},  {1, {}},  {2, {}},  {3, {}},  {4, {}},  {5, {}},  {6, {}},  {7, {}},
    {8, {}},  {9, {}},  {10, {}}, {11, {}}, {12, {}}, {13, {}}, {14, {}}, {15, {}},
    {16, {}}, {17, {}}, {18, {}}, {19, {}}, {20, {}}, {21, {}}, {22, {}}, {23, {}},
    {24, {}}, {25, {}}, {26, {}}, {27, {}}, {28, {}}, {29, {}}, {30, {}}, {31, {}},
};
static_assert(sizeof processor_records / sizeof processor_records[0] == maximum_cpus);

}  // namespace boot
