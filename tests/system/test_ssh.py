"""The SSH layer: acceptance rows S1, S2, S5, S7, S8, S10-S18 (docs/wire.md sections 4 to 6)."""

import os
import re
import time

import harness
import splice
import wire
from harness import Failed, test
from wire import message, string

MIB = 1 << 20

SEEDS = {  # docs/wire.md section 6.2
    "foobar": "OHclTPr2X1+S7CdRWW7dLFP7SwgtZy6jub2UmnpbTXw=",
    "chisel": "Nx1l0BeMYTJwDLx/uZE54ed1KTlQJ/ao+DrNcIMTRyY=",
    "a": "xhdBTfpaI62qhrkAD4A7jh9NkyRGvOI3GYzAGSqOnps=",
    "hello world": "QCRL8TAP1+Lu75MxLDIWC7PSrKQZ15XWVf19LozMuXY=",
    "ü": "MNdsqvPYtM+BSBR4M83VEHUVFzbKcZEebNsRqbjS+e8=",
}
FOOBAR_MD5 = "ed:f2:cf:3c:56:49:c8:98:3c:a0:4c:1e:01:1d:fb:fc"
FOOBAR_CK = ("ck-MHcCAQEEIOEOn3c31McTVQbnfTMEU92FSlCoHfMx3T7Egyrg3X4zoAoGCCqGSM49AwEHoUQDQgAE7iUAhxg7JqKNgq6XmiAox/E02C1i6UT893ry"
             "LgNxG2al/Yk7B1pEHh1b5drLe4SK0g0jj1c6RnFqk/9NY+K3hw")


def fingerprint_of(t, port):
    raw = wire.Raw(t, "client", port)
    return raw.handshake()["fingerprint"]


@test("S1.version_lines")
def version_lines(t):
    server = t.server("--auth", "u:p")
    s = t.connect(server.port)
    s.sendall(b"SSH-2.0-Test\r\n")
    line = s.makefile("rb").readline()
    t.check(re.fullmatch(rb"SSH-2\.0-[\x21-\x7e]+\r\n", line) and len(line) <= 255, f"native version line {line!r}")
    t.check(not line.startswith(b"SSH-2.0-OpenSSH"), "the native version line pretends to be OpenSSH")
    raw = wire.Raw(t, "client", server.port, "--version-line", "SSH-chisel-v3-client some comment")
    t.equal(raw.handshake()["peer_version"], "SSH-chisel-v3-server", "version line in the WebSocket")
    port = t.port()
    raw = wire.Raw(t, "server", port, "--version-line", "SSH-chisel-v3-server more words")
    t.client(port, connected=False)
    t.equal(raw.accept()["peer_version"], "SSH-chisel-v3-client", "the client's version line")


OLD_KEX = "curve25519-sha256@libssh.org,ecdh-sha2-nistp256,ecdh-sha2-nistp384,ecdh-sha2-nistp521,diffie-hellman-group14-sha1"
OLD_CIPHERS = "aes128-gcm@openssh.com,chacha20-poly1305@openssh.com,aes128-ctr,aes192-ctr,aes256-ctr"


@test("S2.key_exchange_names")
def key_exchange(t):
    sink = t.destination()
    cases = (("--kex", "curve25519-sha256"), ("--kex", "curve25519-sha256@libssh.org"),
             ("--kex", OLD_KEX, "--ciphers", OLD_CIPHERS, "--macs", "hmac-sha2-256-etm@openssh.com,hmac-sha2-256,hmac-sha1"))
    server = t.server()
    for number, flags in enumerate(cases):
        port = t.port()
        t.go_client(server.port, f"127.0.0.1:{port}:127.0.0.1:{sink.port}", flags=flags, name=f"go-client-{number}")
        t.load(port, "both", "--bytes", MIB, ok=1)
    for flags in cases:
        peer, port = t.go_server(*flags), t.port()
        t.client(peer.port, f"127.0.0.1:{port}:127.0.0.1:{sink.port}")
        t.load(port, "both", "--bytes", MIB, ok=1)
    # Nothing in common is an end, not a hang.
    raw = wire.Raw(t, "client", server.port, "--kex", "diffie-hellman-group1-sha1")
    t.check(raw.ended(), "the server goes on without a common key exchange")


