// SPDX-License-Identifier: MIT
//
// Known call stacks: the calls of a model stack, whose words a test may change, and those of real
// ones, which glibc's backtrace() tells too.
#include "malloc/known_stacks.hpp"

#include <dlfcn.h>
#include <gtest/gtest.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <map>
#include <memory>
#include <thread>
#include <vector>

#include "malloc/call_stack.hpp"
#include "support/child.hpp"
#include "support/random.hpp"
#include "support/run_threads.hpp"

namespace slabmalloc {
namespace {

using Word = KnownStacks::Word;
using Calls = std::vector<void*>;

// ---- a model of the stack -----------------------------------------------------------------------

/// How a function lays out its stack frame.
enum class Style : std::uint8_t {
  Fixed,    ///< Its end is at a constant distance from rsp. It may use rbp for data.
  Pointer,  ///< Its size varies, and rbp leads to its end.
  Aligned,  ///< Its end varies with the alignment, and is saved below rbp.
};
struct Function {
  Style style;
  std::size_t words;         ///< Of locals; the least if the size varies.
  bool saves_rbp;            ///< Fixed: it saves rbp,
  std::size_t saved_before;  ///< Fixed: after so many other registers.
};
constexpr Function functions[] = {
    {Style::Fixed, 2, false, 0},   {Style::Fixed, 5, true, 0},    {Style::Fixed, 3, true, 4},
    {Style::Fixed, 9, true, 1},    {Style::Pointer, 2, false, 0}, {Style::Pointer, 3, false, 0},
    {Style::Aligned, 4, false, 0},
};
constexpr std::size_t function_count = std::size(functions);

/// Runs calls of the functions above on memory of its own, whose dead words stay.
class ModelStack {
 public:
  /// `memory` holds `words`.
  ModelStack(Word* memory, std::size_t words, test::Random& random)
      : random_(random), sp_(memory + words - 8) {}

  std::size_t depth() const { return active_.size(); }

  /// Calls function `number`, with `extra` words more if its size varies.
  void enter(std::size_t number, std::size_t extra) {
    const Function& function = functions[number];
    active_.push_back({number, sp_, rbp_});
    push(call_into(number));
    Word* const end = sp_ + 1;
    switch (function.style) {
      case Style::Fixed:
        for (std::size_t saved = 0; saved < function.saved_before; ++saved) {
          push(junk());
        }
        if (function.saves_rbp) {
          push(rbp_);
        }
        sp_ -= function.words;
        if (function.saves_rbp) {
          rbp_ = random_.one_in(2) ? junk() : address(sp_) + random_.below(8 * function.words);
        }
        break;
      case Style::Pointer:
        push(rbp_);
        rbp_ = address(sp_);
        sp_ -= function.words + extra;
        break;
      case Style::Aligned:
        sp_ = reinterpret_cast<Word*>(address(sp_) & ~Word{63});
        push(call_into(number));
        push(rbp_);
        rbp_ = address(sp_);
        push(address(end));
        sp_ -= function.words;
        break;
    }
    for (std::size_t local = 0; local < 2; ++local) {
      sp_[local] = junk();
    }
  }
  void leave() {
    sp_ = active_.back().sp;
    rbp_ = active_.back().rbp;
    active_.pop_back();
  }

  /// Calls capture(), and returns its frame address.
  Word* enter_capture() {
    sp_[-1] = call_into(function_count);
    sp_[-2] = rbp_;
    return sp_ - 2;
  }

  /// Tells the stack frames as an unwinder does, from the words and the functions alone.
  static std::vector<KnownStacks::StackFrame> unwind(const Word* frame) {
    std::vector<KnownStacks::StackFrame> result;
    Word rbp = frame[0];
    const Word* sp = frame + 2;
    for (;;) {
      const Word call = sp[-1];
      result.push_back({call, address(sp), rbp, false});
      const std::size_t number = (call - first_call) / calls_of_function;
      if (number == function_count) {
        return result;
      }
      const Function& function = functions[number];
      const Word* const base = reinterpret_cast<const Word*>(rbp);
      switch (function.style) {
        case Style::Fixed:
          sp += function.words + function.saved_before + (function.saves_rbp ? 2 : 1);
          rbp = function.saves_rbp ? *(sp - 2 - function.saved_before) : rbp;
          break;
        case Style::Pointer:
          sp = base + 2;
          rbp = base[0];
          break;
        case Style::Aligned:
          sp = reinterpret_cast<const Word*>(base[-1]);
          rbp = base[0];
          break;
      }
    }
  }

