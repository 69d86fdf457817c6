"""What is compared: each peer brings up a tunnel in a space and says where the load goes in and who its two ends are.

A peer has `name`, `start()`, `stop()`, `entry` (host, port as the load generator sees them), `load_from` (the namespace
where that runs), `congestion` (the control of its sockets, or None for the run's), and `client` and `server`, the process ids
of its ends (with their descendants they are the tunnel).
"""

import os
import re

from .space import CLOUD, DESTINATIONS, Trouble

LOAD_PORT = 7000  # where `bench_load serve` waits
SSH_CIPHER = "aes128-gcm@openssh.com"


class Peer:
    name = ""
    about = ""
    congestion = None
    opens_many = False  # whether it can be asked for 10 000 connections at once
    destination = DESTINATIONS[0]  # in the pair of namespaces; no two peers that route there share one

    def __init__(self, space, topology="loopback"):
        self.space = space
        self.topology = topology
        self.near = self.load_from = "one" if topology == "loopback" else "gate"
        self.far = "one" if topology == "loopback" else "cloud"
        self.server_host = "127.0.0.1" if topology == "loopback" else CLOUD
        self.target = "127.0.0.1" if topology == "loopback" else self.destination
        self.processes = []
        self.entry = None
        self.client = []
        self.server = []

    def launch(self, role, command, log):
        process = self.space.start(role, command, log=log)
        self.processes.append(process)
        return process

    def log(self, end):
        return f"{re.sub('[^a-z0-9]+', '-', self.name.lower())}-{self.topology}-{end}.log"

    def last_words(self):
        """The ends of the logs of both ends, for a report of what went wrong."""
        said = [(end, self.space.log_text(self.log(end)).strip()[-300:]) for end in ("client", "server")]
        return "".join(f"; its {end} said: {text}" for end, text in said if text)

    def start(self):
        raise NotImplementedError

    def stop(self):
        for process in reversed(self.processes):
            self.space.stop(process)
        self.processes, self.client, self.server = [], [], []


class Direct(Peer):
    name = "direct"
    about = "no tunnel"
    opens_many = True

    def start(self):
        self.entry = (self.server_host, LOAD_PORT)


class Burin(Peer):
    """`burin` with a forwarded port."""

    name = "burin"
    about = "forwarded port, ws, aes128-gcm"
    opens_many = True
    server_port, entry_port = 7101, 7102

    def __init__(self, space, topology, binary, server_options=(), client_options=()):
        super().__init__(space, topology)
        self.binary = binary
        self.server_options = list(server_options)
        self.client_options = list(client_options)

    def start_server(self):
        server = self.launch(self.far, [self.binary, "server", "--host", self.server_host, "--port",
                                        str(self.server_port), "--auth", "bench:bench", "--key", "bench",
                                        *self.server_options], self.log("server"))
        self.space.wait_for_port(self.far, self.server_port, server, self.log("server"))
        print_of_key = self.space.wait_for_log(self.log("server"), re.compile(r"[Ff]ingerprint:? (\S+)"), server)
        self.server = [server.pid]
        return print_of_key.group(1)

    def start_client(self, fingerprint, options=(), remotes=()):
        client = self.launch(self.near, [self.binary, "client", "--auth", "bench:bench", "--fingerprint", fingerprint,
                                         *self.client_options, *options,
                                         f"http://{self.server_host}:{self.server_port}", *remotes],
                             self.log("client"))
        self.client = [client.pid]
        return client

    def start(self):
        fingerprint = self.start_server()
        remote = f"127.0.0.1:{self.entry_port}:{self.target}:{LOAD_PORT}"
        client = self.start_client(fingerprint, remotes=[remote])
        self.space.wait_for_port(self.near, self.entry_port, client, self.log("client"))
        self.entry = ("127.0.0.1", self.entry_port)


class BurinTun(Burin):
    name = "burin TUN"
    about = "TUN device to socket"
    server_port = 7111
    device = "burin0"
    address = "10.97.1.1/30"
    destination = DESTINATIONS[1]

    def start(self):
        fingerprint = self.start_server()
        client = self.start_client(fingerprint, ["--tun", self.device, "--tun-addr", self.address, "--route",
                                                 f"{self.destination}/32"])
        wait_for_route(self, client, self.device)
        self.entry = (self.destination, LOAD_PORT)


