// SPDX-License-Identifier: MIT
//
// A kernel on slabmalloc, for QEMU's riscv64 `virt` under OpenSBI. Files fill all memory, so that
// each further one takes some back. All harts and their timer handlers make them:
//
//   run_hart()  MayWait    ─┐            ┌─ file: ObjectCache              ┌─► make() there
//   trap()      Interrupt  ─┴─► make() ──┴─ data: heap ──► table[random] ──┴─► shrink()
#include "slabmalloc/kernel.hpp"

namespace {

using namespace slabmalloc;
using Counter = HardwareAtomics::Cell<std::uint64_t>;

/// Calls function 0 of a firmware's extension; returns the error, 0 for none.
std::uint64_t call_firmware(std::uint64_t extension, std::uint64_t first,
                            std::uint64_t second = 0) noexcept {
  register std::uint64_t a0 asm("a0") = first;
  register std::uint64_t a1 asm("a1") = second;
  register std::uint64_t a6 asm("a6") = 0;
  register std::uint64_t a7 asm("a7") = extension;
  asm volatile("ecall" : "+r"(a0), "+r"(a1) : "r"(a6), "r"(a7) : "memory");
  return a0;
}
/// Powers off by the test device, which gives the emulator its status: 0x5555 0, 0x13333 1.
[[noreturn]] void power_off(std::uint32_t word) noexcept {
  for (;;) {
    *reinterpret_cast<volatile std::uint32_t*>(0x100000) = word;
  }
}

/// The hooks. Sections keep interrupts out, so handlers may take the locks of the services.
struct Kernel {
  static constexpr std::uint32_t maximum_cpus = 8;
  using InterruptState = std::uint64_t;
  static std::uint32_t cpu() noexcept {
    return static_cast<std::uint32_t>(reinterpret_cast<std::uintptr_t>(__builtin_thread_pointer()));
  }
  static InterruptState save_interrupts() noexcept {
    InterruptState before;
    asm volatile("csrrci %0, sstatus, 2" : "=r"(before) : : "memory");
    return before & 2;
  }
  static void restore_interrupts(InterruptState before) noexcept {
    asm volatile("csrs sstatus, %0" : : "r"(before) : "memory");
  }
  [[noreturn]] static void panic(const char* line) noexcept {
    save_interrupts();
    log("PANIC:");
    log(line);
    power_off(0x13333);
  }
  static void log(const char* line) noexcept {
    while (*line != 0) {
      call_firmware(1, static_cast<std::uint8_t>(*line++));
    }
    call_firmware(1, '\n');
  }
};

/// The big-endian number of 4 bytes. __builtin_bswap32() needs libgcc on processors without Zbb.
std::uint32_t word(const std::uint8_t* at) noexcept {
  return at[0] * 0x1000000u + at[1] * 0x10000u + at[2] * 0x100u + at[3];
}
std::uint64_t two_words(const std::uint8_t* at) noexcept {
  return std::uint64_t{word(at)} << 32 | word(at + 4);
}
/// The value of `reg` in the memory node of a device tree.
MemoryRegion memory_of(const std::uint8_t* tree) noexcept {
  const std::uint8_t* const names = tree + word(tree + 12);
  bool is_memory = false;
  for (const std::uint8_t* token = tree + word(tree + 8); word(token) != 9; token += 4) {
    if (word(token) == 1) {  // A node: its name, and zeros up to a whole word.
      is_memory = two_words(token + 4) >> 8 == 0x6D656D6F727940;  // "memory@"
      for (token += 4; token[3] != 0; token += 4) {
      }
    } else if (word(token) == 3) {  // A property: bytes of the value, place of the name, value.
      if (is_memory && word(names + word(token + 8)) == 0x72656700) {  // "reg"
        return {two_words(token + 12), two_words(token + 20)};
      }
      token += 8 + (word(token + 4) + 3) / 4 * 4;
    }
  }
  Kernel::panic("the device tree has no memory");
}

/// Constructed and free, it has no data. Else all words of its data are its number.
struct File {
  File() noexcept { living.fetch_add(1, Order::relaxed); }
  ~File() { living.fetch_sub(1, Order::relaxed); }
  std::uint64_t* data = nullptr;
  std::size_t words = 0;
  std::uint64_t number = 0;
  static inline constinit Counter living;
};
constexpr std::uint64_t set_timer = 0x54494D45, start_hart = 0x48534D;  ///< Firmware extensions.
constexpr std::uint64_t timer_ticks = 2'000;                            ///< Of 100 ns.
constexpr std::uint64_t files_of_hart = 3'000;
constexpr std::uint64_t least_shrunk = 8 * mebibyte;  ///< Harts go on until then.
constexpr std::size_t packet_words = 8;

constinit FrameAllocator<Kernel> frames;
constinit CpuZones<Kernel, decltype(frames)> heap(frames);
constinit ObjectCache<File, Kernel, decltype(frames)> files("file", frames);
constinit Reclaimable heap_entry("heap", heap), files_entry(files);
constinit Reclaimer<Kernel> reclaimer;
constinit HardwareAtomics::Cell<File*>* table = nullptr;
constinit std::uint64_t places = 0;  ///< In the table.
constinit Counter cpus{1}, hand, made, shrunk, refused, refused_in_handlers, finished, stopped;

template <class... Parts>
void say(Parts... parts) noexcept {
  TextLine<160> line;
  (line.append(parts), ...);
  Kernel::log(line.c_str());
}
std::uint64_t random(std::uint64_t number) noexcept {
  number = (number ^ number >> 31) * 0x9E3779B97F4A7C15;
  return (number ^ number >> 29) * 0xBF58476D1CE4E5B9;
}
Layout layout_of_words(std::size_t words) noexcept {
  return Layout::from_size_align(words * 8, 8).value();
}
/// Frees a file, or nothing; returns its bytes.
std::size_t drop(File* file, Context context) noexcept {
  if (file == nullptr) {
    return 0;
  }
  const std::size_t words = file->words;
  for (std::size_t index = 0; index < words; ++index) {
    require<Kernel>(file->data[index] == file->number, "a file was overwritten");
  }
  heap.deallocate(file->data, layout_of_words(words), context);
  file->data = nullptr;
  files.deallocate(file);
  return words * 8;
}
/// Puts a file of so many words into the table, in place of another, unless there is no memory.
void make(std::uint64_t number, std::size_t words, Context context) noexcept {
  File* const file = files.allocate(context);
  const Result<void*> data = heap.allocate(layout_of_words(words), context);
  if (file == nullptr || !data) {
    heap.deallocate(data.value_or(nullptr), layout_of_words(words), context);
    (context == Context::Interrupt ? refused_in_handlers : refused).fetch_add(1, Order::relaxed);
    return files.deallocate(file);
  }
  require<Kernel>(file->data == nullptr, "a file is not as constructed");
  file->data = static_cast<std::uint64_t*>(data.value());
  file->words = words;
  file->number = number;
  for (std::size_t index = 0; index < words; ++index) {
    file->data[index] = number;
  }
  made.fetch_add(1, Order::relaxed);
  drop(table[(number >> 40) % places].exchange(file, Order::acq_rel), context);
}
/// A ShrinkCallback: frees files in the order of the table.
std::size_t shrink(void*, std::size_t wanted) noexcept {
  std::size_t bytes = 0;
  for (std::uint64_t turn = 0; turn < places && bytes < wanted; ++turn) {
    auto& place = table[hand.fetch_add(1, Order::relaxed) % places];
    bytes += drop(place.exchange(nullptr, Order::acq_rel), Context::MayWait);
  }
  shrunk.fetch_add(bytes, Order::relaxed);
  return bytes;
}

/// Handles all traps. The compiler saves the registers; clang reads no argument of gnu::interrupt.
__attribute__((interrupt("supervisor"), aligned(4))) void trap() noexcept {
  std::uint64_t cause, pc, now;
  asm volatile("csrr %0, scause\n csrr %1, sepc\n rdtime %2" : "=r"(cause), "=r"(pc), "=r"(now));
  if (cause != (std::uint64_t{1} << 63 | 5)) {
    say("trap ", cause, " at ", pc);
    Kernel::panic("unexpected trap");
  }
  call_firmware(set_timer, now + timer_ticks);
  make(random(now), packet_words, Context::Interrupt);
}
/// What a hart without work does until the next interrupt: others may use its memory meanwhile.
void idle() noexcept {
  reclaimer.enter_idle();
  asm volatile("wfi");
}
void start_heap(const MemoryRegion& memory) noexcept {
  set_misuse_handler([](const Misuse& misuse) noexcept { Kernel::panic(describe(misuse.kind)); });
  require<Kernel>(static_cast<bool>(frames.add(&memory, 1)), "no memory");
  heap.set_reclaim(reclaimer.reclaim_for, &reclaimer);
  files.set_reclaim(reclaimer.reclaim_for, &reclaimer);
  files_entry.set_shrink(shrink, nullptr);
  reclaimer.add(heap_entry);
  reclaimer.add(files_entry);
  places = frames.statistics().managed_bytes / kibibyte;
  table = static_cast<decltype(table)>(heap.allocate_zeroed(layout_of_words(places)).value_or({}));
  require<Kernel>(table != nullptr && files.reserve_for_interrupts(4) &&
                      heap.reserve_for_interrupts(layout_of_words(packet_words), 4),
                  "not enough memory");
}
/// Frees all, and panics unless all is back. Pre: the other harts have stopped.
void check_that_nothing_is_lost() noexcept {
  shrink(nullptr, ~std::size_t{0});
  heap.deallocate(table, layout_of_words(places));
  heap.drain_and_leave_current();
  heap.give_back();
  const char* const broken[] = {heap.validate(), files.validate(), frames.validate()};
  for (const char* const equation : broken) {
    require<Kernel>(equation == nullptr, equation);
  }
  require<Kernel>(refused.load(Order::relaxed) <= made.load(Order::relaxed) / 1000, "many refused");
  require<Kernel>(files.destroy() == 0, "a file is lost");
  require<Kernel>(File::living.load(Order::relaxed) == 0, "a file was not destroyed");
  require<Kernel>(heap.frame_bytes() == 0, "the heap has lost memory");
  require<Kernel>(frames.statistics().used_bytes == 0, "a frame is lost");
}

}  // namespace

