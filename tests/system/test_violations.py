"""What breaks the protocol (docs/violations.md) ends its connection and nothing else, with one line in the log that names
the rule: acceptance row R20. What comes before the login is in test_strange_peers.py."""

import re
import signal

import harness
import wire
from harness import Failed, test
from test_channels import echo_pair
from wire import message, string, u32


# What section 8.8 of docs/wire.md lists, and what is as strange but harmless: (name, what is done, the words of the log).
# Without words the connection goes on.
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
        # Nobody reads: the largest window, and more than the kernel's buffers take meanwhile (kernel_buffers).
        s.raw.send(*[message(wire.DATA, u32(c.remote), string(bytes(32768)))] * 200)

    def after_close(s, c):
        s.raw.send(message(wire.CLOSE, u32(c.remote)), message(wire.DATA, u32(c.remote), string("late")))

    def during_exchange(s, c):
        # What follows our KEXINIT may only be kex packets.
        s.raw.send(wire.kexinit(), message(wire.CHANNEL_OPEN, string("chisel"), u32(77, 1000, 1000), b"x:1"))

    not_open, disagrees = "message for a channel that is not open", "channel data whose length disagrees with its packet"
    not_due = "message {} is not due in the key exchange"
    return [
        ("wrong tag", tampered(wire.WRONG_TAG), "broken packet: MAC does not match"),
        ("3 bytes of padding", tampered(wire.SHORT_PADDING), "broken packet: padding is shorter than 4"),
        ("more padding than packet", tampered(wire.HUGE_PADDING), "broken packet: padding is longer than the packet"),
        ("packet length of 300000", tampered(wire.HUGE_LENGTH), "broken packet: packet_length is above the limit"),
        ("empty payload", tampered(wire.EMPTY_PAYLOAD), "broken packet: payload is empty"),
        ("wrong mask bit", lambda s, c: s.raw.frame(0x82, b"x" * 20, s.raw.wrong_mask), "websocket: bad MASK"),
        ("RSV bits", lambda s, c: s.raw.frame(0xC2, b"x" * 20, not s.raw.wrong_mask), "websocket: RSV bits set"),
        ("oversized control frame", lambda s, c: s.raw.frame(0x89, bytes(200), not s.raw.wrong_mask), "websocket: len > 125 for control"),
        ("window overflow", window_flood, "window adjust beyond 2^32-1"),
        ("unexpected confirmation", lambda s, c: s.raw.send(message(wire.OPEN_CONFIRMATION, u32(c.remote, 9, 1000, 1000))),
         "unexpected channel confirmation"),
        ("unexpected failure", lambda s, c: s.raw.send(message(wire.OPEN_FAILURE, u32(c.remote, 1), string(""), string(""))),
         "unexpected channel failure"),
        ("cut-off CHANNEL_OPEN", packet(wire.CHANNEL_OPEN, string("chisel"), b"\0\0"), "malformed channel open"),
        ("cut-off WINDOW_ADJUST", packet(wire.WINDOW_ADJUST, b"\0"), "malformed window adjust"),
        ("cut-off GLOBAL_REQUEST", packet(wire.GLOBAL_REQUEST, u32(1000), b"x"), "malformed global request"),
        ("cut-off PING", packet(wire.PING, u32(1000), b"x"), "malformed PING"),
        ("NEWKEYS out of turn", packet(wire.NEWKEYS), not_due.format(21)),
        ("ECDH_INIT out of turn", packet(30, string(bytes(32))), not_due.format(30)),
        ("KEXINIT that is cut off", packet(wire.KEXINIT, bytes(20)), "malformed KEXINIT"),
        # Our peer's own KEXINIT, with which it answers, may be quicker than what was to come behind the first.
        ("other packets within a key exchange", during_exchange,
         re.compile("message (90 within a|20 is not due in the) key exchange")),
        ("data for a channel that never was", packet(wire.DATA, u32(4711), string("x")), not_open),
        ("a channel's reply for nobody", packet(wire.CHANNEL_SUCCESS, u32(4711)), not_open),
        ("length field over the packet's end", data(b"abc", 1000), disagrees),
        ("length field of 2^32-1", data(b"abc", 0xFFFFFFFF), disagrees),
        ("bytes after the data", data(b"abcdef", 3), disagrees),
        ("DISCONNECT", packet(wire.DISCONNECT, u32(11), string("bye\x1b\n"), string("")), "ssh: disconnect, reason 11: bye\\x1b\\x0a"),
        ("data over the window", over_window, "remote side wrote too much"),
        ("data over the max packet", data(bytes(200000)), "incoming packet exceeds maximum payload size"),
        ("data after CLOSE", after_close, not_open),
        ("two EOFs and data after it", lambda s, c: s.raw.send(message(wire.EOF, u32(c.remote)), message(wire.EOF, u32(c.remote)),
                                                               message(wire.DATA, u32(c.remote), string("x"))), "data after EOF"),
        ("empty data", data(b""), None),
        ("extended data", lambda s, c: s.raw.send(message(wire.EXTENDED_DATA, u32(c.remote, 1), string("x"))), None),
        ("channel request", lambda s, c: s.raw.send(message(wire.CHANNEL_REQUEST, u32(c.remote), string("x"), b"\1")), None),
        ("channel request for nobody", packet(wire.CHANNEL_REQUEST, u32(4711), string("x"), b"\1"), None),
        ("channel success", lambda s, c: s.raw.send(message(wire.CHANNEL_SUCCESS, u32(c.remote))), None),
        ("UNIMPLEMENTED", packet(wire.UNIMPLEMENTED, u32(1)), None),
        ("EXT_INFO after the login", packet(wire.EXT_INFO, u32(0)), None),
        ("PONG unasked", packet(wire.PONG, string("x")), None),
        ("replies unasked", lambda s, c: s.raw.send(*[message(wire.REQUEST_SUCCESS, b"pong"), message(wire.REQUEST_FAILURE)] * 2000), None),
        ("USERAUTH_REQUEST again", packet(wire.USERAUTH_REQUEST, string("a"), string("ssh-connection"), string("none")), None),
        ("SERVICE_REQUEST again", packet(wire.SERVICE_REQUEST, string("ssh-userauth")), None),
        ("unknown number", packet(250), None),
        ("open with a max packet of 0", packet(wire.CHANNEL_OPEN, string("chisel"), u32(99, 1000, 0), b"127.0.0.1:1"), None),
        ("open with an id in use", lambda s, c: s.raw.send(wire.chisel_open(c.local, "127.0.0.1:1")), None),
        ("global requests nobody knows", lambda s, c: s.raw.send(*[message(wire.GLOBAL_REQUEST, string("x"), b"\1")] * 2000), None),
        ("config again", packet(wire.GLOBAL_REQUEST, string("config"), b"\1", b"{}"), None),
    ]


