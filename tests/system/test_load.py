"""The whole under load: big transfers, many flows, restarts, stalled readers, budgets, and ends that tell the truth."""

import fcntl
import os
import resource
import signal
import socket
import threading
import time

import harness
import wire
from harness import Failed, test

MIB = 1 << 20


def tunnel(t, server_flags=(), client_flags=(), destination_flags=()):
    """Server, client and destination of our own; returns them and the local port."""
    sink, port = t.destination(*destination_flags), t.port()
    server = t.server(*server_flags)
    client = t.client(server.port, f"127.0.0.1:{port}:127.0.0.1:{sink.port}", flags=client_flags)
    return server, client, sink, port


@test("L.one_gib_each_way", seconds=240, exclusive=True)
def one_gib(t):
    server, client, _, port = tunnel(t)
    size = 128 * MIB if t.sanitized else 1024 * MIB
    rates, before = [], None
    for turn in range(5 if t.long else 2):
        for mode in ("up", "down"):
            summary = t.load(port, mode, "--bytes", size, "--seed", (t.seed + turn) & 0xFFFFFFFF, seconds=100, ok=1)
            rates.append(f"{mode} {8e-9 * size / summary['seconds']:.2f}")
        memory = server.pss() + client.pss()
        if before and not t.sanitized:
            t.check(memory < before + 32 * MIB, f"memory grew from {before / MIB:.0f} to {memory / MIB:.0f} MiB")
        before = before or memory
    t.load(port, "both", "--bytes", size // 2, seconds=100, ok=1)
    t.note(f"Gbit/s {', '.join(rates)}; memory of both ends {before / MIB:.0f} MiB")


@test("L.one_gib_with_two_workers", seconds=240, exclusive=True)
def two_workers(t):
    _, _, _, port = tunnel(t, ("--workers", "2"), ("--workers", "2"))
    size = 32 * MIB if t.sanitized else 256 * MIB
    t.load(port, "both", "--bytes", size, "--connections", 4, seconds=120, ok=4)
    t.load(port, "both", "--bytes", 65536, "--connections", 200, ok=200)


@test("L.thousand_flows", seconds=180, exclusive=True)
def thousand_flows(t):
    server, client, sink, port = tunnel(t)
    count = 300 if t.sanitized else 1000
    t.load(port, "both", "--bytes", 16, "--connections", 100, ok=100)
    t.wait(lambda: harness.settled(server) and harness.settled(client), 20, "descriptors come to rest")
    descriptors = [p.descriptors() for p in (server, client)]
    for _ in range(2):
        t.load(port, "both", "--bytes", 256 * 1024, "--connections", count, "--dialing", count, seconds=100, ok=count)
    t.load(port, "echo", "--bytes", 32 * 1024, "--half-close", "--connections", count, "--dialing", count, seconds=100, ok=count)
    t.wait(lambda: [p.descriptors() for p in (server, client)] <= descriptors, 30,
           lambda: f"descriptors {[p.descriptors() for p in (server, client)]}, before {descriptors}")
    t.check(sink.alive(), "the destination")


@test("L.server_killed_under_load", seconds=240, exclusive=True)
def server_killed(t):
    server, client, sink, port = tunnel(t)
    flows = 20 if t.sanitized else 50
    t.load(port, "both", "--bytes", 65536, "--connections", flows, ok=flows)
    t.wait(lambda: harness.settled(client), 20, "descriptors come to rest")
    descriptors = client.descriptors()
    memory = None
    rounds = 8 if t.long else 4
    for turn in range(rounds):
        load = t.load_started(port, "both", "--bytes", 4 * MIB, "--connections", flows, "--again", "--duration", "60s", "--progress", "100ms")
        load.wait_line(r'"progress": \d{8}', 30 * t.patience)
        server.kill()
        # Everything in flight ends, and every end is one that nobody takes for success.
        load.popen.stdin.close()
        load.wait_exit(20)
        server = t.server(port=server.port)
        client.wait_line("Connected", 30 * t.patience, turn + 2)
        t.load(port, "both", "--bytes", MIB, "--connections", flows, ok=flows)
        t.wait(lambda: client.descriptors() <= descriptors, 30, lambda: f"{client.descriptors()} descriptors in the client, {descriptors} before")
        now = client.pss()
        if memory is None:
            memory = now
    t.check(t.sanitized or now < memory + 16 * MIB, f"the client grew from {memory / MIB:.1f} to {now / MIB:.1f} MiB")
    # How the flows of a killed server end: never as if they were whole.
    load = t.load_started(port, "down", "--bytes", 1 << 40, "--connections", flows, "--progress", "100ms")
    load.wait_line(r'"progress": \d{8}', 30 * t.patience)
    server.kill()
    load.wait_exit(30 * t.patience)
    t.equal(harness.last_json(load)["outcomes"], {"reset": flows}, "ends of transfers that were cut off")
    t.note(f"{rounds} restarts; client {memory / MIB:.1f} -> {now / MIB:.1f} MiB")


@test("L.client_killed_under_load", seconds=120)
def client_killed(t):
    server, client, sink, port = tunnel(t, destination_flags=("--log",))
    t.wait(lambda: harness.settled(server), 20, "descriptors come to rest")
    load = t.load_started(port, "up", "--bytes", 0, "--connections", 8, "--progress", "100ms")
    load.wait_line(r'"progress": \d{9}', 30 * t.patience)
    client.kill()
    load.wait_exit(30 * t.patience)
    t.equal(harness.last_json(load)["outcomes"], {"reset": 8}, "at the applications, whose tunnel was killed")
    sink.wait_line('"mode":1', 20 * t.patience, 8)
    ends = [line for line in sink.out().splitlines() if '"mode":1' in line]
    t.check(all('"end":"reset"' in line for line in ends), f"the destination took cut-off transfers for whole ones: {ends}")


@test("L.ends_tell_the_truth", seconds=90)
def ends_tell_the_truth(t):
    listener, port = t.listen(), t.port()
    server = t.server()
    client = t.client(server.port, f"127.0.0.1:{port}:127.0.0.1:{listener.getsockname()[1]}")

    def flow():
        s = t.connect(port)
        s.sendall(b"x" * 1000)
        peer, _ = listener.accept()
        harness.receive_exactly(peer, 1000)
        return s, peer
    for what in ("the destination resets", "the application resets"):
        s, peer = flow()
        first, second = (peer, s) if what == "the destination resets" else (s, peer)
        harness.reset(first)
        t.equal(harness.ended_how(second)[0], "reset", what)
    for what in ("the destination ends", "the application ends"):
        s, peer = flow()
        first, second = (peer, s) if what == "the destination ends" else (s, peer)
        first.close()
        t.equal(harness.ended_how(second)[0], "eof", what)
        second.close()
    # A destination that resets in the middle of a transfer.
    s, peer = flow()
    sent = threading.Thread(target=lambda: swallow(lambda: peer.sendall(bytes(64 * MIB))), daemon=True)
    sent.start()
    harness.receive_exactly(s, MIB)
    harness.reset(peer)
    t.equal(harness.ended_how(s)[0], "reset", "a transfer that the destination resets")
    # The session is lost at either end.
    s, peer = flow()
    server.kill()
    t.equal((harness.ended_how(s)[0], harness.ended_how(peer)[0]), ("reset", "reset"), "the server is killed")
    server = t.server(port=server.port)
    client.wait_line("Connected", 20 * t.patience, 2)
    s, peer = flow()
    client.kill()
    t.equal((harness.ended_how(s)[0], harness.ended_how(peer)[0]), ("reset", "reset"), "the client is killed")
    client = t.client(server.port, f"127.0.0.1:{port}:127.0.0.1:{listener.getsockname()[1]}")
    for name, process in (("client", client), ("server", server)):
        s, peer = flow()
        process.signal(signal.SIGTERM)
        t.equal((harness.ended_how(s)[0], harness.ended_how(peer)[0]), ("reset", "reset"), f"the {name} ends by SIGTERM")
        process.wait_exit(10 * t.patience)
        if name == "client":
            t.client(server.port, f"127.0.0.1:{port}:127.0.0.1:{listener.getsockname()[1]}", name="burin-client-again")


def swallow(work):
    try:
        work()
    except OSError:
        pass


@test("L.close_without_eof_is_a_reset")
def close_without_eof(t):
    """CLOSE alone: a reset for whoever waits, from peers that are known to send EOF; FIN from Go up to 1.11."""
    server, listener = t.server(), t.listen()

    def ends(session, how):
        channel = session.open(f"127.0.0.1:{listener.getsockname()[1]}")
        peer, _ = listener.accept()
        session.data(channel, b"some bytes")
        (session.eof if how == "eof" else session.close)(channel)
        result = harness.ended_how(peer)
        peer.close()
        session.pump(lambda: channel.got_close, 10, "CLOSE")
        return result

    # A version tells, before any stream has ended; one that says nothing counts as old until its first EOF.
    for version, steps in (("1.12.0", (("close", "reset"), ("eof", "eof"), ("close", "reset"))),
                           ("1.11.5", (("close", "eof"), ("close", "eof"))),
                           ("0.0.0-src", (("close", "eof"), ("eof", "eof"), ("close", "reset")))):
        raw = wire.Raw(t, "client", server.port)
        raw.authenticate()
        raw.configure(wire.config_json(version))
        session = wire.Session(raw)
        for turn, (how, want) in enumerate(steps):
            result, data = ends(session, how)
            t.equal(result, want, f"{how}, stream {turn + 1} of a client of version {version}")
            # A reset may overtake what came before it.
            t.check(want == "reset" or data == b"some bytes", f"{data!r} arrived")
        raw.process.kill()
    # A server does not tell its version. What one session learnt of it, the next one knows.
    port, local = t.port(), t.port()
    raw = wire.Raw(t, "server", port)
    client = t.client(port, f"127.0.0.1:{local}:some.host:80", connected=False)

    def answered(session, turn, how):
        s = t.connect(local)
        session.pump(lambda: len(session.opened) > turn, 10, "CHANNEL_OPEN")
        channel = session.opened[turn]
        session.data(channel, b"some bytes")
        if how == "eof":
            session.eof(channel)
        session.settle(0.2)
        session.close(channel)
        result, data = harness.ended_how(s)
        t.check(result == "reset" or data == b"some bytes", f"at the application: {data!r}")
        session.pump(lambda: channel.got_close, 10, "the answer to CLOSE")
        return result

    session = raw.admit()
    session.accept_open = lambda channel: True
    for turn, (how, want) in enumerate((("close", "eof"), ("eof", "eof"), ("close", "reset"))):
        t.equal(answered(session, turn, how), want, f"at the application, {how} of stream {turn + 1}")
    raw.process.kill()
    client.wait_line("Disconnected", 15 * t.patience)
    raw = wire.Raw(t, "server", port)
    session = raw.admit()
    session.accept_open = lambda channel: True
    t.equal(answered(session, 0, "close"), "reset", "at the application, CLOSE alone in the next session")


def rate(t, port, mode, seconds):
    """Bytes per second of one stream."""
    load = t.load_started(port, mode, "--bytes", 0, "--duration", f"{seconds}s")
    load.wait_exit(seconds + 30)
    summary = harness.last_json(load)
    if summary["outcomes"] != {"ok": 1}:
        raise Failed(f"the fast flow: {summary}")
    return summary["bytes"] / summary["seconds"]


@test("L.stalled_readers_beside_a_fast_flow", seconds=240, exclusive=True)
def stalled_readers(t):
    count = 50 if t.sanitized else 200
    ratios = {}
    t.kernel_buffers(256 * 1024)
    for mode, stalling in (("down", ("down", "--stall")), ("up", ("noread",))):
        server, client, sink, port = tunnel(t)
        rate(t, port, mode, 1)
        alone = max(rate(t, port, mode, 2) for _ in range(2))
        load = t.load_started(port, stalling[0], *stalling[1:], "--connections", count, "--bytes", 64 * MIB, "--stalled-after", "2s")
        load.wait_line('"event":"ready"', 90 * t.patience)
        # The stalled flows fill what they may; then nothing of theirs moves any more.
        t.wait(lambda: quiet(client), 60, "the stalled flows come to rest")
        beside = max(rate(t, port, mode, 2) for _ in range(3))
        ratios[mode] = beside / alone
        t.check(load.alive(), f"the stalled load ended: {load.out()}")
        load.finish()
        for process in (client, server, sink):
            process.kill()
    t.note(", ".join(f"{mode} keeps {100 * ratio:.0f} %" for mode, ratio in ratios.items()))
    if not t.sanitized:
        for mode, ratio in ratios.items():
            t.check(ratio >= 0.6, f"{mode}: beside {count} stalled readers {100 * ratio:.0f} % of the rate are left")


def quiet(process):
    """Whether a process takes next to no CPU."""
    before = process.cpu_seconds()
    time.sleep(0.5)
    return process.cpu_seconds() - before < 0.03


@test("L.reset_of_a_stalled_flow_is_noticed", seconds=90)
def reset_of_stalled(t):
    """Both sides of a flow that does not move may go away; nothing of it stays behind."""
    server, client, _, port = tunnel(t)
    for mode, flags in (("down", ("--stall",)), ("noread", ("--stalled-after", "1s"))):
        load = t.load_started(port, mode, *flags, "--connections", 20, "--bytes", 64 * MIB)
        load.wait_line('"event":"ready"', 60 * t.patience)
        t.wait(lambda: quiet(client), 60, "the stalled flows come to rest")
        load.finish()  # the application resets
        t.wait(lambda: server.descriptors() < 20 and client.descriptors() < 20, 30,
               lambda: f"the flows are gone ({mode}; {server.descriptors()} and {client.descriptors()} descriptors)")
    t.load(port, "both", "--bytes", MIB, ok=1)


@test("L.ten_thousand_channels_never_read", seconds=300, exclusive=True)
def never_read(t):
    count = 1000 if t.sanitized else 9500
    flags = ("--max-channels", "20000")
    t.kernel_buffers(32768)
    server, client, sink, port = tunnel(t, flags, flags)
    t.load(port, "both", "--bytes", MIB, ok=1)
    load = t.load_started(port, "noread", "--connections", count, "--bytes", 16 * MIB, "--stalled-after", "1s", "--dialing", 1000)
    load.wait_line('"event":"(ready|done)"', 240 * t.patience)
    memory = {p.name: p.pss() / MIB for p in (server, client)}
    summary = harness.last_json(load)
    t.note(f"{summary.get('outcomes')} {summary['bytes'] / MIB:.0f} MiB taken; memory " + ", ".join(f"{name} {m:.0f} MiB" for name, m in memory.items()))
    if not t.sanitized:
        workers = os.cpu_count() or 1
        for name, used in memory.items():
            t.check(used < 256 * workers + 128, f"{name} uses {used:.0f} MiB; the budget is 256 MiB a worker")
    # A new flow is served within what is left of the budget, or refused at once; it does not hang.
    summary = t.load(port, "both", "--bytes", MIB, "--timeout", "30s")
    t.check(summary["outcomes"] in ({"ok": 1}, {"reset": 1}), f"a new flow beside them: {summary}")
    # When they are gone, by both their ends, all is as before.
    load.finish()
    address = sink.port
    sink.kill()
    t.wait(lambda: server.descriptors() < 200 and client.descriptors() < 200, 60,
           lambda: f"descriptors left: {server.descriptors()} and {client.descriptors()}")
    again = t.start("destination", [t.peer, "load", "server", "--listen", f"127.0.0.1:{address}"])
    t.listening(again, "127.0.0.1", address)
    t.load(port, "both", "--bytes", 8 * MIB, "--connections", 4, ok=4)


@test("L.small_budget")
def small_budget(t):
    """A budget of a few MiB is kept: flows are slower or refused, never wrong."""
    flags = ("--memory", "16MiB")
    server, client, _, port = tunnel(t, flags, flags)
    t.load(port, "both", "--bytes", 4 * MIB, "--connections", 32, seconds=60, ok=32)
    load = t.load_started(port, "noread", "--connections", 300, "--bytes", 4 * MIB, "--send-buffer", "4096", "--stalled-after", "1s")
    load.wait_line('"event":"(ready|done)"', 60 * t.patience)
    t.note(f"server {server.pss() / MIB:.0f} MiB, client {client.pss() / MIB:.0f} MiB")
    load.finish()


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


@test("L.stderr_that_nobody_reads")
def stderr_unread(t):
    sink, port = t.destination(), t.port()
    pipes = [os.pipe() for _ in range(2)]
    for read_end, _ in pipes:
        # As small as a pipe can be, and filled at once.
        fcntl.fcntl(read_end, 1031, 4096)  # F_SETPIPE_SZ
    server_port = t.port()
    t.server("-v", port=server_port, stderr=pipes[0][1])
    client = t.start("burin-client", [t.binary, "client", "-v", f"http://127.0.0.1:{server_port}", f"127.0.0.1:{port}:127.0.0.1:{sink.port}"],
                     stderr=pipes[1][1])
    t.listening(client, "127.0.0.1", port)
    for _ in range(10):  # some hundred lines each
        t.load(port, "both", "--bytes", 1000, "--connections", 100, ok=100)
    t.load(port, "both", "--bytes", 8 * MIB, ok=1)


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


@test("L.slow_handshakes_do_not_crowd_out", seconds=90)
def crowd(t):
    """Far more half-open connections than are allowed before a login; one that logs in gets through."""
    server, sink, port = t.server("--auth", "u:p"), t.destination(), t.port()
    before = server.pss()
    for _ in range(3000 if not t.sanitized else 1500):
        s = socket.create_connection(("127.0.0.1", server.port), 10)
        s.setblocking(False)
        swallow(lambda: s.send(wire.upgrade_request()))
        t.sockets.append(s)
    grown = (server.pss() - before) / MIB
    t.check(t.sanitized or grown < 160, f"half-open connections cost {grown:.0f} MiB")
    t.client(server.port, f"127.0.0.1:{port}:127.0.0.1:{sink.port}", flags=("--auth", "u:p"), connected=False).wait_line("Connected", 45 * t.patience)
    t.load(port, "both", "--bytes", MIB, ok=1)
    t.note(f"3000 half-open connections: {grown:+.0f} MiB, {server.descriptors()} descriptors")


@test("L.memory_before_login")
def memory_before_login(t):
    """A peer that has not logged in cannot make the server keep more than 64 KiB for it."""
    server = t.server("--auth", "u:p")
    before = server.pss()
    for native in (False, True):
        s = t.connect(server.port)
        if native:
            s.sendall(b"SSH-2.0-Probe\r\n")
        else:
            s.sendall(wire.upgrade_request())
            wire.read_head(s)
            s.sendall(wire.frame(b"SSH-chisel-v3-client\r\n"))
        s.settimeout(5 * t.patience)
        sent = 0
        try:
            while sent < 64 * MIB:
                junk = (b"\0\3\xff\xf0" + bytes(60000))
                sent += s.send(junk if native else wire.frame(junk, mask=bytes(4)))
        except OSError:
            pass
        t.check(sent < 64 * MIB, f"64 MiB were taken before a login (native: {native})")
        grown = (server.pss() - before) / MIB
        t.check(t.sanitized or grown < 8, f"memory grew by {grown:.1f} MiB")
