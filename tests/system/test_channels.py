"""Remotes and channels: acceptance rows R1, R2, R10-R13, R17-R19 (docs/wire.md sections 8 and 10.4)."""

import json
import re
import socket
import struct
import time

import harness
import report
import splice
import wire
from harness import Failed, test

MIB = 1 << 20


@test("R1.remote_grammar")
def grammar(t):
    """Every forward TCP form of section 10.4, as it arrives in the config."""
    table = {
        "3000": ("0.0.0.0", "3000", "127.0.0.1", "3000"),
        "example.com:3001": ("0.0.0.0", "3001", "example.com", "3001"),
        "3002:google.com:80": ("0.0.0.0", "3002", "google.com", "80"),
        "127.0.0.1:3003:google.com:80": ("127.0.0.1", "3003", "google.com", "80"),
        "3004:2": ("0.0.0.0", "3004", "127.0.0.1", "2"),
        "host:3005:2": ("0.0.0.0", "3005", "host", "2"),
        "localhost:3006:localhost:4000": ("localhost", "3006", "localhost", "4000"),
        "[::1]:8080:google.com:80": ("[::1]", "8080", "google.com", "80"),
        "[::1]:3007": ("0.0.0.0", "3007", "[::1]", "3007"),
        "3008:[2001:db8::1]:443": ("0.0.0.0", "3008", "[2001:db8::1]", "443"),
        "3009:": ("0.0.0.0", "3009", "127.0.0.1", "3009"),
        ":3010": ("0.0.0.0", "3010", "127.0.0.1", "3010"),
        "3011/tcp": ("0.0.0.0", "3011", "127.0.0.1", "3011"),
        "3012:Example.COM:80/tcp": ("0.0.0.0", "3012", "Example.COM", "80"),
        "08013": ("0.0.0.0", "08013", "127.0.0.1", "08013"),
        "3014:socks:80": ("0.0.0.0", "3014", "socks", "80"),
    }
    port = t.port()
    raw = wire.Raw(t, "server", port)
    client = t.client(port, *table, connected=False)
    got = json.loads(raw.admit().config)["Remotes"]
    t.equal(len(got), len(table), "remotes in the config")
    for text, remote in zip(table, got):
        fields = tuple(remote[name] for name in ("LocalHost", "LocalPort", "RemoteHost", "RemotePort"))
        want = table[text]
        if text == "3012:Example.COM:80/tcp":  # a part with a suffix is lower-cased; here that is only the port
            fields = (*fields[:2], fields[2].lower(), fields[3])
            want = (*want[:2], want[2].lower(), want[3])
        t.equal(fields, want, text)
        t.equal((remote["LocalProto"], remote["RemoteProto"], remote["Socks"], remote["Reverse"], remote["Stdio"]),
                ("tcp", "tcp", False, False, False), text)
    for line in ("3002=>google.com:80", "3000=>3000", "127.0.0.1:3003=>google.com:80"):
        client.wait_line(re.escape(line))


@test("R1.remote_errors")
def grammar_errors(t):
    for text, why in (("0", "Missing ports"), ("65536", "Missing ports"), ("foo", "Missing ports"), ("foo:bar", "Missing ports"),
                      ("1:host", "Missing ports"), ("a:b:c:d:e", "Invalid remote"), ("R:", "Invalid remote"), ("ho st:80", "Invalid host"),
                      ("5353/udp:1.1.1.1:53", "cross-protocol remotes are not supported yet"), ("", "Invalid remote")):
        client = t.run("bad-remote", [t.binary, "client", "http://127.0.0.1:1", text])
        t.equal(client.popen.returncode, 1, f"exit status for {text!r}")
        t.check(f"Failed to decode remote '{text}': " in client.text() and why.lower() in client.text().lower(), f"{text!r}: {client.text()}")
    alone = t.run("no-remote", [t.binary, "client", "http://127.0.0.1:1"])
    t.equal(alone.popen.returncode, 1, "exit status without a remote")
    t.check("A server and least one remote is required" in alone.text(), f"without a remote: {alone.text()}")
    busy = t.listen()
    port = busy.getsockname()[1]
    client = t.client(t.port(), f"127.0.0.1:{port}:h:1", connected=False)
    t.equal(client.wait_exit(15 * t.patience), 1, "exit status with a busy port")
    t.check(f"Client cannot listen on 127.0.0.1:{port}=>h:1" in client.text(), f"with a busy port: {client.text()}")


