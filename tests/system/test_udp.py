"""UDP: forward remotes between every pair of ends, their octets, bounds and ends (docs/wire.md section 9), and the UDP of
hosts behind a TUN (test_tun.py draws the ground)."""

import os
import re
import signal
import socket
import threading
import time

import test_tun
from harness import ROOT, Failed, last_json, test
from test_tun import FAR, HOSTS, World
from test_tun6 import FAMILY, FAR6, FARS, World6

MAX = 9012
UDP_SEGMENT = 103
SIZES = (0, 1, 5, 127, 128, 255, 256, 1200, 1472, 4000, 9011, MAX)
DEFINITION = bytes.fromhex("2a7f03010109") + b"udpPacket" + bytes.fromhex("01ff80000102010353726301" "0c000107") + b"Payload" \
    + bytes.fromhex("010a000000")
# The same stream by encoders of Go up to 1.19, which give the first type the number 65.
OLDER = {DEFINITION: bytes.fromhex("2bff81") + DEFINITION[2:].replace(b"\xff\x80", b"\xff\x82"), b"\xff\x80\x01": b"\xff\x82\x01"}


class Echo:
    """A UDP destination: `answer` makes what goes back of what came; None: nothing does."""

    def __init__(self, t, port, host="127.0.0.1", answer=lambda data: data):
        self.socket = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        self.socket.bind((host, port))
        self.answer, self.port = answer, port
        self.received, self.sources, self.last = [], set(), None
        t.sockets.append(self.socket)
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        try:
            while True:
                data, source = self.socket.recvfrom(70000)
                self.received.append(data)
                self.sources.add(source)
                self.last = source
                back = self.answer(data)
                if back is not None:
                    self.socket.sendto(back, source)
        except OSError:
            return  # the test is over


def client_socket(t, port=None, host="127.0.0.1", family=socket.AF_INET):
    s = socket.socket(family, socket.SOCK_DGRAM)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
    if port:
        s.bind((host, port))
    s.settimeout(10 * t.patience)
    t.sockets.append(s)
    return s


def ask(t, s, where, data, what="an answer"):
    s.sendto(data, where)
    try:
        return s.recv(70000)
    except socket.timeout:
        raise Failed(f"{what} of {len(data)} bytes did not come") from None


def ask_until(t, s, where, data, seconds=15):
    """Asks until there is an answer: the first datagrams may be lost."""
    s.settimeout(0.3)
    end = time.monotonic() + seconds * t.patience
    while time.monotonic() < end:
        s.sendto(data, where)
        try:
            if s.recv(70000) == data:
                s.settimeout(10 * t.patience)
                return
        except (socket.timeout, ConnectionRefusedError):
            pass
    raise Failed("no answer")


def report(process, count, name="datagrams"):
    """The counters of a report, `count`: how many there have been then."""
    process.signal(signal.SIGUSR2)
    process.wait_line(r"datagrams: dropped:.*\n", 10, count)
    lines = [line for line in process.text().splitlines() if f": {name}" in line]
    return dict(re.findall(r"([\w-]+)=(\d+)", " ".join(lines[-2:])))


def pairs(t):
    """(server kind, client kind) and how to start them."""
    def go_server(*flags):
        return t.go_server("-v", *flags)

    def go_client(port, *remotes):
        client = t.go_client(port, *remotes)
        client.wait_line("udp channel open", 10 * t.patience, len(remotes))
        return client

    return {"own and own": (t.server, t.client), "Go's server": (go_server, t.client), "Go's client": (t.server, go_client)}


