// SPDX-License-Identifier: MIT
//
// The report of misuse: a line for a person, the facts, what to do next, and a back trace. Its
// words are those of a C programmer: a slot is a block here.
//
//   slabmalloc: free of an address inside a 64-byte block: free() got 0x…8, 8 bytes into it
//     call      free()
//     address   0x…8
//     block     64 bytes (a size class) at 0x…0; the address is 8 bytes into it
//     …
//
// Nothing allocates before all of this is written, since the heap is in the middle of a call.
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>

#include "malloc/back_trace.hpp"
#include "malloc/call.hpp"
#include "malloc/guarded_blocks.hpp"
#include "malloc/guarded_sampling.hpp"
#include "malloc/heap.hpp"
#include "malloc/options.hpp"
#include "malloc/report.hpp"
#include "malloc/text.hpp"
#include "malloc/thread_zones.hpp"

namespace slabmalloc {

namespace {

/// The program may be about to end by a report that the thread makes: a back trace may find more.
constinit thread_local bool is_reporting = false;

template <std::size_t Capacity>
void append_program(Text<Capacity>& text) noexcept {
  text.append("  program   %s, process %u, thread %u\n",
              program_invocation_short_name != nullptr ? program_invocation_short_name : "?",
              os::interface().process_id(), os::interface().thread_id());
}

template <std::size_t Capacity>
void append_advice(Text<Capacity>& text) noexcept {
  text.append("  next      run it under gdb, or rebuild it with -fsanitize=address\n");
}

/// The report of one bad call.
class MisuseReport {
 public:
  explicit MisuseReport(const Misuse& misuse) noexcept
      : misuse_(misuse), call_(call_of(misuse)), size_("") {
    if (misuse.object_size != 0) {
      size_text_.append("%zu-byte ", misuse.object_size);
      size_ = size_text_.data();
    }
    append_headline();
    append_facts();
  }

  void write() const noexcept { text_.write(STDERR_FILENO); }

 private:
  static Call call_of(const Misuse& misuse) noexcept {
    const bool is_noted = misuse.found_at == FoundAt::Call && noted_call.address == misuse.address;
    return is_noted ? noted_call.call : Call::Unknown;
  }

  bool is_late() const noexcept { return misuse_.found_at != FoundAt::Call; }
  const char* caller() const noexcept { return is_late() ? "an earlier call" : name_of(call_); }

  /// The bytes from the start of the block to the address.
  std::size_t offset() const noexcept {
    return static_cast<std::size_t>(static_cast<const std::byte*>(misuse_.address) -
                                    static_cast<const std::byte*>(misuse_.block));
  }
  bool is_inside() const noexcept { return misuse_.block != nullptr && offset() != 0; }

  void append_headline() noexcept {
    text_.append("slabmalloc: ");
    switch (misuse_.kind) {
      case MisuseKind::DoubleFree:
        append_free_block();
        break;
      case MisuseKind::MisalignedFree:
        append_inside();
        break;
      case MisuseKind::ForeignPointer:
        text_.append("%s an address that is no block: %s got %p, where no block starts\n", what(),
                     caller(), misuse_.address);
        break;
      case MisuseKind::SizeMismatch:
        text_.append("free of a %sblock at %p with the wrong size: %s got %zu bytes\n", size_,
                     misuse_.address, caller(), misuse_.given_size);
        break;
      case MisuseKind::Overflow:
        append_overflow();
        break;
      case MisuseKind::Underflow:
        text_.append("write before the start of a %sblock at %p: %s found it\n", size_,
                     misuse_.address, caller());
        break;
      case MisuseKind::WriteAfterFree:
        text_.append("write into a freed %sblock at %p: %p was written, %zu bytes into it\n", size_,
                     misuse_.block, misuse_.address, offset());
        break;
      case MisuseKind::MismatchedFree:
        text_.append("free of a block by the wrong function: %s got %p, a block of %s\n", caller(),
                     misuse_.address, misuse_.allocated_by);
        break;
      case MisuseKind::InvalidPage:
      case MisuseKind::WrongContext:  // Kernel heaps alone report it.
        text_.append("%s: %p\n", describe(misuse_.kind), misuse_.address);
        break;
    }
  }

  /// What the call did to a block.
  const char* what() const noexcept { return is_free(call_) ? "free of" : "use of"; }

  void append_free_block() noexcept {
    const char* const again = is_free(call_) ? "double free" : "use after free";
    if (is_inside()) {
      append_inside();
    } else if (misuse_.block == nullptr) {
      text_.append(
          "%s at %p, or nothing was allocated there: %s got an address in free memory of "
          "the heap\n",
          again, misuse_.address, caller());
    } else if (misuse_.state == BlockState::NeverAllocated) {
      text_.append("%s an unallocated %sblock at %p: %s got a block that was never allocated\n",
                   what(), size_, misuse_.address, caller());
    } else if (misuse_.state == BlockState::Freed) {
      text_.append("%s of a %sblock at %p: %s got a block that is free already\n", again, size_,
                   misuse_.address, caller());
    } else {
      text_.append(
          "%s of a %sblock at %p, or it was never allocated: %s got a block that is free\n", again,
          size_, misuse_.address, caller());
    }
  }

