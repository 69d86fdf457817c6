"""IPv6 and ICMP through the TUN: the world of test_tun.py with IPv6 addresses beside the others.

    lan fd00:5::2 ---- fd00:5::1 gateway ---- cloud, fd00:77::1 (destinations)
                       burin0 fd00:9::1/64, route fd00:77::/64

The session itself stays on IPv4.
"""

import errno
import os
import re
import select
import socket
import struct
import time

import harness
from harness import Failed, test
from test_tun import DEVICE, FAR, HOSTS, MIB, World, ip, last_report

FAR6 = "fd00:77::1"
FARS = {4: FAR, 6: FAR6}
ECHO = {4: (8, 0), 6: (128, 129)}  # request, reply
UNREACHABLE = {4: 3, 6: 1}
ICMP = {4: socket.IPPROTO_ICMP, 6: socket.IPPROTO_ICMPV6}
FAMILY = {4: socket.AF_INET, 6: socket.AF_INET6}


class World6(World):
    def __init__(self, t, *routes):
        super().__init__(t, *routes)
        with open("/proc/sys/net/ipv6/conf/all/forwarding", "w") as f:
            f.write("1")
        ip("-6", "addr", "add", "fd00:5::1/64", "dev", "local", "nodad")
        self.command("lan", "ip", "-6", "addr", "add", "fd00:5::2/64", "dev", "eth0", "nodad")
        self.command("lan", "ip", "-6", "route", "add", "default", "via", "fd00:5::1")
        self.command("cloud", "ip", "-6", "addr", "add", f"{FAR6}/128", "dev", "lo", "nodad")

    def client(self, *flags, **more):
        process = super().client(*flags, **more)
        self.t.wait(lambda: re.search(rf" {DEVICE}: <[^>]*\bUP\b", ip("-o", "link")), 10, "the device, and that it is up")
        ip("-6", "addr", "add", "fd00:9::1/64", "dev", DEVICE, "nodad")
        ip("-6", "route", "add", "fd00:77::/64", "dev", DEVICE)
        # The kernel takes an address as its own a moment after it lets packets leave with it: an answer before that is forwarded.
        self.t.wait(lambda: "local fd00:9::1 " in ip("-6", "route", "show", "table", "local"), 10, "the device's address is the gateway's own")
        return process

    def destination(self, *flags, port=7000):
        process = self.t.start("destination", self.there("cloud", self.t.peer, "load", "server", "--listen", f"[::]:{port}", *flags))
        process.wait_line("listening", 15 * self.t.patience)
        return process

    def load6(self, name, mode, *flags, **more):
        return self.load(name, mode, *flags, host=f"[{FAR6}]", **more)

    def listen6(self, port):
        with self.inside("cloud"):
            s = socket.socket(socket.AF_INET6)
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            s.bind((FAR6, port))
            s.listen(128)
            s.settimeout(15 * self.t.patience)
            self.t.sockets.append(s)
            return s

    def flow6(self, name, listener):
        s = self.connect(name, listener.getsockname()[1], FAR6)
        s.sendall(b"x" * 1000)
        peer, address = listener.accept()
        self.t.sockets.append(peer)
        harness.receive_exactly(peer, 1000)
        self.t.equal(address[0], FAR6, "where the destination was reached from")
        return s, peer

    def raw(self, name, version, protocol=None):
        with self.inside(name):
            s = socket.socket(FAMILY[version], socket.SOCK_RAW, ICMP[version] if protocol is None else protocol)
            self.t.sockets.append(s)
            return s


def checksum(data):
    data += b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def request(version, number, data):
    kind = ECHO[version][0]
    message = struct.pack("!BBHHH", kind, 0, 0, os.getpid() & 0xFFFF, number) + data
    if version == 4:  # IPv6's is the kernel's to fill in
        message = message[:2] + struct.pack("!H", checksum(message)) + message[4:]
    return message


def messages(s, version, seconds):
    """ICMP messages that come in, as (source, message)."""
    end = time.monotonic() + seconds
    while select.select([s], [], [], max(0, end - time.monotonic()))[0]:
        packet, address = s.recvfrom(70000)
        yield address[0], packet[(packet[0] & 15) * 4:] if version == 4 else packet
    raise Failed(f"no answer within {seconds} s")


def ping(t, s, version, number, size=56, hops=None, to=None):
    """Sends an echo request; returns who answered and with what type (and code, when it is an error)."""
    data = bytes((i * 7 + number) & 0xFF for i in range(size))
    if hops is not None:
        hop_limit(s, version, hops)
    s.sendto(request(version, number, data), (to or FARS[version], 0))
    ours = struct.pack("!HH", os.getpid() & 0xFFFF, number)
    for source, message in messages(s, version, 15 * t.patience):
        kind = message[0]
        if kind == ECHO[version][1] and message[4:8] == ours:
            t.check(message[8:] == data, f"an echo of {size} bytes came back changed")
            return source, kind
        if kind in ((11,) if version == 4 else (3,)) and ours in message[8:]:
            return source, kind
        if kind == UNREACHABLE[version] and ours in message[8:]:
            return source, kind, message[1]
    return None