@test("R5.forward_sizes", seconds=120)
def forward_sizes(t):
    for what, (server, client) in pairs(t).items():
        echo = Echo(t, t.port())
        local = t.port()
        s, c = server(), None
        c = client(s.port, f"127.0.0.1:{local}:127.0.0.1:{echo.port}/udp")
        sock = client_socket(t)
        for size in SIZES:
            data = t.random.randbytes(size)
            t.equal(ask(t, sock, ("127.0.0.1", local), data, what), data, f"{what}: {size} bytes")
        for size in (MAX + 1, 20000, 65507):
            data = t.random.randbytes(size)
            t.check(ask(t, sock, ("127.0.0.1", local), data, what) == data[:MAX], f"{what}: {size} bytes are cut to {MAX}")
            t.equal(len(echo.received[-1]), MAX, f"{what}: what the destination sees")
        # And on the way back.
        echo.answer = lambda data: b"r" * 20000
        t.equal(len(ask(t, sock, ("127.0.0.1", local), b"?", what)), MAX, f"{what}: an answer that is too long")
        for process in (s, c):
            process.kill()


@test("R5.larger_by_environment", seconds=60)
def larger(t):
    """What is read of a datagram is a setting; what a peer sends is taken whole."""
    echo = Echo(t, t.port())
    local = t.port()
    server = t.server()
    t.client(server.port, f"127.0.0.1:{local}:127.0.0.1:{echo.port}/udp", env={"CHISEL_UDP_MAX_SIZE": "65507"})
    sock = client_socket(t)
    data = t.random.randbytes(65507)
    for _ in range(20):
        t.check(ask(t, sock, ("127.0.0.1", local), data) == data[:MAX], "the server's own limit is for its reads")
        t.check(echo.received[-1] == data, "the destination got all of it")


@test("R5.gob_octets", seconds=60)
def gob_octets(t):
    def heard(process, direction):
        return b"".join(bytes.fromhex(text) for text in re.findall(rf"gob {direction} ([0-9a-f]+)", process.out()))

    def record(source, payload):
        body = b"\xff\x80\x01" + bytes([len(source)]) + source + b"\x01" + bytes([len(payload)]) + payload + b"\0"
        return bytes([len(body)]) + body

    echo = Echo(t, t.port())
    local = t.port()
    server = t.go_server("--udp-record")
    t.client(server.port, f"127.0.0.1:{local}:127.0.0.1:{echo.port}/udp")
    port = t.port()
    sock = client_socket(t, port)
    source = b"127.0.0.1:%d" % port
    for _ in range(2):
        ask(t, sock, ("127.0.0.1", local), b"hello")
    want = DEFINITION + 2 * record(source, b"hello")
    t.equal(heard(server, "in"), want, "what the client sends")
    older = want
    for now, then in OLDER.items():
        older = older.replace(now, then)
    t.check(heard(server, "out") in (want, older), f"what Go's encoder makes of it: {heard(server, 'out')}")

    server = t.server()
    client = t.go_client(server.port, f"127.0.0.1:{local + 1000}:127.0.0.1:{echo.port}/udp", flags=("--udp-record",))
    client.wait_line("udp channel open", 10 * t.patience)
    for _ in range(2):
        ask(t, sock, ("127.0.0.1", local + 1000), b"hello")
    t.equal(heard(client, "in"), want, "what the server sends")


@test("R6.opened_at_once_and_kept", seconds=90)
def kept(t):
    hosts = "127.0.0.1 localhost\n127.0.0.1 here.example\n"
    t.names(hosts)
    server = t.server("-v")
    echo, dead = Echo(t, t.port()), t.port()
    locals_ = [t.port() for _ in range(3)]
    client = t.go_client(server.port, f"127.0.0.1:{locals_[0]}:here.example:{echo.port}/udp",
                         f"127.0.0.1:{locals_[1]}:127.0.0.1:{dead}/udp", f"127.0.0.1:{locals_[2]}:nowhere.example:{echo.port}/udp")
    client.wait_line("udp channel open", 10 * t.patience, 3)  # before any datagram
    sock = client_socket(t)
    for turn in range(60):
        for local in locals_[1:]:
            sock.sendto(b"x" * 100, ("127.0.0.1", local))
        if turn % 20 == 0:
            ask(t, sock, ("127.0.0.1", locals_[0]), b"still there")
    t.wait(lambda: int(report(server, server.text().count("datagrams: dropped"))["icmp-errors"]) > 0
           if "datagrams: dropped" in server.text() else report(server, 1) is None, 20, "the destination that is not there is noticed")
    server.wait_line(rf"nowhere\.example:{echo.port}/udp: lookup nowhere\.example", 20 * t.patience)
    t.check("udp channel closed" not in client.out() and client.alive(), "every channel is kept")
    before = client.cpu_seconds()
    began = time.monotonic()
    t.wait(lambda: time.monotonic() - began > 1, 5, "a second")
    t.check(client.cpu_seconds() - before < 0.05 * (time.monotonic() - began) + 0.01, "Go's client is idle")
    # Somebody listens now: the same channel serves.
    Echo(t, dead)
    ask_until(t, sock, ("127.0.0.1", locals_[1]), b"at last")
    with open("/etc/hosts", "w") as f:  # this test's own
        f.write(hosts + "127.0.0.1 nowhere.example\n")
    ask_until(t, sock, ("127.0.0.1", locals_[2]), b"the name is known now")
    t.equal(client.out().count("udp channel open"), 3, "channels")


