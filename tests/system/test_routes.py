"""What lies around the TUN device: default routes, exceptions, IPv6, uplinks that change, DNS, and what the program may still do.

The World of test_tun.py, with a server that is no neighbour of the gateway, and a second uplink to it:

    lan ---- gateway 192.0.2.2 ---- 192.0.2.1 cloud, 203.0.113.1 and 2001:db8:c::1 (server), 10.77.0.1 (destinations)
                     198.51.100.2 ---- 198.51.100.1
"""

import contextlib
import json
import os
import signal
import socket
import stat
import subprocess
import threading

import harness
from harness import Failed, test
from test_tun import DEVICE, FAR, HOSTS, World, device_exists, ip

SERVER, SERVER6, NAMES = "203.0.113.1", "2001:db8:c::1", "203.0.113.53"
CAP_NET_ADMIN = 1 << 12


class Uplinks(World):
    def __init__(self, t):
        super().__init__(t)
        ip("link", "add", "second", "type", "veth", "peer", "name", "eth1", "netns", str(self.pids["cloud"]))
        ip("addr", "add", "198.51.100.2/24", "dev", "second")
        ip("link", "set", "second", "up")
        ip("addr", "add", "fd02::2/64", "dev", "uplink", "nodad")
        for words in (("addr", "add", "198.51.100.1/24", "dev", "eth1"), ("link", "set", "eth1", "up"),
                      ("addr", "add", f"{SERVER}/32", "dev", "lo"), ("addr", "add", f"{NAMES}/32", "dev", "lo"),
                      ("addr", "add", f"{SERVER6}/128", "dev", "lo", "nodad"), ("addr", "add", "fd02::1/64", "dev", "eth0", "nodad")):
            self.command("cloud", "ip", *words)
        ip("route", "add", "default", "via", "192.0.2.1", "dev", "uplink", "metric", "100")
        ip("route", "add", "default", "via", "198.51.100.1", "dev", "second", "metric", "200")
        ip("route", "add", "default", "via", "fd02::1", "dev", "uplink")

    def start_server(self, host=SERVER, prefix=(), flags=()):
        t = self.t
        process = t.start("burin-server", self.there("cloud", *prefix, t.binary, "server", "--host", host, "--port", "8080", *flags))
        t.listening(process, host, 8080)
        return process

    def start_client(self, *flags, host=SERVER, routes=("0.0.0.0/0",), addresses=("10.9.0.1/24",), prefix=(), name="burin-client"):
        words = ["--tun", DEVICE]
        for address in addresses:
            words += ["--tun-addr", address]
        for route in routes:
            words += ["--route", route]
        process = self.t.start(name, [*prefix, self.t.binary, "client", "--keepalive", "0", "--min-retry-interval", "100ms",
                                      "--max-retry-interval", "1s", *words, *flags, f"http://{host}:8080"])
        process.wait_line("Connected", 15 * self.t.patience)
        return process

    def port_is_free_at(self, host):
        with self.inside("cloud"), socket.socket() as s:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                s.bind((host, 8080))
                s.listen()
            except OSError:
                return False
        return True

    def came_from(self):
        """The addresses that sessions at the server come from."""
        done = subprocess.run(self.there("cloud", "ss", "-Htn", "state", "established", "sport = :8080"), capture_output=True, text=True)
        return {line.split()[3].rsplit(":", 1)[0] for line in done.stdout.splitlines()}

    def flows(self, listener, hosts=HOSTS):
        for name in hosts:
            s, peer = self.flow(name, listener)
            s.close()
            peer.close()


def everything():
    """Links, routes and rules of the gateway, of both families; link-local addresses come when they like."""
    told = [json.loads(ip("-j", family, *words)) for family in ("-4", "-6") for words in (("route", "show", "table", "all"), ("rule",))]
    told = {json.dumps(one) for part in told for one in part if not one.get("dst", "").startswith("fe80")}
    return told | {link["ifname"] for link in json.loads(ip("-j", "link"))}


