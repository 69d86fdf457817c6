"""Transport and HTTP: acceptance rows T1-T6, T8-T11, T18, T19 (docs/wire.md sections 1 to 3)."""

import socket
import struct
import time

import harness
import wire
from harness import Failed, test

MIB = 1 << 20


@test("T1.upgrade_any_path_and_host")
def upgrade(t):
    server = t.server()
    for path, host, extra in (("/", "127.0.0.1", ()), ("/some/path?q=1", "example.test:99", ()),
                              ("/health", "x", ("Origin: http://elsewhere.test",)), ("/%2e%2e/a", "[::1]", ())):
        s = t.connect(server.port)
        s.sendall(wire.upgrade_request(path, host, extra=extra))
        response = wire.Response(wire.read_head(s)[:-4], b"")
        t.equal(response.line, "HTTP/1.1 101 Switching Protocols", path)
        t.equal(sorted(response.headers), sorted([("Upgrade", "websocket"), ("Connection", "Upgrade"),
                                                  ("Sec-WebSocket-Accept", wire.SAMPLE_ACCEPT)]), "headers of the 101")
        # One flight: all this before the client has said anything in the WebSocket.
        inside = wire.FrameReader(s)
        t.equal(inside.line(), b"SSH-chisel-v3-server\r\n", "first line inside")
        t.equal(inside.clear_packet()[0], wire.KEXINIT, "what follows the version line")
    # `Upgrade` in any case, and two protocol headers of which the first matches.
    s = t.connect(server.port)
    s.sendall(wire.upgrade_request(replace={"Upgrade": "WebSocket"}, extra=("Sec-WebSocket-Protocol: other",)))
    t.equal(wire.Response(wire.read_head(s)[:-4], b"").status, 101, "two protocol headers")


@test("T1.go_client")
def go_client(t):
    server, sink, port = t.server(), t.destination(), t.port()
    t.go_client(f"127.0.0.1:{server.port}/some/path?q=1", f"127.0.0.1:{port}:127.0.0.1:{sink.port}", flags=("--hostname", "other.test"))
    t.load(port, "both", "--bytes", 4 * MIB, ok=1)


@test("T1.go_server")
def go_server(t):
    server, sink, port = t.go_server(), t.destination(), t.port()
    t.client(f"http://127.0.0.1:{server.port}/some/path?q=1", f"127.0.0.1:{port}:127.0.0.1:{sink.port}")
    t.load(port, "both", "--bytes", 4 * MIB, ok=1)


@test("T2.exact_protocol")
def exact_protocol(t):
    server = t.server()
    for value in ("chisel-v3, x", "chisel-v2", "Chisel-v3", "x"):
        s = t.connect(server.port)
        response = wire.http(s, wire.upgrade_request(replace={"Sec-WebSocket-Protocol": value}))
        t.equal((response.status, response.body), (404, b"Not found"), value)
        server.wait_line(f"ignored client connection using protocol '{value}', expected 'chisel-v3'")
    s = t.connect(server.port)
    t.equal(wire.http(s, wire.upgrade_request(drop=("Sec-WebSocket-Protocol",))).status, 404, "no protocol at all")


@test("T3.nothing_before_101")
def nothing_before_101(t):
    port = t.port()
    raw = wire.Raw(t, "server", port, "--delay-101", "700ms")
    t.client(port, connected=False)
    raw.admit()  # a byte before the 101 is a violation that ends the connection


@test("T4.frames_of_any_shape")
def frames(t):
    server = t.server()
    s = t.connect(server.port)
    s.sendall(wire.upgrade_request())
    wire.read_head(s)
    inside = wire.FrameReader(s)
    inside.line()
    # A version line and KEXINIT cut into text, binary and continuation frames, with pings in between.
    stream = b"SSH-chisel-v3-client with a comment\r\n" + wire.clear_packet(wire.kexinit())
    pieces = [stream[:1], stream[1:7], stream[7:50], stream[50:51], stream[51:]]
    # Each ping within a message waits for its pong (several at once may be answered by one, RFC 6455 section 5.5.3).
    s.sendall(wire.frame(pieces[0], opcode=1) + wire.frame(pieces[1], opcode=2, fin=False) + wire.frame(b"first", opcode=9))
    while not inside.controls:
        inside.step()
    s.sendall(wire.frame(pieces[2], opcode=0, fin=False) + wire.frame(b"", opcode=9) + wire.frame(pieces[3], opcode=0, fin=True) +
              wire.frame(b"", opcode=10) + wire.frame(pieces[4], opcode=1))
    while len(inside.controls) < 2:
        inside.step()
    t.equal(inside.controls, [(10, b"first"), (10, b"")], "pongs")
    t.equal(inside.clear_packet()[0], wire.KEXINIT, "the server understood the version line")
    # ECDH_INIT one byte a frame; the answer shows that the KEXINIT was whole.
    for byte in wire.clear_packet(bytes([30]) + wire.string(bytes([9]) + bytes(31))):
        s.sendall(wire.frame(bytes([byte])))
    t.equal(inside.clear_packet()[0], 31, "ECDH_REPLY")
    # A Close is echoed with its code, then the connection ends.
    s.sendall(wire.frame(struct.pack(">H", 1000) + b"bye", opcode=8))
    while not any(opcode == 8 for opcode, _ in inside.controls):
        inside.step()
    t.equal(inside.controls[-1][1][:2], struct.pack(">H", 1000), "the code of the Close")
    harness.ended_how(s)


