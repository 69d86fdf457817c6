"""Windows that follow the path (docs/architecture.md 3): a delay line of frames, never a relay of TCP.

    lan 10.5.0.2 ==bench_lan_link== 10.5.0.1 gateway (server, destination, and a client on the spot)
"""

import re
import socket
import statistics
import struct
import threading
import time

import report
from harness import test
from test_lan import Link
from test_load import Answering
from test_tun import MIB, World

NEAR_WINDOW = 4 * MIB  # what any path may have


class Path:
    """A server on the gateway, a client beside it and one at the far end of a long link, and a destination."""

    def __init__(self, t, *flags, link=(), kernel_bytes=None):
        self.t, self.w = t, World(t)
        if kernel_bytes:
            for name in ("gateway", "lan"):
                for limit in ("tcp_rmem", "tcp_wmem"):
                    self.w.command(name, "sysctl", "-qw", f"net.ipv4.{limit}=4096 131072 {kernel_bytes}")
        self.link = Link(self.w, "--delay", "100ms", *link)
        self.server = t.server(*flags, host="10.5.0.1")
        self.sink = t.destination()
        self.near_port, self.far_port = t.port(), t.port()
        target, url = f"127.0.0.1:{self.sink.port}", f"http://10.5.0.1:{self.server.port}"
        self.near = t.client(url, f"127.0.0.1:{self.near_port}:{target}", flags=flags, name="burin-near")
        self.far = t.start("burin-far", self.w.there("lan", t.binary, "client", *flags, url, f"127.0.0.1:{self.far_port}:{target}"))
        self.far.wait_line("Connected", 30 * t.patience)

    def load(self, name, mode, *flags):
        port = self.far_port if name == "lan" else self.near_port
        return self.w.load_started(name, mode, "--bytes", 0, "--duration", "100s", "--progress", "100ms", *flags, port=port, host="127.0.0.1")


def widest(process):
    return max((int(window) for window in re.findall(r"channel \d+: .* window=(\d+)", report.report(process))), default=0)


def moved(load):
    told = re.findall(r'"progress": ?(\d+)', load.out())
    return int(told[-1]) if told else 0


@test("R17.windows_follow_the_path", seconds=180)
def windows_follow_the_path(t):
    """Over a round trip of 0.2 s a flow gets twice the window that any number of bytes gets it on the spot; each direction."""
    p = Path(t)
    for mode in ("up", "down"):
        near = p.load("gateway", mode)
        t.wait(lambda: moved(near) > 32 * MIB, 60, lambda: f"32 MiB {mode} on the spot; {moved(near)} bytes moved")
        window = widest(p.server if mode == "up" else p.near)
        near.kill()
        t.check(0 < window <= NEAR_WINDOW, f"{mode}: a window of {window} bytes on the spot")
        far = p.load("lan", mode)
        t.wait(lambda: widest(p.server if mode == "up" else p.far) >= 2 * window, 60,
               lambda: f"a window twice as large as on the spot, {window} ({mode})")
        far.kill()
    known = re.search(r"round-trip-us=(\d+)", report.report(p.far))
    t.check(known is not None and int(known[1]) >= 190_000, f"the round trip that the client knows: {known and known[0]}")


@test("R17.long_paths_stay_within_the_memory", seconds=180)
def within_the_memory(t):
    """200 flows that would each fill the path: what is granted is no more than --memory at any time, and every flow moves."""
    count = 200 if not t.sanitized else 50
    # So many sockets with what the kernel gives one by itself would have all of its memory for TCP.
    p = Path(t, "--memory", "64M", link=("--rate", "400M", "--queue", "10M"), kernel_bytes=512 << 10)
    for mode, receiver in (("up", p.server), ("down", p.far)):
        load = p.load("lan", mode, "--connections", count)
        seen = []

        def enough():
            text = report.report(receiver)
            total, free = (int(each) for each in re.search(r"budget: total=(\d+) free-for-growth=(\d+)", text).groups())
            windows = [int(window) for window in re.findall(r"channel \d+: .* window=(\d+)", text)]
            held = report.total(text, r"held-bytes=(\d+) copied-out")
            received = report.total(text, r"channel \d+: sent=\d+ received=(\d+)")
            seen[:] = len(windows), sum(windows), held, total, free, received
            t.check(total <= 64 * MIB and sum(windows) <= total - free and held <= sum(windows), f"{mode}: {seen}")
            return len(windows) >= count and received > 4 * MIB
        t.wait(enough, 60, lambda: f"4 MiB {mode} in {count} flows: {seen}", 0.5)
        load.kill()
        t.note(f"{mode}: {seen[0]} windows of {seen[1]} bytes in all, {seen[2]} held, of a budget of {seen[3]}")


