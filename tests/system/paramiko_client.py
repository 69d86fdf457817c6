"""Paramiko's client: for each cipher, MAC and key exchange that it shares with our server, a direct-tcpip channel to an echo.

usage: paramiko_client.py SERVER-PORT ECHO-PORT KEY-FILE BYTES

Prints paramiko's version, then a line for each combination whose echo was whole; fails with the first that was not.
"""

import hashlib
import os
import socket
import sys
import threading

import paramiko

CIPHERS = ("aes128-gcm@openssh.com", "aes256-gcm@openssh.com", "chacha20-poly1305@openssh.com", "aes128-ctr", "aes192-ctr", "aes256-ctr")
MACS = ("hmac-sha2-256-etm@openssh.com", "hmac-sha2-512-etm@openssh.com", "hmac-sha2-256", "hmac-sha2-512")
KEX = ("curve25519-sha256@libssh.org", "ecdh-sha2-nistp256")


def connect(port):
    return paramiko.Transport(socket.create_connection(("127.0.0.1", port), 10))


def combinations(port):
    transport = connect(port)
    known = transport.get_security_options()
    for number, cipher in enumerate(c for c in CIPHERS if c in known.ciphers):
        yield cipher, MACS[2], KEX[number % 2]
    for number, mac in enumerate(m for m in MACS if m in known.digests):
        yield "aes128-ctr", mac, KEX[number % 2]
    transport.close()


def echo(port, target, key, size, cipher, mac, kex):
    transport = connect(port)
    options = transport.get_security_options()
    options.ciphers, options.digests, options.kex = (cipher,), (mac,), (kex,)
    transport.start_client(timeout=30)
    login = "publickey" if cipher == "aes192-ctr" else "password"
    if login == "publickey":
        transport.auth_publickey("user", key)
    else:
        transport.auth_password("user", "pass")
    channel = transport.open_channel("direct-tcpip", ("127.0.0.1", target), ("127.0.0.1", 1), timeout=30)
    channel.settimeout(60)
    data = os.urandom(size)

    def send():
        # sendall() copies what is left of its argument with each packet.
        for at in range(0, size, 1 << 18):
            channel.sendall(data[at:at + (1 << 18)])
        channel.shutdown_write()
    threading.Thread(target=send, daemon=True).start()
    back = hashlib.sha256()
    while piece := channel.recv(65536):
        back.update(piece)
    transport.close()
    if back.digest() != hashlib.sha256(data).digest():
        sys.exit(f"{cipher} {mac} {kex}: what came back differs")
    print("held", cipher, mac, kex, login, flush=True)


def main():
    port, target, identity, size = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], int(sys.argv[4])
    print(paramiko.__version__, flush=True)
    key = paramiko.RSAKey.from_private_key_file(identity)
    for case in combinations(port):
        echo(port, target, key, size, *case)


main()