  void append_overflow() noexcept {
    text_.append("write beyond the end of a %sblock at %p: %s found it", size_, misuse_.block,
                 caller());
    if (misuse_.block != misuse_.address) {
      text_.append(", which got the block beside it\n");
    } else {
      text_.append("\n");
    }
  }

  void append_inside() noexcept {
    if (misuse_.block != nullptr) {
      text_.append("%s an address inside a %sblock: %s got %p, %zu bytes into it\n", what(), size_,
                   caller(), misuse_.address, offset());
    } else {
      text_.append("%s an address that is no block: %s got %p, beside the blocks of the heap\n",
                   what(), caller(), misuse_.address);
    }
  }

  void append_facts() noexcept {
    if (!is_late() && call_ != Call::Unknown) {
      text_.append("  call      %s\n", name_of(call_));
    }
    text_.append("  address   %p\n", misuse_.address);
    append_block();
    append_sizes();
    if (const char* const state = this->state(); state != nullptr) {
      text_.append("  state     %s\n", state);
    }
    append_program(text_);
    append_finding();
    append_next();
  }

  /// The size in the call, beside those that the block may have been allocated with.
  void append_sizes() noexcept {
    if (is_guarded()) {
      return;
    }
    if (misuse_.kind == MisuseKind::Overflow && misuse_.given_size != 0) {
      text_.append("  size      %zu bytes asked for; something wrote beyond them\n",
                   misuse_.given_size);
    }
    if (misuse_.kind != MisuseKind::SizeMismatch || misuse_.block == nullptr) {
      return;
    }
    const std::size_t most = misuse_.object_size;
    std::size_t least = most > large_step_bytes ? most - large_step_bytes + 1 : 0;
    if (MallocConfig::hardened && most <= heap::max_class_bytes) {
      text_.append("  size      %zu bytes in the call; allocated with %zu\n", misuse_.given_size,
                   most);
      return;
    }
    if (most <= heap::max_class_bytes) {
      const std::uint32_t index = heap::SizeClasses::index_for(most);
      least = index != 0 ? heap::SizeClasses::size_of(index - 1) + 1 : 0;
    }
    text_.append(
        "  size      %zu bytes in the call; allocated with %zu to %zu, or with fewer and a larger "
        "alignment\n",
        misuse_.given_size, least, most);
  }

  void append_next() noexcept {
    if (misuse_.kind == MisuseKind::MismatchedFree) {
      text_.append(
          "  next      free what malloc() gave with free(), what new gave with delete, and what "
          "new[] "
          "gave with delete[]; SLABMALLOC_OPTIONS=no_kind_check ignores kinds\n");
      return;
    }
    if (misuse_.kind != MisuseKind::SizeMismatch) {
      append_advice(text_);
      return;
    }
    text_.append(
        "  next      %s; rebuild it with -fsanitize=address to see the allocation, or set "
        "SLABMALLOC_OPTIONS=no_size_check to ignore sizes\n",
        call_ == Call::Delete || call_ == Call::DeleteArray
            ? "delete the object as the type that was created, or give its base class a virtual "
              "destructor"
            : "pass the size and the alignment of the allocation");
  }

  /// True if the size of the block is that of its class. The hardened library knows the size that
  /// was asked for.
  bool is_class_size() const noexcept {
    const bool is_asked_for = MallocConfig::hardened && misuse_.kind == MisuseKind::SizeMismatch;
    return misuse_.object_size <= heap::max_class_bytes && !is_asked_for && !is_guarded();
  }
  bool is_guarded() const noexcept { return guarded_blocks.contains(misuse_.address); }

  void append_block() noexcept {
    if (misuse_.block == nullptr) {
      return;
    }
    text_.append("  block     %zu bytes%s at %p; the address is ", misuse_.object_size,
                 is_class_size() ? " (a size class)" : "", misuse_.block);
    if (misuse_.kind == MisuseKind::Overflow && misuse_.block != misuse_.address) {
      text_.append("that of the block beside it\n");
    } else if (is_inside()) {
      text_.append("%zu bytes into it\n", offset());
    } else {
      text_.append("its first byte\n");
    }
  }

