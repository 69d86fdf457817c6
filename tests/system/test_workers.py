"""Several workers, each with a session of its own: what happens to one happens to its flows alone, and their flows come in
on the queue of the worker that has them, where the kernel lets a program choose it."""

import contextlib
import re
import select
import socket
import threading
import time

import harness
import report
from harness import libc, test
from test_tun import FAR, HOSTS, MIB, OUTSIDE, World
from test_udp import Echo, ask, ask_until, client_socket

UNSTEERED = {"BURIN_NO_STEERING": "1"}
BUCKETS = 16384
PR_CAPBSET_DROP, CAP_SYS_ADMIN, CAP_BPF = 24, 21, 39


class Splice:
    """A middle box in the cloud between client and server, which can cut one connection and let no other through."""

    def __init__(self, w, port, to):
        self.w, self.to, self.open, self.pairs = w, to, True, []
        with w.inside("cloud"):
            self.listener = w.t.listen(port, OUTSIDE)
        self.listener.settimeout(None)
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        with contextlib.suppress(OSError):
            while True:
                near, _ = self.listener.accept()
                if not self.open:
                    harness.reset(near)
                    continue
                with self.w.inside("cloud"):
                    far = socket.create_connection((OUTSIDE, self.to))
                self.pairs.append((near, far))
                for a, b in ((near, far), (far, near)):
                    threading.Thread(target=self.carry, args=(a, b), daemon=True).start()

    def carry(self, a, b):
        with contextlib.suppress(OSError):
            while data := a.recv(65536):
                b.sendall(data)
        for s in (a, b):
            with contextlib.suppress(OSError):
                s.shutdown(socket.SHUT_RDWR)

    def cut(self, number):
        for s in self.pairs[number]:
            with contextlib.suppress(OSError):  # the other one's end has already been told
                s.shutdown(socket.SHUT_RDWR)


def works(s, peer):
    """Whether a flow still carries, both ways."""
    for a, b in ((s, peer), (peer, s)):
        a.sendall(b"still there")
        if harness.receive_exactly(b, 11) != b"still there":
            return False
    return True


def split(t, flows):
    """Those that live on, and those whose session was cut: these end with resets, at both ends."""
    time.sleep(0.3 * t.patience)  # all of them end with the session, in one turn
    ended = [bool(select.select([s], [], [], 0)[0]) for s, _ in flows]
    for (s, peer), dead in zip(flows, ended):
        if dead:
            t.equal((harness.ended_how(s)[0], harness.ended_how(peer)[0]), ("reset", "reset"), "ends of a flow that was cut")
    alive = [flow for flow, dead in zip(flows, ended) if not dead]
    t.check(0 < len(alive) < len(flows), f"{len(alive)} of {len(flows)} flows live on: those of the session that is left")
    t.check(all(works(*flow) for flow in alive), "flows of the session that is left")


class Report:
    """What both workers of a client say of their queues; every number once a worker."""

    def __init__(self, client):
        self.text = report.report(client)

    def numbers(self, name):
        return [int(n) for n in re.findall(r"worker \d+: tun: " + name + r"=(\d+)", self.text)]

    handed_over = property(lambda self: self.numbers("strays: handed-over"))
    opened = property(lambda self: self.numbers(r"tcp: .*\bopened"))
    udp_opened = property(lambda self: self.numbers(r"udp: .*\bopened"))
    buckets = property(lambda self: self.numbers("steering: on buckets"))


def talkers(w, count):
    """UDP sockets of the LAN's host, and of the gateway."""
    found = []
    for name in HOSTS:
        with w.inside(name):
            found += [client_socket(w.t, host="0.0.0.0") for _ in range(count)]
    return found


