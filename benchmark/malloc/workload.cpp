// SPDX-License-Identifier: MIT
#include "workload.hpp"

#include <array>

namespace slabmalloc::benchmark {
namespace {

constexpr std::array<unsigned, 1> alone{1};
constexpr std::array<unsigned, 2> pairs{2, 16};
constexpr std::array<unsigned, 3> all{1, 2, 16};
constexpr std::array<unsigned, 2> few_or_many{1, 16};

constexpr std::array table{
    Workload{"short-lived", "small objects, freed a few calls later", run_short_lived, all},
    Workload{"bleeding", "a server's objects outlive its threads", run_bleeding, all},
    Workload{"producer-consumer", "half the threads allocate, half free", run_producer_consumer,
             pairs},
    Workload{"power-law", "sizes by a power law, some freed elsewhere", run_power_law, all},
    Workload{"bulk-lifo", "batches, freed from the youngest", run_bulk_lifo, all},
    Workload{"bulk-reversed", "batches, freed by a neighbour from the oldest", run_bulk_reversed,
             all},
    Workload{"thread-churn", "threads that are born and die", run_thread_churn, all},
    Workload{"migrating", "objects that move between dying threads", run_migrating, all},
    Workload{"growing", "vectors that grow through realloc", run_growing, all},
    Workload{"large", "blocks of 128 KiB to 32 MiB", run_large, all},
    Workload{"zeroed", "calloc of 32 B to 256 KiB", run_zeroed, all},
    Workload{"fragmentation", "a heap refilled with another size, again and again",
             run_fragmentation, all},
    Workload{"sparse", "few objects stay of many", run_sparse, few_or_many, measure_held},
    Workload{"sparse-phases", "few objects of each of eight sizes stay", run_sparse_phases,
             few_or_many, measure_held},
    Workload{"refilled", "a heap filled and emptied, again and again", run_refilled, all},
    Workload{"buffer", "one block of 1 to 240 MiB, again and again", run_buffer, alone},
    Workload{"aligned", "blocks aligned to 16 B to 4 KiB", run_aligned, all},
    Workload{"sized-delete", "operator new, operator delete with the size", run_sized_delete, all},
    Workload{"pair-16", "malloc and free of 16 B", run_pair_16, alone},
    Workload{"pair-64", "malloc and free of 64 B", run_pair_64, alone},
    Workload{"pair-512", "malloc and free of 512 B", run_pair_512, alone},
    Workload{"pair-4096", "malloc and free of 4096 B", run_pair_4096, alone},
    Workload{"pair-mixed", "malloc and free of 16 B to 1 KiB", run_pair_mixed, all},
};

}  // namespace

std::span<const Workload> workloads() { return table; }

}  // namespace slabmalloc::benchmark
