"""Names, and what is behind them, as a LAN host sees them through the TUN and without it: the world of test_tun6.py, whose
cloud has a resolver and web servers; and, when the tunnel is gone, routes to all of them.

    lan ---- gateway ==TUN== or ---- uplink ---- cloud: 10.77.1.1-4, fd00:77::1:1-4 (web), 8.8.8.8, 10.77.0.1 (resolver)
"""

import asyncio
import os
import socket
import struct
import threading

import harness
from harness import Failed, test
from test_tun import FAR, HOSTS, device_exists, ip
from test_tun6 import FAMILY, World6

PUBLIC = "8.8.8.8"  # whom hosts ask; with the tunnel, --dns leads elsewhere
SERVERS = {4: [f"10.77.1.{i}" for i in range(1, 5)], 6: [f"fd00:77::1:{i}" for i in range(1, 5)]}
A, AAAA, TXT, OPT = 1, 28, 16, 41
TRUNCATED = 0x0200


class Cloud:
    """The resolver (UDP and TCP) and the web servers of the cloud, on one event loop in a thread of the test."""

    def __init__(self, w):
        self.asked = {"udp": 0, "tcp": 0}
        for version, addresses in SERVERS.items():
            for address in addresses:
                w.command("cloud", "ip", "addr", "add", f"{address}/{32 if version == 4 else 128}", "dev", "lo", *(["nodad"] if version == 6 else []))
        w.command("cloud", "ip", "addr", "add", f"{PUBLIC}/32", "dev", "lo")
        self.loop = asyncio.new_event_loop()
        with w.inside("cloud"):
            udp = [self.bound(socket.SOCK_DGRAM, (address, 53)) for address in (FAR, PUBLIC)]
            tcp = [self.bound(socket.SOCK_STREAM, (address, 53)) for address in (FAR, PUBLIC)]
            web = [self.bound(socket.SOCK_STREAM, (address, 80)) for addresses in SERVERS.values() for address in addresses]
        for s in udp:
            self.loop.run_until_complete(self.loop.create_datagram_endpoint(lambda: Resolver(self), sock=s))
        for sockets, handler in ((tcp, self.resolve), (web, self.serve)):
            for s in sockets:
                self.loop.run_until_complete(asyncio.start_server(handler, sock=s, backlog=1024))
        threading.Thread(target=self.loop.run_forever, daemon=True).start()

    @staticmethod
    def bound(kind, where):
        s = socket.socket(socket.AF_INET6 if ":" in where[0] else socket.AF_INET, kind)
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        s.bind(where)
        s.setblocking(False)
        return s

    async def serve(self, reader, writer):
        """Says who was asked for, and by which address."""
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            host = next(line.split(": ")[1] for line in head.split("\r\n") if line.lower().startswith("host: "))
            body = f"{host} at {writer.get_extra_info('sockname')[0]}\n".encode()
            writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
            await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass
        writer.close()

    async def resolve(self, reader, writer):
        try:
            size = struct.unpack("!H", await reader.readexactly(2))[0]
            answer = self.answer(await reader.readexactly(size), 65535)
            self.asked["tcp"] += 1
            writer.write(struct.pack("!H", len(answer)) + answer)
            await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass
        writer.close()

    def answer(self, query, most):
        """n<i>.test has an address of each family; big<n>.test a TXT that makes an answer of n bytes, when that many fit."""
        labels, at = [], 12
        while query[at]:
            labels.append(query[at + 1:at + 1 + query[at]].decode())
            at += 1 + query[at]
        question, kind = query[12:at + 5], struct.unpack("!H", query[at + 1:at + 3])[0]
        data = None
        if labels[0].startswith("n") and kind in (A, AAAA):
            version = 4 if kind == A else 6
            data = socket.inet_pton(FAMILY[version], SERVERS[version][int(labels[0][1:]) % 4])
        if labels[0].startswith("big") and kind == TXT:
            data = text_record(int(labels[0][3:]) - 12 - len(question) - 12)
        record = b"" if data is None else b"\xc0\x0c" + struct.pack("!HHIH", kind, 1, 0, len(data)) + data
        flags = 0x8180 | (TRUNCATED if 12 + len(question) + len(record) > most else 0)
        if flags & TRUNCATED:
            record = b""
        return query[:2] + struct.pack("!HHHHH", flags, 1, 1 if record else 0, 0, 0) + question + record


class Resolver(asyncio.DatagramProtocol):
    def __init__(self, cloud):
        self.cloud = cloud

    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, query, source):
        self.cloud.asked["udp"] += 1
        self.transport.sendto(self.cloud.answer(query, edns_size(query)), source)


def text_record(size):
    """A TXT of this many bytes, in strings of at most 255."""
    data = b""
    while len(data) < size:
        part = min(255, size - len(data) - 1)
        data += bytes([part]) + bytes(97 + (len(data) + i) % 26 for i in range(part))
    return data


def edns_size(query):
    """What the asker takes (RFC 6891): 512 unless it says more in an OPT, which is the last record of our own queries."""
    return struct.unpack("!H", query[-8:-6])[0] if struct.unpack("!H", query[10:12])[0] and query[-10:-8] == struct.pack("!H", OPT) else 512


def query(number, name, kind, size=None):
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    more = b"" if size is None else b"\0" + struct.pack("!HHIH", OPT, size, 0, 0)
    return struct.pack("!HHHHHH", number, 0x0100, 1, 0, 0, 1 if more else 0) + labels + b"\0" + struct.pack("!HH", kind, 1) + more


