// SPDX-License-Identifier: MIT
//
// Writes OPTIONS.md and slabmalloc.7 from the option table:
//
//   option_documents FOLDER       docs-options calls it for docs/, and a test compares the two
#include <algorithm>
#include <fstream>
#include <iostream>
#include <sstream>
#include <string>
#include <vector>

#include "malloc/option_text.hpp"
#include "slabmalloc/version.hpp"

namespace slabmalloc {
namespace {

// Backquotes enclose text that a user types.
const std::vector<std::string> introduction{
    "The malloc reads its options once, when it starts, from the environment variable "
    "`SLABMALLOC_OPTIONS`. It is a list of `name` or `name:value`, separated by commas. There are "
    "no spaces in it.",
    "A line on stderr tells of each wrong entry: it names the option, the value and what is "
    "allowed. The option stays as it was, the other entries are read, and the program runs. If an "
    "option is given more than once, the last one counts, and a line says so. Set-user-id "
    "programs read no options.",
};

struct Example {
  std::string meaning;
  std::string value;
};
const std::vector<Example> examples{
    {"Print statistics at exit", "stats"},
    {"The same for a machine, of every process that the program starts",
     "stats_file:/tmp/heap.json"},
    {"Spend memory to have fewer page faults", "decay_ms:5000,huge_pages"},
    {"Have an idle server give back what it freed last", "background_thread"},
    {"Spend page faults to have less memory", "decay_ms:0,direct_threshold:1M"},
    {"Stay in a container of 512 MiB: purge early, and refuse before the system ends the process",
     "soft_limit:350M,hard_limit:450M"},
};

/// The text in lines of at most `columns`.
std::string wrapped(const std::string& text, std::size_t columns, const std::string& indent = "") {
  std::string result;
  std::size_t column = 0;
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t end = std::min(text.find(' ', begin), text.size());
    const std::string word = text.substr(begin, end - begin);
    if (column != 0 && column + 1 + word.size() > columns) {
      result += "\n";
      result += indent;
      column = indent.size();
    } else if (column != 0) {
      result += " ";
      ++column;
    }
    result += word;
    column += word.size();
    begin = end + 1;
  }
  return result + "\n";
}

/// The arguments, concatenated.
template <class... Parts>
std::string joined(const Parts&... parts) {
  std::ostringstream text;
  (text << ... << parts);
  return text.str();
}

std::string code(const std::string& text) { return joined('`', text, '`'); }
std::string form(const Option& option) { return code(form_of(option).data()); }

std::string description(const Option& option) {
  return joined(option.meaning, *option.details != '\0' ? " " : "", option.details);
}

/// Sentences about the values of an option.
std::vector<std::string> facts(const Option& option) {
  std::vector<std::string> result;
  if (const Phrase allowed = allowed_by(option); allowed.size() != 0) {
    result.push_back(joined("Value: ", allowed.data(), '.'));
  }
  if (const Phrase value = default_of(option); value.size() != 0) {
    result.push_back(joined("Default: ", value.data(), '.'));
  }
  if (option.old_name != nullptr) {
    result.push_back(joined("Old name: ", code(option.old_name), '.'));
  }
  option.kind.visit(Overloaded{
      [&](const List& list) {
        for (std::size_t number = 0; number < list.count; ++number) {
          const Word& word = list.words[number];
          result.push_back(joined(code(word.name), ": ", word.meaning, '.'));
        }
      },
      [](const auto&) {},
  });
  return result;
}

// ---- Markdown

constexpr std::size_t markdown_columns = 100;

void write_markdown_of(const Option& option, std::ostream& file) {
  file << "\n## " << form(option) << "\n\n" << wrapped(description(option), markdown_columns);
  const char* separator = "\n";
  for (const std::string& fact : facts(option)) {
    file << separator << wrapped(joined("- ", fact), markdown_columns, "  ");
    separator = "";
  }
}

void write_markdown(std::ostream& file) {
  file << "# Options of the malloc\n\n"
          "<!-- The build target docs-options writes this file from\n"
          "     src/malloc/option_table.hpp. Change that. -->\n";
  for (const std::string& paragraph : introduction) {
    file << '\n' << wrapped(paragraph, markdown_columns);
  }
  for (const Example& example : examples) {
    file << '\n'
         << example.meaning << ":\n\n```sh\nSLABMALLOC_OPTIONS=" << example.value
         << " LD_PRELOAD=libslabmalloc.so your-program\n```\n";
  }
  for (const Option& option : option_table) {
    write_markdown_of(option, file);
  }
}

// ---- Manual page, in the macros of man(7)

constexpr std::size_t manual_columns = 79;

/// The text for troff to print unchanged, with backquoted text in bold.
std::string quoted(const std::string& text) {
  std::string result;
  bool is_bold = false;
  for (const char character : text) {
    switch (character) {
      case '`':
        is_bold = !is_bold;
        result += is_bold ? "\\fB" : "\\fR";
        break;
      case '\\':
        result += "\\e";
        break;
      case '-':
        result += "\\-";
        break;
      case '\'':
        result += "\\(aq";
        break;
      default:
        result += character;
    }
  }
  return result;
}

/// A paragraph, with a new line for each sentence.
std::string manual_text(const std::string& text) {
  std::string result;
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t stop = text.find(". ", begin);
    const std::size_t end = stop == std::string::npos ? text.size() : stop + 1;
    result += wrapped(quoted(text.substr(begin, end - begin)), manual_columns);
    begin = end + 1;
  }
  return result;
}

