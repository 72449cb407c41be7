// SPDX-License-Identifier: MIT
//
// RunTag: the entry of one chunk in the run map. A run is a row of adjacent chunks that are in use,
// or free, together. Only the tags of its first and last chunk are valid; those between are
// undefined. (Knuth's boundary tags, The Art of Computer Programming 1, 2.5, algorithm C.)
//
//     tags  | {InUse,3} | ? | {InUse,3} | {Dirty,1} | {Clean,2} | {Clean,2} | …
//           '---- run of 3 chunks ------'  run of 1   '-- run of 2 chunks --'
//
// Tags lie in their own array, apart from the chunk records. Only the holder of the arena's mutex
// writes them, whereas a record belongs to the holder of the chunk. They are also dense: a run
// costs 32 bytes of memory and no OS page of records.
#pragma once

#include <cstdint>
#include <type_traits>

#include "tunables.hpp"

namespace slabmalloc {

/// The state of all chunks of a run. A fresh tag holds 0.
enum class RunState : std::uint32_t {
  None = 0,
  InUse,     ///< Allocated.
  Unusable,  ///< Not this arena's memory: a gap with other mappings.
  Dirty,     ///< Free, backed by memory, contents unknown.
  Clean,     ///< Free, all bytes known to be zero, not backed by memory.
  Purging,   ///< Was Dirty and is being purged: neither allocation nor merging may use it.
};

constexpr bool is_free(RunState state) noexcept {
  return state == RunState::Dirty || state == RunState::Clean;
}

inline constexpr std::uint32_t run_states = 6;

/// The value of a link to no chunk.
inline constexpr std::uint32_t no_chunk = ~std::uint32_t{0};

/// The size class whose pages the addresses of a run serve; none if no class has used them.
class KeptRunClass {
 public:
  constexpr KeptRunClass() noexcept = default;
  /// The class with this index.
  /// Pre: index < Tunables::run_classes - 1.
  static constexpr KeptRunClass of(std::uint32_t index) noexcept { return numbered(index + 1); }
  static constexpr KeptRunClass numbered(std::uint32_t number) noexcept {
    return KeptRunClass{number};
  }
  /// In a request alone: runs of each class will do.
  static constexpr KeptRunClass any() noexcept { return numbered(~std::uint32_t{0}); }

  /// 0 for none, else the index of the class and 1.
  constexpr std::uint32_t number() const noexcept { return number_; }
  /// True if a request of this class may get chunks of class `other`.
  constexpr bool may_use(KeptRunClass other) const noexcept {
    return other == *this || other == KeptRunClass{} || *this == any();
  }
  constexpr bool operator==(const KeptRunClass&) const noexcept = default;

 private:
  constexpr explicit KeptRunClass(std::uint32_t number) noexcept : number_(number) {}

  std::uint32_t number_ = 0;
};

/// Takes the place of a class where each run may serve all. It takes no memory.
class NoRunClass {
 public:
  static constexpr NoRunClass of(std::uint32_t) noexcept { return {}; }
  static constexpr NoRunClass numbered(std::uint32_t) noexcept { return {}; }
  static constexpr NoRunClass any() noexcept { return {}; }
  static constexpr std::uint32_t number() noexcept { return 0; }
  static constexpr bool may_use(NoRunClass) noexcept { return true; }
  constexpr bool operator==(const NoRunClass&) const noexcept = default;
};

using RunClass = std::conditional_t<Tunables::hardened, KeptRunClass, NoRunClass>;

/// The tag of the first or last chunk of a run. Only the first chunk's tag has links and a stamp.
struct RunTag {
  RunState state = RunState::None;
  std::uint32_t chunks = 0;        ///< Length of the run.
  std::uint32_t bin_next = 0;      ///< Free: the bin's list.
  std::uint32_t bin_previous = 0;  ///< Free: the bin's list.
  std::uint32_t age_next = 0;      ///< Dirty: towards more recently freed runs.
  std::uint32_t age_previous = 0;  ///< Dirty: towards runs freed earlier.
  std::uint32_t stamp = 0;         ///< Dirty: the time of its free, in milliseconds; wraps around.
  std::uint32_t class_number = 0;  ///< Of the run's class; in the default library it is unused.

  RunClass run_class() const noexcept { return RunClass::numbered(class_number); }
  void set_run_class(RunClass run_class) noexcept {
    if constexpr (Tunables::hardened) {
      class_number = run_class.number();
    }
  }
};

static_assert(sizeof(RunTag) == 32, "an OS page holds a whole number of tags");

}  // namespace slabmalloc