 private:
  struct Active {
    std::size_t function;
    Word* sp;
    Word rbp;
  };
  static constexpr Word first_call = 0x40'0000;
  static constexpr Word calls_of_function = 16;

  static Word address(const Word* word) { return reinterpret_cast<Word>(word); }
  /// The return address of the active function at its call of function `number`. The outermost one
  /// has the number behind the last.
  Word call_into(std::size_t number) const {
    const bool is_inner = active_.size() > (number == function_count ? 0 : 1);
    const std::size_t caller =
        !is_inner ? function_count
                  : active_[active_.size() - (number == function_count ? 1 : 2)].function;
    return first_call + caller * calls_of_function + number;
  }
  /// A value that is no address of the stack.
  Word junk() { return random_.below(1000); }
  void push(Word value) { *--sp_ = value; }

  test::Random& random_;
  Word* sp_;
  Word rbp_ = 1;
  std::vector<Active> active_;
};

Calls calls_of(const std::vector<KnownStacks::StackFrame>& frames) {
  Calls result;
  for (const auto& frame : frames) {
    result.push_back(reinterpret_cast<void*>(frame.call));
  }
  result.resize(std::min<std::size_t>(result.size(), CallStack::most_calls));
  return result;
}

class KnownStacksTest : public testing::Test {
 protected:
  Calls find(const Word* frame) {
    Calls result(CallStack::most_calls);
    result.resize(stacks_->find(frame, result.data()));
    return result;
  }
  Calls record(const Word* frame, const std::vector<KnownStacks::StackFrame>& frames) {
    Calls result(CallStack::most_calls);
    KnownStacks::Recording recording(*stacks_, frame, result.data());
    for (const auto& one : frames) {
      if (!recording.add(one)) {
        break;
      }
    }
    result.resize(recording.count());
    return result;
  }

