# SPDX-License-Identifier: MIT
"""The allocators that are compared: their libraries, versions and packages."""

import os
import subprocess
from dataclasses import dataclass

from preload import loadable_path

SLABMALLOC, GLIBC = "slabmalloc", "glibc"
UNCHECKED = "unchecked"
HARDENED_LIBRARY = "libslabmalloc-hardened.so"
# What the hardened library can leave out, each an option.
HARDENED_OPTIONS = ("no_canaries", "no_clearing", "no_reuse_check", "no_kind_check",
                    "no_zero_size_traps", "no_quarantine", "no_random_order",
                    "no_class_addresses", "no_guards")
# Other forms of this tree: their library, options and description. They run only if asked for.
OWN_FORMS = {UNCHECKED: ("libslabmalloc_unchecked.so", "",
                           "this tree without the checks of each free"),
             "hardened": (HARDENED_LIBRARY, "", "this tree's hardened library"),
             **{f"hardened-{option}": (HARDENED_LIBRARY, option,
                                       f"this tree's hardened library with {option}")
                for option in HARDENED_OPTIONS}}
# Peers' full names, Debian's packages and the names their libraries are loaded by. There are two
# tcmallocs: Debian has that of gperftools.
PEER_LIBRARIES = (("jemalloc", "jemalloc", "libjemalloc2", "libjemalloc.so.2"),
                  ("mimalloc", "mimalloc", "libmimalloc2.0", "libmimalloc.so.2"),
                  ("tcmalloc", "gperftools tcmalloc", "libtcmalloc-minimal4",
                   "libtcmalloc_minimal.so.4"))
PEER_NAMES = (GLIBC, *(name for name, *_ in PEER_LIBRARIES))


@dataclass
class Allocator:
    """`library` is preloaded into the programs, as `preload`; glibc's malloc needs no preload.
    Tables call it `label`: its full name, and its version where that is known."""

    name: str
    library: str = None
    label: str = ""
    origin: str = ""
    options: str = ""  # Of slabmalloc.

    def __post_init__(self):
        self.preload = self.library

    def prepare(self, folder):
        """Lets a library whose path LD_PRELOAD would split be preloaded by a link in `folder`."""
        if self.library is not None:
            self.preload = loadable_path(self.library, os.path.join(folder, f"{self.name}.so"))

    def environment(self, base):
        """`base` with the library preloaded."""
        if self.library is None:
            return base
        options = {b"SLABMALLOC_OPTIONS": os.fsencode(self.options)} if self.options else {}
        return {**base, **options, b"LD_PRELOAD": os.fsencode(self.preload)}

    def serves(self, origin):
        """Whether `origin`, the file that a process got its malloc from, is this allocator's."""
        if self.library is None:
            return os.path.basename(origin).startswith("libc.so")
        return os.path.realpath(origin) == os.path.realpath(self.library)


class NoAllocator(Exception):
    """An allocator cannot be used; the message says why."""


def choose_peers(names):
    """PEER_NAMES, or those in `names`. Fails: NoAllocator for a name that is none."""
    known = (*PEER_NAMES, *OWN_FORMS)
    unknown = [name for name in names or () if name not in known]
    if unknown:
        raise NoAllocator(f"no peer `{unknown[0]}`: there are {', '.join(known)}")
    return [name for name in known if name in (names or PEER_NAMES)]


def peer_packages(names):
    """The Debian packages of these peers."""
    return [package for name, _, package, _ in PEER_LIBRARIES if name in names]


def installed_peers(names, build):
    """These peers, as Debian packages them, or from the folder `build`. Fails: NoAllocator if a
    library is missing."""
    peers = []
    if GLIBC in names:
        peers.append(Allocator(GLIBC, label=os.confstr("CS_GNU_LIBC_VERSION")))
    for name, (file, options, description) in OWN_FORMS.items():
        if name not in names:
            continue
        library = os.path.join(os.path.realpath(build), file)
        if not os.path.isfile(library):
            raise NoAllocator(f"{name}: there is no {library}; scripts/bench builds it")
        peers.append(Allocator(name, library, name, description, options))
    known = _loader_cache()
    for name, full_name, package, library in PEER_LIBRARIES:
        if name not in names:
            continue
        if library not in known:
            raise NoAllocator(f"{name}: there is no {library}; its Debian package is {package}")
        version = _package_version(package)
        peers.append(Allocator(name, known[library], f"{full_name} {upstream_version(version)}",
                               f"{package} {version}"))
    return peers


def upstream_version(version):
    """A Debian version without what Debian adds: 2.0.9+ds-2 is 2.0.9."""
    return version.rpartition(":")[2].split("-")[0].split("+")[0]


def further_allocator(text):
    """The allocator of `--allocator NAME[@VERSION]=PATH`. Fails: NoAllocator."""
    left, separator, path = text.partition("=")
    name, _, version = left.partition("@")
    if not separator or not all(word.replace("-", "").replace(".", "").isalnum()
                                for word in left.split("@")):
        raise NoAllocator(f"`{text}` is not NAME=PATH or NAME@VERSION=PATH")
    if not os.path.isfile(path):
        raise NoAllocator(f"{name}: there is no file {path}")
    return Allocator(name, os.path.realpath(path), f"{name} {version}".strip(),
                     "given by --allocator")


def libc_library():
    """The path of the C library that this process has loaded."""
    with open("/proc/self/maps", encoding="utf-8", errors="replace") as file:
        for line in file:
            path = line.rstrip("\n").partition("/")[2]
            if os.path.basename(path).startswith("libc.so"):
                return f"/{path}"
    raise NoAllocator("this process has no C library of its own")


def _loader_cache():
    """The dynamic loader's libraries by name: the first of each name is for this machine."""
    ldconfig = "/sbin/ldconfig"
    listing = subprocess.run([ldconfig, "-p"], stdout=subprocess.PIPE, check=True).stdout.decode()
    entries = (line.split(" => ") for line in listing.splitlines() if " => " in line)
    found = {}
    for left, path in entries:
        found.setdefault(left.split()[0], path)
    return found


def _package_version(package):
    try:
        done = subprocess.run(["dpkg-query", "-W", "-f", "${Version}", package],
                              stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False)
    except OSError:
        return "of unknown version"
    return done.stdout.decode() or "of unknown version"