@test("R7.two_hundred_flows", seconds=120)
def two_hundred(t):
    echo = Echo(t, t.port())
    local = t.port()
    server = t.server(env={"CHISEL_UDP_DEADLINE": "3s"})
    t.client(server.port, f"127.0.0.1:{local}:127.0.0.1:{echo.port}/udp")
    socks = [client_socket(t) for _ in range(200)]
    # As many at once as are remembered, then the others.
    for half in (socks[:100], socks[100:]):
        for i, s in enumerate(half):
            s.sendto(b"%d" % i, ("127.0.0.1", local))
        for i, s in enumerate(half):
            t.equal(s.recv(100), b"%d" % i, "each its own answer")
    t.equal(len(echo.sources), 200, "a socket for each source")
    counters = report(server, 1)
    t.check(int(counters["sockets"]) <= 100, f"no more sockets than that: {counters}")
    t.equal(int(counters["opened"]), 200, f"sockets that were made: {counters}")
    t.wait(lambda: report(server, server.text().count("datagrams: dropped") + 1)["sockets"] == "0", 30, "silent flows expire")
    before = server.descriptors()
    t.equal(ask(t, socks[0], ("127.0.0.1", local), b"again"), b"again", "a flow that had expired")
    t.equal(len(echo.sources), 201, "it has a new port")
    t.equal(server.descriptors(), before + 1, "descriptors")


@test("R7.closed_and_refused_channels", seconds=90)
def closed_channels(t):
    """Go's 1.11 closes a channel for one ICMP error, and a server may refuse; the next datagram asks again."""
    dead, local = t.port(), t.port()
    server = t.go_server("-v", "--udp-fragile")
    client = t.client(server.port, f"127.0.0.1:{local}:127.0.0.1:{dead}/udp")
    sock = client_socket(t)
    t.wait(lambda: sock.sendto(b"x", ("127.0.0.1", local)) and "Stream error: closed by the peer" in client.text() or None, 20, "the channel is closed")
    Echo(t, dead)
    ask_until(t, sock, ("127.0.0.1", local), b"reopened")
    server.kill()
    client.wait_line("Disconnected", 10 * t.patience)
    server = t.go_server("--no-udp", port=server.port)
    client.wait_line("Stream error: no UDP here", 20 * t.patience)
    sock.sendto(b"x", ("127.0.0.1", local))
    server.kill()
    t.go_server(port=server.port)
    ask_until(t, sock, ("127.0.0.1", local), b"after all that", 30)
    t.check(client.alive(), "the client")


@test("R7.server_restarts", seconds=60)
def restarts(t):
    echo = Echo(t, t.port())
    local = t.port()
    server = t.server()
    client = t.client(server.port, f"127.0.0.1:{local}:127.0.0.1:{echo.port}/udp")
    sock = client_socket(t)
    ask(t, sock, ("127.0.0.1", local), b"one")
    for turn in range(2):
        server.kill()
        client.wait_line("Disconnected", 10 * t.patience, turn + 1)
        sock.sendto(b"lost", ("127.0.0.1", local))
        server = t.server(port=server.port)
        client.wait_line("Connected", 20 * t.patience, turn + 2)
        ask_until(t, sock, ("127.0.0.1", local), b"two")
    t.check(b"lost" not in echo.received, "what came without a session is dropped")


