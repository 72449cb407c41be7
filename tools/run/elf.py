# SPDX-License-Identifier: MIT
"""The few fields of an ELF file that decide whether a library can be preloaded into it."""

CLASS_NAMES = {1: "32-bit", 2: "64-bit"}
BYTE_ORDERS = {1: "little", 2: "big"}
MACHINE_NAMES = {3: "x86", 8: "MIPS", 20: "PowerPC", 21: "PowerPC64", 22: "S390", 40: "ARM",
                 62: "x86-64", 183: "AArch64", 243: "RISC-V", 258: "LoongArch"}
PT_INTERP = 3


class ElfHeader:
    """Class, byte order, machine and program interpreter (the loader) of an ELF file."""

    def __init__(self, bits, byte_order, machine, loader):
        self.bits = bits
        self.byte_order = byte_order
        self.machine = machine
        self.loader = loader

    @property
    def target(self):
        """Two files can be loaded together only if these are equal."""
        return (self.bits, self.byte_order, self.machine)

    def describe_target(self):
        """The target in words, as `64-bit x86-64`."""
        name = MACHINE_NAMES.get(self.machine, f"machine {self.machine}")
        return f"{CLASS_NAMES.get(self.bits, 'unknown class')} {name}"


def read_header(path):
    """The ELF header of the file at `path`; None if it is not a well-formed ELF file."""
    with open(path, "rb", buffering=0) as file:
        start = file.read(64)
        if len(start) < 52 or start[:4] != b"\x7fELF" or start[5] not in BYTE_ORDERS:
            return None
        bits, order = start[4], BYTE_ORDERS[start[5]]

        def number(data, offset, size):
            return int.from_bytes(data[offset:offset + size], order)

        # Offsets of e_phoff, e_phentsize, e_phnum in the file header and of p_offset, p_filesz in
        # an entry of the program header table (ELF specification 1.2; ELF-64 object file format).
        wide = bits == 2
        address_bytes = 8 if wide else 4
        table = number(start, 32 if wide else 28, address_bytes)
        entry_bytes = number(start, 54 if wide else 42, 2)
        entries = number(start, 56 if wide else 44, 2)
        offset_at, size_at = (8, 32) if wide else (4, 16)
        file.seek(table)
        headers = file.read(entry_bytes * entries)
        loader = None
        for index in range(entries):
            entry = headers[index * entry_bytes:(index + 1) * entry_bytes]
            if len(entry) == entry_bytes and number(entry, 0, 4) == PT_INTERP:
                file.seek(number(entry, offset_at, address_bytes))
                loader = file.read(min(number(entry, size_at, address_bytes), 4096))
                loader = loader.split(b"\0", 1)[0]
        return ElfHeader(bits, order, number(start, 18, 2), loader)
