"""A kernel that is short of everything: each operation of the ring fails in turn (burin_faulty, tests/faults), beside flows of
every kind. The ground is that of test_tun.py."""

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
from test_outages import allowed, connects
from test_tun import FAR, MIB, World

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
    t.wait(lambda: connects(port), 20, "ssh forwards")
    t.load(port, "both", "--bytes", 100_000, "--connections", 10, ok=10)
    t.check(hit > 0, "nothing failed")
    for process in t.processes:
        if process.name.startswith("ssh"):
            process.kill()
    report.wait_idle(t, server)


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
