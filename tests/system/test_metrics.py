"""`--metrics`: the numbers of SIGUSR2 as Prometheus reads them, who may stall whom, and the dashboard made of them."""

import json
import os
import re
import signal
import socket

import metrics
import report
from harness import ROOT, Worker, reset, test
from metrics import Metrics, curl, scrape
from test_tun import FAR, MIB, World
from test_udp import Echo, ask, client_socket

PORT = 9100


class EMPTY:
    """A scrape before anything happened."""

    @staticmethod
    def sum(*_, **__):
        return 0


def numbers(text, pattern):
    """The sum over the lines that match, each with a number in parentheses."""
    found = re.findall(pattern, text, re.M)
    return sum(map(int, found))


def compare(t, m, text, role, before):
    """Each number of a report, made when nothing moves, beside its metric. Sessions that are over are in the metrics alone:
    those of the scrape `before`."""
    rows = [("burin_session_bytes_total", {"direction": "received"}, r"session.*: received=(\d+)"),
            ("burin_session_bytes_total", {"direction": "sent"}, r"session.*: received=.* sent=(\d+)"),
            ("burin_session_operations_total", {"direction": "sent"}, r"session.*: .* sent=\d+ in (\d+)"),
            ("burin_key_exchanges_total", {}, r"key-exchanges=(\d+)"),
            ("burin_channels_opened_total", {}, r"session.*: channels=\d+ opened=(\d+)"),
            ("burin_window_adjusts_total", {}, r"adjusts=(\d+)"),
            ("burin_channels", {}, r"budget: .*channels=(\d+)/"),
            ("burin_memory_budget_limit_bytes", {"kind": "windows"}, r"budget: total=(\d+)"),
            ("burin_memory_budget_limit_bytes", {"kind": "datagrams"}, r"datagrams: .*held-bytes=\d+/(\d+)"),
            ("burin_socket_operations_total", {"direction": "to_tunnel"}, r"sockets: receives=(\d+)"),
            ("burin_socket_operations_total", {"direction": "from_tunnel"}, r"sockets: .* sends=(\d+)"),
            ("burin_traffic_packets_total", {"kind": "udp", "direction": "to_tunnel"}, r"datagrams: .* received=(\d+)"),
            ("burin_traffic_bytes_total", {"kind": "udp", "direction": "from_tunnel"}, r"datagrams: .* sent=\d+ bytes=(\d+)"),
            ("burin_pool_buffers_limit", {"pool": "arenas"}, r"arenas=\d+/(\d+)"),
            ("burin_timers", {}, r" timers=(\d+)")]
    if role == "server":
        rows += [("burin_login_failures_total", {}, r"failed-logins=(\d+)"), ("burin_strangers_limit", {}, r"before-login=\d+/(\d+)"),
                 ("burin_dials_total", {"outcome": "connected"}, r"dials: .* connected=(\d+)")]
    else:
        rows += [("burin_traffic_bytes_total", {"kind": "tun", "direction": "to_tunnel"}, r"tun: read: frames=\d+ bytes=(\d+)"),
                 ("burin_traffic_packets_total", {"kind": "tun", "direction": "from_tunnel"}, r"tun: write: frames=(\d+)"),
                 ("burin_tun_flows_opened_total", {}, r"tun: tcp: .* opened=(\d+)"),
                 ("burin_drops_total", {"reason": "other_protocol"}, r"dropped: .* other protocol=(\d+)")]
    for name, labels, pattern in rows:
        got = m.sum(name, **labels) - (before.sum(name, **labels) if "session" in pattern or "exchanges" in pattern else 0)
        t.equal((name, labels, got), (name, labels, numbers(text, pattern)), f"a metric of the {role} beside its report")
    free = numbers(text, r"free-for-growth=(\d+)")
    channels, most = numbers(text, r"budget: .*channels=(\d+)/"), numbers(text, r"budget: .*channels=\d+/(\d+)")
    t.equal(m.sum("burin_memory_budget_used_bytes", kind="windows"),
            m.sum("burin_memory_budget_limit_bytes", kind="windows") - free - (most - channels) * 16384, f"what the {role} has granted")


def settle(t, process, port):
    """A report between two scrapes that say the same of all that moves payload."""
    def still():
        before, text, after = scrape(port), report.report(process, 10 * t.patience), scrape(port)
        moved = ("burin_session_bytes_total", "burin_traffic_packets_total", "burin_socket_operations_total", "burin_timers", "burin_channels")
        same = all(before.samples[key] == value for key, value in after.samples.items() if key[0] in moved)
        return same and (after, text)
    return t.wait(still, 20, f"{process.name} at rest")