def ends(t, kinds):
    """Pairs of server and client of each kind: yields (name, local port), a load destination behind."""
    sink = t.destination()
    for kind in kinds:
        port = t.port()
        remote = f"127.0.0.1:{port}:127.0.0.1:{sink.port}"
        if kind == "own":
            t.client(t.server().port, remote)
        elif kind == "go client":
            t.go_client(t.server().port, remote)
        elif kind == "go server":
            t.client(t.go_server("--message-limit", 524288).port, remote)
        elif kind == "old go client":
            t.go_client(t.server().port, remote, flags=("--no-eof", "--version", "1.11.5"))
        elif kind == "old go server":
            t.client(t.go_server("--no-eof", "--confirm-before-dial").port, remote)
        yield kind, port


@test("R2.every_size", seconds=120)
def every_size(t):
    sizes = (1, 2, 255, 4095, 32767, 32768, 32769, 65536, 1 << 20, (3 << 20) + 1, 2097152 + 17)
    for kind, port in ends(t, ("own", "go client", "go server")):
        for number, size in enumerate(sizes):
            for mode in ("up", "down", "both", "echo"):
                try:
                    t.load(port, mode, "--bytes", size, "--seed", t.random.randrange(1 << 40), ok=1)
                except Failed as why:
                    raise Failed(f"{kind}, {size} bytes: {why}") from None
    # An empty stream.
    for kind, port in ends(t, ("own",)):
        s = t.connect(port)
        s.sendall(struct.pack(">QQQQ", 0x6275_7269_6E6C_6F61, 2, 0, 1))
        t.equal(harness.ended_how(s), ("eof", b""), "a stream of no bytes")


@test("R2.ipv6_and_names")
def ipv6_and_names(t):
    listener = socket.create_server(("::1", t.port()), family=socket.AF_INET6)
    listener.settimeout(15)
    t.sockets.append(listener)
    six = listener.getsockname()[1]
    # An address that no other name has: c-ares of Debian 13 gives it to the first name alone.
    four = t.listen(host="127.0.0.2")
    t.names("127.0.0.1 localhost\n::1 both.test\n127.0.0.2 both.test\n")
    server, ports = t.server(), [t.port() for _ in range(3)]
    t.client(server.port, f"127.0.0.1:{ports[0]}:[::1]:{six}", f"127.0.0.1:{ports[1]}:both.test:{four.getsockname()[1]}",
             f"127.0.0.1:{ports[2]}:both.test:{six}")
    # Each address of a name is tried.
    for port, at in zip(ports, (listener, four, listener)):
        s = t.connect(port)
        s.sendall(b"name")
        peer, _ = at.accept()
        t.equal(harness.receive_exactly(peer, 4), b"name", f"through port {port}")


@test("R10.half_close")
def half_close(t):
    for kind, port in ends(t, ("own", "go client", "go server")):
        for mode in ("up", "echo"):
            for size in (1, 100000, 5 * MIB):
                try:
                    t.load(port, mode, "--bytes", size, "--half-close", ok=1)
                except Failed as why:
                    raise Failed(f"{kind}: {why}") from None
    # The destination speaks after our end of file, and ends when it likes.
    listener = t.listen()
    port = t.port()
    t.client(t.server().port, f"127.0.0.1:{port}:127.0.0.1:{listener.getsockname()[1]}")
    s = t.connect(port)
    s.sendall(b"question")
    s.shutdown(socket.SHUT_WR)
    peer, _ = listener.accept()
    t.equal(harness.ended_how(peer), ("eof", b"question"), "at the destination")
    peer.sendall(b"answer")
    t.equal(harness.receive_exactly(s, 6), b"answer", "after our end of file")
    peer.sendall(b" and more")
    peer.close()
    t.equal(harness.ended_how(s), ("eof", b" and more"), "the end")