@test("R5.busy_port", seconds=60)
def busy(t):
    sock = client_socket(t, t.port())
    port = sock.getsockname()[1]
    client = t.run("client", [t.binary, "client", "http://127.0.0.1:1", f"127.0.0.1:{port}:127.0.0.1:9/udp"])
    t.equal(client.popen.returncode, 1, "its status")
    t.check(f"Client cannot listen on 127.0.0.1:{port}=>9/udp: listen udp 127.0.0.1:{port}: bind: address already in use" in client.err(),
            client.err())


@test("R5.room_for_a_burst", seconds=60)
def room(t):
    """What comes while the worker waits for its processor finds room, whatever net.core.rmem_max says."""
    echo, local = Echo(t, t.port()), t.port()
    server = t.server()
    t.client(server.port, f"127.0.0.1:{local}:127.0.0.1:{echo.port}/udp")
    ask_until(t, client_socket(t), ("127.0.0.1", local), b"there")
    text = t.run("ss", ["ss", "-Hunam", f"sport = :{local}"], seconds=10).out()
    t.check(re.search(rf"skmem:\(r\d+,rb{8 << 20},", text), f"twice 4 MiB, as the kernel counts them: {text}")


@test("R5.two_workers", seconds=60)
def two_workers(t):
    echo = Echo(t, t.port())
    local = t.port()
    server = t.server("--workers", "2")
    client = t.client(server.port, f"127.0.0.1:{local}:127.0.0.1:{echo.port}/udp", flags=("--workers", "2"), connected=False)
    client.wait_line("Connected", 15 * t.patience, 2)
    ask_until(t, client_socket(t), ("127.0.0.1", local), b"two workers")


@test("R7.flood_beside_tcp", seconds=180, exclusive=True)
def flood(t):
    """A flood of datagrams, most of which find no room, takes its share and no more."""
    sink = Echo(t, t.port(), answer=lambda data: None)
    destination, local, tcp = t.destination(), t.port(), t.port()
    server = t.server()
    client = t.client(server.port, f"127.0.0.1:{tcp}:127.0.0.1:{destination.port}", f"127.0.0.1:{local}:127.0.0.1:{sink.port}/udp")
    size = (8 if t.sanitized else 256) << 20
    alone = min(t.load(tcp, "up", "--bytes", size, ok=1)["seconds"] for _ in range(2))
    stop = threading.Event()

    def pour():
        s = client_socket(t)
        s.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, 1200)  # forty a call
        while not stop.is_set():
            s.sendto(b"f" * 48000, ("127.0.0.1", local))

    thread = threading.Thread(target=pour, daemon=True)
    thread.start()
    beside = min(t.load(tcp, "up", "--bytes", size, ok=1, seconds=120)["seconds"] for _ in range(2 if t.sanitized else 4))
    stop.set()
    thread.join()
    t.note(f"{8e-9 * size / alone:.2f} Gbit/s alone, {8e-9 * size / beside:.2f} beside {len(sink.received)} datagrams that arrived")
    t.check(len(sink.received) > 100, "datagrams get through as well")
    # The sender alone takes a core of the two; the wide margin is for that.
    t.check(t.sanitized or alone / beside > 0.15, f"{beside:.2f} s beside the flood, {alone:.2f} alone")
    t.check(client.alive() and server.alive(), "both ends")


