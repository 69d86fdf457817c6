"""Every cipher, MAC, key exchange and kind of key, with OpenSSH, Go, Dropbear and Paramiko: acceptance rows S2, S3, S4, S6, S14, N2
(docs/wire.md sections 4 and 11). Each moves checked bytes both ways; clients that do not depend on each other run side by side."""

import contextlib
import os
import re
import subprocess
import threading

import harness
import native
import report
from harness import test

MIB = 1 << 20
GCM = ("aes128-gcm@openssh.com", "aes256-gcm@openssh.com")
CHACHA = "chacha20-poly1305@openssh.com"
CTR = ("aes128-ctr", "aes192-ctr", "aes256-ctr")
MACS = ("hmac-sha2-256-etm@openssh.com", "hmac-sha2-512-etm@openssh.com", "hmac-sha2-256", "hmac-sha2-512")
# Every MAC with one cipher, every cipher with one MAC.
PROTECTIONS = ([(cipher, None) for cipher in (*GCM, CHACHA)] + [(CTR[0], mac) for mac in MACS] + [(CTR[1], MACS[2]), (CTR[2], MACS[0])])
KEX = ("curve25519-sha256", "curve25519-sha256@libssh.org", "ecdh-sha2-nistp256")
MLKEM = "mlkem768x25519-sha256"


def side_by_side(t, started, size):
    """Moves bytes both ways through ports whose forwarders are starting: (process, port) each."""
    for process, port in started:
        t.listening(process, "127.0.0.1", port)
    loads = [t.load_started(port, "both", "--bytes", size) for _, port in started]
    for (process, _), load in zip(started, loads):
        load.wait_exit((600 if t.long else 60) * t.patience)
        summary = harness.last_json(load)
        t.check(summary["outcomes"] == {"ok": 1}, f"{process.name}: {summary}")


def size_of(t):
    return 256 * MIB if t.long else 2 * MIB


def rekeyed(t):
    """Flags of our ends: in the long run keys change every 4 MiB."""
    return ("--rekey-limit", "4M") if t.long else ()


def check_rekeyed(t, process, sessions):
    """In the long run all sessions of the process, which are open still, have changed keys over and over."""
    if t.long:
        counts = [int(count) for count in re.findall(r" key-exchanges=(\d+)", report.report(process, 20 * t.patience))]
        t.check(len(counts) == sessions and min(counts) > size_of(t) / (5 * MIB), f"{process.name}: key exchanges of {sessions} sessions: {counts}")
        t.note(f"{process.name}: {min(counts)} to {max(counts)} key exchanges a session")


def make_key(t, name, *command):
    path = os.path.join(t.folder, name)
    t.equal(t.run("make-key", [*command, path]).popen.returncode, 0, f"{command[0]} for {name}")
    os.chmod(path, 0o600)
    return path


def openssh_key(t, name, kind, bits=None, *more):
    return make_key(t, name, "ssh-keygen", "-q", "-t", kind, *(("-b", bits) if bits else ()), "-N", "", *more, "-f")


def start_ssh(t, server, sink, name, *options):
    port = t.port()
    ssh = native.start(t, server.port, "-v", "-L", f"127.0.0.1:{port}:127.0.0.1:{sink.port}", password="pass", options=options, name=f"ssh-{name}")
    return ssh, port


def agreed(ssh):
    """What an ssh -v says of its first key exchange: (method, host key, cipher and MAC each way)."""
    text = ssh.err()
    ways = dict(re.findall(r"kex: (client->server|server->client) cipher: (\S+ MAC: \S+) compression: none", text))
    return (re.search(r"kex: algorithm: (\S+)", text)[1], re.search(r"kex: host key algorithm: (\S+)", text)[1],
            ways["client->server"], ways["server->client"])


