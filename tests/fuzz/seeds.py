#!/usr/bin/env python3
"""Writes the first inputs of every fuzz target to FOLDER/TARGET, from the vectors of docs/wire.md and the RFCs: where a
fuzzer begins. `tools/fuzz --keep` cuts what came of them down to what is kept in tests/fuzz/corpus.

  tests/fuzz/seeds.py build/fuzz/found
"""
import base64
import pathlib
import struct
import subprocess
import sys
import tempfile

if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
    sys.exit(__doc__)
FOLDER = pathlib.Path(sys.argv[1])
counts = {}


def seed(target, *parts):
    data = b"".join(bytes([p]) if isinstance(p, int) else p.encode() if isinstance(p, str) else p for p in parts)
    where = FOLDER / target
    where.mkdir(parents=True, exist_ok=True)
    counts[target] = counts.get(target, 0) + 1
    (where / f"seed-{counts[target]:03}").write_bytes(data)


def u16(n):
    return struct.pack(">H", n)


def u32(n):
    return struct.pack(">I", n & 0xffffffff)


def string(text):
    data = text.encode() if isinstance(text, str) else text
    return u32(len(data)) + data


# ---- HTTP (wire.md 2) ----

UPGRADE = ("GET /some/path?q=1 HTTP/1.1\r\nHost: 127.0.0.1:19081\r\nUser-Agent: Go-http-client/1.1\r\nConnection: Upgrade\r\n"
           "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: chisel-v3\r\nSec-WebSocket-Version: 13\r\n"
           "Upgrade: websocket\r\n\r\n")