extern "C" {
extern std::uint8_t image_end[], _start[];

/// The life of a hart. At its end all harts have done their work, and nothing interrupts this one.
void run_hart() {
  asm volatile("csrw stvec, %0\n csrs sie, %1" : : "r"(&trap), "r"(1 << 5));
  call_firmware(set_timer, 0);
  Kernel::restore_interrupts(2);
  for (std::uint64_t step = 0;
       step < files_of_hart || shrunk.load(Order::relaxed) < least_shrunk;) {
    const std::uint64_t number = random(Kernel::maximum_cpus * step++ + Kernel::cpu());
    const std::uint64_t most = number % 16 == 0 ? 8192 : std::uint64_t{16} << number / 16 % 7;
    make(number, 1 + (number >> 20) % most, Context::MayWait);
  }
  finished.fetch_add(1, Order::relaxed);
  while (finished.load(Order::relaxed) < cpus.load(Order::relaxed)) {
    idle();
  }
  Kernel::save_interrupts();
  stopped.fetch_add(1, Order::release);
}
/// The first hart. Memory below `image_end` is that of OpenSBI and of this image.
[[noreturn]] void start_kernel(const std::uint8_t* tree) {
  MemoryRegion memory = memory_of(tree);
  const std::size_t used = reinterpret_cast<std::uintptr_t>(image_end) - memory.address;
  start_heap({memory.address + used, memory.bytes - used});
  const auto entry = reinterpret_cast<std::uintptr_t>(_start);
  for (std::uint64_t hart = 0; hart < Kernel::maximum_cpus; ++hart) {  // Absent ones do not start.
    cpus.fetch_add(call_firmware(start_hart, hart, entry) == 0 ? 1 : 0, Order::relaxed);
  }
  run_hart();
  while (stopped.load(Order::acquire) < cpus.load(Order::relaxed)) {
  }
  log_slabinfo(reclaimer);
  say(cpus.load(Order::relaxed), " harts, ", places, " KiB: ", made.load(Order::relaxed),
      " files, ", shrunk.load(Order::relaxed) / kibibyte, " KiB shrunk, ",
      refused.load(Order::relaxed), " refused, ", refused_in_handlers.load(Order::relaxed),
      " in handlers");
  check_that_nothing_is_lost();
  Kernel::log("nothing is lost");
  power_off(0x5555);
}
}
