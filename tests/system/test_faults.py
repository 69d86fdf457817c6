"""What may break around the program: a kernel that is short of everything (burin_faulty, tests/faults), processes that are
stopped or killed, paths that vanish and return, destinations that do what they like; and that nothing waits for ever,
by a clock that the test moves (docs/deadlines.md).

The ground is that of test_tun.py.
"""

import os
import signal
import socket
import struct
import subprocess
import time

import faults
import harness
import native
import report
import wire
from faults import Faults
from harness import Failed, test
from test_tun import FAR, MIB, OUTSIDE, World

SHORT = ("ENOBUFS", "ENOMEM", "EMFILE")
# How often each operation goes wrong (one in so many), and how, beside SHORT. What a program does often it survives only
# if it is not met each time.
PLANS = {
    "receive": (60, ("ENFILE", "ECANCELED", "EINTR", "EAGAIN", "cut", "late")),
    "send": (60, ("ENFILE", "EINTR", "EAGAIN", "cut", "late")),
    "send_message": (60, ("ECANCELED", "EINTR", "EAGAIN", "cut", "late")),
    "receive_message": (4, ("EINTR", "EAGAIN", "late")),
    "receive_messages": (4, ("ECANCELED", "EINTR", "late")),
    "accept": (4, ("ENFILE", "ECANCELED", "EINTR", "late")),
    "connect": (6, ("EADDRNOTAVAIL", "ENETUNREACH", "ETIMEDOUT", "EINTR", "late")),
    "shutdown": (4, ("EINTR", "late")),
    "cancel": (3, ("ECANCELED", "late")),
    "close": (4, ("ECANCELED",)),
    "poll": (3, ("ECANCELED", "EINTR", "late")),
    "read": (3, ("EINTR", "EAGAIN", "late")),
    "read_frames": (40, ("ECANCELED", "EINTR", "EAGAIN", "late")),
    "write_vector": (60, ("EINTR", "EAGAIN", "late")),
    "enter": (5, ("EBUSY", "EAGAIN", "EINTR")),
    "socket": (4, ("ENFILE",)),
    "mmap": (2, ()),
}


def plan_of(t, operation, kinds=None):
    often, others = PLANS[operation]
    errors = ("ENOMEM",) if operation == "mmap" else ("EAGAIN", "EBUSY", "EINTR") if operation == "enter" else SHORT + others
    kinds = kinds or errors
    # Together as often as one of them alone would be.
    return f"seed={t.random.randrange(1 << 31)} {operation}=" + ",".join(f"{kind}:1/{often * len(kinds)}" for kind in kinds)


class Asker:
    """Datagrams and echo requests of the LAN host, a few dozen a second, answered or not; an answer that is another's fails."""

    def __init__(self, t, w):
        with w.inside("cloud"):
            self.echo = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.echo.bind((FAR, 7200))
        self.echo.settimeout(0.1)
        with w.inside("lan"):
            self.asker = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            self.pinger = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
        self.asker.connect((FAR, 7200))
        self.asker.setblocking(False)
        t.sockets += [self.echo, self.asker, self.pinger]
        self.over, self.answers, self.number = False, 0, 0
        self.workers = [harness.Worker(self.reflect), harness.Worker(self.ask)]

    def reflect(self):
        while not self.over:
            try:
                data, who = self.echo.recvfrom(4096)
                self.echo.sendto(data, who)
            except OSError:  # nothing came, or an ICMP error
                pass

    def ask(self):
        while not self.over:
            self.number += 1
            try:
                self.asker.send(struct.pack("!I", self.number) * 100)
                head = struct.pack("!BBHHH", 8, 0, 0, 77, self.number & 0xFFFF) + b"p" * 56
                words = sum(struct.unpack(f"!{len(head) // 2}H", head))
                words = (words & 0xFFFF) + (words >> 16)
                self.pinger.sendto(head[:2] + struct.pack("!H", ~(words + (words >> 16)) & 0xFFFF) + head[4:], (FAR, 0))
            except OSError:
                pass
            time.sleep(0.02)
            try:
                while True:
                    data = self.asker.recv(4096)
                    if len(data) != 400 or data != data[:4] * 100:
                        raise Failed(f"an answer of {len(data)} bytes that nobody sent")
                    self.answers += 1
            except (BlockingIOError, ConnectionError, OSError):
                pass

    def stop(self):
        self.over = True
        for worker in self.workers:
            worker.join()