@test("R11.old_go_peers")
def old_go_peers(t):
    """Peers that never send EOF and confirm before they dial: whole transfers end cleanly, as between two of them."""
    for kind, port in ends(t, ("old go client", "old go server")):
        for mode in ("up", "down", "both"):
            for size in (1, 100000, 5 * MIB):
                try:
                    t.load(port, mode, "--bytes", size, "--connections", 4, ok=4)
                except Failed as why:
                    raise Failed(f"{kind}: {why}") from None
    # A dial that fails behind a confirmation is an early end without data.
    client_port = t.port()
    t.client(t.go_server("--no-eof", "--confirm-before-dial").port, f"127.0.0.1:{client_port}:127.0.0.1:1")
    t.equal(t.fate(client_port)[1], b"", "data of a dial that failed")


@test("R12.failed_dial_is_visible")
def failed_dial(t):
    closed = t.port()
    t.names("127.0.0.1 localhost\n")
    server, port = t.server(env={"CHISEL_DIAL_TIMEOUT": "3s"}), t.port()
    session = wire.Raw(t, "client", server.port).login()
    channel = session.open(f"127.0.0.1:{closed}", must=False)
    t.equal(channel.failure and channel.failure[0], 2, f"reason of a refused dial: {channel.failure}")
    t.check("refused" in channel.failure[1].lower(), f"text of a refused dial: {channel.failure[1]}")
    for target, reasons in ((f"nobody.invalid:{closed}", (2,)), ("", (1, 2)), ("127.0.0.1", (1, 2)), ("127.0.0.1:0", (1, 2)), ("127.0.0.1:99999", (1, 2)),
                            ("[::1", (1, 2)), ("socks", (1,)), ("a" * 3000 + ":80", (1, 2))):
        channel = session.open(target, must=False, seconds=20)
        t.check(channel.failure and channel.failure[0] in reasons, f"{target[:40]!r}: {channel.failure}")
    session.ping()
    for kind in ("own", "go server"):
        port = t.port()
        t.client(server.port if kind == "own" else t.go_server().port, f"127.0.0.1:{port}:127.0.0.1:{closed}")
        t.equal(t.fate(port), ("reset", b""), f"the local connection of a refused dial, {kind}")


@test("R13.dial_timeout")
def dial_timeout(t):
    hole = t.black_hole()
    server, port = t.server(env={"CHISEL_DIAL_TIMEOUT": "1500ms"}), t.port()
    session = wire.Raw(t, "client", server.port).login()
    begin = time.monotonic()
    channel = session.open(f"{hole}:80", must=False, seconds=15)
    took = time.monotonic() - begin
    t.equal(channel.failure and channel.failure[0], 2, "reason of a dial into a black hole")
    t.check(took >= 1.4, f"failed after {took:.2f} s, before 1.5 s")
    t.client(server.port, f"127.0.0.1:{port}:{hole}:80")
    t.equal(t.fate(port), ("reset", b""), "the local connection")
    # Channels that wait for their dial hold up nobody.
    echo = t.listen()
    slow = [wire.chisel_open(1000 + n, f"{hole}:80") for n in range(50)]
    for n in range(50):
        session.channels[1000 + n] = wire.Channel(1000 + n, 2097152, 32768)
    session.raw.send(*slow)
    begin = time.monotonic()
    session.next = 5000
    session.open(f"127.0.0.1:{echo.getsockname()[1]}")
    t.check(time.monotonic() - begin < 1.2 * t.patience, "a dial waited behind dials into a black hole")


