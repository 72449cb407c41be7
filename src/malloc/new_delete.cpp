// SPDX-License-Identifier: MIT
//
// The replaceable operators new and delete over the process heap. This library needs libc alone, so
// it finds the C++ runtime through weak symbols, also the ones that a compiled `catch` needs. A
// program without that runtime never throws.
#include <errno.h>
#include <stdlib.h>

#include <new>

#include "malloc/front.hpp"
#include "os/os.hpp"

namespace front = slabmalloc::front;
namespace heap = slabmalloc::heap;
using slabmalloc::BlockKind;
using slabmalloc::Call;
using slabmalloc::MallocConfig;

extern "C" {
/// std::get_new_handler() and std::__throw_bad_alloc() by their mangled names.
[[gnu::weak]] std::new_handler _ZSt15get_new_handlerv();
[[gnu::weak, noreturn]] void _ZSt17__throw_bad_allocv();
}
__asm__(
    ".weak __gxx_personality_v0\n"
    ".weak __cxa_begin_catch\n"
    ".weak __cxa_end_catch\n"
    ".weak _ZSt9terminatev\n");

namespace {

/// Calls the program's new-handler, which may throw; false if there is none.
bool call_new_handler() {
  const std::new_handler handler =
      _ZSt15get_new_handlerv != nullptr ? _ZSt15get_new_handlerv() : nullptr;
  if (handler == nullptr) {
    return false;
  }
  handler();
  return true;
}

[[noreturn, gnu::cold]] void throw_bad_alloc() {
  if (_ZSt17__throw_bad_allocv != nullptr) {
    _ZSt17__throw_bad_allocv();
  }
  constexpr char message[] =
      "slabmalloc: out of memory in operator new, and no C++ runtime to throw std::bad_alloc\n";
  slabmalloc::os::interface().write(2, message, sizeof message - 1);
  abort();
}

[[gnu::noinline, gnu::cold]] void* retry_with_handler(std::size_t bytes, std::size_t alignment,
                                                      BlockKind kind) {
  while (call_new_handler()) {
    if (void* block = front::allocate_aligned(bytes, alignment, kind)) {
      return block;
    }
  }
  return nullptr;
}

[[gnu::noinline, gnu::cold]] void* retry_or_throw(std::size_t bytes, std::size_t alignment,
                                                  BlockKind kind) {
  if (void* block = retry_with_handler(bytes, alignment, kind)) {
    return block;
  }
  throw_bad_alloc();
}

/// Separate from operator new, so that its fast path needs no stack frame.
[[gnu::noinline, maybe_unused]] void* allocate_slow_or_throw(std::size_t bytes,
                                                             slabmalloc::ArenaClass* size_class) {
  void* block = heap::allocate_slow(bytes, size_class);
  return block != nullptr ? block : retry_or_throw(bytes, heap::minimum_alignment, BlockKind::New);
}

void* allocate_aligned_or_throw(std::size_t bytes, std::size_t alignment, BlockKind kind) {
  void* block = front::allocate_aligned(bytes, alignment, kind);
  return block != nullptr ? block : retry_or_throw(bytes, alignment, kind);
}

[[gnu::always_inline]] inline void* allocate_or_throw(std::size_t bytes) {
  if constexpr (MallocConfig::hardened) {
    return allocate_aligned_or_throw(bytes, heap::minimum_alignment, BlockKind::New);
  } else {
    slabmalloc::ArenaClass* const size_class = heap::class_for(bytes);
    void* block = heap::allocate_fast(size_class);
    return block != nullptr ? block : allocate_slow_or_throw(bytes, size_class);
  }
}

/// The nothrow forms also call the handler; if it throws, they return null.
[[gnu::noinline, gnu::cold]] void* retry_with_handler_or_null(std::size_t bytes,
                                                              std::size_t alignment,
                                                              BlockKind kind) noexcept {
  try {
    return retry_with_handler(bytes, alignment, kind);
  } catch (...) {
    return nullptr;
  }
}

void* allocate_or_null(std::size_t bytes, std::size_t alignment, BlockKind kind) noexcept {
  void* block = front::allocate_aligned(bytes, alignment, kind);
  return block != nullptr ? block : retry_with_handler_or_null(bytes, alignment, kind);
}

}  // namespace

/// Second names for this library's operators, which no program replaces.
extern "C" {
[[gnu::visibility("hidden")]] void* slabmalloc_own_new(std::size_t bytes);
[[gnu::visibility("hidden")]] void* slabmalloc_own_new_array(std::size_t bytes);
[[gnu::visibility("hidden")]] void* slabmalloc_own_aligned_new(std::size_t bytes,
                                                               std::align_val_t alignment);
[[gnu::visibility("hidden")]] void* slabmalloc_own_aligned_new_array(std::size_t bytes,
                                                                     std::align_val_t alignment);
[[gnu::visibility("hidden")]] void slabmalloc_own_delete(void* block);
[[gnu::visibility("hidden")]] void slabmalloc_own_delete_array(void* block);
[[gnu::visibility("hidden")]] void slabmalloc_own_aligned_delete(void* block,
                                                                 std::align_val_t alignment);
[[gnu::visibility("hidden")]] void slabmalloc_own_aligned_delete_array(void* block,
                                                                       std::align_val_t alignment);
}
#define SLABMALLOC_OWN_NAME(name, operator_name) \
  ".globl " name "\n.hidden " name "\n.set " name ", " operator_name "\n"