def survive(name, raw, words):
    """After a violation the connection has ended; after what is harmless it answers."""
    if words:
        if raw.ended(10) is None:
            raise Failed(f"{name}: the connection goes on")
        return
    raw.send(message(wire.PING, string(b"still there")))
    try:
        while (packet := raw.packet(10)) is None or packet[0] != wire.PONG:
            if packet is None:
                raise Failed(f"{name}: neither the end nor an answer")
    except wire.Ended as how:
        raise Failed(f"{name}: the connection ended ({how})") from None


def lines_since(process, place):
    """Log lines behind the first `place` characters, without their times."""
    return [re.sub(r"^\d{4}/\d\d/\d\d \d\d:\d\d:\d\d ", "", line) for line in process.err()[place:].splitlines()]


def of_words(words):
    """The words of a log line as a pattern."""
    return words.pattern if isinstance(words, re.Pattern) else re.escape(words)


def one_line(t, name, lines, pattern):
    t.check(len(lines) == 1 and re.fullmatch(pattern, lines[0]), f"{name}: not one line /{pattern}/ but {lines}")


@test("R20.violations_towards_a_server", seconds=150)
def violations_server(t):
    t.kernel_buffers(65536)
    server, listener = t.server(), t.listen()
    target = f"127.0.0.1:{listener.getsockname()[1]}"
    steady = wire.Raw(t, "client", server.port).login()
    kept, kept_socket = echo_pair(t, steady, listener)
    for number, (name, act, words) in enumerate(violations(), 1):
        raw = wire.Raw(t, "client", server.port)
        raw.wrong_mask = False
        session = raw.login()
        channel = session.open(target)
        s, _ = listener.accept()
        server.wait_line(r"Open \(user=", 10 * t.patience, number + 1)
        place = len(server.err())
        act(session, channel)
        survive(name, raw, words)
        raw.process.kill()
        s.close()
        server.wait_line(r"Close \(user=.*\n", 10 * t.patience, number)
        why = rf" \(error {of_words(words)}\)" if words else r"( \(error Connection reset by peer\))?"
        one_line(t, name, lines_since(server, place), r"server: session#\d+: Close \(user= addr=127\.0\.0\.1:\d+ duration=[\d.]+s\)" + why)
        # Another session's channel loses nothing, in either direction.
        data = t.random.randbytes(5000)
        steady.data(kept, data)
        t.check(harness.receive_exactly(kept_socket, len(data)) == data, f"{name}: another session's channel")
        kept.received.clear()
        kept_socket.sendall(data)
        steady.pump(lambda: len(kept.received) >= len(data), 10, f"{name}: the bytes of another session's channel")
        t.check(bytes(kept.received) == data, f"{name}: another session's channel, towards its client")
        if kept.credit < 100000:
            steady.ping()