def allowed(outcomes, *more):
    return set(outcomes) <= {"ok", "reset", "refused", *more}


def matrix(t, operations, seconds, old_kernel, separately=False):
    faults.use(t)
    w = World(t)
    at = {"server": Faults(t, "server"), "client": Faults(t, "client")}
    kernel = {"BURIN_OLD_KERNEL": "1"} if old_kernel else {}
    server = w.server(env={**at["server"].env, **kernel})
    w.destination()
    local = t.port()
    client = w.client("--keepalive", "2s", env={**at["client"].env, **kernel}, remotes=(f"127.0.0.1:{local}:{FAR}:7000",))
    programs = (client, server)
    t.load(local, "both", "--bytes", 1000, ok=1)
    before = {p.name: (report.kept(report.wait_idle(t, p)), p.descriptors()) for p in programs}
    phases = [(operation, kinds) for operation in operations
              for kinds in ([(one,) for one in SHORT + PLANS[operation][1]] if separately and operation not in ("enter", "mmap") else [None])]
    t.random.shuffle(phases)
    length = seconds * t.patience / len(phases)
    more = ("--again", "--duration", f"{seconds * t.patience + 1:.1f}s", "--timeout", f"{20 * t.patience}s", "--seed", t.seed & 0xFFFF)
    loads = [w.load_started("lan", "both", "--bytes", 200_000, "--connections", 4, *more),
             w.load_started("gateway", "up", "--half-close", "--bytes", 50_000, "--connections", 3, *more, host="127.0.0.1", port=local),
             w.load_started("gateway", "both", "--bytes", 2 * MIB, "--connections", 2, *more, host="127.0.0.1", port=local)]
    stalled = w.load_started("gateway", "down", "--stall", "--connections", 4, "--bytes", 8 * MIB, host="127.0.0.1", port=local)
    asker = Asker(t, w)
    for operation, kinds in phases:
        end = time.monotonic() + length
        for one in at.values():
            one.set(plan_of(t, operation, kinds))
        while time.monotonic() < end:
            time.sleep(min(0.1, length))
        # The watchdog: both still turn, whatever fails.
        for process in programs:
            t.check(process.alive(), f"the {process.name} ended with {operation} {kinds or ''}: {harness.tail(process.text())}")
            report.report(process, 10 * t.patience)
    hit = {operation: sum(one.failed()[operation] for one in at.values()) for operation in operations}
    for one in at.values():
        one.set()
    asker.stop()
    ends = {}
    for load in loads:
        load.wait_exit(60 * t.patience)
        summary = harness.last_json(load)
        t.check(allowed(summary["outcomes"]), f"how flows ended: {summary}")
        for how, count in summary["outcomes"].items():
            ends[how] = ends.get(how, 0) + count
    stalled.finish()
    t.check(ends.get("ok", 0) > 0, f"no flow came through: {ends}")
    t.check(asker.answers > 0, "no datagram came through")
    # What comes now is carried as if nothing had been.
    t.wait(lambda: "not connected" not in report.report(client, 10 * t.patience), 20, "a session")
    w.load("lan", "both", "--bytes", 100_000, "--connections", 20, ok=20)
    t.load(local, "both", "--bytes", 100_000, "--connections", 20, ok=20)
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
    matrix(t, list(PLANS), 10, old_kernel=True)


@test("F.every_operation_fails_each_way", seconds=900, long=True)
def each_way(t):
    matrix(t, [o for o in PLANS if o != "read_frames"], 120, old_kernel=False, separately=True)


@test("F.native_sessions", seconds=120)
def native_sessions(t):
    """OpenSSH's client on a server whose operations fail: what it forwards is right as far as it comes."""
    faults.use(t)
    at = Faults(t, "server")
    sink = t.destination()
    server = t.server("--auth", "user:secret", env=at.env)
    hit = 0
    operations = ["receive", "send", "send_message", "connect", "cancel", "enter", "mmap"]
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
    t.wait(lambda: harness_connects(port), 20, "ssh forwards")
    t.load(port, "both", "--bytes", 100_000, "--connections", 10, ok=10)
    t.check(hit > 0, "nothing failed")
    for process in t.processes:
        if process.name.startswith("ssh"):
            process.kill()
    report.wait_idle(t, server)


def harness_connects(port):
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
        return True
    except OSError:
        return False


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


# -- processes -------------------------------------------------------------------------------------------------------------


