"""What goes over the wire, for scripts: SSH messages by number, the bridge to `go_peer raw`, a session that checks its
peer against the channel rules (docs/wire.md section 8), and WebSocket and HTTP by hand."""

import base64
import contextlib
import hashlib
import json
import os
import select
import struct
import time

from harness import Failed, receive_exactly

(DISCONNECT, IGNORE, UNIMPLEMENTED, DEBUG, SERVICE_REQUEST, SERVICE_ACCEPT, EXT_INFO) = range(1, 8)
KEXINIT, NEWKEYS = 20, 21
USERAUTH_REQUEST, USERAUTH_FAILURE, USERAUTH_SUCCESS, USERAUTH_BANNER = 50, 51, 52, 53
GLOBAL_REQUEST, REQUEST_SUCCESS, REQUEST_FAILURE = 80, 81, 82
(CHANNEL_OPEN, OPEN_CONFIRMATION, OPEN_FAILURE, WINDOW_ADJUST, DATA, EXTENDED_DATA, EOF, CLOSE, CHANNEL_REQUEST,
 CHANNEL_SUCCESS, CHANNEL_FAILURE) = range(90, 101)
PING, PONG = 192, 193

WRONG_TAG, SHORT_PADDING, HUGE_PADDING, HUGE_LENGTH, EMPTY_PAYLOAD = range(1, 6)


def string(value):
    value = value.encode() if isinstance(value, str) else value
    return struct.pack(">I", len(value)) + value


def u32(*values):
    return struct.pack(f">{len(values)}I", *values)


def message(number, *parts):
    return bytes([number]) + b"".join(parts)


class Fields:
    """Reads the fields of a packet after its number."""

    def __init__(self, packet):
        self.rest = packet[1:]

    def u32(self):
        if len(self.rest) < 4:
            raise Failed("VIOLATION: a packet is cut off")
        (value,) = struct.unpack(">I", self.rest[:4])
        self.rest = self.rest[4:]
        return value

    def bool(self):
        value, self.rest = self.rest[0], self.rest[1:]
        return value != 0

    def bytes(self):
        n = self.u32()
        if n > len(self.rest):
            raise Failed("VIOLATION: a string is cut off")
        value, self.rest = self.rest[:n], self.rest[n:]
        return value

    def text(self):
        return self.bytes().decode()


def config_json(version="1.12.0", remotes=None):
    return json.dumps({"Version": version, "Remotes": remotes}, separators=(",", ":")).encode()


def chisel_open(local, target, window=2097152, maximum=32768, kind="chisel"):
    return message(CHANNEL_OPEN, string(kind), u32(local, window, maximum), target.encode() if isinstance(target, str) else target)


def direct_tcpip(local, host, port, window=2097152, maximum=32768):
    return message(CHANNEL_OPEN, string("direct-tcpip"), u32(local, window, maximum), string(host), u32(port),
                   string("127.0.0.1"), u32(1))


class Ended(Exception):
    """The raw connection is over; the text says how."""


