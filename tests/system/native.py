"""OpenSSH's client, started the same way by every test: no configuration of this machine, keys and passwords of the test."""

import os

import harness


def make_key(t, name="id", kind="ed25519", passphrase=""):
    """A fresh key pair; returns (path of the private key, public line)."""
    path = os.path.join(t.folder, name)
    more = ["-b", "2048"] if kind == "rsa" else []
    t.equal(t.run("ssh-keygen", ["ssh-keygen", "-q", "-t", kind, *more, "-N", passphrase, "-C", "test", "-f", path]).popen.returncode, 0, "ssh-keygen")
    with open(path + ".pub") as f:
        return path, f.read().strip()


def start(t, port, *arguments, user="user", password=None, identity=None, options=(), name="ssh"):
    """`ssh -N` with one way to log in, or none."""
    command = ["ssh", "-F", "none", "-N", "-p", port, "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null",
               "-o", "ExitOnForwardFailure=yes", "-o", "NumberOfPasswordPrompts=1", "-o", "IdentitiesOnly=yes", "-o", "LogLevel=VERBOSE"]
    for option in options:
        command += ["-o", option]
    env = {}
    if password is not None:
        ask = t.file(f"ask-{len(t.processes)}", f"#!/bin/sh\nprintf '%s\\n' '{password}'\n", 0o700)
        env = {"SSH_ASKPASS": ask, "SSH_ASKPASS_REQUIRE": "force", "DISPLAY": "none"}
        command += ["-o", "PreferredAuthentications=password"]
    elif identity:
        command += ["-i", identity, "-o", "PreferredAuthentications=publickey"]
    else:
        command += ["-o", "BatchMode=yes", "-o", "PreferredAuthentications=none"]
    return t.start(name, [*command, *arguments, f"{user}@127.0.0.1"], env)


def socks_connect(t, port, host, target):
    """A connection through a SOCKS5 proxy without authentication; the proxy resolves the name."""
    s = t.connect(port)
    s.sendall(b"\5\1\0")
    t.equal(harness.receive_exactly(s, 2), b"\5\0", "SOCKS method")
    s.sendall(b"\5\1\0\3" + bytes([len(host)]) + host.encode() + target.to_bytes(2, "big"))
    t.equal(harness.receive_exactly(s, 2), b"\5\0", "SOCKS reply")
    head = harness.receive_exactly(s, 2)
    harness.receive_exactly(s, {1: 6, 4: 18}[head[1]])
    return s