@test("S2.host_key_types")
def host_key_types(t):
    sink = t.destination()
    key = os.path.join(t.folder, "ed25519")
    t.equal(t.run("keygen", ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key]).popen.returncode, 0, "ssh-keygen")
    for flags, algorithm in ((("--key", "foobar"), "ecdsa-sha2-nistp256"), (("--keyfile", key), "ssh-ed25519")):
        server, port = t.server(*flags), t.port()
        client = t.go_client(server.port, f"127.0.0.1:{port}:127.0.0.1:{sink.port}")
        client.wait_line(rf"fingerprint \S+ \S+ {algorithm}")
        t.load(port, "both", "--bytes", MIB, ok=1)
    for kind in ("ecdsa", "ed25519"):
        peer, port = t.go_server("--key-type", kind), t.port()
        t.client(peer.port, f"127.0.0.1:{port}:127.0.0.1:{sink.port}")
        t.load(port, "both", "--bytes", MIB, ok=1)


@test("S5.aes_gcm_both_sizes")
def ciphers(t):
    sink = t.destination()
    echo = t.listen()
    for cipher in ("aes128-gcm@openssh.com", "aes256-gcm@openssh.com"):
        server = t.server()
        raw = wire.Raw(t, "client", server.port, "--ciphers", cipher)
        session = raw.login()
        t.equal((raw.info["cipher_in"], raw.info["cipher_out"]), (cipher, cipher), "negotiated")
        channel = session.open(f"127.0.0.1:{echo.getsockname()[1]}")
        s, _ = echo.accept()
        for size in (1, 15, 16, 17, 4000, 32768):
            data = t.random.randbytes(size)
            session.data(channel, data)
            t.equal(harness.receive_exactly(s, size), data, f"{size} bytes towards the destination")
            channel.received.clear()
            s.sendall(data)
            session.pump(lambda: len(channel.received) >= size, 10, f"{size} bytes back")
            t.equal(bytes(channel.received), data, f"{size} bytes back")
        port = t.port()
        raw = wire.Raw(t, "server", port, "--ciphers", cipher)
        t.client(port, connected=False)
        raw.admit()
        t.equal((raw.info["cipher_in"], raw.info["cipher_out"]), (cipher, cipher), "negotiated by the client")
    # The client's order decides, also where it is not ours.
    server, port = t.server(), t.port()
    t.go_client(server.port, f"127.0.0.1:{port}:127.0.0.1:{sink.port}", flags=("--ciphers", "aes256-ctr,aes128-gcm@openssh.com"))
    t.load(port, "both", "--bytes", 4 * MIB, ok=1)


@test("S5.one_gib_with_go", seconds=240, slots=2)
def bulk_with_go(t):
    size = (64 if t.sanitized else 1024) * MIB
    sink = t.destination()
    server, port = t.server(), t.port()
    t.go_client(server.port, f"127.0.0.1:{port}:127.0.0.1:{sink.port}")
    peer, second = t.go_server("--message-limit", 524288), t.port()
    t.client(peer.port, f"127.0.0.1:{second}:127.0.0.1:{sink.port}")
    rates = []
    for where in (port, second):
        for mode in ("up", "down"):
            summary = t.load(where, mode, "--bytes", size, "--seed", t.seed & 0xFFFFFFFF, seconds=120, ok=1)
            rates.append(f"{8e-9 * summary['bytes'] / summary['seconds']:.2f}")
    t.note(f"{size // MIB} MiB each; Gbit/s, Go client up, down, Go server up, down: {' '.join(rates)}")


@test("S5.go_rekeys_under_load", seconds=90)
def go_rekeys(t):
    """Go's library starts a new key exchange every 4 MiB while bytes flow both ways."""
    sink = t.destination()
    server, port = t.server(), t.port()
    t.go_client(server.port, f"127.0.0.1:{port}:127.0.0.1:{sink.port}", flags=("--rekey-bytes", 4 * MIB))
    t.load(port, "both", "--bytes", 32 * MIB, "--connections", 3, ok=3)
    peer, port = t.go_server("--rekey-bytes", 4 * MIB), t.port()
    t.client(peer.port, f"127.0.0.1:{port}:127.0.0.1:{sink.port}")
    t.load(port, "both", "--bytes", 32 * MIB, "--connections", 3, ok=3)


