"""A narrow, long path with a FIFO in front of it, between the two ends of a tunnel: what a byte waits there beside bulk both ways.

    host 10.60.0.2 (load, client) ==bench_lan_link, 100 Mbit/s, 40 ms, a FIFO of 128 KiB each way== 10.60.0.1 gate (server, destination)
"""

import json
import subprocess
import time

from . import lan
from . import peers as kinds
from .measure import BULK_STREAMS_BESIDE, Bench
from .space import DESTINATIONS, Trouble

PATH = lan.Path("narrow", 40, 0, "--rate", "100M", "--queue", "131072")
SECONDS = 6  # of bulk: slow start and the first losses are the first of them
WARM_UP = 2


class AcrossTheLine:
    """A peer whose near end is the host and whose far end is the gateway."""

    def place(self):
        self.topology, self.near, self.load_from, self.far = "line", "host", "host", "gate"
        self.server_host = lan.GATE_ON_LAN


class Direct(AcrossTheLine, kinds.Direct):
    def __init__(self, space):
        super().__init__(space)
        self.place()


class Port(AcrossTheLine, kinds.Burin):
    def __init__(self, space, *words):
        super().__init__(space, "loopback", *words)
        self.place()


class Tun(AcrossTheLine, kinds.BurinTun):
    def __init__(self, space, *words):
        super().__init__(space, "pair", *words)
        self.place()


class SecureShellPort(AcrossTheLine, kinds.SecureShellPort):
    def __init__(self, space):
        super().__init__(space)
        self.place()


class NarrowBench(Bench):
    def __init__(self, space, load_binary, link_binary, settings, say):
        super().__init__(space, load_binary, settings, say)
        self.link_binary = link_binary

    def lay(self):
        """The namespaces, the line between them and the far end of the load."""
        space = self.space
        for role in ("host", "gate"):
            space.namespace(role)
            space.sysctl(role, "net.ipv4.tcp_no_metrics_save", "1")
        self.link = lan.Link(space, self.link_binary, PATH, 1)
        if space.ip("gate", "addr", "show", "to", DESTINATIONS[1]).stdout.strip() == "":
            space.ip("gate", "addr", "add", f"{DESTINATIONS[1]}/32", "dev", "lo")
        process = space.start("gate", [self.load_binary, "serve", "0.0.0.0", str(kinds.LOAD_PORT), "--congestion", self.settings.congestion],
                              log="serve-line.log")
        space.wait_for_port("gate", kinds.LOAD_PORT, process, "serve-line.log")
        self._servers["line"] = process

    def end(self):
        self.link.stop()

    def round_trips_beside_bulk(self, group, peers):
        def measure(peer, pair):
            bulk = self.space.start(peer.load_from, self.command(peer, "both", "--streams", BULK_STREAMS_BESIDE, "--seconds", SECONDS, "--timeout", 60),
                                    stdout=subprocess.PIPE)
            time.sleep(WARM_UP)
            try:
                answer = self.load(peer, "rtt", "--count", 100000, "--seconds", SECONDS - WARM_UP)
                told = json.loads(bulk.communicate(timeout=90)[0] or "{}")
            except (subprocess.TimeoutExpired, ValueError) as error:
                raise Trouble(f"the bulk streams did not end: {error}") from error
            finally:
                self.space.stop(bulk)
            self.link.restart(1)
            for share in ("p50", "p99"):
                self.add(group, f"{group} {share}", "ms", peer, pair, answer[f"{share}_us"] / 1000)
            for way in ("up", "down"):
                self.add(group, f"{group} bulk {way}", "Mbit/s", peer, pair, told.get(f"bytes_{way}", 0) * 8e-6 / max(told.get("seconds", 0), 1e-9))
            return (f"p50 {answer['p50_us'] / 1000:6.1f} ms  p99 {answer['p99_us'] / 1000:6.1f} ms beside "
                    f"{told.get('gbit_per_second', 0) * 1e3:.0f} Mbit/s both ways together")
        self.take_turns(peers, [(group, measure)])
