"""The TUN intake: TCP of this machine and of a LAN host behind it, through a device, a session and out at the far end.

    lan 10.5.0.2 ---- 10.5.0.1 gateway 192.0.2.2 ---- 192.0.2.1 cloud (servers), 10.77.0.1 (destinations)
                               burin0 10.9.0.1/24, route 10.77.0.0/16

The test's own namespace is the gateway. The other two are namespaces of a sleeping process each, without a name, which
go when it dies. Only the tunnel's route leads to 10.77.0.1, but for the tests that put a way beside it.
"""

import contextlib
import errno
import json
import os
import signal
import socket
import subprocess
import threading

import harness
import report
from harness import CLONE_NEWNET, Failed, libc, test

MIB = 1 << 20
DEVICE, FAR, OUTSIDE = "burin0", "10.77.0.1", "192.0.2.1"


def ip(*words):
    done = subprocess.run(["ip", *words], capture_output=True, text=True)
    if done.returncode != 0:
        raise Failed(f"ip {' '.join(words)}: {done.stderr.strip()}")
    return done.stdout


class World:
    """The three namespaces and what runs in them."""

    def __init__(self, t, routes=("10.77.0.0/16",)):
        self.t, self.routes = t, routes
        self.pids = {name: self.sleeper(name) for name in ("cloud", "lan")}
        ip("link", "add", "uplink", "type", "veth", "peer", "name", "eth0", "netns", str(self.pids["cloud"]))
        ip("link", "add", "local", "type", "veth", "peer", "name", "eth0", "netns", str(self.pids["lan"]))
        for device, address in (("uplink", "192.0.2.2/24"), ("local", "10.5.0.1/24")):
            ip("addr", "add", address, "dev", device)
            ip("link", "set", device, "up")
        self.command("cloud", "ip", "addr", "add", "192.0.2.1/24", "dev", "eth0")
        self.command("lan", "ip", "addr", "add", "10.5.0.2/24", "dev", "eth0")
        for name in self.pids:
            self.command(name, "ip", "link", "set", "lo", "up")
            self.command(name, "ip", "link", "set", "eth0", "up")
        self.command("cloud", "ip", "addr", "add", f"{FAR}/32", "dev", "lo")
        self.command("lan", "ip", "route", "add", "default", "via", "10.5.0.1")
        with open("/proc/sys/net/ipv4/ip_forward", "w") as f:
            f.write("1")

    def sleeper(self, name):
        process = self.t.start(name, ["unshare", "--net", "sleep", "infinity"])
        ours = os.readlink("/proc/self/ns/net")
        self.t.wait(lambda: os.readlink(f"/proc/{process.pid}/ns/net") != ours, 10, f"the namespace {name}")
        return process.pid

    def there(self, name, *command):
        """The command line that runs in a namespace: gateway, cloud or lan."""
        if name == "gateway":
            return list(command)
        return ["nsenter", f"--net=/proc/{self.pids[name]}/ns/net", *command]

    def command(self, name, *command):
        done = subprocess.run(self.there(name, *command), capture_output=True, text=True)
        if done.returncode != 0:
            raise Failed(f"{name}: {' '.join(command)}: {done.stderr.strip()}")

    @contextlib.contextmanager
    def inside(self, name):
        """Sockets that this thread makes meanwhile are the namespace's, and stay so."""
        if name == "gateway":
            yield
            return
        with open("/proc/thread-self/ns/net") as home, open(f"/proc/{self.pids[name]}/ns/net") as away:
            if libc.setns(away.fileno(), CLONE_NEWNET) != 0:
                raise Failed("setns")
            try:
                yield
            finally:
                libc.setns(home.fileno(), CLONE_NEWNET)

    # -- processes -------------------------------------------------------------------------------------------------------

    def server(self, *flags, port=8080, kind="own", env=None):
        t = self.t
        t.wait(lambda: self.port_is_free(port), 10, f"port {port} of the cloud is free")
        command = [t.binary if kind == "own" else t.peer, "server", "--host", OUTSIDE, "--port", port, *flags]
        process = t.start(f"{kind}-server", self.there("cloud", *map(str, command)), env)
        process.port = port
        t.listening(process, OUTSIDE, port)
        return process

    def port_is_free(self, port):
        """A killed process lets go of its listener some time after its end: its ring held it."""
        with self.inside("cloud"), socket.socket() as s:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                s.bind((OUTSIDE, port))
                s.listen()
            except OSError:
                return False
        return True

    def client(self, *flags, port=8080, connected=True, env=None, remotes=(), name="burin-client", **more):
        words = ["--tun", DEVICE, "--tun-addr", "10.9.0.1/24"]
        for route in self.routes:
            words += ["--route", route]
        process = self.t.start(name, [self.t.binary, "client", "--min-retry-interval", "100ms", "--max-retry-interval", "1s", *words,
                                      *flags, f"http://{OUTSIDE}:{port}", *remotes], env, **more)
        if connected:
            process.wait_line("Connected", 15 * self.t.patience)
        return process

    def destination(self, *flags, port=7000):
        process = self.t.start("destination", self.there("cloud", self.t.peer, "load", "server", "--listen", f"0.0.0.0:{port}", *flags))
        process.port = port
        process.wait_line("listening", 15 * self.t.patience)
        return process

    def load_started(self, name, mode, *flags, port=7000, host=FAR):
        return self.t.start("load", self.there(name, self.t.peer, "load", "client", "--connect", f"{host}:{port}", "--mode", mode, *map(str, flags)))

    def load(self, name, mode, *flags, port=7000, host=FAR, seconds=60, ok=None):
        process = self.load_started(name, mode, *flags, port=port, host=host)
        process.wait_exit(seconds * self.t.patience)
        summary = harness.last_json(process)
        if ok is not None and summary["outcomes"] != {"ok": ok}:
            raise Failed(f"load {mode} from {name} {' '.join(map(str, flags))}: {summary}")
        return summary

    # -- sockets ---------------------------------------------------------------------------------------------------------

    def connect(self, name, port, host=FAR, seconds=15):
        with self.inside(name):
            return self.t.connect(port, host, seconds)

    def refused(self, name, port, host=FAR):
        """The errno that a connection attempt ends with."""
        try:
            self.connect(name, port, host).close()
        except OSError as error:
            return errno.errorcode.get(error.errno, str(error))
        return "connected"

    def listen(self, port, host=FAR):
        with self.inside("cloud"):
            return self.t.listen(port, host)

    def flow(self, name, listener):
        """A connection and its other end, with some bytes through it."""
        s = self.connect(name, listener.getsockname()[1])
        s.sendall(b"x" * 1000)
        peer, address = listener.accept()
        self.t.sockets.append(peer)
        harness.receive_exactly(peer, 1000)
        # What was dialled by the server comes from the cloud itself, never from here.
        self.t.check(address[0] in (FAR, OUTSIDE), f"the destination was reached from {address[0]}, not through the tunnel")
        return s, peer


