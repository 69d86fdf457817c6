"""Drives the faults of burin_faulty (tests/faults/control.hh): one page of memory that the test and a program share."""

import mmap
import os
import struct

from harness import Failed

# As tests/faults/plan.hh has them.
OPERATIONS = ("receive", "receive_message", "receive_messages", "send", "send_zero_copy", "send_message", "accept", "connect", "shutdown", "cancel", "close",
              "poll", "read", "read_frames", "write_vector", "message", "enter", "socket", "mmap")
CLOCK, TEXT, TRIED, FAILED, PAGE = 8, 16, 2048, 2048 + 32 * 8, 4096


def use(t):
    """The program under test is the one with faults, from here on."""
    t.binary = os.path.join(os.path.dirname(t.binary), "burin_faulty")
    if not os.access(t.binary, os.X_OK):
        raise Failed(f"there is no program {t.binary}; build the target burin_faulty")


class Faults:
    """Those of one program; `env` is for its start."""

    def __init__(self, t, name, plan=""):
        path = t.file(f"faults-{name}", bytes(PAGE))
        with open(path, "r+b") as f:
            self.page = mmap.mmap(f.fileno(), PAGE)
        self.env = {"BURIN_FAULTS": path}
        self.generation = 0
        self.set(plan)

    def set(self, plan=""):
        """Puts a plan in force; each thread of the program has it from its next operation on."""
        self.page[0:4] = struct.pack("=I", self.generation + 1)
        text = plan.encode() + b"\0"
        self.page[TEXT:TEXT + len(text)] = text
        self.generation += 2
        self.page[0:4] = struct.pack("=I", self.generation)

    def skip(self, seconds):
        """The program's clock jumps; a worker that sleeps sees it when something wakes it."""
        ahead, = struct.unpack("=q", self.page[CLOCK:CLOCK + 8])
        self.page[CLOCK:CLOCK + 8] = struct.pack("=q", ahead + int(seconds * 1_000_000))

    def counts(self, at):
        numbers = struct.unpack(f"={len(OPERATIONS)}Q", self.page[at:at + 8 * len(OPERATIONS)])
        return dict(zip(OPERATIONS, numbers))

    def tried(self):
        return self.counts(TRIED)

    def failed(self):
        return self.counts(FAILED)