class Raw:
    """`go_peer raw`: one SSH transport whose every packet is ours."""

    def __init__(self, bench, role, port, *flags):
        self.bench = bench
        self.read_end, write_end = os.pipe()
        command = [bench.peer, "raw", "--role", role, "--address", f"127.0.0.1:{port}", *flags]
        # Its standard output is the event stream, so it does not go to a file.
        self.process = bench.start_piped(f"raw-{role}", command, write_end)
        os.close(write_end)
        self.buffer = b""
        self.accepted, self.info, self.controls, self.bytes, self.over = None, None, [], b"", None
        self.shapes = None
        if role == "server":
            kind, _ = self.event(10)
            assert kind == "L"

    def event(self, seconds):
        """The next event (kind, body), or None when nothing came."""
        end = time.monotonic() + seconds * self.bench.patience
        while True:
            if len(self.buffer) >= 4:
                (n,) = struct.unpack(">I", self.buffer[:4])
                if len(self.buffer) >= 4 + n:
                    kind, body = chr(self.buffer[4]), self.buffer[5:4 + n]
                    self.buffer = self.buffer[4 + n:]
                    return kind, body
            left = end - time.monotonic()
            if left <= 0 or not select.select([self.read_end], [], [], left)[0]:
                return None
            piece = os.read(self.read_end, 1 << 20)
            if not piece:
                raise Failed(f"go_peer raw is gone: {self.process.err()[-300:]}")
            self.buffer += piece

    def packet(self, seconds=10):
        """The next SSH packet; None when none came in time. Raises Ended when the connection is over."""
        end = time.monotonic() + seconds * self.bench.patience
        while True:
            event = self.event(max(0, (end - time.monotonic()) / self.bench.patience))
            if event is None:
                return None
            kind, body = event
            if kind == "P":
                return body
            self.take(kind, body)
            if kind == "E":
                raise Ended(self.over)

    def take(self, kind, body):
        if kind == "A":
            self.accepted, self.info, self.over = json.loads(body), None, None
        elif kind == "H":
            self.info = json.loads(body)
        elif kind == "M":
            self.shapes = json.loads(body)
        elif kind == "W":
            self.controls.append((body[0], body[1:]))
        elif kind == "S":
            self.bytes += body
        elif kind == "E":
            self.over = body.decode()
            if "VIOLATION" in self.over:
                raise Failed(self.over)

    def until(self, condition, seconds, what):
        """Takes events that are not packets until the condition holds."""
        end = time.monotonic() + seconds * self.bench.patience
        while not condition():
            event = self.event(max(0, (end - time.monotonic()) / self.bench.patience))
            if event is None:
                raise Failed(f"not within {seconds} s: {what}")
            kind, body = event
            if kind == "P":
                raise Failed(f"message {body[0]} while waiting: {what}")
            self.take(kind, body)
            if kind == "E" and not condition():
                raise Ended(self.over)

    def handshake(self, seconds=15):
        self.info = None
        self.until(lambda: self.info, seconds, "the handshake")
        return self.info

    def accept(self, seconds=15):
        """Server: the next connection, up to its handshake."""
        self.accepted = None
        while True:
            try:
                self.until(lambda: self.accepted, seconds, "a connection")
                self.handshake(seconds)
                return self.info
            except Ended:
                if self.accepted:
                    raise

    def expect(self, number, seconds=10):
        packet = self.packet(seconds)
        if packet is None:
            raise Failed(f"message {number} did not come")
        if packet[0] != number:
            raise Failed(f"message {number} expected, got {packet[:60]!r}")
        return packet

    def ended(self, seconds=10):
        """Waits for the end of the connection and tells how it was; packets on the way are dropped."""
        end = time.monotonic() + seconds * self.bench.patience
        while self.over is None:
            event = self.event(max(0, (end - time.monotonic()) / self.bench.patience))
            if event is None:
                return None
            if event[0] != "P":
                self.take(*event)
        return self.over

    def command(self, kind, body=b""):
        with contextlib.suppress(BrokenPipeError):
            self.process.popen.stdin.write(struct.pack(">I", len(body) + 1) + kind.encode() + body)
            self.process.popen.stdin.flush()

    def send(self, *packets):
        for packet in packets:
            self.command("P", packet)

    def tamper(self, kind, packet):
        self.command("T", bytes([kind]) + packet)

    def frame(self, first, payload, masked):
        self.command("W", bytes([first, 1 if masked else 0]) + payload)

    def raw_bytes(self, data):
        self.command("C", data)

    def message_shapes(self):
        """How the peer has put its packets into messages: "messages", "largest" (bytes), "most_packets" (in one). Whatever
        was to be sent before has been sent then, or its connection is over."""
        self.shapes = None
        self.command("M")
        self.until(lambda: self.shapes, 10, "the shapes of the messages")
        return self.shapes

    # -- the usual steps ---------------------------------------------------------------------------------------------

    def authenticate(self, user="", password="", none_first=True):
        """Client: up to USERAUTH_SUCCESS. Returns EXT_INFO when one came first."""
        self.handshake()
        self.send(message(SERVICE_REQUEST, string("ssh-userauth")))
        packet, extension = self.packet(), None
        if packet and packet[0] == EXT_INFO:
            extension, packet = packet, self.packet()
        if not packet or packet[0] != SERVICE_ACCEPT:
            raise Failed(f"no SERVICE_ACCEPT: {packet!r}")
        if none_first:
            self.send(message(USERAUTH_REQUEST, string(user), string("ssh-connection"), string("none")))
            packet = self.packet()
            if packet and packet[0] == USERAUTH_SUCCESS:
                return extension
            if not packet or packet[0] != USERAUTH_FAILURE:
                raise Failed(f"no answer to `none`: {packet!r}")
        self.send(password_request(user, password))
        self.expect(USERAUTH_SUCCESS)
        return extension

    def configure(self, config=None):
        self.send(message(GLOBAL_REQUEST, string("config"), b"\1", config if config is not None else config_json()))
        packet = self.packet()
        if packet is None or packet[0] not in (REQUEST_SUCCESS, REQUEST_FAILURE):
            raise Failed(f"no reply to config: {packet!r}")
        return packet

    def login(self, user="", password=""):
        """Client: a chisel session ready for channels."""
        self.authenticate(user, password)
        reply = self.configure()
        if reply != bytes([REQUEST_SUCCESS]):
            raise Failed(f"config reply {reply!r}")
        return Session(self)

    def admit(self, check=None, seconds=15):
        """Server: lets the next client in, whatever its flow. Returns a Session; `.config` is the JSON's bytes."""
        self.accept(seconds)
        return self.admit_accepted(check)

    def admit_accepted(self, check=None):
        seen = []
        while True:
            packet = self.packet(15)
            if packet is None:
                raise Failed(f"the client stopped in the middle of its login, after {seen}")
            seen.append(packet[0])
            if packet[0] == SERVICE_REQUEST:
                self.send(message(SERVICE_ACCEPT, string("ssh-userauth")))
            elif packet[0] == USERAUTH_REQUEST:
                fields = Fields(packet)
                user, _, method = fields.text(), fields.text(), fields.text()
                if method == "none":
                    self.send(message(USERAUTH_FAILURE, string("password"), b"\0"))
                    continue
                if check:
                    check(user, method, packet)
                self.send(message(USERAUTH_SUCCESS))
            elif packet[0] == GLOBAL_REQUEST:
                fields = Fields(packet)
                if fields.text() != "config" or not fields.bool():
                    raise Failed(f"first request is no config: {packet!r}")
                session = Session(self)
                session.config = fields.rest
                session.login_order = seen
                self.send(message(REQUEST_SUCCESS))
                return session
            else:
                raise Failed(f"VIOLATION: message {packet[0]} during login")


