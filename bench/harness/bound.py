"""The bound (bench_bound) as a peer: the tunnel's buffers, sizes, cipher and operations, and nothing of its protocols."""

from .peers import LOAD_PORT, Peer, wait_for_route
from .space import DESTINATIONS


class Bound(Peer):
    """A forwarded port."""

    name = "bound"
    about = "read, seal, send, receive, open, write: no SSH, no WebSocket, no windows"
    line_port, entry_port = 7401, 7402

    def __init__(self, space, topology, binary):
        super().__init__(space, topology)
        self.binary = binary

    def start_far(self):
        far = self.launch(self.far, [self.binary, "far", self.server_host, str(self.line_port)], self.log("server"))
        self.space.wait_for_port(self.far, self.line_port, far, self.log("server"))
        self.server = [far.pid]

    def start_near(self, *words):
        near = self.launch(self.near, [self.binary, "near", self.server_host, str(self.line_port), *map(str, words)],
                           self.log("client"))
        self.client = [near.pid]
        return near

    def start(self):
        self.start_far()
        near = self.start_near("port", "127.0.0.1", self.entry_port, self.target, LOAD_PORT)
        self.space.wait_for_port(self.near, self.entry_port, near, self.log("client"))
        self.entry = ("127.0.0.1", self.entry_port)


class BoundTun(Bound):
    """A TUN device, its hosts' TCP ended by the project's terminator."""

    name = "bound TUN"
    about = "read, terminate, seal, send, receive, open, write"
    line_port = 7411
    device = "bound0"
    address = "10.97.3.1/30"
    destination = DESTINATIONS[3]

    def start(self):
        self.start_far()
        near = self.start_near("tun", self.device, self.address, f"{self.destination}/32")
        wait_for_route(self, near, self.device)
        self.entry = (self.destination, LOAD_PORT)