@test("F.killed_at_any_moment", seconds=120)
def killed(t):
    """SIGKILL at either end, whatever it does just then: its flows end with resets, and the other end is there for the next."""
    sink, port, where = t.destination("--log"), t.port(), t.port()
    start = {"server": lambda: t.start("burin-server", [t.binary, "server", "--host", "127.0.0.1", "--port", where]),
             "client": lambda: t.client(where, f"127.0.0.1:{port}:127.0.0.1:{sink.port}", connected=False)}
    running = {name: make() for name, make in start.items()}
    t.wait(lambda: harness_connects(port), 15, "the client listens")
    rounds = 40 if t.long else 8
    seconds = rounds * 0.5 * t.patience
    loads = [t.load_started(port, mode, *flags, "--again", "--duration", f"{seconds:.1f}s", "--timeout", f"{20 * t.patience}s")
             for mode, *flags in (("both", "--bytes", 500_000, "--connections", 8), ("up", "--half-close", "--bytes", 20_000, "--connections", 4))]
    end, kills = time.monotonic() + seconds - 1, 0
    while time.monotonic() < end:
        time.sleep(t.random.random() * 0.6 * t.patience)
        name = t.random.choice(sorted(start))
        running[name].kill()
        kills += 1
        time.sleep(t.random.random() * 0.1)
        running[name] = start[name]()
    ends = {}
    for load in loads:
        load.wait_exit(90 * t.patience)
        summary = harness.last_json(load)
        t.check(allowed(summary["outcomes"]), f"how flows ended: {summary}")
        for how, count in summary["outcomes"].items():
            ends[how] = ends.get(how, 0) + count
    t.check(ends.get("ok", 0) > 0 and ends.get("reset", 0) > 0, f"{kills} kills: {ends}")
    t.note(f"{kills} kills, flows {ends}")
    # A port that was killed is let go of a moment later; the program tries again by itself, or it was told so.
    for name in start:
        if not running[name].alive():
            running[name] = start[name]()
    t.wait(lambda: t.load(port, "both", "--bytes", 1000)["outcomes"] == {"ok": 1}, 20, "a flow at last")
    t.load(port, "both", "--bytes", 100_000, "--connections", 8, ok=8)
    for process in running.values():
        report.wait_idle(t, process)


@test("F.stopped_one_after_the_other", seconds=60, slots=0)
def stopped(t):
    """Both ends stand still (SIGSTOP), the second while it waits for an answer of the first. Time in which a process did not
    run is none that its peer let pass: the session lives, with all that goes through it."""
    sink, port = t.destination(), t.port()
    server = t.server("--keepalive", "120s")
    client = t.client(server.port, f"127.0.0.1:{port}:127.0.0.1:{sink.port}", flags=("--keepalive", "1s"), env={"CHISEL_PING_TIMEOUT": "6s"})
    load = t.load_started(port, "both", "--bytes", 0, "--duration", f"{16 * t.patience}s", "--connections", 2, "--progress", "100ms", "--timeout", "60s")
    load.wait_line(r'"progress": \d{7}', 20 * t.patience)
    server.signal(signal.SIGSTOP)
    time.sleep(3)  # the client has asked, and is not answered
    client.signal(signal.SIGSTOP)
    time.sleep(5)  # its time is up, and it does not know
    server.signal(signal.SIGCONT)
    time.sleep(1)  # the answer is in its socket, behind whatever else was sent
    client.signal(signal.SIGCONT)
    load.wait_exit(60 * t.patience)
    t.equal(harness.last_json(load)["outcomes"], {"ok": 2}, "flows through both ends, which stood still")
    t.check("Disconnected" not in client.text(), f"the session was given up: {client.text()}")


# -- the path --------------------------------------------------------------------------------------------------------------


class Path:
    """The way between gateway and cloud, which vanishes without a word: frames go to a neighbour that is not there."""

    def __init__(self, w):
        self.w = w

    def vanish(self):
        self.change("replace", "lladdr", "02:00:00:00:00:99", "nud", "permanent")

    def come_back(self):
        self.change("del")

    def change(self, verb, *words):
        for name, to, device in (("gateway", OUTSIDE, "uplink"), ("cloud", "192.0.2.2", "eth0")):
            done = subprocess.run(self.w.there(name, "ip", "neigh", verb, to, *words, "dev", device), capture_output=True, text=True)
            if done.returncode != 0:
                raise Failed(f"{name}: ip neigh {verb}: {done.stderr.strip()}")