@test("U6.both_ways", seconds=120)
def both_ways(t):
    w = World6(t)
    w.server()
    w.destination()
    client = w.client("-v")
    size = (4 if t.sanitized else 64) * MIB
    w.load6("gateway", "up", "--bytes", size, "--seed", t.seed & 0xFFFF, ok=1)
    w.load6("gateway", "down", "--bytes", size, "--seed", t.seed & 0xFFFF, ok=1)
    report = last_report(client)
    for way in ("read", "write"):  # superframes, both ways
        mean = int(report.split(f"tun: {way}: ")[1].split("mean=")[1].split()[0])
        t.check(mean > 8000, f"{way}: {mean} bytes a frame")
    w.load6("lan", "up", "--bytes", size, "--seed", t.seed & 0xFFFF, ok=1)
    w.load6("lan", "down", "--bytes", size, "--seed", t.seed & 0xFFFF, ok=1)
    for name in HOSTS:
        w.load6(name, "both", "--bytes", size, "--seed", t.seed & 0xFFFF, ok=1)
        w.load6(name, "echo", "--bytes", 256 * 1024, "--half-close", "--connections", 50, ok=50)
        w.load(name, "both", "--bytes", MIB, "--connections", 4, ok=4)  # IPv4 beside it
    client.wait_line(r"tun: conn#1: Open \[fd00:77::1\]:7000")
    report = last_report(client)
    t.check("errors=0" in report and " checksum" not in report, f"the report of the queue: {report}")


@test("U6.through_a_go_server", seconds=120)
def go_server(t):
    w = World6(t)
    w.server("--message-limit", "524288", kind="go")
    w.destination()
    w.client()
    for name in HOSTS:
        w.load6(name, "both", "--bytes", 8 * MIB, "--connections", 4, ok=4)
        t.equal(w.refused(name, 7999, FAR6), "ECONNREFUSED", f"a closed port ({name})")


@test("U6.ends_tell_the_truth", seconds=90)
def ends(t):
    w = World6(t)
    server, client, listener = w.server(), w.client(), w.listen6(7100)
    for name in HOSTS:
        t.equal(w.refused(name, 7999, FAR6), "ECONNREFUSED", f"a closed port ({name})")
        s, peer = w.flow6(name, listener)
        harness.reset(peer)
        t.equal(harness.ended_how(s)[0], "reset", f"the destination resets ({name})")
        s, peer = w.flow6(name, listener)
        s.shutdown(socket.SHUT_WR)
        t.equal(harness.ended_how(peer), ("eof", b""), f"the application ends its half ({name})")
        peer.sendall(b"y" * 100_000)
        peer.close()
        t.equal(harness.ended_how(s), ("eof", b"y" * 100_000), f"the other half ({name})")
    pairs = [w.flow6(name, listener) for name in HOSTS]
    server.kill()
    t.equal([harness.ended_how(s)[0] for pair in pairs for s in pair], ["reset"] * 4, "the server is killed")
    client.wait_line(r"\[fd00:77::1\]:7999: Stream error: .*refused", 10, 2)


@test("U6.echo", seconds=90)
def echo(t):
    w = World6(t)
    server, client = w.server(), w.client()
    number = 0
    raws = {(name, version): w.raw(name, version) for name in HOSTS for version in (4, 6)}
    for (name, version), s in raws.items():
        for size in (0, 56, 1400, 4000, 9000):  # the last two in fragments, there and back
            number += 1
            t.equal(ping(t, s, version, number, size), (FARS[version], ECHO[version][1]), f"an echo of {size} bytes ({name})")
    report = last_report(client)
    t.check(" reassembled=8 " in report and " waiting=0 bytes=0 " in report, f"fragments: {report}")
    t.check(" echo-replies=0 " in report and " carried=20 answered=20 " in report, f"echoes: {report}")
    for (name, version), s in raws.items():
        s.sendto(request(version, 0, bytes(60_000)), (FARS[version], 0))
    t.wait(lambda: " too-long=4 " in last_report(client), 20, "echoes of more data than is carried are counted")
    # Nobody answers for what cannot be reached.
    server.kill()
    client.wait_line("Disconnected", 20 * t.patience)
    for (name, version), s in raws.items():
        number += 1
        s.sendto(request(version, number, b""), (FARS[version], 0))
    t.wait(lambda: " echoes-unanswered=4 " in last_report(client), 20, "echoes without a session are counted")
    w.server()
    client.wait_line("Connected", 20 * t.patience, 2)
    for (name, version), s in raws.items():
        number += 1
        # Whatever was late would answer with another number, and is not taken for this one.
        t.equal(ping(t, s, version, number), (FARS[version], ECHO[version][1]), f"an echo over the next session ({name})")


def hop_limit(s, version, hops):
    level, name = (socket.IPPROTO_IP, socket.IP_TTL) if version == 4 else (socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS)
    s.setsockopt(level, name, hops)


