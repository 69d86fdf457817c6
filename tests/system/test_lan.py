"""A LAN host behind the gateway over a link that loses, delays, doubles and reorders frames (bench_lan_link).

    lan 10.5.0.2 ==bench_lan_link== 10.5.0.1 gateway ... as in test_tun.py
"""

import json
import os
import signal
import socket

import harness
from harness import Failed, test
from report import report, total
from test_tun import MIB, World, ip

SO_RCVBUFFORCE = 33  # asm-generic/socket.h


class Link:
    """A running bench_lan_link between `local` of the gateway and `eth0` of the LAN host, with addresses."""

    def __init__(self, w, *flags):
        t = w.t
        beside = os.path.join(os.path.dirname(t.binary), "bench_lan_link")
        program = beside if os.access(beside, os.X_OK) else os.path.join(harness.ROOT, "build", "release", "bench_lan_link")
        self.t, self.answers = t, 0
        if any(name == "local" for _, name in socket.if_nameindex()):
            ip("link", "del", "local")  # of World
        self.process = t.start("link", [program, f"/proc/{w.pids['lan']}/ns/net:eth0", "local", *flags])
        t.wait(lambda: self.process.alive() and any(name == "local" for _, name in socket.if_nameindex()), 10,
               lambda: f"the link is up; it said: {self.process.text()}")
        ip("addr", "add", "10.5.0.1/24", "dev", "local")
        w.command("lan", "ip", "addr", "add", "10.5.0.2/24", "dev", "eth0")
        w.command("lan", "ip", "route", "add", "default", "via", "10.5.0.1")

    def restart(self, seed):
        """The fates of this seed begin; returns the statistics until now."""
        self.answers += 1
        self.process.popen.stdin.write(f"seed {seed}\n".encode())
        self.process.popen.stdin.flush()
        self.process.wait_line(r"\{.*\}\n", 10, self.answers)
        return self.honest(json.loads(self.process.out().splitlines()[-1]))

    def honest(self, told):
        faults = {(way, name): told[way][name] for way in ("up", "down") for name in ("missed", "overruns", "oversize", "refused")}
        if any(faults.values()):
            raise Failed(f"the link was no honest one: {faults}")
        return told


def numbers_through(w, link, seed, count):
    """Which of the numbered datagrams from the LAN host arrive, in the order of arrival, and what the link says of it."""
    sockets = {}
    for name, address in (("gateway", "10.5.0.1"), ("lan", "10.5.0.2")):
        with w.inside(name):
            sockets[name] = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            sockets[name].bind((address, 0))
            sockets[name].setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 32 * MIB)
            w.t.sockets.append(sockets[name])
    here, there = sockets["gateway"], sockets["lan"]
    to = here.getsockname()
    here.settimeout(0.2)

    def arrives():  # the neighbour is found, and the way is empty again
        there.sendto(b"hello", to)
        try:
            return here.recv(100) == b"hello"
        except socket.timeout:
            return False

    w.t.wait(arrives, 20, "a first datagram")
    while True:
        try:
            here.recv(100)
        except socket.timeout:
            break
    link.restart(seed)
    for number in range(count):
        there.sendto(number.to_bytes(4, "big") + bytes(500), to)
    seen = []
    while True:
        try:
            seen.append(int.from_bytes(here.recv(1000)[:4], "big"))
        except socket.timeout:
            return seen, link.restart(seed)["up"]


@test("L1.link_keeps_its_word", seconds=120)
def link_keeps_its_word(t):
    count = 2000
    w = World(t)
    link = Link(w, "--delay", "5ms")
    seen, told = numbers_through(w, link, 1, count)
    t.equal(seen, list(range(count)), "a link without faults")
    t.equal((told["frames"], told["passed"] - told["exempt"]), (count, count), "its statistics")
    link.process.signal(signal.SIGTERM)
    t.equal(link.process.wait_exit(10), 0, "the end of the link")
    t.wait(lambda: all(name != "local" for _, name in socket.if_nameindex()), 10, "its device goes")

    link = Link(w, "--delay", "2ms", "--loss-up", "3%", "--burst", "2", "--duplicate", "2%", "--reorder", "5%", "--reorder-delay", "1ms")
    seed = t.seed & 0xFFFFFF
    runs = [numbers_through(w, link, seed + other, count) for other in (0, 0, 1)]
    t.equal(sorted(runs[0][0]), sorted(runs[1][0]), f"seed {seed} twice")
    t.check(sorted(runs[0][0]) != sorted(runs[2][0]), f"seeds {seed} and {seed + 1}")
    for seen, told in runs:
        t.equal(count - len(set(seen)), told["lost"], "what is lost")
        t.equal(len(seen) - len(set(seen)), told["doubled"], "what is doubled")
        t.check(told["lost"] > 0 and told["doubled"] > 0 and told["reordered"] > 0 and seen != sorted(seen), f"faults: {told}")


def over_a_lossy_lan(t, *flags):
    """Content and ends are right whatever the link does; go_peer compares every byte. The client, and what the link did."""
    w = World(t)
    link = Link(w, "--delay", "2ms", "--loss", "1%", "--burst", "2", "--reorder", "1%", "--duplicate", "0.5%", "--rate", "300M",
                "--seed", t.seed & 0xFFFFFF)
    w.server()
    w.destination()
    client = w.client(*flags)
    size = (1 if t.sanitized else 4) * MIB
    for mode in ("up", "down", "both"):
        w.load("lan", mode, "--bytes", size, "--connections", 4, "--seed", t.seed & 0xFFFF, seconds=60, ok=4)
    w.load("lan", "echo", "--bytes", 64 * 1024, "--half-close", "--connections", 40, seconds=60, ok=40)
    told = link.restart(1)
    t.check(told["up"]["lost"] > 0 and told["down"]["lost"] > 0, f"faults: {told}")
    return client


@test("U7.over_a_lossy_lan", seconds=240)
def with_cubic(t):
    client = over_a_lossy_lan(t)
    t.equal(total(report(client), r"paced-waits=(\d+)"), 0, "bursts that waited under CUBIC")


@test("U7.over_a_lossy_lan_by_bbr", seconds=240)
def with_bbr(t):
    client = over_a_lossy_lan(t, "--tun-congestion", "bbr")
    t.check(total(report(client), r"paced-waits=(\d+)") > 0, "no burst waited under BBR")
