"""First data that travels with the open of its channel (docs/wire.md section 13.4), between our own ends and with others."""

import socket

import harness
import report
import splice
import wire
from harness import test
from wire import message, string, u32

EARLY_DATA, EARLY_EOF, MOST, NUMBERS = 194, 195, 16384, 16384
OURS = "Burin-Features: early-data, cancel-open"


def early(number, data):
    return message(EARLY_DATA, u32(number), string(data))


def round_trips_of(t, line, port, listener, ends):
    """How often a request and its answer cross the line; `ends`: the request ends with EOF, for which the answer waits."""
    turns = len(line.turns)
    s = t.connect(port)
    s.sendall(b"request")
    if ends:
        s.shutdown(socket.SHUT_WR)
    far, _ = listener.accept()
    t.equal(harness.receive_exactly(far, 7), b"request", "the request")
    if ends:
        t.equal(far.recv(1), b"", "the end of the request")
    far.sendall(b"answer")
    t.equal(harness.receive_exactly(s, 6), b"answer", "the answer")
    crossed = line.turns[turns:]
    far.close()
    s.close()
    return crossed.count("client")


@test("E1.round_trips")
def round_trips(t):
    """A connection through the tunnel crosses the line as often as without it; through a Go server once more."""
    listener = t.listen()
    target = listener.getsockname()[1]
    for ends in (False, True):
        alone = splice.Splice(t, target, 0.05)
        seen = {"none": round_trips_of(t, alone, alone.port, listener, ends)}
        for name, server in (("ours", t.server()), ("Go's", t.go_server())):
            line, local = splice.Splice(t, server.port, 0.05), t.port()
            t.client(line.port, f"127.0.0.1:{local}:127.0.0.1:{target}", flags=("--keepalive", "0"))
            seen[name] = round_trips_of(t, line, local, listener, ends)
        t.equal(seen, {"none": 1, "ours": 1, "Go's": 2}, f"round trips, with EOF behind the request: {ends}")


@test("E2.nothing_lost_or_doubled")
def nothing_lost(t):
    """A thousand quick connections, each with another request, whole before its answer begins."""
    sink, local = t.destination(), t.port()
    server = t.server()
    client = t.client(server.port, f"127.0.0.1:{local}:127.0.0.1:{sink.port}")
    for size in (1, 700, MOST, 3 * MOST + 1):
        t.load(local, "echo", "--bytes", size, "--connections", 250, "--seed", t.random.randrange(1 << 40), ok=250)
    for process in (client, server):
        t.check(process.alive(), f"{process.name} is gone")


@test("E3.towards_a_server")
def towards_a_server(t):
    """What is kept for a destination that does not answer yet, dropped where it refuses, and refused beyond what may be."""
    server, listener, away = t.server(), t.listen(), t.black_hole()
    raw = wire.Raw(t, "client", server.port, "--header", OURS)
    session = raw.login()
    # To one that listens: with the open, as much as may be, and its end.
    data = t.random.randbytes(MOST)
    channel = wire.Channel(0, 2097152, 32768)
    session.channels[0], session.next = channel, 1
    raw.send(wire.chisel_open(0, f"127.0.0.1:{listener.getsockname()[1]}"), early(0, data[:5]), early(0, data[5:]),
             message(EARLY_EOF, u32(0)))
    s, _ = listener.accept()
    t.equal(harness.receive_exactly(s, MOST), data, "the data")
    t.equal(s.recv(1), b"", "its end")
    s.sendall(b"answer")
    session.pump(lambda: bytes(channel.received) == b"answer", 10, "the answer")
    # To one that refuses: the rest is under way, and meets nothing.
    refusing = t.port()
    refused = [wire.Channel(number, 2097152, 32768) for number in (1, 2)]
    for each in refused:
        session.channels[each.local] = each
        raw.send(wire.chisel_open(each.local, f"127.0.0.1:{refusing}"), early(each.local, data))
    session.pump(lambda: all(each.failure for each in refused), 10, "the refusals")
    raw.send(early(1, data), early(2, data), message(EARLY_EOF, u32(2)), early(NUMBERS - 1, data))
    session.ping()
    # What waits for one that never answers is gone with its open.
    raw.send(wire.chisel_open(3, f"{away}:80"), early(3, data))
    t.wait(lambda: report.in_use(report.report(server)).get("held bytes") == MOST, 10, "what is held")
    raw.send(message(wire.GLOBAL_REQUEST, string("cancel-open@burin"), b"\0", u32(3)))
    t.equal(raw.expect(wire.OPEN_FAILURE)[1:5], u32(3), "the open that is taken back")
    session.eof(channel)
    session.close(channel)
    report.wait_idle(t, server)
    # Beyond what may be, and without the feature.
    for header, packets, words in ((OURS, [early(7, data), early(7, b"x")], "more early data than may be"),
                                   (OURS, [early(NUMBERS, b"x")], "early data on a channel of a high number"),
                                   (OURS, [message(EARLY_DATA, u32(7, 3), b"x")], "malformed early data"),
                                   ("Burin-Features: batch", [early(7, b"x")], "early data without the feature")):
        other = wire.Raw(t, "client", server.port, "--header", header)
        other.login()
        other.send(wire.chisel_open(7, f"{away}:80"), *packets)
        other.ended()
        server.wait_line(rf"Close \(user=.* \(error {words}\)")
    session.ping()


@test("E4.towards_a_client")
def towards_a_client(t):
    """What a program writes is sent at once where the server takes it, and waits for the answer where not."""
    port, local = t.port(), t.port()
    for header in (OURS, "Burin-Features: batch"):
        raw = wire.Raw(t, "server", port, "--extra-header", header)
        client = t.client(port, f"127.0.0.1:{local}:some.host:80", connected=False)
        session = raw.admit()
        session.accept_open = lambda channel: False
        s = t.connect(local)
        s.sendall(b"request")
        s.shutdown(socket.SHUT_WR)
        takes = header == OURS
        session.pump(lambda: session.opened and len(session.unknown) == (2 if takes else 0), 10, "the open, and what comes with it")
        channel = session.opened[0]
        if takes:
            t.equal(session.unknown, [early(channel.remote, b"request"), message(EARLY_EOF, u32(channel.remote))], "with the open")
        # Where nothing may go, nothing does: an answered ping later, all that was said has come.
        session.ping()
        t.equal(len(session.unknown), 2 if takes else 0, "messages that only ends of ours know")
        raw.send(message(wire.OPEN_FAILURE, u32(channel.remote, 2), string("connection refused"), string("en")))
        t.equal(harness.ended_how(s), ("reset", b""), "a program whose destination refused")
        client.kill()
        raw.process.kill()
        port, local = t.port(), t.port()
