"""Who has not logged in: what crowds of them can cost, how long they may stay, how often they may guess (docs/security.md)."""

import contextlib
import os
import re
import signal
import sys
import threading
import time

import harness
import native
import report
import wire
from harness import Failed, Worker, test
from wire import message, string

MIB = 1 << 20
CROWD = os.path.join(harness.HERE, "crowd.py")
KINDS = ("silent", "head", "upgraded", "line", "kexinit", "endless", "message")
LISTENER = {name: r"listener:.* %s=(\d+)" % name for name in
            ("before-login", "bytes", "evicted-before-login", "for-memory", "for-descriptors", "too-late", "pauses", "failed-logins",
             "addresses", "waiting")}


def listener(t, server):
    """What the server tells of strangers. A worker that is busy with thousands of them is asked again."""
    def told():
        had = len(server.text())
        server.signal(signal.SIGUSR2)
        with contextlib.suppress(Failed):
            harness.wait_until(lambda: "listener: failed-logins" in server.text()[had:], 3, "a report")
        return re.findall(r"listener: .*", server.text()[had:])
    lines = "\n".join(t.wait(lambda: (lines := told()) and lines[-2:], 60, "a report of the listener"))
    return {name: report.total(lines, pattern) for name, pattern in LISTENER.items()}


def crowd(t, server, kind, count):
    return t.start(f"crowd-{kind}", [sys.executable, CROWD, server.port, kind, count, t.seed & 0xFFFFFF])


def ground(t, nofile, *flags, **env):
    """Server with so many descriptors, client and destination; and a port through all of them."""
    sink, port = t.destination(), t.port()
    server = t.server("--auth", "u:p", *flags, nofile=(nofile, nofile), env=env)
    client = t.client(server.port, f"127.0.0.1:{port}:127.0.0.1:{sink.port}", flags=("--auth", "u:p"))
    return server, client, sink, port


class Peak:
    """The most that a process's Pss comes to, looked at all the while."""

    def __init__(self, process):
        self.process, self.most, self.stop = process, 0, threading.Event()
        self.thread = Worker(self.look)

    def look(self):
        while True:
            self.most = max(self.most, self.process.pss())
            if self.stop.wait(0.1):
                return

    def finish(self):
        self.stop.set()
        self.thread.join(30)
        return self.most


def at_rest(t, process):
    """Pss when pools have given back what bulk needed."""
    def same():
        before = process.pss()
        time.sleep(2.5)
        return abs(process.pss() - before) < MIB
    t.wait(same, 30, "memory comes to rest")
    return process.pss()


