"""What strangers, crowds and readers that never read can cost: channels, memory, descriptors, each within its bound."""

import contextlib
import os
import re
import resource
import signal
import socket
import time

import harness
import report
import wire
from harness import Failed, test
from test_load import swallow, tunnel

MIB = 1 << 20


def never_read(t, mode):
    count = 1000 if t.sanitized else 10000
    flags = ("--max-channels", "20000")
    # What all TCP connections of the machine may hold is bounded, across namespaces: the kernel's part stays small.
    t.kernel_buffers(16384)
    server, client, sink, port = tunnel(t, flags, flags)
    t.load(port, "both", "--bytes", 8 * MIB, "--connections", 8, ok=8)
    base = {p.name: p.pss() for p in (server, client)}
    load = t.load_started(port, *mode, "--connections", count, "--bytes", 16 * MIB, "--stalled-after", "1s", "--dialing", 1000)
    load.wait_line('"event":"(ready|done)"', 240 * t.patience)
    t.wait(lambda: harness.quiet(client, server), 120, "the stalled flows come to rest")
    t.equal(report.total(report.report(server, 60 * t.patience), r"budget: .*channels=(\d+)/"), count, "channels open at the server")
    grown = {p.name: (p.pss() - base[p.name]) / MIB for p in (server, client)}
    t.note(f"{count} channels; " + ", ".join(f"{name} {base[name] / MIB:.0f} + {m:.0f} MiB" for name, m in grown.items()))
    # What their windows let them send, and 4 KiB each for the flow itself and for what its pieces do not fill.
    for name, used in grown.items():
        t.check(t.sanitized or used < 256 + count * 4 / 1024, f"{name} uses {used:.0f} MiB more than before; the budget is 256 MiB")
    # A new flow is served within what is left of the budget, or refused at once; it does not hang.
    summary = t.load(port, "both", "--bytes", MIB, "--timeout", "30s")
    t.check(summary["outcomes"] in ({"ok": 1}, {"reset": 1}), f"a new flow beside them: {summary}")
    # When they are gone, by both their ends, all is as before.
    load.finish()
    address = sink.port
    sink.kill()
    t.wait(lambda: server.descriptors() < 200 and client.descriptors() < 200, 60,
           lambda: f"descriptors left: {server.descriptors()} and {client.descriptors()}")
    for process in (client, server):
        report.wait_idle(t, process, 60)
    again = t.start("destination", [t.peer, "load", "server", "--listen", f"127.0.0.1:{address}"])
    t.listening(again, "127.0.0.1", address)
    t.load(port, "both", "--bytes", 8 * MIB, "--connections", 4, ok=4)


@test("L.ten_thousand_destinations_never_read", seconds=300, exclusive=True)
def destinations_never_read(t):
    never_read(t, ("noread",))


@test("L.ten_thousand_applications_never_read", seconds=300, exclusive=True)
def applications_never_read(t):
    never_read(t, ("down", "--stall"))


@test("L.small_budget", seconds=120)
def small_budget(t):
    """A budget of a few MiB is kept: flows are slower or refused, never wrong."""
    flags, budget = ("--memory", "16MiB"), 16 * MIB
    t.kernel_buffers(65536)
    server, client, _, port = tunnel(t, flags, flags)
    t.load(port, "both", "--bytes", 4 * MIB, "--connections", 32, seconds=60, ok=32)
    base = {p.name: p.pss() for p in (server, client)}
    for mode in (("noread", "--send-buffer", "4096"), ("down", "--stall")):
        load = t.load_started(port, *mode, "--connections", 300, "--bytes", 4 * MIB, "--stalled-after", "1s")
        load.wait_line('"event":"(ready|done)"', 60 * t.patience)
        t.wait(lambda: harness.quiet(client, server), 60, "the stalled flows come to rest")
        for process in (server, client):
            grown = process.pss() - base[process.name]
            t.note(f"{mode[0]}: {process.name} {base[process.name] / MIB:.0f} {grown / MIB:+.0f} MiB")
            t.check(t.sanitized or grown < 2 * budget, f"{process.name} grew by {grown / MIB:.0f} MiB ({mode[0]}); its budget is 16 MiB")
        load.finish()
        for process in (client, server):
            report.wait_idle(t, process)


