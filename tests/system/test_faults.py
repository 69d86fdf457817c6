"""A kernel that is short of everything: each operation of the ring fails in turn (burin_faulty, tests/faults), beside flows of
every kind. The ground is that of test_tun.py."""

import contextlib
import json
import re
import signal
import socket
import struct
import time

import faults
import harness
import native
import report
from faults import Faults
from harness import Failed, test
from test_outages import allowed, connects, quietly
from test_tun import FAR, MIB, World
from test_tun6 import ping, request

SHORT = ("ENOBUFS", "ENOMEM", "EMFILE")
# How often each operation goes wrong (one in so many), and how, beside SHORT. What a program does often it survives only
# if it is not met each time.
PLANS = {
    "receive": (60, ("ENFILE", "ECANCELED", "EINTR", "EAGAIN", "cut", "late")),
    "send": (60, ("ENFILE", "EINTR", "EAGAIN", "cut", "late")),
    "send_message": (60, ("ECANCELED", "EINTR", "EAGAIN", "cut", "late")),
    "receive_messages": (1, ("ECANCELED", "EINTR", "late")),
    "connect": (3, ("EADDRNOTAVAIL", "ENETUNREACH", "ETIMEDOUT", "EINTR", "late")),
    "shutdown": (2, ("EINTR",)),
    "cancel": (1, ("ECANCELED", "late")),
    "close": (2, ("ECANCELED",)),
    "read": (1, ("EINTR", "EAGAIN", "late")),
    "read_frames": (20, ("ECANCELED", "EINTR", "EAGAIN", "late")),
    "write_vector": (60, ("EINTR", "EAGAIN", "late")),
    "enter": (5, ("EBUSY", "EAGAIN", "EINTR")),
    "socket": (4, ("ENFILE",)),
}


def plan_of(t, operation, kinds=None):
    often, others = PLANS[operation]
    kinds = kinds or (others if operation == "enter" else SHORT + others)
    # Together as often as one of them alone would be.
    return f"seed={t.random.randrange(1 << 31)} {operation}=" + ",".join(f"{kind}:1/{often * len(kinds)}" for kind in kinds)


class Asker:
    """Datagrams of the LAN host, some fifty a second, answered or not; an answer that is nobody's fails."""

    def __init__(self, t, w):
        self.w = w
        with w.inside("cloud"):
            self.echo = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.echo.bind((FAR, 7200))
        self.echo.settimeout(0.1)
        t.sockets.append(self.echo)
        self.asker, self.over, self.answers = None, False, 0
        self.workers = [harness.Worker(self.reflect), harness.Worker(self.ask)]

    def reflect(self):
        while not self.over:
            with contextlib.suppress(OSError):  # nothing came, or an ICMP error
                data, who = self.echo.recvfrom(4096)
                self.echo.sendto(data, who)

    def ask(self):
        number = 0
        while not self.over:
            if number % 5 == 0:  # a source more, which has a socket of its own at the far end
                if self.asker:
                    self.asker.close()
                with self.w.inside("lan"):
                    self.asker = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
                self.asker.connect((FAR, 7200))
                self.asker.setblocking(False)
            number += 1
            with contextlib.suppress(OSError):
                self.asker.send(struct.pack("!I", number) * 100)
            time.sleep(0.02)
            with contextlib.suppress(OSError):
                while data := self.asker.recv(4096):
                    if data != data[:4] * 100:
                        raise Failed(f"an answer of {len(data)} bytes that nobody sent")
                    self.answers += 1
        self.asker.close()

    def stop(self):
        self.over = True
        for worker in self.workers:
            worker.join()


def half_closed(s):
    """Ends its side of a flow that is none of the load's, and leaves when the other has as well, or soon."""
    with s:
        s.sendall(b"x")
        s.shutdown(socket.SHUT_WR)
        s.settimeout(0.05)
        s.recv(1)