@test("R17.little_waits_unsent_beside_somebody", seconds=180)
def little_unsent(t):
    """What the kernel holds unsent of bulk over a slow path, before and while somebody waits for answers beside it."""
    w, sink, keys = World(t), t.destination(), Answering(t)
    Link(w, "--delay", "10ms", "--rate", "40M", "--queue", "131072")
    server, bulk, port = t.server(host="10.5.0.1"), t.port(), t.port()
    client = t.start("burin-far", w.there("lan", t.binary, "client", f"http://10.5.0.1:{server.port}",
                                          f"127.0.0.1:{bulk}:127.0.0.1:{sink.port}", f"127.0.0.1:{port}:127.0.0.1:{keys.port}"))
    client.wait_line("Connected", 30 * t.patience)
    load = w.load_started("lan", "up", "--bytes", 0, "--duration", "100s", "--progress", "100ms", port=bulk, host="127.0.0.1")

    def unsent():
        """The median of some seconds."""
        seen = []
        for _ in range(60):
            text = t.run("ss", w.there("lan", "ss", "-tinH", f"dport = :{server.port}"), seconds=10).out()
            seen.append(int((re.search(r" notsent:(\d+)", text) or [0, 0])[1]))
            time.sleep(0.02)
        return statistics.median(seen)

    t.wait(lambda: moved(load) > 12 * MIB, 60,  # of which the first only fill buffers
           lambda: f"bulk is on its way; {moved(load)} bytes moved")
    alone = unsent()
    with w.inside("lan"):
        s = socket.create_connection(("127.0.0.1", port), 10 * t.patience)
    t.sockets.append(s)
    threading.Thread(target=keys.ask, args=(s,), daemon=True).start()
    t.wait(lambda: keys.answers > 10, 60, lambda: f"answers beside bulk; there were {keys.answers}")
    beside = unsent()
    keys.stopping.set()
    t.note(f"median unsent {alone / 1024:.0f} KiB alone, {beside / 1024:.0f} KiB beside {keys.answers} answers")
    t.check(0 < 3 * beside < 2 * alone, f"unsent in the median: {alone} bytes alone, {beside} beside {keys.answers} answers")


@test("R17.a_gigabit_over_200_ms", seconds=240, long=True)
def a_gigabit(t):
    """1 Gbit/s and 0.2 s, where the kernel's limits allow it: one flow has a window for all that may be under way, either way."""
    p = Path(t, link=("--rate", "1G", "--queue", "25M"), kernel_bytes=128 * MIB)
    for mode, receiver in (("up", p.server), ("down", p.far)):
        load = p.load("lan", mode)
        t.wait(lambda: widest(receiver) >= 25_000_000, 90, lambda: f"a window of 25 MB {mode}; it has {widest(receiver)}")
        load.kill()


def control(t, end, port):
    """The congestion control of the only connection at that end of a port, by the kernel's word."""
    told = t.run("ss", ["ss", "-tinH", "state", "established", f"{end} = :{port}"], seconds=10).out()
    return re.fullmatch(r".*\n\s*(\w+) .*\n?", told)[1]


def departures(t, w, name, device, port, seconds):
    """[(time, bytes)] of the frames of a TCP port that leave a namespace through a device."""
    every_protocol, so_timestampns, outgoing, headers = 3, 35, 4, 14 + 20  # no other one shows what leaves
    seen, end = [], time.monotonic() + seconds
    with w.inside(name), socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(every_protocol)) as s:
        s.bind((device, every_protocol))
        s.setsockopt(socket.SOL_SOCKET, so_timestampns, 1)
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 * MIB)
        s.settimeout(10 * t.patience)
        while time.monotonic() < end:
            frame, ancillary, _, where = s.recvmsg(1 << 16, 64)
            if where[2] == outgoing and frame[23] == socket.IPPROTO_TCP and port in struct.unpack_from("!HH", frame, headers):
                whole, nanoseconds = struct.unpack("qq", ancillary[0][2])
                seen.append((whole + 1e-9 * nanoseconds, len(frame)))
    return seen


