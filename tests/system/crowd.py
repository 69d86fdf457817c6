#!/usr/bin/env python3
"""Connections that never log in: crowd.py PORT KIND COUNT SEED. Says `ready N` when it has connected N of them, then drips a byte
into each of those that drip until all have been ended, and says `over N`. A line on standard input ends it at once.

Kinds: silent; head (an HTTP head); upgraded, and then silent; line (SSH's first line, and then silent); kexinit (a KEXINIT);
endless (the largest packet that may come before a login); message (the same, as one frame of a message without end).
"""

import os
import random
import resource
import select
import socket
import sys
import time

import wire

PACKET = (35000 - 4).to_bytes(4, "big") + b"\4"
# What each kind sends at once, and what it drips behind it, a byte at a time.
KINDS = {
    "silent": (b"", b""),
    "head": (b"GET / HTTP/1.1\r\nHost: x\r\nX-Filler: ", b"y" * 1000),
    "upgraded": (wire.upgrade_request(), b""),
    "line": (b"SSH-2.0-Crowd\r\n", b""),
    "kexinit": (wire.upgrade_request(), None),
    "endless": (b"SSH-2.0-Crowd\r\n" + PACKET + bytes(33000), bytes(1000)),
    "message": (wire.upgrade_request(), None),
}
# Behind the upgrade's answer.
LATER = {"kexinit": (wire.frame(b"SSH-chisel-v3-crowd\r\n", mask=bytes(4)), wire.frame(wire.clear_packet(wire.kexinit()), mask=bytes(4))),
         "message": (wire.frame(b"SSH-chisel-v3-crowd\r\n", mask=bytes(4)) + wire.frame(PACKET + bytes(100_000), mask=bytes(4))[:33_000],
                     bytes(1000))}
ROUND = 4  # seconds in which each gets its next byte


def main():
    port, kind, count, seed = int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    chance = random.Random(seed)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < count + 50:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(count + 50, hard), hard))
    first, filler = KINDS[kind]
    epoll = select.epoll()
    epoll.register(0, select.EPOLLIN)
    sockets, drips = {}, {}
    source = f"127.0.{os.getpid() % 250 + 1}.{chance.randrange(1, 250)}"  # ports enough, and an address of its own

    def over(fd):
        epoll.unregister(fd)
        sockets.pop(fd).close()
        drips.pop(fd, None)

    def send(fd, data):
        try:
            return sockets[fd].send(data)
        except BlockingIOError:
            return 0
        except OSError:
            over(fd)
            return 0

    def step(seconds):
        for fd, _ in epoll.poll(seconds):
            if fd == 0:
                sys.exit(0)
            if fd not in sockets:
                continue
            try:
                data = sockets[fd].recv(4096)
            except BlockingIOError:
                continue
            except OSError:
                data = b""
            if not data:
                over(fd)
            elif kind in LATER and fd not in drips:
                now, drip = LATER[kind]
                drips[fd] = [drip, 0]
                send(fd, now)

    connected = 0
    for n in range(count):
        s = socket.socket()
        s.setsockopt(socket.IPPROTO_IP, 24, 1)  # IP_BIND_ADDRESS_NO_PORT
        s.bind((source, 0))
        try:
            s.connect(("127.0.0.1", port))
        except OSError:
            s.close()
            continue
        connected += 1
        s.setblocking(False)
        sockets[s.fileno()] = s
        epoll.register(s.fileno(), select.EPOLLIN)
        if first and send(s.fileno(), first) and filler:
            drips[s.fileno()] = [filler, 0]
        if n % 16 == 0:
            step(0)
    print(f"ready {connected}", flush=True)
    while sockets:
        begun = time.monotonic()
        for fd in list(drips):
            what = drips.get(fd)
            if what is None or fd not in sockets:
                continue
            data, at = what
            if send(fd, data[at % len(data):][:1]):
                what[1] += 1
                step(0.00001)
        while sockets and (left := begun + ROUND - time.monotonic()) > 0:
            step(min(left, 0.5))
    print(f"over {count}", flush=True)


if __name__ == "__main__":
    main()
