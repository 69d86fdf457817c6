"""New keys in a session at work: acceptance row S9 (docs/wire.md section 4.7). `--rekey-limit` makes either end of ours begin as
often as a test likes; every byte of the traffic is compared at its end, and no session may be lost."""

import re
import signal
import socket
import threading
import time

import native
import report
from harness import Failed, last_json, test
from test_tun import FAR, World
from test_udp import Echo

KIB, MIB = 1 << 10, 1 << 20


def exchanges(t, process):
    """Key exchanges of the program's one session, the first one included."""
    text = report.report(process, 10 * t.patience)
    found = re.findall(r" key-exchanges=(\d+)", text)
    t.equal(len(found), 1, f"sessions of {process.name}")
    return int(found[0])


def amounts(t, short, limit):
    """Bytes of a transfer, and the limit that goes with them."""
    if t.long:
        return 256 * MIB, 4 * MIB
    return short // (4 if t.sanitized else 1), limit // (4 if t.sanitized else 1)


def kept(t, *processes):
    for process in processes:
        lost = re.search(r".*(Disconnected|Connection error|\(error).*", process.text())
        t.check(not lost, f"{process.name} did not keep its session: {lost and lost[0]}")


def enough(size, limit):
    """Key exchanges that a transfer has at the least: an end looks once in a send, which holds up to 480 KiB, and half is left
    to how the bytes of both directions fall together."""
    return size / (limit + 480 * KIB) / 2