def password_request(user, password):
    return message(USERAUTH_REQUEST, string(user), string("ssh-connection"), string("password"), b"\0", string(password))


class Channel:
    def __init__(self, local, granted, maximum):
        self.local, self.remote = local, None
        self.granted, self.maximum = granted, maximum  # what the peer may still send, and how much at once
        self.credit = self.peer_maximum = 0            # what we may still send
        self.first_credit = 0
        self.target = None
        self.received = bytearray()
        self.largest = self.adjusts = 0
        self.open = self.failure = self.got_eof = self.got_close = self.sent_close = False


class Session:
    """A chisel session after config. Every packet of the peer is checked against sections 8.1 to 8.8."""

    def __init__(self, raw):
        self.raw, self.channels, self.next = raw, {}, 0
        self.replies, self.pongs, self.pings, self.unknown, self.config = [], [], 0, [], b""
        self.answer_pings = True
        self.keep_data = True
        self.accept_open = None     # server: a function(channel) -> confirm or not; None refuses all
        self.opened = []            # channels the peer opened
        self.window, self.maximum = 2097152, 32768

    def open(self, target, window=2097152, maximum=32768, seconds=10, must=True):
        channel = Channel(self.next, window, maximum)
        self.channels[channel.local] = channel
        self.next += 1
        self.raw.send(chisel_open(channel.local, target, window, maximum))
        self.pump(lambda: channel.open or channel.failure, seconds, f"an answer to the open of {target}")
        if must and not channel.open:
            raise Failed(f"open of {target} refused: {channel.failure}")
        return channel

    def grant(self, channel, count):
        channel.granted += count
        self.raw.send(message(WINDOW_ADJUST, u32(channel.remote, count)))

    def data(self, channel, payload, within=True):
        if within and len(payload) > min(channel.credit, channel.peer_maximum):
            raise Failed("the test itself would break the window")
        channel.credit -= len(payload)
        self.raw.send(message(DATA, u32(channel.remote), string(payload)))

    def eof(self, channel):
        self.raw.send(message(EOF, u32(channel.remote)))

    def close(self, channel):
        if not channel.sent_close:
            channel.sent_close = True
            self.raw.send(message(CLOSE, u32(channel.remote)))

    def ping(self, seconds=10):
        """A chisel ping; the peer must answer."""
        before = len(self.replies)
        self.raw.send(message(GLOBAL_REQUEST, string("ping"), b"\1"))
        self.pump(lambda: len(self.replies) > before, seconds, "the answer to a ping")
        return self.replies[-1]

    def pump(self, condition, seconds, what):
        end = time.monotonic() + seconds * self.raw.bench.patience
        while not condition():
            left = (end - time.monotonic()) / self.raw.bench.patience
            packet = self.raw.packet(left) if left > 0 else None
            if packet is None:
                raise Failed(f"not within {seconds} s: {what}")
            self.take(packet)

    def settle(self, seconds):
        """Takes whatever comes for a while."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            packet = self.raw.packet((end - time.monotonic()) / self.raw.bench.patience)
            if packet is not None:
                self.take(packet)

    def known(self, fields):
        local = fields.u32()
        channel = self.channels.get(local)
        if channel is None:
            raise Failed(f"VIOLATION: a message for channel {local}, which is not open")
        if channel.got_close:
            raise Failed(f"VIOLATION: a message for channel {local} after its CLOSE")
        return channel

    def take(self, packet):
        number, fields = packet[0], Fields(packet)
        if number == CHANNEL_OPEN:
            kind, remote, window, maximum = fields.text(), fields.u32(), fields.u32(), fields.u32()
            if any(c.remote == remote and not c.got_close for c in self.channels.values() if c.remote is not None):
                raise Failed(f"VIOLATION: channel id {remote} opened twice")
            if not 9 <= maximum <= 1 << 31:
                raise Failed(f"VIOLATION: max packet {maximum}")
            channel = Channel(self.next, self.window, self.maximum)
            channel.kind, channel.remote, channel.credit, channel.peer_maximum = kind, remote, window, maximum
            channel.first_credit = window
            channel.target = bytes(fields.rest)
            self.next += 1
            self.opened.append(channel)
            if self.accept_open and self.accept_open(channel):
                channel.open = True
                self.channels[channel.local] = channel
                self.raw.send(message(OPEN_CONFIRMATION, u32(remote, channel.local, self.window, self.maximum)))
            elif self.accept_open is None:
                self.raw.send(message(OPEN_FAILURE, u32(remote, 1), string("no"), string("en")))
        elif number == OPEN_CONFIRMATION:
            channel = self.known(fields)
            if channel.open or channel.failure:
                raise Failed("VIOLATION: a second answer to an open")
            channel.remote, channel.credit, channel.peer_maximum = fields.u32(), fields.u32(), fields.u32()
            channel.first_credit = channel.credit
            channel.open = True
        elif number == OPEN_FAILURE:
            channel = self.known(fields)
            channel.failure = (fields.u32(), fields.text(), fields.text())
            del self.channels[channel.local]
        elif number == WINDOW_ADJUST:
            channel = self.known(fields)
            channel.credit += fields.u32()
            channel.adjusts += 1
            if channel.credit > 0xFFFFFFFF:
                raise Failed("VIOLATION: window over 2^32-1")
        elif number == DATA:
            channel = self.known(fields)
            payload = fields.bytes()
            if fields.rest:
                raise Failed("VIOLATION: bytes after the data")
            if channel.got_eof:
                raise Failed("VIOLATION: data after EOF")
            if len(payload) > channel.maximum:
                raise Failed(f"VIOLATION: {len(payload)} bytes in a packet, {channel.maximum} allowed")
            if len(payload) > channel.granted:
                raise Failed(f"VIOLATION: {len(payload)} bytes sent, {channel.granted} of window left")
            channel.granted -= len(payload)
            channel.largest = max(channel.largest, len(payload))
            if self.keep_data:
                channel.received += payload
        elif number == EOF:
            channel = self.known(fields)
            if channel.got_eof:
                raise Failed("VIOLATION: a second EOF")
            channel.got_eof = True
        elif number == CLOSE:
            channel = self.known(fields)
            channel.got_close = True
            self.close(channel)
        elif number == GLOBAL_REQUEST:
            name, reply = fields.text(), fields.bool()
            if name == "ping" and reply:
                self.pings += 1
                if self.answer_pings:
                    self.raw.send(message(REQUEST_SUCCESS, b"pong"))
            elif reply:
                raise Failed(f"VIOLATION: global request {name!r} wants a reply that Go never gives")
        elif number in (REQUEST_SUCCESS, REQUEST_FAILURE):
            self.replies.append(packet)
        elif number == PONG:
            self.pongs.append(fields.bytes())
        elif number in (IGNORE, DEBUG):
            pass
        else:
            self.unknown.append(packet)


# -- HTTP and WebSocket by hand ----------------------------------------------------------------------------------------

SAMPLE_KEY, SAMPLE_ACCEPT = "dGhlIHNhbXBsZSBub25jZQ==", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


def upgrade_request(path="/", host="example.test", method="GET", drop=(), replace=None, extra=(), version="1.1"):
    headers = {"Host": host, "User-Agent": "Go-http-client/1.1", "Connection": "Upgrade", "Sec-WebSocket-Key": SAMPLE_KEY,
               "Sec-WebSocket-Protocol": "chisel-v3", "Sec-WebSocket-Version": "13", "Upgrade": "websocket"}
    headers.update(replace or {})
    lines = [f"{method} {path} HTTP/{version}"]
    lines += [f"{name}: {value}" for name, value in headers.items() if name not in drop]
    return ("\r\n".join([*lines, *extra]) + "\r\n\r\n").encode()


class Response:
    def __init__(self, head, body):
        lines = head.decode("latin-1").split("\r\n")
        self.line = lines[0]
        self.version, self.status = lines[0].split(" ")[0], int(lines[0].split(" ")[1])
        self.headers = [tuple(part.strip() for part in line.split(":", 1)) for line in lines[1:] if line]
        self.body = body

    def header(self, name):
        for each, value in self.headers:
            if each.lower() == name.lower():
                return value
        return None


def read_head(sock, seconds=15):
    """Everything up to and with the empty line, not a byte more."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += receive_exactly(sock, 1, seconds)
        if len(head) > 65536:
            raise Failed("a header of more than 64 KiB")
    return head