@test("W.flows_come_in_at_their_worker", seconds=180)
def flows_come_in(t):
    w = World(t)
    w.server("--workers", "2")
    w.destination()
    with w.inside("cloud"):
        echo = Echo(t, 7200, FAR)
    client = w.client("--workers", "2", connected=False)
    client.wait_line("Connected", 15 * t.patience, 2)
    t.equal(Report(client).buckets, [BUCKETS // 2] * 2, "buckets of the queues")
    for name in HOSTS:
        w.load(name, "echo", "--bytes", 64 * 1024, "--connections", 200, "--seed", t.seed & 0xFFFF, ok=200)
    w.load("lan", "both", "--bytes", (1 if t.sanitized else 16) * MIB, "--connections", 8, "--seed", t.seed & 0xFFFF, ok=8)
    sockets = talkers(w, 40)
    for s in sockets:
        ask(t, s, (FAR, 7200), b"a datagram")
    found = Report(client)
    t.equal(found.handed_over, [0, 0], "frames that came in at another worker")
    # Fair coins: below a third is some seven deviations away.
    for what, opened, all_of_them in (("connections", found.opened, 408), ("talks of UDP", found.udp_opened, 80)):
        t.check(sum(opened) == all_of_them and min(opened) > all_of_them // (3 if all_of_them > 100 else 5), f"{what} of the workers: {opened}")
    # Fragments hide their ports: they are put together where both hosts' fragments come in, and find their flow all the
    # same, so that the destination knows each talker by one port.
    for s in sockets:
        ask(t, s, (FAR, 7200), t.random.randbytes(4000), "the answer to fragments")
    t.equal(len(echo.sources), len(sockets), "ports that the destination was asked from")
    found = Report(client)
    t.check(0 < sum(found.handed_over) <= len(sockets), f"frames handed over: {found.handed_over}")
    t.equal(sum(found.udp_opened), len(sockets), "talks of UDP")


@test("W.without_steering", seconds=180)
def without_steering(t):
    """Where the kernel does not take the program, whatever comes in anywhere is carried all the same."""
    def no_programs():
        for capability in (CAP_BPF, CAP_SYS_ADMIN):
            libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)

    with open("/proc/sys/kernel/unprivileged_bpf_disabled") as f:
        anybody_may = f.read().strip() == "0"
    w = World(t)
    w.server("--workers", "2")
    w.destination()
    with w.inside("cloud"):
        Echo(t, 7200, FAR)
    for ways in ({"env": UNSTEERED}, {"restrict": no_programs}):
        client = w.client("--workers", "2", "-v", connected=False, **ways)
        client.wait_line("Connected", 15 * t.patience, 2)
        if not ("restrict" in ways and anybody_may):
            client.wait_line("tun: Flows come in where the kernel puts them: " + ("turned off" if "env" in ways else ".*CAP_BPF"))
            t.equal(Report(client).buckets, [], "buckets of the queues")
        for name in HOSTS:
            w.load(name, "echo", "--bytes", 64 * 1024, "--connections", 200, "--seed", t.seed & 0xFFFF, ok=200)
        for s in talkers(w, 20):
            for size in (10, 4000):
                ask(t, s, (FAR, 7200), t.random.randbytes(size))
        t.equal(sum(Report(client).opened), 400, "connections of the workers")
        client.kill()


@test("W.one_of_two_sessions_is_lost", seconds=120)
def one_of_two_sessions_is_lost(t):
    session_is_lost(t, None)


@test("W.one_of_two_sessions_is_lost_without_steering", seconds=120)
def one_of_two_sessions_is_lost_without_steering(t):
    session_is_lost(t, UNSTEERED)


@test("W.sessions_come_and_go", seconds=180)
def sessions_come_and_go(t):
    """Flows begin, move bytes and end while sessions are lost and made anew: each ends whole, or with a reset, and nobody
    remembers it."""
    w = World(t)
    w.server("--workers", "3")
    splice = Splice(w, 8081, 8080)
    w.destination()
    client = w.client("--workers", "3", port=8081, connected=False)
    client.wait_line("Connected", 15 * t.patience, 3)
    loads = [w.load_started(name, "both", "--bytes", 64 * 1024, "--again", "--duration", f"{6 * t.patience}s", "--connections", 24,
                            "--progress", "100ms", "--seed", t.seed & 0xFFFF) for name in HOSTS]
    for load in loads:
        load.wait_line(r'"progress": [1-9]', 15 * t.patience)
    living, cuts = [0, 1, 2], 0
    for count in (1, 2, 1, 2, 1):  # at a time
        splice.open = False
        for _ in range(count):
            splice.cut(living.pop(t.random.randrange(len(living))))
        cuts += count
        client.wait_line("Disconnected", 15 * t.patience, cuts)
        splice.open = True
        client.wait_line("Connected", 30 * t.patience, 3 + cuts)
        living += range(len(splice.pairs) - count, len(splice.pairs))
    ended = {}
    for load in loads:
        load.wait_exit(90 * t.patience)
        for how, count in harness.last_json(load)["outcomes"].items():
            ended[how] = ended.get(how, 0) + count
    t.check(ended.get("ok", 0) > 20 and set(ended) <= {"ok", "reset", "refused"}, f"how flows ended: {ended}")
    t.note(f"{ended}, frames handed over {Report(client).handed_over}")
    w.load("lan", "both", "--bytes", 1000, "--connections", 50, ok=50)

    def forgotten():
        found = Report(client)
        return not any(found.numbers(r"strays: .*\b" + what) != [0, 0, 0] for what in ("passed", "carried"))
    t.wait(forgotten, 20, lambda: f"strays are forgotten: {Report(client).text}")
    t.equal(Report(client).buckets, [BUCKETS // 3 + 1, BUCKETS // 3, BUCKETS // 3], "buckets of the queues")


def session_is_lost(t, env):
    w = World(t)
    w.server("--workers", "2")
    splice = Splice(w, 8081, 8080)
    listener = w.listen(7100)
    w.destination()
    local = t.port()
    with w.inside("cloud"):
        echo = Echo(t, 7200, FAR)
    client = w.client("--workers", "2", port=8081, connected=False, env=env, remotes=(f"127.0.0.1:{local}:{FAR}:7100",))
    client.wait_line("Connected", 15 * t.patience, 2)

    def ports(count):
        found = []
        for _ in range(count):
            s = t.connect(local)
            s.sendall(b"x")
            peer, _ = listener.accept()
            t.sockets.append(peer)
            harness.receive_exactly(peer, 1)
            found.append((s, peer))
        return found

    before = [w.flow(name, listener) for name in HOSTS for _ in range(12)] + ports(8)
    splice.open = False
    splice.cut(0)
    client.wait_line("Disconnected", 15 * t.patience)
    split(t, before)
    # New ones are carried by the session that is left, all of them.
    if env is None:
        t.equal(sorted(Report(client).buckets), [0, BUCKETS], "buckets of the queues")
    # What lay in a queue already when the kernel was told: none of it is of a new flow.
    handed = Report(client).handed_over
    fresh = [w.flow(name, listener) for name in HOSTS for _ in range(12)] + ports(8)
    t.check(all(works(*flow) for flow in fresh), "new flows")
    asking = talkers(w, 8)
    for s in asking:
        ask_until(t, s, (FAR, 7200), b"a datagram")
    if env is not None:  # the kernel forgets within seconds which queue a flow belongs to
        time.sleep(4)
        t.check(all(works(*flow) for flow in fresh), "new flows after a pause")
    passed = Report(client).handed_over
    if env is None:
        t.equal(passed, handed, "frames of new flows handed over by the queues")
    else:  # whatever queue the kernel puts them into
        t.check(len(passed) == 2 and min(passed) == 0 < max(passed), f"frames handed over by the queues: {passed}")
    # And stay there when the other one is back: those at rest, and those that move.
    for s in asking:  # the far end forgets who is silent for 15 s
        ask_until(t, s, (FAR, 7200), b"a datagram")
    known = len(echo.sources)
    moving = w.load_started("lan", "both", "--bytes", 0, "--duration", f"{6 * t.patience}s", "--connections", 12, "--progress", "100ms",
                            "--seed", t.seed & 0xFFFF)
    moving.wait_line(r'"progress": [1-9]', 15 * t.patience)
    splice.open = True
    client.wait_line("Connected", 30 * t.patience, 3)
    for s in asking:
        ask_until(t, s, (FAR, 7200), b"a datagram")
    t.equal(len(echo.sources), known, "ports that the destination was asked from")
    t.check(all(works(*flow) for flow in fresh), "flows when the session is back")
    if env is None:
        found = Report(client)
        # All but those with flows that began meanwhile: these need no copies.
        away = max(found.buckets) - BUCKETS // 2
        t.check(0 < away <= len(fresh) + len(asking) + 12, f"buckets of the queues: {found.buckets}")
        t.check(sum(found.handed_over) < 20, f"frames handed over by the queues: {found.handed_over}")
    moving.wait_exit(60 * t.patience)
    t.equal(harness.last_json(moving)["outcomes"], {"ok": 12}, "flows that moved bytes when the session came back")
    again = [w.flow(name, listener) for name in HOSTS for _ in range(12)] + ports(8)
    splice.cut(1)
    client.wait_line("Disconnected", 15 * t.patience, 2)
    split(t, again)