  /// What is known of the block, or of the address; null if nothing is.
  const char* state() const noexcept {
    switch (misuse_.state) {
      case BlockState::Unknown:
        if (misuse_.kind == MisuseKind::MisalignedFree) {
          return "no live block is here; one may have been, before this memory was reused";
        }
        if (misuse_.kind != MisuseKind::ForeignPointer) {
          return nullptr;
        }
        return is_guarded()
                   ? "no live block starts here; one may have, before its place was used again"
                   : "no live block starts here; a large one may have, which was freed long ago";
      case BlockState::NoBlock:
        return "no block of this malloc has ever started here";
      case BlockState::InUse:
        if (misuse_.kind != MisuseKind::MisalignedFree) {
          return "in use";
        }
        return "in use; another block may have started at the address, before this memory was "
               "reused";
      case BlockState::Free:
        return misuse_.block != nullptr
                   ? "free: it was freed before, or never allocated"
                   : "free: what was here was freed before, or nothing was ever allocated";
      case BlockState::Freed:
        return "free: it was freed before";
      case BlockState::NeverAllocated:
        return "free: it was never allocated since this memory came into use";
    }
    return nullptr;
  }

  void append_finding() noexcept {
    if (is_late()) {
      text_.append("  found     later: this thread %s; any thread may have made the bad call\n",
                   misuse_.found_at == FoundAt::Drain
                       ? "collected blocks that other threads had freed"
                       : "passed on frees that had been gathered");
    }
  }

  const Misuse& misuse_;
  const Call call_;
  const char* size_;
  Text<32> size_text_;
  Text<2048> text_;
};

/// Writes the calls that allocated and freed a guarded block.
void write_history(const GuardedBlock& block) noexcept {
  Text<64> title;
  title.append("allocated by thread %u", block.allocating_thread);
  write_call_stack(STDERR_FILENO, title.data(), block.allocation);
  if (block.state == GuardedBlock::State::Freed) {
    Text<64> title_of_free;
    title_of_free.append("freed by thread %u", block.freeing_thread);
    write_call_stack(STDERR_FILENO, title_of_free.data(), block.free);
  }
}

/// Appends the line for a person: what the access did, and to which block.
void append_access(Text<1024>& text, const void* address, const GuardedFault& fault,
                   const char* access) noexcept {
  if (fault.block == nullptr) {
    text.append("slabmalloc: %s at %p, where no block ever was\n", access, address);
    return;
  }
  const bool is_freed = fault.block->state == GuardedBlock::State::Freed;
  if (!is_freed && fault.where == GuardedAccess::Inside) {
    text.append(
        "slabmalloc: %s at %p of memory that was inaccessible then; the block here now may be a "
        "later one\n",
        access, address);
    return;
  }
  const char* const mistake = is_freed                               ? "use after free"
                              : fault.where == GuardedAccess::Before ? "underflow"
                                                                     : "overflow";
  const char* const where = fault.where == GuardedAccess::Before   ? "before the start of"
                            : fault.where == GuardedAccess::Inside ? "into"
                                                                   : "beyond the end of";
  text.append("slabmalloc: %s: %s at %p, %zu bytes %s a %s%zu-byte block\n", mistake, access,
              address, fault.distance, where, is_freed ? "freed " : "", fault.block->bytes);
}

}  // namespace

void report_fault(const void* address, FaultingAccess access) noexcept {
  const GuardedFault fault = guarded_blocks.find_fault(address);
  Text<1024> text;
  append_access(text, address, fault,
                access == FaultingAccess::Write  ? "write"
                : access == FaultingAccess::Read ? "read"
                                                 : "access");
  text.append("  address   %p\n", address);
  if (fault.block != nullptr) {
    text.append("  block     %zu bytes at %p, guarded\n  state     %s\n", fault.block->bytes,
                reinterpret_cast<void*>(fault.block->address),
                fault.block->state == GuardedBlock::State::Live ? "in use" : "free: it was freed");
  }
  append_program(text);
  append_advice(text);
  text.write(STDERR_FILENO);
  if (options.back_trace) {
    // Other threads may fault meanwhile, and wait for this report: their handlers must stay.
    write_back_trace(STDERR_FILENO, "back trace of the access", Faults::Blocked);
  }
  if (fault.block != nullptr) {
    write_history(*fault.block);
  }
}

void report_misuse_and_abort(const Misuse& misuse) noexcept {
  const MisuseReport report(misuse);
  report.write();
  // The loader's lock may be held by a thread that waits for a mutex of the heap.
  const bool holds_mutex = holds_heap_mutex();
  const OtherZone for_back_trace_and_handler_of_sigabrt;
  if (options.back_trace && !is_reporting && !holds_mutex) {
    is_reporting = true;
    const heap::CallStackScope scope;
    write_back_trace(STDERR_FILENO, misuse.found_at == FoundAt::Call
                                        ? "back trace of the call"
                                        : "back trace of the finding, not of the bad call");
    if (misuse.block != nullptr && guarded_blocks.contains(misuse.block)) {
      write_history(*guarded_blocks.find_fault(misuse.block).block);
    }
  }
  abort();
}

}  // namespace slabmalloc