@test("S7.strict_key_exchange")
def strict(t):
    server = t.server()
    for inject in ("in-kex", "debug-in-kex", "before-kexinit"):
        raw = wire.Raw(t, "client", server.port, "--inject", inject)
        t.check(raw.ended(), f"{inject}: the server goes on in strict key exchange")
        t.check(raw.info is None, f"{inject}: the handshake was finished")
    raw = wire.Raw(t, "client", server.port, "--strict=false", "--inject", "in-kex")
    raw.login()
    t.check(not raw.info["strict"], "strict without our mark")
    raw = wire.Raw(t, "client", server.port)
    raw.login()
    t.check(raw.info["strict"], "the server does not offer strict key exchange")

    port = t.port()
    raw = wire.Raw(t, "server", port, "--inject", "in-kex")
    client = t.client(port, connected=False)
    raw.until(lambda: raw.accepted, 15, "a connection")
    t.check(raw.ended(), "the client goes on in strict key exchange")
    t.check(raw.info is None, "the client finished the handshake")
    client.kill()
    port = t.port()
    raw = wire.Raw(t, "server", port, "--strict=false", "--inject", "in-kex")
    t.client(port, connected=False)
    raw.admit()
    port = t.port()
    raw = wire.Raw(t, "server", port)
    t.client(port, connected=False)
    raw.admit()
    t.check(raw.info["strict"], "the client does not offer strict key exchange")


@test("S7.sequence_numbers")
def sequence_numbers(t):
    """Strict key exchange starts packet numbers at 0 again; UNIMPLEMENTED names the number."""
    server = t.server("--auth", "u:p")
    for strict_flag, first in (("--strict=true", 0), ("--strict=false", 3)):
        raw = wire.Raw(t, "client", server.port, "--native", strict_flag)
        raw.authenticate("u", "p", none_first=False)
        raw.send(message(150, b"what is this"))  # after SERVICE_REQUEST and USERAUTH_REQUEST
        packet = raw.expect(wire.UNIMPLEMENTED)
        t.equal(wire.Fields(packet).u32(), first + 2, f"packet number with {strict_flag}")


@test("S8.ext_info")
def ext_info(t):
    server = t.server()
    raw = wire.Raw(t, "client", server.port)
    packet = raw.authenticate()
    t.check(packet, "no EXT_INFO before SERVICE_ACCEPT")
    fields = wire.Fields(packet)
    entries = {fields.text(): fields.text() for _ in range(fields.u32())}
    t.equal(fields.rest, b"", "bytes after EXT_INFO")
    for name in ("ssh-ed25519", "ecdsa-sha2-nistp256"):
        t.check(name in entries.get("server-sig-algs", "").split(","), f"server-sig-algs without {name}: {entries}")
    raw = wire.Raw(t, "client", server.port, "--ext-info=false")
    t.check(raw.authenticate() is None, "EXT_INFO although none was asked for")
    port = t.port()
    raw = wire.Raw(t, "server", port, "--extra-ext-info", "nobody-knows@example.test=1,ping@openssh.com=0,empty=")
    t.client(port, connected=False)
    session = raw.admit()  # a client's EXT_INFO would be a violation here
    session.ping()


@test("S10.ping_pong")
def ping_pong(t):
    server = t.server()
    raw = wire.Raw(t, "client", server.port)
    session = raw.login()
    for data in (b"", b"hello", bytes(1000)):
        raw.send(message(wire.PING, string(data)))
        session.pump(lambda: session.pongs, 10, "PONG")
        t.equal(session.pongs.pop(), data, "the data of the PONG")
    port = t.port()
    raw = wire.Raw(t, "server", port)
    t.client(port, connected=False)
    session = raw.admit()
    raw.send(message(wire.PING, string(b"you")))
    session.pump(lambda: session.pongs, 10, "the client's PONG")
    t.equal(session.pongs, [b"you"], "PONGs of the client")