@test("S18.twenty_thousand_strangers", seconds=180, exclusive=True)
def twenty_thousand(t):
    """Silent, dripping and endless ones, beside a transfer: the server has 20 000 descriptors, as many as there are strangers."""
    count, size, bound = (700, 16 * MIB, None) if t.sanitized else (20_000, 256 * MIB, 96 * MIB)
    t.kernel_buffers(65536)
    # The deadline of a login is long enough for all of them to be there together.
    server, client, sink, port = ground(t, 20_000, CHISEL_SSH_TIMEOUT="14s")

    def rate():
        return size / t.load(port, "down", "--bytes", size, seconds=60, ok=1)["seconds"]

    peak = Peak(server)
    before = max(rate() for _ in range(2))
    busy, rest, open_before, peak = peak.finish(), at_rest(t, server), server.descriptors(), Peak(server)
    cpu = server.cpu_seconds()
    crowds = [crowd(t, server, kind, count // len(KINDS)) for kind in KINDS]
    total = sum(int(each.wait_line(r"ready (\d+)", 90 * t.patience).group(1)) for each in crowds)
    used = server.cpu_seconds() - cpu
    at_once, idle, peak = listener(t, server), peak.finish() - rest, Peak(server)
    # Beside them: a transfer, and somebody who logs in.
    during = 0
    for _ in range(3):
        during = max(during, rate())
        if during >= before / 2:
            break
    late = t.port()
    second = t.client(server.port, f"127.0.0.1:{late}:127.0.0.1:{sink.port}", flags=("--auth", "u:p"), connected=False, name="late")
    second.wait_line("Connected", 30 * t.patience)
    t.load(late, "both", "--bytes", MIB, ok=1)
    still = listener(t, server)["before-login"]
    # All of them end, whatever they drip.
    for each in crowds:
        each.wait_line("over", 60 * t.patience)
    after, beside = listener(t, server), peak.finish() - busy
    t.equal(after["before-login"], 0, "strangers that are left")
    t.wait(lambda: server.descriptors() <= open_before + 3, 20, lambda: f"{server.descriptors()} descriptors, {open_before} before")
    if during < before / 2:  # is it they, or the machine?
        before = min(before, rate())
    room = after["evicted-before-login"] + after["for-memory"] + after["for-descriptors"]
    t.note(f"{total} strangers, {at_once['before-login']} of them at once, {still} after the transfer: Pss {idle / MIB:+.1f} MiB at rest, "
           f"{beside / MIB:+.1f} beside it; {used:.1f} s of CPU; {before / MIB:.0f} MiB/s before, {during / MIB:.0f} beside them; {after}")
    # Where the listening socket's queue is full, the kernel answers for connections that the server never sees.
    ended = room + after["too-late"]
    t.check(0.95 * total <= ended <= total + 20, f"of {total} strangers {ended} are accounted for: {after}")
    t.check(after["too-late"] > 0, f"none ended at the deadline: {after}")
    if bound:
        t.check(room > 0, f"there was no crowd: {after}")
        t.check(max(idle, beside) < bound, f"{total} strangers cost {idle / MIB:.1f} MiB, beside a transfer {beside / MIB:.1f}")
        t.check(during >= before / 2, f"{before / MIB:.0f} MiB/s before, {during / MIB:.0f} beside strangers")
    t.equal(server.text().count("Too many connections before login"), 1 if room else 0, "lines about them")
    t.load(port, "both", "--bytes", MIB, ok=1)


@test("S18.descriptors_for_those_inside", seconds=90)
def descriptors(t):
    """Descriptors run out because of those who are in: strangers give theirs back, and one more client gets in."""
    server, client, _, port = ground(t, 400)
    load = t.load_started(port, "noread", "--connections", 250, "--bytes", 100, "--stalled-after", "60s")
    load.wait_line('"event":"ready"', 60 * t.patience)
    strangers = crowd(t, server, "silent", 500)
    strangers.wait_line("ready", 30 * t.patience)
    t.wait(lambda: listener(t, server)["for-descriptors"] > 0, 30, "strangers make room")
    late = t.client(server.port, flags=("--auth", "u:p"), connected=False, name="late")
    late.wait_line("Connected", 30 * t.patience)
    server.wait_line("No descriptors are left", 5)
    t.equal(server.text().count("No descriptors are left"), 1, "lines about it")
    t.check(load.alive() and client.alive(), "those that were there before")
    strangers.kill()
    load.finish()
    t.wait(lambda: server.descriptors() < 100, 30, lambda: f"{server.descriptors()} descriptors")
    t.load(port, "both", "--bytes", MIB, ok=1)


@test("S18.dials_of_those_inside", seconds=90)
def dials(t):
    """Strangers hold the descriptors: whoever is in gets its connections all the same, by address and by name."""
    server, client, sink, _ = ground(t, 400, "-v")
    named = t.port()
    by_name = t.client(server.port, f"127.0.0.1:{named}:localhost:{sink.port}", flags=("--auth", "u:p"), name="by-name")
    strangers = crowd(t, server, "silent", 500)
    t.wait(lambda: listener(t, server)["evicted-before-login"] > 0, 30 * t.patience, "as many strangers as there may be")
    load = t.load_started(named, "noread", "--connections", 300, "--bytes", 100, "--stalled-after", "60s")
    t.wait(lambda: "Open [300/300]" in server.text() or "too many open files" in server.text(), 60 * t.patience, "300 dials")
    t.equal(len(re.findall("too many open files", server.text())), 0, "dials refused")
    seen = listener(t, server)
    t.check(seen["for-descriptors"] > 0, f"no stranger made room: {seen}")
    t.check(load.alive() and client.alive() and by_name.alive(), "those that are in")
    strangers.kill()
    load.finish()


def asking(t, port, host="127.0.0.1"):
    """A connection that may give its password next."""
    raw = wire.Raw(t, "client", port, "--address", f"{host}:{port}")
    raw.handshake()
    raw.send(message(wire.SERVICE_REQUEST, string("ssh-userauth")))
    if (raw.packet() or b"?")[0] == wire.EXT_INFO:
        raw.expect(wire.SERVICE_ACCEPT)
    return raw


@test("S18.failed_logins_wait", seconds=90, slots=0)
def failed_logins(t):
    """Each failed login of an address makes the next answers to it later, and nobody else's; the right password gets in."""
    server, sink = t.server("--auth", "user:right", host="::", env={"BURIN_LOGIN_DELAY": "500ms"}), t.destination()
    guesser, elsewhere, right = asking(t, server.port), asking(t, server.port, "[::1]"), [asking(t, server.port) for _ in range(3)]
    waits = []
    for n in range(3):
        guesser.send(wire.password_request("user", f"wrong{n}"))
        if n == 2:  # its answer is two seconds away
            elsewhere.send(wire.password_request("user", "right"))
            elsewhere.expect(wire.USERAUTH_SUCCESS)
            t.check(guesser.packet(0) is None, "a wrong password is answered at once")
        began = time.monotonic()
        guesser.expect(wire.USERAUTH_FAILURE)
        waits.append(time.monotonic() - began)
    t.check(waits[0] < waits[1] < waits[2], f"answers after {waits}")
    # The right password from there waits as long, each login for itself; what comes behind it waits, too.
    for raw in right:
        raw.send(wire.password_request("user", "right"), message(wire.GLOBAL_REQUEST, string("config"), b"\1", wire.config_json()))
    t.wait(lambda: listener(t, server)["waiting"] == 3, 10, "three logins wait beside each other")
    for raw in right:
        raw.expect(wire.USERAUTH_SUCCESS)
        raw.expect(wire.REQUEST_SUCCESS)
    # Whole clients: one that opens channels at once, Go's, and OpenSSH's with a wrong password and with the right one.
    port, forwarded = t.port(), t.port()
    ours = t.client(server.port, f"127.0.0.1:{port}:127.0.0.1:{sink.port}", flags=("--auth", "user:right"), connected=False)
    go = t.go_client(server.port, flags=("--auth", "user:right"), connected=False)
    wrong = native.start(t, server.port, password="wrong", name="ssh-wrong")
    ssh = native.start(t, server.port, "-L", f"127.0.0.1:{forwarded}:127.0.0.1:{sink.port}", password="right")
    t.listening(ours, "127.0.0.1", port)
    t.load(port, "both", "--bytes", MIB, "--connections", 20, ok=20)
    ours.wait_line("Connected", 20 * t.patience)
    go.wait_line("Connected", 20 * t.patience)
    t.listening(ssh, "127.0.0.1", forwarded)
    t.load(forwarded, "both", "--bytes", MIB, ok=1)
    t.equal(wrong.wait_exit(30 * t.patience), 255, "ssh with a wrong password")
    seen = listener(t, server)
    t.check(seen["failed-logins"] >= 4 and seen["addresses"] == 1 and seen["waiting"] == 0, f"{seen}")
    t.note(f"answers to wrong passwords after {', '.join(f'{each:.2f}' for each in waits)} s")


@test("S18.dripping_ends_at_the_deadline", seconds=60, slots=0)
def dripping(t):
    """Neither bytes nor whole requests make a login's time longer."""
    server = t.server("--auth", "u:p", env={"CHISEL_SSH_TIMEOUT": "2s"})
    crowds = [crowd(t, server, kind, 3) for kind in KINDS]
    busy = t.connect(server.port)

    def refused():
        try:
            busy.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
            return not busy.recv(4096)
        except OSError:
            return True
    t.wait(refused, 20, "requests come to an end")
    for each in crowds:
        each.wait_line("over", 20 * t.patience)
    seen = listener(t, server)
    t.equal((seen["before-login"], seen["too-late"]), (0, 3 * len(KINDS) + 1), "strangers left, and ended at the deadline")
