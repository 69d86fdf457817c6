"""`burin bench`: alone on one machine, through a tunnel, and what becomes of it when something ends."""

import errno
import glob
import html.parser
import json
import os
import re
import signal
import socket
import struct
import time

import harness
from harness import test

NOBODY = 65534


class Page(html.parser.HTMLParser):
    """What a page is made of: open elements, attributes that fetch, the results that it carries."""

    EMPTY = {"meta", "line", "rect", "polygon", "polyline", "br", "link", "img"}

    def __init__(self):
        super().__init__()
        self.open, self.fetches, self.wrong, self.titles, self.json = [], [], [], [], ""

    def handle_starttag(self, tag, attributes):
        self.fetches += [(tag, name) for name, value in attributes if name in ("src", "href", "srcset", "data", "action")]
        if tag not in self.EMPTY:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.fetches += [(tag, name) for name, value in attributes if name in ("src", "href", "xlink:href")]

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.wrong.append(tag)

    def handle_data(self, data):
        if self.open and self.open[-1] == "script":
            self.json += data
        if self.open and self.open[-1] == "h2":
            self.titles.append(data)


def as_nobody():
    os.setgroups([])
    os.setgid(NOBODY)
    os.setuid(NOBODY)


def folder_of_nobody(t):
    """Which nobody reaches from where it starts, the test's folder, alone."""
    os.chmod(t.folder, 0o711)
    out = os.path.join(t.folder, "out")
    os.mkdir(out)
    os.chown(out, NOBODY, NOBODY)
    return out


def others_here(*known):
    """Processes of this network namespace that the test has not started itself."""
    ours, found = os.readlink("/proc/self/ns/net"), []
    for path in glob.glob("/proc/[0-9]*/ns/net"):
        pid = int(path.split("/")[2])
        try:
            if os.readlink(path) == ours and pid not in (os.getpid(), *known):
                with open(f"/proc/{pid}/stat") as f:
                    if f.read().rsplit(")", 1)[1].split()[0] != "Z":
                        found.append(pid)
        except OSError:
            pass
    return found


def results(out):
    with open(os.path.join(out, "results.json")) as f:
        return json.load(f)


def rows_of(found):
    return {row["id"]: row["samples"] for row in found["rows"]}


