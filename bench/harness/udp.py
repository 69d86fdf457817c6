"""Datagrams at a steady rate from the gateway to an echo (bench_datagrams), and who carries them.

    gate (bench_datagrams run, burin client) --veth-- cloud (burin server, bench_datagrams echo)
"""

import json
import os
import signal
import subprocess
import time

from . import peers as kinds
from .measure import Bench
from .peers import LOAD_PORT
from .space import Trouble, cpu_seconds

ECHO_PORT = 7001
SETTLE_SECONDS = 0.5  # between a bulk stream's start and the datagrams beside it; for a report to be written


class DirectUdp(kinds.Direct):
    """The same two namespaces and the same veth pair, without a tunnel."""

    def __init__(self, space):
        super().__init__(space, "pair")

    def start(self):
        super().start()
        self.udp_entry = (self.server_host, ECHO_PORT)


class PortUdp(kinds.Burin):
    """A forwarded UDP port, and a TCP port beside it."""

    name = "burin port"

    def __init__(self, space, *words):
        super().__init__(space, "pair", *words)

    def start(self):
        fingerprint = self.start_server()
        client = self.start_client(fingerprint, remotes=[
            f"127.0.0.1:{self.entry_port}:{self.target}:{LOAD_PORT}",
            f"127.0.0.1:{self.entry_port}:{self.target}:{ECHO_PORT}/udp"])
        self.space.wait_for_port(self.near, self.entry_port, client, self.log("client"))
        self.entry = self.udp_entry = ("127.0.0.1", self.entry_port)


class TunUdp(kinds.BurinTun):
    name = "burin TUN"

    def __init__(self, space, *words):
        super().__init__(space, "pair", *words)

    def start(self):
        super().start()
        self.udp_entry = (self.destination, ECHO_PORT)


class UdpBench(Bench):
    def __init__(self, space, load_binary, datagrams_binary, settings, say):
        super().__init__(space, load_binary, settings, say)
        self.datagrams_binary = datagrams_binary
        self.echo = None

    def serve(self, topology):
        super().serve(topology)
        if self.echo is None:
            self.echo = self.space.start("cloud", [self.datagrams_binary, "echo", "0.0.0.0", str(ECHO_PORT)], log="echo.log")
            self.space.wait_until(lambda: "listening" in self.space.log_text("echo.log"), self.echo, "the echo does not listen", "echo.log")

    def datagrams(self, peer, flows, rate=None, size=None, train=None):
        host, port = peer.udp_entry
        near, far = cpu_seconds(peer.client), cpu_seconds(peer.server)
        status, out, err = self.space.output(peer.load_from, [
            self.datagrams_binary, "run", host, str(port), "--rate", str(rate or self.settings.rate), "--flows", str(flows), "--bytes",
            str(size or self.settings.bytes), "--train", str(train or self.settings.train), "--seconds", str(self.settings.seconds)],
            timeout=60 + 3 * self.settings.seconds)
        if status != 0 or not out.strip():
            raise Trouble(f"{peer.name}: {flows} flows: {err.strip()[-300:]} {out.strip()[-300:]}")
        told = json.loads(out.strip().splitlines()[-1])
        carried = max(1, told["arrived"] + told["returned"])
        told["client_us"] = 1e6 * (cpu_seconds(peer.client) - near) / carried
        told["server_us"] = 1e6 * (cpu_seconds(peer.server) - far) / carried
        return told

    def report(self, peers):
        """What both ends count, drops by their reasons among it, into their logs."""
        for peer in peers:
            for pid in peer.client + peer.server:
                os.kill(pid, signal.SIGUSR2)
        time.sleep(SETTLE_SECONDS)

    def add_datagrams(self, group, peer, pair, told):
        for measure, unit, value in (
                ("offered", "1/s", told["per_second"]), ("arrived there", "%", 100 * told["arrived_share"]),
                ("of these back", "%", 100 * told["returned_share"]), ("round trip p50", "us", told["p50_us"]),
                ("round trip p99", "us", told["p99_us"]), ("client CPU", "us a datagram", told["client_us"]),
                ("server CPU", "us a datagram", told["server_us"])):
            self.add(group, f"{group} {measure}", unit, peer, pair, value)
        return (f"{told['per_second']:7.0f}/s  {100 * told['arrived_share']:6.2f} % there, {100 * told['returned_share']:6.2f} % back  "
                f"p50 {told['p50_us']:6} us  p99 {told['p99_us']:6} us  CPU {told['client_us']:.2f} + {told['server_us']:.2f} us")

    def steady(self, peers):
        def step(flows):
            def measure(peer, pair):
                return self.add_datagrams(f"flows {flows}", peer, pair, self.datagrams(peer, flows))
            return measure
        self.take_turns(peers, [(f"{flows} flow{'s' if flows > 1 else ''}", step(flows)) for flows in self.settings.flows])

    def sizes(self, peers, rate, sizes):
        """One flow of so many a second, of each size."""
        def step(size):
            def measure(peer, pair):
                return self.add_datagrams(f"udp {size} B", peer, pair, self.datagrams(peer, 1, rate, size, 1))
            return measure
        self.take_turns(peers, [(f"{rate} datagrams of {size} B", step(size)) for size in sizes])

    def datagrams_beside_bulk(self, peers):
        """One TCP stream alone, and with the datagrams beside it in the same tunnel."""
        def measure(peer, pair):
            seconds = self.settings.seconds
            alone = self.load(peer, "up", "--seconds", seconds)["gbit_per_second"]
            bulk = self.space.start(peer.load_from, self.command(peer, "up", "--seconds", seconds + 2 * SETTLE_SECONDS),
                                    stdout=subprocess.PIPE)
            time.sleep(SETTLE_SECONDS)
            try:
                told = self.datagrams(peer, 1)
                beside = json.loads(bulk.communicate(timeout=60)[0] or "{}").get("gbit_per_second", 0)
            except (subprocess.TimeoutExpired, ValueError) as error:
                raise Trouble(f"the bulk stream did not end: {error}") from error
            finally:
                self.space.stop(bulk)
            text = self.add_datagrams("beside bulk", peer, pair, told)
            self.add("beside bulk", "beside bulk TCP alone", "Gbit/s", peer, pair, alone)
            self.add("beside bulk", "beside bulk TCP then", "Gbit/s", peer, pair, beside)
            return f"{text}; TCP {alone:.2f}, then {beside:.2f} Gbit/s"
        self.take_turns(peers, [("beside a bulk stream", measure)])
