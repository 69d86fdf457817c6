"""What breaks the protocol before the login (docs/violations.md): HTTP that could be read in two ways, frames and packets
that are none, towards a server and towards a client. It ends its connection and nothing else, with one line in the log."""

import re
import signal
import struct

import harness
import wire
from harness import test
from test_channels import echo_pair
from test_violations import check_backoff, lines_since, one_line

GET = "GET / HTTP/1.1\r\nHost: x\r\n"
LINE = {"client": b"SSH-chisel-v3-client\r\n", "server": b"SSH-chisel-v3-server\r\n"}


def get(*fields):
    return (GET + "".join(f"{field}\r\n" for field in fields) + "\r\n").encode("latin-1")


# (request, status, the rule); those of `upgrades` are answered and the connection may go on.
REQUESTS = (
    (get("Content-Length: 3", "Transfer-Encoding: chunked"), 400, "Content-Length beside Transfer-Encoding"),
    (get("Content-Length: 3", "Content-Length: 4"), 400, "more than one Content-Length"),
    (get("Transfer-Encoding : chunked"), 400, "a blank before a field's colon"),
    (get("Transfer-Encoding: chunked, identity"), 501, "a Transfer-Encoding other than chunked"),
    (get("A: b\nContent-Length: 3"), 400, "a line that ends in LF alone"),
    (get("A: b\rc"), 400, "a CR that ends no line"),
    (get("A: b\r\n folded"), 400, "a folded line"),
    (get("A: \x1b[31m"), 400, "a control character in a field"),
    (get("A: \0"), 400, "a NUL"),
    (get(*[f"X-{n}: y" for n in range(128)]), 431, "more than 128 fields"),
    ((GET.encode() + b"X: " + b"a" * 16384)[:16384], 431, "a head above 16 KiB"),
    (b"CONNECT x:443 HTTP/1.1\r\nHost: x\r\n\r\n", 400, "a target that is none"),
    (b"GET / HTTP/1.1\r\n\r\n", 400, "no Host"),
    (b"PRI * HTTP/2.0\r\n\r\n", 505, "neither HTTP/1.0 nor HTTP/1.1"),
    (b"\xff\xfe\r\n\r\n", 400, "neither HTTP nor SSH"))
UPGRADES = (
    (wire.upgrade_request(extra=("Transfer-Encoding: chunked",)) + b"0\r\n\r\n", 400, "with a body"),
    (wire.upgrade_request(extra=("Content-Length: 5",)) + b"hello", 400, "with a body"),
    (wire.upgrade_request() + wire.frame(b"SSH-chisel-v3-early\r\n"), 400, "with bytes behind it, before the 101"),
    (wire.upgrade_request() + get(), 400, "with bytes behind it, before the 101"),
    (wire.upgrade_request(version="1.0"), 400, "by HTTP/1.0"),
    (wire.upgrade_request(extra=(f"Sec-WebSocket-Key: {wire.SAMPLE_KEY}",)), 400, "not one Sec-WebSocket-Key"),
    (wire.upgrade_request(replace={"Sec-WebSocket-Version": "8"}), 400, "Sec-WebSocket-Version is not 13"),
    (wire.upgrade_request(method="POST"), 405, "not by GET"))


def early(side):
    """What a peer that is a client or a server says first, below its frames, and the words for the log."""
    line, strict = LINE[side], {"client": "kex-strict-c-v00@openssh.com", "server": "kex-strict-s-v00@openssh.com"}[side]
    packet = wire.clear_packet
    kexinit = packet(wire.kexinit("curve25519-sha256," + strict))
    first = "message {} in the first key exchange"
    value = packet({"client": bytes([30]) + wire.string(bytes(32)),
                    "server": bytes([31]) + wire.string("key") + wire.string(bytes(32)) + wire.string("signature")}[side])
    return (
        (b"HTTP/1.1 400 Bad Request\n", "not an SSH version line: HTTP/1.1 400 Bad Request"),
        (b"\x1b[2J\n" + line, "not an SSH version line: \\x1b[2J"),
        (line + packet(wire.message(wire.IGNORE, wire.string(""))), first.format(2)),
        (line + kexinit + packet(wire.message(wire.IGNORE, wire.string(""))), first.format(2)),
        (line + kexinit + packet(wire.message(wire.DEBUG, b"\0", wire.string("x"), wire.string(""))), first.format(4)),
        (line + kexinit + packet(wire.message(wire.SERVICE_REQUEST, wire.string("ssh-userauth"))), first.format(5)),
        (line + kexinit + kexinit, "message 20 is not due in the key exchange"),
        (line + kexinit + packet(bytes([wire.NEWKEYS])), "message 21 is not due in the key exchange"),
        (line + kexinit + value, {"client": "malformed ECDH_INIT", "server": "malformed ECDH_REPLY"}[side]),
        (line + packet(bytes([wire.KEXINIT]) + bytes(30)), "malformed KEXINIT"),
        (line + b"\x7f\xff\xff\xff", "broken packet: packet_length is above the limit"),
        (line + struct.pack(">IB", 12, 3) + bytes(11), "broken packet: padding is shorter than 4"))