__asm__(SLABMALLOC_OWN_NAME("slabmalloc_own_new", "_Znwm")
            SLABMALLOC_OWN_NAME("slabmalloc_own_new_array", "_Znam")
                SLABMALLOC_OWN_NAME("slabmalloc_own_aligned_new", "_ZnwmSt11align_val_t")
                    SLABMALLOC_OWN_NAME("slabmalloc_own_aligned_new_array", "_ZnamSt11align_val_t")
                        SLABMALLOC_OWN_NAME("slabmalloc_own_delete", "_ZdlPv")
                            SLABMALLOC_OWN_NAME("slabmalloc_own_delete_array", "_ZdaPv")
                                SLABMALLOC_OWN_NAME("slabmalloc_own_aligned_delete",
                                                    "_ZdlPvSt11align_val_t")
                                    SLABMALLOC_OWN_NAME("slabmalloc_own_aligned_delete_array",
                                                        "_ZdaPvSt11align_val_t"));
#undef SLABMALLOC_OWN_NAME

namespace {

using New = void* (*)(std::size_t);
using AlignedNew = void* (*)(std::size_t, std::align_val_t);
using Delete = void (*)(void*);
using AlignedDelete = void (*)(void*, std::align_val_t);

/// True if the program has its own operator, which other forms must then call.
template <class Operator>
bool is_replaced(Operator current, Operator own) noexcept {
  return current != own;
}

bool is_new_replaced() noexcept { return is_replaced<New>(&::operator new, &slabmalloc_own_new); }
bool is_aligned_new_replaced() noexcept {
  return is_replaced<AlignedNew>(&::operator new, &slabmalloc_own_aligned_new);
}
bool is_delete_replaced() noexcept {
  return is_replaced<Delete>(&::operator delete, &slabmalloc_own_delete);
}
bool is_aligned_delete_replaced() noexcept {
  return is_replaced<AlignedDelete>(&::operator delete, &slabmalloc_own_aligned_delete);
}
/// The array forms of this library call the others, which the program may replace too.
bool is_new_array_replaced() noexcept {
  return is_new_replaced() || is_replaced<New>(&::operator new[], &slabmalloc_own_new_array);
}
bool is_aligned_new_array_replaced() noexcept {
  return is_aligned_new_replaced() ||
         is_replaced<AlignedNew>(&::operator new[], &slabmalloc_own_aligned_new_array);
}
bool is_delete_array_replaced() noexcept {
  return is_delete_replaced() ||
         is_replaced<Delete>(&::operator delete[], &slabmalloc_own_delete_array);
}
bool is_aligned_delete_array_replaced() noexcept {
  return is_aligned_delete_replaced() ||
         is_replaced<AlignedDelete>(&::operator delete[], &slabmalloc_own_aligned_delete_array);
}

/// True if arrays are a kind of their own, in the hardened library. A program that replaces one of
/// these operators may build its array forms on the plain ones of this library, or the reverse.
bool are_arrays_apart() noexcept {
  return MallocConfig::hardened && !is_new_array_replaced() && !is_delete_array_replaced();
}
bool are_aligned_arrays_apart() noexcept {
  return MallocConfig::hardened && !is_aligned_new_array_replaced() &&
         !is_aligned_delete_array_replaced();
}
constexpr BlockKind kind_of_array(bool is_apart) noexcept {
  return is_apart ? BlockKind::NewArray : BlockKind::New;
}

/// Calls the program's own operator for a nothrow form.
template <class... Arguments>
void* call_or_null(void* (*replaced)(std::size_t, Arguments...), std::size_t bytes,
                   Arguments... arguments) noexcept {
  try {
    return replaced(bytes, arguments...);
  } catch (...) {
    return nullptr;
  }
}

}  // namespace

#pragma GCC visibility push(default)

// A program may replace some of these, and the language requires every other form to call the
// replacement. So all but the first of each kind ask whether it is replaced, or call the public
// name, which the loader binds to it. They are weak, so that a program with operators of its own
// can link the object or the archive.