def http():
    variants = [
        UPGRADE, UPGRADE.replace("\r\n\r\n", "\r\nBurin-Features: batch, echo , x,cancel-open\r\n\r\n"),
        UPGRADE.replace("GET", "POST"), UPGRADE.replace(": 13", ": 12"), UPGRADE.replace("nonce", "n").replace("bm9uY2U", ""),
        UPGRADE.replace("Connection: Upgrade", "Connection: close"), UPGRADE.replace("chisel-v3", "chisel-v2"),
        UPGRADE.replace("Host", "Hosts"), UPGRADE.replace("HTTP/1.1", "HTTP/2.0"), UPGRADE.replace("\r\n\r\n", "\n\n"),
        UPGRADE.replace("\r\n\r\n", "\r\nContent-Length: 5\r\n\r\n"), "SSH-2.0-OpenSSH_9.2\r\n", "\x16\x03\x01", "\x01",
        "GET /health HTTP/1.1\r\nHost: a\r\n\r\nGET /version HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 1.2.3.4\r\n\r\n",
        "HEAD /health HTTP/1.0\r\nConnection: keep-alive\r\n\r\nGET %2fhealth HTTP/1.0\r\n\r\n",
        "GET http://a/health HTTP/1.1\r\nHost: a\r\nX-Real-IP: \\\x7f1\r\n\r\n", "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /%68ealth HTTP/1.1\r\nHost: a\r\n\r\n", "GET /%zz HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /%6 HTTP/1.1\r\nHost: a\r\n\r\n", "GET x HTTP/1.1\r\nHost: a\r\n\r\n", "GET a://b?c HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", "GET / HTTP/1.1\r\nHost: a\r\n b: c\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nA: b\rc\r\n\r\n", "GET / HTTP/1.1\r\nHost: a\r\nA: b\0c\r\n\r\n",
        "GET /" + "a" * 300 + " HTTP/1.1\r\nHost: a\r\nUpgrade: WebSocket\r\nSec-WebSocket-Protocol: a\\b\x80\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nA: " + "b" * 17000, "GET / HTTP/x.y\r\n\r\n", "",
    ]
    for number, text in enumerate(variants):
        seed("http_request", number % 7, text.encode("latin-1"))
    answer = ("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
              "Sec-WebSocket-Accept: %s\r\n\r\n")
    import hashlib
    right = base64.b64encode(hashlib.sha1(b"AQIDAAAAAAAAAAAAAAAAAA==258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()).decode()
    for text in [answer % right, answer % "x", (answer % right).replace("\r\n\r\n", "\r\nBurin-Features: batch\r\n\r\nab"),
                 (answer % right).replace("101", "200"), (answer % right).replace("Connection", "C"),
                 (answer % right).replace("HTTP/1.1", "HTTP/3.0"), "HTTP/1.1 404 Not Found\r\n\r\n", "HTTP/1.1 101\n\n",
                 "HTTP/1.1 101 x\r\n y\r\n\r\n", "HTTP/1.1 101 " + "x" * 17000, "x"]:
        seed("http_client", 1, text)
    for text in ["http://cloud.example:8080/a/b?c=d e\nA: b\nhost: x\nUser-Agent:", "cloud.example", "https://[::1]:443/\nX-y: z",
                 "[fe80::1%25eth0]:80", "[fe80::1%eth0]", "ftp://a", "a@b", "http://a:0", "http://a:99999", "http://a:x", "http://",
                 "http://a/%41%zz", "http://a/%4", "http://a/<>\"\x80 b", "http://a/ü%41#frag", "a b", "a\x01",
                 "a\nUpgrade: x", "a\nno colon", "a\nb c: d", "a\nb: \x01", "a\nb: c\rd\nB: e\nContent-Length: 5\nTrailer: x",
                 "a?\nUser-Agent: me\nHost: other", "a?x=%"]:
        seed("http_client", 0, text.encode("latin-1", "replace"))


# ---- WebSocket (RFC 6455 5) ----

def frame(op, payload=b"", fin=True, masked=True, key=b"\1\2\3\4", rsv=0, wide=0):
    size = len(payload)
    head = bytes([(0x80 if fin else 0) | rsv << 4 | op])
    bit = 0x80 if masked else 0
    if wide == 8 or size > 65535:
        head += bytes([bit | 127]) + struct.pack(">Q", size)
    elif wide == 2 or size > 125:
        head += bytes([bit | 126]) + u16(size)
    else:
        head += bytes([bit | size])
    if masked:
        head += key
        payload = bytes(b ^ key[i % 4] for i, b in enumerate(payload))
    return head + payload


def websocket():
    streams = []
    for masked in (True, False):
        f = lambda *a, m=masked, **k: frame(*a, masked=m, **k)
        streams += [(masked, s) for s in [
            f(2, b"hello") + f(1, b"world") + f(9, b"ping") + f(10, b"pong") + f(8, u16(1000) + b"bye"),
            f(2, b"a" * 300, fin=False) + f(9, b"x") + f(0, b"b" * 200, fin=False) + f(0, b"c"),
            f(2, b"a" * 5000) + f(2, b"b" * 6000) + f(2, b"c" * 100), f(2, b"a" * 20, wide=2) + f(2, b"b" * 20, wide=8),
            f(2, b"a" * 4000, fin=False) + f(0, b"b" * 4096, fin=False) + f(0, b"c" * 36), f(8), f(8, b"x"), f(8, u16(1005)),
            f(8, u16(3000) + b"\xc3\xbc\xe2\x82\xac\xf0\x9f\x98\x80"), f(8, u16(1000) + b"\xc0\x80"),
            f(8, u16(1000) + b"\xed\xa0\x80"), f(8, u16(1000) + b"\xf4\x90\x80\x80"), f(8, u16(1000) + b"\xe0\x80\x80"),
            f(8, u16(1000) + b"\xf0\x80\x80\x80"), f(8, u16(1000) + b"\xc3("), f(8, u16(1000) + b"\xf5"),
            f(2, b"a", rsv=4), f(3, b"a"), f(11, b"a"), f(0, b"a"), f(2, b"a", fin=False) + f(2, b"b"), f(9, b"a", fin=False),
            frame(9, b"a" * 125, masked=masked) + frame(9, b"b", masked=masked), frame(2, b"a", masked=not masked),
            bytes([0x89, 0xfe if masked else 0x7e]), bytes([0x82, 0xff if masked else 0x7f]) + b"\xff" * 12,
            f(2, b"") + f(2, b"") + f(2, b"z"), f(2, b"q" * 400) + f(2, b"q" * 400)]]
    for number, (masked, stream) in enumerate(streams):
        for what in ((0, 2, 4, 6) if masked else (1, 3, 5)):
            seed("websocket", what, (number * 5 + what) & 0xff, stream)
    for size in (0, 1, 5, 200, 2000):
        for client in (0, 1):
            seed("websocket", 7, size & 255, client, b"\1\2\3\4", b"p" * size)


# ---- gob (wire.md 9.2) ----

def gob_uint(n):
    if n < 128:
        return bytes([n])
    data = n.to_bytes((n.bit_length() + 7) // 8, "big")
    return bytes([256 - len(data)]) + data


def gob_int(n):
    return gob_uint(2 * n if n >= 0 else 2 * ~n + 1)


def gob_text(text):
    return gob_uint(len(text)) + text.encode()


def message(body):
    return gob_uint(len(body)) + body


def gob():
    definition = bytes.fromhex("2a7f03010109756470 5061636b657401ff8000010201035372 63010c000107 5061796c6f6164010a000000")
    def record(source, payload):
        body = b"\xff\x80"
        if source:
            body += b"\1" + gob_text(source)
        if payload:
            body += (b"\1" if source else b"\2") + gob_uint(len(payload)) + payload
        return message(body + b"\0")
    records = (record("127.0.0.1:5000", b"hello") + record("127.0.0.1:5000", b"") + record("", b"x") + record("", b"") +
               record("[::1]:5000", b"\xaa" * 127) + record("[::1]:5000", b"\xaa" * 128) + record("1.2.3.4:65535", b"b" * 1400))
    # A record of another program, with fields of every kind that are passed over.
    def common(number):
        return b"\1\1" + gob_text("t") + b"\1" + gob_int(number) + b"\0"
    def field(name, kind):
        return b"\1" + gob_text(name) + b"\1" + gob_int(kind) + b"\0"
    def define(number, what, body):
        return message(gob_int(-number) + gob_uint(what) + body + b"\0\0")
    kinds = [1, 2, 3, 4, 5, 6, 7, 65, 66, 67, 68, 69]
    other = (define(65, 1, common(65) + b"\1" + gob_int(2) + b"\1" + gob_int(3)) +
             define(66, 2, common(66) + b"\1" + gob_int(6)) + define(67, 4, common(67) + b"\1" + gob_int(6) + b"\1" + gob_int(2)) +
             define(68, 3, common(68) + b"\1" + gob_uint(1) + field("A", 2)) + define(69, 5, common(69)) +
             define(64, 3, common(64) + b"\1" + gob_uint(2 + len(kinds)) + field("Src", 6) +
                    b"".join(field(f"F{k}", k) for k in kinds) + field("Payload", 5)))
    values = [b"\1", gob_int(-5), gob_uint(300), b"\xfe\xf0\x3f", gob_text("raw"), gob_text("text"), b"\1\2",
              gob_uint(3) + b"\2\4\6", gob_uint(2) + gob_text("a") + gob_text("b"), gob_uint(1) + gob_text("k") + b"\2",
              b"\1\2\0", gob_text("opaque")]
    alien = other + message(gob_int(64) + b"\1" + gob_text("1.2.3.4:5") + b"".join(b"\1" + v for v in values) +
                            b"\1" + gob_text("payload") + b"\0")
    for cuts in (0, 1, 2, 7):
        seed("gob", 1, cuts, records)
        seed("gob", 0, cuts, definition, records)
        seed("gob", 0, cuts, alien)
    for bad in [b"\xf0", b"\xfc\xff\xff\xff\xff", b"\xfd\x02\x00\x00", definition + definition, define(63, 3, common(63)),
                define(64, 3, common(65)), define(64, 3, b"\1" + gob_uint(40)), define(64, 9, b""), message(b"\xff\x80\0"),
                define(64, 3, common(64) + b"\1" + gob_uint(1) + field("Src", 5)) + message(b"\xff\x80\0"),
                define(64, 3, common(64) + b"\1" + gob_uint(1) + field("Payload", 6)), define(64, 2, common(64) + b"\1\4"),
                define(64, 3, common(64) + b"\1" + gob_uint(1) + field("A", 2)) + message(b"\xff\x80\0"),
                definition + message(b"\xff\x80\3"), definition + message(b"\xff\x80\x21"), define(64, 2, common(64) + b"\5\4"),
                definition + message(b"\xff\x80\1" + gob_text("s" * 300) + b"\0"), message(b"\xfb\1\1\1\1\1")]:
        seed("gob", 0, 1, bad)
    deep = define(70, 2, common(70) + b"\1" + gob_int(70)) + define(64, 3, common(64) + b"\1" + gob_uint(2) + field("Src", 6) +
                                                                     field("D", 70))
    seed("gob", 0, 0, deep + message(gob_int(64) + b"\2" + b"\1" * 20 + b"\0\0"))
    for size in (1, 100, 700):
        seed("gob", 3, 0, 9, b"1.2.3.4:5", u16(99), b"d" * size)


# ---- frames (RFC 791, 8200, 9293, 768, 792, 4443) ----

V4 = bytes([10, 5, 0, 2]), bytes([10, 77, 0, 1])
V6 = bytes.fromhex("fd000005" + "00" * 11 + "02"), bytes.fromhex("fd000077" + "00" * 11 + "01")


def ip4(protocol, payload, options=b"", place=0, ends=V4, ttl=63):
    head = bytes([0x45 + len(options) // 4, 2]) + u16(20 + len(options) + len(payload)) + u16(0x1c46) + u16(place)
    return head + bytes([ttl, protocol, 0, 0]) + ends[0] + ends[1] + options + payload


def ip6(protocol, payload, ends=V6, hops=63):
    return b"\x60\x20\0\0" + u16(len(payload)) + bytes([protocol, hops]) + ends[0] + ends[1] + payload


def tcp(flags, payload=b"", options=b""):
    return (u16(40000) + u16(443) + u32(1000) + u32(2000) + bytes([(20 + len(options)) // 4 << 4, flags]) + u16(64240) + u32(0) +
            options + payload)


def udp(payload, length=None, checksum=1):
    return u16(5353) + u16(53) + u16(8 + len(payload) if length is None else length) + u16(checksum) + payload


def icmp(kind, code=0, rest=b"\0\1\0\2", payload=b""):
    return bytes([kind, code, 0, 0]) + rest + payload


def frames():
    plain = bytes(10)
    choice = bytes(range(24))
    all_options = b"\2\4\5\xb4" + b"\1\1\4\2" + b"\1\3\3\x0f" + b"\1\1\x08\x0a" + u32(1) + u32(2)
    sack = b"\1\1\5\x12" + u32(2100) + u32(2200) + u32(2300) + u32(2400)
    quoted4 = ip4(6, tcp(16)[:8], ends=V4[::-1])
    quoted6 = ip6(17, udp(b"x")[:8], ends=V6[::-1])
    packets = []
    for ip, number in ((ip4, 1), (ip6, 58)):
        packets += [ip(6, tcp(2, options=all_options)), ip(6, tcp(16, b"data", sack)), ip(6, tcp(4)), ip(6, tcp(0x11, b"x")),
                    ip(6, tcp(16, options=b"\0\0\0\0")), ip(6, tcp(16, options=b"\2\0\0\0")), ip(6, tcp(16, options=b"\1\1\1\2")),
                    ip(6, tcp(16)[:19]), ip(6, tcp(16)[:12] + b"\x40" + tcp(16)[13:]), ip(6, b"\0\0" + tcp(16)[2:]),
                    ip(6, tcp(16, options=b"\x22\4\0\0")), ip(17, udp(b"query")), ip(17, udp(b"query", 4)), ip(17, udp(b"q", 99)),
                    ip(17, udp(b"q", checksum=0)), ip(17, b"\0\0" + udp(b"q")[2:]), ip(17, b"123"), ip(number, b"123"),
                    ip(132, b"sctp"), ip(6, tcp(16, b"p" * 1200))]
    packets += [ip4(1, icmp(8, payload=b"ping" * 20)), ip4(1, icmp(0)), ip4(1, icmp(3, 4, u32(1400), quoted4)),
                ip4(1, icmp(3, 3, u32(0), quoted4)), ip4(1, icmp(3, 1, u32(0), quoted4)), ip4(1, icmp(3, 4, u32(0), quoted4)),
                ip4(1, icmp(11, 0, u32(0), quoted4)), ip4(1, icmp(4, 0, u32(0), quoted4)), ip4(1, icmp(3, 0, u32(0), quoted4[:10])),
                ip4(1, icmp(3, 0, u32(0), b"\x44" + quoted4[1:])), ip4(1, icmp(12, 0, u32(0), quoted4[:24])),
                ip4(1, icmp(3, 0, u32(0), ip4(1, icmp(8), ends=V4[::-1]))), ip4(1, icmp(13)), ip4(58, icmp(128)),
                ip6(58, icmp(128, payload=b"ping")), ip6(58, icmp(2, 0, u32(1400), quoted6)), ip6(58, icmp(1, 4, u32(0), quoted6)),
                ip6(58, icmp(1, 0, u32(0), quoted6)), ip6(58, icmp(3, 0, u32(0), quoted6)), ip6(58, icmp(4, 1, u32(6), quoted6)),
                ip6(58, icmp(137)), ip6(58, icmp(2, 0, u32(100), quoted6)), ip6(58, icmp(1, 0, u32(0), quoted6[:20])),
                ip6(58, icmp(1, 0, u32(0), b"\x40" + quoted6[1:])), ip6(1, icmp(8)), ip6(59, b""), ip6(58, icmp(200)),
                ip6(58, icmp(1, 0, u32(0), ip6(58, icmp(128), ends=V6[::-1]))),
                ip6(58, icmp(1, 0, u32(0), ip6(6, tcp(16), ends=(V6[1], bytes(10) + b"\xff\xff" + V4[0])))),
                ip4(6, tcp(16), options=b"\1\1\1\0"), ip4(17, b"part" * 4, place=0x2000), ip4(17, b"part" * 4, place=0x2004),
                ip4(17, udp(b"x"), ttl=1), ip6(17, udp(b"x"), hops=1), ip4(6, tcp(16), ends=(bytes(4), V4[1])),
                ip4(6, tcp(16), ends=(V4[0], b"\xe0\0\0\1")), ip4(6, tcp(16), ends=(V4[0], b"\x7f\0\0\1")),
                ip6(6, tcp(16), ends=(V6[0], b"\xff\2" + bytes(14))), ip6(6, tcp(16), ends=(b"\xfe\x80" + bytes(14), V6[1])),
                ip6(6, tcp(16), ends=(bytes(16), V6[1])), b"\x45" + bytes(5), b"\x60" + bytes(5), b"\x50" + bytes(60),
                b"\x44" + ip4(6, tcp(16))[1:], ip4(6, tcp(16))[:-4], ip6(6, tcp(16))[:-4]]
    hop = lambda after, size=8, rest=b"": (bytes([after, size // 8 - 1]) + rest).ljust(size, b"\0")
    packets += [ip6(0, hop(60) + hop(6, 16) + tcp(16, b"x")), ip6(60, hop(0) + hop(6) + tcp(16)), ip6(43, hop(6, 24, b"\0\1") + tcp(16)),
                ip6(43, hop(6, 24, b"\0\0") + tcp(16)), ip6(44, bytes([17, 0]) + u16(1) + u32(7) + b"part" * 4),
                ip6(44, bytes([17, 0]) + u16(0) + u32(7) + udp(b"whole")), ip6(60, b"".join(hop(60) for _ in range(9))),
                ip6(60, hop(6)[:4]), ip6(60, bytes([6, 9]) + bytes(6)), ip6(60, hop(58, 40) + icmp(128, payload=b"x"))]
    for number, packet in enumerate(packets):
        seed("tun_frame", 3, bytes([number]) + choice[1:], plain + packet)
    for flags, kind, size in ((1, 1, 1000), (2, 0, 0), (1, 4, 1000), (1, 5, 500)):
        virtio = bytes([flags, kind]) + u16(0) + struct.pack("<H", size) + u32(0)
        seed("tun_frame", 1, choice, virtio, ip4(6, tcp(16, b"p" * 2100)) if kind < 5 else ip4(17, udp(b"p" * 1100)))
        seed("tun_frame", 1, bytes([2, 2] + [9] * 22), virtio, ip6(6, tcp(16, b"p" * 2100)))
        seed("tun_frame", 3, bytes([7] * 24), virtio, ip4(6, tcp(16, b"p" * 2100)))
    seed("tun_frame", 0, choice, plain + packets[0])

    part = lambda who, offset, size, kind=8: bytes([kind, who]) + u16(offset // 8) + bytes([size // 8 - 1])
    for v6 in (0, 32):
        more, last = 4 | 1 | v6, 4 | v6
        seed("tun_fragments", 0, part(more, 0, 1000), part(more, 1000, 1000), part(last, 2000, 400))
        seed("tun_fragments", 0, part(last, 2000, 400), part(more, 1000, 1000), part(more, 0, 1000))
        seed("tun_fragments", 0, part(more, 0, 1000), part(more, 0, 1000), part(more, 500, 1000), part(last, 2000, 400))
        seed("tun_fragments", 0, *[part(more | n << 3 & 24 | (n >> 2) << 6, 0, 1800) for n in range(16)], 0, 255)
        seed("tun_fragments", 0, *[part(more, 8 * n, 8) for n in range(9)], 0, 200, 0, 200, part(last, 80, 8))
        seed("tun_fragments", 0, part(2 | v6, 8, 8), part(2 | 1 | v6, 0, 8), bytes([2, more]) + u16(0) + b"\1\3")
        seed("tun_fragments", 0, part(last, 16, 8), part(more, 16, 8), part(last, 8, 8), part(more, 24, 8))
        seed("tun_fragments", 0, bytes([1, last]) + u16(8180) + b"\xff", bytes([3, more]) + u16(0) + b"\7\1")
        seed("tun_fragments", 0, *[part(more | n << 3, 0, 2000, 8) for n in range(4)] * 3)
    for v6 in (0, 1):
        for size in (0, 10, 1200, 3000, 8999):
            seed("tun_fragments", 7, v6, u16(size % 1500), u16(size))


# ---- SSH ----

def name_list(text):
    return string(text)


def kexinit(kex="curve25519-sha256,curve25519-sha256@libssh.org,kex-strict-s-v00@openssh.com,kex-strict-c-v00@openssh.com",
            keys="ecdsa-sha2-nistp256,ssh-ed25519", ciphers="aes128-gcm@openssh.com,aes256-gcm@openssh.com", compression="none",
            follows=0):
    return (bytes([20]) + bytes(16) + string(kex) + string(keys) + string(ciphers) * 2 + string("hmac-sha2-256") * 2 +
            string(compression) * 2 + string("") * 2 + bytes([follows]) + u32(0))


def packet(payload):
    padding = 16 - (5 + len(payload)) % 16
    padding += 16 if padding < 4 else 0
    return u32(1 + len(payload) + padding) + bytes([padding]) + payload + bytes(padding)


def ssh():
    for what in range(8):
        for variant in [kexinit(), kexinit(kex="diffie-hellman-group14-sha256"), kexinit(keys="ssh-rsa"), kexinit(ciphers="aes128-ctr"),
                        kexinit(compression="zlib"), kexinit(follows=1), kexinit(kex=""), kexinit(keys=",,ssh-ed25519"),
                        kexinit(kex="\x01\xff"), kexinit()[:-1], kexinit() + b"x", b"\x14", b"\x15" + kexinit()[1:]]:
            seed("ssh_kexinit", what, variant)
    mixed = string("aes128-gcm@openssh.com") + string("none")
    seed("ssh_kexinit", 0, bytes([20]) + bytes(16) + string("curve25519-sha256") + string("ssh-ed25519,ecdsa-sha2-nistp256") + mixed +
         string("") * 2 + string("none") * 2 + string("") * 2 + b"\0" + u32(0))

    stream = packet(b"\2ignore") + packet(b"\x14" + b"k" * 100) + packet(b"x")
    for limit in range(4):
        for what in (2, 3):
            seed("ssh_packet", what, limit, limit, stream)
    for bad in [u32(5) + bytes(20), u32(13) + bytes(20), u32(12) + b"\3" + bytes(20), u32(12) + b"\x0b" + bytes(20), u32(300000),
                packet(b"a")[:-3]]:
        seed("ssh_packet", 2, 1, 1, bad)
    for which in range(64):
        seed("ssh_packet", 0, which, 5, u16(which * 700), which % 16, b"\1", b"payload " * (which % 9))
        seed("ssh_packet", 0, which, 5, u16(which * 700), which % 16, b"\0", b"payload " * 300)
    for kind in (0, 1):
        for size in (8, 16, 40, 200, 70000):
            seed("ssh_packet", 1, kind, 3, 1, u32(size), b"f" * min(size + 32, 3000))

    # Scripts of ssh_transport: role, dialect and openness, then what happens.
    raw = lambda data: bytes([0, len(data)]) + data
    say = lambda data: bytes([1, len(data) - 1]) + data
    line, cut, hear = b"\2", b"\7\1", b"\x08\xff"
    login = lambda how: bytes([5, how])
    exchange = lambda how: bytes([4, how])
    own = lambda how: bytes([6, how])
    for how in range(16):
        server = how & 1
        welcome = login(0) if server else login(1) + login(2)
        seed("ssh_transport", how, exchange(1), welcome, login(4) if server else b"", own(0), own(1), 3, b"\x50ab", own(6), hear,
             say(b"\x50\0\0\0\4ping\1"), say(b"\xc0\0\0\0\1x"), say(b"\xc1"), say(b"\x96"), say(b"\2"), say(b"\3" + u32(1)),
             say(b"\4\1" + string("debug") + string("")), own(2), hear)
        seed("ssh_transport", how, cut, exchange(6), login(9), welcome, login(5), login(5), login(6), login(8), login(3), login(7), hear)
        seed("ssh_transport", how, exchange(8), welcome, say(b"\1" + u32(11) + string("bye") + string("")))
        seed("ssh_transport", how, exchange(2), login(0), login(10), login(9), login(1), login(10), login(11), login(2))
        seed("ssh_transport", how, exchange(0), login(1), login(9), login(9), login(11))
        seed("ssh_transport", how, line, say(kexinit()[:250]), say(b"\x1e" + string(b"k" * 32)), hear)
        seed("ssh_transport", how, line, 3, bytes([1, 0, 1, 5, 2, 7, 8, 2, 7, 8, 1, 5, 1, 5, 1, 9, 1, 9, 0, 0, 1, 0]),
             say(b"\x1e" + string(b"k" * 32)), say(b"\x1f" + string(b"") * 3), say(b"\x15"), hear)
        seed("ssh_transport", how, line, say(b"\2"), say(b"\x15"))
        seed("ssh_transport", how, raw(b"SSH-2.0-x\r\n"), raw(b"nonsense\n"))
        seed("ssh_transport", how, raw(b"SSH-" + b"x" * 250), raw(b"x" * 100))
        seed("ssh_transport", how, raw(b"HTTP"), own(2), hear)
        seed("ssh_transport", how, line, raw(packet(b"\x14")[:9]), raw(u32(40000)))
        seed("ssh_transport", how, exchange(1), own(4), login(0), login(5), own(3), login(5), own(3), *[login(5)] * 8)
        seed("ssh_transport", how, exchange(1), login(0), *[login(3)] * 140)
        seed("ssh_transport", how, exchange(1), login(0), 9, u16(39000), 3, b"\x32\0\0", 9, u16(20000), 0)
        for body in [b"\x05" + string("shell"), b"\x05" + string("ssh-userauth") + b"x", b"\x07" + u32(9), b"\x32" + string("u"), b"\x32" +
                     string("u") + string("ssh-connection") + string("password") + b"\1" + string("a") + string("b"),
                     b"\x32" + string("u") + string("x") + string("none"), b"\x32" + string("u") + string("ssh-connection") +
                     string("none") + b"x", b"\x32" + string("u") + string("ssh-connection") + string("publickey") + b"\0",
                     b"\x32" + string("u") + string("ssh-connection") + string("keyboard-interactive")]:
            seed("ssh_transport", how, exchange(1), login(0) if body[0] != 5 and body[0] != 7 else b"", say(body), hear)
        seed("ssh_transport", how, exchange(1), welcome, login(4), say(kexinit()[:250]), say(b"\x15"), say(b"\x50"), hear)
    for how in range(16):
        op = lambda what, side: bytes([what << 1 | side])
        everything = b"".join(op(1, s) + b"\5" + op(6, s) + b"\x40\2" for s in (0, 1))
        seed("ssh_session", how, everything, op(2, 0), everything, op(7, 0), b"\0", op(2, 1), op(2, 0), everything, op(7, 0), b"\0", everything)
        seed("ssh_session", how, *[everything] * 12, op(7, 1), b"\0")
        for side in (0, 1):
            inject = lambda data, s=side: op(0, s) + bytes([len(data) - 1]) + data
            for data in [b"\x01" + u32(2) + string("x") + string(""), b"\2", b"\3" + u32(9), b"\4\1" + string("d"), b"\x14", b"\x15", b"\x1e",
                         b"\x32", b"\x50", b"\x96", b"\xc0abc", b"\xc1", b"\0", kexinit()[:250]]:
                seed("ssh_session", how, op(5, side ^ 1), b"\1", everything, inject(data), everything, op(7, 0), b"\0", everything)
            seed("ssh_session", how, op(2, side), op(6, side), b"\x40\2", inject(b"\x50x"), op(4, side), b"\3\x50ab", op(7, side), b"\6" + u16(77 * side + how) + b"\1",
                 op(7, 0), b"\0")
            seed("ssh_session", how, op(2, side), op(7, side), b"\7",
                 op(7, 0), b"\0", op(4, side), b"\3\x50ab")

    opens = lambda sender, window, size=3: bytes([1, sender, window, size])
    flush, take = bytes([13, 255]), bytes([22, 0, 0, 0])
    for cancel in (0, 1):
        seed("ssh_channel", cancel, opens(0, 5), opens(1, 3), bytes([3, 0]) + u16(9000), take, flush, bytes([18, 0, 200, 19, 0]) + u16(30000),
             flush, bytes([6, 1]) + u16(5000), flush, bytes([20, 0]), flush, bytes([8, 0, 9, 0]), flush, bytes([21, 1, 0]), flush)
        seed("ssh_channel", cancel, bytes([12, 12, 12]), bytes([11, 3, 11, 0, 11, 1]), bytes([18, 0, 9]), flush, bytes([7, 0]), flush,
             bytes([23, 0]) + u16(60000), bytes([21, 0, 1]), flush)
        seed("ssh_channel", cancel, opens(0, 2), opens(1, 1), opens(2, 2), bytes([15, 0, 15, 1]), bytes([16]), opens(3, 6), flush, bytes([17]),
             bytes([11, 0]), bytes([10, 0, 1, 10, 0, 0]), bytes([5, 0]) + u16(100), flush)
        seed("ssh_channel", cancel, *[opens(n, 5) for n in range(14)], opens(15, 5, 0), flush, *[bytes([3, n]) + u16(16000) + bytes([22, n, 0, 0])
             + flush for n in range(12)], bytes([14, 3]), flush)
        seed("ssh_channel", cancel, opens(0, 4, 1), *[bytes([18, 0, 50])] * 6, bytes([14, 1]), flush, bytes([19, 0]) + u16(60000), bytes([13, 1]),
             bytes([14, 1]), bytes([18, 0, 9, 18, 0, 9, 14, 2]), flush, flush)
        grow = b"".join(bytes([3, 0]) + u16(16000) + bytes([22, 0, 0, 0]) + flush for _ in range(20))
        seed("ssh_channel", cancel, opens(0, 5), grow)
        seed("ssh_channel", cancel, bytes([12, 21, 0, 1]), bytes([11, 3]), flush, bytes([12, 21, 0, 1]), bytes([11, 0]), flush)
        seed("ssh_channel", cancel, bytes([12, 20, 0]), bytes([11, 3]), flush)
        cancel_open = b"\x50" + string("cancel-open@burin") + b"\0"
        raws = [b"\x5a" + string("chisel") + u32(5) + u32(78) + u32(32768), cancel_open + u32(5), cancel_open, b"\x5e" + u32(0) + string("data"),
                b"\x5e" + u32(9) + string("data"), b"\x5e" + u32(0) + string("data") + b"x", b"\x5e", b"\x5d" + u32(0) + u32(0xffffffff),
                b"\x5d", b"\x60" + u32(0), b"\x60", b"\x61" + u32(0), b"\x61", b"\x5b" + u32(0) * 4, b"\x5b", b"\x5c" + u32(0) * 2 + string("") * 2,
                b"\x5c", b"\x5f" + u32(0) + u32(1) + string("err"), b"\x5f", b"\x62" + u32(0) + string("x") + b"\1", b"\x62", b"\x63" + u32(0),
                b"\x64" + u32(0), b"\x50", b"\x51pong", b"\x52", b"\x5a", b"\x65", b"\x5d" + u32(0) + u32(1)]
        for data in raws:
            raw_op = bytes([0, len(data) - 1]) + data
            seed("ssh_channel", cancel, opens(0, 5), raw_op, flush)
            seed("ssh_channel", cancel, bytes([12]), raw_op, flush)
            seed("ssh_channel", cancel, opens(0, 5), bytes([21, 0, 0]), raw_op, flush)
            seed("ssh_channel", cancel, opens(5, 2), raw_op, flush)
            seed("ssh_channel", cancel, opens(0, 5), bytes([8, 0]), raw_op, raw_op, flush)


# ---- keys ----

def keys():
    with tempfile.TemporaryDirectory() as scratch:
        def run(*command):
            subprocess.run(command, cwd=scratch, check=True, capture_output=True)
        def content(name):
            return (pathlib.Path(scratch) / name).read_bytes()
        lines = []
        for kind, bits in (("ed25519", ""), ("ecdsa", "256"), ("ecdsa", "384"), ("ecdsa", "521"), ("rsa", "1024")):
            name = kind + bits
            run("ssh-keygen", "-q", "-t", kind, *(["-b", bits] if bits else []), "-N", "", "-C", "a comment", "-f", name)
            seed("key_file", 3, content(name))
            lines.append(content(name + ".pub"))
            blob = base64.b64decode(lines[-1].split()[1])
            seed("key_file", 0, len(blob) & 255, blob[:255], 40, string(kind) + string("s" * 20), b"data")
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "secret", "-f", "locked")
        seed("key_file", 3, content("locked"))
        seed("key_file", 3, content("ed25519").replace(b"-----END", b"----END"))
        for name, command in {"sec1": "ecparam -name prime256v1 -genkey -noout", "p384": "ecparam -name secp384r1 -genkey -noout",
                              "ed": "genpkey -algorithm ed25519", "x": "genpkey -algorithm x25519", "r": "genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:1024",
                              "l": "genpkey -aes128 -pass pass:x -algorithm ed25519"}.items():
            run("openssl", *command.split(), "-out", name)
            seed("key_file", 3, content(name))
        run("openssl", "pkcs8", "-topk8", "-nocrypt", "-in", "sec1", "-out", "pkcs8")
        seed("key_file", 3, content("pkcs8"))
        run("openssl", "ec", "-in", "sec1", "-pubout", "-out", "public")
        seed("key_file", 3, content("public"))
        run("openssl", "dgst", "-sha256", "-sign", "sec1", "-out", "signature", "public")
        ck = ("ck-MHcCAQEEIOEOn3c31McTVQbnfTMEU92FSlCoHfMx3T7Egyrg3X4zoAoGCCqGSM49AwEHoUQDQgAE7iUAhxg7JqKNgq6XmiAox/E02C1i6UT893ryLgN"
              "xG2al/Yk7B1pEHh1b5drLe4SK0g0jj1c6RnFqk/9NY+K3hw")
        for text in (ck, ck + "\n", ck[:-1], ck + "=", "ck-AAAA", "ck-!", "-----BEGIN x", "nonsense", "", " " * 70000):
            seed("key_file", 3, text)
        blob = base64.b64decode(lines[0].split()[1])
        import hashlib
        sha = base64.b64encode(hashlib.sha256(blob).digest()).decode()
        md5 = ":".join(f"{b:02x}" for b in hashlib.md5(blob).digest())
        for text in (sha, sha[:-1], md5, md5[:5], "", "AAAA", "x\n"):
            seed("key_file", 1, len(blob), blob, text)
        for data in (b"", b"a", b"ab", b"abc", b"QUJD", b"QUI=", b"QQ==", b"Q\r\nQ==", b"Q===", b"Q!", b"QUJD="):
            seed("key_file", 2, data)
        ed = lines[0].decode().strip()
        signed_keys(scratch, run)
        for text in [ed, "\n# c\n\t" + ed + "\r\n", "no-pty " + ed, 'command="a \\" b",restrict ' + ed, lines[1].decode() + lines[2].decode(),
                     lines[4].decode(), "ssh-ed25519 AAAA", "ssh-ed25519", "ssh-ed25519 !", "nonsense", "sk-ssh-ed25519@openssh.com x",
                     ed.replace("ssh-ed25519", "ecdsa-sha2-nistp256"), ed[:60], lines[3].decode().replace("nistp521", "nistp256"), "\x01 \xff"]:
            seed("authorized_keys", text.encode("latin-1"))


def signed_keys(scratch, run):
    """Right signatures, which no fuzzer finds: by OpenSSL, in SSH's form."""
    for curve, name, digest, field in (("prime256v1", "nistp256", "sha256", 32), ("secp384r1", "nistp384", "sha384", 48),
                                       ("secp521r1", "nistp521", "sha512", 66)):
        run("openssl", "ecparam", "-name", curve, "-genkey", "-noout", "-out", "k")
        run("openssl", "ec", "-in", "k", "-pubout", "-outform", "DER", "-out", "pub")
        pathlib.Path(scratch, "m").write_bytes(b"data")
        run("openssl", "dgst", "-" + digest, "-sign", "k", "-out", "s", "m")
        point = pathlib.Path(scratch, "pub").read_bytes()[-(1 + 2 * field):]
        der = pathlib.Path(scratch, "s").read_bytes()
        at = 3 if der[1] & 0x80 else 2
        first = der[at + 2:at + 2 + der[at + 1]]
        at += 2 + der[at + 1]
        second = der[at + 2:at + 2 + der[at + 1]]
        algorithm = "ecdsa-sha2-" + name
        blob = string(algorithm) + string(name) + string(point)
        signature = string(algorithm) + string(string(first) + string(second))
        seed("key_file", 0, len(blob), blob, len(signature), signature, b"data")
        seed("key_file", 0, len(blob), blob, len(signature), signature, b"other")
        zero = string(algorithm) + string(string(b"") + string(second))
        seed("key_file", 0, len(blob), blob, len(zero), zero, b"data")
    run("openssl", "genpkey", "-algorithm", "ed25519", "-out", "k")
    run("openssl", "pkey", "-in", "k", "-pubout", "-outform", "DER", "-out", "pub")
    run("openssl", "pkeyutl", "-sign", "-inkey", "k", "-rawin", "-in", "m", "-out", "s")
    blob = string("ssh-ed25519") + string(pathlib.Path(scratch, "pub").read_bytes()[-32:])
    signature = string("ssh-ed25519") + string(pathlib.Path(scratch, "s").read_bytes())
    seed("key_file", 0, len(blob), blob, len(signature), signature, b"data")


# ---- text ----

def text():
    for remote in """3000|example.com:3000|3000:google.com:80|192.168.0.5:3000:google.com:80|1:2|host:1:2|localhost:3000:localhost:4000|socks
5000:socks|R:2222:localhost:22|R:socks|R:5000:socks|stdio:example.com:22|stdio:22|1.1.1.1:53/udp|5353:1.1.1.1:53/udp|5353/udp:1.1.1.1:53/udp
5353/udp:1.1.1.1:53|[::1]:8080:google.com:80|R:[::]:3000:[::1]:3000|::1:3000|3000:|stdio|53/UDP|080|+80|0|65536|foo|a:b:c:d:e|R:|ho st:80
3000:socks:80|R:stdio:22|socks/udp|5000/udp:socks|[|[]:80|a]:80|80/tcp:a:80/tcp""".replace("\n", "|").split("|"):
        seed("remote", 0, remote)
    for target in ("host:80", "[::1]:80", "Host:80/UDP", "host:80/tcp", "socks", ":80", "a:b:80", "[fe80::1%eth0]:80", "[fe80::1%1]:80", "h:0",
                   "h:65536", "h:8x", "h", "h:80/foo", "a b:80", "x" * 600 + ":80", "1.2.3.4:80/udp", "a/b:80", ""):
        seed("remote", 1, target)
    one = ('{"LocalHost":"0.0.0.0","LocalPort":"2222","LocalProto":"tcp","RemoteHost":"localhost","RemotePort":"22","RemoteProto":"tcp",'
           '"Socks":false,"Reverse":true,"Stdio":false}')
    for json in ('{"Version":"1.11.5","Remotes":[%s,%s]}' % (one, one), '{"version":"v1.12.0","REMOTES":null}', "{}", "null", "[]", "x", "",
                 '{"Version":5}', '{"Remotes":{}}', '{"Remotes":[1]}', '{"Remotes":[null,{}]}', '{"Remotes":[{"Socks":1}]}',
                 '{"Remotes":[{"socks":null,"LocalHost":null,"LOCALPORT":7}]}', '{"Version":"a\\u2028\\u2029<>&\\n\\r\\t\\"\\\\\\u0001\\ud83d\\ude00"}',
                 '{"Version":"0.0.0-src","Other":[[[{}]]]}', '{"Version":"1."}', '{"Version":"x"}', '{"Version":"1.12"}', "[" * 3000,
                 '{"Version":"é€"}', '{"Version":"\\u0000"}', '{"Remotes":[' + ",".join(["null"] * 800) + "]}"):
        seed("remote", 2, json)
    seed("remote", 2, b'{"Version":"\xff\xc3"}')
    for duration in ("25s", "1h30m", "100ms", "1.5h", "-3us", "+7\u00b5s", "1\u03bcs", "5ns", "0", "", "-", ".s", "1", "1x", "9223372036s", "99999999h",
                     "1.000000001s", ".5m", "850.3\u00b5s", "99999999999999999999s", "1h1h1h"):
        seed("settings_text", 0, duration.encode())
    for size in ("256M", "1GiB", "10KB", "5", "1T", "7b", "", "x", "1Q", "1KX", "18446744073709551616", "18446744073709551615K", "99999999999", "1g"):
        seed("settings_text", 1, size)
    for number in (0, 999, 1000, 9995, 99950, 999500, 10**12, 2**63):
        seed("settings_text", 1, u32(number >> 32), 32 if number >> 32 else 0, u32(number))
    for address in ("1.2.3.4", "::1", "fe80::1%1", "fe80::1%lo", "fe80::1%", "1.2.3", "::ffff:1.2.3.4", "2001:db8::1", "127.0.0.1", "a", "",
                    "1.2.3.4%1", "fe80::1%nosuch", "x" * 60, "fe80::2%99"):
        seed("settings_text", 2, address)
    for prefix in ("10.9.0.1/24", "10.0.0.0/8", "10.0.0.1/8", "0.0.0.0/0", "::/0", "fd00::1/64", "fd00::/64", "10.0.0.0/33", "10.0.0.0/x", "127.0.0.1/8",
                   "224.0.0.0/4", "10.0.0.255/24", "10.0.0.0/24", "10.0.0.1", "::1", "ff00::/8", "10.0.0.1/31", "10.0.0.0/", "a/8", "0.0.0.0", "::",
                   "fd00::/129", "126.0.0.0/7", "192.0.0.0/2", "10.0.0.1/032", "\x01" * 70):
        seed("settings_text", 3, prefix)
    for cut in ("0.0.0.0/0,10.0.0.0/8,192.168.1.0/24", "10.0.0.0/8,10.0.0.0/8", "10.0.0.0/8,0.0.0.0/0", "::/0,fd00::/8", "10.0.0.0/8,fd00::/8",
                "10.0.0.0/8,10.1.0.0/16,10.1.2.0/24,10.255.255.255/32", "10.0.0.0/8"):
        seed("settings_text", 4, cut)
    request4 = u16(11) + b"\4" + u32(1) + bytes([10, 77, 0, 1]) + b"\xaa\xbb"
    request6 = u16(22) + b"\6" + u32(2) + V6[1] + b"x"
    answers = b"".join(u16(5 + (k == 128) * 2) + bytes([k]) + u32(k) + b"ab" * (k == 128) for k in (128, 129, 130, 131, 7))
    for cuts in (0, 1, 2, 5):
        seed("echo_wire", cuts, request4, request6, answers)
    for bad in (u16(4), u16(9022), u16(5) + b"\4" + u32(1), u16(7) + b"\6" + u32(1) + b"ab", u16(21) + b"\6" + u32(1) + bytes(10) + b"\xff\xff" + V4[0],
                u16(9010) + b"\x80" + u32(1) + b"d" * 9005, u16(9005) + b"\x80" + u32(1) + b"d" * 9000):
        seed("echo_wire", 0, request4, bad, request4)
        seed("echo_wire", 2, bad)


# ---- the terminator ----

def terminator():
    import random
    chance = random.Random(1)
    turn = bytes([15 << 1, 15])
    for how in range(32):
        for settings in range(0, 256, 37):
            lossy = b"".join(bytes([chance.choice([0, 1, 2, 8, 9, 10, 11, 14, 16, 17, 20, 22, 24, 26, 28, 28, 30, 31, 40, 41]) | chance.randrange(4) << 5]) +
                             bytes([chance.randrange(256), chance.randrange(256)]) * chance.randrange(2) for _ in range(60))
            seed("tun_terminator", how, settings, chance.randrange(16), chance.randrange(4, 255), chance.randrange(4, 255), turn, lossy, turn, lossy)
    # Every second segment of a large window is lost, and of the repairs some.
    grown = turn * 3 + bytes([26, 255, 255, 28]) * 3
    for how in (0, 1, 8, 9):
        for settings in (26, 24, 26 | 128):
            holes = bytes([8, 0]) * 60 + bytes([17, 1, 1, 1]) * 20
            seed("tun_terminator", how, settings, 2, 255, 255, grown, holes, bytes([28]), holes, bytes([20, 28]), holes, turn)
            seed("tun_terminator", how, settings, 2, 255, 255, grown, bytes([8, 8, 0, 8, 0, 0, 1, 1, 28]) * 40, bytes([14]) + u16(700), holes)
            seed("tun_terminator", how, settings, 0, 255, 0, grown, bytes([5 << 1 | 1]) * 20, bytes([8, 9]) * 20, bytes([20, 28]) * 10)
    for how in range(32, 64):
        opening = bytes([chance.randrange(32)]) + u16(1460) * (how & 1) + bytes([7]) * (how >> 1 & 1) + u16(60000) + b"\3"
        steps = b"".join(bytes([chance.randrange(256), chance.randrange(256), chance.randrange(256), chance.randrange(256)]) for _ in range(120))
        seed("tun_terminator", how, bytes([16 * (how & 1)]), u16(9000), bytes([1, 0, 64, 0, 0, 70]))
        seed("tun_terminator", how, opening, bytes([0, 0, 64]), bytes([5]) + u16(50000), b"\7", steps)


for make in (http, websocket, gob, frames, ssh, keys, text, terminator):
    make()
for target in sorted(counts):
    print(f"{target}: {counts[target]} seeds")
