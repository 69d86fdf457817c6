"""A host behind the gateway, over a link with delay and loss (bench_lan_link), and who is measured across it.

    host 10.60.0.2 ==bench_lan_link== 10.60.0.1 gate (burin client, kernel's servers) --veth-- cloud (burin server, server)
"""

import json
import os
import select
import subprocess
import time

from . import peers as kinds
from .measure import Bench
from .space import DESTINATIONS, Trouble

HOST, GATE_ON_LAN = "10.60.0.2", "10.60.0.1"
KERNEL_PORTS = {"cubic": 7001, "bbr": 7002}  # of the servers on the gateway
SETTLE_SECONDS = 0.3  # after a transfer, beside the round trip: what is under way belongs to it


class Path:
    """What a link is like. Round trip and loss are those of both directions: half the delay and the loss on each."""

    def __init__(self, name, round_trip_ms, mib, *options):
        self.name = name
        self.round_trip_ms = round_trip_ms
        self.mib = mib  # of one transfer: some seconds of the kernel's cubic
        self.options = ["--delay", f"{round_trip_ms / 2:g}ms", *options]

    def text(self):
        return " ".join(self.options)


PATHS = (
    Path("20 ms, 0.1 % loss", 20, 32, "--loss", "0.1%", "--rate", "500M", "--queue", "1250K"),
    Path("10 ms, 0.5 % loss, 0.5 % reordering, 200 Mbit/s", 10, 16, "--loss", "0.5%", "--reorder", "0.5%",
         "--reorder-delay", "1ms", "--rate", "200M", "--queue", "250K"),
    Path("20 ms, 1 % loss", 20, 8, "--loss", "1%", "--rate", "500M", "--queue", "1250K"),
    Path("200 ms, 1 % loss", 200, 1, "--loss", "1%", "--rate", "100M", "--queue", "2500K"),
)


class Link:
    """A running bench_lan_link between host and gate, with their addresses."""

    def __init__(self, space, program, path, seed):
        self.space, self.path = space, path
        ends = [f"{space.name(role)}:{device}" for role, device in (("host", "eth0"), ("gate", "lan0"))]
        self.process = space.start("host", [program, *ends, *path.options, "--seed", str(seed)], log="link.log",
                                   stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        for role, device, address in (("host", "eth0", HOST), ("gate", "lan0", GATE_ON_LAN)):
            space.wait_for_link(role, device, self.process, "link.log")
            space.ip(role, "addr", "add", f"{address}/24", "dev", device)
        space.ip("host", "route", "add", "default", "via", GATE_ON_LAN)

    def restart(self, seed):
        """The fates of this seed begin; returns the statistics until now."""
        time.sleep(SETTLE_SECONDS + 2e-3 * self.path.round_trip_ms)
        self.process.stdin.write(f"seed {seed}\n".encode())
        self.process.stdin.flush()
        readable, _, _ = select.select([self.process.stdout], [], [], 10)
        line = self.process.stdout.readline() if readable else b""
        try:
            return json.loads(line)
        except ValueError as error:
            raise Trouble(f"the link says nothing: {self.space.log_text('link.log').strip()[-300:]}") from error

    def stop(self):
        self.space.stop(self.process)


class KernelServer(kinds.Peer):
    """The gateway's own TCP at the other end of the link."""

    def __init__(self, space, congestion):
        super().__init__(space, "pair")
        self.name = f"kernel, {congestion}"
        self.congestion = congestion
        self.load_from = "host"

    def start(self):
        self.entry = (GATE_ON_LAN, KERNEL_PORTS[self.congestion])


class BurinLan(kinds.BurinTun):
    """The TUN of `burin client` on the gateway, the server behind `burin server`."""

    def __init__(self, space, congestion, *words):
        super().__init__(space, "pair", *words)
        self.name = "burin TUN"
        self.congestion = congestion
        self.load_from = "host"


class BurinLanBbr(BurinLan):
    """The same beside it, with a device of its own, whose terminator follows BBR."""

    server_port = 7112
    device = "burin1"
    address = "10.97.3.1/30"
    destination = DESTINATIONS[2]

    def __init__(self, space, congestion, *words):
        super().__init__(space, congestion, *words)
        self.name = "burin TUN, bbr"
        self.client_options += ["--tun-congestion", "bbr"]


class LanBench(Bench):
    """Transfers of a fixed size, so that each peer meets the same fates in the same order."""

    def serve(self, topology):
        if topology in self._servers:
            return
        super().serve(topology)
        space = self.space
        space.namespace("host")
        for role in ("host", "gate"):
            # What one connection learned about the path would be the next one's starting point.
            space.sysctl(role, "net.ipv4.tcp_no_metrics_save", "1")
        space.sysctl("gate", "net.ipv4.ip_forward", "1")
        for congestion, port in KERNEL_PORTS.items():
            log = f"serve-{congestion}.log"
            process = space.start("gate", [self.load_binary, "serve", "0.0.0.0", str(port), "--congestion", congestion], log=log)
            space.wait_for_port("gate", port, process, log)

    def transfer(self, link, peer, direction, seed):
        """One transfer over a fresh link; its rate in Mbit/s and what the link did."""
        link.restart(seed)
        answer = self.load(peer, direction, "--bytes", int(link.path.mib * (1 << 20)), "--timeout", 60, timeout=300)
        told = link.restart(seed)
        for way in ("up", "down"):
            for fault in ("missed", "overruns", "oversize", "refused"):
                if told[way][fault]:
                    self.say(f"the link was no honest one: {fault} {told[way][fault]} ({way})")
        return {"mbit": answer["gbit_per_second"] * 1000, "seconds": answer["seconds"], "link": told}


def needs(program):
    if not os.access(program, os.X_OK):
        raise Trouble(f"{program} is missing: cmake --build --preset release builds it")
