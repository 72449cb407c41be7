// SPDX-License-Identifier: MIT
//
// Tests of the explorer itself: small programs whose outcomes under C++20 are known.
#include <gtest/gtest.h>

#include <functional>
#include <new>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "explorer/explored_atomics.hpp"
#include "explorer/explorer.hpp"
#include "support/random.hpp"

namespace slabmalloc::explorer {
namespace {

using Cell = ExploredAtomics::Cell<std::uint32_t>;

/// What the threads read.
using Registers = std::uint32_t[6];

/// The cells and plain words of a program, all 0 at the start.
struct Shared {
  Cell x, y, z;
  std::uint32_t plain = 0;
  Registers registers = {};

  std::uint32_t read_plain() const {
    plain_access(&plain, sizeof(plain), false);
    return plain;
  }
  void write_plain(std::uint32_t value) {
    plain_access(&plain, sizeof(plain), true);
    plain = value;
  }
};

class Program : public Scenario {
 public:
  using Thread = std::function<void(Shared&, Registers&)>;

  explicit Program(std::vector<Thread> threads, unsigned registers = 2)
      : Scenario("litmus", static_cast<unsigned>(threads.size())),
        bodies_(std::move(threads)),
        register_count_(registers) {}

  void set_up() override { new (static_cast<void*>(region())) Shared; }
  void run(unsigned thread) override { bodies_[thread](shared(), shared().registers); }
  void check() override {
    std::string outcome;
    for (unsigned index = 0; index < register_count_; ++index) {
      outcome += std::to_string(shared().registers[index]);
    }
    if (reads_end_) {
      outcome += std::to_string(shared().x.load(Order::relaxed));
    }
    outcomes_.insert(outcome);
  }

  Program& and_the_end() {
    reads_end_ = true;
    return *this;
  }

  /// All outcomes. The search must end, and no execution may fail.
  std::set<std::string> outcomes(const Bounds& bounds = {}) {
    const Outcome outcome = explore(*this, bounds);
    EXPECT_EQ(outcome.failure, nullptr) << outcome.failure << "\n" << outcome.trace;
    EXPECT_TRUE(outcome.is_complete);
    executions_ = outcome.executions;
    return outcomes_;
  }
  std::string failure() {
    const Outcome outcome = explore(*this, {});
    return outcome.failure != nullptr ? outcome.failure : "";
  }
  std::size_t executions() const { return executions_; }

 private:
  static Shared& shared() { return *reinterpret_cast<Shared*>(region()); }

