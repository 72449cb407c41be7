// SPDX-License-Identifier: MIT
#include "slabmalloc/kernel/frame_account.hpp"

#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <thread>
#include <utility>

#include "kernel/hosted_kernel.hpp"
#include "support/interrupting_atomics.hpp"

namespace slabmalloc::test {
namespace {

constexpr std::size_t frame_bytes = 4096;
using Account = FrameAccount<OpenKernel, HardwareAtomics>;

TEST(FrameAccount, charges_as_many_as_the_limit_allows) {
  Account account;
  account.set_limit(10 * frame_bytes + 1, nullptr, nullptr);
  EXPECT_EQ(account.charge(frame_bytes, 4), 4u);
  EXPECT_EQ(account.charge(4 * frame_bytes, 4), 1u);
  EXPECT_EQ(account.charge(4 * frame_bytes, 4), 0u) << "what does not fit is not counted";
  EXPECT_EQ(account.charge(frame_bytes, 4), 2u);
  account.arrive(9 * frame_bytes);
  EXPECT_EQ(account.bytes(), 9 * frame_bytes) << "the last is charged, and did not come";
  EXPECT_EQ(account.charge(frame_bytes, 1), 0u);
  account.discharge(frame_bytes);
  account.depart(6 * frame_bytes);
  EXPECT_EQ(account.bytes(), 3 * frame_bytes);
  EXPECT_EQ(account.validate(), nullptr);
  account.set_limit(2 * frame_bytes, nullptr, nullptr);
  EXPECT_EQ(account.charge_or_call(frame_bytes, 1), 0u) << "a limit below what there is";
}

TEST(FrameAccount, calls_the_callback_once_where_the_limit_allows_none) {
  struct Client {
    Account account;
    int calls = 0;
    bool frees = true;
  } client;
  client.account.set_limit(
      4 * frame_bytes,
      [](void* argument) noexcept {
        auto& [account, calls, frees] = *static_cast<Client*>(argument);
        ++calls;
        account.discharge(frees ? frame_bytes : 0);
      },
      &client);
  EXPECT_EQ(client.account.charge_or_call(frame_bytes, 4), 4u);
  EXPECT_EQ(client.calls, 0);
  EXPECT_EQ(client.account.charge(frame_bytes, 1), 0u);
  EXPECT_EQ(client.calls, 0);
  EXPECT_EQ(client.account.charge_or_call(frame_bytes, 2), 1u);
  EXPECT_EQ(client.calls, 1);
  client.frees = false;
  EXPECT_EQ(client.account.charge_or_call(frame_bytes, 2), 0u);
  EXPECT_EQ(client.calls, 2);
}

TEST(FrameAccount, validates_the_charge_and_the_high_water) {
  Account account;
  ASSERT_EQ(account.charge(frame_bytes, 4), 4u);
  account.arrive(3 * frame_bytes);
  EXPECT_STREQ(account.validate(), "K2: charged = frame bytes <= the most that they ever were");
  account.discharge(frame_bytes);
  account.depart(2 * frame_bytes);
  EXPECT_EQ(account.validate(), nullptr);
  EXPECT_EQ(account.high_water(), 3 * frame_bytes) << "what did not come was never there";
}

/// Atomics with which something happens after the next load.
struct EventfulAtomics {
  static inline std::function<void()> event;
  template <class T>
  struct Cell : HardwareAtomics::Cell<T> {
    using HardwareAtomics::Cell<T>::Cell;
    T load(Order order) const noexcept {
      const T value = HardwareAtomics::Cell<T>::load(order);
      if (event) {
        std::exchange(event, nullptr)();
      }
      return value;
    }
  };
};

TEST(FrameAccount, counts_a_charge_that_comes_in_the_middle_of_another) {
  FrameAccount<OpenKernel, EventfulAtomics> account;
  account.set_limit(3 * frame_bytes, nullptr, nullptr);
  EventfulAtomics::event = [&account] { EXPECT_EQ(account.charge(frame_bytes, 2), 2u); };
  EXPECT_EQ(account.charge(frame_bytes, 2), 1u) << "what the other one left";
  EXPECT_EQ(account.charge(frame_bytes, 1), 0u);
  account.discharge(3 * frame_bytes);
  EXPECT_EQ(account.validate(), nullptr);
}

TEST(FrameAccount, holds_the_limit_whatever_threads_do_at_once) {
  constexpr std::size_t limit = 8 * frame_bytes;
  Account account;
  account.set_limit(limit, nullptr, nullptr);
  std::atomic<std::size_t> ready = 0;
  std::atomic<std::size_t> charged = 0;
  std::atomic<std::size_t> held = 0;
  std::array<std::thread, 4> threads;
  for (std::thread& thread : threads) {
    thread = std::thread([&] {
      ready += 1;
      while (ready != threads.size()) {
      }
      for (int round = 0; round < 100'000; ++round) {
        // Every second frame does not come.
        const std::uint32_t got = account.charge(frame_bytes, 3);
        const std::uint32_t kept = got / 2;
        charged += got;
        account.arrive(kept * frame_bytes);
        account.discharge((got - kept) * frame_bytes);
        const std::size_t now = held += kept * frame_bytes;
        EXPECT_LE(now, limit);
        held -= kept * frame_bytes;
        account.depart(kept * frame_bytes);
      }
    });
  }
  for (std::thread& thread : threads) {
    thread.join();
  }
  EXPECT_EQ(account.bytes(), 0u);
  EXPECT_EQ(account.validate(), nullptr);
  EXPECT_LE(account.high_water(), limit);
  EXPECT_GT(charged, 0u);
}

TEST(FrameAccount, holds_the_limit_if_a_handler_charges_at_any_step) {
  std::size_t access = 1;
  for (bool came = true; came; ++access) {
    FrameAccount<OpenKernel, InterruptingAtomics<HardwareAtomics>> account;
    account.set_limit(4 * frame_bytes, nullptr, nullptr);
    std::uint32_t inner = 0;
    Interruption::arm(access, [&] { inner = account.charge(frame_bytes, 3); });
    const std::uint32_t outer = account.charge(frame_bytes, 3);
    came = Interruption::disarm();
    EXPECT_EQ(inner + outer, came ? 4u : 3u) << "access " << access;
    account.arrive((inner + outer) * frame_bytes);
    EXPECT_EQ(account.validate(), nullptr) << "access " << access;
  }
  EXPECT_GT(access, 3u);
}

}  // namespace
}  // namespace slabmalloc::test