def works(s, peer):
    for one, other in ((s, peer), (peer, s)):
        one.sendall(b"w" * 100)
        harness.receive_exactly(other, 100, 20)


@test("F.path_vanishes_and_returns", seconds=90, slots=0)
def path_vanishes(t):
    """Nobody is told: no FIN, no reset, no ICMP. Back within the keepalive's time nothing was; after it each end has given
    the session up by itself (the peer is then half-open to it), and the next one comes with the path."""
    w, local = World(t), t.port()
    path = Path(w)
    listener = w.listen(7100)
    server = w.server("--keepalive", "3s")
    client = w.client("--keepalive", "3s", remotes=(f"127.0.0.1:{local}:{FAR}:7100",))

    def through_port():
        s = t.connect(local)
        s.sendall(b"x")
        peer, _ = listener.accept()
        t.sockets.append(peer)
        harness.receive_exactly(peer, 1)
        return s, peer
    flows = [w.flow("lan", listener), w.flow("gateway", listener), through_port()]
    path.vanish()
    for s, _ in flows:
        s.sendall(b"while nobody is there")
    time.sleep(1.5)
    path.come_back()
    for s, peer in flows:
        t.equal(harness.receive_exactly(peer, 21, 20 * t.patience), b"while nobody is there", "what was sent meanwhile")
        works(s, peer)
    t.check("Disconnected" not in client.text(), "a session was lost within the keepalive's time")
    path.vanish()
    for s, peer in flows:
        t.equal(harness.ended_how(s, 30 * t.patience)[0], "reset", "the application's end, when the path stays away")
        t.equal(harness.ended_how(peer, 30 * t.patience)[0], "reset", "the destination's end, when the path stays away")
    client.wait_line("Disconnected", 5 * t.patience)
    path.come_back()
    client.wait_line("Connected", 40 * t.patience, 2)
    for s, peer in (w.flow("lan", listener), through_port()):
        works(s, peer)
        s.close()
        peer.close()
    report.wait_idle(t, server)


# -- destinations ----------------------------------------------------------------------------------------------------------


@test("F.destinations_at_every_stage", seconds=120)
def destinations(t):
    """A destination that resets at any stage is a reset for whoever asked, through a port and through the TUN; one that only
    ends, or never reads, or never writes, harms nobody; and nothing stays."""
    w, local, closed, hole = World(t), t.port(), t.port(), t.port()
    listener = w.listen(7100)
    w.command("cloud", "ip", "route", "add", "198.51.100.0/24", "via", "192.0.2.77")  # nobody is there
    w.command("cloud", "ip", "neigh", "add", "192.0.2.77", "lladdr", "02:00:00:00:00:77", "nud", "permanent", "dev", "eth0")
    server = w.server(env={"CHISEL_DIAL_TIMEOUT": "1s"})
    client = w.client(remotes=(f"127.0.0.1:{local}:{FAR}:7100", f"127.0.0.1:{closed}:{FAR}:1", f"127.0.0.1:{hole}:198.51.100.9:80"))
    w.destination()
    for port in (closed, hole):
        t.equal(t.fate(port), ("reset", b""), "a destination that cannot be reached")
    t.equal(w.refused("lan", 1), "ECONNREFUSED", "a closed port, through the TUN")

    def pair(through):
        if through == "port":
            s = t.connect(local)
        else:
            s = w.connect(through, 7100)
        peer, _ = listener.accept()
        t.sockets.append(peer)
        peer.settimeout(20 * t.patience)
        return s, peer
    stalled = []
    for through in ("port", "lan"):
        s, peer = pair(through)
        harness.reset(peer)
        t.equal(harness.ended_how(s)[0], "reset", f"reset after the accept ({through})")

        s, peer = pair(through)
        s.sendall(b"x" * 1000)
        harness.receive_exactly(peer, 1000)
        harness.reset(peer)
        t.equal(harness.ended_how(s)[0], "reset", f"reset after some bytes ({through})")

        s, peer = pair(through)
        sending = harness.Worker(lambda: quietly(lambda: peer.sendall(bytes(64 * MIB))))
        harness.receive_exactly(s, MIB)
        harness.reset(peer)
        t.equal(harness.ended_how(s, 30 * t.patience)[0], "reset", f"reset while it sends ({through})")
        sending.join()

        s, peer = pair(through)
        s.sendall(b"the whole question")
        s.shutdown(socket.SHUT_WR)
        t.equal(harness.ended_how(peer), ("eof", b"the whole question"), f"a half-close arrives ({through})")
        harness.reset(peer)
        t.equal(harness.ended_how(s)[0], "reset", f"reset instead of an answer ({through})")

        s, peer = pair(through)
        peer.sendall(b"the whole answer")
        peer.shutdown(socket.SHUT_WR)
        t.equal(harness.ended_how(s), ("eof", b"the whole answer"), f"a half-close comes back ({through})")
        harness.reset(peer)

        def told():
            try:
                s.sendall(b"x")
                return False
            except OSError:
                return True
        t.wait(told, 15, f"reset after its own half-close ({through})")

        s, peer = pair(through)  # never writes, never ends: as long as its application likes
        stalled.append((s, peer))
        s, peer = pair(through)  # never reads
        s.settimeout(0.5)
        try:
            while True:
                s.send(bytes(65536))
        except OSError:
            pass
        stalled.append((s, peer))
    # Beside them others go on, and when the applications leave nothing is kept for them.
    w.load("lan", "both", "--bytes", 100_000, "--connections", 10, ok=10)
    for s, peer in stalled:
        harness.reset(s)
    for s, peer in stalled:
        t.equal(harness.ended_how(peer, 30 * t.patience)[0], "reset", "what the application left")
    report.wait_idle(t, server)
    t.wait(lambda: not report.in_use(report.report(client, 10 * t.patience)), 30, "the client at rest")