  const std::unique_ptr<KnownStacks> stacks_ = std::make_unique<KnownStacks>();
};

TEST_F(KnownStacksTest, tell_the_calls_of_random_model_stacks) {
  if (!KnownStacks::is_supported) {
    GTEST_SKIP() << "not for this processor";
  }
  test::Random random;
  constexpr std::size_t words = 4096;
  alignas(64) static Word memory[words];
  ModelStack stack(memory, words, random);
  std::size_t hits = 0;
  std::size_t some[3] = {};  // Few functions, so that stacks differ by little.
  for (int round = 0; round < 100'000; ++round) {
    if (round % 1000 == 0) {
      for (std::size_t& one : some) {
        one = random.below(function_count);
      }
    }
    if (stack.depth() != 0 && (stack.depth() == 6 || random.one_in(2))) {
      stack.leave();
    } else {
      stack.enter(some[random.below(std::size(some))], random.below(16));
    }
    const Word* const frame = stack.enter_capture();
    const auto frames = ModelStack::unwind(frame);
    const Calls expected = calls_of(frames);
    const Calls found = find(frame);
    if (!found.empty()) {
      ++hits;
      ASSERT_EQ(found, expected) << "round " << round;
    } else {
      ASSERT_EQ(record(frame, frames), expected) << "round " << round;
      ASSERT_EQ(stacks_->validate(), nullptr);
    }
  }
  EXPECT_GT(hits, 3000u);
}

TEST_F(KnownStacksTest, differ_if_any_word_does) {
  if (!KnownStacks::is_supported) {
    GTEST_SKIP() << "not for this processor";
  }
  test::Random random;
  alignas(64) static Word memory[512];
  ModelStack stack(memory, 512, random);
  for (std::size_t number = 0; number < function_count; ++number) {
    stack.enter(number, 1);
  }
  Word* const frame = stack.enter_capture();
  const auto frames = ModelStack::unwind(frame);
  const Calls expected = record(frame, frames);
  ASSERT_EQ(find(frame), expected);
  std::size_t different = 0;
  for (Word* word = frame; word != memory + 512; ++word) {
    *word ^= 8;
    const Calls found = find(frame);
    *word ^= 8;
    ASSERT_TRUE(found.empty() || found == expected);
    different += found.empty() ? 1u : 0u;
  }
  // The return addresses; rbp of each Pointer and the Aligned one, and of no other function that
  // has no address in it; the end of the Aligned one.
  EXPECT_GE(different, expected.size() + 4);
  EXPECT_EQ(find(frame), expected);
  EXPECT_TRUE(find(frame + 2).empty());
}

/// The words of the first stack are all there still when the second one has fewer calls.
TEST_F(KnownStacksTest, are_not_found_by_the_words_of_dead_stack_frames) {
  if (!KnownStacks::is_supported) {
    GTEST_SKIP() << "not for this processor";
  }
  test::Random random;
  alignas(64) static Word memory[512];
  constexpr std::size_t outer = 4;  // A Pointer function: others follow at any distance.
  for (std::size_t left_out = 0; left_out < function_count; ++left_out) {
    for (std::size_t inner = 0; inner < function_count; ++inner) {
      for (std::size_t sizes = 0; sizes < 16 * 16 * 16; ++sizes) {
        ModelStack first(memory, 512, random);
        first.enter(outer, sizes % 16);
        first.enter(left_out, 0);
        first.enter(inner, sizes / 16 % 16);
        const Word* const frame = first.enter_capture();
        ASSERT_EQ(record(frame, ModelStack::unwind(frame)).size(), 4u);

        ModelStack second(memory, 512, random);
        second.enter(outer, sizes / 256);
        second.enter(inner, 0);
        const Word* const other = second.enter_capture();
        const Calls found = find(other);
        ASSERT_TRUE(found.empty() || found == calls_of(ModelStack::unwind(other)))
            << left_out << ' ' << inner << ' ' << sizes;
      }
    }
  }
}

TEST_F(KnownStacksTest, follow_no_stale_address) {
  if (!KnownStacks::is_supported) {
    GTEST_SKIP() << "not for this processor";
  }
  test::Random random;
  constexpr std::size_t bytes = 1 << 16;
  auto* const memory = static_cast<Word*>(
      mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  ASSERT_NE(memory, MAP_FAILED);
  ModelStack stack(memory, bytes / sizeof(Word), random);
  stack.enter(4, 7'000);  // A Pointer function, with much memory of alloca().
  stack.enter(0, 0);
  Word* const frame = stack.enter_capture();
  const Calls expected = record(frame, ModelStack::unwind(frame));
  ASSERT_EQ(find(frame), expected);

  // Now a smaller stack ends at the pages of the capture, as another thread's may.
  const std::size_t page_bytes = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
  const auto at = reinterpret_cast<Word>(frame);
  const Word end = (at + 2 * page_bytes) & ~(page_bytes - 1);
  const std::size_t rest = reinterpret_cast<Word>(memory) + bytes - end;
  ASSERT_GT(rest, bytes / 2);
  ASSERT_EQ(mprotect(reinterpret_cast<void*>(end), rest, PROT_NONE), 0);
  *frame = at + 64;  // rbp of the Pointer function.
  EXPECT_TRUE(find(frame).empty());
  munmap(memory, bytes);
}

// One stack frame may lie on two stacks: a coroutine's and the one below it.
TEST_F(KnownStacksTest, keep_no_stack_with_a_frame_that_may_lie_on_two_stacks) {
  if (!KnownStacks::is_supported) {
    GTEST_SKIP() << "not for this processor";
  }
  test::Random random;
  std::vector<Word> memory(1 << 15);
  for (const std::size_t words : {7'000u, 9'000u}) {
    ModelStack stack(memory.data(), memory.size(), random);
    stack.enter(4, words);
    stack.enter(0, 0);
    Word* const frame = stack.enter_capture();
    const Calls expected = record(frame, ModelStack::unwind(frame));
    EXPECT_EQ(find(frame), words * sizeof(Word) < 64 * 1024 ? expected : Calls());
  }
}

TEST_F(KnownStacksTest, keep_no_stack_that_a_signal_interrupted) {
  if (!KnownStacks::is_supported) {
    GTEST_SKIP() << "not for this processor";
  }
  Word words[] = {1, 11, 2, 22, 3, 33};
  const auto end_of = [&](std::size_t number) {
    return reinterpret_cast<Word>(words + number + 1);
  };
  const auto frames = [&](bool is_interrupted) {
    return std::vector<KnownStacks::StackFrame>{
        {11, end_of(1), 1, false}, {22, end_of(3), 1, is_interrupted}, {33, end_of(5), 1, false}};
  };
  EXPECT_EQ(record(words, frames(true)).size(), 3u);
  EXPECT_TRUE(find(words).empty());
  EXPECT_EQ(record(words, frames(false)).size(), 3u);
  EXPECT_EQ(find(words).size(), 3u);
}

TEST_F(KnownStacksTest, keep_no_stack_without_all_its_words) {
  if (!KnownStacks::is_supported) {
    GTEST_SKIP() << "not for this processor";
  }
  Word words[] = {1, 11, 2, 22, 3, 4, 33};
  const auto end_of = [&](std::size_t number) {
    return reinterpret_cast<Word>(words + number + 1);
  };
  const Word unsaved = end_of(3);
  const std::vector<KnownStacks::StackFrame> cases[] = {
      // A stack that goes on below, as that of a coroutine may.
      {{11, end_of(1), 1, false}, {33, end_of(6), 1, false}, {22, end_of(3), 1, false}},
      // No word has the rbp of the second one, which may tell its end.
      {{11, end_of(1), 1, false}, {22, end_of(3), unsaved, false}, {33, end_of(6), 1, false}},
  };
  for (const auto& frames : cases) {
    EXPECT_EQ(record(words, frames), calls_of(frames));
    EXPECT_TRUE(find(words).empty());
  }

  // Three words for each Aligned function are too many, and two for each Pointer are not.
  test::Random random;
  alignas(64) static Word memory[2048];
  for (const std::size_t number : {std::size_t{4}, std::size_t{6}}) {
    ModelStack stack(memory, std::size(memory), random);
    for (int depth = 0; depth < 30; ++depth) {
      stack.enter(number, 0);
    }
    const Word* const frame = stack.enter_capture();
    const auto frames = ModelStack::unwind(frame);
    EXPECT_EQ(record(frame, frames), calls_of(frames));
    EXPECT_EQ(find(frame).empty(), functions[number].style == Style::Aligned);
  }
}

// ---- real stacks --------------------------------------------------------------------------------

/// Descends through functions of random kinds and sizes, and captures the stack at the bottom.
struct Descent {
  scenario::Random shape;
  int depth;
  std::size_t captures = 0;
  std::size_t hits = 0;
};

/// glibc's backtrace(). Sanitizers replace it by one that takes a lock, which a signal handler must
/// not do.
int (*libc_backtrace)(void**, int) = nullptr;

/// Fails unless capture() has the calls of backtrace(), from the caller of this function on. It
/// allocates nothing: signal handlers call it.
[[gnu::noinline]] void compare(Descent& descent) {
  const void* const caller = __builtin_return_address(0);
  CallStack stack;
  const bool is_known = stack.capture();
  ++descent.captures;
  descent.hits += is_known ? 1u : 0u;
  ASSERT_LE(stack.count, static_cast<std::uint32_t>(CallStack::most_calls));
  void* true_calls[CallStack::most_calls + 4];
  void** const true_end = true_calls + libc_backtrace(true_calls, std::size(true_calls));
  void** const true_begin = std::find(true_calls, true_end, caller);
  void** const end = stack.calls + stack.count;
  void** const begin = std::find(stack.calls, end, caller);
  ASSERT_TRUE(begin != end);
  ASSERT_LE(end - begin, true_end - true_begin);
  ASSERT_TRUE(std::equal(begin, end, true_begin));
  ASSERT_TRUE(stack.count == CallStack::most_calls || end - begin == true_end - true_begin);
}

void descend(Descent& descent);

[[gnu::noinline]] void descend_plainly(Descent& descent) {
  descend(descent);
  asm volatile("");
}
[[gnu::noinline]] void descend_with_buffer(Descent& descent) {
  volatile char buffer[200];
  buffer[0] = 1;
  descend(descent);
  buffer[1] = buffer[0];
}
[[gnu::noinline]] void descend_with_alloca(Descent& descent) {
  const std::size_t bytes = 16 * (1 + descent.shape.below(8)) << (descent.shape.below(2) * 6);
  auto* const buffer = static_cast<volatile char*>(__builtin_alloca(bytes));
  buffer[0] = 1;
  descend(descent);
  buffer[1] = buffer[0];
}
[[gnu::noinline]] void descend_aligned(Descent& descent) {
  alignas(64) volatile char buffer[64];
  buffer[0] = 1;
  asm volatile("" : : "r"(buffer) : "memory");
  descend(descent);
  buffer[1] = buffer[0];
}
/// Two callers at the same stack pointer.
[[gnu::noinline]] void descend_twice(Descent& descent) {
  descend_plainly(descent);
  descend_plainly(descent);
  asm volatile("");
}

[[gnu::noinline]] void descend(Descent& descent) {
  constexpr void (*kinds[])(Descent&) = {descend_plainly, descend_with_buffer, descend_with_alloca,
                                         descend_aligned, descend_twice};
  if (descent.depth == 0) {
    compare(descent);
    return;
  }
  --descent.depth;
  kinds[descent.shape.below(std::size(kinds))](descent);
  ++descent.depth;
  asm volatile("");
}

/// Descends `rounds` times in one of `shapes` ways; returns the sums.
Descent descend_at_random(test::Random& random, int rounds, std::size_t shapes) {
  Descent sums{scenario::Random(0), 0};
  for (int round = 0; round < rounds && !testing::Test::HasFailure(); ++round) {
    const std::size_t shape = random.below(shapes);
    Descent descent{scenario::Random(shape), static_cast<int>(shape % 12)};
    descend(descent);
    sums.captures += descent.captures;
    sums.hits += descent.hits;
  }
  return sums;
}

class CapturedStacks : public testing::Test {
 protected:
  CapturedStacks() {
    CallStack::prepare();
    void* const libc = dlopen("libc.so.6", RTLD_LAZY);
    libc_backtrace = reinterpret_cast<decltype(libc_backtrace)>(dlsym(libc, "backtrace"));
  }
  void SetUp() override {
    if (libc_backtrace == nullptr) {
      GTEST_SKIP() << "not for this C library";
    }
  }
  test::Random random_;
};

TEST_F(CapturedStacks, have_the_calls_of_backtrace) {
  const Descent few = descend_at_random(random_, 3000, 10);
  EXPECT_GT(few.hits, KnownStacks::is_supported ? few.captures / 2 : 0);
  const Descent many = descend_at_random(random_, 3000, 1000);
  EXPECT_GT(many.captures, many.hits);
}

TEST_F(CapturedStacks, deeper_than_their_room_have_the_innermost_calls) {
  Descent descent{scenario::Random(random_.next()), 50};
  descend(descent);
}

TEST_F(CapturedStacks, of_threads_do_not_mix) {
  std::vector<test::Random> randoms;
  for (int thread = 0; thread < 3; ++thread) {
    randoms.push_back(random_.fork());
  }
  std::atomic<std::size_t> hits = 0;
  test::run_threads(
      3, [&](std::size_t thread) { hits += descend_at_random(randoms[thread], 1000, 20).hits; });
  EXPECT_GT(hits.load(), KnownStacks::is_supported ? 100u : 0u);
}

TEST_F(CapturedStacks, of_a_thread_are_not_those_of_an_ended_one_on_the_same_stack) {
  constexpr std::size_t bytes = 1 << 20;
  void* const memory =
      mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  ASSERT_NE(memory, MAP_FAILED);
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setstack(&attributes, memory, bytes);
  std::size_t hits = 0;
  for (int round = 0; round < 100; ++round) {
    Descent descent{scenario::Random(random_.below(4)), 6};
    pthread_t thread;
    ASSERT_EQ(pthread_create(
                  &thread, &attributes,
                  [](void* data) -> void* {
                    descend(*static_cast<Descent*>(data));
                    return nullptr;
                  },
                  &descent),
              0);
    pthread_join(thread, nullptr);
    hits += descent.hits;
  }
  pthread_attr_destroy(&attributes);
  munmap(memory, bytes);
  EXPECT_GT(hits, KnownStacks::is_supported ? 10u : 0u);
}

std::atomic<int> handled{0};
/// Captures in a handler. It may interrupt a capture.
void on_signal(int) {
  Descent descent{scenario::Random(1), 2};
  descend(descent);
  handled.fetch_add(1);
}

TEST_F(CapturedStacks, may_be_captured_by_a_handler_amid_a_capture) {
  struct sigaction action = {};
  action.sa_handler = on_signal;
  struct sigaction before = {};
  sigaction(SIGUSR1, &action, &before);
  const pthread_t self = pthread_self();
  std::atomic<bool> is_done{false};
  std::thread sender([&] {
    for (int sent = 0; !is_done.load(); usleep(50)) {
      // One at a time, so that the interrupted code goes on in between.
      if (handled.load() == sent) {
        pthread_kill(self, SIGUSR1);
        ++sent;
      }
    }
  });
  descend_at_random(random_, 1000, 200);
  is_done.store(true);
  sender.join();
  sigaction(SIGUSR1, &before, nullptr);
  EXPECT_GT(handled.load(), 0);
}

TEST_F(CapturedStacks, are_captured_in_a_child_while_other_threads_capture) {
  std::atomic<bool> is_done{false};
  test::Random for_thread = random_.fork();
  std::thread thread([&] {
    while (!is_done.load()) {
      descend_at_random(for_thread, 10, 1000);
    }
  });
  for (int round = 0; round < 20; ++round) {
    EXPECT_EQ(test::status_of_child([&] {
                descend_at_random(random_, 50, 10);
                return 0;
              }),
              0);
  }
  is_done.store(true);
  thread.join();
}

}  // namespace
}  // namespace slabmalloc