@test("S6.every_cipher_and_mac_with_openssh", seconds=400, slots=2, long_seconds=900)
def ciphers_openssh(t):
    server, sink = t.server("--auth", "user:pass", *rekeyed(t)), t.destination()
    started = []
    for number, (cipher, mac) in enumerate(PROTECTIONS):
        started.append(start_ssh(t, server, sink, f"{number}-{cipher}", f"Ciphers={cipher}", f"MACs={mac or 'hmac-sha2-256'}"))
    # OpenSSH's own lists begin with chacha20, 9.x has ctr before GCM: it is GCM all the same.
    started.append(start_ssh(t, server, sink, "as-it-is"))
    side_by_side(t, started, size_of(t))
    check_rekeyed(t, server, len(started))
    for (ssh, _), (cipher, mac) in zip(started, [*PROTECTIONS, (GCM[0], None)]):
        want = f"{cipher} MAC: {mac or '<implicit>'}"
        t.equal(agreed(ssh)[2:], (want, want), ssh.name)
    # Nothing in common is told, and an end.
    for options in (("Ciphers=aes128-ctr", "MACs=hmac-sha1"), ("Ciphers=aes128-cbc",), ("KexAlgorithms=diffie-hellman-group14-sha256",)):
        ssh = native.start(t, server.port, password="pass", options=options, name="ssh-nothing")
        t.equal(ssh.wait_exit(20 * t.patience), 255, f"ssh with {options}")
        t.check("no matching" in ssh.err(), f"ssh with {options}: {ssh.err()}")


@test("S6.ciphers_by_flag", seconds=120)
def ciphers_by_flag(t):
    """--ciphers: a server has no others for anybody, a client offers its list in that order, and nothing in common is told at both ends."""
    server, sink = t.server("--auth", "user:pass", "--ciphers", f"{GCM[1]},{CTR[2]}"), t.destination()
    started = [start_ssh(t, server, sink, "as-it-is"), start_ssh(t, server, sink, "ctr", f"Ciphers={CHACHA},{CTR[2]}", f"MACs={MACS[0]}")]
    side_by_side(t, started, size_of(t))
    for (ssh, _), want in zip(started, (f"{GCM[1]} MAC: <implicit>", f"{CTR[2]} MAC: {MACS[0]}")):
        t.equal(agreed(ssh)[2:], (want, want), ssh.name)
    ssh = native.start(t, server.port, password="pass", options=(f"Ciphers={GCM[0]}",), name="ssh-nothing")
    t.equal(ssh.wait_exit(20 * t.patience), 255, "ssh with a cipher that the server has not")
    t.check(f"no matching cipher found. Their offer: {GCM[1]},{CTR[2]}" in ssh.err(), ssh.err())
    go = t.go_server("--auth", "user:pass")
    for peer in (server, go):
        port = t.port()
        client = t.client(peer.port, f"127.0.0.1:{port}:127.0.0.1:{sink.port}", flags=("--auth", "user:pass", "--ciphers", f"{CTR[2]},{GCM[1]}"))
        t.load(port, "both", "--bytes", size_of(t), ok=1)
        client.kill()
    client = t.client(server.port, flags=("--auth", "user:pass", "--ciphers", CHACHA), connected=False)
    want = f"no common cipher: client offers {CHACHA}; server offers {GCM[1]},{CTR[2]}"
    for process in (client, server):
        process.wait_line(re.escape(want), 20 * t.patience)