  std::vector<Thread> bodies_;
  unsigned register_count_;
  bool reads_end_ = false;
  std::set<std::string> outcomes_;
  std::size_t executions_ = 0;
};

using Set = std::set<std::string>;

Program store_buffering(Order store, Order load) {
  return Program({[=](Shared& s, Registers& r) {
                    s.x.store(1, store);
                    r[0] = s.y.load(load);
                  },
                  [=](Shared& s, Registers& r) {
                    s.y.store(1, store);
                    r[1] = s.x.load(load);
                  }});
}

TEST(Litmus, store_buffering_may_miss_both_stores_by_any_order_but_sequential_consistency) {
  EXPECT_EQ(store_buffering(Order::relaxed, Order::relaxed).outcomes(),
            (Set{"00", "01", "10", "11"}));
  EXPECT_EQ(store_buffering(Order::release, Order::acquire).outcomes(),
            (Set{"00", "01", "10", "11"}));
}

TEST(Litmus, no_stale_read_leaves_the_interleavings_of_store_buffering) {
  EXPECT_EQ(store_buffering(Order::relaxed, Order::relaxed)
                .outcomes({.executions = 1000, .stale_reads = 0}),
            (Set{"01", "10", "11"}));
}

TEST(Litmus, a_fence_on_all_processors_on_one_side_forbids_that_both_stores_are_missed) {
  Program program({[](Shared& s, Registers& r) {
                     s.x.store(1, Order::relaxed);
                     r[0] = s.y.load(Order::relaxed);
                   },
                   [](Shared& s, Registers& r) {
                     s.y.store(1, Order::relaxed);
                     fence_all(Place::here());
                     r[1] = s.x.load(Order::relaxed);
                   }});
  EXPECT_EQ(program.outcomes(), (Set{"01", "10", "11"}));
}

TEST(Litmus, read_modify_writes_see_each_other) {
  Program program({[](Shared& s, Registers& r) {
                     s.x.exchange(1, Order::relaxed);
                     r[0] = s.y.fetch_add(1, Order::relaxed);
                   },
                   [](Shared& s, Registers& r) {
                     s.y.fetch_add(1, Order::relaxed);
                     r[1] = s.x.exchange(2, Order::relaxed);
                   }});
  EXPECT_EQ(program.outcomes(), (Set{"01", "10", "11"}));
}

Program message_passing(Order store, Order load) {
  return Program({[=](Shared& s, Registers&) {
                    s.x.store(1, Order::relaxed);
                    s.y.store(1, store);
                  },
                  [=](Shared& s, Registers& r) {
                    r[0] = s.y.load(load);
                    r[1] = s.x.load(Order::relaxed);
                  }});
}

TEST(Litmus, message_passing_needs_release_and_acquire) {
  EXPECT_EQ(message_passing(Order::release, Order::acquire).outcomes(), (Set{"00", "01", "11"}));
  const Set all{"00", "01", "10", "11"};
  EXPECT_EQ(message_passing(Order::relaxed, Order::acquire).outcomes(), all);
  EXPECT_EQ(message_passing(Order::release, Order::relaxed).outcomes(), all);
}

TEST(Litmus, a_read_modify_write_continues_a_release_sequence_and_a_store_ends_it) {
  const auto run = [](bool by_store) {
    return Program({[](Shared& s, Registers&) {
                      s.x.store(1, Order::relaxed);
                      s.y.store(1, Order::release);
                    },
                    [=](Shared& s, Registers&) {
                      if (!by_store) {
                        s.y.fetch_add(2, Order::relaxed);
                      } else if (s.y.load(Order::relaxed) == 1) {
                        s.y.store(3, Order::relaxed);
                      }
                    },
                    [](Shared& s, Registers& r) {
                      r[0] = s.y.load(Order::acquire);
                      r[1] = s.x.load(Order::relaxed);
                    }})
        .outcomes();
  };
  EXPECT_EQ(run(false), (Set{"00", "01", "11", "20", "21", "31"}));
  EXPECT_EQ(run(true), (Set{"00", "01", "11", "30", "31"}));
}

TEST(Litmus, load_buffering_is_not_explored) {
  // C++ allows "11" too. No load reads from a store that executes later.
  Program program({[](Shared& s, Registers& r) {
                     r[0] = s.x.load(Order::relaxed);
                     s.y.store(1, Order::relaxed);
                   },
                   [](Shared& s, Registers& r) {
                     r[1] = s.y.load(Order::relaxed);
                     s.x.store(1, Order::relaxed);
                   }});
  EXPECT_EQ(program.outcomes(), (Set{"00", "01", "10"}));
}

TEST(Litmus, readers_may_see_independent_writes_in_different_orders) {
  const auto run = [](Order load) {
    return Program({[](Shared& s, Registers&) { s.x.store(1, Order::release); },
                    [](Shared& s, Registers&) { s.y.store(1, Order::release); },
                    [=](Shared& s, Registers& r) {
                      r[0] = s.x.load(load);
                      r[1] = s.y.load(load);
                    },
                    [=](Shared& s, Registers& r) {
                      r[2] = s.y.load(load);
                      r[3] = s.x.load(load);
                    }},
                   4)
        .outcomes();
  };
  Set all;
  for (unsigned bits = 0; bits < 16; ++bits) {
    std::string outcome;
    for (unsigned place = 0; place < 4; ++place) {
      outcome += (bits >> place & 1) != 0 ? '1' : '0';
    }
    all.insert(outcome);
  }
  EXPECT_EQ(run(Order::acquire), all);
  EXPECT_EQ(run(Order::relaxed), all);
}

TEST(Litmus, all_threads_agree_on_the_order_of_the_stores_to_one_cell) {
  Program program({[](Shared& s, Registers&) { s.x.store(1, Order::relaxed); },
                   [](Shared& s, Registers&) { s.x.store(2, Order::relaxed); },
                   [](Shared& s, Registers& r) {
                     r[0] = s.x.load(Order::relaxed);
                     r[1] = s.x.load(Order::relaxed);
                   },
                   [](Shared& s, Registers& r) {
                     r[2] = s.x.load(Order::relaxed);
                     r[3] = s.x.load(Order::relaxed);
                   }},
                  4);
  const Set outcomes = program.outcomes();
  EXPECT_EQ(outcomes.count("1212"), 1u);
  EXPECT_EQ(outcomes.count("2121"), 1u);
  EXPECT_EQ(outcomes.count("1221"), 0u);
  EXPECT_EQ(outcomes.count("2112"), 0u);
  EXPECT_EQ(outcomes.count("1000"), 0u) << "a thread never reads an older store again";
}

TEST(Litmus, a_thread_reads_its_own_store_or_a_later_one) {
  Program program({[](Shared& s, Registers& r) {
                     s.x.store(1, Order::relaxed);
                     r[0] = s.x.load(Order::relaxed);
                   },
                   [](Shared& s, Registers& r) {
                     s.x.store(2, Order::relaxed);
                     r[1] = s.x.load(Order::relaxed);
                   }});
  EXPECT_EQ(program.and_the_end().outcomes(), (Set{"111", "121", "122", "222"}));
}

// ---- plain memory -------------------------------------------------------------------------------

Program passing_plain_data(Order store, Order load) {
  return Program({[=](Shared& s, Registers&) {
                    s.write_plain(1);
                    s.x.store(1, store);
                  },
                  [=](Shared& s, Registers& r) {
                    if (s.x.load(load) == 1) {
                      r[0] = s.read_plain();
                    }
                  }},
                 1);
}

TEST(Litmus, plain_data_needs_release_and_acquire) {
  EXPECT_EQ(passing_plain_data(Order::release, Order::acquire).failure(), "");
  EXPECT_EQ(passing_plain_data(Order::relaxed, Order::acquire).failure(),
            "data race with a plain write");
  EXPECT_EQ(passing_plain_data(Order::release, Order::relaxed).failure(),
            "data race with a plain write");
}

TEST(Litmus, a_read_before_a_write_races_too) {
  const auto run = [](Order order) {
    return Program({[=](Shared& s, Registers& r) {
                      r[0] = s.read_plain();
                      s.x.fetch_add(1, order);
                    },
                    [](Shared& s, Registers&) {
                      if (s.x.load(Order::acquire) == 1) {
                        s.write_plain(1);
                      }
                    }},
                   1)
        .failure();
  };
  EXPECT_EQ(run(Order::release), "");
  EXPECT_EQ(run(Order::relaxed), "a plain write races with a read");
}

TEST(Litmus, nobody_touches_memory_that_was_given_back) {
  Program program({[](Shared& s, Registers&) {
                     s.x.store(1, Order::release);
                     s.y.load(Order::relaxed);
                   },
                   [](Shared& s, Registers&) {
                     if (s.x.load(Order::acquire) == 1) {
                       give_back(&s.y, sizeof(s.y));
                     }
                   }});
  EXPECT_NE(program.failure(), "");
}

// ---- waiting ------------------------------------------------------------------------------------

TEST(Litmus, a_thread_that_waits_reads_a_later_store) {
  Program program({[](Shared& s, Registers&) {
                     s.x.store(1, Order::relaxed);
                     s.x.store(2, Order::relaxed);
                   },
                   [](Shared& s, Registers& r) {
                     while ((r[0] = s.x.load(Order::relaxed)) == 0) {
                       wait_for_change();
                     }
                   }},
                  1);
  EXPECT_EQ(program.outcomes(), (Set{"1", "2"}));
}

TEST(Litmus, threads_that_wait_for_each_other_are_a_failure) {
  Program program({[](Shared& s, Registers&) {
                     while (s.x.load(Order::relaxed) == 0) {
                       wait_for_change();
                     }
                     s.y.store(1, Order::relaxed);
                   },
                   [](Shared& s, Registers&) {
                     while (s.y.load(Order::relaxed) == 0) {
                       wait_for_change();
                     }
                     s.x.store(1, Order::relaxed);
                   }});
  EXPECT_EQ(program.failure(), "deadlock");
}

TEST(Litmus, a_lock_excludes) {
  const auto critical = [](Shared& s, Registers&) {
    std::uint32_t free = 0;
    while (!s.x.compare_exchange(free, 1, Order::acquire)) {
      free = 0;
      wait_for_change();
    }
    s.write_plain(s.read_plain() + 1);
    s.x.store(0, Order::release);
  };
  Program program({critical, critical, critical}, 0);
  program.outcomes();
  EXPECT_GE(program.executions(), 6u) << "each order of three holders";
}

TEST(Litmus, an_interrupt_comes_before_each_step_or_not_at_all) {
  Program program(
      {[](Shared& s, Registers& r) {
         interrupt_once(
             [](void* shared) { static_cast<Shared*>(shared)->x.fetch_add(1, Order::relaxed); },
             &s);
         r[0] = s.x.load(Order::relaxed);
         s.x.store(r[0] + 4, Order::relaxed);
       },
       [](Shared& s, Registers& r) { r[1] = s.x.load(Order::relaxed); }},
      1);
  EXPECT_EQ(program.and_the_end().outcomes(), (Set{"04", "15"}));
}

// ---- the search ---------------------------------------------------------------------------------

std::size_t count(std::vector<Program::Thread> threads) {
  Program program(std::move(threads), 0);
  program.outcomes();
  return program.executions();
}

TEST(Search, independent_threads_need_one_execution) {
  EXPECT_EQ(count({[](Shared& s, Registers&) { s.x.store(1, Order::relaxed); },
                   [](Shared& s, Registers&) { s.y.store(1, Order::relaxed); },
                   [](Shared& s, Registers&) { s.z.store(1, Order::relaxed); }}),
            1u);
}

TEST(Search, each_order_of_conflicting_steps_is_run_once) {
  const auto write = [](Shared& s, Registers&) { s.x.fetch_add(1, Order::relaxed); };
  const auto read = [](Shared& s, Registers&) { s.x.load(Order::relaxed); };
  EXPECT_EQ(count({write, write}), 2u);
  EXPECT_EQ(count({write, write, write}), 6u);
  EXPECT_EQ(count({write, write, write, write}), 24u);
  EXPECT_EQ(count({write, read, read, read}), 8u) << "each reads before the write, or after";
}

/// A thread of random steps on two cells; what it reads goes into its registers.
Program::Thread random_thread(test::Random& random, unsigned first_register) {
  struct RandomStep {
    unsigned kind, cell, reg;
    Order order;
  };
  std::vector<RandomStep> steps;
  for (unsigned index = 0; index < 3; ++index) {
    constexpr Order orders[] = {Order::relaxed, Order::acquire, Order::release, Order::acq_rel};
    steps.push_back({static_cast<unsigned>(random.below(4)), static_cast<unsigned>(random.below(2)),
                     first_register + static_cast<unsigned>(random.below(2)),
                     orders[random.below(4)]});
  }
  return [steps](Shared& s, Registers& r) {
    for (const RandomStep& step : steps) {
      Cell& cell = step.cell == 0 ? s.x : s.y;
      switch (step.kind) {
        case 0:
          r[step.reg] = cell.load(step.order);
          break;
        case 1:
          cell.store(r[step.reg] + step.reg + 1, step.order);
          break;
        case 2:
          r[step.reg] = cell.fetch_add(1, step.order);
          break;
        default:
          if (r[step.reg] == 0) {
            r[step.reg] = cell.load(step.order) + 1;
          }
      }
    }
  };
}

TEST(Search, the_reduced_search_has_all_outcomes_of_the_full_one) {
  test::Random random;
  std::size_t reduced_executions = 0;
  std::size_t full_executions = 0;
  for (int round = 0; round < 60; ++round) {
    const std::vector<Program::Thread> threads{random_thread(random, 0), random_thread(random, 2),
                                               random_thread(random, 4)};
    Program reduced(threads, 6);
    Program full(threads, 6);
    ASSERT_EQ(reduced.and_the_end().outcomes({.stale_reads = 99}),
              full.and_the_end().outcomes({.stale_reads = 99, .is_reduced = false}))
        << "round " << round;
    reduced_executions += reduced.executions();
    full_executions += full.executions();
  }
  EXPECT_LT(reduced_executions * 10, full_executions);
}

TEST(Search, the_bound_on_executions_ends_it) {
  const auto write = [](Shared& s, Registers&) { s.x.fetch_add(1, Order::relaxed); };
  Program program({write, write, write}, 0);
  const Outcome outcome = explore(program, {.executions = 2});
  EXPECT_FALSE(outcome.is_complete);
  EXPECT_EQ(outcome.executions, 2u);
}

TEST(Search, a_mutated_operation_is_broken_and_whole_again_later) {
  const auto program = [] {
    return Program({[](Shared& s, Registers&) { s.x.fetch_add(1, Order::relaxed); },
                    [](Shared& s, Registers&) { s.x.fetch_add(1, Order::relaxed); }},
                   0);
  };
  EXPECT_EQ(program().and_the_end().outcomes(), Set{"2"});
  const std::size_t site = sites().size() - 1;  // The newest.
  mutate(site, Mutation::Split);
  EXPECT_EQ(program().and_the_end().outcomes(), (Set{"1", "2"}));
  mutate(site, Mutation::Omit);
  EXPECT_EQ(program().and_the_end().outcomes(), Set{"1"});
  mutate(site, Mutation::None);
  EXPECT_EQ(program().and_the_end().outcomes(), Set{"2"});
}

}  // namespace
}  // namespace slabmalloc::explorer
