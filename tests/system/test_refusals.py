"""What a host behind the TUN hears of a destination that cannot be reached: what the network would have told it.

The world is that of test_echo.py; besides, nothing in the cloud leads to 203.0.113.0/24 and fd00:203::/64.
"""

import errno
import select
import socket

from harness import test
from test_echo import EchoWorld, at
from test_tun import HOSTS, ip
from test_tun6 import FARS

NOWHERE = {4: "203.0.113.1", 6: "fd00:203::1"}
PROHIBITED = {4: errno.EHOSTUNREACH, 6: errno.EACCES}  # how Linux reads it
RECEIVE_ERRORS = {4: (socket.IPPROTO_IP, 11), 6: (socket.IPPROTO_IPV6, 25)}
TIMEOUT = "CHISEL_DIAL_TIMEOUT"


class RefusalWorld(EchoWorld):
    def client(self, *flags, **more):
        process = super().client(*flags, **more)
        ip("route", "replace", "203.0.113.0/24", "dev", "burin0")
        ip("-6", "route", "replace", "fd00:203::/64", "dev", "burin0")
        return process

    def refusals(self, version):
        """Addresses, and what an attempt at them ends with."""
        return ((FARS[version], errno.ECONNREFUSED), (at(version, 5, 1), errno.EHOSTUNREACH),
                (at(version, 6, 1), PROHIBITED[version]), (NOWHERE[version], errno.ENETUNREACH),
                (at(version, 8, 10), errno.EHOSTUNREACH))  # a neighbour that is looked for: 3 s

    def socket(self, name, version, kind):
        with self.inside(name):
            s = socket.socket(socket.AF_INET if version == 4 else socket.AF_INET6, kind)
        self.t.sockets.append(s)
        s.setblocking(False)
        return s

    def attempt(self, name, version, to, port=7999):
        s = self.socket(name, version, socket.SOCK_STREAM)
        s.connect_ex((to, port))
        return s

    def check_tcp(self):
        """All attempts at once: each ends as it must, and what swallows packets is silence."""
        t = self.t
        attempts = [(name, to, expected, self.attempt(name, version, to))
                    for name in HOSTS for version in (4, 6) for to, expected in self.refusals(version)]
        silent = [self.attempt(name, version, at(version, 8, 9)) for name in HOSTS for version in (4, 6)]
        for name, to, expected, s in attempts:
            t.check(select.select([], [s], [], 20 * t.patience)[1], f"the attempt at {to} ends ({name})")
            t.equal(s.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR), expected, f"how the attempt at {to} ends ({name})")
        return silent


def check_silent(t, sockets, client):
    """The dials have ended, and none of the hosts was told anything."""
    client.wait_line(r"(10\.77\.8\.9|\[fd00:77:8::9\]):7999: Stream error: .*i/o timeout", 30 * t.patience, len(sockets))
    t.equal(select.select([], sockets, [], 0)[1], [], "attempts at a silent address that ended")


@test("U3.refusals_as_the_network_tells_them", seconds=90)
def own(t):
    w = RefusalWorld(t)
    w.server(env={TIMEOUT: "5s"})
    client = w.client()
    check_silent(t, w.check_tcp(), client)
    # Datagrams: a program that sends again hears of it.
    for name in HOSTS:
        for version in (4, 6):
            for to, expected in w.refusals(version)[:4]:
                s = w.socket(name, version, socket.SOCK_DGRAM)
                s.setsockopt(*RECEIVE_ERRORS[version], 1)
                s.connect((to, 7999))
                heard = []

                def tries(s=s, heard=heard):
                    try:
                        s.send(b"anybody?")
                        if select.select([s], [], [], 0.2)[0]:
                            s.recv(100)
                    except OSError as error:
                        heard.append(error.errno)
                    return bool(heard)
                t.wait(tries, 20, f"a datagram to {to} is refused ({name})")
                t.equal(heard, [expected], f"how a datagram to {to} is refused ({name})")


@test("U3.refusals_through_a_go_server", seconds=90)
def go(t):
    w = RefusalWorld(t)
    w.server("--message-limit", "524288", kind="go")
    w.client()
    w.check_tcp()
