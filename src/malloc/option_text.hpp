// SPDX-License-Identifier: MIT
//
// Option text: the phrases about an option that messages, `help` and the documents have in common.
#pragma once

#include "malloc/option_table.hpp"
#include "malloc/text.hpp"

namespace slabmalloc {

using Phrase = Text<320>;

/// How the option is written: "decay_ms:NUMBER".
Phrase form_of(const Option& option) noexcept;

/// The values that it may have, "a number from 0 to 60000 (milliseconds)"; empty if it takes none.
Phrase allowed_by(const Option& option) noexcept;

/// Its value as one would type it, but for "on", "off" and "none"; empty for `help`.
Phrase value_in(const Option& option, const Options& values, const Tunables& figures) noexcept;

/// Its default, "250"; for a list also the words that no value stands for. Empty for `help`.
Phrase default_of(const Option& option) noexcept;

}  // namespace slabmalloc
