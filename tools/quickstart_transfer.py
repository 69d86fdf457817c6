#!/usr/bin/env python3
"""The data service of the quickstart, and the program that fetches from it: plain TCP, knowing nothing of any tunnel.

  serve HOST PORT FOLDER        answers "get NAME" with a file of FOLDER, and stores there what "put NAME SIZE" brings
  get HOST PORT NAME TARGET     fetches NAME into the file TARGET
  put HOST PORT SOURCE NAME     sends the file SOURCE to be stored as NAME
  sha256 FILE                   prints the checksum of a file

get and put print how far they are, and last "BYTES SECONDS". The time ends when all bytes are stored: for put that is
when the service says so. A connection that ends early or is reset is an error, never a short file.
"""
import hashlib
import os
import socket
import sys
import threading
import time

PIECE = 1 << 20


def receive_line(sock):
    line = b""
    while not line.endswith(b"\n"):
        byte = sock.recv(1)
        if not byte or len(line) > 1000:
            raise ConnectionError("the connection ended before a whole line")
        line += byte
    return line.decode().split()


def receive_file(sock, path, size, tell):
    # What is there is written over, so that the time is that of the way here and not that of getting memory for a file.
    buffer = memoryview(bytearray(PIECE))
    got = 0
    with open(os.open(path, os.O_WRONLY | os.O_CREAT, 0o644), "wb", buffering=0) as target:
        while got < size:
            count = sock.recv_into(buffer[:min(PIECE, size - got)])
            if count == 0:
                raise ConnectionError(f"the connection ended after {got} of {size} bytes")
            target.write(buffer[:count])
            got += count
            tell(got, size)
        target.truncate(size)


def send_file(sock, path, tell):
    size = os.path.getsize(path)
    with open(path, "rb") as source:
        sent = 0
        while sent < size:
            sent += os.sendfile(sock.fileno(), source.fileno(), sent, min(4 * PIECE, size - sent))
            tell(sent, size)


def quiet(done, size):
    del done, size


class Progress:
    def __init__(self):
        self.begun = time.monotonic()
        self.next = self.begun + 0.5

    def __call__(self, done, size):
        now = time.monotonic()
        if now >= self.next:
            self.next = now + 0.5
            rate = done * 8e-9 / (now - self.begun)
            print(f"{done >> 20} of {size >> 20} MiB, {rate:.2f} Gbit/s", flush=True)


def answer(sock, folder):
    with sock:
        words = receive_line(sock)
        path = os.path.join(folder, os.path.basename(words[1]))
        if words[0] == "get":
            sock.sendall(b"%d\n" % os.path.getsize(path))
            send_file(sock, path, quiet)
        elif words[0] == "put":
            receive_file(sock, path, int(words[2]), quiet)
            sock.sendall(b"stored\n")


def serve(host, port, folder):
    with socket.create_server((host, int(port))) as listener:
        print("serving", flush=True)
        while True:
            sock, _ = listener.accept()
            threading.Thread(target=answer, args=(sock, folder), daemon=True).start()


def transfer(host, port, request, work):
    with socket.create_connection((host, int(port)), timeout=60) as sock:
        sock.settimeout(None)
        begun = time.monotonic()
        sock.sendall(request)
        size = work(sock)
        print(f"{size} {time.monotonic() - begun:.4f}")


def get(host, port, name, target):
    def work(sock):
        size = int(receive_line(sock)[0])
        receive_file(sock, target, size, Progress())
        if sock.recv(1):
            raise ConnectionError("more came than was announced")
        return size
    transfer(host, port, f"get {name}\n".encode(), work)


def put(host, port, source, name):
    size = os.path.getsize(source)

    def work(sock):
        send_file(sock, source, Progress())
        if receive_line(sock) != ["stored"]:
            raise ConnectionError("the service did not store the file")
        return size
    transfer(host, port, f"put {name} {size}\n".encode(), work)


def sha256(path):
    digest = hashlib.sha256()
    with open(path, "rb", buffering=0) as source:
        while piece := source.read(4 * PIECE):
            digest.update(piece)
    print(digest.hexdigest())


COMMANDS = {"serve": serve, "get": get, "put": put, "sha256": sha256}
if len(sys.argv) < 3 or sys.argv[1] not in COMMANDS:
    sys.exit(__doc__)
try:
    COMMANDS[sys.argv[1]](*sys.argv[2:])
except KeyboardInterrupt:
    sys.exit(130)
except OSError as error:
    sys.exit(f"{' '.join(sys.argv[1:4])}: {error}")