def delays(lines):
    """The announced delays in milliseconds."""
    unit = {"ms": 1, "s": 1000, "m": 60000}
    texts = [match.group(1) for line in lines if (match := re.search(r"Retrying in (\S+)\.\.\.", line))]
    return [sum(round(float(n) * unit[u]) for n, u in re.findall(r"([\d.]+)(ms|m|s)", text)) for text in texts]


def check_backoff(t, client):
    """Each delay is twice the one before, up to the most; a session that lasted begins anew."""
    seen = delays(client.err().splitlines())
    for before, now in zip(seen, seen[1:]):
        t.check(now in (min(2 * before, 300000), 100), f"delays of {seen}")


@test("R20.violations_towards_a_client", seconds=150)
def violations_client(t):
    t.kernel_buffers(65536)
    port, local = t.port(), t.port()
    raw = wire.Raw(t, "server", port)
    raw.wrong_mask = True
    client = t.client(port, f"127.0.0.1:{local}:some.host:80", connected=False)
    for number, (name, act, words) in enumerate(violations(), 1):
        session = raw.admit()
        session.accept_open = lambda channel: True
        s = t.connect(local)
        s.sendall(b"hello")
        session.pump(lambda: session.opened and session.opened[0].received, 10, "the client's channel")
        client.wait_line(r"Connected .*\n", 15 * t.patience, number)
        place = len(client.err())
        act(session, session.opened[0])
        survive(name, raw, words)
        if not words:
            raw.command("Q")
            raw.ended()
        s.close()
        client.wait_line(r"Retrying in .*\n", 15 * t.patience, number)
        said = lines_since(client, place)
        errors = [line for line in said if "error" in line]
        if words:
            one_line(t, name, errors, "client: Connection error: " + of_words(words) + r"( \(Attempt: \d+/unlimited\))?")
        t.check(said[0] == "client: Disconnected" and len(said) == 2 + len(errors), f"{name}: {said}")
        raw.message_shapes()  # nothing that was meant for this connection meets the next one
        client.signal(signal.SIGHUP)  # at once
    raw.admit().ping()
    check_backoff(t, client)


@test("R20.configuration")
def configuration(t):
    """A configuration that is none, and one that comes late, are named once; the connection is the client's to end."""
    server, denied = t.server(), "server: Reverse port forwarding not enabled on server"
    reverse = wire.config_json("0.0.0", remotes=[{"LocalHost": "0.0.0.0", "LocalPort": "1", "LocalProto": "tcp", "RemoteHost": "h", "RemotePort": "1",
                                         "RemoteProto": "tcp", "Socks": False, "Reverse": True, "Stdio": False}])
    for name, payload, words in (("config", b"{", "server: invalid config"), ("config", reverse, denied), ("ping", b"", "expected a config request")):
        raw = wire.Raw(t, "client", server.port)
        raw.authenticate()
        place = len(server.err())
        raw.send(message(wire.GLOBAL_REQUEST, string(name), b"\1", payload))
        t.equal(raw.packet()[0], wire.REQUEST_FAILURE, f"the answer to {name} {payload}")
        server.wait_line(re.escape(words) + r"\n")
        if name == "config":
            raw.send(message(wire.PING, string("x")))
            t.equal(raw.expect(wire.PONG)[5:], b"x", "the connection goes on")
            raw.command("Q")
        raw.ended()
        t.check(server.alive(), "the server is gone")
        one_line(t, name, lines_since(server, place), r"server: session#\d+: Failed to handshake \(127\.0\.0\.1:\d+\): " + re.escape(words))