def steady(t, host, port, flows, there=lambda *command: list(command)):
    """Datagrams of 1200 bytes at a modest rate, there and back, at most so many attempts; what bench_datagrams tells."""
    for _ in range(3):
        run = t.run("datagrams", there(datagrams_program(t), "run", host, str(port), "--rate", "500" if t.sanitized else "2000",
                                       "--flows", str(flows), "--seconds", "1.5"))
        told = last_json(run)
        t.equal(run.popen.returncode, 0, f"content, numbers and doubles: {told}")
        if min(told["arrived_share"], told["returned_share"]) >= 0.99:
            break
    t.check(min(told["arrived_share"], told["returned_share"]) >= 0.99, f"{flows} flows lose more than one of a hundred: {told}")
    return told


def datagrams_program(t):
    beside = os.path.join(os.path.dirname(t.binary), "bench_datagrams")
    return beside if os.access(beside, os.X_OK) else os.path.join(ROOT, "build", "release", "bench_datagrams")


@test("R5.steady_datagrams", seconds=60)
def steady_datagrams(t):
    echo = t.start("echo", [datagrams_program(t), "echo", "127.0.0.1", t.port()])
    echo.wait_line("listening", 10)
    local = t.port()
    server = t.server()
    t.client(server.port, f"127.0.0.1:{local}:127.0.0.1:{echo.command[-1]}/udp")
    for flows in (1, 20):
        steady(t, "127.0.0.1", local, flows)


# -- behind the TUN ----------------------------------------------------------------------------------------------------


def far_echo(t, w, port, host=FAR, **more):
    with w.inside("cloud"):
        return Echo(t, port, host, **more)


def near_socket(t, w, name, family=socket.AF_INET):
    with w.inside(name):
        return client_socket(t, family=family)


def tun_report(client):
    count = client.text().count("tun: udp dropped:") + 1
    client.signal(signal.SIGUSR2)
    client.wait_line(r"tun: udp dropped:.*\n", 10, count)
    lines = [line for line in client.text().splitlines() if "tun: udp: " in line or "tun: udp dropped: " in line]
    return {key: int(value) for key, value in re.findall(r"([\w-]+)=(\d+)", " ".join(lines[-2:]))}


@test("U2.tun_both_ways", seconds=120)
def tun_both_ways(t):
    for kind in ("own", "go"):
        w = World(t)
        server = w.server(kind=kind)
        dns, echo = far_echo(t, w, 53), far_echo(t, w, 7000)
        client = w.client()
        for name in HOSTS:
            s = near_socket(t, w, name)
            for size in (1, 40, 512):
                query = t.random.randbytes(size)
                t.equal(ask(t, s, (FAR, dns.port), query, f"{kind}, {name}: a query"), query, "a query")
            for _ in range(200):
                data = t.random.randbytes(1200)
                t.equal(ask(t, s, (FAR, echo.port), data, f"{kind}, {name}"), data, "1200 bytes")
            # Larger than the device and the LAN take at once, on the way back.
            echo.answer = lambda data: data * 5
            t.check(ask(t, s, (FAR, echo.port), data, f"{kind}, {name}: a large answer") == data * 5, "an answer of 6000 bytes")
            echo.answer = lambda data: data
        counters = tun_report(client)
        t.equal((counters["flows"], counters["targets"]), (4, 2), f"{kind}: {counters}")
        t.check(all(source[0] != "10.5.0.2" for source in echo.sources), "the destination sees the server, not the host")
        for process in (client, server):
            process.kill()
        for s in (dns, echo):
            s.socket.close()
        test_tun.ip("link", "del", "uplink")
        test_tun.ip("link", "del", "local")


@test("U2.dns_over_udp", seconds=60)
def dns_over_udp(t):
    """--dns: whomever a host asks on port 53, the resolver behind the server answers, in the other's name."""
    w = World(t, routes=("8.8.8.0/24", "10.77.0.0/16"))
    w.server()
    resolver = far_echo(t, w, 5353, answer=lambda query: b"answer to " + query)
    echo = far_echo(t, w, 7000)
    w.client("--dns", f"{FAR}:5353")
    for name in HOSTS:
        s = near_socket(t, w, name)
        for asked in ("8.8.8.8", "8.8.8.9"):
            query = f"{name} asks {asked}".encode()
            t.equal(ask(t, s, (asked, 53), query, "a query"), b"answer to " + query, "what the host hears")
        t.equal(ask(t, s, (FAR, echo.port), b"other", "another port"), b"other", "another port is nobody's business")
    t.equal(len(resolver.received), 2 * len(HOSTS), "queries at the resolver")


