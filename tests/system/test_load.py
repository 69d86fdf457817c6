"""The whole under load: big transfers, many flows, restarts, stalled readers, budgets, and ends that tell the truth."""

import fcntl
import os
import re
import signal
import socket
import threading
import time

import harness
import report
import wire
from harness import Failed, test

MIB = 1 << 20


def tunnel(t, server_flags=(), client_flags=(), destination_flags=()):
    """Server, client and destination of our own; returns them and the local port."""
    sink, port = t.destination(*destination_flags), t.port()
    server = t.server(*server_flags)
    client = t.client(server.port, f"127.0.0.1:{port}:127.0.0.1:{sink.port}", flags=client_flags)
    return server, client, sink, port


@test("L.one_gib_each_way", seconds=240, slots=2)
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


@test("L.one_gib_with_two_workers", seconds=240, slots=2)
def two_workers(t):
    _, _, _, port = tunnel(t, ("--workers", "2"), ("--workers", "2"))
    size = 32 * MIB if t.sanitized else 256 * MIB
    t.load(port, "both", "--bytes", size, "--connections", 4, seconds=120, ok=4)
    t.load(port, "both", "--bytes", 65536, "--connections", 200, ok=200)


@test("L.old_kernel", seconds=120)
def old_kernel(t):
    """Ports and several workers on what Linux 6.1 has."""
    sink, port, old = t.destination(), t.port(), {"BURIN_OLD_KERNEL": "1"}
    server = t.server("--workers", "2", env=old)
    client = t.client(server.port, f"127.0.0.1:{port}:127.0.0.1:{sink.port}", flags=("--workers", "2"), env=old, connected=False)
    client.wait_line("Connected", 15 * t.patience, 2)
    t.load(port, "both", "--bytes", (4 if t.sanitized else 32) * MIB, "--connections", 4, ok=4)
    t.load(port, "echo", "--bytes", 65536, "--half-close", "--connections", 100, ok=100)
    for process in (client, server):
        report.wait_idle(t, process)


@test("L.thousand_flows", seconds=180, slots=2)
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


@test("L.server_killed_under_load", seconds=240, slots=2)
def server_killed(t):
    server, client, sink, port = tunnel(t)
    flows = 20 if t.sanitized else 50
    t.load(port, "both", "--bytes", 65536, "--connections", flows, ok=flows)
    t.wait(lambda: harness.settled(client), 20, "descriptors come to rest")
    descriptors = client.descriptors()
    memory = budget = None
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
        # No buffer, arena, window or piece of the lost sessions is left.
        for process in (client, server):
            kept = report.kept(report.wait_idle(t, process))
            budget = budget or kept["free for growth"]
            t.equal(kept["free for growth"], budget, f"the budget of the {process.name}")
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


def rate(t, port, mode, seconds=1):
    """Bytes per second of one stream: the better of two runs."""
    def run():
        load = t.load_started(port, mode, "--bytes", 0, "--duration", f"{seconds}s")
        load.wait_exit(seconds + 30)
        summary = harness.last_json(load)
        if summary["outcomes"] != {"ok": 1}:
            raise Failed(f"the fast flow: {summary}")
        return summary["bytes"] / summary["seconds"]
    return max(run() for _ in range(2))


@test("L.stalled_readers_beside_a_fast_flow", seconds=240, exclusive=True)
def stalled_readers(t):
    """A flow keeps 80 % of its rate beside readers that never read. Each figure is compared with what the flow reached right
    before and right after it; other work on the machine may spoil a comparison, but hardly four of them."""
    count = 50 if t.sanitized else 200
    t.kernel_buffers(256 * 1024)
    server, client, sink, port = tunnel(t)
    for mode, stalling in (("down", ("down", "--stall")), ("up", ("noread",))):
        rate(t, port, mode)
        shares, alone = [], rate(t, port, mode)
        while len(shares) < (1 if t.sanitized else 4) and not any(share >= 0.8 for share in shares):
            load = t.load_started(port, *stalling, "--connections", count, "--bytes", 64 * MIB, "--stalled-after", "1s")
            load.wait_line('"event":"ready"', 90 * t.patience)
            # The stalled flows fill what they may; then nothing of theirs moves any more.
            t.wait(lambda: harness.quiet(client, server), 60, "the stalled flows come to rest")
            beside = rate(t, port, mode)
            t.check(load.alive(), f"the stalled load ended: {load.out()}")
            load.finish()
            for process in (client, server):
                report.wait_idle(t, process)
            before, alone = alone, rate(t, port, mode)
            shares.append(2 * beside / (before + alone))
        t.note(f"{mode} keeps {', '.join(f'{100 * share:.0f} %' for share in shares)}")
        t.check(t.sanitized or max(shares) >= 0.8, f"{mode}: beside {count} stalled readers {100 * max(shares):.0f} % of the rate are left")