@test("S4.every_key_exchange_and_host_key_with_openssh", seconds=400, slots=2)
def exchanges_openssh(t):
    sink = t.destination()
    keys = {"ecdsa-sha2-nistp256": (openssh_key(t, "p256", "ecdsa", 256),), "ecdsa-sha2-nistp384": (openssh_key(t, "p384", "ecdsa", 384),),
            "ecdsa-sha2-nistp521": (openssh_key(t, "p521", "ecdsa", 521),), "ssh-ed25519": (openssh_key(t, "ed25519", "ed25519"),)}
    keys["rsa-sha2-256"] = keys["rsa-sha2-512"] = (openssh_key(t, "rsa", "rsa", 2048),)
    servers = {path: t.server("--auth", "user:pass", "--keyfile", path) for path in sorted({path for path, in keys.values()})}
    started, wanted = [], []
    for number, kex in enumerate(KEX):
        started.append(start_ssh(t, servers[keys["ecdsa-sha2-nistp256"][0]], sink, f"kex-{number}", f"KexAlgorithms={kex}"))
        wanted.append((kex, "ecdsa-sha2-nistp256"))
    for algorithm, (path,) in keys.items():
        started.append(start_ssh(t, servers[path], sink, algorithm, "KexAlgorithms=curve25519-sha256", f"HostKeyAlgorithms={algorithm}"))
        wanted.append(("curve25519-sha256", algorithm))
    side_by_side(t, started, size_of(t))
    for (ssh, _), want in zip(started, wanted):
        t.equal(agreed(ssh)[:2], want, ssh.name)
    sha1 = native.start(t, servers[keys["rsa-sha2-256"][0]].port, password="pass", options=("HostKeyAlgorithms=ssh-rsa",), name="ssh-sha1")
    t.equal(sha1.wait_exit(20 * t.patience), 255, "ssh that takes SHA-1 alone")
    t.check("no matching host key type" in sha1.err(), f"ssh that takes SHA-1 alone: {sha1.err()}")


def has_mlkem():
    """OpenSSL 3.5 and OpenSSH 9.9 have ML-KEM (Debian 13); nothing of this is there without both."""
    def says(command, word):
        try:
            return word in subprocess.run(command, capture_output=True, text=True, check=False).stdout
        except OSError:
            return False
    return says(["openssl", "list", "-kem-algorithms"], "ML-KEM-768") and says(["ssh", "-Q", "kex"], MLKEM)


if has_mlkem():
    @test("S3.mlkem_with_openssh", seconds=400)
    def mlkem_openssh(t):
        server, sink = t.server("--auth", "user:pass"), t.destination()
        started = [start_ssh(t, server, sink, "mlkem", f"KexAlgorithms={MLKEM}"), start_ssh(t, server, sink, "as-it-is")]
        side_by_side(t, started, size_of(t))
        for ssh, _ in started:
            t.equal(agreed(ssh)[0], MLKEM, ssh.name)
        # Our own ends, with the guess.
        port = t.port()
        t.client(server.port, f"127.0.0.1:{port}:127.0.0.1:{sink.port}", flags=("--auth", "user:pass"))
        t.load(port, "both", "--bytes", MIB, ok=1)