@test("S11.unknown_messages")
def unknown_messages(t):
    server = t.server("--auth", "u:p")
    raw = wire.Raw(t, "client", server.port)
    session = raw.login("u", "p")
    raw.send(message(150, b"?"), message(wire.IGNORE, string("")), message(wire.DEBUG, b"\0", string("x"), string("")))
    session.ping()
    t.equal(session.unknown, [], "what a chisel session got for an unknown message")
    port = t.port()
    raw = wire.Raw(t, "server", port)
    t.client(port, connected=False)
    session = raw.admit()
    raw.send(message(150, b"?"))
    session.ping()
    t.equal(session.unknown, [], "what a chisel server got for an unknown message")
    raw = wire.Raw(t, "client", server.port, "--native")
    raw.authenticate("u", "p")
    raw.send(message(151, b"?"))
    raw.expect(wire.UNIMPLEMENTED)


@test("S12.keys_from_seeds")
def seeds(t):
    for seed, fingerprint in SEEDS.items():
        server = t.server("--key", seed)
        t.equal(fingerprint_of(t, server.port), fingerprint, f"seed {seed}")
        server.kill()
    server = t.server(env={"CHISEL_KEY": "foobar"})
    t.equal(fingerprint_of(t, server.port), SEEDS["foobar"], "CHISEL_KEY")
    first, second = t.server(), t.server()
    t.check(fingerprint_of(t, first.port) != fingerprint_of(t, second.port), "two starts without a key have the same key")


@test("S13.ck_keys")
def ck_keys(t):
    made = t.run("keygen", [t.binary, "server", "--key", "foobar", "--keygen", "-"])
    t.equal((made.popen.returncode, made.out().strip()), (0, FOOBAR_CK), "--key foobar --keygen -")
    path = os.path.join(t.folder, "own.key")
    made = t.run("keygen", [t.binary, "server", "--keygen", path])
    t.equal(made.popen.returncode, 0, "--keygen FILE")
    t.equal(os.stat(path).st_mode & 0o777, 0o600, "mode of the key file")
    with open(path) as f:
        text = f.read()
    t.check(re.fullmatch(r"ck-[A-Za-z0-9+/]{162}", text), f"the key file holds {len(text)} characters")
    theirs = t.run("key", [t.peer, "key", "--key-file", path])
    want = theirs.out().split()[0]
    newline = t.file("newline.key", text + "\n")
    for flags, env in ((("--keyfile", path), {}), (("--keyfile", newline), {}), (("--keyfile", text), {}), ((), {"CHISEL_KEY_FILE": path}),
                       (("--key", "other"), {"CHISEL_KEY_FILE": path})):
        server = t.server(*flags, env=env)
        t.equal(fingerprint_of(t, server.port), want, f"{flags[:1]} {list(env)}")
        server.kill()
    for bad in ("ck-AAAA", t.file("bad.key", "ck-$$$"), "/nowhere/at/all"):
        refused = t.run("bad-key", [t.binary, "server", "--host", "127.0.0.1", "--port", t.port(), "--keyfile", bad])
        t.check(refused.popen.returncode != 0 and refused.text().strip(), f"--keyfile {bad} was taken")


@test("S14.pem_keys")
def pem_keys(t):
    """PEM in its usual containers, for ECDSA P-256 and Ed25519."""
    def path(name):
        return os.path.join(t.folder, name)
    commands = (["ssh-keygen", "-q", "-t", "ecdsa", "-b", "256", "-N", "", "-f", path("ecdsa-openssh")],
                ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path("ed25519-openssh")],
                ["openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", path("sec1")],
                ["openssl", "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", path("pkcs8")],
                ["openssl", "genpkey", "-algorithm", "ED25519", "-out", path("pkcs8-ed25519")])
    for command in commands:
        t.equal(t.run("make-key", command).popen.returncode, 0, " ".join(command[:3]))
        name = command[-1]
        want = t.run("key", [t.peer, "key", "--key-file", name]).out().split()[0]
        server = t.server("--keyfile", name)
        t.equal(fingerprint_of(t, server.port), want, os.path.basename(name))
        server.kill()
    t.run("make-key", ["ssh-keygen", "-q", "-t", "ed25519", "-N", "secret", "-f", path("locked")])
    refused = t.run("locked-key", [t.binary, "server", "--host", "127.0.0.1", "--port", t.port(), "--keyfile", path("locked")])
    t.check(refused.popen.returncode not in (0, None), "an encrypted key was taken")