def device_exists():
    return any(name == DEVICE for _, name in socket.if_nameindex())  # /sys shows another namespace


def routes():
    return json.loads(ip("-j", "-4", "route", "show", "table", "all"))


def statistics(process, count):
    """The lines of a report, asked for with SIGUSR2; `count`: how many reports there are then."""
    process.signal(signal.SIGUSR2)
    process.wait_line(r"worker 0: tun: dropped:.*", 10, count)
    return process.text()


HOSTS = ("gateway", "lan")


@test("U1.both_ways", seconds=120)
def both_ways(t):
    w = World(t)
    w.server()
    w.destination()
    client = w.client("-v")
    size = (4 if t.sanitized else 64) * MIB
    for name in HOSTS:
        for mode in ("up", "down", "both"):
            w.load(name, mode, "--bytes", size, "--seed", t.seed & 0xFFFF, ok=1)
        w.load(name, "echo", "--bytes", 256 * 1024, "--half-close", "--connections", 50, ok=50)
        w.load(name, "both", "--bytes", 1, "--connections", 50, ok=50)
    client.wait_line(r"tun: conn#1: Open 10\.77\.0\.1:7000")
    client.wait_line(r"tun: conn#\d+: Close \(sent .*received .*\)")
    report = statistics(client, 1)
    t.check("worker 0: tun: read: frames=" in report and "errors=0" in report, "the report of the queue")


@test("U1.through_a_go_server", seconds=180)
def go_server(t):
    for flags in (("--message-limit", "524288"), ("--no-eof", "--confirm-before-dial")):
        w = World(t)
        server = w.server(*flags, kind="go", port=8080)
        sink = w.destination()
        client = w.client()
        for name in HOSTS:
            for mode in ("up", "down", "both"):
                # A server of 1.11 tells no end of ours apart from a cut, nor the other way round.
                w.load(name, mode, "--bytes", 8 * MIB, "--connections", 4, ok=4)
        if "--no-eof" not in flags:
            t.equal([w.refused(name, 7999) for name in HOSTS], ["ECONNREFUSED"] * 2, "a closed port behind Go 1.12")
        else:  # confirmed before it is dialled: an early end is all there is to see
            s = w.connect("gateway", 7999)
            t.check(harness.ended_how(s)[1] == b"", "a closed port behind Go 1.11")
        for process in (client, server, sink):
            process.kill()
        ip("link", "del", "uplink")
        ip("link", "del", "local")