@test("T4.go_frames_in_bulk", seconds=90)
def go_frames(t):
    sink = t.destination()
    for kind in ("--text", "--pings"):
        server, port = t.server(), t.port()
        t.go_client(server.port, f"127.0.0.1:{port}:127.0.0.1:{sink.port}", flags=(kind,))
        t.load(port, "both", "--bytes", 16 * MIB, ok=1)
        server, port = t.go_server(kind), t.port()
        t.client(server.port, f"127.0.0.1:{port}:127.0.0.1:{sink.port}")
        t.load(port, "both", "--bytes", 16 * MIB, ok=1)


@test("T4.bad_frames")
def bad_frames(t):
    server = t.server()
    bad = {
        "unmasked": wire.frame(b"SSH-", masked=False),
        "RSV1": wire.frame(b"SSH-", rsv=4),
        "RSV3": wire.frame(b"SSH-", rsv=1),
        "unknown opcode": wire.frame(b"SSH-", opcode=3),
        "unknown control": wire.frame(b"", opcode=11),
        "long ping": wire.frame(bytes(126), opcode=9),
        "fragmented ping": wire.frame(b"x", opcode=9, fin=False),
        "continuation of nothing": wire.frame(b"SSH-", opcode=0),
        "new message within a message": wire.frame(b"S", fin=False) + wire.frame(b"S", opcode=2),
        "length with its highest bit": bytes([0x82, 0xFF]) + b"\xff" * 8 + bytes(4),
    }
    for name, data in bad.items():
        s = t.connect(server.port)
        s.sendall(wire.upgrade_request())
        wire.read_head(s)
        inside = wire.FrameReader(s)
        inside.line()
        s.sendall(data)
        try:
            while True:  # KEXINIT may come first; then the end, with or without a Close 1002
                inside.step(10 * t.patience)
        except Failed as why:
            t.check("the end after" in str(why), f"{name}: the connection goes on ({why})")
        except ConnectionResetError:
            pass
        for opcode, payload in inside.controls:
            t.check(opcode == 8 and payload[:2] == struct.pack(">H", 1002), f"{name}: got control {opcode} {payload!r}")
    s = t.connect(server.port)
    t.equal(wire.http(s, b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n").body, b"OK\n", "the server lives on")


@test("T5.message_limit_of_go_peers", seconds=90)
def message_limit(t):
    sink = t.destination()
    server, port = t.server(), t.port()
    t.go_client(server.port, f"127.0.0.1:{port}:127.0.0.1:{sink.port}", flags=("--message-limit", 524288))
    t.load(port, "down", "--bytes", 64 * MIB, ok=1)
    t.load(port, "down", "--bytes", 2 * MIB, "--connections", 32, ok=32)
    server, port = t.go_server("--message-limit", 524288), t.port()
    t.client(server.port, f"127.0.0.1:{port}:127.0.0.1:{sink.port}")
    t.load(port, "up", "--bytes", 64 * MIB, ok=1)
    t.load(port, "up", "--bytes", 2 * MIB, "--connections", 32, ok=32)


@test("T5.own_limit_closes_with_1009")
def own_limit(t):
    server = t.server()
    s = t.connect(server.port)
    s.sendall(wire.upgrade_request())
    wire.read_head(s)
    inside = wire.FrameReader(s)
    inside.line()
    s.sendall(b"\x82\xff" + struct.pack(">Q", 1 << 40) + bytes(4))
    try:
        # More than any limit, in case only bytes that came are counted.
        while not any(opcode == 8 for opcode, _ in inside.controls):
            s.sendall(bytes(65536))
            s.settimeout(0.001)
            try:
                peeked = s.recv(1, socket.MSG_PEEK)
            except (socket.timeout, BlockingIOError):
                continue
            if not peeked:
                break
            inside.step()
    except OSError:
        pass
    codes = [payload[:2] for opcode, payload in inside.controls if opcode == 8]
    t.equal(codes, [struct.pack(">H", 1009)], "the Close over the limit")


@test("T5.messages_towards_go")
def messages_towards_go(t):
    """Go copies what is left of a message at every short read, so each large packet is a message of its own for it. An end
    that says that it takes many packets in a message gets them so. (The peer checks every message; this makes many: a send over a slow
    path is 40 KiB, so packets of 8 KiB are asked for, and it reads nothing before more waits than a message takes.)"""
    t.kernel_buffers(256 * 1024)
    size, most = 2 * MIB - 100_000, 8192
    full = most + 9
    for header in (None, "Burin-Features: batch"):
        listener, server = t.listen(), t.server()
        raw = wire.Raw(t, "client", server.port, *(("--header", header) if header else ()))
        session = raw.login()
        channel = session.open(f"127.0.0.1:{listener.getsockname()[1]}", maximum=most)
        s, _ = listener.accept()
        kinds = [("a server", raw, session, channel, s)]
        port, local = t.port(), t.port()
        raw = wire.Raw(t, "server", port, *(("--extra-header", header) if header else ()))
        t.client(port, f"127.0.0.1:{local}:some.host:80", connected=False)
        session = raw.admit()
        session.accept_open, session.maximum = lambda channel: True, most
        s = t.connect(local)
        session.pump(lambda at=session: at.opened, 10, "CHANNEL_OPEN")
        kinds.append(("a client", raw, session, session.opened[0], s))
        for who, raw, session, channel, s in kinds:
            data = t.random.randbytes(size)
            worker = harness.Worker(lambda: s.sendall(data))
            time.sleep(0.3)
            session.pump(lambda: len(channel.received) >= size, 20, "the bytes")
            worker.join()
            t.check(bytes(channel.received) == data, "the bytes differ")
            for _ in range(5):
                session.ping()
            shapes = raw.message_shapes()
            t.check(full < shapes["largest"] < 512 * 1024, f"{who}, {header}: {shapes}")
            t.check((shapes["largest"] > 2 * full) == bool(header), f"{who}, {header}: {shapes}")
            if header:
                t.check(shapes["most_packets"] > 3, f"{who}, {header}: {shapes}")


@test("T6.pages")
def pages(t):
    server = t.server()
    version = t.run("version", [t.binary, "--version"]).text().strip().split()[-1].encode()
    s = t.connect(server.port)
    for request, status, body in (("GET /health", 200, b"OK\n"), ("GET /health?a=b", 200, b"OK\n"), ("POST /health", 200, b"OK\n"),
                                  ("GET /version", 200, version), ("GET /", 404, b"Not found"),
                                  ("GET /healthy", 404, b"Not found"), ("GET /health/", 404, b"Not found"),
                                  ("DELETE /x", 404, b"Not found")):
        # All on one connection: keep-alive.
        length = "Content-Length: 0\r\n" if request.startswith("POST") else ""
        response = wire.http(s, f"{request} HTTP/1.1\r\nHost: x\r\n{length}\r\n".encode())
        t.equal((response.status, response.body), (status, body), request)
        t.equal(response.header("Content-Type"), "text/plain; charset=utf-8", request + ", Content-Type")
        t.check(response.header("Date"), request + ": no Date")
        t.check(response.header("Server") is None, request + ": a Server header")
    response = wire.http(s, b"HEAD /health HTTP/1.1\r\nHost: x\r\n\r\n", body=False)
    t.equal((response.status, response.header("Content-Length")), (200, "3"), "HEAD")
    # No body followed: the next response starts at once.
    t.equal(wire.http(s, b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n").body, b"OK\n", "after HEAD")
    # Two requests in one segment.
    s.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n" * 2)
    for _ in range(2):
        t.equal(wire.http(s, b"").body, b"OK\n", "pipelined")
    response = wire.http(s, b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    t.equal(harness.ended_how(s)[1], b"", "after Connection: close")
    s = t.connect(server.port)
    response = wire.http(s, b"GET /health HTTP/1.0\r\n\r\n")
    t.equal((response.version, response.status, response.body), ("HTTP/1.0", 200, b"OK\n"), "HTTP/1.0")
    t.equal(harness.ended_how(s), ("eof", b""), "HTTP/1.0 closes")


@test("T8.bad_upgrades")
def bad_upgrades(t):
    server = t.server()
    key = "Sec-WebSocket-Key"
    table = (("no Upgrade in Connection", dict(replace={"Connection": "keep-alive"}), 400, b"Bad Request\n"),
             ("version 12", dict(replace={"Sec-WebSocket-Version": "12"}), 400, b"Bad Request\n"),
             ("no version", dict(drop=("Sec-WebSocket-Version",)), 400, b"Bad Request\n"),
             ("no key", dict(drop=(key,)), 400, b"Bad Request\n"),
             ("short key", dict(replace={key: "c2hvcnQ="}), 400, b"Bad Request\n"),
             ("key that is not base64", dict(replace={key: "dGhlIHNhbXBsZSBub25jZQ!!"}), 400, b"Bad Request\n"),
             ("POST", dict(method="POST"), 405, b"Method Not Allowed\n"))
    for name, changes, status, body in table:
        s = t.connect(server.port)
        response = wire.http(s, wire.upgrade_request(**changes))
        t.equal((response.status, response.body), (status, body), name)
        t.equal(response.header("Sec-Websocket-Version"), "13", name)
        t.equal(response.header("X-Content-Type-Options"), "nosniff", name)
        t.equal((response.header("Connection"), harness.ended_how(s)), ("close", ("eof", b"")), name)
    for name, data in (("no Host", b"GET / HTTP/1.1\r\n\r\n"), ("not HTTP", b"HELLO there\r\n\r\n"), ("controls", b"\x01\x02\x03\r\n\r\n")):
        s = t.connect(server.port)
        s.sendall(data)
        t.equal(wire.Response(wire.read_head(s)[:-4], b"").status, 400, name)
    # A header without end, and a very long one, are cut off and cost the server nothing.
    s = t.connect(server.port)
    s.settimeout(20 * t.patience)
    sent = 0
    try:
        while sent < 32 * MIB:
            sent += s.send(b"X-Filler: " + b"y" * 4000 + b"\r\n" if sent else b"GET / HTTP/1.1\r\n")
        raise Failed("32 MiB of header were taken")
    except OSError:
        pass


def recorded_request(t, flags, url="http://127.0.0.1:{port}/some/path?q=1", host=None, env=None, port=None):
    """What `burin client` sends first; the connection is then closed."""
    listener = t.listen(port)
    port = listener.getsockname()[1]
    client = t.client(url.format(port=port), flags=("--max-retry-count", "0", *flags), connected=False, env=env)
    s, _ = listener.accept()
    head = wire.read_head(s)
    s.close()
    listener.close()
    t.equal(client.wait_exit(15 * t.patience), 1, "exit status at give-up")
    return head.decode("latin-1"), port


def compare_request(t, head, want, what):
    """Equal line by line, save the random key and one header of ours, in which both ends tell their features."""
    got = head.split("\r\n")
    key = [line for line in got if line.startswith("Sec-WebSocket-Key: ")]
    t.equal(len(key), 1, what + ": Sec-WebSocket-Key")
    t.equal(len(key[0]), len("Sec-WebSocket-Key: ") + 24, what + ": length of the key")
    got = ["Sec-WebSocket-Key: K" if line in key else line for line in got]
    more = [line for line in got if line not in want]
    t.check(len(more) <= 1, f"{what}: unexpected lines {more}")
    t.equal([line for line in got if line not in more], want, what)
    return more


def go_request(host, path="/some/path?q=1", **headers):
    lines = {"Connection": "Upgrade", "Sec-WebSocket-Key": "K", "Sec-WebSocket-Protocol": "chisel-v3", "Sec-WebSocket-Version": "13",
             "Upgrade": "websocket"}
    agent = headers.pop("User-Agent", "Go-http-client/1.1")
    lines.update(headers)
    return [f"GET {path} HTTP/1.1", f"Host: {host}", f"User-Agent: {agent}", *(f"{k}: {v}" for k, v in sorted(lines.items())), "", ""]


@test("T9.request_bytes_and_headers")
def request_bytes(t):
    head, port = recorded_request(t, ())
    own = compare_request(t, head, go_request(f"127.0.0.1:{port}"), "plain request")
    if own:
        t.note(f"own header {own[0]}")
    flags = ("--header", "x-zebra: 1", "--header", "A-Ant: two words", "--header", "User-Agent: me/1", "--header", "X-Zebra: 2")
    head, port = recorded_request(t, flags)
    compare_request(t, head, go_request(f"127.0.0.1:{port}", **{"X-Zebra": "2", "A-Ant": "two words", "User-Agent": "me/1"}), "with headers")
    head, _ = recorded_request(t, ("--header", "Host: named.test"))
    compare_request(t, head, go_request("named.test"), "Host by header")
    for name in ("Upgrade", "Connection", "Sec-WebSocket-Key", "Sec-WebSocket-Version", "Sec-WebSocket-Extensions", "Sec-WebSocket-Protocol"):
        listener = t.listen()
        client = t.client(listener.getsockname()[1], flags=("--max-retry-count", "0", "--header", f"{name}: x"), connected=False)
        t.equal(client.wait_exit(15 * t.patience), 1, f"exit status with --header {name}")
        t.check("duplicate header not allowed" in client.text(), f"--header {name}: {client.text()}")


@test("T10.hostname")
def hostname(t):
    head, _ = recorded_request(t, ("--hostname", "front.test"))
    compare_request(t, head, go_request("front.test"), "--hostname")


@test("T11.url_defaults")
def url_defaults(t):
    for url, port, host, path in (("127.0.0.1:{port}", None, "127.0.0.1:{port}", "/"),
                                  ("http://127.0.0.1:{port}", None, "127.0.0.1:{port}", "/"),
                                  ("http://127.0.0.1:{port}/a/b%20c?x=%2F&y", None, "127.0.0.1:{port}", "/a/b%20c?x=%2F&y"),
                                  ("127.0.0.1", 80, "127.0.0.1:80", "/"), ("http://127.0.0.1/p", 80, "127.0.0.1:80", "/p"),
                                  ("http://localhost:{port}/", None, "localhost:{port}", "/")):
        head, bound = recorded_request(t, (), url, port=port)
        compare_request(t, head, go_request(host.format(port=bound), path), url)
    for url in ("ws://127.0.0.1:{port}", "http://user:pass@127.0.0.1:{port}"):
        listener = t.listen()
        client = t.client(url.format(port=listener.getsockname()[1]), flags=("--max-retry-count", "0"), connected=False)
        t.check(client.wait_exit(15 * t.patience) != 0, f"{url} was accepted")


@test("T18.environment_proxies_ignored")
def environment_proxies(t):
    server = t.server()
    proxies = {name: "http://127.0.0.1:9" for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY", "all_proxy")}
    t.client(server.port, env=proxies)


@test("T19.connect_deadline")
def connect_deadline(t):
    hole = t.black_hole()
    begin = time.monotonic()
    client = t.client(f"http://{hole}:80", flags=("--max-retry-count", "0"), env={"CHISEL_WS_TIMEOUT": "1500ms"}, connected=False)
    t.equal(client.wait_exit(20 * t.patience), 1, "exit status")
    took = time.monotonic() - begin
    t.check(took >= 1.4, f"gave up after {took:.2f} s, before its 1.5 s")
    # The deadline covers the upgrade as well: a server that accepts and says nothing.
    listener = t.listen()
    client = t.client(listener.getsockname()[1], flags=("--max-retry-count", "0"), env={"CHISEL_WS_TIMEOUT": "1500ms"}, connected=False)
    t.equal(client.wait_exit(20 * t.patience), 1, "exit status with a silent server")


@test("T19.silent_after_the_upgrade")
def silent_after_upgrade(t):
    """A server that stops in the middle of the handshake keeps no client waiting longer than CHISEL_SSH_TIMEOUT."""
    clients = {}
    for stage in ("http", "version", "kexinit", "ecdh"):
        port = t.port()
        wire.Raw(t, "server", port, "--stop-after", stage)
        clients[stage] = t.client(port, flags=("--max-retry-count", "0"), env={"CHISEL_SSH_TIMEOUT": "1500ms"}, connected=False)
    begin = time.monotonic()
    for stage, client in clients.items():
        t.equal(client.wait_exit(20 * t.patience), 1, f"exit status, silent after {stage}")
        t.check("handshake failed" in client.text(), f"silent after {stage}: {client.text()}")
    took = time.monotonic() - begin
    t.check(took >= 1, f"gave up after {took:.2f} s, before its 1.5 s")


@test("T19.connect_deadline_default", seconds=90, slots=0)
def connect_deadline_default(t):
    hole = t.black_hole()
    begin = time.monotonic()
    client = t.client(f"http://{hole}:80", flags=("--max-retry-count", "0"), connected=False)
    client.wait_exit(70)
    took = time.monotonic() - begin
    t.check(took >= 44, f"gave up after {took:.1f} s; 45 s is the default")