@test("B.alone_as_nobody", seconds=120)
def alone(t):
    out = folder_of_nobody(t)
    bench = t.run("burin-bench", [t.binary, "bench", "--quick", "--seconds", "0.2", "--pairs", "1", "--streams", "1,4", "--timeout", "60", "--out", "out"],
                  seconds=100, restrict=as_nobody)
    t.equal(bench.popen.returncode, 0, f"the status of {bench.text()}")
    t.equal(others_here(), [], "processes that are left")
    found = results(out)
    t.equal((found["schema"], found["pairs"], found["seconds"], found["cut_short"]), ("burin-bench/1", 1, 0.2, ""), "the head of the results")
    t.equal([(c["name"], c["reference"], c["ends"]) for c in found["columns"]],
            [("no tunnel", True, []), ("burin", False, ["client", "server"])], "columns")
    rows = rows_of(found)
    both = [f"throughput.{way}.{count}" for count in (1, 4) for way in ("up", "down")] + [
        f"{group}.{share}" for group in ("idle", "loaded") for share in ("p50", "p99", "p99.9")] + [
        "loaded.bulk", "connections.1", "connections.16"]
    tunnel = [f"cpu.{way}.{count}{end}" for count in (1, 4) for way in ("up", "down") for end in ("", ".client", ".server")]
    t.equal(sorted(rows), sorted(both + tunnel), "rows")
    for name in both:
        t.check(all(len(pairs) == 1 and pairs[0] > 0 for pairs in rows[name]), f"{name}: {rows[name]}")
    for name in tunnel:
        t.check(rows[name][0] == [None] and rows[name][1][0] >= 0, f"{name}: {rows[name]}")
    for way in ("up.1", "down.4"):
        parts = rows[f"cpu.{way}.client"][1][0] + rows[f"cpu.{way}.server"][1][0]
        t.check(abs(parts - rows[f"cpu.{way}"][1][0]) < 1e-6, "the CPU of both ends is the sum of theirs")
    t.equal([c["id"] for c in found["curves"]], ["idle", "loaded"], "curves")
    for curve in found["curves"]:
        for line in curve["lines"]:
            points = [(p["share"], p["us"]) for p in line["points"]]
            t.check(line["count"] > 0 and points == sorted(points) and all(a[1] <= b[1] for a, b in zip(points, points[1:])), f"a curve that falls: {points}")
    for name in ("processor", "kernel", "congestion control", "date", "burin"):
        t.check(found["conditions"].get(name), f"the conditions say the {name}: {found['conditions']}")
    with open(os.path.join(out, "results.html"), encoding="utf-8") as f:
        text = f.read()
    page = Page()
    page.feed(text)
    page.close()
    t.equal((page.open, page.wrong, page.fetches), ([], [], []), "open elements, wrong ends, and what the page would fetch")
    t.check(not re.search(r"https?:|url\(|@import", text), "the page names nothing to fetch")
    t.equal(json.loads(page.json), found, "what the page carries")
    t.equal(page.titles, ["no tunnel", "burin", "Throughput", "CPU of the tunnel", "Round trips by percentile", "Connections", "All figures", "Conditions"],
            "the page's parts")
    with open(os.path.join(out, "results.md")) as f:
        table = f.read()
    t.equal(bench.out(), table, "what is printed")
    t.equal(len(re.findall(r"(?m)^\| (?:Throughput|CPU of the tunnel|Round trip, idle|Round trip beside four streams|Connections) ", table)), 5, "tables")
    # The same page from the file alone.
    again = t.run("burin-bench", [t.binary, "bench", "render", os.path.join(out, "results.json"), "--out", os.path.join(t.folder, "again")])
    t.equal(again.popen.returncode, 0, f"the status of render: {again.text()}")
    with open(os.path.join(t.folder, "again", "results.html"), encoding="utf-8") as f:
        t.equal(f.read(), text, "the page that was drawn anew")


@test("B.through_a_tunnel_that_goes", seconds=120)
def through(t):
    far = t.start("far", [t.binary, "bench", "serve", "127.0.0.1:0"])
    far_port = int(far.wait_line(r"listening on 127\.0\.0\.1:(\d+)").group(1))
    port, server = t.port(), t.server()
    client = t.client(server.port, f"127.0.0.1:{port}:127.0.0.1:{far_port}")

    def bench(name, pairs):
        out = os.path.join(t.folder, name)
        return out, t.start(name, [t.binary, "bench", f"<b>tunnel={port}", "--direct", f"127.0.0.1:{far_port}", "--pid", f"{client.pid},{server.pid}",
                                   "--seconds", "0.1", "--pairs", pairs, "--only", "throughput,idle", "--streams", "1", "--timeout", "20", "--out", out])
    out, whole = bench("whole", 2)
    t.equal(whole.wait_exit(60 * t.patience), 0, f"the status of {whole.text()}")
    rows = rows_of(results(out))
    t.check(all(len(pairs) == 2 and min(pairs) > 0 for pairs in rows["throughput.up.1"] + rows["idle.p50"]), f"samples: {rows}")
    t.check("cpu.up.1" in rows and "cpu.up.1.processes" not in rows, f"the CPU of the processes that were named: {sorted(rows)}")
    with open(os.path.join(out, "results.html")) as f:
        t.check("<b>tunnel" not in f.read(), "a name is no markup")
    # It goes in the second pair: what was complete is kept, and the status says that it is not all.
    out, cut = bench("cut", 100)
    cut.wait_line(r"(?m)^\[ *10/", 60 * t.patience)
    server.kill()
    client.kill()
    t.equal(cut.wait_exit(60 * t.patience), 1, f"the status of a run that was cut short: {cut.text()}")
    found = results(out)
    t.check(found["cut_short"] and 1 <= found["pairs"] < 100, f"cut short: {found['cut_short']!r} after {found['pairs']} pairs")
    t.check(re.search(r"(?m)^burin bench: ended after \d+ of 100 pairs: .*<b>tunnel: ", cut.err()), f"what is said: {cut.err()}")
    # And it is not there at all: what was killed lets go of its port a moment later.
    def gone():
        with socket.socket() as s:
            return s.connect_ex(("127.0.0.1", port)) == errno.ECONNREFUSED
    t.wait(gone, 20, "nobody listens there any more")
    out, none = bench("none", 1)
    t.equal(none.wait_exit(60 * t.patience), 1, "the status without a tunnel")
    t.check(re.search(rf"(?m)^burin bench: <b>tunnel: 127.0.0.1 port {port}: .*Connection refused", none.err()), f"what is said: {none.err()}")
    t.check(not os.path.exists(os.path.join(out, "results.json")), "no results of nothing")


