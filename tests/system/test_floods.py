"""Floods at the TUN: SYNs of made-up and of real hosts to addresses that never answer, beside flows that go on.

The ground is that of test_tun.py. Behind the cloud's server, 10.77.16.0/20 is a hole: packets go to a neighbour that is
not there, so that every dial waits for its whole time.
"""

import hashlib
import os
import re
import threading
import time

import harness
import report
from harness import Failed, test
from test_tun import FAR, MIB, World

HOLE = "10.77.16.0/20"
HALF_OPEN = {name: r"tun: half-open: .*\b%s=(\d+)" % name for name in
             ("flows", "hosts", "crowded-out", "replaced", "never-answered", "too-many", "too-many-unanswered")}
DIALS = {name: r"dials: .*\b%s=(\d+)" % name for name in ("pending", "started", "timed-out", "taken-back", "refused")}


def dig(w):
    """Makes the hole."""
    for command in ("ip link add hole type veth peer name bottom", "ip addr add 198.51.100.1/24 dev hole", "ip link set bottom up",
                    "ip link set hole up", "ip neigh add 198.51.100.9 lladdr 02:00:00:00:00:09 nud permanent dev hole",
                    f"ip route add {HOLE} via 198.51.100.9 dev hole"):
        w.command("cloud", *command.split())


def counts(text, patterns):
    return {name: report.total(text, pattern) for name, pattern in patterns.items()}


class Steady:
    """A flow of the LAN host that carries bytes both ways until it is told to stop; both ends compare what they got."""

    def __init__(self, w):
        listener = w.listen(7100)
        near = w.connect("lan", 7100)
        far, _ = listener.accept()
        w.t.sockets.append(far)
        self.stop, self.moved = threading.Event(), 0
        self.block = w.t.random.randbytes(1 << 16)
        self.ends = [harness.Worker(lambda at=at: self.work(at)) for at in (near, far)]

    def work(self, s):
        s.settimeout(60)
        out, into = hashlib.sha256(), hashlib.sha256()

        def send():
            while not self.stop.is_set():
                s.sendall(self.block)
                out.update(self.block)
                self.moved += len(self.block)
                time.sleep(0.002)  # it is not to fill the machine
            s.shutdown(1)
        sender = harness.Worker(send)
        while piece := s.recv(1 << 18):
            into.update(piece)
        sender.join(60)
        return out.hexdigest(), into.hexdigest()

    def check(self, t):
        t.check(all(end.thread.is_alive() for end in self.ends), f"the flow ended: {[end.error for end in self.ends]}")

    def finish(self, t):
        self.stop.set()
        for end in self.ends:
            end.join(60 * t.patience)
        near, far = (end.result for end in self.ends)
        t.equal((near[1], far[1]), (far[0], near[0]), "what arrived of the flow that went on")


def flood(w, sources, count, rate=20_000):
    t = w.t
    script = os.path.join(harness.HERE, "syn_flood.py")
    process = t.start("flood", w.there("lan", "python3", script, sources, HOLE, str(count), str(rate), str(t.seed & 0xFFFF)))
    process.wait_exit(120 * t.patience)
    return int(re.search(r"sent (\d+)", process.out()).group(1))


def ground(t, *flags, dial="20s"):
    w = World(t)
    dig(w)
    server, sink, client = w.server(*flags, env={"CHISEL_DIAL_TIMEOUT": dial}), w.destination(), w.client(*flags)
    w.load("lan", "both", "--bytes", MIB, "--connections", 8, ok=8)
    return w, server, client, sink, {p.name: rest(t, p) for p in (client, server)}


def rest(t, process, seconds=20):
    """Waits until nothing is left of any flow, TIME_WAIT included; returns what must then be as it was."""
    t.wait(lambda: report.total(report.report(process), r"tun: tcp: flows=(\d+)") == 0, seconds, f"{process.name} forgets its flows")
    return report.kept(report.wait_idle(t, process, seconds))


def as_before(now, then):
    return now["timers"] <= then["timers"] and now["free for growth"] == then["free for growth"]


def check_as_before(t, kept, *processes, seconds=60):
    for process in processes:
        rest(t, process, seconds)
        # A timer that ended with the last flow may still have been there the first time.
        t.wait(lambda p=process: as_before(report.kept(report.report(p)), kept[p.name]), 20,
               lambda p=process: f"{p.name}: {report.kept(report.report(p))}, before {kept[p.name]}")


