"""Several workers, each with a session of its own: what happens to one happens to its flows alone."""

import contextlib
import re
import select
import socket
import threading
import time

import harness
from harness import test
from test_tun import FAR, HOSTS, OUTSIDE, World, statistics


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


@test("W.one_of_two_sessions_is_lost", seconds=120)
def one_of_two_sessions_is_lost(t):
    w = World(t)
    w.server("--workers", "2")
    splice = Splice(w, 8081, 8080)
    listener = w.listen(7100)
    local = t.port()
    client = w.client("--workers", "2", port=8081, connected=False, remotes=(f"127.0.0.1:{local}:{FAR}:7100",))
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
    # New ones are carried by the session that is left, all of them, whatever queue the kernel puts them into.
    fresh = [w.flow(name, listener) for name in HOSTS for _ in range(12)] + ports(8)
    t.check(all(works(*flow) for flow in fresh), "new flows")
    # The kernel forgets within seconds which queue a flow belongs to.
    time.sleep(4)
    t.check(all(works(*flow) for flow in fresh), "new flows after a pause")
    report = statistics(client, 1)
    client.wait_line(r"worker 1: tun: dropped:", 10)
    report = client.text()
    passed = [int(n) for n in re.findall(r"tun: strays: handed-over=(\d+)", report)]
    t.check(len(passed) == 2 and min(passed) == 0 < max(passed), f"frames handed over by the queues: {passed}")
    # And stay there when the other one is back.
    splice.open = True
    client.wait_line("Connected", 30 * t.patience, 3)
    t.check(all(works(*flow) for flow in fresh), "flows when the session is back")
    again = [w.flow(name, listener) for name in HOSTS for _ in range(12)] + ports(8)
    splice.cut(1)
    client.wait_line("Disconnected", 15 * t.patience, 2)
    split(t, again)
