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