@test("U1.old_kernel", seconds=120)
def old_kernel(t):
    """One read at a time, as on Linux 6.1."""
    w = World(t)
    w.server()
    w.destination()
    w.client(env={"BURIN_OLD_KERNEL": "1"})
    for mode in ("up", "down", "both"):
        w.load("gateway", mode, "--bytes", (2 if t.sanitized else 32) * MIB, "--connections", 4, ok=4)


@test("U1.thousand_flows", seconds=240, slots=2)
def thousand_flows(t):
    w = World(t)
    server = w.server()
    w.destination()
    client = w.client()
    count = 200 if t.sanitized else 1000
    w.load("gateway", "both", "--bytes", 16, "--connections", 100, ok=100)
    for name in HOSTS:
        w.load(name, "both", "--bytes", 64 * 1024, "--connections", count, "--dialing", count, seconds=100, ok=count)
    t.wait(lambda: " channels=0 " in last_report(client), 20, "every channel is closed")
    t.check(server.alive(), "the server")


def last_report(client):
    count = client.text().count("worker 0: tun: dropped:")
    return statistics(client, count + 1).rsplit("turns=", 1)[1]


@test("U1.one_gib_each_way", seconds=300, slots=2)
def one_gib(t):
    w = World(t)
    server = w.server()
    w.destination()
    client = w.client()
    size = 64 * MIB if t.sanitized else 1024 * MIB
    rates, memory = [], []
    rounds = 20 if t.long else 2

    def used():
        return (server.pss() + client.pss()) // MIB
    before = used()
    for turn in range(rounds):
        for mode in ("up", "down"):
            summary = w.load("gateway", mode, "--bytes", size, "--seed", (t.seed + turn) & 0xFFFFFFFF, seconds=100, ok=1)
            rates.append(f"{mode} {8e-9 * size / summary['seconds']:.2f}")
        for process in (client, server):
            report.wait_idle(t, process)
        peak = used()
        # What bulk needed goes back to the kernel when nothing moves any more, but for huge pages of which a part is offered
        # for the next receive: a few of them.
        if not t.sanitized:
            t.wait(lambda: used() < before + 24, 20, lambda: f"memory at rest: {used()} MiB, {before} before any flow, {memory}")
        memory.append((peak, used()))
    t.note(f"Gbit/s {', '.join(rates)}; memory of both ends before {before} MiB, after each round and at rest {memory} MiB")


@test("U1.two_workers", seconds=180, slots=2)
def two_workers(t):
    w = World(t)
    w.server("--workers", "2")
    w.destination()
    client = w.client("--workers", "2", connected=False)
    client.wait_line("Connected", 15 * t.patience, 2)
    for name in HOSTS:
        w.load(name, "both", "--bytes", (1 if t.sanitized else 16) * MIB, "--connections", 16, ok=16)
    report = statistics(client, 1)
    client.wait_line(r"worker 1: tun: dropped:", 10)
    frames = [int(client.wait_line(rf"worker {i}: tun: read: frames=(\d+)").group(1)) for i in (0, 1)]
    t.check(all(count > 100 for count in frames), f"frames a worker: {frames}; {report[-200:]}")


@test("U3.refused", seconds=60)
def refused(t):
    w = World(t)
    w.server()
    client = w.client()
    t.equal([w.refused(name, 7999) for name in HOSTS], ["ECONNREFUSED"] * 2, "a closed port")
    client.wait_line(r"tun: conn#\d+: 10\.77\.0\.1:7999: Stream error: .*refused", 10, 2)
    # And what is not dialled at all: nobody in the cloud has this address.
    t.equal(w.refused("gateway", 7999, "10.77.3.4") != "connected", True, "an address without a host")


