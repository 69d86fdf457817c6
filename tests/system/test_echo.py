"""Echo through the TUN to a server of ours: a host is answered when, and as, the destination behind the server answered.

    the world of test_tun6.py, and in the cloud, in both families:

    10.77.0.1     fd00:77::1     answers
    10.77.5.0/24  fd00:77:5::/64 no way (the server's route says so)
    10.77.6.0/24  fd00:77:6::/64 forbidden (the same)
    10.77.8.0/24  fd00:77:8::/64 a link: .9 swallows everything, nobody is .10
"""

import os
import select
import subprocess
import threading
import time

from harness import Failed, test
from report import report as whole_report, total
from test_tun import HOSTS, MIB, ip, last_report
from test_tun6 import ECHO, FARS, UNREACHABLE, World6, messages, ping, request

ALL, NONE = "0 2147483647", "1 0"


class EchoWorld(World6):
    def __init__(self, t):
        super().__init__(t)
        for command in ("ip link add hole type veth peer name bottom", "ip link set bottom up", "ip link set hole up",
                        "ip addr add 10.77.8.1/24 dev hole", "ip -6 addr add fd00:77:8::1/64 dev hole nodad",
                        "ip neigh add 10.77.8.9 lladdr 02:00:00:00:00:09 nud permanent dev hole",
                        "ip -6 neigh add fd00:77:8::9 lladdr 02:00:00:00:00:09 nud permanent dev hole",
                        "ip route add unreachable 10.77.5.0/24", "ip -6 route add unreachable fd00:77:5::/64",
                        "ip route add prohibit 10.77.6.0/24", "ip -6 route add prohibit fd00:77:6::/64"):
            self.command("cloud", *command.split())

    def client(self, *flags, **more):
        process = super().client(*flags, **more)
        ip("-6", "route", "replace", "fd00:77::/32", "dev", "burin0")
        return process

    def ping_groups(self, text):
        """Whose processes in the cloud may make ICMP sockets."""
        subprocess.run(self.there("cloud", "sh", "-c", f"echo '{text}' > /proc/sys/net/ipv4/ping_group_range"), check=True)


def at(version, place, host):
    return f"10.77.{place}.{host}" if version == 4 else f"fd00:77:{place}::{host}"


def silent(t, s, version, number, to, while_):
    """Sends an echo request that nobody may answer while something else becomes true."""
    s.sendto(request(version, number, b"anybody there?"), (to, 0))
    t.wait(while_, 40, "what is waited for beside a silent echo")
    if select.select([s], [], [], 0)[0]:
        for source, message in messages(s, version, 1):
            if message[0] == ECHO[version][1] and source == to:
                raise Failed(f"{to} answered, which is not there")
            if not select.select([s], [], [], 0)[0]:
                break


@test("U6.echo_tells_the_truth", seconds=150, slots=0)
def truth(t):
    w = EchoWorld(t)
    number = 0
    for groups in (NONE, ALL):  # the server pings with its capability, then with what every user may have
        w.ping_groups(groups)
        server, client = w.server(), w.client(name=f"burin-client-{groups[0]}")
        carried = refused = 0
        for name in HOSTS:
            for version in (4, 6):
                s = w.raw(name, version)
                number += 10
                t.equal(ping(t, s, version, number), (FARS[version], ECHO[version][1]), f"one that answers ({name})")
                error = UNREACHABLE[version]
                for place, code in ((5, 1 if version == 4 else 3), (6, 13 if version == 4 else 1)):
                    to = at(version, place, 1)
                    t.equal(ping(t, s, version, number + place, to=to), (to, error, code), f"what the server's routes say ({name})")
                to = at(version, 8, 10)  # a neighbour that is looked for, and not found
                t.equal(ping(t, s, version, number + 7, to=to), (to, error, 1 if version == 4 else 3), f"nobody on the link ({name})")
                refused, carried = refused + 3, carried + 4
        t.check(f" carried={carried} answered=4 refused={refused} " in last_report(client), f"echoes: {last_report(client)}")
        report = whole_report(server)
        t.check(f" requests={carried} " in report and f" answered=4 refused={refused} " in report, f"echoes at the server: {report}")
        # What swallows everything says nothing, and nothing is said for it. All at once: this takes as long as ping waits.
        for late, (name, version) in enumerate((name, version) for name in HOSTS for version in (4, 6)):
            s = w.raw(name, version)
            number += 10
            if late < 3:
                s.sendto(request(version, number, b"anybody there?"), (at(version, 8, 9), 0))
            else:
                silent(t, s, version, number, at(version, 8, 9), lambda: " timed-out=4 " in last_report(client))
        t.check(" timed-out=4 waiting=0 " in whole_report(server), "the server has given them up, too")
        t.check(" echo-replies=0 " in last_report(client), "the gateway answered for nobody")
        for process in (client, server):
            process.kill()
        t.wait(lambda: "burin0" not in ip("-o", "link"), 10, "the device goes")