@test("U5.two_uplinks", seconds=120)
def two_uplinks(t):
    w = Uplinks(t)
    w.start_server()
    listener = w.listen(7100)
    client = w.start_client()
    w.flows(listener)
    t.equal(w.came_from(), {"192.0.2.2"}, "the uplink of the session")
    # No ping tells (--keepalive 0): the change of routes does.
    ip("link", "set", "uplink", "down")
    client.wait_line("the way to the server is gone from this machine", 20 * t.patience)
    client.wait_line("Connected", 20 * t.patience, 2)
    t.check("198.51.100.2" in w.came_from(), f"the session comes from {w.came_from()}")
    w.flows(listener)
    # Another address of the same uplink, as DHCP may give.
    ip("addr", "del", "198.51.100.2/24", "dev", "second")
    ip("addr", "add", "198.51.100.3/24", "dev", "second")
    ip("route", "replace", "default", "via", "198.51.100.1", "dev", "second", "metric", "200")
    client.wait_line("Connected", 20 * t.patience, 3)
    t.check("198.51.100.3" in w.came_from(), f"the session comes from {w.came_from()}")
    w.flows(listener)
    # A better way that comes back is not worth an end of all flows.
    s, peer = w.flow("lan", listener)
    ip("link", "set", "uplink", "up")
    ip("route", "replace", "default", "via", "192.0.2.1", "dev", "uplink", "metric", "100")
    w.flows(listener)
    s.sendall(b"still here")
    t.equal(harness.receive_exactly(peer, 10), b"still here", "a flow beside a new uplink")
    # No way at all, then one again: the next attempt is not kept waiting.
    ip("link", "set", "uplink", "down")
    ip("link", "set", "second", "down")
    ip("link", "set", "uplink", "up")
    ip("route", "replace", "default", "via", "192.0.2.1", "dev", "uplink", "metric", "100")
    client.wait_line("Connected", 20 * t.patience, 4)
    w.flows(listener)


class NameServer:
    """Answers every A question with SERVER, in the cloud; remembers who asked."""

    def __init__(self, w):
        self.asked = []
        with w.inside("cloud"):
            self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind((NAMES, 53))
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        with contextlib.suppress(OSError):
            while True:
                query, source = self.socket.recvfrom(512)
                self.asked.append(source[0])
                end = 12
                while query[end]:
                    end += 1 + query[end]
                question = query[12:end + 5]
                answer = b"" if question[-3] != 1 else b"\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x00\x00\x04" + socket.inet_aton(SERVER)
                self.socket.sendto(query[:2] + b"\x81\x80\x00\x01" + bytes((0, 1 if answer else 0)) + bytes(4) + question + answer, source)

    def stop(self):
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)  # wakes the thread, though it complains of no peer
        self.socket.close()


@test("U5.name_outside_the_tunnel", seconds=120)
def name_outside(t):
    t.names("127.0.0.1 localhost\n", NAMES)
    w = Uplinks(t)
    names = NameServer(w)
    server = w.start_server()
    listener = w.listen(7100)
    client = w.start_client(host="tunnel.example")
    w.flows(listener)
    before = len(names.asked)
    server.kill()
    client.wait_line("Disconnected", 20 * t.patience)
    t.wait(lambda: w.port_is_free_at(SERVER), 10, "the port is free")
    server = w.start_server()
    client.wait_line("Connected", 20 * t.patience, 2)
    w.flows(listener)
    t.check(len(names.asked) > before, "the name was asked for again")
    t.equal(set(names.asked), {"192.0.2.2"}, "who asked for the name")
    # Without a name server the session goes where it was.
    names.stop()
    server.kill()
    client.wait_line("Disconnected", 20 * t.patience, 2)
    t.wait(lambda: w.port_is_free_at(SERVER), 10, "the port is free")
    w.start_server()
    client.wait_line(f"trying {SERVER}, where it was", 40 * t.patience)
    client.wait_line("Connected", 40 * t.patience, 3)
    w.flows(listener)


