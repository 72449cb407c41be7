# SPDX-License-Identifier: MIT
"""redis-server with threads under redis-benchmark and under commands whose replies are compared.

The server listens on a socket in the run's own folder only. Its clients run on the system's malloc
both times, so only the server is measured.
"""

import os
import re
import shutil
import subprocess
import time

from workloads.command import Measurement, WorkloadFailed, find_program, last_line, wait_for

START_SECONDS = 20
CLIENT_SECONDS = 300
# Deep pipelines: Redis's I/O threads wait for each other by spinning, slow on a busy machine.
BENCHMARK = ["-q", "-c", "16", "-P", "64", "-d", "200", "-r", "20000", "-n", "20000",
             "-t", "set,get,incr,lpush,rpop,sadd,hset,zadd"]
RECORDS = 60000


def find_server():
    """The path of the server. Fails: WorkloadFailed.

    On Debian redis-server is a link, in a package that starts a service, to redis-check-rdb, in
    one that does not; the program goes by the name it is started with.
    """
    path = shutil.which("redis-server") or shutil.which("redis-check-rdb")
    if path is None:
        raise WorkloadFailed("redis-server is not installed")
    return path


def write_commands(path):
    """Commands whose effect does not depend on time, hash seeds or threads, in redis's protocol."""
    with open(path, "wb") as file:
        for number in range(RECORDS):
            text = f"value-{number}-" + "x" * (number * 7919 % 500)
            for command in (["SET", f"string:{number}", text],
                            ["HSET", f"hash:{number % 3000}", f"field-{number}", text[:80]],
                            ["RPUSH", f"list:{number % 200}", text],
                            ["ZADD", f"ranking:{number % 20}", str(number % 977), f"m{number}"],
                            ["SADD", f"set:{number % 500}", f"m{number * 31 % 9973}"],
                            ["APPEND", f"string:{number * 13 % (number + 1)}", "-more"]):
                words = [word.encode() for word in command]
                file.write(b"*%d\r\n" % len(words))
                for word in words:
                    file.write(b"$%d\r\n%s\r\n" % (len(word), word))


QUESTIONS = """\
DBSIZE
GET string:77
STRLEN string:29999
LRANGE list:7 0 12
ZRANGE ranking:3 0 20 WITHSCORES
ZRANGEBYSCORE ranking:11 100 110
HGET hash:5 field-9005
SORT set:3 ALPHA LIMIT 0 20
SCARD set:499
DEBUG DIGEST
DEBUG RELOAD
DEBUG DIGEST
UNLINK list:1 list:2 list:3 hash:1 hash:2 ranking:1 ranking:2
EVAL "local t = {} for i = 1, 20000 do t[i] = 'k' .. i end return #table.concat(t)" 0
DBSIZE
DEBUG DIGEST
"""


class Redis:
    """The workload; see workloads/__init__.py for its members."""

    name = "redis-server"

    def __init__(self):
        self._allocator = None

    @property
    def note(self):
        """The meaning of this row's figures."""
        own = self._allocator or "another malloc"
        return f"redis-server: it is linked to {own}, which is its `system` malloc; the preload " \
               "takes its place. Wall time is its clients'. Their replies are compared, " \
               "rates are not."

    def prepare(self, folder):
        """Writes the commands to be loaded."""
        write_commands(os.path.join(folder, "commands"))

    def run(self, folder, malloc):
        """Starts the server, works it, shuts it down. Fails: WorkloadFailed."""
        compared = os.path.join(folder, "compared")
        os.mkdir(compared)
        with (open(os.devnull, "rb") as nothing,
              open(os.path.join(folder, "server.log"), "wb") as log):
            server = malloc.start(
                find_server(),
                ["redis-server", "--port", "0", "--unixsocket", "socket", "--save", "",
                 "--io-threads", "2", "--io-threads-do-reads", "yes", "--enable-debug-command",
                 "local", "--lazyfree-lazy-user-flush", "yes", "--daemonize", "no"],
                {}, folder, (nothing.fileno(), log.fileno(), log.fileno()))
        try:
            self._await_start(folder)
            started = time.monotonic()
            self._work(folder, compared)
            wall_seconds = time.monotonic() - started
            outcome = wait_for(server)
            if outcome.wait_status != 0:
                raise WorkloadFailed(outcome.describe_end())
        except WorkloadFailed as failure:
            raise WorkloadFailed(f"{failure}{last_line(folder, 'server.log')}") from None
        finally:
            server.end_session()
        outcome.wall_seconds = wall_seconds
        return Measurement(outcome, server.pid)

    def _await_start(self, folder):
        """Waits until the server answers, and asks for the malloc it was built with."""
        deadline = time.monotonic() + START_SECONDS
        while True:
            reply = self._client(folder, "redis-cli", ["INFO", "memory"], check=False)
            match = re.search(rb"mem_allocator:(\S+)", reply)
            if match:
                self._allocator = match.group(1).decode("ascii", "replace")
                return
            if time.monotonic() > deadline:
                raise WorkloadFailed(f"did not answer within {START_SECONDS} s")
            time.sleep(0.02)

    def _work(self, folder, compared):
        rates = self._client(folder, "redis-benchmark", BENCHMARK)
        with open(os.path.join(folder, "rates"), "wb") as file:
            file.write(rates)
        self._client(folder, "redis-cli", ["FLUSHALL", "ASYNC"])
        with open(os.path.join(folder, "commands"), "rb") as commands:
            loaded = self._client(folder, "redis-cli", ["--pipe"], source=commands)
        answers = self._client(folder, "redis-cli", [], text=QUESTIONS.encode())
        with open(os.path.join(compared, "replies"), "wb") as file:
            file.write(loaded + answers)
        self._client(folder, "redis-cli", ["BGSAVE"])
        self._await_save(folder)
        self._client(folder, "redis-cli", ["FLUSHALL", "ASYNC"])
        self._client(folder, "redis-cli", ["SHUTDOWN", "NOSAVE"])

    def _await_save(self, folder):
        """Waits for the forked process of BGSAVE."""
        deadline = time.monotonic() + START_SECONDS
        while True:
            state = self._client(folder, "redis-cli", ["INFO", "persistence"])
            if b"rdb_bgsave_in_progress:0" in state:
                break
            if time.monotonic() > deadline:
                raise WorkloadFailed(f"BGSAVE took more than {START_SECONDS} s")
            time.sleep(0.02)
        if b"rdb_last_bgsave_status:ok" not in state:
            raise WorkloadFailed("BGSAVE failed")

    def _client(self, folder, program, arguments, source=None, text=None, check=True):
        """The output of a client. Fails: WorkloadFailed."""
        given = {"input": text} if text is not None else {"stdin": source or subprocess.DEVNULL}
        try:
            done = subprocess.run([find_program(program), "-s", "socket", *arguments], **given,
                                  cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                  timeout=CLIENT_SECONDS, check=False)
        except subprocess.TimeoutExpired:
            raise WorkloadFailed(f"{program} was not served within {CLIENT_SECONDS} s") from None
        if check and done.returncode != 0:
            ending = done.stdout.decode("utf-8", "replace").strip()[-200:]
            raise WorkloadFailed(f"{program} {arguments[:1]} failed: {ending}")
        return done.stdout
