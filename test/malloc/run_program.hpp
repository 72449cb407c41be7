// SPDX-License-Identifier: MIT
//
// Runs a program on the malloc and returns its end and its output.
//
//   const Outcome outcome =
//       run({program("misuse_program", Form::preload), "argument"}, Form::preload);
//   EXPECT_TRUE(outcome.exited_with(0)) << outcome;
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <functional>
#include <ostream>
#include <string>
#include <vector>

namespace slabmalloc::test {

/// The way in which a program gets the malloc.
enum class Form { preload, hardened, fixed, override };

/// The end of the program's name. The hardened library is preloaded too.
inline const char* name_of(Form form) {
  return form == Form::fixed ? "static" : form == Form::override ? "override" : "preload";
}

/// The path of a program in the form `form`.
inline std::string program(const std::string& name, Form form) {
  return std::string(SLABMALLOC_TEST_FOLDER "/") + name + "_" + name_of(form);
}

struct Outcome {
  int status = 0;
  std::string output;  ///< Its stdout.
  std::string errors;  ///< Its stderr.

  bool exited_with(int code) const { return WIFEXITED(status) && WEXITSTATUS(status) == code; }
  bool died_of(int signal) const { return WIFSIGNALED(status) && WTERMSIG(status) == signal; }

  friend std::ostream& operator<<(std::ostream& stream, const Outcome& outcome) {
    if (WIFSIGNALED(outcome.status)) {
      stream << "signal " << WTERMSIG(outcome.status);
    } else {
      stream << "exit status " << WEXITSTATUS(outcome.status);
    }
    return stream << "\nstdout: " << outcome.output << "\nstderr: " << outcome.errors;
  }
};

/// The differences from a plain run.
struct Surroundings {
  std::vector<std::string> environment;    ///< NAME=value, added.
  std::string preloaded_before;            ///< A library preloaded in front of the malloc.
  std::function<void()> in_child = [] {};  ///< The run calls it just before it starts the program.
  std::string preloaded_after = {};  ///< A library preloaded behind the malloc: it starts first.
};

/// A file without a name, for a child to write to.
class Capture {
 public:
  Capture() {
    char path[] = "/tmp/slabmalloc_output_XXXXXX";
    descriptor_ = mkostemp(path, O_CLOEXEC);
    EXPECT_GE(descriptor_, 0);
    unlink(path);
  }
  ~Capture() { close(descriptor_); }
  Capture(const Capture&) = delete;
  Capture& operator=(const Capture&) = delete;

  int descriptor() const { return descriptor_; }
  std::string contents() const {
    std::string text;
    std::array<char, 4096> piece{};
    off_t offset = 0;
    for (ssize_t bytes = 0; (bytes = pread(descriptor_, piece.data(), piece.size(), offset)) > 0;
         offset += bytes) {
      text.append(piece.data(), static_cast<std::size_t>(bytes));
    }
    return text;
  }

 private:
  int descriptor_ = -1;
};

/// Runs `command`, found by PATH, and waits for its end. An alarm ends a program that hangs.
inline Outcome run(std::vector<std::string> command, Form form,
                   const Surroundings& surroundings = {}) {
  const Capture output;
  const Capture errors;
  std::vector<char*> arguments;
  for (std::string& argument : command) {
    arguments.push_back(argument.data());
  }
  arguments.push_back(nullptr);
  const pid_t child = fork();
  if (child == 0) {
    for (const std::string& variable : surroundings.environment) {
      putenv(const_cast<char*>(variable.c_str()));
    }
    std::string preload = surroundings.preloaded_before;
    if (form == Form::preload || form == Form::hardened) {
      preload += std::string(preload.empty() ? "" : ":") +
                 (form == Form::preload ? SLABMALLOC_TEST_LIBRARY : SLABMALLOC_TEST_HARDENED);
    }
    if (!surroundings.preloaded_after.empty()) {
      preload += ":" + surroundings.preloaded_after;
    }
    if (!preload.empty()) {
      setenv("LD_PRELOAD", preload.c_str(), 1);
    }
    dup2(output.descriptor(), 1);
    dup2(errors.descriptor(), 2);
    surroundings.in_child();
    alarm(30);
    execvp(arguments[0], arguments.data());
    _exit(127);
  }
  Outcome outcome;
  EXPECT_EQ(waitpid(child, &outcome.status, 0), child);
  outcome.output = output.contents();
  outcome.errors = errors.contents();
  return outcome;
}

}  // namespace slabmalloc::test
