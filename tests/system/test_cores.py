"""Workers and the processors they run on: each on its own, with sessions and flows of its own, and nothing but messages of
control between them."""

import json
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


@test("C.scaling_runs_from_a_folder", seconds=120)
def scaling_runs(t):
    """bench/scaling from a folder that it packed, with libraries in the way that are none, counts what workers are told; and
    nothing is left when it is killed."""
    program = os.path.join(os.path.dirname(t.binary), "bench_scaling")
    if t.sanitized:  # a measuring program: sanitized ends are what the other tests run
        t.note("with the release build only")
        return
    packed, wrong = os.path.join(t.folder, "packed"), os.path.join(t.folder, "wrong")
    t.equal(t.run("pack", [program, "--pack", packed]).popen.returncode, 0, "status of --pack")
    os.mkdir(wrong)
    for library in os.listdir(os.path.join(packed, "lib")):
        with open(os.path.join(wrong, library), "w") as f:
            f.write("no library")
    moved = os.path.join(t.folder, "moved")
    os.rename(packed, moved)
    scaling, out = os.path.join(moved, "scaling"), os.path.join(t.folder, "results")
    command = [scaling, "--quick", "--seconds", "0.3", "--flows", "4", "--workers", "1,2", "--overlap", "--out", out]
    done = t.run("scaling", command, {"LD_LIBRARY_PATH": wrong, "PATH": "/nowhere"})
    t.equal(done.popen.returncode, 0, f"status; it said {done.text()[-400:]}")
    with open(os.path.join(out, "scaling.json")) as f:
        rows = json.load(f)["rows"]
    # One processor has no room for two workers of an end.
    pinned = len(os.sched_getaffinity(0)) > 1
    seen = [(row["way"], row["direction"], row["workers"]) for row in rows if row["way"] != "direct"]
    t.equal(seen, [(way, direction, n) for way in ("port", "TUN") for direction in ("up", "down") for n in (1, 2)], "rows")
    t.check(all(row["gbit_per_second"] > 0 and (row["pinned"] or not pinned) for row in rows), f"rows: {rows}")
    t.check(sum(row.get("messages", 0) for row in rows) <= 4, "messages in bulk: news of routes at most")
    # Killed in the middle: what it started goes with it.
    killed = t.start("killed", [*command[:2], "--seconds", "30", "--flows", "4", "--workers", "2", "--only", "port", "--out", out])
    t.wait(lambda: os.path.exists(os.path.join(out, "load.log")) and "streams are open" in open(os.path.join(out, "load.log")).read()
           and len(started(killed)) >= 4, 30, lambda: f"flows run: {killed.text()}")
    family = started(killed)
    killed.kill()
    t.wait(lambda: not any(lives(pid) for pid in family), 10, "its processes end")


def started(process):
    with open(f"/proc/{process.pid}/task/{process.pid}/children") as f:
        return f.read().split()


def lives(pid):
    try:
        with open(f"/proc/{pid}/stat") as f:
            return f.read().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False
