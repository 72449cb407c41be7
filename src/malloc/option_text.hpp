// SPDX-License-Identifier: MIT
//
// Option text: the phrases that messages, `help` and the documents share.
#pragma once

#include "malloc/option_table.hpp"
#include "malloc/text.hpp"

namespace slabmalloc {

using Phrase = Text<320>;

/// The option's syntax: "decay_ms:NUMBER".
Phrase form_of(const Option& option) noexcept;

/// The allowed values: "a number from 0 to 60000 (milliseconds)"; empty if the option takes none.
Phrase allowed_by(const Option& option) noexcept;

/// The option's value as a user types it, or "on", "off" or "none"; empty for `help`.
Phrase value_in(const Option& option, const Options& values, const Tunables& figures) noexcept;

/// The option's default, "250"; for a list also the words that no value stands for. Empty for
/// `help`.
Phrase default_of(const Option& option) noexcept;

}  // namespace slabmalloc