@test("U2.both_families_and_fragments", seconds=120)
def families(t):
    """What is larger than the device is cut on its way in by whoever sends it, and on its way out by us."""
    w = World6(t)
    w.server()
    echoes = {4: far_echo(t, w, 7000), 6: far_echo(t, w, 7000, FAR6)}
    client = w.client()
    for name in HOSTS:
        for version, echo in echoes.items():
            s = near_socket(t, w, name, FAMILY[version])
            for size in (0, 1, 1200, 1473, 4000, MAX):
                data = t.random.randbytes(size)
                where = f"{name}, IPv{version}: {size} bytes"
                t.check(ask(t, s, (FARS[version], 7000), data, where) == data, where)
    counters = tun_report(client)
    t.equal((counters["flows"], counters["targets"]), (4, 2), str(counters))
    t.check(int(re.findall(r"fragments: taken=\d+ reassembled=(\d+)", client.text())[-1]) >= 12, "put together on their way in")


@test("U2.two_hundred_sources", seconds=120)
def tun_sources(t):
    w = World(t)
    w.server()
    echo = far_echo(t, w, 7000)
    client = w.client()
    socks = [near_socket(t, w, name) for name in HOSTS for _ in range(100)]
    for turn in range(3):
        for i, s in enumerate(socks):
            s.sendto(b"%d %d" % (turn, i), (FAR, echo.port))
        for i, s in enumerate(socks):
            t.equal(s.recv(100), b"%d %d" % (turn, i), "each its own answer")
    t.equal(len(echo.sources), 200, "sources at the destination")
    counters = tun_report(client)
    # A far end tells a hundred apart: two channels.
    t.equal((counters["flows"], counters["targets"]), (200, 2), str(counters))


@test("U2.superframes", seconds=90)
def tun_superframes(t):
    w = World(t)
    w.server()
    echo = far_echo(t, w, 7000)
    client = w.client()
    s = near_socket(t, w, "gateway")
    s.connect((FAR, echo.port))
    s.send(b"open")
    s.recv(100)
    s.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, 1200)
    # The destination answers with all of them at once.
    held = []

    def answer(data):
        held.append(data)
        if len(held) == 40:
            echo.socket.sendto(b"".join(held), echo.last)
            held.clear()

    echo.answer = answer
    echo.socket.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, 1200)
    sent = t.random.randbytes(1200 * 39 + 700)
    want = [sent[at:at + 1200] for at in range(0, len(sent), 1200)]
    got = []
    for turn in range(10):
        s.send(sent)
        got = [s.recv(2000) for _ in want]
        t.equal(got, want, "forty datagrams there and back")
    t.equal(echo.received[-40:], want, "what the destination sees")
    counters = tun_report(client)
    t.check(counters["superframes-in"] == 10 and counters["superframes-out"] > 0, f"whole on both ways: {counters}")
    # Without superframes, as on Linux 6.1.
    client.kill()
    client = w.client(env={"BURIN_OLD_KERNEL": "1"}, name="burin-client-old")
    s.send(sent)
    t.equal([s.recv(2000) for _ in want], want, "one by one")
    t.equal(tun_report(client)["superframes-in"], 0, "superframes")


@test("U2.steady_datagrams", seconds=90)
def tun_steady(t):
    w = World6(t)
    w.server()
    client = w.client()
    echo = t.start("echo", w.there("cloud", datagrams_program(t), "echo", "::", "7000"))
    echo.wait_line("listening", 10)
    for name in HOSTS:
        for host in (FAR, FAR6):
            for flows in (1, 20):
                steady(t, host, 7000, flows, lambda *command, name=name: w.there(name, *command))
    t.check(client.alive(), "the client")