@test("U3.ends_tell_the_truth", seconds=120)
def ends_tell_the_truth(t):
    w = World(t)
    server, client, listener = w.server(), w.client(), w.listen(7100)
    for name in HOSTS:
        for what in ("the destination", "the application"):
            s, peer = w.flow(name, listener)
            first, second = (peer, s) if what == "the destination" else (s, peer)
            harness.reset(first)
            t.equal(harness.ended_how(second)[0], "reset", f"{what} resets ({name})")
            s, peer = w.flow(name, listener)
            first, second = (peer, s) if what == "the destination" else (s, peer)
            first.shutdown(socket.SHUT_WR)
            t.equal(harness.ended_how(second), ("eof", b""), f"{what} ends its half ({name})")
            second.sendall(b"y" * 100_000)
            second.close()
            t.equal(harness.ended_how(first), ("eof", b"y" * 100_000), f"the other half, after {what} ended ({name})")
        # A destination that goes away altogether: what the host still sends finds nobody.
        s, peer = w.flow(name, listener)
        peer.close()
        t.equal(harness.ended_how(s), ("eof", b""), f"the destination closes ({name})")
        t.wait(lambda sock=s: is_reset(sock), 10, f"a reset for what follows ({name})")
        # A destination that resets in the middle of a transfer.
        s, peer = w.flow(name, listener)
        threading.Thread(target=send_all, args=(peer, bytes(64 * MIB)), daemon=True).start()
        harness.receive_exactly(s, MIB)
        harness.reset(peer)
        t.equal(harness.ended_how(s)[0], "reset", f"a transfer that the destination resets ({name})")
    pairs = [w.flow(name, listener) for name in HOSTS]
    server.kill()
    t.equal([harness.ended_how(s)[0] for pair in pairs for s in pair], ["reset"] * 4, "the server is killed")
    server = w.server()
    client.wait_line("Connected", 20 * t.patience, 2)
    pairs = [w.flow(name, listener) for name in HOSTS]
    client.signal(signal.SIGTERM)
    t.equal([harness.ended_how(s)[0] for pair in pairs for s in pair], ["reset"] * 4, "the client ends by SIGTERM")
    t.equal(client.wait_exit(10 * t.patience), 0, "its status")


def send_all(sock, data):
    with contextlib.suppress(OSError):
        sock.sendall(data)


def is_reset(sock):
    try:
        sock.send(b"z")
    except OSError:
        return True
    return False


@test("U3.server_restarts", seconds=180)
def server_restarts(t):
    w = World(t, routes=("10.77.0.0/16", "0.0.0.0/0"))
    # A way beside the tunnel, which nothing may take.
    ip("route", "add", "default", "via", OUTSIDE)
    server, listener = w.server(), w.listen(7100)
    w.destination()
    client = w.client()
    budget = report.kept(report.report(client))["free for growth"]
    flows = 10 if t.sanitized else 50
    w.load("gateway", "both", "--bytes", 65536, "--connections", flows, ok=flows)
    before, memory = client.descriptors(), None
    for turn in range(3):
        loads = [w.load_started(name, "both", "--bytes", 4 * MIB, "--connections", flows, "--again", "--duration", "60s",
                                "--progress", "100ms") for name in HOSTS]
        for load in loads:
            load.wait_line(r'"progress": \d{6}', 30 * t.patience)
        server.kill()
        for load in loads:
            load.popen.stdin.close()
        for load in loads:
            load.wait_exit(30)
        t.check(device_exists() and any(r.get("dev") == DEVICE and r["dst"] == "10.77.0.0/16" for r in routes()),
                "device and routes stay without a session")
        # New flows are held, and go nowhere else. (One that still met the dying session would be refused.)
        client.wait_line("Disconnected", 20 * t.patience, turn + 1)
        held = [threading.Thread(target=held_flow, args=(w, name, listener, results := []), daemon=True) for name in HOSTS[:1]]
        for one in held:
            one.start()
        t.wait(lambda: " held=0 " not in last_report(client), 20, "a flow is held")
        server = w.server()
        client.wait_line("Connected", 30 * t.patience, turn + 2)
        for one in held:
            one.join(30 * t.patience)
        t.equal(results, ["ok"], "the flow that was held")
        for name in HOSTS:
            w.load(name, "both", "--bytes", MIB, "--connections", flows, ok=flows)
        t.wait(lambda: client.descriptors() <= before, 20, lambda: f"{client.descriptors()} descriptors, {before} before")
        # Neither slots nor blocks nor pieces of the flows that were lost are left.
        report.wait_idle(t, client)
        memory = memory or client.pss()
    # What a burst took is given back once a second brings little.
    t.wait(lambda: t.sanitized or client.pss() - memory < 16 * MIB, 20, lambda: f"the client grew by {(client.pss() - memory) / MIB:.1f} MiB")
    # And when the last flow has left TIME_WAIT, no share of the budget.
    t.wait(lambda: report.kept(report.report(client))["free for growth"] == budget, 20,
           lambda: f"the budget is whole again: {budget}, {report.kept(report.report(client))}")