@test("L.too_many_channels")
def too_many_channels(t):
    server, listener = t.server("--max-channels", "10"), t.listen()
    session = wire.Raw(t, "client", server.port).login()
    target = f"127.0.0.1:{listener.getsockname()[1]}"
    channels = [session.open(target) for _ in range(10)]
    refused = session.open(target, must=False)
    t.check(refused.failure and refused.failure[0] == 4, f"the eleventh of ten channels: {refused.failure}")
    session.close(channels[0])
    session.pump(lambda: channels[0].got_close, 10, "CLOSE")
    session.open(target)


@test("L.descriptors_run_out", seconds=90)
def descriptors_run_out(t):
    """EMFILE: accept pauses without spinning, flows that are up go on, and all is well when descriptors are free again."""
    for which in ("server", "client"):
        server, client, sink, port = tunnel(t)
        process = server if which == "server" else client
        steady = t.connect(port)
        steady.sendall(bytes.fromhex("627572696e6c6f61") + (4).to_bytes(8, "big") + (2 ** 64 - 1).to_bytes(8, "big") + bytes(8))
        steady.sendall(b"echo")
        t.equal(harness.receive_exactly(steady, 4), b"echo", "before")
        old = resource.prlimit(process.pid, resource.RLIMIT_NOFILE)
        # Room for a few more than are open.
        highest = max(int(fd) for fd in os.listdir(f"/proc/{process.pid}/fd"))
        resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (highest + 6, old[1]))
        crowd = [socket.create_connection(("127.0.0.1", port if which == "client" else server.port), 10) for _ in range(100)]
        t.sockets += crowd
        for s in crowd:
            if which == "client":
                s.sendall(b"x")
        time.sleep(0.3)
        before = process.cpu_seconds()
        time.sleep(1)
        used = process.cpu_seconds() - before
        t.check(used < 0.3 * t.patience, f"the {which} without descriptors uses {100 * used:.0f} % of a CPU")
        steady.sendall(b"still")
        t.equal(harness.receive_exactly(steady, 5), b"still", f"a flow that was up, {which} without descriptors")
        resource.prlimit(process.pid, resource.RLIMIT_NOFILE, old)
        for s in crowd:
            s.close()
        t.wait(lambda: works(t, port), 20, f"the {which} serves again")
        for each in (client, server, sink):
            each.kill()


def works(t, port):
    try:
        t.load(port, "both", "--bytes", 65536, "--timeout", "5s", ok=1)
        return True
    except Failed:
        return False


@test("L.descriptor_limit_is_raised")
def descriptor_limit(t):
    """Started with few descriptors, as services often are, the program takes all that it may have."""
    sink, port, few = t.destination(), t.port(), (256, 20000)
    server = t.server(nofile=few)
    client = t.client(server.port, f"127.0.0.1:{port}:127.0.0.1:{sink.port}", nofile=few)
    for process in (server, client):
        t.equal(resource.prlimit(process.pid, resource.RLIMIT_NOFILE), (20000, 20000), f"descriptors of {process.name}")
        # The kernel's table of them has its size from the start: to let it grow holds a worker up.
        places = int(re.search(r"^FDSize:\t(\d+)$", open(f"/proc/{process.pid}/status").read(), re.M)[1])
        t.check(places >= 20000, f"the kernel's table of {process.name} has {places} places")
    load = t.load_started(port, "noread", "--connections", 1000, "--bytes", 100, "--stalled-after", "60s")
    load.wait_line('"event":"ready"', 60 * t.patience)
    t.wait(lambda: sink.descriptors() >= 1000, 20, lambda: f"{sink.descriptors()} connections at the destination")


BEFORE_LOGIN, EARLY = 1024, 64 * 1024  # connections, half of the descriptors; bytes that each may make the server keep