@test("U5.default_route_spares_what_is_near", seconds=90)
def spares(t):
    w = Uplinks(t)
    w.command("cloud", "ip", "addr", "add", "10.78.0.1/32", "dev", "lo")
    w.start_server()
    listener, kept = w.listen(7100), w.listen(7101, "10.78.0.1")
    with w.inside("lan"):
        near = t.listen(7102, "10.5.0.2")
    w.start_client("--exclude", "10.78.0.0/16")
    w.flows(listener)
    for what, one, own in (("a host of the LAN", near, "10.5.0.1"), ("an excluded network", kept, "192.0.2.2")):
        s = w.connect("gateway", one.getsockname()[1], one.getsockname()[0])
        peer, address = one.accept()
        t.equal(address[0], own, f"{what} is reached from")
        s.close()
        peer.close()
    t.check(f"dev {DEVICE}" in ip("route", "get", "10.79.0.1"), "what is beside the excluded network")


@test("U5.ipv6_device_and_routes", seconds=120)
def ipv6_device(t):
    w = Uplinks(t)
    ip("addr", "add", "fd05::1/64", "dev", "local", "nodad")
    w.start_server(SERVER6)
    listener = w.listen(7100)
    for number in (signal.SIGTERM, signal.SIGKILL):
        before = everything()
        client = w.start_client("--exclude", "2001:db8:e::/48", host=f"[{SERVER6}]", routes=("10.77.0.0/16", "2001:db8::/32", "::/0"),
                                addresses=("10.9.0.1/24", "fd09::1/64"), name=f"burin-client-{number}")
        w.flows(listener)  # the session itself goes over IPv6, beneath ::/0
        told = json.loads(ip("-j", "-6", "addr", "show", "dev", DEVICE))[0]["addr_info"]
        t.check(any(one["local"] == "fd09::1" and one["prefixlen"] == 64 and not one.get("tentative") for one in told), f"addresses: {told}")
        for to, device in (("2001:db8::1", DEVICE), ("2606:4700::1111", DEVICE), ("fd09::7", DEVICE), ("fd05::7", "local"),
                           ("fd02::1", "uplink"), ("2001:db8:e::1", "uplink")):
            t.check(f"dev {device} " in ip("-6", "route", "get", to), f"{to}: {ip('-6', 'route', 'get', to)}")
        client.signal(number)
        client.wait_exit(10 * t.patience)
        t.wait(lambda: not device_exists(), 5, "the device goes")
        t.wait(lambda: everything() == before, 5, lambda: f"all as before; the difference: {everything() ^ before}")


@test("U2.dns_over_tcp", seconds=60)
def dns_over_tcp(t):
    w = World(t, routes=("8.8.8.0/24", "10.77.0.0/16"))
    w.server()
    resolver, listener = w.listen(5353), w.listen(7100)
    client = w.client("-v", "--dns", f"{FAR}:5353")
    for name in HOSTS:
        s = w.connect(name, 53, "8.8.8.8")
        t.equal(s.getpeername(), ("8.8.8.8", 53), "whom the host talks to")
        s.sendall(b"question")
        peer, _ = resolver.accept()
        t.equal(harness.receive_exactly(peer, 8), b"question", "what the resolver is asked")
        peer.sendall(b"answer")
        t.equal(harness.receive_exactly(s, 6), b"answer", "what the host hears")
        peer.close()
        s.close()
        # Other ports, and port 53 elsewhere than in the tunnel, are nobody's business.
        a, b = w.flow(name, listener)
        a.close()
        b.close()
    client.wait_line(rf"Open {FAR}:5353", 10, 2)


def capabilities(process):
    """CapEff, CapPrm, CapBnd and NoNewPrivs of each thread."""
    told = {}
    for task in os.listdir(f"/proc/{process.pid}/task"):
        with open(f"/proc/{process.pid}/task/{task}/status") as f:
            fields = dict(line.rstrip("\n").split(":\t", 1) for line in f if ":\t" in line)
        told[fields["Name"] + task] = tuple(int(fields[name], 16) for name in ("CapEff", "CapPrm", "CapBnd", "CapInh", "CapAmb")) + (
            fields["NoNewPrivs"],)
    return told