@test("U2.closed_when_idle", seconds=90, slots=0)
def closed_when_idle(t):
    """A target's channel goes with the last flow that was silent too long; a name server's after 10 s (the others' 60 s: unit tests)."""
    w = World(t)
    w.server(kind="go")
    resolver = far_echo(t, w, 53)
    client = w.client()
    s = near_socket(t, w, "lan")
    ask(t, s, (FAR, resolver.port), b"a query")
    t.equal(tun_report(client)["targets"], 1, "targets")
    t.wait(lambda: tun_report(client)["targets"] == 0, 40, "the channel is closed", longest_pause=1)
    ask(t, s, (FAR, resolver.port), b"another query")
    t.equal(tun_report(client)["targets"], 1, "targets")


@test("U2.dead_targets_and_sessions", seconds=120)
def tun_dead(t):
    w = World(t)
    server = w.server()
    client = w.client("-v")
    for name in HOSTS:
        s = near_socket(t, w, name)
        for _ in range(20):
            s.sendto(b"anybody?", (FAR, 7001))
    echo = far_echo(t, w, 7000)
    s = near_socket(t, w, "lan")
    ask(t, s, (FAR, 7000), b"still")
    late = far_echo(t, w, 7001)
    s2 = near_socket(t, w, "gateway")
    ask(t, s2, (FAR, 7001), b"late")
    server.kill()
    client.wait_line("Disconnected", 10 * t.patience)
    s.sendto(b"lost", (FAR, 7000))
    t.wait(lambda: tun_report(client)["no-session"] > 0, 10, "a datagram without a session is counted")
    server = w.server()
    client.wait_line("Connected", 20 * t.patience, 2)
    ask_until(t, s, (FAR, 7000), b"again")
    ask_until(t, s2, (FAR, 7001), b"again")
    t.check(b"lost" not in echo.received and late.received, "what came meanwhile is gone")
    # A server without UDP: refused, counted, asked again.
    server.kill()
    client.wait_line("Disconnected", 10 * t.patience, 2)
    server = w.server("--no-udp", kind="go")
    client.wait_line("Connected", 20 * t.patience, 3)
    for _ in range(50):
        s.sendto(b"refused", (FAR, 7000))
    client.wait_line(r"10\.77\.0\.1:7000/udp: Stream error: no UDP here", 10 * t.patience)
    t.wait(lambda: s.sendto(b"x", (FAR, 7000)) and tun_report(client)["refused"] > 0, 10, "refusals are counted")
    t.check(tun_report(client)["refused"] < 10, "at most one attempt a second")
    t.equal(client.wait_exit(10 * t.patience) if client.signal(signal.SIGTERM) else 0, 0, "its status")


@test("U1.our_tool_knows_a_late_answer", seconds=60)
def late_answers(t):
    """bench_datagrams over a path whose answers take longer than it waits for each: nothing of that is somebody else's."""
    far, near = t.port(), t.port()
    echo = t.start("echo", [datagrams_program(t), "echo", "127.0.0.1", far])
    echo.wait_line("listening", 10)
    listener = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    listener.bind(("127.0.0.1", near))
    t.sockets.append(listener)
    ways = {}

    def back(s, who):
        while True:
            listener.sendto(s.recv(2048), who)

    def there():
        while True:
            data, who = listener.recvfrom(2048)
            if who not in ways:
                ways[who] = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
                ways[who].connect(("127.0.0.1", far))
                t.sockets.append(ways[who])
                threading.Thread(target=back, args=(ways[who], who), daemon=True).start()
            timer = threading.Timer(0.25, ways[who].send, (data,))
            timer.daemon = True
            timer.start()

    threading.Thread(target=there, daemon=True).start()
    run = t.start("datagrams", [datagrams_program(t), "run", "127.0.0.1", near, "--rate", "500", "--flows", "5", "--seconds", "1"])
    t.equal(run.wait_exit(30 * t.patience), 0, f"datagrams: {run.text()}")
    t.equal(last_json(run)["strange"], [0, 0], "strange ones")