def matrix(t, operations, seconds, old_kernel, separately=False):
    faults.use(t)
    w = World(t)
    at = {name: Faults(t, name, "accept=ENFILE:1/1") for name in ("server", "client")}
    kernel = {"BURIN_OLD_KERNEL": "1"} if old_kernel else {}
    server = w.server(env={**at["server"].env, **kernel})
    sink = w.destination("--log")
    local = t.port()
    client = w.client("--keepalive", "2s", env={**at["client"].env, **kernel}, remotes=(f"127.0.0.1:{local}:{FAR}:7000",), connected=False)
    programs = (client, server)
    # Whoever listens takes nobody in at first. Later on each accepts for ever, by one operation.
    for kind in SHORT + ("ECANCELED", "EINTR"):
        failed = {name: one.failed()["accept"] for name, one in at.items()}
        for one in at.values():
            one.set(f"accept={kind}:1/1")
        t.wait(lambda: all(one.failed()["accept"] > failed[name] for name, one in at.items()), 20, f"accepts that fail with {kind}")
    for one in at.values():
        one.set()
    client.wait_line("Connected", 20 * t.patience)
    # Memory for the first bulk comes late, and that is all.
    for one in at.values():
        one.set(f"seed={t.random.randrange(1 << 31)} mmap=ENOMEM:2/3")
    t.load(local, "both", "--bytes", MIB, "--connections", 24, ok=24)
    w.load("lan", "both", "--bytes", MIB, "--connections", 24, ok=24)
    t.check(sum(one.failed()["mmap"] for one in at.values()) > 0, "mmap never failed")
    for one in at.values():
        one.set()
    before = {p.name: (report.kept(report.wait_idle(t, p)), p.descriptors()) for p in programs}
    phases = [(operation, kinds) for operation in operations
              for kinds in ([(one,) for one in SHORT + PLANS[operation][1]] if separately and operation != "enter" else [None])]
    t.random.shuffle(phases)
    seconds *= 2 if t.sanitized else 1
    length = seconds / len(phases)
    more = ("--again", "--duration", f"{seconds + 1}s", "--timeout", f"{20 * t.patience}s", "--seed", t.seed & 0xFFFF)
    loads = [w.load_started("lan", "both", "--bytes", 200_000, "--connections", 4, *more),
             w.load_started("gateway", "up", "--half-close", "--bytes", 50_000, "--connections", 3, *more, host="127.0.0.1", port=local),
             w.load_started("gateway", "both", "--bytes", 2 * MIB, "--connections", 2, *more, host="127.0.0.1", port=local)]
    stalled = w.load_started("gateway", "down", "--stall", "--connections", 4, "--bytes", 8 * MIB, host="127.0.0.1", port=local)
    asker = Asker(t, w)

    def hits(operation):
        return sum(one.failed()[operation] for one in at.values())
    for operation, kinds in phases:
        end = time.monotonic() + length
        for one in at.values():
            one.set(plan_of(t, operation, kinds))
        had = hits(operation)
        while time.monotonic() < end or (hits(operation) == had and time.monotonic() < end + 5 * t.patience):
            time.sleep(min(0.05, length))
            # What hardly comes by itself: mail for a worker, flows that end, and operations that are pending then.
            for process in programs if operation == "read" else ():
                process.signal(signal.SIGUSR2)
            quietly(lambda: harness.reset(t.connect(local)))
            quietly(lambda: half_closed(t.connect(local)))
        # The watchdog: both still turn, whatever fails.
        for process in programs:
            t.check(process.alive(), f"the {process.name} ended with {operation} {kinds or ''}: {harness.tail(process.text())}")
            report.report(process, 10 * t.patience)
    hit = {operation: hits(operation) for operation in operations}
    for one in at.values():
        one.set()
    asker.stop()
    ends = {}
    for load in loads:
        load.wait_exit(60 * t.patience)
        summary = harness.last_json(load)
        for how, count in summary["outcomes"].items():
            ends[how] = ends.get(how, 0) + count
    stalled.finish()
    strange = [line for line in sink.out().splitlines() if line.startswith("{") and json.loads(line)["mode"] and json.loads(line)["end"] not in ("eof", "reset")]
    t.check(not strange, f"how flows ended at the destination: {strange[:3]}")
    t.check(allowed(ends), f"how flows ended: {ends}")
    t.check(ends.get("ok", 0) > 0, f"no flow came through: {ends}")
    t.check(asker.answers > 0, "no datagram came through")
    # What comes now is carried as if nothing had been.
    t.wait(lambda: "not connected" not in report.report(client, 10 * t.patience), 20, "a session")
    w.load("lan", "both", "--bytes", 100_000, "--connections", 20, ok=20)
    t.load(local, "both", "--bytes", 100_000, "--connections", 20, ok=20)
    for one in at.values():
        one.skip(70)  # silent UDP flows are forgotten after 60 s, and sessions live on
    for process in programs:
        kept, descriptors = before[process.name]
        text = report.wait_idle(t, process, 40)
        t.equal(report.kept(text)["free for growth"], kept["free for growth"], f"the budget of the {process.name}")

        def same():
            return report.kept(report.report(process, 10 * t.patience))["timers"] <= kept["timers"] + 1 and process.descriptors() <= descriptors
        t.wait(same, 60, lambda: f"{process.name}: {process.descriptors()} descriptors, {descriptors} before; "
               f"{report.kept(report.report(process))} and {kept} before")
    t.check(all(hit.values()), f"what never failed was not tried: {hit}")
    t.note(f"{sum(hit.values())} faults in {len(phases)} phases, flows {ends}")
    for process in programs:
        process.signal(signal.SIGTERM)
        t.equal(process.wait_exit(20 * t.patience), 0, f"the {process.name} ends")