@test("S15.fingerprints")
def fingerprints(t):
    peer = t.go_server("--key-seed", "foobar")
    good = SEEDS["foobar"]
    for value in (good, FOOBAR_MD5):
        client = t.client(peer.port, flags=("--fingerprint", value))
        client.kill()
    refused = (SEEDS["chisel"], good[:20], good[:43], good[1:], good.lower(), FOOBAR_MD5[:-3], "ed", "e", "ed:f2", FOOBAR_MD5.upper(),
               FOOBAR_MD5.replace("ed", "ee"), "not a fingerprint")
    for value in refused:
        client = t.client(peer.port, flags=("--fingerprint", value, "--max-retry-count", "0"), connected=False)
        t.equal(client.wait_exit(15 * t.patience), 1, f"exit status with fingerprint {value}")
        t.check(f"Invalid fingerprint ({good})" in client.text(), f"fingerprint {value}: {client.text()}")
    # The other way: Go checks ours.
    server = t.server("--key", "foobar")
    t.go_client(server.port, flags=("--fingerprint", good))
    t.go_client(server.port, flags=("--fingerprint", FOOBAR_MD5), name="go-client-md5")
    client = t.go_client(server.port, flags=("--fingerprint", SEEDS["a"], "--once"), connected=False)
    t.equal(client.wait_exit(), 1, "Go's client with a wrong fingerprint")
    server.wait_line("Fingerprint " + re.escape(good))


@test("S15.no_password_before_host_key")
def no_password_early(t):
    for flags, inject in ((("--fingerprint", SEEDS["a"]), ()), ((), ("--inject", "wrong-signature"))):
        port = t.port()
        raw = wire.Raw(t, "server", port, "--key-seed", "foobar", *inject)
        client = t.client(port, flags=("--auth", "user:secret", "--max-retry-count", "0", *flags), connected=False)
        packets = []
        raw.until(lambda: raw.accepted, 15, "a connection")
        try:
            while True:
                event = raw.event(15)
                if event is None:
                    raise Failed("the client stays connected to a server that it must not trust")
                if event[0] == "P":
                    packets.append(event[1])
                else:
                    raw.take(*event)
                    if raw.over:
                        break
        except wire.Ended:
            pass
        t.check(not any(b"secret" in packet for packet in packets), f"the password was sent to an unverified host: {flags} {inject}")
        t.check(not any(packet[0] == wire.USERAUTH_REQUEST for packet in packets), "a USERAUTH_REQUEST was sent to an unverified host")
        t.equal(client.wait_exit(15 * t.patience), 1, "exit status")


@test("S16.password")
def password(t):
    server = t.server("--auth", "user:pa:ss")
    t.client(server.port, flags=("--auth", "user:pa:ss"))
    t.go_client(server.port, flags=("--auth", "user:pa:ss"))
    for credential in ("user:pa", "user:", "other:pa:ss", ":", ""):
        client = t.go_client(server.port, flags=("--auth", credential, "--once"), connected=False, name="go-client-wrong")
        t.equal(client.wait_exit(), 1, f"Go's client with {credential!r}")
    client = t.client(server.port, flags=("--auth", "user:wrong", "--max-retry-count", "1"), connected=False, name="burin-wrong")
    t.equal(client.wait_exit(20 * t.patience), 1, "exit status with a wrong password")
    t.equal(len(re.findall("Authentication failed", client.text())), 2, f"attempts: {client.text()}")
    server = t.server(env={"AUTH": "user:env"})
    client = t.client(server.port, env={"AUTH": "user:env"})
    client = t.go_client(server.port, flags=("--auth", "user:no", "--once"), connected=False)
    t.equal(client.wait_exit(), 1, "AUTH from the environment")
    peer = t.go_server("--auth", "user:pa:ss")
    t.client(peer.port, flags=("--auth", "user:pa:ss"))