@test("M.as_sigusr2_says", seconds=90)
def as_sigusr2_says(t):
    w = World(t)
    quiet = ("--keepalive", "0", "--workers", "2", "--metrics", f":{PORT}")
    server = w.server("--auth", "user:sesame", *quiet, env={"BURIN_LOGIN_DELAY": "2ms"})
    wrong = w.client("--auth", "user:wrong", "--max-retry-count", "0", connected=False, name="wrong")
    wrong.wait_exit(15 * t.patience)
    with w.inside("cloud"):
        before = t.wait(lambda: (m := scrape(PORT)).sum("burin_strangers") == 0 and m, 10, "who gave the wrong password has gone")
    t.equal((before.sum("burin_login_failures_total"), before.sum("burin_sessions_opened_total")), (1, 0), "logins that failed")
    local = t.port()
    client = w.client("--auth", "user:sesame", *quiet, remotes=(f"127.0.0.1:{local}:{FAR}:7000",), connected=False)
    client.wait_line("Connected", 15 * t.patience, 2)
    w.destination()
    with w.inside("cloud"):
        Echo(t, 7200, FAR)
    w.load("lan", "both", "--bytes", MIB, "--connections", 5, ok=5)
    t.load(local, "both", "--bytes", MIB, "--connections", 3, ok=3)
    ask(t, client_socket(t, host="0.0.0.0"), (FAR, 7200), b"a datagram")
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, 253) as odd:  # for experiments: no protocol that is carried
        odd.sendto(b"x" * 20, (FAR, 0))
    at_client, text = settle(t, client, PORT)
    compare(t, at_client, text, "client", EMPTY)
    with w.inside("cloud"):
        at_server, text = settle(t, server, PORT)
    compare(t, at_server, text, "server", before)
    for m, role in ((at_client, "client"), (at_server, "server")):
        t.equal((m.sum("burin_build_info", role=role), m.sum("burin_sessions"), m.sum("burin_sessions_opened_total")), (1, 2, 2), f"sessions of the {role}")
        carried = m.sum("burin_traffic_bytes_total", direction="to_tunnel"), m.sum("burin_traffic_bytes_total", direction="from_tunnel")
        t.check(min(carried) >= 8 * MIB, f"what the {role} has carried: {carried}")
        t.check(0 < m.sum("burin_worker_cpu_seconds_total") <= m.sum("process_cpu_seconds_total") + 0.05, f"CPU of the {role}")
        # Names and passwords are in no metric, nor what a peer says, and the number of series does not depend on flows.
        t.check("sesame" not in m.text and "user" not in re.sub("#.*", "", m.text), f"a user in the metrics of the {role}")
        t.equal({dict(labels).get("worker") for _, labels in m.samples}, {None, "0", "1"}, f"workers of the {role}")
        t.check(len(m.samples) < 400, f"{len(m.samples)} series")
    dashboard(t, at_client, at_server)
    # What a session had counted stays when it is over, and the client counts what it lost.
    before = at_server.sum("burin_session_bytes_total", direction="received")
    client.signal(signal.SIGSTOP)
    server.kill()
    client.signal(signal.SIGCONT)
    again = w.server("--auth", "user:sesame", *quiet)
    client.wait_line("Connected", 30 * t.patience, 4)
    m = scrape(PORT)
    t.equal((m.sum("burin_reconnections_total"), m.sum("burin_sessions_lost_total"), m.sum("burin_connected")), (2, 2, 2), "reconnections")
    t.check(m.sum("burin_session_bytes_total") >= at_client.sum("burin_session_bytes_total"), "bytes of the sessions before")
    t.check(m.sum("burin_connect_attempts_total") >= 4, "attempts")
    client.kill()
    with w.inside("cloud"):
        t.wait(lambda: scrape(PORT).sum("burin_sessions") == 0, 15, "the server has no session")
        after = scrape(PORT)
    t.check(0 < after.sum("burin_session_bytes_total", direction="received") < before, "bytes of sessions that are over")
    t.equal(after.sum("burin_sessions_opened_total"), 2, "sessions that are over")
    # As others see it.
    cloud = w.there("cloud")
    t.equal((curl(cloud, PORT), curl(cloud, PORT, "-X", "POST"), curl(cloud, PORT, "--head"), curl(cloud, PORT, "--http1.0"),
             curl(cloud, PORT, "--path-as-is", "--request-target", "/")), ("200", "405", "405", "200", "404"), "what curl is answered")
    t.equal(again.alive(), True, "the server")


