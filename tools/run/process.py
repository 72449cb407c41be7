# SPDX-License-Identifier: MIT
"""A process that is started, waited for and measured.

The peak of resident memory comes from wait4(2): the largest single process among the one started
and those it waited for itself. Linux also counts the memory of a process before it called exec, so
the anonymous memory of this interpreter at the fork is a floor under it; `measure_floor` tells it.
That is why this module and those used before it import so little.
"""

import atexit
import os
import select
import signal
import time

# Sent on to the program when another process sends them to the driver. The terminal's signals go
# to the whole foreground process group, hence to the program already.
FORWARDED = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGUSR1,
             signal.SIGUSR2)
SI_USER_OR_BELOW = 0
# A terminal stops a program by one of these. The sender of a SIGSTOP continues the program itself.
JOB_CONTROL = (signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU)
FLOOR_SLACK_BYTES = 256 * 1024


class Outcome:
    """How a process ended, and its time and memory in seconds and bytes."""

    def __init__(self, wait_status, wall_seconds, cpu_seconds, peak_bytes):
        self.wait_status = wait_status
        self.wall_seconds = wall_seconds
        self.cpu_seconds = cpu_seconds
        self.peak_bytes = peak_bytes

    @property
    def signal_number(self):
        """The signal that ended the process, or None."""
        return os.WTERMSIG(self.wait_status) if os.WIFSIGNALED(self.wait_status) else None

    @property
    def exit_status(self):
        """The exit status as a shell reports it: 128 + n after signal n."""
        if self.signal_number is not None:
            return 128 + self.signal_number
        return os.WEXITSTATUS(self.wait_status)

    def describe_end(self):
        """How it ended in words, as `was ended by signal 11 (SIGSEGV)`."""
        number = self.signal_number
        if number is None:
            return f"ended with status {self.exit_status}"
        try:
            name = signal.Signals(number).name
        except ValueError:
            name = "unnamed"
        core = ", core dumped" if os.WCOREDUMP(self.wait_status) else ""
        return f"was ended by signal {number} ({name}{core})"


class Process:
    """A started child process."""

    def __init__(self, pid, started):
        self.pid = pid
        self._started = started
        self._ended = False
        self._session_ended = False

    def wait(self, limit_seconds=None):
        """Waits for the end of the process and of nothing else.

        Fails: TimeoutError if it is still running after `limit_seconds`.
        """
        if limit_seconds is not None:
            descriptor = os.pidfd_open(self.pid)
            try:
                poll = select.poll()
                poll.register(descriptor, select.POLLIN)
                if not poll.poll(limit_seconds * 1000):
                    raise TimeoutError
            finally:
                os.close(descriptor)
        _, status, usage = os.wait4(self.pid, 0)
        return self._outcome(status, usage)

    def wait_in_foreground(self):
        """Waits while signals pass to the process as if this one were not there.

        Pre: the signals of `held_signals` are blocked since before the start of the process.
        """
        while True:
            received = signal.sigwaitinfo(held_signals())
            if received.si_signo != signal.SIGCHLD:
                if received.si_code <= SI_USER_OR_BELOW:
                    os.kill(self.pid, received.si_signo)
                continue
            pid, status, usage = os.wait4(self.pid, os.WNOHANG | os.WUNTRACED)
            if pid == 0:
                continue
            if not os.WIFSTOPPED(status):
                return self._outcome(status, usage)
            if os.WSTOPSIG(status) in JOB_CONTROL:
                # The shell watches this process: it must be seen to stop, and must pass on that
                # it was continued.
                os.kill(os.getpid(), signal.SIGSTOP)
                os.kill(self.pid, signal.SIGCONT)

    def end_session(self):
        """Kills the processes left of the session. Pre: started with `new_session`."""
        if self._session_ended:
            return
        self._session_ended = True
        atexit.unregister(self.end_session)
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        if not self._ended:
            self.wait()

    def _outcome(self, status, usage):
        self._ended = True
        wall = time.monotonic() - self._started
        return Outcome(status, wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024)


def held_signals():
    """The signals `wait_in_foreground` waits for."""
    return {signal.SIGCHLD, *FORWARDED}


def hold_signals():
    """Blocks the signals of `held_signals` and returns the mask to give to the program."""
    return signal.pthread_sigmask(signal.SIG_BLOCK, held_signals())


def start(path, command, environment, *, signal_mask=None, new_session=False, folder=None,
          files=()):
    """Starts the program at `path`; `files` become its descriptors 0, 1, 2.

    A new session ends with this process at the latest. A signal's handler may raise an exception
    at any moment, so signals wait until the process to be ended is known.
    Fails: OSError of execve.
    """
    report, failure = os.pipe()
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        started = time.monotonic()
        pid = os.fork()
        if pid == 0:
            _execute(path, command, environment, mask if signal_mask is None else signal_mask,
                     new_session, folder, files, failure)
        os.close(failure)
        with os.fdopen(report, "rb") as file:
            error = file.read()
        if error:
            os.waitpid(pid, 0)
            number = int(error)
            raise OSError(number, os.strerror(number))
        process = Process(pid, started)
        if new_session:
            atexit.register(process.end_session)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    return process


def _execute(path, command, environment, signal_mask, new_session, folder, files, failure):
    """The child's part of `start`: never returns."""
    try:
        if new_session:
            os.setsid()
        if folder is not None:
            os.chdir(folder)
        for target, source in enumerate(files):
            os.dup2(source, target)
        # Python ignores these for itself; an ignored signal would stay so in the program.
        for number in (signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGINT, _program_disposition(signal.SIGINT))
        signal.pthread_sigmask(signal.SIG_SETMASK, signal_mask)
        os.execve(path, command, environment)
    except OSError as error:
        os.write(failure, str(error.errno).encode())
    finally:
        os._exit(127)


def _program_disposition(number):
    ignored = signal.getsignal(number) == signal.SIG_IGN
    return signal.SIG_IGN if ignored else signal.SIG_DFL


def measure_floor():
    """Bytes below which this process cannot see the peak of a program it starts now."""
    pid = os.fork()
    if pid == 0:
        # All the way of a start but the last step, so that the same memory has been touched.
        _execute(b"/", [b"/"], {}, (), False, None, (), os.open(os.devnull, os.O_WRONLY))
    return os.wait4(pid, 0)[2].ru_maxrss * 1024 + FLOOR_SLACK_BYTES