@test("U8.flood_of_made_up_hosts", seconds=180, slots=2)
def made_up_hosts(t):
    """100 000 SYNs of 240 hosts that are not there, to addresses that are not there either."""
    count, budget = 20_000 if t.sanitized else 100_000, 64
    w, server, client, _, kept = ground(t, "--memory", f"{budget}MiB")
    base = {p.name: p.pss() for p in (client, server)}
    steady = Steady(w)
    moved = steady.moved
    sent = flood(w, "10.5.0.16/28", 16 * 50) + flood(w, "10.5.0.0/24", count)
    moved = steady.moved - moved
    steady.check(t)
    # While they wait, every other host connects as if they did not.
    for name in ("lan", "gateway"):
        w.load(name, "both", "--bytes", 65536, "--connections", 50, ok=50)
    t.equal([w.refused(name, 7999) for name in ("lan", "gateway")], ["ECONNREFUSED"] * 2, "a closed port beside the flood")
    text = report.report(client)
    half, limit = counts(text, HALF_OPEN), report.total(text, r"half-open: flows=\d+/(\d+)")
    dials = counts(report.report(server), DIALS)
    grown = {p.name: (p.pss() - base[p.name]) / MIB for p in (client, server)}
    t.note(f"{sent} SYNs, beside them {moved / MIB:.0f} MiB; half-open {half}; dials {dials}; "
           + ", ".join(f"{name} {mib:+.1f} MiB" for name, mib in grown.items()))
    seen = sum(half[name] for name in ("too-many", "too-many-unanswered")) + dials["started"]
    t.check(seen > sent / 2, f"of {sent} SYNs the client saw {seen}")
    t.check(limit / 2 < half["flows"] <= limit, f"half-open flows: {half['flows']} of {limit}")
    t.check(half["hosts"] > 200, f"of {half['hosts']} hosts")
    t.check(half["crowded-out"] > 0 and half["too-many"] > 0, f"{half}")
    t.check(dials["refused"] == 0 and dials["taken-back"] > 0, f"{dials}")
    # Half-open flows are a quarter of what the budget has room for; abandoned ones are taken back.
    t.check(dials["pending"] <= limit, f"{dials['pending']} pending dials")
    for name, mib in grown.items():
        t.check(t.sanitized or mib < budget, f"{name} grew by {mib:.0f} MiB; its budget is {budget}")
    steady.finish(t)
    check_as_before(t, kept, client, server)


@test("U8.one_host_scans", seconds=120, slots=2)
def one_host_scans(t):
    """A host that is there scans a network that is not: it has half of the half-open flows, and the others do not notice."""
    count = 5000 if t.sanitized else 20_000
    w, server, client, _, kept = ground(t, "--max-channels", "400", dial="10s")
    steady = Steady(w)
    sent = flood(w, "10.5.0.77/32", count)
    steady.check(t)
    w.load("gateway", "both", "--bytes", 65536, "--connections", 50, ok=50)
    half = counts(report.report(client), HALF_OPEN)
    t.equal((half["flows"], half["hosts"]), (50, 1), "half-open flows and their hosts")
    t.check(half["too-many"] > sent / 4, f"of {sent}: {half}")
    w.load("lan", "both", "--bytes", 65536, "--connections", 50, ok=50)
    steady.finish(t)
    check_as_before(t, kept, client, server)


@test("U8.behind_a_go_server", seconds=120, slots=2)
def behind_go(t):
    """A peer that takes no opens back keeps each until its dial is over: what it may keep is bounded, and comes to its end."""
    w = World(t)
    dig(w)
    w.server("--message-limit", "524288", "--dial-timeout", "10s", kind="go")
    w.destination()
    client = w.client("--max-channels", "400")
    w.load("lan", "both", "--bytes", MIB, "--connections", 8, ok=8)
    kept = {client.name: rest(t, client)}
    steady = Steady(w)
    flood(w, "10.5.0.77/32", 2000)
    flood(w, "10.5.0.128/25", 2000)
    steady.check(t)
    text = report.report(client)
    half = counts(text, HALF_OPEN)
    channels = report.total(text, r"budget: .*channels=(\d+)/")
    t.check(half["flows"] == 100 and half["replaced"] == 0, f"{half}")
    t.check(100 < channels <= 201, f"{channels} channels; unanswered opens may be 200")  # and the steady flow's
    steady.finish(t)
    check_as_before(t, kept, client)
    w.load("lan", "both", "--bytes", MIB, "--connections", 8, ok=8)