@test("U6.echo_through_a_go_server", seconds=60)
def go_server(t):
    """Nobody pings for us: the gateway answers as long as there is a session, for whatever is routed into it."""
    w = EchoWorld(t)
    w.server("--message-limit", "524288", kind="go")
    client = w.client()
    number = 0
    for name in HOSTS:
        for version in (4, 6):
            s = w.raw(name, version)
            for to in (FARS[version], at(version, 8, 9), at(version, 5, 1)):
                for size in (56, 60_000):
                    number += 1
                    t.equal(ping(t, s, version, number, size, to=to), (to, ECHO[version][1]), f"an echo of {size} bytes ({name})")
    report = last_report(client)
    t.check(f" echo-replies={number} " in report and " carried=0 " in report, f"echoes: {report}")


@test("U6.echo_without_permission", seconds=60)
def without_permission(t):
    """A server that may not ping says so at its start, and its client's gateway answers as for a Go server. One that may,
    because its group is named, pings without any capability."""
    w = EchoWorld(t)
    os.chmod(t.folder, 0o755)
    nobody = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"]
    for port, (groups, may) in enumerate(((NONE, False), (ALL, True)), 8080):
        w.ping_groups(groups)
        server = t.start(f"burin-server-{port}", w.there("cloud", *nobody, t.binary, "server", "--host", "192.0.2.1", "--port", str(port)))
        server.wait_line("Listening on", 15 * t.patience)  # the last of what it says at its start
        told = "gateways answer pings themselves" in server.text()
        t.equal(told, not may, f"what is said at the start with ping_group_range {groups}: {server.text()}")
        if not may:
            t.check("(permission denied)" in server.text(), server.text())
            t.check("net.ipv4.ping_group_range" in server.text() and "65534" in server.text(), server.text())
        client = w.client(port=port, name=f"burin-client-{port}")
        for version in (4, 6):
            s = w.raw("lan", version)
            t.equal(ping(t, s, version, version), (FARS[version], ECHO[version][1]), "one that answers")
            to = at(version, 5, 1)
            expected = (to, UNREACHABLE[version], 1 if version == 4 else 3) if may else (to, ECHO[version][1])
            t.equal(ping(t, s, version, version + 1, to=to), expected, "one that is not there")
        client.kill()
        t.wait(lambda: "burin0" not in ip("-o", "link"), 10, "the device goes")


@test("U6.echo_two_workers", seconds=60)
def two_workers(t):
    """Requests come in on both queues, and each worker has its own channel and, at the server, its own sockets."""
    w = EchoWorld(t)
    for number in range(10, 42):
        w.command("cloud", "ip", "addr", "add", f"10.77.0.{number}/32", "dev", "lo")
    server = w.server("--workers", "2")
    client = w.client("--workers", "2", connected=False)
    client.wait_line("Connected", 15 * t.patience, 2)
    s = w.raw("lan", 4)
    for number in range(10, 42):
        t.equal(ping(t, s, 4, number, to=f"10.77.0.{number}"), (f"10.77.0.{number}", 0), "one of many that answer")
    text = whole_report(client)
    t.equal(total(text, r"tun: echo: carried=(\d+)"), 32, "requests carried")
    t.equal(total(text, r"tun: echo: carried=\d+ answered=(\d+)"), 32, "requests answered")
    t.equal(total(whole_report(server), r"echo: requests=\d+ sent=\d+ answered=(\d+)"), 32, "answers at the server")


def flood(s, version, to, count, stop):
    """As ping -f: the next request with the answer to the last, or after 10 ms. Returns how many were answered."""
    answered = 0
    for number in range(count):
        if stop():
            break
        s.sendto(request(version, number & 0xFFFF, bytes(56)), (to, 0))
        end = time.monotonic() + 0.01
        while select.select([s], [], [], max(0, end - time.monotonic()))[0]:
            packet, _ = s.recvfrom(2000)
            message = packet[20:] if version == 4 else packet
            if message[0] == ECHO[version][1]:
                answered += 1
                break
    return answered


@test("U6.echo_flood_beside_tcp", seconds=180, slots=2)
def flood_beside_tcp(t):
    """Floods of echoes, to one that answers and to one that swallows them, beside transfers whose every byte is checked."""
    w = EchoWorld(t)
    server = w.server()
    w.destination()
    client = w.client()
    size = (8 if t.sanitized else 256) * MIB
    count = 2000
    floods, results = [], {}
    for name, version, to in (("lan", 4, FARS[4]), ("gateway", 6, FARS[6]), ("lan", 6, at(6, 8, 9))):
        s = w.raw(name, version)

        def run(s=s, version=version, to=to):
            results[to] = flood(s, version, to, count, lambda: False)
        floods.append(threading.Thread(target=run, daemon=True))
    for one in floods:
        one.start()
    transfers = 0
    while transfers == 0 or any(one.is_alive() for one in floods):
        for name in HOSTS:
            w.load(name, "both", "--bytes", size, "--seed", t.seed & 0xFFFF, "--connections", 2, seconds=100, ok=2)
            transfers += 1
    for one in floods:
        one.join(60)
    t.check(results[FARS[4]] > count // 10 and results[FARS[6]] > count // 10, f"answered of {count}: {results}")
    t.equal(results[at(6, 8, 9)], 0, "answers of what swallows everything")
    report = whole_report(server)
    t.check(" errors=0 " in last_report(client) and "worker 0: echo: requests=" in report, report)
    t.note(f"{transfers} times 2 x {size // MIB} MiB each way; answered of {count} each: {results[FARS[4]]}, {results[FARS[6]]}")