@test("S16.sixth_wrong_password")
def sixth_wrong_password(t):
    server = t.server("--auth", "user:right")
    for rounds in (6, 5):
        raw = wire.Raw(t, "client", server.port)
        raw.handshake()
        raw.send(message(wire.SERVICE_REQUEST, string("ssh-userauth")))
        if (raw.packet() or b"?")[0] == wire.EXT_INFO:
            raw.expect(wire.SERVICE_ACCEPT)
        raw.send(message(wire.USERAUTH_REQUEST, string("user"), string("ssh-connection"), string("none")))
        raw.expect(wire.USERAUTH_FAILURE)
        for _ in range(5):
            raw.send(wire.password_request("user", "wrong"))
            fields = wire.Fields(raw.expect(wire.USERAUTH_FAILURE))
            t.check("password" in fields.text().split(","), "methods that can continue")
            t.equal(fields.bool(), False, "partial success")
        if rounds == 5:
            raw.send(wire.password_request("user", "right"))
            raw.expect(wire.USERAUTH_SUCCESS)
            continue
        raw.send(wire.password_request("user", "wrong"))
        fields = wire.Fields(raw.expect(wire.DISCONNECT))
        t.equal((fields.u32(), fields.text()), (2, "too many authentication failures"), "the DISCONNECT")
        t.check(raw.ended(), "the connection stays after DISCONNECT")
    # Requests of any kind are capped.
    raw = wire.Raw(t, "client", server.port)
    raw.handshake()
    raw.send(message(wire.SERVICE_REQUEST, string("ssh-userauth")))
    for _ in range(400):
        raw.send(message(wire.USERAUTH_REQUEST, string("user"), string("ssh-connection"), string("none")))
    t.check(raw.ended(), "400 `none` requests on one connection")


@test("S17.short_handshake_towards_us")
def short_handshake_server(t):
    """Everything after NEWKEYS at once, without `none`, and a guessed ECDH_INIT: the server takes it as it comes."""
    sink = t.listen()
    target = f"127.0.0.1:{sink.getsockname()[1]}"
    server = t.server("--auth", "u:p")
    for flags in ((), ("--guess",), ("--guess", "--host-key-algorithms", "ssh-ed25519,ecdsa-sha2-nistp256")):
        raw = wire.Raw(t, "client", server.port, *flags)
        raw.handshake()
        raw.send(message(wire.SERVICE_REQUEST, string("ssh-userauth")), wire.password_request("u", "p"),
                 message(wire.GLOBAL_REQUEST, string("config"), b"\1", wire.config_json()), wire.chisel_open(0, target))
        session = wire.Session(raw)
        channel = wire.Channel(0, 2097152, 32768)
        session.channels[0] = channel
        numbers = []
        while not channel.open:
            packet = raw.packet()
            if packet is None:
                raise Failed(f"{flags}: after {numbers} nothing came")
            numbers.append(packet[0])
            if packet[0] >= wire.GLOBAL_REQUEST:
                session.take(packet)
        t.equal([n for n in numbers if n != wire.EXT_INFO],
                [wire.SERVICE_ACCEPT, wire.USERAUTH_SUCCESS, wire.REQUEST_SUCCESS, wire.OPEN_CONFIRMATION], f"answers {flags}")
    # A wrong password in the same flow: nothing of what follows it is served.
    raw = wire.Raw(t, "client", server.port)
    raw.handshake()
    raw.send(message(wire.SERVICE_REQUEST, string("ssh-userauth")), wire.password_request("u", "wrong"),
             message(wire.GLOBAL_REQUEST, string("config"), b"\1", wire.config_json()), wire.chisel_open(0, target))
    got = []
    try:
        while (packet := raw.packet(10)) is not None:
            got.append(packet[0])
        raise Failed(f"the connection stays after packets without a login; it sent {got}")
    except wire.Ended:
        pass
    t.check(not {wire.USERAUTH_SUCCESS, wire.REQUEST_SUCCESS, wire.OPEN_CONFIRMATION} & set(got), f"served without a login: {got}")


