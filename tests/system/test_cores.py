"""Workers and the processors they run on: each on its own, with sessions and flows of its own, and nothing but messages of
control between them."""

import os
import re

import harness
import report
from harness import test
from test_tun import FAR, MIB, World

WORKER = re.compile(r"worker-(\d+)")


def places(process):
    """Where the threads of a program may run: {worker: "1", ...} and that of all others."""
    workers, others = {}, set()
    for task in os.listdir(f"/proc/{process.pid}/task"):
        with open(f"/proc/{process.pid}/task/{task}/status") as f:
            status = f.read()
        name = re.search(r"Name:\t(.*)", status)[1]
        allowed = re.search(r"Cpus_allowed_list:\t(.*)", status)[1]
        if found := WORKER.fullmatch(name):
            workers[int(found[1])] = allowed
        else:
            others.add(allowed)
    return workers, others


def messages(process):
    """What each worker was told by other threads, this question included."""
    return [int(n) for n in re.findall(r"from other threads: messages=(\d+)", report.report(process))]


def sessions(server):
    """Sessions of each worker."""
    parts = re.split(r"worker \d+: turns=", report.report(server))[1:]
    return [len(re.findall(r"latency-us=", part)) for part in parts]


@test("C.affinity", seconds=60)
def affinity(t):
    allowed = sorted(os.sched_getaffinity(0))
    count = min(2, len(allowed))
    chosen = allowed[:count][::-1]
    flags = ("--workers", count, "--cpu-affinity", ",".join(map(str, chosen)))
    server = t.server(*flags)
    client = t.client(server.port, flags=flags, connected=False)
    client.wait_line("Connected", 15 * t.patience, count)
    with open("/proc/self/status") as f:
        mine = re.search(r"Cpus_allowed_list:\t(.*)", f.read())[1]
    for process in (server, client):
        workers, others = places(process)
        t.equal(workers, {i: str(cpu) for i, cpu in enumerate(chosen)}, f"where the workers of {process.name} run")
        t.equal(others, {mine}, f"where other threads of {process.name} run")
    # What may not be used ends the program, in words.
    refused = t.run("burin-refused", [t.binary, "server", "--port", t.port(), "--cpu-affinity", "0-8191"])
    t.check(refused.popen.returncode == 1 and "may not run on CPU" in refused.text(), f"a CPU that is not there: {refused.text()}")
    inner = allowed[-1]
    refused = t.run("burin-confined", [t.binary, "server", "--port", t.port(), "--cpu-affinity", allowed[0]],
                    restrict=lambda: os.sched_setaffinity(0, {inner}))
    if len(allowed) > 1:
        t.check(refused.popen.returncode == 1 and f"CPU {allowed[0]}, only on {inner}" in refused.text(), f"a CPU outside: {refused.text()}")


@test("C.nothing_crosses_in_bulk", seconds=180, slots=2)
def nothing_crosses(t):
    """Sessions that come at once are dealt evenly; and once flows are open, nothing of what they carry goes from worker to
    worker: as many messages as questions of ours, for hundreds of superframes."""
    workers = 4
    w = World(t)
    server = w.server("--workers", workers)
    w.destination()
    local = t.port()
    client = w.client("--workers", workers, connected=False, remotes=(f"127.0.0.1:{local}:{FAR}:7000",))
    client.wait_line("Connected", 15 * t.patience, workers)
    t.equal(sessions(server), [1] * workers, "sessions of the server's workers")
    loads = [w.load_started("gateway", "both", "--bytes", 0, "--duration", "100s", "--connections", 16, "--progress", "50ms",
                            "--seed", t.seed & 0xFFFF, host=host, port=port) for host, port in (("127.0.0.1", local), (FAR, 7000))]

    def moved():
        return [harness.last_json(load)["progress"] for load in loads]

    for load in loads:
        load.wait_line(r'"progress": \d{8}', 30 * t.patience)
    before, at = {process: messages(process) for process in (server, client)}, moved()
    t.wait(lambda: all(now > then + (4 if t.sanitized else 32) * MIB for now, then in zip(moved(), at)), 20, "bytes moved by port and TUN")
    bulk = [now - then for now, then in zip(moved(), at)]
    for process, counts in before.items():
        told = [now - then for now, then in zip(messages(process), counts)]
        # Each may have heard besides that routes have changed: addresses of the links settle for a second or two.
        t.check(all(2 <= count <= 4 for count in told), f"messages to the workers of {process.name}, two of them reports: {told}")
    t.note(f"{bulk[0] >> 20} MiB through the port and {bulk[1] >> 20} MiB through the TUN meanwhile")