[[gnu::weak]] void* operator new(std::size_t bytes) { return allocate_or_throw(bytes); }
[[gnu::weak]] void* operator new(std::size_t bytes, std::align_val_t alignment) {
  return allocate_aligned_or_throw(bytes, static_cast<std::size_t>(alignment), BlockKind::New);
}
[[gnu::weak]] void* operator new[](std::size_t bytes) {
  return are_arrays_apart()
             ? allocate_aligned_or_throw(bytes, heap::minimum_alignment, BlockKind::NewArray)
             : ::operator new(bytes);
}
[[gnu::weak]] void* operator new[](std::size_t bytes, std::align_val_t alignment) {
  return are_aligned_arrays_apart()
             ? allocate_aligned_or_throw(bytes, static_cast<std::size_t>(alignment),
                                         BlockKind::NewArray)
             : ::operator new(bytes, alignment);
}
[[gnu::weak]] void* operator new(std::size_t bytes, const std::nothrow_t&) noexcept {
  return is_new_replaced() ? call_or_null<>(&::operator new, bytes)
                           : allocate_or_null(bytes, heap::minimum_alignment, BlockKind::New);
}
[[gnu::weak]] void* operator new(std::size_t bytes, std::align_val_t alignment,
                                 const std::nothrow_t&) noexcept {
  return is_aligned_new_replaced()
             ? call_or_null<std::align_val_t>(&::operator new, bytes, alignment)
             : allocate_or_null(bytes, static_cast<std::size_t>(alignment), BlockKind::New);
}
[[gnu::weak]] void* operator new[](std::size_t bytes, const std::nothrow_t&) noexcept {
  return is_new_array_replaced()
             ? call_or_null<>(&::operator new[], bytes)
             : allocate_or_null(bytes, heap::minimum_alignment, kind_of_array(are_arrays_apart()));
}
[[gnu::weak]] void* operator new[](std::size_t bytes, std::align_val_t alignment,
                                   const std::nothrow_t&) noexcept {
  return is_aligned_new_array_replaced()
             ? call_or_null<std::align_val_t>(&::operator new[], bytes, alignment)
             : allocate_or_null(bytes, static_cast<std::size_t>(alignment),
                                kind_of_array(are_aligned_arrays_apart()));
}

[[gnu::weak]] void operator delete(void* block) noexcept { front::deallocate<Call::Delete>(block); }
[[gnu::weak]] void operator delete(void* block, std::align_val_t) noexcept {
  front::deallocate<Call::Delete>(block);
}
[[gnu::weak]] void operator delete[](void* block) noexcept {
  if (are_arrays_apart()) {
    front::deallocate<Call::DeleteArray>(block);
  } else {
    ::operator delete(block);
  }
}
[[gnu::weak]] void operator delete[](void* block, std::align_val_t alignment) noexcept {
  if (are_aligned_arrays_apart()) {
    front::deallocate<Call::DeleteArray>(block);
  } else {
    ::operator delete(block, alignment);
  }
}
[[gnu::weak]] void operator delete(void* block, std::size_t bytes) noexcept {
  if (is_delete_replaced()) [[unlikely]] {
    ::operator delete(block);
  } else {
    front::deallocate_sized<Call::Delete>(block, bytes);
  }
}
[[gnu::weak]] void operator delete[](void* block, std::size_t bytes) noexcept {
  if (is_delete_array_replaced()) [[unlikely]] {
    ::operator delete[](block);
  } else if (are_arrays_apart()) {
    front::deallocate_sized<Call::DeleteArray>(block, bytes);
  } else {
    front::deallocate_sized<Call::Delete>(block, bytes);
  }
}
[[gnu::weak]] void operator delete(void* block, std::size_t bytes,
                                   std::align_val_t alignment) noexcept {
  if (is_aligned_delete_replaced()) [[unlikely]] {
    ::operator delete(block, alignment);
  } else {
    front::deallocate_sized<Call::Delete>(block, bytes, static_cast<std::size_t>(alignment));
  }
}
[[gnu::weak]] void operator delete[](void* block, std::size_t bytes,
                                     std::align_val_t alignment) noexcept {
  if (is_aligned_delete_array_replaced()) [[unlikely]] {
    ::operator delete[](block, alignment);
  } else if (are_aligned_arrays_apart()) {
    front::deallocate_sized<Call::DeleteArray>(block, bytes, static_cast<std::size_t>(alignment));
  } else {
    front::deallocate_sized<Call::Delete>(block, bytes, static_cast<std::size_t>(alignment));
  }
}
[[gnu::weak]] void operator delete(void* block, const std::nothrow_t&) noexcept {
  ::operator delete(block);
}
[[gnu::weak]] void operator delete[](void* block, const std::nothrow_t&) noexcept {
  ::operator delete[](block);
}
[[gnu::weak]] void operator delete(void* block, std::align_val_t alignment,
                                   const std::nothrow_t&) noexcept {
  ::operator delete(block, alignment);
}
[[gnu::weak]] void operator delete[](void* block, std::align_val_t alignment,
                                     const std::nothrow_t&) noexcept {
  ::operator delete[](block, alignment);
}

#pragma GCC visibility pop
