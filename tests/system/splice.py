"""A line between a client and a server, as far away as a test likes."""

import queue
import socket
import threading
import time


class Splice:
    """Listens on `.port` and passes every connection on to a port of this machine; what comes in on one side goes out on the
    other `delay` seconds later. `.turns` tells who spoke: "client" or "server" for each run of bytes in one direction."""

    def __init__(self, t, port, delay=0.0):
        self.t, self.target, self.delay = t, port, delay
        self.listener = t.listen()
        self.listener.settimeout(None)
        self.port = self.listener.getsockname()[1]
        self.turns, self.lock = [], threading.Lock()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                near, _ = self.listener.accept()
                far = socket.create_connection(("127.0.0.1", self.target), 10)
            except OSError:
                return
            self.t.sockets += [near, far]
            for here, there, who in ((near, far, "client"), (far, near, "server")):
                here.settimeout(None)
                here.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                way = queue.SimpleQueue()
                threading.Thread(target=self._take, args=(here, way, who), daemon=True).start()
                threading.Thread(target=self._give, args=(there, way), daemon=True).start()

    def _take(self, here, way, who):
        while True:
            try:
                data = here.recv(1 << 18)
            except OSError:
                data = b""
            way.put((time.monotonic() + self.delay, data))
            if not data:
                return
            with self.lock:
                if self.turns[-1:] != [who]:
                    self.turns.append(who)

    @staticmethod
    def _give(there, way):
        while True:
            due, data = way.get()
            time.sleep(max(0.0, due - time.monotonic()))
            try:
                if not data:
                    there.shutdown(socket.SHUT_WR)
                    return
                there.sendall(data)
            except OSError:
                return