@test("F.every_operation_fails", seconds=120)
def every_operation(t):
    """Each operation of the ring in turn, for want of memory, buffers and descriptors and otherwise, beside flows of every kind:
    each of these ends whole or with a reset, and nothing of it stays."""
    matrix(t, list(PLANS), 6, old_kernel=True)


@test("F.every_operation_fails_each_way", seconds=900, long=True)
def each_way(t):
    matrix(t, [o for o in PLANS if o != "read_frames"], 120, old_kernel=False, separately=True)


@test("F.pings_fail", seconds=60)
def pings_fail(t):
    """What the server's ICMP sockets do fails; echoes are lost then, and never changed, and come back when the faults are over."""
    faults.use(t)
    w = World(t)
    at = Faults(t, "server")
    server = w.server(env=at.env)
    client = w.client()
    with w.inside("lan"):
        s = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
    t.sockets.append(s)
    t.equal(ping(t, s, 4, 1), (FAR, 0), "an echo")
    number, answers, hit = 1, 0, {}
    for operation, kinds in (("receive_message", SHORT + ("EINTR", "EAGAIN", "late")), ("poll", SHORT + ("ECANCELED", "EINTR", "late")),
                             ("send_message", SHORT + ("EINTR", "EAGAIN", "late"))):
        at.set(f"seed={t.random.randrange(1 << 31)} {operation}=" + ",".join(f"{kind}:1/{4 * len(kinds)}" for kind in kinds))
        end = time.monotonic() + t.patience
        while time.monotonic() < end:
            number += 1
            s.sendto(request(4, number, struct.pack("!H", number) * 50), (FAR, 0))
            time.sleep(0.01)
            with contextlib.suppress(BlockingIOError):
                while packet := s.recv(4096, socket.MSG_DONTWAIT):
                    if packet[20] == 0:
                        t.equal(packet[28:], packet[26:28] * 50, "what an echo carried")
                        answers += 1
        hit[operation] = at.failed()[operation]
        report.report(server, 10 * t.patience)
    at.set()

    def well():
        nonlocal number
        number += 1
        s.settimeout(1)
        s.sendto(request(4, number, b"well?"), (FAR, 0))
        with contextlib.suppress(socket.timeout):
            while packet := s.recv(4096):
                if packet[20] == 0 and packet[26:28] == struct.pack("!H", number):
                    return True
        return False
    t.wait(well, 20, "an answer when all is well")
    t.check(all(hit.values()) and answers > 0, f"{hit}, {answers} answers")
    t.note(f"{answers} answers beside {sum(hit.values())} faults")
    for process in (client, server):
        t.wait(lambda p=process: report.in_use(report.report(p)) in ({}, {"channels": 1}), 20, f"the {process.name} at rest")  # the echo channel
        process.signal(signal.SIGTERM)
        t.equal(process.wait_exit(20 * t.patience), 0, f"the {process.name} ends")