@test("S6.every_cipher_and_mac_with_go", seconds=400, slots=2, long_seconds=900)
def ciphers_go(t):
    server, sink = t.server(*rekeyed(t)), t.destination()
    started = []
    # What this Go's library has: Debian 12's has no aes256-gcm and no hmac-sha2-512.
    known = [(cipher, mac) for cipher, mac in PROTECTIONS if go_knows(t, cipher, mac)]
    t.check(len(known) >= 6, f"Go's library knows {known}")
    for number, (cipher, mac) in enumerate(known):
        flags = ("--ciphers", cipher, "--macs", mac or "hmac-sha2-256")
        port = t.port()
        client = t.go_client(server.port, f"127.0.0.1:{port}:127.0.0.1:{sink.port}", flags=flags, connected=False, name=f"go-client-{number}")
        started.append((client, port))
        peer, port = t.go_server(*flags), t.port()
        client = t.client(peer.port, f"127.0.0.1:{port}:127.0.0.1:{sink.port}", flags=rekeyed(t), connected=False, name=f"client-{number}-{cipher}")
        started.append((client, port))
    for kex in KEX[1:]:
        port = t.port()
        client = t.go_client(server.port, f"127.0.0.1:{port}:127.0.0.1:{sink.port}", flags=("--kex", kex), connected=False, name=f"go-{kex}")
        started.append((client, port))
        peer, port = t.go_server("--kex", kex), t.port()
        started.append((t.client(peer.port, f"127.0.0.1:{port}:127.0.0.1:{sink.port}", flags=rekeyed(t), connected=False, name=f"client-{kex}"), port))
    side_by_side(t, started, size_of(t))
    check_rekeyed(t, server, len(started) // 2)
    for client, _ in started[1::2]:
        check_rekeyed(t, client, 1)


def go_knows(t, cipher, mac):
    """Two ends of Go's library by themselves."""
    flags = ("--ciphers", cipher, "--macs", mac or "hmac-sha2-256")
    peer = t.go_server(*flags, name="go-probe-server")
    probe = t.go_client(peer.port, flags=(*flags, "--once"), connected=False, name="go-probe")
    held = probe.wait_exit(20 * t.patience) == 0
    peer.kill()
    return held


@test("S14.every_key_file", seconds=90)
def key_files(t):
    """One file of each kind and container; Go verifies what the server signs with it, and reads the same fingerprint from the file."""
    files = [openssh_key(t, f"openssh-{kind}-{bits}", kind, bits) for kind, bits in
             (("ed25519", None), ("ecdsa", 256), ("ecdsa", 384), ("ecdsa", 521), ("rsa", 2048))]
    rsa = files[-1]
    files += [make_key(t, "sec1-p256", "openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out"),
              make_key(t, "sec1-p384", "openssl", "ecparam", "-name", "secp384r1", "-genkey", "-noout", "-out"),
              make_key(t, "sec1-p521", "openssl", "ecparam", "-name", "secp521r1", "-genkey", "-noout", "-out"),
              make_key(t, "pkcs8-p256", "openssl", "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out"),
              make_key(t, "pkcs8-ed25519", "openssl", "genpkey", "-algorithm", "ED25519", "-out")]
    # RSA keys take long to make: one in three containers.
    with open(rsa) as f:
        pkcs1 = t.file("pkcs1-rsa", f.read())
    t.equal(t.run("convert", ["ssh-keygen", "-q", "-p", "-m", "PEM", "-N", "", "-f", pkcs1]).popen.returncode, 0, "ssh-keygen -m PEM")
    with open(pkcs1) as f:
        t.check("BEGIN RSA PRIVATE KEY" in f.read(), "ssh-keygen -m PEM made no PKCS#1")
    files += [pkcs1, make_key(t, "pkcs8-rsa", "openssl", "pkcs8", "-topk8", "-nocrypt", "-in", pkcs1, "-out")]
    for path in files:
        name = os.path.basename(path)
        want = t.run("key", [t.peer, "key", "--key-file", path]).out().split()[0]
        server = t.server("--keyfile", path)
        server.wait_line(f"Fingerprint {re.escape(want)}")
        client = t.go_client(server.port, flags=("--fingerprint", want, "--once"), connected=False, name=f"go-{name}")
        t.equal(client.wait_exit(20 * t.patience), 0, f"Go's client with {name}: {client.text()}")
        server.kill()
    # Our client verifies RSA keys of Go's server.
    peer = t.go_server("--key-file", rsa)
    want = t.run("key", [t.peer, "key", "--key-file", rsa]).out().split()[0]
    t.client(peer.port, flags=("--fingerprint", want))
    # What cannot serve says why.
    locked = make_key(t, "locked", "ssh-keygen", "-q", "-t", "ecdsa", "-b", "384", "-N", "secret", "-f")
    short = openssh_key(t, "short", "rsa", 1024)
    for path, why in ((locked, "encrypted"), (short, "2048 to 16384 bits")):
        refused = t.run("refused", [t.binary, "server", "--host", "127.0.0.1", "--port", t.port(), "--keyfile", path])
        t.check(refused.popen.returncode not in (0, None), f"{path} was taken")
        t.check(why in refused.text() and path in refused.text(), f"{path}: {refused.text()}")


@test("N2.rsa_user_keys", seconds=60)
def rsa_user_keys(t):
    identity, public = native.make_key(t, "id-rsa", "rsa")
    short = openssh_key(t, "short", "rsa", 1024)
    with open(short + ".pub") as f:
        lines = f"{public}\n{f.read()}"
    server, sink = t.server("--authorized-keys", t.file("authorized_keys", lines)), t.destination()
    server.wait_line("line 2 ignored: an RSA key must have 2048 to 16384 bits")
    started = []
    for algorithm in ("rsa-sha2-256", "rsa-sha2-512"):
        port = t.port()
        started.append((native.start(t, server.port, "-L", f"127.0.0.1:{port}:127.0.0.1:{sink.port}", identity=identity,
                                     options=(f"PubkeyAcceptedAlgorithms={algorithm}",), name=f"ssh-{algorithm}"), port))
    port = t.port()
    flags = ("--native", "--identity", identity, "--auth", "user")
    started.append((t.go_client(server.port, f"127.0.0.1:{port}:127.0.0.1:{sink.port}", flags=flags, connected=False), port))
    side_by_side(t, started, MIB)
    sha1 = native.start(t, server.port, identity=identity, options=("PubkeyAcceptedAlgorithms=ssh-rsa",), name="ssh-sha1")
    t.equal(sha1.wait_exit(20 * t.patience), 255, "ssh that signs with SHA-1")
    weak = native.start(t, server.port, identity=short, options=("RequiredRSASize=1024",), name="ssh-short")
    t.equal(weak.wait_exit(20 * t.patience), 255, "ssh with a key of 1024 bits")


@test("N2.dropbear", seconds=400, long_seconds=900)
def dropbear(t):
    """Dropbear's client lists chacha20 first and has no GCM: it gets what it likes best."""
    path = os.path.join(t.folder, "id_dropbear")
    made = t.run("dropbearkey", ["dropbearkey", "-t", "rsa", "-s", 2048, "-f", path])
    public = next(line for line in made.out().splitlines() if line.startswith("ssh-rsa "))
    rsa = openssh_key(t, "host-rsa", "rsa", 2048)
    authorized = t.file("authorized_keys", public + "\n")
    sink = t.destination()
    servers = [t.server("--auth", "user:pass", "--authorized-keys", authorized, *rekeyed(t), *flags) for flags in ((), ("--keyfile", rsa))]
    started = []
    for number, (server, flags) in enumerate((server, flags) for server in servers for flags in (
            ("-c", CHACHA), ("-c", "aes128-ctr", "-m", "hmac-sha2-256"), ("-c", "aes256-ctr", "-m", "hmac-sha2-256"), ("-i", path))):
        port = t.port()
        started.append((t.start(f"dbclient-{number}", ["dbclient", "-y", "-y", "-N", *flags, "-p", server.port, "-L", f"127.0.0.1:{port}:127.0.0.1:{sink.port}",
                                                       "user@127.0.0.1"], {"DROPBEAR_PASSWORD": "pass"}), port))
    side_by_side(t, started, size_of(t))
    for server in servers:
        check_rekeyed(t, server, len(started) // 2)


@test("N2.paramiko", seconds=90, long_seconds=1800)
def paramiko_client(t):
    """Paramiko with each of its ciphers and MACs; it lists AES-CTR first. It is a package of the distribution's Python."""
    identity, public = native.make_key(t, "id-rsa", "rsa")
    server = t.server("--auth", "user:pass", "--authorized-keys", t.file("authorized_keys", public + "\n"), *rekeyed(t))
    listener = t.listen()
    listener.settimeout(None)

    def reflect():
        """Sends back whatever comes on each connection, and its end."""
        with contextlib.suppress(OSError):
            while True:
                s, _ = listener.accept()
                with s:
                    while data := s.recv(65536):
                        s.sendall(data)
    threading.Thread(target=reflect, daemon=True).start()
    script = os.path.join(harness.HERE, "paramiko_client.py")
    size = size_of(t) if t.long else 256 << 10
    client = t.run("paramiko", ["/usr/bin/python3", script, server.port, listener.getsockname()[1], identity, size], seconds=1700 if t.long else 60)
    held = re.findall(r"held (\S+) (\S+) (\S+) (\S+)", client.out())
    t.equal(client.popen.returncode, 0, f"exit status of paramiko's client: {harness.tail(client.text())}")
    t.check(set(CTR) <= {one[0] for one in held} and set(MACS) <= {one[1] for one in held}, f"what held: {held}")
    t.check({"password", "publickey"} <= {one[3] for one in held}, f"what held: {held}")
    t.note(f"{len(held)} combinations, paramiko {client.out().split()[0]}")
