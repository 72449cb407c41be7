// SPDX-License-Identifier: MIT
//
// Starts and joins the threads of a workload. A workload of one thread runs on the program's own,
// as in most programs.
#pragma once

#include <thread>
#include <vector>

#include "workload.hpp"

namespace slabmalloc::benchmark {

/// Calls body(0) … body(count - 1), each on a thread of its own. Returns the sum once all have
/// ended.
template <class Body>
Result run_threads(unsigned count, const Body& body) {
  if (count == 1) return body(0U);
  std::vector<Result> results(count);
  std::vector<std::thread> threads;
  threads.reserve(count);
  for (unsigned index = 0; index < count; ++index)
    threads.emplace_back([&, index] { results[index] = body(index); });
  for (std::thread& thread : threads) thread.join();
  Result sum;
  for (const Result& result : results) sum += result;
  return sum;
}

}  // namespace slabmalloc::benchmark