def quietly(work):
    try:
        work()
    except OSError:
        pass


@test("F.budget_spent_and_back", seconds=90)
def budget_spent(t):
    """Flows that nobody reads take all that a worker may hold; others are slower or refused, and have all of it afterwards."""
    flags = ("--memory", "8MiB")
    sink, port = t.destination(), t.port()
    t.kernel_buffers(65536)
    server = t.server(*flags)
    client = t.client(server.port, f"127.0.0.1:{port}:127.0.0.1:{sink.port}", flags=flags)
    t.load(port, "both", "--bytes", 1000, ok=1)
    free = {p.name: report.kept(report.wait_idle(t, p))["free for growth"] for p in (client, server)}
    stalled = [t.load_started(port, *mode, "--connections", 120, "--bytes", 4 * MIB, "--stalled-after", "500ms")
               for mode in (("noread", "--send-buffer", "4096"), ("down", "--stall"))]
    for load in stalled:
        load.wait_line('"event":"(ready|done)"', 60 * t.patience)
    left = {p.name: report.kept(report.report(p, 10 * t.patience))["free for growth"] for p in (client, server)}
    t.check(any(left[name] < free[name] / 4 for name in free), f"the budget was not spent: {left} of {free}")
    # Refused when there is no channel left, right when there is one.
    t.check(allowed(t.load(port, "both", "--bytes", 300_000, "--connections", 16)["outcomes"]), "flows beside them")
    for load in stalled:
        load.finish()
    for process in (client, server):
        t.equal(report.kept(report.wait_idle(t, process))["free for growth"], free[process.name], f"the budget of the {process.name}")
    t.load(port, "both", "--bytes", MIB, "--connections", 16, ok=16)


# -- deadlines -------------------------------------------------------------------------------------------------------------


class Clock:
    """Moves the clock of programs, and makes them look at it."""

    def __init__(self, t, *programs):
        self.t, self.programs = t, programs  # (process, Faults)
        self.began = time.monotonic()
        self.skipped = 0

    def now(self):
        return time.monotonic() - self.began + self.skipped

    def skip_to(self, seconds):
        """So many seconds since this was made, by the programs' clock; each is woken to see it."""
        step = max(0, seconds - self.now())
        self.skipped += step
        for process, at in self.programs:
            at.skip(step)
            process.signal(signal.SIGUSR2)

    def to(self, seconds):
        """The same, of programs that go on: each has looked at its clock then."""
        self.skip_to(seconds)
        for process, _ in self.programs:
            report.report(process, 10 * self.t.patience)


def at_end(s):
    """Whether a socket is over, without waiting."""
    s.setblocking(False)
    try:
        while s.recv(65536):
            pass
        return True
    except BlockingIOError:
        return False
    except OSError:
        return True


def over_after(t, clock, deadline, sockets, slack=8):
    """Sockets that are open shortly before a deadline, and over after it."""
    if clock.now() < deadline - slack:
        clock.to(deadline - slack)
        early = [name for name, s in sockets.items() if at_end(s)]
        # Unless the machine was so slow that the time came by itself.
        t.check(not early or clock.now() >= deadline, f"before {deadline} s were over: {early}")
    clock.to(deadline + 1.5)
    t.wait(lambda: all(at_end(s) for s in sockets.values()), 10,
           lambda: f"after {deadline} s still open: {[name for name, s in sockets.items() if not at_end(s)]}")


