"""OpenSSH's client on the same port: acceptance rows N1, N2, N5, and who may enter at all (docs/wire.md section 11)."""

import signal
import time

import harness
import native
import report
import wire
from harness import Failed, test
from wire import message, string

MIB = 1 << 20


@test("N1.one_port_tells_protocols_apart")
def one_port(t):
    server = t.server("--auth", "user:pass")
    s = t.connect(server.port)
    t.equal(wire.http(s, b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n").body, b"OK\n", "HTTP")
    s = t.connect(server.port)
    s.sendall(wire.upgrade_request())
    t.check(wire.read_head(s).startswith(b"HTTP/1.1 101 "), "WebSocket")
    t.equal(wire.FrameReader(s).line(), b"SSH-chisel-v3-server\r\n", "SSH in the WebSocket")
    s = t.connect(server.port)
    s.sendall(b"SSH-2.0-Probe\r\n")
    t.check(s.makefile("rb").readline().startswith(b"SSH-2.0-"), "native SSH")
    # A TLS ClientHello where no certificate is configured ends soon, with whatever answer.
    s = t.connect(server.port)
    s.sendall(bytes.fromhex("1603010200010001fc0303") + bytes(100))
    harness.ended_how(s, 20 * t.patience)
    # The first bytes one by one.
    for data, start in ((b"SSH-2.0-Probe\r\n", b"SSH-2.0-"), (b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n", b"HTTP/1.1 200 ")):
        s = t.connect(server.port)
        for byte in data:
            s.sendall(bytes([byte]))
            time.sleep(0.001)
        t.equal(harness.receive_exactly(s, len(start)), start, f"{data[:4]} byte by byte")
    # Version lines that are none of ours.
    for line in (b"SSH-1.5-Old\r\n", b"SSH-\r\n", b"SSH-2.0-" + b"x" * 400 + b"\r\n"):
        s = t.connect(server.port)
        s.sendall(line + b"\0" * 2000)
        harness.ended_how(s, 40 * t.patience)


@test("N2.local_forward_with_password", seconds=90)
def local_forward(t):
    server, sink, port = t.server("--auth", "user:pass"), t.destination(), t.port()
    ssh = native.start(t, server.port, "-L", f"127.0.0.1:{port}:127.0.0.1:{sink.port}", password="pass")
    t.listening(ssh, "127.0.0.1", port)
    for mode in ("up", "down", "both", "echo"):
        t.load(port, mode, "--bytes", 16 * MIB, ok=1)
    t.load(port, "echo", "--bytes", MIB, "--half-close", ok=1)
    t.load(port, "both", "--bytes", 65536, "--connections", 200, ok=200)
    wrong = native.start(t, server.port, password="wrong", name="ssh-wrong")
    t.equal(wrong.wait_exit(20 * t.patience), 255, "ssh with a wrong password")
    t.check("Permission denied" in wrong.err(), f"ssh with a wrong password: {wrong.err()}")


@test("N2.client_that_waits_for_our_lists", slots=0)
def waiting_client(t):
    """A client that shows its lists only after the server's (libssh did) gets those unseen, and no chacha20 among them."""
    server = t.server("--auth", "user:pass")
    s = t.connect(server.port, seconds=30)
    s.sendall(b"SSH-2.0-libssh-0.6.3\r\n")
    line = b""
    while not line.endswith(b"\r\n"):
        line += harness.receive_exactly(s, 1)
    t.check(line.startswith(b"SSH-2.0-"), f"version line {line!r}")
    packet = harness.receive_exactly(s, int.from_bytes(harness.receive_exactly(s, 4), "big"))
    t.equal(packet[1], wire.KEXINIT, "the message that comes by itself")
    t.check(b"aes128-gcm@openssh.com,aes256-gcm@openssh.com,aes128-ctr" in packet, f"lists: {packet!r}")
    t.check(b"chacha20" not in packet, f"lists: {packet!r}")
    # Its own lists are taken as ever.
    s.sendall(wire.clear_packet(wire.kexinit()))
    s.sendall(wire.clear_packet(message(30, string(bytes(range(32))))))
    packet = harness.receive_exactly(s, int.from_bytes(harness.receive_exactly(s, 4), "big"))
    t.equal(packet[1], 31, "the answer to ECDH_INIT")


@test("N2.public_keys", seconds=90)
def public_keys(t):
    keys = {kind: native.make_key(t, f"id-{kind}", kind) for kind in ("ed25519", "ecdsa", "rsa")}
    stranger = native.make_key(t, "stranger")
    known = "# comment\n\n" + "".join(public + "\n" for _, public in keys.values())
    server, sink = t.server("--authorized-keys", t.file("authorized_keys", known)), t.destination()
    for kind in keys:
        port = t.port()
        ssh = native.start(t, server.port, "-L", f"127.0.0.1:{port}:127.0.0.1:{sink.port}", identity=keys[kind][0], name=f"ssh-{kind}")
        t.listening(ssh, "127.0.0.1", port)
        t.load(port, "both", "--bytes", 4 * MIB, ok=1)
    refused = native.start(t, server.port, identity=stranger[0], name="ssh-stranger")
    t.equal(refused.wait_exit(20 * t.patience), 255, "ssh with a key that is not listed")


@test("N2.authorized_keys_lines")
def authorized_keys_lines(t):
    """An option that is not implemented rejects its line, and a line that is broken costs only itself."""
    first, restricted, last = (native.make_key(t, name) for name in ("first", "restricted", "last"))
    for option in ('command="/bin/true"', 'from="10.0.0.0/8"', "no-port-forwarding", 'permitopen="a:1"', "restrict", "nobody-knows", "cert-authority"):
        text = f"{first[1]}\nssh-ed25519 not-base64 x\ngarbage\n{option} {restricted[1]}\r\n{last[1]}"
        server = t.server("--authorized-keys", t.file("authorized_keys", text))
        outcomes = []
        for key in (first, restricted, last):
            port = t.port()
            ssh = native.start(t, server.port, "-L", f"127.0.0.1:{port}:127.0.0.1:1", identity=key[0])
            outcomes.append(logged_in(t, ssh))
            ssh.kill()
        t.equal(outcomes, [True, False, True], f"option {option}")
        server.kill()
    missing = t.run("no-file", [t.binary, "server", "--host", "127.0.0.1", "--port", t.port(), "--authorized-keys", "/nowhere/keys"])
    t.check(missing.popen.returncode not in (0, None), "a missing --authorized-keys file was taken")


def logged_in(t, ssh):
    """Whether an ssh with -v logs in (True) or gives up (False)."""
    def decided():
        if "Authenticated to" in ssh.err():
            return "in"
        return None if ssh.alive() else "out"
    return t.wait(decided, 20, lambda: f"ssh decides: {harness.tail(ssh.err())}") == "in"


@test("N2.dynamic_forward")
def dynamic_forward(t):
    server, listener, port = t.server("--auth", "user:pass"), t.listen(), t.port()
    ssh = native.start(t, server.port, "-D", f"127.0.0.1:{port}", password="pass")
    t.listening(ssh, "127.0.0.1", port)
    for host in ("127.0.0.1", "localhost"):
        s = native.socks_connect(t, port, host, listener.getsockname()[1])
        peer, _ = listener.accept()
        s.sendall(b"over")
        t.equal(harness.receive_exactly(peer, 4), b"over", host)
        peer.sendall(b"back")
        peer.close()
        t.equal(harness.ended_how(s), ("eof", b"back"), host)
    # A refused dial is told.
    s = t.connect(port)
    s.sendall(b"\5\1\0" + b"\5\1\0\1\x7f\0\0\1" + t.port().to_bytes(2, "big"))
    how, data = harness.ended_how(s)
    t.check(len(data) <= 12, f"after a refused dial: {how} {data!r}")
    ssh.wait_line("(?i)connect failed|open failed")


@test("N2.algorithms", seconds=90)
def algorithms(t):
    """Keys changed every MiB under each kind of cipher; test_algorithms.py has the rest."""
    server, sink = t.server("--auth", "user:pass"), t.destination()
    for number, options in enumerate((("RekeyLimit=1M",), ("RekeyLimit=1M", "Ciphers=chacha20-poly1305@openssh.com"),
                                      ("RekeyLimit=1M", "Ciphers=aes256-ctr", "MACs=hmac-sha2-512"))):
        port = t.port()
        ssh = native.start(t, server.port, "-L", f"127.0.0.1:{port}:127.0.0.1:{sink.port}", password="pass", options=options, name=f"ssh-{number}")
        t.listening(ssh, "127.0.0.1", port)
        t.load(port, "both", "--bytes", 8 * MIB, ok=1)
    none = native.start(t, server.port, password="pass", options=("KexAlgorithms=diffie-hellman-group14-sha1",), name="ssh-old")
    t.equal(none.wait_exit(20 * t.patience), 255, "ssh without a common key exchange")


@test("N2.what_is_not_offered")
def not_offered(t):
    """Shells, commands and remote forwards are refused, and each refusal is an answer."""
    server = t.server("--auth", "user:pass")
    raw = wire.Raw(t, "client", server.port, "--native")
    raw.authenticate("user", "pass")
    for kind, rest in (("session", b""), ("x11", wire.string("a") + wire.u32(1)), ("nobody@example.test", b""),
                       ("direct-tcpip", b""), ("direct-tcpip", wire.string("127.0.0.1"))):
        raw.send(wire.message(wire.CHANNEL_OPEN, wire.string(kind), wire.u32(5, 100000, 32768), rest))
        packet = raw.packet()
        while packet and packet[0] == wire.GLOBAL_REQUEST:
            packet = raw.packet()
        if packet is None:
            raise Failed(f"{kind}: no answer")
        t.equal(packet[0], wire.OPEN_FAILURE, f"{kind} {rest!r}")
    ssh = t.start("ssh-command", ["ssh", "-F", "none", "-p", server.port, "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null",
                                  "-o", "PreferredAuthentications=password", "user@127.0.0.1", "true"],
                  {"SSH_ASKPASS": t.file("ask", "#!/bin/sh\necho pass\n", 0o700), "SSH_ASKPASS_REQUIRE": "force"})
    t.check(ssh.wait_exit(20 * t.patience) != 0, "a command ran")


@test("N2.session_lost_in_the_middle")
def session_lost(t):
    """ssh is killed while it sends: what the destination got is cut off, and must not look whole."""
    server, sink, port = t.server("--auth", "user:pass"), t.destination("--log"), t.port()
    ssh = native.start(t, server.port, "-L", f"127.0.0.1:{port}:127.0.0.1:{sink.port}", password="pass")
    t.listening(ssh, "127.0.0.1", port)
    load = t.load_started(port, "up", "--bytes", 0, "--connections", 4, "--progress", "100ms")
    load.wait_line(r'"progress": \d{8}', 30 * t.patience)
    ssh.kill()
    sink.wait_line('"mode":1', 20 * t.patience, 4)
    ends = [line for line in sink.out().splitlines() if '"mode":1' in line]
    t.check(all('"end":"reset"' in line for line in ends), f"the destination took cut-off transfers for whole ones: {ends}")
    load.wait_exit(30 * t.patience)
    report.wait_idle(t, server)


@test("N5.server_alive", slots=0)
def server_alive(t):
    server, port = t.server("--auth", "user:pass"), t.port()
    ssh = native.start(t, server.port, "-L", f"127.0.0.1:{port}:127.0.0.1:1", password="pass",
                       options=("ServerAliveInterval=1", "ServerAliveCountMax=1"))
    t.listening(ssh, "127.0.0.1", port)
    begin = time.monotonic()
    while time.monotonic() - begin < 4:  # several intervals, each of which needs its answer
        t.check(ssh.alive(), f"ssh gave up: {harness.tail(ssh.err())}")
        time.sleep(0.05)
    server.signal(signal.SIGSTOP)
    t.equal(ssh.wait_exit(15), 255, "ssh with a frozen server")
    t.check("not responding" in ssh.err(), f"ssh: {harness.tail(ssh.err())}")
    server.signal(signal.SIGCONT)
    # And the server asks ssh too: a frozen client does not stay for ever.
    quick = t.server("--auth", "user:pass", "--keepalive", "1s")
    t.wait(lambda: harness.settled(quick), 20, "descriptors come to rest")
    before = quick.descriptors()
    ssh = native.start(t, quick.port, "-L", f"127.0.0.1:{t.port()}:127.0.0.1:1", password="pass", name="ssh-frozen")
    t.check(logged_in(t, ssh), "ssh does not log in")
    ssh.signal(signal.SIGSTOP)
    t.wait(lambda: quick.descriptors() <= before, 10, "the server gives up a frozen ssh")


# -- who may enter -----------------------------------------------------------------------------------------------------


def entrance(t, method):
    """Starts a server with these credentials configured; returns (server, private key)."""
    key, public = native.make_key(t)
    flags = []
    if method in ("auth", "both"):
        flags += ["--auth", "user:pass"]
    if method in ("keys", "both"):
        flags += ["--authorized-keys", t.file("authorized_keys", public + "\n")]
    return t.server(*flags), key


def websocket_entry(t, server, credential, key):
    flags = {"nothing": (), "password": ("--auth", "user:pass"), "wrong password": ("--auth", "user:wrong"),
             "key": ("--auth", "user", "--identity", key)}[credential]
    client = t.go_client(server.port, flags=(*flags, "--once"), connected=False)
    return client.wait_exit(20 * t.patience) == 0


def native_entry(t, server, credential, key):
    """Whether ssh logs in and a channel of it reaches a destination."""
    listener, port = t.listen(), t.port()
    how = {"nothing": {}, "password": {"password": "pass"}, "wrong password": {"password": "wrong"}, "key": {"identity": key}}[credential]
    ssh = native.start(t, server.port, "-L", f"127.0.0.1:{port}:127.0.0.1:{listener.getsockname()[1]}", **how)
    if not logged_in(t, ssh):
        return False
    t.listening(ssh, "127.0.0.1", port)
    listener.accept()
    ssh.kill()
    return True


def matrix(method):
    def run(t):
        server, key = entrance(t, method)
        open_websocket = method == "none"
        may = {"password": method in ("auth", "both"), "key": method in ("keys", "both"), "nothing": False, "wrong password": False}
        for credential, allowed in may.items():
            entered = websocket_entry(t, server, credential, key)
            if credential == "key":
                # Chisel itself knows passwords only; a listed key over a WebSocket may be taken or not, others never.
                t.check(entered <= (allowed or open_websocket), f"WebSocket with a key, server has {method}")
                t.note(f"a key over WebSocket is {'taken' if entered else 'refused'}")
            else:
                t.equal(entered, allowed or open_websocket, f"WebSocket with {credential}, server has {method}")
            t.equal(native_entry(t, server, credential, key), allowed, f"native SSH with {credential}, server has {method}")
        # `burin client` itself.
        client = t.client(server.port, flags=("--max-retry-count", "0"), connected=False)
        if open_websocket:
            client.wait_line("Connected", 15 * t.patience)
        else:
            t.equal(client.wait_exit(20 * t.patience), 1, "burin client without a credential")
        if method == "none":
            server.wait_line("(?i)warn|no (auth|credential)|without (auth|credential)")  # said at start
            wire_probe(t, server)
            # One line for each that came: ssh with four credentials, and the probe.
            server.wait_line("refused a native SSH client", 10 * t.patience, 5)
            t.equal(server.text().count("refused a native SSH client"), 5, "lines about native clients that were refused")
    run.__doc__ = f"Server with {method}: who enters over WebSocket and over native SSH."
    return run


def wire_probe(t, server):
    """A native client that skips authentication altogether must not get a channel."""
    raw = wire.Raw(t, "client", server.port, "--native")
    try:
        raw.handshake()
        raw.send(wire.message(wire.SERVICE_REQUEST, wire.string("ssh-userauth")), wire.message(wire.SERVICE_REQUEST, wire.string("ssh-connection")),
                 wire.message(wire.USERAUTH_REQUEST, wire.string("u"), wire.string("ssh-connection"), wire.string("none")),
                 wire.direct_tcpip(0, "127.0.0.1", 1))
        while (packet := raw.packet(3)) is not None:
            t.check(packet[0] not in (wire.USERAUTH_SUCCESS, wire.OPEN_CONFIRMATION, wire.OPEN_FAILURE), f"native without login got message {packet[0]}")
    except wire.Ended:
        pass


for each in ("none", "auth", "keys", "both"):
    test(f"A.entrance_with_{each}", seconds=120)(matrix(each))


@test("A.no_open_relay")
def no_open_relay(t):
    """Channels before the login, over both protocols: nothing is dialed."""
    listener = t.listen()
    port = listener.getsockname()[1]
    for flags in (("--auth", "user:pass"), ()):
        server = t.server(*flags)
        for native_flag in ((), ("--native",)) if flags else (("--native",),):
            for early in ((), (wire.message(wire.SERVICE_REQUEST, wire.string("ssh-userauth")),),
                          (wire.message(wire.SERVICE_REQUEST, wire.string("ssh-connection")),),
                          (wire.message(wire.USERAUTH_SUCCESS),)):
                raw = wire.Raw(t, "client", server.port, *native_flag)
                try:
                    raw.handshake()
                except wire.Ended:
                    continue
                raw.send(*early, wire.chisel_open(0, f"127.0.0.1:{port}"), wire.direct_tcpip(1, "127.0.0.1", port))
                if raw.ended(10) is None:
                    raise Failed(f"the connection stays after a channel without a login: {flags} {native_flag} {early}")
                raw.process.kill()
        server.kill()
    listener.settimeout(0.3)
    try:
        listener.accept()
        raise Failed("the server dialed for somebody who had not logged in")
    except TimeoutError:
        pass


@test("A.startup_warnings")
def warnings(t):
    t.server().wait_line("(?i)warn|no (auth|credential)|without (auth|credential)")