def bulk(t, run, size, *flags):
    """Two streams, each with bytes both ways at once."""
    run("both", "--bytes", size // 2, "--connections", 2, "--seed", t.seed & 0xFFFFFFFF, *flags, seconds=400 if t.long else 60, ok=2)


@test("S9.own_ends_through_a_port", seconds=600)
def port(t):
    sink = t.destination()
    size, limit = amounts(t, 6 * MIB, 256 * KIB)
    begins = ("--rekey-limit", limit)
    for of_server, of_client in ((begins, ()), ((), begins), (begins, begins)):
        server, where = t.server(*of_server), t.port()
        client = t.client(server.port, f"127.0.0.1:{where}:127.0.0.1:{sink.port}", flags=of_client)
        bulk(t, lambda *words, port=where, **more: t.load(port, *words, **more), size)
        counts = exchanges(t, client), exchanges(t, server)
        t.check(abs(counts[0] - counts[1]) <= 1 and min(counts) > enough(size, limit), f"key exchanges of client and server: {counts}")
        kept(t, client, server)
        report.wait_idle(t, client)
        report.wait_idle(t, server)
        client.kill()
        server.kill()


@test("S9.own_ends_through_the_tun", seconds=600)
def tun(t):
    """TCP of a LAN host both ways, beside datagrams at a steady pace: none of them may find no room."""
    w = World(t)
    size, limit = amounts(t, 8 * MIB, 256 * KIB)
    server, client = w.server("--rekey-limit", limit), w.client("--rekey-limit", limit)
    w.destination()
    with w.inside("cloud"):
        echo = Echo(t, 5000, FAR)
    over = threading.Event()
    sent = [0]

    def datagrams():
        with w.inside("gateway"):
            s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        t.sockets.append(s)
        while not over.is_set():
            s.sendto(sent[0].to_bytes(4, "big") + bytes(496), (FAR, 5000))
            sent[0] += 1
            time.sleep(0.002)

    sender = threading.Thread(target=datagrams, daemon=True)
    sender.start()
    bulk(t, lambda *words, **more: w.load("lan", *words, **more), size)
    over.set()
    sender.join()
    for process in (client, server):
        text = report.report(process, 10 * t.patience)
        t.equal(report.total(text, r"dropped: no-channel=(\d+)") + report.total(text, r" no-window=(\d+)"), 0,
                f"datagrams that found no room in {process.name}")
        t.check(exchanges(t, process) > enough(size, limit), f"key exchanges of {process.name}: {exchanges(t, process)}")
    t.check(sent[0] > 10 and echo.received, "no datagrams")
    kept(t, client, server)
    t.note(f"{exchanges(t, client)} key exchanges, {len(echo.received)} of {sent[0]} datagrams")


@test("S9.with_go", seconds=600)
def with_go(t):
    """Go's library in both roles; ours begins, Go's begins, both do."""
    sink = t.destination()
    size, limit = amounts(t, 4 * MIB, 256 * KIB)
    ours, theirs = ("--rekey-limit", limit), ("--rekey-bytes", limit)
    for own, other in ((ours, ()), ((), theirs), (ours, theirs)):
        server, where = t.server(*own), t.port()
        t.go_client(server.port, f"127.0.0.1:{where}:127.0.0.1:{sink.port}", flags=other)
        bulk(t, lambda *words, port=where, **more: t.load(port, *words, **more), size)
        t.check(exchanges(t, server) > enough(size, limit), f"{exchanges(t, server)} key exchanges with a Go client")
        kept(t, server)
        server.kill()
        peer, where = t.go_server(*other), t.port()
        client = t.client(peer.port, f"127.0.0.1:{where}:127.0.0.1:{sink.port}", flags=own)
        bulk(t, lambda *words, port=where, **more: t.load(port, *words, **more), size)
        t.check(exchanges(t, client) > enough(size, limit), f"{exchanges(t, client)} key exchanges with a Go server")
        kept(t, client)
        client.kill()
        peer.kill()


@test("S9.every_cipher", seconds=90)
def every_cipher(t):
    """New keys begun by ours, with each kind of cipher that OpenSSH brings (the others see AES-GCM of 128 bits)."""
    sink, server = t.destination(), t.server("--auth", "user:pass", "--rekey-limit", "64K")
    for options in (("Ciphers=aes256-gcm@openssh.com",), ("Ciphers=chacha20-poly1305@openssh.com",),
                    ("Ciphers=aes128-ctr", "MACs=hmac-sha2-256-etm@openssh.com"), ("Ciphers=aes256-ctr", "MACs=hmac-sha2-512")):
        where = t.port()
        ssh = native.start(t, server.port, "-L", f"127.0.0.1:{where}:127.0.0.1:{sink.port}", password="pass", options=options)
        t.listening(ssh, "127.0.0.1", where)
        t.load(where, "both", "--bytes", 2 * MIB, ok=1)
        t.check(exchanges(t, server) > 2, f"{options}: {exchanges(t, server)} key exchanges")
        ssh.kill()
        t.wait(lambda: " key-exchanges=" not in report.report(server, 10 * t.patience), 20, "the end of the session")


@test("S9.with_openssh", seconds=600)
def with_openssh(t):
    """`ssh -L` with RekeyLimit, with ours beginning, and with both."""
    sink = t.destination()
    size, limit = amounts(t, 8 * MIB, MIB)
    for own, other in ((("--rekey-limit", limit), ()), ((), (f"RekeyLimit={limit}",)), (("--rekey-limit", limit), (f"RekeyLimit={limit}",))):
        server, where = t.server("--auth", "user:pass", *own), t.port()
        ssh = native.start(t, server.port, "-L", f"127.0.0.1:{where}:127.0.0.1:{sink.port}", password="pass", options=other)
        t.listening(ssh, "127.0.0.1", where)
        bulk(t, lambda *words, port=where, **more: t.load(port, *words, **more), size)
        t.check(exchanges(t, server) > enough(size, limit), f"{exchanges(t, server)} key exchanges with OpenSSH")
        t.check(ssh.alive(), f"ssh: {ssh.err()[-300:]}")
        kept(t, server)
        ssh.kill()
        server.kill()


def exchange_state(t, process):
    """How many key exchanges the session of a process has had, and whether it is within one; None without a session."""
    found = re.search(r" key-exchanges=(\d+) exchanging=(yes|no)", report.report(process, 20 * t.patience))
    return found and found.groups()


@test("S9.one_that_never_ends", seconds=90, slots=0)
def never_ends(t):
    """A peer that stops within a key exchange is let go, with a line that says why; no ping is needed for that."""
    sink = t.destination()
    patience = {"CHISEL_SSH_TIMEOUT": "3s"}
    flags = ("--keepalive", "0", "--rekey-limit", "64K")
    for frozen in ("server", "client"):
        server, where = t.server(*flags, env=patience), t.port()
        client = t.client(server.port, f"127.0.0.1:{where}:127.0.0.1:{sink.port}", flags=flags, env=patience)
        load = t.load_started(where, "both", "--bytes", 0, "--progress", "50ms")
        load.wait_line(r'"progress": \d{6}', 20 * t.patience)
        stopped, other = (server, client) if frozen == "server" else (client, server)
        # Between two exchanges only a ping would notice: then it stops again, a moment later.
        for _ in range(50):
            stopped.signal(signal.SIGSTOP)
            first = exchange_state(t, other)
            time.sleep(0.1)  # what the peer had still sent is worked off
            if first and first[1] == "yes" and exchange_state(t, other) in (first, None):
                break
            stopped.signal(signal.SIGCONT)
            time.sleep(t.random.random() / 10)
        else:
            raise Failed("it never stopped within an exchange")
        other.wait_line(r"ssh: rekeying failed: not done within 3s", 30 * t.patience)
        for process in (load, client, server):
            process.kill()


@test("S9.gigabytes", seconds=900, long=True)
def gigabytes(t):
    """The same for a quarter of an hour's worth of ordinary use: a key each 16 MiB, 1 GiB both ways, port and TUN at once."""
    w = World(t)
    server, client = w.server("--rekey-limit", "16M"), w.client("--rekey-limit", "16M", remotes=(f"127.0.0.1:9000:{FAR}:7000",))
    w.destination()
    through_tun = w.load_started("lan", "both", "--bytes", 1024 * MIB)
    w.load("gateway", "both", "--bytes", 1024 * MIB, port=9000, host="127.0.0.1", seconds=400, ok=1)
    through_tun.wait_exit(400 * t.patience)
    if last_json(through_tun)["outcomes"] != {"ok": 1}:
        raise Failed(f"through the TUN: {last_json(through_tun)}")
    t.note(f"{exchanges(t, client)} key exchanges")
    kept(t, client, server)
