"""What breaks the protocol (docs/wire.md section 8.8) ends its connection and nothing else: acceptance row R20."""

import signal
import time

import harness
import wire
from harness import Failed, test
from test_channels import echo_pair
from wire import message, string, u32


# What section 8.8 lists. Each spoils one connection only; `hard` ones must end it, after the others it may go on if
# the peer's other channels do.
def violations():
    def data(payload, declared=None):
        return lambda s, c: s.raw.send(message(wire.DATA, u32(c.remote, len(payload) if declared is None else declared), payload))

    def packet(*parts):
        return lambda s, c: s.raw.send(message(*parts))

    def tampered(kind):
        return lambda s, c: s.raw.tamper(kind, message(wire.IGNORE, string(b"0123456789")))

    def window_flood(s, c):
        s.raw.send(message(wire.WINDOW_ADJUST, u32(c.remote, 0xFFFFFFFF)), message(wire.WINDOW_ADJUST, u32(c.remote, 0xFFFFFFFF)))

    def over_window(s, c):
        for _ in range(c.credit // 32768 + 2):
            s.raw.send(message(wire.DATA, u32(c.remote), string(bytes(32768))))

    def after_close(s, c):
        s.raw.send(message(wire.CLOSE, u32(c.remote)), message(wire.DATA, u32(c.remote), string("late")))

    def during_exchange(s, c):
        # What follows our KEXINIT may only be kex packets.
        s.raw.send(wire.kexinit(), message(wire.CHANNEL_OPEN, string("chisel"), u32(77, 1000, 1000), b"x:1"))

    hard = {
        "wrong tag": tampered(wire.WRONG_TAG),
        "3 bytes of padding": tampered(wire.SHORT_PADDING),
        "more padding than packet": tampered(wire.HUGE_PADDING),
        "packet length of 300000": tampered(wire.HUGE_LENGTH),
        "empty payload": tampered(wire.EMPTY_PAYLOAD),
        "wrong mask bit": lambda s, c: s.raw.frame(0x82, b"x" * 20, s.raw.wrong_mask),
        "RSV bits": lambda s, c: s.raw.frame(0xC2, b"x" * 20, not s.raw.wrong_mask),
        "oversized control frame": lambda s, c: s.raw.frame(0x89, bytes(200), not s.raw.wrong_mask),
        "window overflow": window_flood,
        "unexpected confirmation": lambda s, c: s.raw.send(message(wire.OPEN_CONFIRMATION, u32(c.remote, 9, 1000, 1000))),
        "unexpected failure": lambda s, c: s.raw.send(message(wire.OPEN_FAILURE, u32(c.remote, 1), string(""), string(""))),
        "cut-off CHANNEL_OPEN": packet(wire.CHANNEL_OPEN, string("chisel"), b"\0\0"),
        "cut-off WINDOW_ADJUST": packet(wire.WINDOW_ADJUST, b"\0"),
        "cut-off GLOBAL_REQUEST": packet(wire.GLOBAL_REQUEST, u32(1000), b"x"),
        "NEWKEYS out of turn": packet(wire.NEWKEYS),
        "ECDH_INIT out of turn": packet(30, string(bytes(32))),
        "KEXINIT that is cut off": packet(wire.KEXINIT, bytes(20)),
        "other packets within a key exchange": during_exchange,
        "data for a channel that never was": packet(wire.DATA, u32(4711), string("x")),
        "length field over the packet's end": data(b"abc", 1000),
        "length field of 2^32-1": data(b"abc", 0xFFFFFFFF),
        "DISCONNECT": packet(wire.DISCONNECT, u32(11), string("bye"), string("")),
    }
    soft = {
        "data over the window": over_window,
        "data over the max packet": data(bytes(200000)),
        "bytes after the data": data(b"abcdef", 3),
        "empty data": data(b""),
        "data after CLOSE": after_close,
        "extended data": lambda s, c: s.raw.send(message(wire.EXTENDED_DATA, u32(c.remote, 1), string("x"))),
        "two EOFs and data after it": lambda s, c: s.raw.send(message(wire.EOF, u32(c.remote)), message(wire.EOF, u32(c.remote)),
                                                             message(wire.DATA, u32(c.remote), string("x"))),
        "channel request": lambda s, c: s.raw.send(message(wire.CHANNEL_REQUEST, u32(c.remote), string("x"), b"\1")),
        "channel request for nobody": packet(wire.CHANNEL_REQUEST, u32(4711), string("x"), b"\1"),
        "channel success": lambda s, c: s.raw.send(message(wire.CHANNEL_SUCCESS, u32(c.remote))),
        "UNIMPLEMENTED": packet(wire.UNIMPLEMENTED, u32(1)),
        "EXT_INFO after the login": packet(wire.EXT_INFO, u32(0)),
        "PONG unasked": packet(wire.PONG, string("x")),
        "a reply unasked": packet(wire.REQUEST_SUCCESS, b"pong"),
        "USERAUTH_REQUEST again": packet(wire.USERAUTH_REQUEST, string("a"), string("ssh-connection"), string("none")),
        "SERVICE_REQUEST again": packet(wire.SERVICE_REQUEST, string("ssh-userauth")),
        "unknown number": packet(250),
        "open with a max packet of 0": packet(wire.CHANNEL_OPEN, string("chisel"), u32(99, 1000, 0), b"127.0.0.1:1"),
        "open with an id in use": lambda s, c: s.raw.send(wire.chisel_open(c.local, "127.0.0.1:1")),
    }
    return [(name, act, True) for name, act in hard.items()] + [(name, act, False) for name, act in soft.items()]


def survive(t, name, raw, hard, server_side):
    """After a violation: hard ones end the connection; else it has ended, or still answers a ping."""
    if hard:
        if raw.ended(10) is None:
            raise Failed(f"{name}: the connection goes on")
        return "ended"
    # What came together with the violation may be answered in its end's last words; what comes after that is not.
    for _ in range(2):
        raw.send(message(wire.PING, string(b"still there")))
        end = time.monotonic() + 10 * t.patience
        try:
            while (raw.packet(1) or b"?")[0] != wire.PONG:
                if time.monotonic() > end:
                    raise Failed(f"{name}: neither the end nor an answer")
        except wire.Ended:
            return "ended"
    return "goes on"


@test("R20.violations_towards_a_server", seconds=150)
def violations_server(t):
    server, listener = t.server(), t.listen()
    target = f"127.0.0.1:{listener.getsockname()[1]}"
    steady = wire.Raw(t, "client", server.port).login()
    kept, kept_socket = echo_pair(t, steady, listener)
    outcomes = {}
    for name, act, hard in violations():
        raw = wire.Raw(t, "client", server.port)
        raw.wrong_mask = False
        session = raw.login()
        channel = session.open(target)
        s, _ = listener.accept()
        act(session, channel)
        outcomes[name] = survive(t, name, raw, hard, True)
        raw.process.kill()
        s.close()
        t.check(server.alive(), f"{name}: the server is gone: {harness.tail(server.text())}")
        steady.data(kept, b"steady")
        t.equal(harness.receive_exactly(kept_socket, 6), b"steady", f"{name}: another session's channel")
        if kept.credit < 100000:
            steady.ping()
    t.note("goes on after: " + ", ".join(name for name, how in outcomes.items() if how == "goes on"))


@test("R20.violations_towards_a_client", seconds=150)
def violations_client(t):
    port, local = t.port(), t.port()
    raw = wire.Raw(t, "server", port)
    raw.wrong_mask = True
    client = t.client(port, f"127.0.0.1:{local}:some.host:80", connected=False)
    outcomes = {}
    for name, act, hard in violations():
        session = raw.admit()
        session.accept_open = lambda channel: True
        s = t.connect(local)
        s.sendall(b"hello")
        session.pump(lambda: session.opened and session.opened[0].received, 10, "the client's channel")
        act(session, session.opened[0])
        outcomes[name] = survive(t, name, raw, hard, False)
        if outcomes[name] == "goes on":
            raw.command("Q")
            raw.ended()
        s.close()
        client.wait_line("Retrying in", 15 * t.patience, len(outcomes))
        raw.message_shapes()  # nothing that was meant for this connection meets the next one
        client.signal(signal.SIGHUP)  # at once
    session = raw.admit()
    session.ping()
    t.note("goes on after: " + ", ".join(name for name, how in outcomes.items() if how == "goes on"))
