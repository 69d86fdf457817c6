"""A soak: mixed traffic, changes of keys and outages for as long as it is told, every byte accounted for, memory flat.

    BURIN_SOAK_SECONDS=7200 BURIN_SOAK_OUT=/tmp/soak tests/system/run --long --filter Z.soak      (tools/check --long --minutes 120)

The ground is that of test_tun6.py, and a port of the gateway is forwarded besides. Some 15 s apart, and seeded: an end is stopped
for a while or killed, the path is gone for a while, or nothing happens at all. A flow that is under way then may end with a reset
or be refused; it never looks whole without being so, nothing that arrives differs from what was sent, and between outages all
flows end well. At the end, and once in the middle, both ends are as they were after the first minute: nothing in use, the same
descriptors and timers, and no more memory. What was seen is drawn in soak.svg and written to soak.json.
"""

import json
import os
import signal
import subprocess
import threading
import time

import harness
import line_chart
import report
from harness import test
from test_tun import FAR, MIB, ip
from test_tun6 import FAR6, World6
from test_udp import datagrams_program

SECONDS = float(os.environ.get("BURIN_SOAK_SECONDS", "180"))
OUT = os.environ.get("BURIN_SOAK_OUT", os.path.join(harness.ROOT, "build", "soak"))
ROUND = 60.0 if SECONDS < 900 else 300.0  # traffic runs so long, then all of it ends and both ends are looked at
PAUSE = 15.0         # between outages
GROWTH = 24 * MIB    # of both ends together, at rest, from the second look to the last
HARMLESS = {"ok", "reset", "refused", "unreachable", "timeout", "other"}  # of a flow that met an outage