@test("R13.silent_name_server")
def silent_name_server(t):
    """Names that nobody answers for hold up neither the flows that are there nor new ones."""
    t.names("127.0.0.1 localhost\n")
    silent = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    silent.bind(("127.0.0.1", 53))
    t.sockets.append(silent)
    sink, server, port = t.destination(), t.server(env={"CHISEL_DIAL_TIMEOUT": "60s"}), t.port()
    t.client(server.port, f"127.0.0.1:{port}:127.0.0.1:{sink.port}")
    steady = t.load_started(port, "both", "--bytes", 0, "--duration", "60s", "--progress", "20ms")
    steady.wait_line('"progress"', 15 * t.patience)
    session = wire.Raw(t, "client", server.port).login()
    count = 50
    session.channels = {n: wire.Channel(n, 2097152, 32768) for n in range(count)}
    session.raw.send(*(wire.chisel_open(n, f"name-{n}.test:80") for n in range(count)))
    silent.settimeout(15 * t.patience)
    silent.recv(2048)  # it was asked
    session.ping()
    before = harness.last_json(steady)["progress"]
    t.load(port, "both", "--bytes", 8 * MIB, "--connections", 4, ok=4)
    t.check(harness.last_json(steady)["progress"] > before, "the flow that was there stands still")
    session.ping()
    t.check(not any(channel.open or channel.failure for channel in session.channels.values()) and len(session.channels) == count,
            "an answer to a name that nobody resolved")


def echo_pair(t, session, listener):
    channel = session.open(f"127.0.0.1:{listener.getsockname()[1]}")
    s, _ = listener.accept()
    return channel, s


@test("R17.windows_of_a_server")
def windows_server(t):
    server, listener = t.server(), t.listen()
    session = wire.Raw(t, "client", server.port).login()
    # Sending: the server keeps to a small window and a small packet, whatever its socket brings.
    channel = session.open(f"127.0.0.1:{listener.getsockname()[1]}", window=40000, maximum=1500)
    s, _ = listener.accept()
    data = t.random.randbytes(300000)
    s.settimeout(20)
    sender = sending(t, s, data)
    while len(channel.received) < len(data):
        session.pump(lambda: channel.granted == 0 or len(channel.received) == len(data), 15, "the window is used up")
        session.settle(0.02)
        session.grant(channel, t.random.choice((1, 7, 1499, 1500, 1501, 30000)) if len(channel.received) > 1000 else 1500)
    t.equal(bytes(channel.received), data, "bytes in order")
    sender.join()
    # Receiving: what it grants is what it takes, and reading gives it back.
    t.check(channel.first_credit >= 16384, f"initial window {channel.first_credit}")
    t.check(channel.peer_maximum >= 32768, f"max packet {channel.peer_maximum}")
    back, total = t.random.randbytes(8 * MIB), 0
    reader = receiving(t, s, len(back))
    while total < len(back):
        session.pump(lambda: channel.credit > 0, 15, "window for us")
        piece = back[total:total + min(channel.credit, channel.peer_maximum, 32768)]
        session.data(channel, piece)
        total += len(piece)
    reader.join(20)
    t.check(reader.result == back, "8 MiB towards the destination differ")
    window_grew(t, session, channel)
    t.note(f"initial window {channel.first_credit}, max packet {channel.peer_maximum}, {channel.adjusts} adjusts for 8 MiB")
    # End of file both ways, one CLOSE each, nothing after it.
    session.eof(channel)
    t.equal(harness.ended_how(s)[0], "eof", "EOF becomes FIN")
    s.close()
    session.pump(lambda: channel.got_close, 10, "the server's CLOSE")
    t.check(channel.got_eof, "CLOSE without EOF although the destination ended cleanly")
    session.ping()


def window_grew(t, session, channel):
    """All that was sent was taken, so what is left of the window is nearly all of it: it followed what was sent through it."""
    session.settle(0.2)
    t.check(channel.credit > 4 * channel.first_credit, f"a window of {channel.first_credit} bytes has grown to {channel.credit}, no more")