class SecureShell(Peer):
    """Shared by `ssh -L` and `ssh -w`: an sshd of its own with keys made for this run."""

    port = 7200

    def start_server(self, *settings):
        space = self.space
        space.make_folder("/run/sshd")
        for key in ("host_key", "user_key"):
            if not os.path.exists(space.path(key)):
                done = space.output(self.far, ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", space.path(key)], 20)
                if done[0] != 0:
                    raise Trouble(f"ssh-keygen: {done[2]}")
        config = space.path(f"sshd-{self.port}")
        with open(config, "w") as file:
            file.write("\n".join([
                f"ListenAddress {self.server_host}:{self.port}", f"HostKey {space.path('host_key')}",
                f"AuthorizedKeysFile {space.path('user_key')}.pub", f"PidFile {config}.pid", "StrictModes no",
                "UsePAM no", "PasswordAuthentication no", "PermitRootLogin yes", "UseDNS no",
                f"Ciphers {SSH_CIPHER}", *settings, ""]))
        server = self.launch(self.far, ["/usr/sbin/sshd", "-D", "-e", "-f", config], self.log("server"))
        space.wait_for_port(self.far, self.port, server, self.log("server"))
        self.server = [server.pid]

    def start_client(self, *words):
        client = self.launch(self.near, [
            "ssh", "-F", "none", "-N", "-i", self.space.path("user_key"), "-p", str(self.port), "-c", SSH_CIPHER,
            "-o", "StrictHostKeyChecking=no", "-o", f"UserKnownHostsFile={self.space.path('known_hosts')}",
            "-o", "ExitOnForwardFailure=yes", "-o", "LogLevel=ERROR", *words, f"root@{self.server_host}"],
            self.log("client"))
        self.client = [client.pid]
        return client


class SecureShellPort(SecureShell):
    name = "ssh -L"
    about = SSH_CIPHER
    entry_port = 7202

    def start(self):
        self.start_server()
        client = self.start_client("-L", f"127.0.0.1:{self.entry_port}:{self.target}:{LOAD_PORT}")
        self.space.wait_for_port(self.near, self.entry_port, client, self.log("client"))
        self.entry = ("127.0.0.1", self.entry_port)


class SecureShellTun(SecureShell):
    name = "ssh -w"
    about = SSH_CIPHER
    port = 7210
    destination = DESTINATIONS[2]

    def start(self):
        self.start_server("PermitTunnel yes")
        client = self.start_client("-w", "0:0")
        space = self.space
        space.wait_for_link("gate", "tun0", client, self.log("client"))
        space.wait_for_link("cloud", "tun0", client, self.log("server"))
        for role, mine, other in (("gate", "10.97.2.1", "10.97.2.2"), ("cloud", "10.97.2.2", "10.97.2.1")):
            space.ip(role, "addr", "add", mine, "peer", other, "dev", "tun0")
            space.ip(role, "link", "set", "tun0", "up")
        space.ip("gate", "route", "add", f"{self.destination}/32", "dev", "tun0")
        self.entry = (self.destination, LOAD_PORT)


class Haproxy(Peer):
    """One plain hop (one process), or two hops with TLS between them (a process each)."""

    def hop(self, which, listen, forward):
        config = self.space.path(f"haproxy-{which}-{self.topology}.cfg")
        with open(config, "w") as file:
            file.write(f"global\n  maxconn 9000\ndefaults\n  mode tcp\n  timeout connect 10s\n  timeout client 1h\n"
                       f"  timeout server 1h\nlisten hop\n  bind {listen}\n  server next {forward}\n")
        role = self.far if which == "server" else self.near
        process = self.launch(role, ["/usr/sbin/haproxy", "-db", "-f", config], self.log(which))
        self.space.wait_for_port(role, int(listen.split()[0].rsplit(":", 1)[1]), process, self.log(which))
        return process


class HaproxyPlain(Haproxy):
    name = "haproxy, 1 plain hop"
    about = "no cipher, one process"
    entry_port = 7302

    def start(self):
        self.client = [self.hop("plain", f"127.0.0.1:{self.entry_port}", f"{self.target}:{LOAD_PORT}").pid]
        self.entry = ("127.0.0.1", self.entry_port)


class HaproxyTls(Haproxy):
    name = "haproxy TLS, 2 hops"
    about = "TLS 1.3 aes128-gcm"
    wire_port, entry_port = 7311, 7312

    def start(self):
        pem = self.space.path("haproxy.pem")
        if not os.path.exists(pem):
            done = self.space.output(self.near, [
                "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days",
                "2", "-subj", "/CN=bench", "-keyout", pem + ".key", "-out", pem], 30)
            if done[0] != 0:
                raise Trouble(f"openssl: {done[2]}")
            with open(pem, "a") as whole, open(pem + ".key") as key:
                whole.write(key.read())
        suite = "ciphersuites TLS_AES_128_GCM_SHA256"
        self.server = [self.hop("server", f"{self.server_host}:{self.wire_port} ssl crt {pem} {suite}",
                                f"{self.target}:{LOAD_PORT}").pid]
        self.client = [self.hop("client", f"127.0.0.1:{self.entry_port}",
                                f"{self.server_host}:{self.wire_port} ssl verify required ca-file {pem} {suite}").pid]
        self.entry = ("127.0.0.1", self.entry_port)


def wait_for_route(peer, process, device):
    """Until the destination is routed into the peer's device."""
    space, log = peer.space, peer.log("client")
    space.wait_for_link(peer.near, device, process, log)
    space.wait_until(lambda: f"dev {device}" in space.ip(peer.near, "route", "get", peer.destination, check=False).stdout,
                     process, f"no route to {peer.destination} into {device}", log)