@test("F.native_sessions", seconds=120)
def native_sessions(t):
    """OpenSSH's client on a server whose operations fail: what it forwards is right as far as it comes."""
    faults.use(t)
    at = Faults(t, "server")
    sink = t.destination()
    server = t.server("--auth", "user:secret", env=at.env)
    hit = 0
    operations = ["receive", "send", "send_message", "connect", "enter"]
    t.random.shuffle(operations)
    for turn, operation in enumerate(operations if t.long else operations[:3]):
        port = t.port()
        at.set(plan_of(t, operation))
        ssh = native.start(t, server.port, "-L", f"127.0.0.1:{port}:127.0.0.1:{sink.port}", password="secret", name=f"ssh-{operation}")

        def forwards():
            if not ssh.alive():
                return True
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                return True
            except OSError:
                return False
        t.wait(forwards, 20, lambda: f"ssh with {operation}: {harness.tail(ssh.text())}")
        load = t.load_started(port, "both", "--bytes", 300_000, "--connections", 4, "--again", "--duration", f"{t.patience}s",
                              "--timeout", f"{20 * t.patience}s")
        load.wait_exit(60 * t.patience)
        # OpenSSH makes an ordinary end of a CLOSE without EOF.
        summary = harness.last_json(load)
        t.check(allowed(summary["outcomes"], "cut_clean"), f"with {operation}: {summary}")
        hit += at.failed()[operation]
        at.set()
        report.report(server, 10 * t.patience)
        ssh.kill()
    port = t.port()
    native.start(t, server.port, "-L", f"127.0.0.1:{port}:127.0.0.1:{sink.port}", password="secret", name="ssh-at-last")
    t.wait(lambda: connects(port), 20, "ssh forwards")
    t.load(port, "both", "--bytes", 100_000, "--connections", 10, ok=10)
    t.check(hit > 0, "nothing failed")
    for process in t.processes:
        if process.name.startswith("ssh"):
            process.kill()
    report.wait_idle(t, server)


@test("F.shortages_pass", seconds=60)
def shortages_pass(t):
    """A kernel that is short of something for a session's send, or has no memory at all for its first, costs time and nothing else."""
    faults.use(t)
    at = {name: Faults(t, name) for name in ("server", "client")}
    sink, port, where = t.destination(), t.port(), t.port()
    client = t.client(where, f"127.0.0.1:{port}:127.0.0.1:{sink.port}", flags=("--keepalive", "1000s", "--max-retry-interval", "1s"),
                      env=at["client"].env, connected=False)
    client.wait_line("Retrying", 15 * t.patience)
    at["client"].set("mmap=ENOMEM:1/1")
    server = t.server(port=where, env=at["server"].env)
    t.wait(lambda: at["client"].failed()["mmap"] > 3, 15, "memory is asked for")
    t.check("Connected" not in client.text(), "a session without memory")
    at["client"].set()
    client.wait_line("Connected", 10 * t.patience)
    for one in at.values():
        one.set(f"seed={t.random.randrange(1 << 31)} send=ENOMEM:1/4,ENOBUFS:1/4,EMFILE:1/4,EAGAIN:1/8,EINTR:1/8,cut:1/3")
    t.load(port, "both", "--bytes", 300_000, "--connections", 24, ok=24)
    t.check(all(one.failed()["send"] > 0 for one in at.values()), "no send failed")
    t.check("Disconnected" not in client.text(), f"the session was lost: {client.text()}")
    for one in at.values():
        one.set()
    for process in (client, server):
        report.wait_idle(t, process)