def held_flow(w, name, listener, results):
    try:
        s, peer = w.flow(name, listener)
        s.close()
        peer.close()
        results.append("ok")
    except (OSError, Failed) as error:
        results.append(str(error))


@test("U3.held_not_for_ever", seconds=60)
def held_not_for_ever(t):
    w = World(t)
    client = w.client(connected=False, env={"CHISEL_SSH_WAIT": "2s"})
    t.wait(lambda: any(route.get("dev") == DEVICE and route["dst"] == "10.77.0.0/16" for route in routes()), 10, "the route")
    t.equal([w.refused(name, 7100) for name in HOSTS], ["ECONNREFUSED"] * 2, "no session in time")
    client.wait_line("no session in time", 10, 2)


@test("U5.gone_after_the_end", seconds=90)
def gone(t):
    w = World(t, routes=("0.0.0.0/0", "10.77.0.0/16"))
    ip("route", "add", "default", "via", OUTSIDE)
    w.server()
    w.destination()
    before = routes()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGKILL):
        client = w.client(name=f"burin-client-{number}")
        w.load("gateway", "both", "--bytes", MIB, "--connections", 4, ok=4)
        # The tunnel's own connection does not go through the tunnel, although its route covers the server.
        t.equal([r["dst"] for r in routes() if r.get("dev") == DEVICE and r.get("protocol") == "static"],
                ["0.0.0.0/1", "10.77.0.0/16", "128.0.0.0/1"], "routes")
        s = w.connect("gateway", 7000)
        client.signal(number)
        client.wait_exit(10 * t.patience)
        t.wait(lambda: not device_exists(), 5, "the device goes")
        t.equal(routes(), before, "routes as before")
        s.close()


@test("U5.gone_after_the_end_old_kernel", seconds=90)
def gone_old_kernel(t):
    """One read at a time, as on Linux 6.1."""
    os.environ["BURIN_OLD_KERNEL"] = "1"
    gone(t)


@test("U5.one_device_one_owner", seconds=60)
def one_owner(t):
    w = World(t)
    w.server()
    w.client()
    second = w.client(connected=False, name="burin-second")
    t.check(second.wait_exit(10 * t.patience) != 0, "a second client for the same device")
    second.wait_line(DEVICE)
    bad = t.run("bad-route", [t.binary, "client", "--tun", "burin1", "--tun-addr", "10.9.1.1/24", "--route", "10.77.0.0/16", f"http://{OUTSIDE}:8080"])
    t.check(bad.popen.returncode != 0 and "10.77.0.0/16" in bad.err(), f"a route that is taken: {bad.err()}")


@test("U7.stalled_flows_beside_a_fast_one", seconds=240, exclusive=True)
def stalled(t):
    """As L.stalled_readers_beside_a_fast_flow, through the device."""
    t.kernel_buffers(256 * 1024)
    w = World(t)
    with w.inside("cloud"):
        t.kernel_buffers(256 * 1024)
    server = w.server()
    w.destination()
    client = w.client()
    size = (16 if t.sanitized else 256) * MIB
    count = 50 if t.sanitized else 200
    for mode in ("up", "down"):
        def seconds(mode=mode):
            return min(w.load("gateway", mode, "--bytes", size, seconds=100, ok=1)["seconds"] for _ in range(3))
        seconds()
        shares, alone = [], seconds()
        while len(shares) < (1 if t.sanitized else 4) and not any(share >= 0.8 for share in shares):
            # Readers that never read: at the destination for bytes up, on this side for bytes down.
            stuck = w.load_started("gateway", *(("noread",) if mode == "up" else ("down", "--stall")), "--bytes", 64 * MIB,
                                   "--connections", count, "--stalled-after", "1s")
            stuck.wait_line('"event":"ready"', 90 * t.patience)
            t.wait(lambda: harness.quiet(client, server), 60, "the stalled flows come to rest")
            beside = seconds()
            t.check(stuck.alive(), f"the stalled load ended: {stuck.out()}")
            stuck.finish()
            for process in (client, server):
                report.wait_idle(t, process, 60)
            before, alone = alone, seconds()
            shares.append((before + alone) / 2 / beside)
        t.note(f"{mode} keeps {', '.join(f'{100 * share:.0f} %' for share in shares)} of {8e-9 * size / alone:.2f} Gbit/s")
        t.check(t.sanitized or max(shares) >= 0.8, f"{mode}: beside {count} stalled flows {100 * max(shares):.0f} % of the rate are left")
