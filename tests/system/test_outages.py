"""What breaks around the program: processes that are killed or stand still, a path that vanishes and returns, destinations
that do what they like, a budget that is spent. The ground is that of test_tun.py."""

import re
import signal
import socket
import subprocess
import time

import harness
import report
from harness import Failed, test
from test_tun import FAR, MIB, OUTSIDE, World


def allowed(outcomes, *more):
    return set(outcomes) <= {"ok", "reset", "refused", "unreachable", *more}


def connects(port):
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
        return True
    except OSError:
        return False


@test("F.killed_at_any_moment", seconds=120)
def killed(t):
    """SIGKILL at either end, whatever it does just then: its flows end with resets, and the other end is there for the next."""
    sink, port, where = t.destination("--log"), t.port(), t.port()
    start = {"server": lambda: t.start("burin-server", [t.binary, "server", "--host", "127.0.0.1", "--port", where]),
             "client": lambda: t.client(where, f"127.0.0.1:{port}:127.0.0.1:{sink.port}", connected=False)}
    running = {name: make() for name, make in start.items()}
    t.wait(lambda: connects(port), 15, "the client listens")
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

    def flow():
        # What was killed lets go of its port a moment later, and until then nobody else can listen there.
        for name in start:
            if not running[name].alive():
                running[name] = start[name]()
        return t.load(port, "both", "--bytes", 1000)["outcomes"] == {"ok": 1}
    t.wait(flow, 20, "a flow at last", 0.5)
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
    """Flows that nobody reads take every window that a worker may grant; who comes then is refused and told so, and all of it
    is there again when they have gone."""
    flags = ("--memory", "16MiB")
    sink, port = t.destination(), t.port()
    t.kernel_buffers(65536)
    server = t.server(*flags)
    client = t.client(server.port, f"127.0.0.1:{port}:127.0.0.1:{sink.port}", flags=flags)
    t.load(port, "both", "--bytes", 1000, ok=1)
    free = {p.name: report.kept(report.wait_idle(t, p))["free for growth"] for p in (client, server)}
    stalled = []

    def channels(process):
        return tuple(map(int, re.search(r"budget: .*channels=(\d+)/(\d+)", report.report(process, 10 * t.patience)).groups()))

    def granted():
        (here, most), (there, _) = channels(client), channels(server)
        return here == there == min(most, 100 * len(stalled))
    # A hundred at a time: more that dial at once are refused for that alone.
    while channels(client)[0] < channels(client)[1]:
        stalled.append(t.load_started(port, "down", "--stall", "--connections", 100, "--bytes", MIB))
        t.wait(granted, 30, lambda: f"windows are granted: {channels(client)} {channels(server)} of {100 * len(stalled)}")
    late = t.load(port, "both", "--bytes", 1000, "--connections", 16)["outcomes"]
    t.equal(late, {"reset": 16}, "flows for which there is no window")
    for load in stalled:
        load.finish()
    for process in (client, server):
        t.equal(report.kept(report.wait_idle(t, process))["free for growth"], free[process.name], f"the budget of the {process.name}")
    t.load(port, "both", "--bytes", MIB, "--connections", 16, ok=16)