@test("L.slow_handshakes_do_not_crowd_out", seconds=90)
def crowd(t):
    """Far more half-open connections than are allowed before a login: whichever go are chosen by chance, so that neither the
    first nor the last can be kept out, and one that logs in gets through."""
    server, sink, port = t.server("--auth", "u:p", nofile=(2 * BEFORE_LOGIN,) * 2), t.destination(), t.port()
    before, open_before = server.pss(), server.descriptors()
    count, crowd = 1500 if t.sanitized else 3000, []
    for _ in range(count):
        s = socket.create_connection(("127.0.0.1", server.port), 10)
        s.setblocking(False)
        swallow(lambda: s.send(wire.upgrade_request()))
        crowd.append(s)
    t.sockets += crowd
    t.wait(lambda: server.descriptors() <= open_before + BEFORE_LOGIN, 20,
           lambda: f"{server.descriptors() - open_before} connections before a login, {BEFORE_LOGIN} are allowed")
    evicted = 0

    def dealt_with():  # the last ones may still wait to be accepted
        nonlocal evicted
        # Closing takes a moment, so descriptors may run out beside it: then some go for those.
        evicted = report.total(report.report(server, 30 * t.patience), r"(?:evicted-before-login|for-descriptors)=(\d+)")
        return evicted >= count - BEFORE_LOGIN
    t.wait(dealt_with, 20, lambda: f"{evicted} of {count} were evicted")
    t.check(count - BEFORE_LOGIN <= evicted <= count - BEFORE_LOGIN + 10, f"{evicted} of {count} were evicted")
    alive = []

    def settled():  # the ends of the last ones are on their way
        alive[:] = [not over(s) for s in crowd]
        return sum(alive) == count - evicted

    t.wait(settled, 20, lambda: f"{sum(alive)} connections are still open, {count - evicted} are not evicted")
    # Each eviction meets each of those there with the same chance: so many of the first and of the last are left by it.
    stays, last = 1 - 1 / BEFORE_LOGIN, min(BEFORE_LOGIN, count - BEFORE_LOGIN)
    for name, got, want in (("first", sum(alive[:BEFORE_LOGIN]), BEFORE_LOGIN * stays ** (count - BEFORE_LOGIN)),
                            ("last", last - sum(alive[-last:]), last - sum(stays ** n for n in range(last)))):
        t.check(want / 2 < got < want * 2, f"of the {name} connections {got} {'stayed' if name == 'first' else 'went'}; {want:.0f} by chance")
    grown = (server.pss() - before) / MIB
    t.check(t.sanitized or grown < BEFORE_LOGIN * EARLY / MIB, f"half-open connections cost {grown:.0f} MiB")
    t.client(server.port, f"127.0.0.1:{port}:127.0.0.1:{sink.port}", flags=("--auth", "u:p"), connected=False).wait_line("Connected", 45 * t.patience)
    t.load(port, "both", "--bytes", MIB, ok=1)
    t.note(f"{count} half-open connections: {grown:+.0f} MiB, {evicted} evicted")


@test("L.a_crowd_comes_first")
def first_crowd(t):
    """Nobody was ever served when a crowd takes the last descriptor, in one turn of the server (it stands still meanwhile): what it
    needs once, such as the seed of its random octets, must not want a descriptor then."""
    server, sink, port = t.server("--auth", "u:p", nofile=(BEFORE_LOGIN,) * 2), t.destination(), t.port()
    server.signal(signal.SIGSTOP)
    for _ in range(BEFORE_LOGIN + 200):
        s = socket.socket()
        t.sockets.append(s)
        s.setblocking(False)
        swallow(lambda: s.connect(("127.0.0.1", server.port)))
    server.signal(signal.SIGCONT)
    t.wait(lambda: report.total(report.report(server, 30 * t.patience), r"for-descriptors=(\d+)") > 0, 20, "connections make room for others")
    t.client(server.port, f"127.0.0.1:{port}:127.0.0.1:{sink.port}", flags=("--auth", "u:p"), connected=False).wait_line("Connected", 45 * t.patience)
    t.load(port, "both", "--bytes", MIB, ok=1)


def over(s):
    """Whether a socket that does not wait is at its end."""
    try:
        while s.recv(65536):
            pass
    except BlockingIOError:
        return False
    except OSError:
        pass
    return True


@test("L.too_much_before_login")
def too_much_before_login(t):
    """What nobody asked for ends a connection that has not logged in, and that soon."""
    t.kernel_buffers(65536)
    server = t.server("--auth", "u:p")
    filler = b"X-Filler: " + b"y" * 4000 + b"\r\n"
    cases = {"an HTTP head without end": ("head", filler), "a WebSocket message of one packet": ("websocket", b"\0\3\xff\xf0" + bytes(60000)),
             "a message of many packets": ("websocket", wire.clear_packet(bytes([wire.IGNORE]) + wire.string(bytes(1000))) * 40),
             "a native packet": ("native", b"\0\3\xff\xf0" + bytes(60000))}
    for name, (kind, junk) in cases.items():
        s = begin(t, server, kind)
        s.settimeout(5 * t.patience)
        sent = 0
        try:
            while sent < 64 * MIB:
                sent += s.send(wire.frame(junk, mask=bytes(4)) if kind == "websocket" else junk)
        except OSError:
            pass
        # The kernels between take some as well.
        t.check(sent < EARLY + 512 * 1024, f"{name}: {sent / 1024:.0f} KiB were taken")