def frames(side):
    masked = side == "client"
    return (
        (wire.frame(b"x", masked=not masked), "websocket: bad MASK"),
        (wire.frame(b"x", masked=masked, rsv=4), "websocket: RSV bits set"),
        (wire.frame(b"x", opcode=0, masked=masked), "websocket: continuation after FIN"),
        (wire.frame(b"S", fin=False, masked=masked) + wire.frame(b"S", masked=masked), "websocket: data before FIN"),
        (wire.frame(b"\x03\xed", opcode=8, masked=masked), "websocket: bad close code"),
        (b"\x82" + (b"\xff" if masked else b"\x7f") + struct.pack(">Q", 1 << 40) + bytes(4), "websocket: read limit exceeded"))


@test("R20.strange_clients", seconds=90)
def strange_clients(t):
    server, listener = t.server(), t.listen()
    native = t.server("--auth", "u:p", name="native-server")
    steady = wire.Raw(t, "client", server.port).login()
    kept, kept_socket = echo_pair(t, steady, listener)

    def check(name, at, s, pattern):
        """One line about this address, and nobody else has noticed."""
        own = rf"127\.0\.0\.1:{s.getsockname()[1]}\b"
        at.wait_line(own + r".*\n", 10 * t.patience)
        harness.ended_how(s, 15 * t.patience)
        one_line(t, name, [line for line in lines_since(at, 0) if re.search(own, line)], pattern.replace("ADDRESS", own))
        data = t.random.randbytes(1000)
        steady.data(kept, data)
        t.check(harness.receive_exactly(kept_socket, len(data)) == data, f"{name}: another session's channel")

    for kind, rows in (("an HTTP request", REQUESTS), ("an upgrade", UPGRADES)):
        for request, status, rule in rows:
            s = t.connect(server.port)
            s.sendall(request)
            answer = wire.Response(wire.read_head(s)[:-4], b"")
            t.equal(answer.status, status, f"{rule}: the answer to {request[:60]}")
            if kind == "an upgrade" and answer.header("Connection") is None and b"HTTP/1.0" not in request:
                harness.receive_exactly(s, int(answer.header("Content-Length")))
                t.equal(wire.http(s, b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").body, b"OK\n", "the next request")
            check(rule, server, s, rf"server: ADDRESS: refused {kind} \({status}\): {re.escape(rule)}")
    failed = r"server: session#\d+: Failed to handshake \(ADDRESS\): "
    for data, words in (*((wire.frame(data), words) for data, words in early("client")), *frames("client")):
        s = t.connect(server.port)
        s.sendall(wire.upgrade_request())
        wire.read_head(s)
        s.sendall(data)
        check(words, server, s, failed + re.escape(words))
    for data, words in early("client")[2:]:
        s = t.connect(native.port)
        s.sendall(data.replace(LINE["client"], b"SSH-2.0-stranger\r\n"))
        check(words, native, s, failed + re.escape(words))
    t.check(server.alive() and native.alive(), "a server is gone")


@test("R20.strange_servers", seconds=90)
def strange_servers(t):
    """A client says what was wrong, tries again later each time, and is there when its server is."""
    upgraded = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ACCEPT\r\n"
    good, malformed = (upgraded + "\r\n").encode(), "malformed HTTP response: "
    answers = (
        ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "status 200"),
        ("HTTP/1.1 301 Moved\r\nLocation: http://else.where/\r\n\r\n", "status 301, which sends us to http://else.where/: not followed"),
        ("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 403 Forbidden\r\n\r\n", "status 403"),
        (upgraded.replace("ACCEPT", wire.SAMPLE_ACCEPT) + "\r\n", "wrong Sec-WebSocket-Accept"),
        (upgraded + "Content-Length: 5\r\n\r\n", "a 101 with a body"),
        (upgraded + "Transfer-Encoding: chunked\r\n\r\n", "a 101 with a body"),
        (upgraded + "Sec-WebSocket-Protocol: other\r\n\r\n", "protocol 'other' instead of 'chisel-v3'"),
        (upgraded + "Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n", "an extension that was not asked for: permessage-deflate"),
        (upgraded + "A: b\n\r\n", malformed + "a line that ends in LF alone"),
        (upgraded + "A: b\r\n c\r\n\r\n", malformed + "a folded line"),
        (upgraded + "A: \x1b[2J\r\n\r\n", malformed + "a control character in a field"),
        (upgraded + "X: " + "a" * 17000, "response head above 16 KiB"),
        ("SSH-2.0-OpenSSH_9.2p1\r\n\r\n", malformed + "a status line that is none"))
    rows = [(answer.encode("latin-1"), f"websocket: bad handshake ({why})") for answer, why in answers]
    rows += [(good + wire.frame(data, masked=False), words) for data, words in early("server")]
    rows += [(good + data, words) for data, words in frames("server")]
    listener = t.listen()
    port = listener.getsockname()[1]
    client = t.client(port, connected=False)
    for number, (answer, words) in enumerate(rows, 1):
        s, _ = listener.accept()
        key = re.search(rb"Sec-WebSocket-Key: (\S+)", wire.read_head(s)).group(1).decode()
        place = len(client.err())
        # Bytes right behind the 101 are the tunnel's already.
        s.sendall(answer.replace(b"ACCEPT", wire.accept_for(key).encode()))
        harness.ended_how(s, 15 * t.patience)
        s.close()
        client.wait_line(r"Retrying in .*\n", 15 * t.patience, number)
        one_line(t, words, [line for line in lines_since(client, place) if "error" in line],
                 "client: Connection error: " + re.escape(words) + r"( \(Attempt: \d+/unlimited\))?")
        if number == len(rows):
            listener.close()
            t.server(port=port)
        client.signal(signal.SIGHUP)  # at once
    client.wait_line("Connected", 15 * t.patience)
    check_backoff(t, client)


@test("R20.records_and_replies")
def records_and_replies(t):
    """UDP records that are none end their channel alone (docs/wire.md section 9.2); a ping answered with something else ends
    the session."""
    patient = {"CHISEL_PING_TIMEOUT": "60s"}
    server = t.server("--keepalive", "300ms", env=patient)
    session = wire.Raw(t, "client", server.port).login()
    session.answer_pings = False
    channel = session.open("127.0.0.1:9/udp")
    session.data(channel, b"x" * 200)
    session.pump(lambda: channel.got_close, 10, "CLOSE of the channel")
    server.wait_line(r"session#1: conn#1: 127\.0\.0\.1:9/udp: malformed gob: channel closed\n", 10 * t.patience)
    session.pump(lambda: session.pings, 10, "a ping")
    place = len(server.err())
    session.raw.send(wire.message(wire.REQUEST_SUCCESS, b"pang"))
    t.check(session.raw.ended(), "the session goes on")
    server.wait_line(r"Close \(user=.*\n", 10 * t.patience)
    one_line(t, "at the server", lines_since(server, place),
             r"server: session#1: Close \(user= addr=127\.0\.0\.1:\d+ duration=[\d.]+s\) \(error strange ping response\)")

    port, local = t.port(), t.port()
    raw = wire.Raw(t, "server", port)
    client = t.client(port, f"127.0.0.1:{local}:some.host:9/udp", flags=("--keepalive", "300ms"), env=patient, connected=False)
    session = raw.admit()
    session.answer_pings, session.accept_open = False, lambda channel: True
    session.pump(lambda: session.opened, 10, "the channel for datagrams")
    channel = session.opened[0]
    session.data(channel, b"x" * 200)
    session.pump(lambda: channel.got_close, 10, "CLOSE of the channel")
    client.wait_line(r"9/udp: Stream error: malformed gob\n", 10 * t.patience)
    session.pump(lambda: session.pings, 10, "a ping")
    raw.send(wire.message(wire.REQUEST_FAILURE, b"pang"))
    t.check(raw.ended(), "the session goes on")
    client.wait_line("Connection error: strange ping response\n", 10 * t.patience)
    raw.admit()