@test("R17.windows_of_a_client")
def windows_client(t):
    port, local = t.port(), t.port()
    raw = wire.Raw(t, "server", port)
    t.client(port, f"127.0.0.1:{local}:some.host:80", connected=False)
    session = raw.admit()
    session.accept_open = lambda channel: True
    session.window, session.maximum = 50000, 4096
    s = t.connect(local)
    data = t.random.randbytes(300000)
    sender = sending(t, s, data)
    session.pump(lambda: session.opened, 10, "CHANNEL_OPEN")
    channel = session.opened[0]
    t.equal((channel.kind, channel.target), ("chisel", b"some.host:80"), "the open")
    while len(channel.received) < len(data):
        session.pump(lambda: channel.granted == 0 or len(channel.received) == len(data), 15, "the window is used up")
        session.settle(0.02)
        session.grant(channel, 50000)
    t.equal(bytes(channel.received), data, "bytes in order")
    sender.join()
    back, total = t.random.randbytes(8 * MIB), 0
    reader = receiving(t, s, len(back))
    while total < len(back):
        session.pump(lambda: channel.credit > 0, 15, "window for us")
        piece = back[total:total + min(channel.credit, channel.peer_maximum, 32768)]
        session.data(channel, piece)
        total += len(piece)
    reader.join(20)
    t.check(reader.result == back, "8 MiB towards the application differ")
    window_grew(t, session, channel)
    s.shutdown(socket.SHUT_WR)
    session.pump(lambda: channel.got_eof, 10, "EOF after the application's FIN")
    t.check(not channel.got_close, "CLOSE although the other direction is open")
    session.eof(channel)
    session.pump(lambda: channel.got_close, 10, "CLOSE after both directions ended")
    t.equal(harness.ended_how(s), ("eof", b""), "the application's end")
    session.ping()


def sending(t, s, data):
    return harness.Worker(lambda: s.sendall(data))


def receiving(t, s, count):
    return harness.Worker(lambda: harness.receive_exactly(s, count, 20 * t.patience))


@test("R17.windows_grow_with_the_path", seconds=120)
def windows_of_a_long_path(t):
    """Over a path whose round trip takes 0.1 s, each direction is given more than the 2 MiB that Go stays at."""
    sink, server, port = t.destination(), t.server(), t.port()
    line = splice.Splice(t, server.port, 0.05)
    client = t.client(line.port, f"127.0.0.1:{port}:127.0.0.1:{sink.port}")
    rates = []
    for mode, receiver in (("up", server), ("down", client)):
        load = t.load_started(port, mode, "--bytes", 0, "--duration", "60s", "--progress", "100ms")

        def widest():
            return max((int(window) for window in re.findall(r"channel \d+: .* window=(\d+)", report.report(receiver))), default=0)
        t.wait(lambda: widest() > 2 * MIB, 40, lambda: f"a window of more than 2 MiB ({mode}); it has {widest()}")
        at = [json.loads(each) for each in load.out().splitlines()]
        load.wait_line('"progress"', 20 * t.patience, len(at) + 20)
        end = json.loads(load.out().splitlines()[len(at) + 19])
        rates.append((end["progress"] - at[-1]["progress"]) / (end["seconds"] - at[-1]["seconds"]) / (2 * MIB / 0.1))
        load.kill()
    t.note(f"{rates[0]:.1f} and {rates[1]:.1f} times what a window of 2 MiB allows")