def dashboard(t, *scrapes):
    """Every name in the dashboard is a metric, every label one of it with that value, and a counter is looked at by its rate."""
    with open(os.path.join(ROOT, "docs", "grafana.json")) as f:
        board = json.load(f)
    t.equal(len({panel["id"] for panel in board["panels"]}), len(board["panels"]), "numbers of panels")
    for panel in board["panels"]:
        at = panel["gridPos"]
        t.check(at["x"] + at["w"] <= 24 and panel["title"] and panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}, f"a panel: {panel}")
    variables = {one["name"] for one in board["templating"]["list"]}
    t.equal(set(re.findall(r"\$\{?(\w+)", json.dumps(board))) - {"__rate_interval", "__all"}, variables, "variables of the dashboard")
    queries = [target["expr"] for panel in board["panels"] for target in panel.get("targets", ())]
    queries += [one["query"]["query"] for one in board["templating"]["list"] if one["type"] == "query"]
    t.check(len(queries) >= 10, f"{len(queries)} queries")
    kinds = {name: kind for m in scrapes for name, kind in m.kinds.items()}
    values = {}
    for m in scrapes:
        for name, labels in m.samples:
            for label, value in labels:
                values.setdefault((name, label), set()).add(value)
    for query in queries:
        found = list(re.finditer(r"\b((?:burin|process)_[a-z_]+)(?:\{([^}]*)\})?(\[[^\]]+\])?", query))
        t.check(found, f"no metric in {query}")
        for match in found:
            name, labels, window = match.groups()
            t.check(name in kinds, f"{name} is no metric: {query}")
            if "label_values" not in query:
                t.equal(bool(window), kinds[name] == "counter", f"a rate of {name} in {query}")
            for label, value in re.findall(r'(\w+)="([^"$]*)"', labels or ""):
                t.check(value in values.get((name, label), ()), f"no {name} with {label}={value}: {query}")


@test("M.stalled_scrapers", seconds=60)
def stalled_scrapers(t):
    """Those who ask and do not read, ask half, or say nothing, many more than there may be, hold up neither a transfer nor a
    scrape, and leave nothing behind."""
    sink, local, port = t.destination(), t.port(), t.port()
    server = t.server()
    client = t.client(server.port, f"127.0.0.1:{local}:127.0.0.1:{sink.port}", flags=("--metrics", f":{port}"))
    scrape(port)
    t.wait(lambda: scrape(port).sum("burin_scrapes_total", outcome="answered") > 1, 10, "scrapes are counted")
    had = client.descriptors()
    load = t.load_started(local, "both", "--bytes", 64 * MIB if t.sanitized else 512 * MIB)
    for text in (b"", b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n", b"GET /met", b"GET /metrics HTTP/1.1\r\nX: " + b"y" * 15000) * 4:
        s = socket.socket()
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        s.connect(("127.0.0.1", port))
        s.sendall(text)
        t.sockets.append(s)
    stalled = t.sockets[-16:]
    answered = 0
    while load.alive() and answered < 5:
        m = scrape(port, 5 * t.patience)
        answered += 1
    t.check(answered > 0, "no scrape beside the transfer")
    t.check(m.sum("burin_scrapes_total", outcome="cut_off") >= 8, "those that made room")
    t.check(m.sum("process_open_fds") <= had + 8 + 8, f"descriptors: {m.sum('process_open_fds')}, before {had}")
    load.wait_exit(40 * t.patience)
    t.equal(json.loads(load.out().strip().splitlines()[-1])["outcomes"], {"ok": 1}, "the transfer")
    for s in stalled[:8]:
        reset(s)
    t.wait(lambda: scrape(port).sum("burin_channels") == 0, 15, "the transfer is over")
    for s in stalled[8:]:
        s.close()
    t.wait(lambda: client.descriptors() <= had, 15, lambda: f"descriptors: {client.descriptors()}, before {had}")
    Metrics(m.text)
    # Twenty at once, more than wait together: all but those that make room are answered, none wrongly.
    workers = [Worker(lambda: metrics.ask(port)[0].status) for _ in range(20)]
    done = []
    for each in workers:
        each.thread.join(20 * t.patience)
        done.append(each.result)
    t.check(set(done) <= {200, None} and done.count(200) >= 8, f"twenty at once: {done}")


@test("M.addresses_that_cannot_be", seconds=30)
def addresses_that_cannot_be(t):
    taken = t.listen().getsockname()[1]
    port = t.port()
    for address, words in ((f"127.0.0.1:{taken}", "--metrics: listen tcp 127.0.0.1:.*address already in use"),
                           ("203.0.113.7:9100", "--metrics: listen tcp 203.0.113.7:9100: bind: cannot assign requested address"),
                           ("no.such.host.invalid:9100", "--metrics: listen tcp no.such.host.invalid:9100: "),
                           ("9100", "invalid value .* for flag -metrics"), (f"127.0.0.1:{port}", "that is the port of the tunnel")):
        for role, command in {"server": ["--host", "127.0.0.1", "--port", port], "client": ["http://127.0.0.1:1", f"127.0.0.1:{t.port()}:h:1"]}.items():
            if role == "client" and "tunnel" in words:
                continue
            process = t.run(f"burin-{role}", [t.binary, role, "--metrics", address, *command])
            lines = process.text().strip().splitlines()
            t.equal((process.popen.returncode, len(lines)), (1, 1), f"{role} --metrics {address}: status and lines of {lines}")
            t.check(re.search(words, lines[0]), f"{role} --metrics {address}: {lines[0]}")