@test("F.deadlines_of_a_server", seconds=60)
def server_deadlines(t):
    """Each wait of a server for a stranger, a client or a destination ends by itself, by its own clock."""
    faults.use(t)
    hole = t.black_hole()
    t.names("127.0.0.1 localhost\n", hole)
    at = Faults(t, "server")
    server = t.server("--keepalive", "1000s", env=at.env)
    raw = wire.Raw(t, "client", server.port)
    session = raw.login()
    silent = wire.Raw(t, "client", server.port)
    silent.authenticate()  # and no config
    clock = Clock(t, (server, at))
    strangers = {}
    for name, data in (("nothing", b""), ("half a head", b"GET / HTTP/1.1\r\nHost:"), ("an answer not taken", b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n"),
                       ("after the 101", wire.upgrade_request()), ("a native version", b"SSH-2.0-Test\r\n"),
                       ("half a KEXINIT", b"SSH-2.0-Test\r\n" + wire.clear_packet(wire.kexinit())[:50]),
                       ("a whole KEXINIT", b"SSH-2.0-Test\r\n" + wire.clear_packet(wire.kexinit()))):
        strangers[name] = t.connect(server.port)
        strangers[name].sendall(data)
    # The chisel config: 10 s.
    clock.to(11.5)
    t.check(silent.ended(10), "a client that says no config stays")
    # Everything before the login: 30 s. Dials and look-ups begin now: 30 s of their own.
    over_after(t, clock, 30, strangers)
    raw.send(wire.chisel_open(0, f"{hole}:80"), wire.chisel_open(1, "nobody.test:80"))
    began = clock.now()
    t.wait(lambda: report.total(report.report(server), r"dials: pending=(\d+)") == 2, 10, "both dials")
    clock.to(began + 22)
    t.equal(report.total(report.report(server), r"dials: pending=(\d+)"), 2, "dials before their time")
    clock.to(began + 31.5)
    answers = {raw.expect(wire.OPEN_FAILURE, 10)[1:5] for _ in range(2)}
    t.equal(answers, {wire.u32(0), wire.u32(1)}, "dials that nobody answered")
    session.ping()


@test("F.deadlines_of_a_client", seconds=60)
def client_deadlines(t):
    """Each wait of a client for its server, and of an application for a session, ends by itself, by the client's own clock."""
    faults.use(t)
    hole, listener, upgraded, waiting = t.black_hole(), t.listen(), t.port(), t.port()
    wire.Raw(t, "server", upgraded, "--stop-after", "http")
    at, clients = {}, {}
    for name, url, remotes in (("hole", f"http://{hole}:80", (f"127.0.0.1:{waiting}:127.0.0.1:1",)),
                               ("silent", listener.getsockname()[1], ()), ("upgraded", upgraded, ())):
        at[name] = Faults(t, name)
        clients[name] = t.client(url, *remotes, flags=("-v", "--max-retry-count", "0"), env=at[name].env, connected=False, name=name)
    accepted, _ = listener.accept()
    t.sockets.append(accepted)
    clients["upgraded"].wait_line("Handshaking", 15 * t.patience)
    t.listening(clients["hole"], "127.0.0.1", waiting)
    clock = Clock(t, *((clients[name], at[name]) for name in clients))
    waits = {"an application without a session": t.connect(waiting)}

    def gives_up(name, words):
        t.equal(clients[name].wait_exit(10 * t.patience), 1, f"the client whose server is {name}")
        t.check(words in clients[name].text(), f"{name}: {clients[name].text()}")
        clock.programs = tuple(one for one in clock.programs if one[0] is not clients[name])
    # After the 101: 30 s. An application: 35 s. Everything up to the 101: 45 s.
    clock.to(22)
    t.check(all(client.alive() for client in clients.values()), "a client gave up early")
    clock.skip_to(32)
    gives_up("upgraded", "handshake failed: i/o timeout")
    over_after(t, clock, 35, waits, slack=2)
    t.check(clients["hole"].alive() and clients["silent"].alive(), "a client gave up early")
    clock.skip_to(47)
    for name in ("hole", "silent"):
        gives_up(name, "i/o timeout")