@test("B.ends_and_bounds", seconds=120)
def ends_and_bounds(t):
    # However it ends, nothing of it is left.
    for number, status in ((signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -9)):
        bench = t.start("burin-bench", [t.binary, "bench", "--only", "idle", "--seconds", "30", "--out", os.path.join(t.folder, "out")])
        bench.wait_line(r"\d+ samples", 60 * t.patience)
        t.wait(lambda: len(others_here(bench.pid)) == 3, 20, "its three processes run")
        bench.signal(number)
        t.equal(bench.wait_exit(20 * t.patience), status, f"the status after {signal.Signals(number).name}")
        t.wait(lambda: others_here() == [], 20, lambda: f"its processes are gone after {signal.Signals(number).name}: {others_here()}")
    # What it says of what cannot be.
    t.check(os.path.isdir(t.folder) and not os.path.exists(os.path.join(t.folder, "burin-bench")), "no folder that was not asked for")
    for status, words, arguments in ((2, "--seconds", ["--seconds", "soon"]), (2, "--frob", ["--frob"]), (1, "cannot write into", ["--out", "/proc/none"]),
                                     (1, "not results of burin bench", ["render", t.file("other.json", "{}")]), (1, "cannot read", ["render", "nowhere.json"]),
                                     (1, "port 1: Permission denied" if os.geteuid() else "nowhere.invalid", ["serve", "nowhere.invalid:7"]),
                                     (1, "burin server has ended", ["--server-flags", "--nonsense"])):
        process = t.run("burin-bench", [t.binary, "bench", *arguments], seconds=20)
        t.check(process.popen.returncode == status and words in process.err(), f"{arguments}: {process.popen.returncode}, {process.text()}")
    # What strangers may ask of a far end.
    far = t.start("far", [t.binary, "bench", "serve", "0", "--connections", "3", "--idle", "0.5"])
    port = int(far.wait_line(r"listening on 127\.0\.0\.1:(\d+)").group(1))

    def ask(op, seed=1):
        s = t.connect(port)
        s.sendall(b"BLOAD1" + op + b"\n" + struct.pack("<QQQQ", seed, 0, 0, 1 << 40))
        return s
    for op, seed in ((b"h", 1), (b"s", 1), (b"b", 9)):
        t.equal(harness.ended_how(ask(op, seed), 10 * t.patience)[1], b"", f"the answer to {op} with seed {seed}")
    silent = [ask(b"e"), ask(b"b"), ask(b"e")]
    for s in silent:
        t.equal(harness.receive_exactly(s, 8), b"BREADY1\n", "the answer to what is granted")
    t.equal(t.fate(port, 10 * t.patience)[1], b"", "one connection more than there may be")
    began = time.monotonic()
    for s in silent:
        t.equal(harness.ended_how(s, 20 * t.patience)[1], b"", "what a silent connection gets")
    t.check(time.monotonic() - began < 20 * t.patience, "silence ends")
    with socket.create_connection(("127.0.0.1", port)) as s:
        s.sendall(b"?")
        t.equal(harness.receive_exactly(s, 1), b"!", "there is room again")
    far.signal(signal.SIGTERM)
    t.equal(far.wait_exit(), 0, "the status of the far end")