def http(sock, request, body=True):
    """One request and its response on a connection that may stay open."""
    sock.sendall(request)
    head = read_head(sock)
    response = Response(head[:-4], b"")
    length = response.header("Content-Length")
    if body and length is not None:
        response.body = receive_exactly(sock, int(length)) if int(length) else b""
    return response


def accept_for(key):
    return base64.b64encode(hashlib.sha1((key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode()).digest()).decode()


def frame(payload, opcode=2, fin=True, masked=True, rsv=0, mask=b"\x11\x22\x33\x44"):
    first = (0x80 if fin else 0) | rsv << 4 | opcode
    bit = 0x80 if masked else 0
    n = len(payload)
    head = bytes([first, bit | n]) if n < 126 else bytes([first, bit | 126]) + struct.pack(">H", n) if n < 65536 \
        else bytes([first, bit | 127]) + struct.pack(">Q", n)
    if not masked:
        return head + payload
    repeated = (mask * (n // 4 + 1))[:n]
    return head + mask + bytes(a ^ b for a, b in zip(payload, repeated))


def read_frame(sock, seconds=15):
    """(opcode, FIN, payload) of the next frame; the sender must not mask (it is a server)."""
    head = receive_exactly(sock, 2, seconds)
    if head[1] & 0x80:
        raise Failed("VIOLATION: a masked frame from a server")
    if head[0] & 0x70:
        raise Failed("VIOLATION: RSV bits set")
    n = head[1] & 0x7F
    if n == 126:
        (n,) = struct.unpack(">H", receive_exactly(sock, 2, seconds))
    elif n == 127:
        (n,) = struct.unpack(">Q", receive_exactly(sock, 8, seconds))
    return head[0] & 0x0F, bool(head[0] & 0x80), receive_exactly(sock, n, seconds) if n else b""


class FrameReader:
    """The byte stream inside a server's frames; control frames are kept apart."""

    def __init__(self, sock):
        self.sock, self.data, self.controls = sock, b"", []

    def step(self, seconds=15):
        opcode, _, payload = read_frame(self.sock, seconds)
        if opcode >= 8:
            self.controls.append((opcode, payload))
        else:
            self.data += payload

    def line(self, seconds=15):
        while b"\n" not in self.data:
            self.step(seconds)
        line, self.data = self.data.split(b"\n", 1)
        return line + b"\n"

    def clear_packet(self, seconds=15):
        """The payload of an unencrypted SSH packet."""
        while len(self.data) < 4 or len(self.data) < 4 + struct.unpack(">I", self.data[:4])[0]:
            self.step(seconds)
        (n,) = struct.unpack(">I", self.data[:4])
        packet, self.data = self.data[4:4 + n], self.data[4 + n:]
        return packet[1:n - packet[0]]


def clear_packet(payload):
    padding = 16 - (5 + len(payload)) % 16
    padding += 16 if padding < 4 else 0
    return struct.pack(">IB", 1 + len(payload) + padding, padding) + payload + bytes(padding)


def kexinit(kex="curve25519-sha256", host_keys="ecdsa-sha2-nistp256,ssh-ed25519", ciphers="aes128-gcm@openssh.com"):
    lists = [kex, host_keys, ciphers, ciphers, "hmac-sha2-256", "hmac-sha2-256", "none", "none", "", ""]
    return bytes([KEXINIT]) + os.urandom(16) + b"".join(string(each) for each in lists) + bytes(5)