@test("F.started_without_descriptors", seconds=60)
def started_without_descriptors(t):
    """However few descriptors it may have, the program says that it cannot start, or starts; and it can always be ended."""
    for most in range(4, 16, 2):
        port = t.port()
        for words in (["server", "--host", "127.0.0.1", "--port", port], ["client", f"http://127.0.0.1:{port}", f"127.0.0.1:{t.port()}:127.0.0.1:1"]):
            process = t.start(f"burin-{words[0]}-{most}", [t.binary, *words], nofile=(most, most))
            t.wait(lambda: not process.alive() or "Listening" in process.text(), 15, lambda: f"a word of {process.name}: {process.text()}")
            if process.alive():
                process.signal(signal.SIGTERM)
                t.equal(process.wait_exit(15 * t.patience), 0, f"{process.name}, ended by a signal")
            else:
                t.check(process.popen.returncode > 0 and process.text().strip(), f"{process.name} ended with {process.popen.returncode}: {process.text()}")


@test("F.small_rings", seconds=90)
def small_rings(t):
    """Queues of a few entries, which overflow all the time: slower, and never wrong."""
    faults.use(t)
    at = Faults(t, "both", f"seed={t.random.randrange(1 << 31)} submissions=4 completions=8 enter=EBUSY:1/20,EINTR:1/20")
    sink, port = t.destination(), t.port()
    server = t.server(env=at.env)
    client = t.client(server.port, f"127.0.0.1:{port}:127.0.0.1:{sink.port}", env=at.env)
    t.load(port, "both", "--bytes", 1 * MIB, "--connections", 24, ok=24)
    t.load(port, "up", "--half-close", "--bytes", 10_000, "--connections", 200, ok=200)
    t.check(at.failed()["enter"] > 0, "enter never failed")
    for process in (client, server):
        report.wait_idle(t, process)


@test("F.sends_without_a_copy", seconds=60)
def sends_without_a_copy(t):
    """Sends of --send-zc that fail, are cut or come late: the kernel keeps what it has, and what arrives is right."""
    faults.use(t)
    at = {name: Faults(t, name) for name in ("server", "client")}
    always = {"BURIN_SEND_ZC": "always"}
    sink, port = t.destination(), t.port()
    server = t.server(env={**at["server"].env, **always})
    client = t.client(server.port, f"127.0.0.1:{port}:127.0.0.1:{sink.port}", env={**at["client"].env, **always})
    seed = f"seed={t.random.randrange(1 << 31)} "
    for plan in ("send_zero_copy=ENOBUFS:1/8,EMFILE:1/8,EAGAIN:1/8,EINTR:1/8,cut:1/4,late:1/4", "send_zero_copy=ENOMEM:1/4"):
        for one in at.values():
            one.set(seed + plan)
        t.load(port, "both", "--bytes", 4 * MIB, "--connections", 8, ok=8)
        t.check(all(one.failed()["send_zero_copy"] > 0 for one in at.values()), f"nothing failed with {plan}")
    for process in (client, server):
        t.equal(re.search(r"arenas=(\d+)/\d+ lent=(\d+)", report.wait_idle(t, process)).groups(), ("0", "0"), f"arenas of the {process.name}")
    t.check("Disconnected" not in client.text(), f"the session was lost: {client.text()}")