def probe(t, w, name, version, mode, hops):
    """One probe of a trace, as traceroute sends it (-I, -U, -T): who answered, and with what."""
    heard = w.raw(name, version)
    if mode == "icmp":
        return ping(t, heard, version, 100 + hops, hops=hops)
    with w.inside(name):
        s = socket.socket(FAMILY[version], socket.SOCK_DGRAM if mode == "udp" else socket.SOCK_STREAM)
    t.sockets.append(s)
    hop_limit(s, version, hops)
    port = 33433 + hops
    s.setblocking(False)
    s.bind(("", 0))
    if mode == "udp":
        s.sendto(b"where are you", (FARS[version], port))
    else:
        s.connect_ex((FARS[version], port))
    quote = struct.pack("!HH", s.getsockname()[1], port)
    end = time.monotonic() + 15 * t.patience
    while time.monotonic() < end:
        if mode == "tcp" and select.select([], [s], [], 0)[1]:
            error = s.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if error in (0, errno.ECONNREFUSED):
                return FARS[version], "refused" if error else "connected"
        if select.select([heard], [], [], 0.02)[0]:
            packet, address = heard.recvfrom(70000)
            message = packet[(packet[0] & 15) * 4:] if version == 4 else packet
            if quote in message[8:]:
                return address[0], (message[0], message[1])
    raise Failed(f"{name}, IPv{version}, {mode}: nobody answers to a probe of {hops} hops")


@test("U6.traceroute", seconds=90)
def traceroute(t):
    """From the LAN: the gateway, then the destination. The tunnel between them is no hop; and every probe has an answer."""
    w = World6(t)
    w.server()
    client = w.client()
    exceeded = {4: (11, 0), 6: (3, 0)}
    for version, gateway in ((4, "10.5.0.1"), (6, "fd00:5::1")):
        last = {"icmp": ECHO[version][1], "udp": (3, 3) if version == 4 else (1, 4), "tcp": "refused"}
        for mode, answer in last.items():
            first = (gateway, exceeded[version] if mode != "icmp" else exceeded[version][0])
            t.equal(probe(t, w, "lan", version, mode, 1), first, f"the first hop, IPv{version}, {mode}")
            t.equal(probe(t, w, "lan", version, mode, 2), (FARS[version], answer), f"the second hop, IPv{version}, {mode}")
            # The gateway is its own first router.
            t.equal(probe(t, w, "gateway", version, mode, 1), (FARS[version], answer), f"from the gateway, IPv{version}, {mode}")
    t.check(client.alive(), "the client")


@test("U6.other_protocols", seconds=60)
def other_protocols(t):
    w = World6(t)
    w.server()
    client = w.client()
    for name in HOSTS:
        for version, kind, code in ((4, 3, 2), (6, 4, 1)):
            heard, s = w.raw(name, version), w.raw(name, version, 253)  # for experiments (RFC 3692)
            s.sendto(b"nobody carries this", (FARS[version], 0))
            for source, message in messages(heard, version, 15 * t.patience):
                if message[0] == kind:
                    break
            t.equal((source, message[1]), (FARS[version], code), f"who tells of it ({name})")
            quoted = message[8:]
            t.check(b"nobody carries this" in quoted, f"what is quoted: {quoted}")
            if version == 6:
                t.equal(struct.unpack("!I", message[4:8])[0], 6, "where the protocol is named")
    t.check(" errors-sent=4 " in last_report(client), "errors are counted")


@test("U6.path_mtu", seconds=120)
def path_mtu(t):
    """A narrow link behind the gateway, of which the host's segment size knows nothing: the gateway's kernel tells us.
    With two workers it tells the queue that its messages' addresses lead to, whichever has the flow."""
    w = World6(t)
    for name in ("ipv4/icmp_ratelimit", "ipv6/icmp/ratelimit"):
        with open(f"/proc/sys/net/{name}", "w") as f:
            f.write("0")
    w.server("--workers", "2")
    w.destination()
    size = (1 if t.sanitized else 8) * MIB
    ip("link", "set", "local", "mtu", "1300")
    for workers in (1, 2):
        client = w.client("--workers", workers, connected=False, name=f"burin-client-{workers}")
        client.wait_line("Connected", 15 * t.patience, workers)
        for version, load in ((4, w.load), (6, w.load6)):
            before = too_big(client, workers)
            load("lan", "down", "--bytes", size, "--connections", 8, ok=8)
            t.check(too_big(client, workers) > before, f"nobody told of the narrow link (IPv{version}, {workers} workers)")
        client.kill()
        t.wait(lambda: DEVICE not in ip("-o", "link"), 10, "the device goes")


def too_big(client, workers):
    """How often a flow was told of a smaller MTU, on all workers."""
    report = last_report(client)
    client.wait_line(rf"worker {workers - 1}: tun: dropped:", 10, report.count("worker 0: tun: dropped:") or 1)
    lines = [line for line in client.text().splitlines() if "tun: icmp:" in line][-workers:]
    return sum(int(line.split("too-big=")[1].split()[0]) for line in lines)
