"""Nothing waits for ever, by a clock that the test moves (docs/deadlines.md lists every wait)."""

import signal
import time

import faults
import harness
import report
import wire
from faults import Faults
from harness import test


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


def before(clock, deadline, slack=8):
    """Moves to shortly before a deadline; false when the machine was so slow that it may have passed by itself. Whatever waits
    began after the clock did."""
    clock.to(deadline - slack)
    return clock.now() < deadline


def over(t, sockets):
    t.wait(lambda: all(at_end(s) for s in sockets.values()), 10, lambda: f"still open: {[name for name, s in sockets.items() if not at_end(s)]}")


@test("F.deadlines_of_a_server", seconds=60)
def server_deadlines(t):
    """Each wait of a server for a stranger, a client or a destination ends by itself, by its own clock."""
    faults.use(t)
    hole = t.black_hole()
    t.names("127.0.0.1 localhost\n", hole)
    at = Faults(t, "server")
    server = t.server("--auth", "u:p", "--keepalive", "1000s", env=at.env)
    raw = wire.Raw(t, "client", server.port)
    session = raw.login("u", "p")
    silent = wire.Raw(t, "client", server.port)
    clock = Clock(t, (server, at))
    silent.authenticate("u", "p")  # and no config: 10 s
    strangers = {}  # 30 s
    for name, data in (("nothing", b""), ("half a head", b"GET / HTTP/1.1\r\nHost:"), ("an answer not taken", b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n"),
                       ("after the 101", wire.upgrade_request()), ("a native version", b"SSH-2.0-Test\r\n"),
                       ("half a KEXINIT", b"SSH-2.0-Test\r\n" + wire.clear_packet(wire.kexinit())[:50]),
                       ("a whole KEXINIT", b"SSH-2.0-Test\r\n" + wire.clear_packet(wire.kexinit()))):
        strangers[name] = t.connect(server.port)
        strangers[name].sendall(data)
    started = clock.now()
    if before(clock, 10, 4):
        t.check(not silent.ended(0), "a client was given no time for its config")
    clock.to(started + 11.5)
    t.check(silent.ended(10), "a client that says no config stays")
    if before(clock, 30):
        early = [name for name, s in strangers.items() if at_end(s)]
        t.check(not early or clock.now() > 30, f"before 30 s were over: {early}")
    clock.to(started + 31.5)
    over(t, strangers)
    asked = clock.now()
    raw.send(wire.chisel_open(0, f"{hole}:80"), wire.chisel_open(1, "nobody.test:80"))

    def pending():
        return report.total(report.report(server, 10 * t.patience), r"dials: pending=(\d+)")
    t.wait(lambda: pending() == 2, 10, "both dials are under way")
    started = clock.now()
    if before(clock, asked + 30):
        t.check(pending() == 2 or clock.now() > asked + 30, "a dial ended before its time")
    clock.to(started + 31.5)
    answers = {raw.expect(wire.OPEN_FAILURE, 10)[1:5] for _ in range(2)}
    t.equal(answers, {wire.u32(0), wire.u32(1)}, "dials that nobody answered")
    session.ping()


@test("F.deadlines_of_a_client", seconds=60)
def client_deadlines(t):
    """Each wait of a client for its server, and of an application for a session, ends by itself, by the client's own clock."""
    faults.use(t)
    hole, listener, upgraded, waiting = t.black_hole(), t.listen(), t.port(), t.port()
    wire.Raw(t, "server", upgraded, "--stop-after", "http")
    clock = Clock(t)
    at, clients = {}, {}
    for name, url, remotes in (("hole", f"http://{hole}:80", (f"127.0.0.1:{waiting}:127.0.0.1:1",)),
                               ("silent", listener.getsockname()[1], ()), ("upgraded", upgraded, ())):
        at[name] = Faults(t, name)
        clients[name] = t.client(url, *remotes, flags=("-v", "--max-retry-count", "0"), env=at[name].env, connected=False, name=name)
    accepted, _ = listener.accept()
    t.sockets.append(accepted)
    clients["upgraded"].wait_line("Handshaking", 15 * t.patience)
    t.listening(clients["hole"], "127.0.0.1", waiting)
    waits = {"an application without a session": t.connect(waiting)}
    clock.programs = tuple((clients[name], at[name]) for name in clients)
    started = clock.now()

    def gives_up(name, words):
        t.equal(clients[name].wait_exit(10 * t.patience), 1, f"the client whose server is {name}")
        t.check(words in clients[name].text(), f"{name}: {clients[name].text()}")
        clock.programs = tuple(one for one in clock.programs if one[0] is not clients[name])
    # After the 101: 30 s. An application: 35 s. Everything up to the 101: 45 s.
    if before(clock, 30):
        t.check(all(client.alive() for client in clients.values()) or clock.now() > 30, "a client gave up early")
        t.check(not at_end(waits["an application without a session"]), "an application was sent away early")
    clock.skip_to(started + 31.5)
    gives_up("upgraded", "handshake failed: i/o timeout")
    clock.to(started + 36.5)
    over(t, waits)
    t.check(clients["hole"].alive() and clients["silent"].alive() or clock.now() > 45, "a client gave up early")
    clock.skip_to(started + 46.5)
    for name in ("hole", "silent"):
        gives_up(name, "i/o timeout")