def begin(t, server, kind):
    s = t.connect(server.port)
    if kind == "native":
        s.sendall(b"SSH-2.0-Probe\r\n")
    elif kind == "head":
        s.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n")
    else:
        s.sendall(wire.upgrade_request())
        s.recv(65536)  # the 101 and what is behind it
        s.sendall(wire.frame(b"SSH-chisel-v3-client\r\n"))
    return s


@test("L.unread_answers_before_login")
def unread_answers(t):
    """A thousand strangers who ask and ask and read no answer take neither memory nor what those need who have logged in."""
    count = 200 if t.sanitized else 1000
    t.kernel_buffers(16384)
    server, sink, port = t.server("--auth", "u:p"), t.destination(), t.port()
    t.client(server.port, f"127.0.0.1:{port}:127.0.0.1:{sink.port}", flags=("--auth", "u:p"))
    t.load(port, "both", "--bytes", 8 * MIB, "--connections", 8, ok=8)
    before, strangers = server.pss(), []
    for _ in range(count):
        s = socket.socket()
        t.sockets.append(s)
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        s.connect(("127.0.0.1", server.port))
        s.setblocking(False)
        strangers.append(s)
    requests, sent, rounds = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n" * 400, 1, 0
    while sent and rounds < 200:  # until no kernel takes any more
        sent, rounds = 0, rounds + 1
        for s in strangers:
            with contextlib.suppress(OSError):
                sent += s.send(requests)
    t.load(port, "both", "--bytes", MIB, ok=1)
    t.client(server.port, flags=("--auth", "u:p"), name="burin-client-late")
    t.wait(lambda: harness.quiet(server), 20, "the server comes to rest")
    text = report.report(server, 30 * t.patience)
    grown = server.pss() - before
    t.note(f"{grown / count / 1024:.1f} KiB each after {rounds} rounds")
    t.equal(report.total(text, report.IN_USE["arenas"]), 0, "arenas that strangers hold")
    t.check(t.sanitized or grown < count * (EARLY + 4096), f"each costs {grown / count / 1024:.1f} KiB")


@test("L.memory_before_login")
def memory_before_login(t):
    """A thousand strangers, each of whom left the server with as much of something unfinished as it takes."""
    count = 200 if t.sanitized else 1000
    packet = (35000 - 4).to_bytes(4, "big") + b"\4" + bytes(34000)  # the largest that may come before a login, less its end
    small = wire.frame(packet, mask=bytes(4))
    # What each sends, and how much of it the server has to keep.
    kinds = {"an HTTP head": ("head", b"X-Filler: " + b"y" * 15000 + b"\r\n", 15000), "a packet in a WebSocket": ("websocket", small, 34000),
             "a packet in frames of a byte": ("websocket", b"".join(wire.frame(packet[n:n + 1], mask=bytes(4), opcode=0 if n else 2, fin=False)
                                                                 for n in range(4000)), 4000),
             "a native packet": ("native", packet, 34000),
             "a key exchange": ("websocket", wire.frame(wire.clear_packet(wire.kexinit()) + packet[:10000], mask=bytes(4)), 10000)}
    for name, (kind, rest, kept) in kinds.items():
        server = t.server("--auth", "u:p")
        for _ in range(20):
            begin(t, server, kind).close()
        before = server.pss()
        strangers = [begin(t, server, kind) for _ in range(count)]
        for s in strangers:
            s.sendall(rest)
        held = 0

        def all_taken():
            nonlocal held
            had, held = held, report.total(report.report(server, 30 * t.patience), r"listener: before-login=.* bytes=(\d+)/")
            return held == had and held >= count * kept and harness.quiet(server)
        t.wait(all_taken, 30, lambda: f"{name}: {held} bytes are held")
        grown = server.pss() - before
        t.note(f"{name}: {grown / count / 1024:.1f} KiB")
        for s in strangers:
            s.setblocking(False)
        t.equal(sum(over(s) for s in strangers), 0, f"{name}: connections that were ended")
        t.check(t.sanitized or grown < count * (EARLY + 4096), f"{name}: each costs {grown / count / 1024:.1f} KiB")
        server.kill()