def without_the_tunnel(t, w, client):
    """Everything that was reached through it is now reached by routes."""
    client.kill()
    t.wait(lambda: not device_exists(), 10, "the device goes")
    ip("-6", "addr", "add", "fd02::2/64", "dev", "uplink", "nodad")
    w.command("cloud", "ip", "-6", "addr", "add", "fd02::1/64", "dev", "eth0", "nodad")
    for network in ("10.77.0.0/16", f"{PUBLIC}/32"):
        ip("route", "add", network, "via", "192.0.2.1")
    ip("-6", "route", "add", "fd00:77::/64", "via", "fd02::1")
    w.command("cloud", "ip", "route", "add", "10.5.0.0/24", "via", "192.0.2.2")
    w.command("cloud", "ip", "-6", "route", "add", "fd00:5::/64", "via", "fd02::2")


def fetch_all(t, w, where, version, count, parts=4):
    """curl for every name at once; the set of those whose answer is right, and what the others said."""
    folder = os.path.join(t.folder, f"{where}-{version}-{len(t.processes)}")
    os.mkdir(folder)
    runs = []
    for part in range(parts):
        wanted = "".join(f'url = "http://n{i}.test/"\noutput = "{folder}/n{i}"\n' for i in range(part, count, parts))
        config = t.file(f"curl-{where}-{version}-{part}-{len(t.processes)}", wanted)
        runs.append(t.start("curl", w.there(where, "curl", "-q", f"-{version}", "--silent", "--show-error", "--max-time", str(40 * t.patience),
                                            "--parallel", "--parallel-immediate", "--parallel-max", str(count // parts), "--config", config)))
    for run in runs:
        run.wait_exit(60 * t.patience)
    right, wrong = set(), []
    for i in range(count):
        try:
            with open(f"{folder}/n{i}") as file:
                said = file.read()
        except OSError:
            said = "nothing"
        if said == f"n{i}.test at {SERVERS[version][i % 4]}\n":
            right.add(i)
        else:
            wrong.append(f"n{i}: {said.strip()}")
    return right, wrong + [line for run in runs for line in run.err().splitlines()[:3]]


@test("U2.five_hundred_names", seconds=240, slots=2)
def five_hundred_names(t):
    """500 names at once, each looked up and fetched, of both families; without the tunnel the same succeed."""
    w = World6(t, ("10.77.0.0/16", f"{PUBLIC}/32"))
    t.names("127.0.0.1 localhost\n", PUBLIC)
    with open(os.path.join(t.folder, "resolv.conf"), "w") as file:  # 500 at once: patience instead of one second
        file.write(f"nameserver {PUBLIC}\noptions timeout:3 attempts:4\n")
    count = 100 if t.sanitized else 500
    w.server()
    cloud = Cloud(w)
    client = w.client("--dns", FAR)
    runs = [(where, version) for where in HOSTS for version in (4, 6)]
    through = {}
    for where, version in runs:
        right, wrong = fetch_all(t, w, where, version, count)
        t.equal(len(right), count, f"answers through the tunnel ({where}, IPv{version}); the others: {wrong[:3]}")
        through[where, version] = right
    t.check(cloud.asked["udp"] >= len(runs) * count, f"the resolver was asked {cloud.asked}")
    without_the_tunnel(t, w, client)
    for where, version in runs:
        right, wrong = fetch_all(t, w, where, version, count)
        t.equal(right, through[where, version], f"answers without the tunnel ({where}, IPv{version}); the others: {wrong[:3]}")


def ask_udp(t, w, where, data):
    with w.inside(where), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.settimeout(15 * t.patience)
        s.connect((PUBLIC, 53))
        s.send(data)
        try:
            return s.recv(70000)
        except socket.timeout:
            raise Failed(f"{where}: no answer to {data!r}") from None


def ask_tcp(t, w, where, data):
    s = w.connect(where, 53, PUBLIC)
    s.sendall(struct.pack("!H", len(data)) + data)
    answer = harness.receive_exactly(s, struct.unpack("!H", harness.receive_exactly(s, 2))[0])
    s.close()
    return answer


@test("U2.dns_answers_of_every_size", seconds=90)
def dns_answers_of_every_size(t):
    """What a resolver says, large or cut short, is what the host hears: octet for octet as without the tunnel."""
    w = World6(t, ("10.77.0.0/16", f"{PUBLIC}/32"))
    w.server()
    Cloud(w)
    client = w.client("--dns", FAR)

    def told():
        heard = {}
        for where in HOSTS:
            # Cut short at 512, at what the asker takes (1232 is what DNS software takes of late); above the MTU: in fragments.
            for size, takes in ((500, None), (513, None), (1232, 1232), (1233, 1232), (1472, 4096), (1473, 4096), (4096, 4096), (4097, 4096),
                                (8000, 9000)):
                question = query(size, f"big{size}.test", TXT, takes)
                answer = ask_udp(t, w, where, question)
                heard[where, size, takes] = answer
                if struct.unpack("!H", answer[2:4])[0] & TRUNCATED:
                    t.check(size > (takes or 512), f"an answer of {size} bytes was cut")
                    answer = ask_tcp(t, w, where, question)
                    heard[where, size, takes, "tcp"] = answer
                t.equal(len(answer), size, "bytes of the answer")
            heard[where, "tcp"] = ask_tcp(t, w, where, query(7, "big60000.test", TXT))
            t.equal(len(heard[where, "tcp"]), 60000, "an answer over TCP")
        return heard

    through = told()
    t.equal(sum("tcp" in key for key in through), 2 * (1 + 3), "answers over TCP")
    without_the_tunnel(t, w, client)
    t.check(told() == through, "answers with and without the tunnel")