@test("R17.zero_window_and_closing")
def zero_window(t):
    """A window of 0 at the open; CLOSE while data waits; a reset on either side; ids used again at once."""
    server, listener = t.server(), t.listen()
    session = wire.Raw(t, "client", server.port).login()
    channel = session.open(f"127.0.0.1:{listener.getsockname()[1]}", window=0)
    s, _ = listener.accept()
    s.sendall(b"held back")
    session.settle(0.3)
    t.equal(channel.received, b"", "data without a window")
    session.grant(channel, 4)
    session.pump(lambda: len(channel.received) == 4, 10, "four bytes")
    session.close(channel)
    session.pump(lambda: channel.got_close, 10, "the answer to CLOSE")
    for _ in range(50):
        session.next = 0  # Go uses the lowest free id again at once
        session.channels.clear()
        channel = session.open(f"127.0.0.1:{listener.getsockname()[1]}")
        s, _ = listener.accept()
        session.data(channel, b"x" * 100)
        s.sendall(b"y" * 100)
        if t.random.random() < 0.5:
            session.pump(lambda: len(channel.received) == 100, 10, "data")
            session.eof(channel)
            s.close()
            session.pump(lambda: channel.got_close, 10, "CLOSE")
        else:
            session.close(channel)
            session.pump(lambda: channel.got_close, 10, "the answer to CLOSE")
            s.close()
    session.ping()


@test("R18.a_stalled_channel_stops_no_other")
def stalled_channel(t):
    t.kernel_buffers(256 * 1024)
    server, listener = t.server(), t.listen()
    session = wire.Raw(t, "client", server.port).login()
    # One channel whose window we never give back, one whose destination never reads.
    silent, s1 = echo_pair(t, session, listener)
    t.sockets.append(s1)
    harness.Worker(lambda: s1.sendall(bytes(64 * MIB)))
    session.pump(lambda: silent.granted == 0, 20, "the window of the channel that we do not read is used up")
    clogged, s2 = echo_pair(t, session, listener)
    t.sockets.append(s2)
    while clogged.credit > 0:
        session.data(clogged, bytes(min(clogged.credit, clogged.peer_maximum, 32768)))
        if clogged.credit == 0:
            session.settle(0.3)
        if clogged.adjusts > 2000:
            raise Failed("a destination that never reads takes 64 MiB and more")
    moving, s3 = echo_pair(t, session, listener)
    data = t.random.randbytes(8 * MIB)
    sender = sending(t, s3, data)
    while len(moving.received) < len(data):
        had = len(moving.received)
        session.pump(lambda: len(moving.received) > had, 10, "the third channel moves")
        if moving.granted < 1048576:
            session.grant(moving, 2097152 - moving.granted)
    sender.join()
    t.check(bytes(moving.received) == data, "8 MiB past two stalled channels differ")
    session.ping()


def ten_thousand(t, port, ours, sink):
    count = 1000 if t.sanitized else 10000
    # All are open at once: each sends, and ends only when its standard input does.
    others = sink.descriptors()
    load = t.load_started(port, "noread", "--connections", count, "--bytes", 100, "--stalled-after", "60s")
    load.wait_line('"event":"ready"', 100 * t.patience)
    t.wait(lambda: sink.descriptors() >= others + count, 60, lambda: f"{sink.descriptors() - others} connections at the destination")
    open_channels = report.total(report.report(ours, 30 * t.patience), r"budget: .*channels=(\d+)/")
    t.equal(open_channels, count, "channels open at once")
    t.load(port, "both", "--bytes", MIB, ok=1)
    t.note(f"{count} channels, {ours.name} {ours.pss() / MIB:.0f} MiB")
    load.finish()
    t.wait(lambda: ours.descriptors() < 100, 60, lambda: f"{ours.descriptors()} descriptors left in {ours.name}")
    report.wait_idle(t, ours, 30)
    t.load(port, "both", "--bytes", MIB, ok=1)


@test("R19.ten_thousand_channels_of_a_go_client", seconds=150, slots=2)
def many_channels_of_a_client(t):
    sink, server, port = t.destination(), t.server("--max-channels", "20000"), t.port()
    t.go_client(server.port, f"127.0.0.1:{port}:127.0.0.1:{sink.port}")
    ten_thousand(t, port, server, sink)


@test("R19.ten_thousand_channels_to_a_go_server", seconds=150, slots=2)
def many_channels_to_a_server(t):
    sink, port = t.destination(), t.port()
    client = t.client(t.go_server().port, f"127.0.0.1:{port}:127.0.0.1:{sink.port}", flags=("--max-channels", "20000"))
    ten_thousand(t, port, client, sink)
