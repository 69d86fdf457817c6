"""What is aimed at: a ratio of pairs, or a figure of our own, each with its bound, and whether the medians keep it."""

import dataclasses
import os
import statistics

from .space import Trouble

# Peers are (name, topology).
PORT, SSH, BOUND = ("burin", "loopback"), ("ssh -L", "loopback"), ("bound", "loopback")
TUN, SSH_TUN, PORT_PAIR, BOUND_TUN = ("burin TUN", "pair"), ("ssh -w", "pair"), ("burin", "pair"), ("bound TUN", "pair")
PORT_LINE, TUN_LINE, UDP_PORT = ("burin", "line"), ("burin TUN", "line"), ("burin port", "pair")
MOST_BYTES_PER_CHANNEL = 1024
# What stands in front of a byte on the narrow path (harness/narrow.py): its round trip, its FIFO, and what is granted to us.
NARROW_MS = 40 + 8e3 * 131072 / 100e6 + 20
BEGIN, END = "<!-- aims: bench/tunnel --aims -->", "<!-- end of aims -->"


@dataclasses.dataclass
class Aim:
    what: str
    ours: tuple            # (measure, peer)
    bound: float
    other: tuple = None    # (measure, peer): the ratio of pairs counts; None: our own figure
    most: bool = False     # the bound is the most, not the least
    scale: float = 1       # of a ratio whose two measures have different units
    unit: str = ""

    def samples(self, report):
        if self.other is None:
            return list(report.samples(*self.ours).values())
        return [ratio * self.scale for ratio in report.ratios(self.ours, self.other)]

    def line(self, report):
        """A row of the table; nothing when nothing of it was measured."""
        samples = self.samples(report)
        if not samples:
            return None
        middle = statistics.median(samples)
        holds = middle <= self.bound if self.most else middle >= self.bound
        goal = f"{'at most' if self.most else 'at least'} {self.bound:.4g}" + (f" {self.unit}" if self.other is None else " times")
        digits = 2 if middle < 100 else 0
        pairs = f"{len(samples)} pair{'s' if len(samples) > 1 else ''}"
        return (f"| {self.what} | {goal} | {middle:.{digits}f} ({min(samples):.{digits}f}..{max(samples):.{digits}f}, {pairs}) | "
                f"{'yes' if holds else 'no'} |")


def throughput():
    for name, other, leasts in (("the bound", BOUND, (0.8, 0.85)), ("ssh -L", SSH, (1.6, 2))):
        for way in ("up", "down"):
            for (measure, what), least in zip((("throughput", "Gbit/s"), ("per CPU-second", "Gbit per CPU-second of both ends")), leasts):
                title = f"port {way} 1 {measure}"
                yield Aim(f"forwarded port {way}, one stream, beside {name}: {what}", (title, PORT), least, (title, other))
    for way in ("up", "down"):
        yield Aim(f"forwarded port {way}, 16 streams beside one: Gbit/s", (f"port {way} 16 throughput", PORT), 1,
                  (f"port {way} 1 throughput", PORT))
    for name, other, least in (("its bound", BOUND_TUN, 0.8), ("ssh -w", SSH_TUN, 20), ("the forwarded port over the same link", PORT_PAIR, 0.9)):
        for way in ("up", "down"):
            title = f"tun {way} 1 throughput"
            yield Aim(f"TUN {way}, one stream, beside {name}: Gbit/s", (title, TUN), least, (title, other))


def round_trips():
    for share in ("p50", "p99"):
        yield Aim(f"round trip, idle, {share}, beside ssh -L", (f"rtt idle {share}", PORT), 1, (f"rtt idle {share}", SSH), most=True)
    for share in ("p50", "p99"):
        yield Aim(f"round trip through the TUN, idle, {share}, beside ssh -w", (f"tun-rtt idle {share}", TUN), 1, (f"tun-rtt idle {share}", SSH_TUN),
                  most=True)
    # Beside bulk is told in ms, idle in us.
    for name, group, idle, peer in (("forwarded port", "loaded", "rtt", PORT), ("TUN", "tun-loaded", "tun-rtt", TUN)):
        yield Aim(f"{name}, beside four bulk streams, p50, beside idle", (f"{group} p50", peer), 4, (f"{idle} idle p50", peer), most=True, scale=1e3)
        yield Aim(f"{name}, beside four bulk streams, p99, beside ssh -L's", (f"{group} p99", peer), 0.333, ("loaded p99", SSH), most=True)
    for name, group, idle, peer in (("forwarded port", "half", "rtt", PORT), ("TUN", "tun-half", "tun-rtt", TUN)):
        for share, bound in (("p50", 2), ("p99", 3)):
            yield Aim(f"{name}, beside bulk at half of capacity, {share}, beside idle", (f"{group} {share}", peer), bound, (f"{idle} idle {share}", peer),
                      most=True, scale=1e3)
    for name, peer in (("forwarded port", PORT_LINE), ("TUN", TUN_LINE)):
        for share in ("p50", "p99"):
            yield Aim(f"{name}, 100 Mbit/s, 40 ms and a FIFO of 128 KiB, bulk both ways, {share}", (f"narrow {share}", peer), NARROW_MS, most=True, unit="ms")


def small():
    for parallel in (1, 16):
        title = f"connect {parallel} at a time"
        yield Aim(f"connections per second, {parallel} at a time, beside ssh -L", (title, PORT), 1.5, (title, SSH))
    yield Aim("10 000 channels open after", ("open 10000 channels open after", PORT), 2, most=True, unit="s")
    for way in ("arrived there", "of these back"):
        yield Aim(f"80 000 datagrams of 1400 bytes a second through a port: {way}", (f"udp 1400 B {way}", UDP_PORT), 100, unit="%")
    for count in (1000, 10000):
        for end in ("client", "server"):
            yield Aim(f"{count} idle channels, {end}, each", (f"memory {count} idle, {end}, per channel", PORT), MOST_BYTES_PER_CHANNEL, most=True,
                      unit="bytes")


AIMS = [*throughput(), *round_trips(), *small()]


def table(report):
    lines = [line for line in (aim.line(report) for aim in AIMS) if line]
    if not lines:
        return ""
    return "\n".join(["| aim | goal | median (range) of the ratios of pairs, or of the figure | holds |", "| --- | --- | --- | --- |", *lines])


def print_into(path, report):
    """Puts the table, with its conditions, between the two marks of a document. Raises Trouble when they are not there."""
    with open(path) as file:
        text = file.read()
    before, mark, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not mark or not end:
        raise Trouble(f"{path} has no place for the aims: '{BEGIN}' and '{END}' in lines of their own")
    said = "\n".join(f"* {key}: {value}" for key, value in report.conditions.items())
    with open(path + ".new", "w") as file:
        file.write(f"{before}{BEGIN}\n\n{said}\n\n{table(report)}\n\n{END}{after}")
    os.replace(path + ".new", path)