@test("S17.short_handshake_of_ours")
def short_handshake_client(t):
    """A server that answers nothing before it has seen the config request: the client waits for no reply in between."""
    port = t.port()
    raw = wire.Raw(t, "server", port)
    t.client(port, flags=("--auth", "u:p"), connected=False)
    raw.accept()
    # Its ECDH_INIT came with its KEXINIT, made for the key that a server usually has, and was taken. With ML-KEM at hand the guess is
    # for that, as towards chisel 1.11 and later; this peer has curve25519 alone.
    right = raw.info["peer_lists"]["kex"][0] == "curve25519-sha256"
    t.equal((raw.info["peer_first_kex_follows"], raw.info["right_guess"]), (True, right), "the guessed key exchange")
    numbers = []
    while wire.GLOBAL_REQUEST not in numbers:
        packet = raw.packet(5)
        if packet is None:
            raise Failed(f"after {numbers} the client waits for an answer")
        numbers.append(packet[0])
    t.equal(numbers, [wire.SERVICE_REQUEST, wire.USERAUTH_REQUEST, wire.GLOBAL_REQUEST], "what the client sends by itself")
    raw.send(message(wire.SERVICE_ACCEPT, string("ssh-userauth")), message(wire.USERAUTH_SUCCESS), message(wire.REQUEST_SUCCESS))
    wire.Session(raw).ping()
    # A server with another key: the guess was wrong, and nothing is lost but its round trip.
    port = t.port()
    raw = wire.Raw(t, "server", port, "--key-type", "ed25519")
    t.client(port, flags=("--auth", "u:p"), connected=False)
    raw.admit().ping()
    t.equal((raw.info["peer_first_kex_follows"], raw.info["right_guess"]), (True, False), "the guess that was wrong")


@test("S17.round_trips")
def round_trips(t):
    """TCP, upgrade, key exchange, everything else: four. Go's client needs more by itself; ours spares it one of its eight."""
    port = t.port()
    raw = wire.Raw(t, "server", port)
    listing = t.client(port, connected=False)
    offered = raw.accept()["peer_lists"]["kex"][0]
    listing.kill()
    # A guess that is wrong, because Go's library does not know what we list first, costs one more.
    to_go = 4 if offered == "curve25519-sha256" else 5
    cases = (("burin to burin", t.server, t.client, 4), ("burin to Go", t.go_server, t.client, to_go),
             ("Go to burin", t.server, t.go_client, 7))
    for name, server, client, most in cases:
        line = splice.Splice(t, server("--auth", "u:p").port, 0.05)
        client(line.port, flags=("--auth", "u:p"))
        asked = line.turns.count("client")
        t.check(line.turns == ["client", "server"] * asked, f"{name}: {line.turns}")
        t.check(asked + 1 <= most, f"{name} took {asked + 1} round trips, TCP's own included; {most} are enough")
        t.note(f"{name} {asked + 1}")


@test("S18.handshake_deadlines", seconds=75, slots=0)
def handshake_deadlines(t):
    """Half-open peers in every stage are dropped after about 30 s, while a session that is up stays."""
    server = t.server("--auth", "u:p")
    steady = wire.Raw(t, "client", server.port)
    session = steady.login("u", "p")
    stages = {}
    for name, data in (("nothing", b""), ("half a GET", b"GET / HTTP/1.1\r\nHost:"), ("native version", b"SSH-2.0-Test\r\n"),
                       ("after the 101", wire.upgrade_request()),
                       ("half a KEXINIT", b"SSH-2.0-Test\r\n" + wire.clear_packet(wire.kexinit())[:50])):
        s = t.connect(server.port)
        s.sendall(data)
        s.setblocking(False)
        stages[name] = s
    slow = t.connect(server.port)  # a byte now and then does not help
    silent = wire.Raw(t, "client", server.port)
    silent.handshake()
    begin = time.monotonic()
    trickled = 0
    while stages and time.monotonic() - begin < 45 * t.patience:
        for name, s in list(stages.items()):
            try:
                while data := s.recv(65536):
                    pass
                del stages[name]
            except BlockingIOError:
                pass
            except OSError:
                del stages[name]
        if slow and time.monotonic() - begin > trickled:
            trickled += 1
            try:
                slow.sendall(b"G"[:1] if trickled == 1 else b"E")
            except OSError:
                slow = None
        time.sleep(0.05)
    took = time.monotonic() - begin
    t.check(not stages, f"still open after {took:.0f} s: {sorted(stages)}")
    t.check(took > 5, f"all were dropped after {took:.1f} s, which no slow peer can keep")
    t.check(silent.ended(20), "a peer that never authenticates stays")
    if slow:
        slow.settimeout(20)
        try:
            while slow.recv(4096):
                pass
        except ConnectionResetError:
            pass
    session.ping()
    t.note(f"dropped after {took:.1f} s")