class Soak:
    def __init__(self, t):
        self.t, self.begun = t, time.monotonic()
        self.world = World6(t)
        self.port = t.port()
        self.samples, self.marks, self.looks = [], [], []
        self.outcomes, self.bytes, self.rounds = {}, 0, 0
        self.stopping = threading.Event()
        self.lock = threading.Lock()
        self.client = self.server = None
        # An end with a sanitizer on a busy machine may not run for seconds: a session that is lost for that is no finding.
        self.keepalive = 5 if t.sanitized else 2

    def second(self):
        return time.monotonic() - self.begun

    # -- the ends --------------------------------------------------------------------------------------------------------

    def start_server(self):
        self.server = self.world.server("--auth", "user:pass", "--keepalive", f"{self.keepalive}s")

    def start_client(self):
        # Keys change every 64 MiB.
        self.client = self.world.client("--auth", "user:pass", "--keepalive", f"{self.keepalive}s", "--rekey-limit", "64M",
                                        remotes=(f"127.0.0.1:{self.port}:{FAR}:7000",))

    def connected(self):
        """A flow through each intake ends well: whatever was before, the tunnel works."""
        for host, port in ((FAR, 7000), ("127.0.0.1", self.port)):
            self.t.wait(lambda host=host, port=port: self.one("gateway", host, port) == {"ok": 1}, 60, f"a flow to {host}:{port}")

    def one(self, name, host, port):
        run = self.world.load_started(name, "both", "--bytes", 65536, "--timeout", "5s", port=port, host=host)
        run.wait_exit(30 * self.t.patience)
        return harness.last_json(run)["outcomes"]

    # -- traffic ---------------------------------------------------------------------------------------------------------

    def loads(self, seconds):
        """Load clients that begin flows again and again; the sizes differ, so that they are never in step."""
        what = (("gateway", FAR, 7000, "both", 8 * MIB, 4), ("lan", FAR, 7000, "up", 16 * MIB, 2), ("lan", FAR, 7000, "down", 16 * MIB, 2),
                ("lan", f"[{FAR6}]", 7000, "both", 3 * MIB, 4), ("gateway", "127.0.0.1", self.port, "both", 5 * MIB, 4),
                ("gateway", "127.0.0.1", self.port, "echo", 256 * 1024, 8), ("lan", FAR, 7000, "reset", MIB, 2),
                ("gateway", FAR, 7000, "both", 1, 8))
        running = [self.world.load_started(name, mode, "--bytes", size, "--connections", count, "--again", "--duration", f"{seconds:.0f}s",
                                           "--timeout", "20s", "--seed", self.t.random.randrange(1 << 30), host=host, port=port)
                   for name, host, port, mode, size, count in what]
        return list(zip(running, what))

    def datagrams(self, seconds):
        return self.t.start("datagrams", self.world.there("lan", datagrams_program(self.t), "run", FAR, "7001", "--rate", "500",
                                                          "--flows", "5", "--seconds", f"{seconds:.0f}"))

    def round(self, seconds, outages):
        begun = self.second()
        loads, datagrams = self.loads(seconds), self.datagrams(seconds)
        next_at = begun + PAUSE / 2
        while self.second() < begun + seconds:
            if outages and self.second() >= next_at and self.second() < begun + seconds - PAUSE / 2:
                self.outage()
                next_at = self.second() + PAUSE
            time.sleep(0.1)
        for load, (name, host, _, mode, *_) in loads:
            load.wait_exit(90 * self.t.patience)
            told = harness.last_json(load)
            self.bytes += told["bytes"]
            for outcome, count in told["outcomes"].items():
                self.outcomes[outcome] = self.outcomes.get(outcome, 0) + count
            whole = {"reset", "ok"} if mode == "reset" else {"ok"}  # what the end of the round met is "ok"
            allowed = HARMLESS if outages else whole
            self.t.check(set(told["outcomes"]) <= allowed, f"flows of {mode} from {name} to {host}: {told}")
            self.t.check(outages or told["outcomes"], f"no flow of {mode} from {name} to {host} ended: {told}")
        datagrams.wait_exit(60 * self.t.patience)
        # Lost ones are no fault in an outage; one that differs, or comes twice, is.
        self.t.equal(datagrams.popen.returncode, 0, f"datagrams: {datagrams.text()[-300:]}")
        self.rounds += 1

    # -- outages ---------------------------------------------------------------------------------------------------------

    def outage(self):
        kind = self.t.random.choice(("server stopped", "client stopped", "server killed", "client killed", "path gone", "nothing"))
        self.marks.append((self.second(), kind))
        pause = self.t.random.uniform(0.1, 1.5) * self.keepalive
        if kind.endswith("stopped"):
            end = self.server if kind.startswith("server") else self.client
            end.signal(signal.SIGSTOP)
            time.sleep(pause)
            end.signal(signal.SIGCONT)
        elif kind == "server killed":
            self.server.kill()
            time.sleep(pause)
            self.start_server()
        elif kind == "client killed":
            self.client.kill()
            self.t.wait(lambda: "burin0" not in ip("-o", "link"), 10, "the device goes")
            self.start_client()
        elif kind == "path gone":
            # The kernel drops what goes to the server, and says nothing.
            ip("route", "add", "blackhole", "192.0.2.1/32")
            time.sleep(2 * pause)
            ip("route", "del", "blackhole", "192.0.2.1/32")

    # -- what is seen ----------------------------------------------------------------------------------------------------

    def watch(self):
        while not self.stopping.wait(1):
            sample = {"second": round(self.second(), 1)}
            for name, end in (("client", self.client), ("server", self.server)):
                try:
                    sample[name] = {"pss": end.pss(), "descriptors": end.descriptors()}
                except (OSError, harness.Failed):
                    sample[name] = None  # not there just now
            with self.lock:
                self.samples.append(sample)

    def look(self, what):
        """Both ends at rest."""
        t = self.t
        self.connected()
        kept = {}
        for name, end in (("client", self.client), ("server", self.server)):
            text = report.wait_idle(t, end, 60)
            t.wait(lambda end=end: harness.settled(end), 60, f"descriptors of the {name} settle")
            kept[name] = {**report.kept(text), "descriptors": end.descriptors(), "pss": end.pss(), "pid": end.pid}
        kept["second"], kept["what"] = round(self.second(), 1), what
        self.looks.append(kept)
        return kept

    def compare(self, first, last):
        t = self.t
        for name in ("client", "server"):
            t.check(last[name]["descriptors"] <= first[name]["descriptors"] + 2, f"descriptors of the {name}: {first[name]} {last[name]}")
            t.check(last[name]["timers"] <= first[name]["timers"], f"timers of the {name}: {first[name]} {last[name]}")
            t.wait(lambda name=name: report.kept(report.report(getattr(self, name)))["free for growth"] == first[name]["free for growth"],
                   60, lambda name=name: f"the budget of the {name} is whole: {first[name]} {report.kept(report.report(getattr(self, name)))}")
        grown = sum(last[name]["pss"] - first[name]["pss"] for name in ("client", "server"))
        t.check(t.sanitized or grown <= GROWTH, f"memory of both ends grew by {grown / MIB:.1f} MiB: {first} {last}")

    def write(self):
        os.makedirs(OUT, exist_ok=True)
        with self.lock:
            samples = list(self.samples)
        end = self.second()
        with open(os.path.join(OUT, "soak.json"), "w") as f:
            json.dump({"seconds": round(end, 1), "seed": self.t.seed, "rounds": self.rounds, "bytes": self.bytes, "outcomes": self.outcomes,
                       "outages": [{"second": round(at, 1), "what": what} for at, what in self.marks], "at rest": self.looks,
                       "samples": samples}, f, indent=1)

        def line(name, what, scale):
            return (name, [(s["second"], s[name][what] / scale if s[name] else None) for s in samples])
        panels = [("memory (Pss), MiB", [line(name, "pss", MIB) for name in ("client", "server")]),
                  ("descriptors", [line(name, "descriptors", 1) for name in ("client", "server")])]
        note = (f"{self.rounds} rounds, {self.bytes / 1e9:.1f} GB, flows: " +
                ", ".join(f"{count} {outcome}" for outcome, count in sorted(self.outcomes.items())) + f"; seed {self.t.seed}")
        with open(os.path.join(OUT, "soak.svg"), "w") as f:
            f.write(line_chart.draw("Soak", note, panels, end, self.marks))
        return note


@test("Z.soak", seconds=SECONDS + 900, long=True, exclusive=True)
def soak(t):
    s = Soak(t)
    s.start_server()
    w = s.world
    w.destination()
    echo = t.start("echo", w.there("cloud", datagrams_program(t), "echo", FAR, "7001"))
    echo.wait_line("listening", 10)
    s.start_client()
    watcher = threading.Thread(target=s.watch, daemon=True)
    watcher.start()
    try:
        s.round(min(ROUND, SECONDS / 3), outages=False)
        first = s.look("after the first round")
        outages = False
        while s.second() < SECONDS:
            outages = not outages
            s.round(min(ROUND, max(10.0, SECONDS - s.second())), outages)
            last = s.look("after outages" if outages else "after a quiet round")
            s.compare(first, last)
            print(f"soak: {s.second():.0f} of {SECONDS:.0f} s, {s.bytes / 1e9:.1f} GB, {s.outcomes}", flush=True)
    finally:
        s.stopping.set()
        watcher.join()
        note = s.write()
    t.note(f"{note}; {OUT}/soak.svg")