def check_capabilities(t, process, kept, what):
    told = capabilities(process)
    t.check(len(told) >= 3, f"{what} has threads: {told}")
    log = min(name for name in told if told[name][0] == 0) if kept else None
    keepers = [name for name in told if name.startswith("buffers")]
    t.check(len(keepers) <= 1, f"{what}: threads that force buffers: {keepers}")
    for name, (effective, permitted, bounding, inheritable, ambient, no_new) in told.items():
        # Only what forces buffers keeps what that needs.
        if name in keepers and what != "a server of root's":
            want = CAP_NET_ADMIN
        else:
            want = 0 if name == log or name.startswith("metrics") else kept
        # The thread of the metrics begins when the bounding set cannot be cut any more: it could not gain from it either.
        most = kept if name.startswith("metrics") else want
        t.equal((effective, permitted, bounding, inheritable, ambient, no_new), (want, want, most, 0, 0, "1"), f"{what}: thread {name}")


@test("U4.least_privilege", seconds=120)
def least_privilege(t):
    w = Uplinks(t)
    listener = w.listen(7100)
    os.chmod(t.folder, 0o755)
    nobody = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"]
    # The server as nobody, without a capability from the start.
    server = w.start_server(prefix=nobody)
    with open(f"/proc/{server.pid}/status") as f:
        t.check("Uid:\t65534\t65534" in f.read(), "the server is nobody")
    client = w.start_client("--workers", "2")
    client.wait_line("Connected", 15 * t.patience, 2)
    w.flows(listener)
    check_capabilities(t, client, 0, "the client")
    t.equal(capabilities(server).popitem()[1][0], 0, "capabilities of a server that is nobody")
    t.equal(os.stat(f"/proc/{server.pid}/maps").st_uid, 0, "the server's memory is the administrator's alone")
    # All of it goes on without: a session is made anew.
    server.kill()
    client.wait_line("Disconnected", 20 * t.patience)
    t.wait(lambda: w.port_is_free_at(SERVER), 10, "the port is free")
    server = w.start_server()  # by root, which gives it all up
    client.wait_line("Connected", 20 * t.patience, 4)
    w.flows(listener)
    check_capabilities(t, server, 0, "a server of root's")
    client.signal(signal.SIGTERM)
    t.equal(client.wait_exit(10 * t.patience), 0, "the client's status")
    # Strict reverse path checks: a reconnect has to change routes.
    for scope in ("all", "uplink"):
        with open(f"/proc/sys/net/ipv4/conf/{scope}/rp_filter", "w") as f:
            f.write("1")
    t.wait(lambda: not device_exists(), 5, "the device goes")
    client = w.start_client("--metrics", ":9100", name="burin-strict")
    w.flows(listener)
    check_capabilities(t, client, CAP_NET_ADMIN, "a client beneath strict checks")
    t.check(any(name.startswith("metrics") for name in capabilities(client)), "the thread of the metrics")
    client.signal(signal.SIGTERM)
    client.wait_exit(10 * t.patience)
    t.wait(lambda: not device_exists(), 5, "the device goes")
    # A plain user with the one capability that the device needs, where the device file is everybody's, as udev has it.
    if harness.libc.unshare(harness.CLONE_NEWNS) != 0:
        raise Failed("unshare(CLONE_NEWNS)")
    clone = os.path.join(t.folder, "tun")
    os.mknod(clone, 0o666 | stat.S_IFCHR, os.makedev(10, 200))
    os.chmod(clone, 0o666)
    for command in (["mount", "--make-rprivate", "/"], ["mount", "--bind", clone, "/dev/net/tun"]):
        subprocess.run(command, check=True)
    client = w.start_client(prefix=[*nobody, "--inh-caps=+net_admin", "--ambient-caps=+net_admin", "--bounding-set=-all,+net_admin"],
                            name="burin-user")
    w.flows(listener)
    told = capabilities(client)
    t.check(all(one[0] in (0, CAP_NET_ADMIN) and one[5] == "1" for one in told.values()), f"a plain user's client: {told}")


@test("U4.least_privilege_old_kernel", seconds=120)
def least_privilege_old_kernel(t):
    """One read at a time, as on Linux 6.1: every process of the test."""
    os.environ["BURIN_OLD_KERNEL"] = "1"
    least_privilege(t)


@test("U5.ipv6_device_and_routes_old_kernel", seconds=120)
def ipv6_device_old_kernel(t):
    os.environ["BURIN_OLD_KERNEL"] = "1"
    ipv6_device(t)