void write_manual_of(const Option& option, std::ostream& file) {
  file << ".TP\n" << quoted(form(option)) << '\n' << manual_text(description(option));
  for (const std::string& fact : facts(option)) {
    file << ".br\n" << manual_text(fact);
  }
}

void write_manual(std::ostream& file) {
  file << ".\\\" The build target docs-options writes this file from\n"
          ".\\\" src/malloc/option_table.hpp. Change that.\n"
          ".TH SLABMALLOC 7 \"\" \"slabmalloc "
       << version_major << '.' << version_minor << '.' << version_patch
       << "\"\n.SH NAME\nslabmalloc \\- a malloc to preload or to link\n"
          ".SH SYNOPSIS\n"
       << quoted("`SLABMALLOC_OPTIONS=`option,... `LD_PRELOAD=libslabmalloc.so` program")
       << "\n.SH DESCRIPTION\n"
       << manual_text(
              "`libslabmalloc.so` replaces the malloc of the C library and the allocation "
              "functions of C++. A bad free ends the program with a line on stderr.");
  for (const std::string& paragraph : introduction) {
    file << ".PP\n" << manual_text(paragraph);
  }
  file << ".SH OPTIONS\n";
  for (const Option& option : option_table) {
    write_manual_of(option, file);
  }
  file << ".SH EXAMPLES\n";
  for (const Example& example : examples) {
    file << ".TP\n"
         << quoted(code(joined("SLABMALLOC_OPTIONS=", example.value))) << '\n'
         << manual_text(joined(example.meaning, '.'));
  }
  file << ".SH SEE ALSO\n.BR malloc (3),\n.BR ld.so (8)\n";
}

bool write(const std::string& path, void (*write_text)(std::ostream& file)) {
  std::ofstream file(path, std::ios::binary);
  write_text(file);
  file.close();
  if (!file) {
    std::cerr << "option_documents: cannot write " << path << '\n';
  }
  return static_cast<bool>(file);
}

}  // namespace
}  // namespace slabmalloc

int main(int count, char** arguments) {
  if (count != 2) {
    std::cerr << "option_documents: give the folder to write OPTIONS.md and slabmalloc.7 into\n";
    return 2;
  }
  const std::string folder = arguments[1];
  const bool is_written = slabmalloc::write(folder + "/OPTIONS.md", slabmalloc::write_markdown) &&
                          slabmalloc::write(folder + "/slabmalloc.7", slabmalloc::write_manual);
  return is_written ? 0 : 1;
}
