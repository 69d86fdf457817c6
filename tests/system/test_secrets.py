"""Passwords and keys: what a core dump, `ps` and the log show of them after a login (docs/security.md)."""

import base64
import mmap
import os
import re

from harness import test
from test_ssh import FOOBAR_CK

PAGE = mmap.PAGESIZE
# SEC1 DER: seven octets, then the private number.
DER = base64.b64decode(FOOBAR_CK[3:] + "=" * (-len(FOOBAR_CK[3:]) % 4))
NUMBER = DER[7:39]


def mappings(pid):
    """(begin, end, readable, left out of core dumps) of each."""
    with open(f"/proc/{pid}/smaps") as f:
        at = None
        for line in f:
            if head := re.match(r"([0-9a-f]+)-([0-9a-f]+) (\S+)", line):
                at = int(head[1], 16), int(head[2], 16), head[3].startswith("r")
            elif line.startswith("VmFlags:"):
                yield *at, "dd" in line.split()


def resident(pid, begin, end):
    """The runs of pages in memory: others hold nothing, and reading them would make them."""
    with open(f"/proc/{pid}/pagemap", "rb") as f:
        f.seek(begin // PAGE * 8)
        entries = f.read((end - begin) // PAGE * 8)
    run = None
    for n in range(len(entries) // 8):
        if entries[n * 8 + 7] & 0xC0:  # present, or swapped
            run = n if run is None else run
        elif run is not None:
            yield begin + run * PAGE, begin + n * PAGE
            run = None
    if run is not None:
        yield begin + run * PAGE, begin + len(entries) // 8 * PAGE


def search(process, secrets, dumped):
    """Names of the secrets found in those parts of the memory that a core dump holds, or in the others."""
    found = set()
    with open(f"/proc/{process.pid}/mem", "rb", buffering=0) as memory:
        for begin, end, readable, left_out in mappings(process.pid):
            if not readable or left_out == dumped:
                continue
            for first, last in resident(process.pid, begin, end):
                try:
                    memory.seek(first)
                    data = memory.read(last - first)
                except (OSError, ValueError, OverflowError):  # [vvar]
                    continue
                found |= {name for name, secret in secrets.items() if secret in data}
    return found


def shown(process):
    """What others may read of a process."""
    text = process.text().encode()
    for name in ("cmdline", "environ"):
        with open(f"/proc/{process.pid}/{name}", "rb") as f:
            text += f.read()
    return text


def derived(t, seed):
    """The private number that a seed becomes."""
    text = t.run("keygen", [t.binary, "server", "--key", seed, "--keygen", "-"]).out()
    return base64.b64decode(text[3:] + "=" * (-len(text[3:]) % 4))[7:39]


@test("P.secrets_after_login", seconds=90, slots=2)
def secrets_after_login(t):
    """Each way to give a secret: none is in what a core of either end would hold, in its command line, environment or log."""
    pem = "-----BEGIN EC PRIVATE KEY-----\n" + "\n".join(re.findall(".{1,64}", base64.b64encode(DER).decode())) + "\n-----END EC PRIVATE KEY-----\n"

    def word():
        return "".join(t.random.choice("abcdefghijkmnpqrstuvwxyz") for _ in range(24))

    ways = {"flags": lambda p, seed: (("--auth", f"reader:{p}", "--key", seed), {}, ("--auth", f"reader:{p}"), {}),
            "flags with =": lambda p, seed: ((f"--auth=reader:{p}", f"-key={seed}"), {}, (f"-auth=reader:{p}",), {}),
            "environment": lambda p, seed: ((), {"AUTH": f"reader:{p}", "CHISEL_KEY": seed}, (), {"AUTH": f"reader:{p}"}),
            "key file": lambda p, _: (("--auth", f"reader:{p}", "--keyfile", t.file("key", pem)), {}, ("--auth", f"reader:{p}"), {}),
            "key as a flag": lambda p, _: (("--auth", f"reader:{p}", "--keyfile", FOOBAR_CK), {}, ("--auth", f"reader:{p}"), {}),
            "key in the environment": lambda p, _: ((), {"AUTH": f"reader:{p}", "CHISEL_KEY_FILE": FOOBAR_CK}, (), {"AUTH": f"reader:{p}"})}
    sink = t.destination()
    for name, way in ways.items():
        password, seed, port = word(), word(), t.port()
        server_flags, server_env, client_flags, client_env = way(password, seed)
        number = derived(t, seed) if seed in " ".join(server_flags) + " ".join(server_env.values()) else NUMBER
        server = t.server("-v", *server_flags, env=server_env)
        client = t.client(server.port, f"127.0.0.1:{port}:127.0.0.1:{sink.port}", flags=("-v", *client_flags), env=client_env)
        t.load(port, "both", "--bytes", 1 << 20, ok=1)
        secrets = {"password": password.encode(), "seed": seed.encode(), "ck- key": FOOBAR_CK.encode(), "PEM": pem[40:100].encode(),
                   "private number": number, "private number, last word first": number[::-1],
                   "half of the private number": number[8:24], "half of it, last word first": number[8:24][::-1]}
        for process in (server, client):
            # A sanitizer keeps stacks and shadows of its own, terabytes of addresses; that is not what ships.
            if not t.sanitized:
                t.equal(search(process, secrets, dumped=True), set(), f"{name}: in what a core of {process.name} holds")
            seen = shown(process)
            t.equal({each for each, secret in secrets.items() if secret in seen}, set(), f"{name}: shown of {process.name}")
        # What must be kept is found where no core has it, and by the same search.
        if not t.sanitized:
            t.equal(search(client, {"password": password.encode()}, dumped=False), {"password"}, f"{name}: where the client keeps its password")
            t.equal(search(server, {"number": number}, dumped=False), {"number"}, f"{name}: where the server keeps its key")
            t.equal(search(server, {"user": b"reader"}, dumped=True), {"user"}, f"{name}: what is no secret, in the server")
        if name == "flags":  # it is kept for this
            server.kill()
            server = t.server(*server_flags, env=server_env, port=server.port, name="burin-server-again")
            client.wait_line("Connected", 20 * t.patience, 2)
            t.load(port, "both", "--bytes", 1 << 20, ok=1)
        client.kill()
        server.kill()