@test("R17.far_sends_are_spaced", seconds=120)
def far_sends_are_spaced(t):
    """Where a congestion window is much smaller than the path (here the route holds it so) what a session sends does not leave as
    a train a round trip: half of its bytes have no more than two thirds of a window within a quarter of a round trip around them."""
    w, sink = World(t), t.destination()
    round_trip, segments = 0.04, 64
    Link(w, "--delay", f"{round_trip / 2}s")
    w.command("lan", "ip", "route", "add", "10.5.0.1/32", "dev", "eth0", "cwnd", "lock", str(segments))
    w.command("gateway", "ip", "route", "add", "10.5.0.2/32", "dev", "local", "cwnd", "lock", str(segments))
    # BBR spaces by itself, reno is in every kernel.
    server, port = t.server("--congestion", "reno", host="10.5.0.1"), t.port()
    for name in ("gateway", "lan"):
        w.command(name, "sysctl", "-qw", "net.ipv4.tcp_no_metrics_save=0")
    with w.inside("lan"):  # the kernel asks a route for its locks when a connection ends, and goes by them at the next one
        socket.create_connection(("10.5.0.1", server.port), 10 * t.patience).close()
    client = t.start("burin-far", w.there("lan", t.binary, "client", "--congestion", "reno", f"http://10.5.0.1:{server.port}",
                                          f"127.0.0.1:{port}:127.0.0.1:{sink.port}"))
    client.wait_line("Connected", 30 * t.patience)
    for mode, name, device in (("up", "lan", "eth0"), ("down", "gateway", "local")):
        load = w.load_started("lan", mode, "--bytes", 0, "--duration", "100s", "--progress", "100ms", port=port, host="127.0.0.1")
        t.wait(lambda: moved(load) > MIB, 60, lambda: f"bulk {mode} is on its way; {moved(load)} bytes moved")
        seen = departures(t, w, name, device, server.port, 3)
        load.kill()
        window, total = segments * 1448, sum(size for _, size in seen)
        t.check(total > 20 * window, f"{mode}: {total} bytes left in 3 s")
        # For each frame what leaves around it, itself included; the median of bytes, not of frames.
        around, first, past, held = [], 0, 0, 0
        for at, size in seen:
            while past < len(seen) and seen[past][0] <= at + round_trip / 8:
                held += seen[past][1]
                past += 1
            while seen[first][0] < at - round_trip / 8:
                held -= seen[first][1]
                first += 1
            around.append((held, size))
        counted = 0
        for held, size in sorted(around):
            counted += size
            if counted >= total / 2:
                break
        t.note(f"{mode}: {total} bytes in 3 s, the median within 10 ms {held / window:.2f} of a window")
        t.check(held < window * 2 / 3, f"{mode}: {held} bytes within a quarter of a round trip, a window is {window}")


@test("R17.congestion_control_by_name", seconds=60)
def congestion_by_name(t):
    """--congestion: each end's sessions have the one it names, reconnections too, though no thread that reads a peer may choose it;
    a name that the kernel does not know ends the start with those that it does."""
    for role, arguments in (("server", ("--port", t.port())), ("client", ("http://127.0.0.1:1", "1:h:1"))):
        process = t.start(f"burin-{role}", [t.binary, role, "--congestion", "burin-none", *arguments])
        t.equal(process.wait_exit(10 * t.patience), 1, f"exit status of the {role}")
        t.check(re.search(r"--congestion burin-none: the kernel has none of that name; it has: .*reno", process.text()), process.text())
    available, allowed = (open(f"/proc/sys/net/ipv4/tcp_{which}_congestion_control").read().split() for which in ("available", "allowed"))
    # One that only CAP_NET_ADMIN may choose, where there is such, and another one.
    theirs = min(available, key=lambda name: name in allowed)
    ours = next(name for name in ("reno", *available) if name != theirs)
    server = t.server("--congestion", ours)
    sink, port = t.destination(), t.port()
    client = t.client(server.port, f"127.0.0.1:{port}:127.0.0.1:{sink.port}", flags=("--congestion", theirs))
    for turn in range(2):
        t.load(port, "both", "--bytes", 65536, ok=1)
        t.equal(control(t, "dport", server.port), theirs, f"of the client's session {turn}; all may choose {' '.join(allowed)}")
        t.equal(control(t, "sport", server.port), ours, f"of the server's session {turn}")
        if turn == 0:
            server.kill()
            server = t.server("--congestion", ours, port=server.port)
            client.wait_line("Connected", 30 * t.patience, count=2)


@test("R17.bbr_where_a_path_loses", seconds=120)
def bbr_where_a_path_loses(t):
    """Over 20 ms with 1 % loss each way BBR by --congestion carries several times what cubic does, each direction."""
    if "bbr" not in open("/proc/sys/net/ipv4/tcp_available_congestion_control").read().split():
        return t.note("not looked at: this kernel has no BBR")
    w = World(t)
    for name in ("gateway", "lan"):
        w.command(name, "sysctl", "-qw", "net.ipv4.tcp_no_metrics_save=1")
    Link(w, "--delay", "10ms", "--loss", "1%", "--rate", "100M")
    bytes_ = {}
    for law in ("bbr", "cubic"):
        server, sink, port = t.server("--congestion", law, host="10.5.0.1"), t.destination(), t.port()
        client = t.start(f"burin-{law}", w.there("lan", t.binary, "client", "--congestion", law, f"http://10.5.0.1:{server.port}",
                                                 f"127.0.0.1:{port}:127.0.0.1:{sink.port}"))
        client.wait_line("Connected", 30 * t.patience)
        for mode in ("up", "down"):
            load = w.load_started("lan", mode, "--bytes", 0, "--duration", "4s", "--progress", "100ms", port=port, host="127.0.0.1")
            load.wait_exit(60 * t.patience)
            bytes_[law, mode] = moved(load)
    for mode in ("up", "down"):
        bbr, cubic = bytes_["bbr", mode], bytes_["cubic", mode]
        t.note(f"{mode}: {bbr / MIB:.1f} and {cubic / MIB:.1f} MiB")
        t.check(bbr > 2 * cubic > 0, f"{mode} in 4 s: {bbr} bytes by BBR, {cubic} by cubic")