@test("L.reset_of_a_stalled_flow_is_noticed", seconds=90)
def reset_of_stalled(t):
    """Both sides of a flow that does not move may go away; nothing of it stays behind."""
    server, client, _, port = tunnel(t)
    for mode, flags in (("down", ("--stall",)), ("noread", ("--stalled-after", "1s"))):
        load = t.load_started(port, mode, *flags, "--connections", 20, "--bytes", 64 * MIB)
        load.wait_line('"event":"ready"', 60 * t.patience)
        t.wait(lambda: harness.quiet(client), 60, "the stalled flows come to rest")
        load.finish()  # the application resets
        t.wait(lambda: server.descriptors() < 20 and client.descriptors() < 20, 30,
               lambda: f"the flows are gone ({mode}; {server.descriptors()} and {client.descriptors()} descriptors)")
    t.load(port, "both", "--bytes", MIB, ok=1)


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


class Answering:
    """A destination that answers each byte with one, and somebody who waits for each answer before the next."""

    def __init__(self, t):
        self.t, self.port, self.stopping, self.answers = t, t.port(), threading.Event(), 0
        self.listener = socket.create_server(("127.0.0.1", self.port))
        t.sockets.append(self.listener)
        threading.Thread(target=self.answer, daemon=True).start()

    def answer(self):
        s, _ = self.listener.accept()
        self.t.sockets.append(s)
        while s.send(s.recv(1) or b""):
            pass

    def ask(self, s):
        while not self.stopping.is_set():
            s.sendall(b"k")
            if s.recv(1) != b"k":
                return
            self.answers += 1
            time.sleep(0.005)


@test("L.unread_is_bounded_while_somebody_waits", seconds=120)
def unread_bounded(t):
    """The receive buffer of a session is the kernel's to fit; beside somebody who waits for answers it is small, and afterwards
    it is what it was."""
    sink, keys, bulk, port = t.destination(), Answering(t), t.port(), t.port()
    server = t.server()
    client = t.client(server.port, f"127.0.0.1:{bulk}:127.0.0.1:{sink.port}", f"127.0.0.1:{port}:127.0.0.1:{keys.port}")

    def buffer(end):
        text = t.run("ss", ["ss", "-Htnm", "state", "established", f"{end} = :{server.port}"], seconds=10).out()
        return int(re.search(r"skmem:\(r\d+,rb(\d+)", text)[1])

    load = [t.load_started(bulk, mode, "--bytes", 0, "--duration", "90s") for mode in ("down", "up")]
    receivers = {"client": "dport", "server": "sport"}
    told = {}
    for name, end in receivers.items():
        t.wait(lambda end=end: buffer(end) > MIB, 20, lambda end=end: f"bulk makes the buffer large: {buffer(end)}")
    somebody = threading.Thread(target=keys.ask, args=(t.connect(port),), daemon=True)
    somebody.start()
    for name, end in receivers.items():
        t.wait(lambda end=end: buffer(end) <= 512 * 1024, 20, lambda end=end, name=name: f"the {name}'s is small: {buffer(end)}, {keys.answers} answers")
        told[name] = buffer(end)
    keys.stopping.set()
    somebody.join(10 * t.patience)
    t.check(keys.answers > 0, "nobody was answered")
    for name, end in receivers.items():
        t.wait(lambda end=end: buffer(end) > MIB, 20, lambda end=end, name=name: f"the {name}'s is large again: {buffer(end)}")
    for process in load:
        t.check(process.alive(), f"the bulk ended: {process.out()}")
        process.finish()
    t.note(f"{keys.answers} answers; {told}")
