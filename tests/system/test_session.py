"""The session: acceptance rows C1-C8 and C10 (docs/wire.md sections 7, 8.1, 10.5)."""

import json
import re
import signal
import time

import harness
import report
import wire
from harness import Failed, test
from wire import message, string

MIB = 1 << 20


def remote_json(local_port, remote_host, remote_port, local_host="0.0.0.0", protocol="tcp", reverse=False):
    return {"LocalHost": local_host, "LocalPort": str(local_port), "LocalProto": protocol, "RemoteHost": remote_host,
            "RemotePort": str(remote_port), "RemoteProto": protocol, "Socks": False, "Reverse": reverse, "Stdio": False}


def go_json(version, remotes):
    text = json.dumps({"Version": version, "Remotes": remotes}, separators=(",", ":"), ensure_ascii=False)
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e").encode()


@test("C1.config_is_gos_json")
def config_json(t):
    for remotes, expected in (((t.port(),), None), ((t.port(), t.port()), None)):
        ports = [str(p) for p in remotes]
        listen = t.port()
        raw = wire.Raw(t, "server", listen)
        client = t.client(listen, *[f"127.0.0.1:{p}:some.host.test:80" for p in ports], connected=False)
        session = raw.admit()
        version = json.loads(session.config)["Version"]
        t.check(version, "no version in the config")
        want = go_json(version, [remote_json(p, "some.host.test", 80, "127.0.0.1") for p in ports])
        t.equal(session.config, want, "config")
        client.wait_line("Connected")
        client.kill()


@test("C1.config_replies")
def config_replies(t):
    server = t.server()

    def reply(name, payload, first=True):
        raw = wire.Raw(t, "client", server.port)
        raw.authenticate()
        raw.send(message(wire.GLOBAL_REQUEST, string(name), b"\1", payload))
        packet = raw.packet()
        if packet is None:
            raise Failed(f"no reply to {name} {payload!r}")
        return packet

    failure = bytes([wire.REQUEST_FAILURE])
    t.equal(reply("ping", b""), failure + b"server: expecting config request", "another request first")
    for payload in (b"", b"{", b"[1]", b'{"Version":1}', b'{"Remotes":{}}', b'{"Remotes":[{"LocalPort":80}]}', b"\xff\xfe", b"{} x",
                    b"[" * 100000, b'{"a":' * 50000):
        t.equal(reply("config", payload), failure + b"server: invalid config", f"config {payload[:40]!r}")
    reverse = wire.config_json(remotes=[remote_json(t.port(), "localhost", 22, reverse=True)])
    packet = reply("config", reverse)
    t.check(re.fullmatch(rb"server: Reverse port forward?ing not enabled on server|server: Reverse port forwaring not enabled on server",
                         packet[1:]) and packet[:1] == failure, f"reverse refused: {packet!r}")
    success = bytes([wire.REQUEST_SUCCESS])
    for payload in (b"{}", b"null", b'{"version":"1.12.0","REMOTES":null}', b'{"Version":"1.12.0","Remotes":[],"More":{"a":[1]}}',
                    wire.config_json(remotes=[remote_json(1, "host.test", 2)]), b' {"Remotes":[{"RemoteHost":"h","RemotePort":"1"}]}\n'):
        t.equal(reply("config", payload), success, f"config {payload!r}")


@test("C1.client_told_no")
def client_told_no(t):
    port = t.port()
    raw = wire.Raw(t, "server", port)
    client = t.client(port, connected=False)
    for packet in (message(wire.REQUEST_FAILURE, b"server: access to 'x:1\x1b[31m' denied"), message(wire.REQUEST_SUCCESS, b"server: no")):
        raw.accept()
        while True:
            got = raw.packet()
            if got is None:
                raise Failed("no config request")
            if got[0] == wire.SERVICE_REQUEST:
                raw.send(message(wire.SERVICE_ACCEPT, string("ssh-userauth")))
            elif got[0] == wire.USERAUTH_REQUEST:
                raw.send(message(wire.USERAUTH_SUCCESS))
            elif got[0] == wire.GLOBAL_REQUEST:
                break
        raw.send(packet)
        t.check(raw.ended(), "the client stays after a refused config")
    client.wait_line("server: access to 'x:1")
    t.check("\x1b" not in client.text(), "the peer's escape sequence went to the log as it is")
    raw.admit()
    client.wait_line("Connected")


@test("C2.version_difference_is_only_logged")
def version_difference(t):
    server = t.server()
    raw = wire.Raw(t, "client", server.port)
    raw.authenticate()
    t.equal(raw.configure(wire.config_json("9.8.7")), bytes([wire.REQUEST_SUCCESS]), "another version")
    server.wait_line(r"Client version \(9\.8\.7\) differs from server version \(")
    raw = wire.Raw(t, "client", server.port)
    raw.authenticate()
    raw.configure(wire.config_json("1\x1b[31m\n"))
    raw.send(message(wire.GLOBAL_REQUEST, string("ping"), b"\1"))
    raw.expect(wire.REQUEST_SUCCESS)
    t.check("\x1b" not in server.text(), "the peer's escape sequence went to the log as it is")


@test("C3.config_deadline", slots=0)
def config_deadline(t):
    server = t.server(env={"CHISEL_CONFIG_TIMEOUT": "1s"})
    default = t.server(name="burin-server-default")
    quick, slow = wire.Raw(t, "client", server.port), wire.Raw(t, "client", default.port)
    begin = time.monotonic()
    quick.authenticate()
    slow.authenticate()
    t.check(quick.ended(8), "a client silent after its login stays (CHISEL_CONFIG_TIMEOUT=1s)")
    server.wait_line(r"Failed to handshake \(127\.0\.0\.1:\d+\): timeout waiting for configuration\n")
    t.check(time.monotonic() - begin >= 0.9, "dropped before the deadline")
    t.check(slow.ended(25), "a client silent after its login stays (10 s by default)")
    t.check(time.monotonic() - begin >= 9, f"dropped after {time.monotonic() - begin:.1f} s; 10 s is the default")


@test("C4.pings_at_the_interval")
def ping_interval(t):
    port = t.port()
    raw = wire.Raw(t, "server", port)
    client = t.client(port, flags=("--keepalive", "300ms"), connected=False)
    session = raw.admit()
    session.pump(lambda: session.pings >= 3, 10, "three pings of the client")
    client.kill()
    port = t.port()
    raw = wire.Raw(t, "server", port)
    t.client(port, flags=("--keepalive", "0"), connected=False)
    session = raw.admit()
    session.settle(2)
    t.equal(session.pings, 0, "pings with --keepalive 0")
    server = t.server("--keepalive", "300ms")
    session = wire.Raw(t, "client", server.port).login()
    session.pump(lambda: session.pings >= 3, 10, "three pings of the server")


@test("C4.late_or_strange_reply_ends_the_session", slots=0)
def ping_replies(t):
    interval, work = 2, []

    def watch(who, peer, session, reply, stays):
        session.answer_pings = False
        session.pump(lambda: session.pings, 15, "a ping")
        seen = time.monotonic()
        if reply:
            peer.send(reply)
        if stays:
            return session.pump(lambda: session.pings >= 2, 15, f"a ping of {who} after {reply!r}")
        t.check(peer.ended(15), f"the session of {who} goes on after the answer {reply!r}")
        took, most = time.monotonic() - seen, (0.5 if reply else 2) * interval * t.patience
        t.check(took < most, f"{who} noticed {took:.1f} s after the ping; the interval is {interval} s")
    for reply, stays in ((None, False), (message(wire.REQUEST_SUCCESS, b"pang"), False), (message(wire.REQUEST_SUCCESS), True),
                         (message(wire.REQUEST_FAILURE), True)):
        port = t.port()
        flags = ("--keepalive", f"{interval}s")
        raw, other = wire.Raw(t, "client", t.server(*flags).port), wire.Raw(t, "server", port)
        t.client(port, flags=flags, connected=False)
        work.append(harness.Worker(lambda a=(raw, reply, stays): watch("a server", a[0], a[0].login(), *a[1:])))
        work.append(harness.Worker(lambda a=(other, reply, stays): watch("a client", a[0], a[0].admit(), *a[1:])))
    for each in work:
        each.join(60 * t.patience)


def frozen(t, pairs, interval):
    """Stops processes, and tells how long each watcher needs: the interval up to a ping and one more for its answer."""
    for process, _ in pairs:
        process.signal(signal.SIGSTOP)
    begin = time.monotonic()
    took = {}

    def all_noticed():
        took.update({process.name: time.monotonic() - begin for process, watch in pairs if process.name not in took and watch()})
        return len(took) == len(pairs)
    t.wait(all_noticed, 2 * interval + 10, lambda: f"the frozen peers are noticed; so far {took}")
    t.note(f"noticed after {', '.join(f'{each:.1f} s' for each in took.values())} at an interval of {interval} s")
    for name, each in took.items():
        t.check(each < (2 * interval + 1) * t.patience, f"{name}: {each:.1f} s are more than two intervals of {interval} s")


@test("C4.frozen_server", slots=0)
def frozen_server(t):
    sink, pairs, flows = t.destination(), [], []
    for make in (t.go_server, t.server):
        server, port = make(), t.port()
        client = t.client(server.port, f"127.0.0.1:{port}:127.0.0.1:{sink.port}", flags=("--keepalive", "4s"))
        flow = t.connect(port)
        flow.sendall(b"x")
        flows.append((server, client, port, flow))
        pairs.append((server, lambda c=client: "Disconnected" in c.text() or "Connection error" in c.text()))
    frozen(t, pairs, 4)
    for server, client, port, flow in flows:
        t.equal(harness.ended_how(flow)[0], "reset", "the local connection of the lost session")
        server.signal(signal.SIGCONT)
        client.wait_line("Connected", 20 * t.patience, 2)
        t.load(port, "both", "--bytes", MIB, ok=1)


@test("C4.frozen_client", slots=0)
def frozen_client(t):
    server = t.server("--keepalive", "4s")
    listener = t.listen()
    pairs, ends = [], []
    for make in (t.go_client, t.client):
        port = t.port()
        client = make(server.port, f"127.0.0.1:{port}:127.0.0.1:{listener.getsockname()[1]}")
        t.connect(port).sendall(b"x")
        s, _ = listener.accept()
        t.equal(harness.receive_exactly(s, 1), b"x", "through the tunnel")
        s.setblocking(False)

        def over(s=s):
            try:
                ends.append(s.recv(10))
            except BlockingIOError:
                return False
            except ConnectionResetError:
                ends.append("reset")
            return True
        pairs.append((client, over))
    frozen(t, pairs, 4)
    t.equal(ends, ["reset"] * 2, "the destination's end of a lost session")


@test("C4.ping_timeout", slots=0)
def ping_timeout(t):
    """CHISEL_PING_TIMEOUT is how long an answer may take, whatever the interval is."""
    env, flags = {"CHISEL_PING_TIMEOUT": "500ms"}, ("--keepalive", "5s")
    raw = wire.Raw(t, "client", t.server(*flags, env=env).port)
    port = t.port()
    other = wire.Raw(t, "server", port)
    t.client(port, flags=flags, env=env, connected=False)

    def watch(who, peer, session):
        session.answer_pings = False
        session.pump(lambda: session.pings, 15, f"a ping of {who}")
        seen = time.monotonic()
        t.check(peer.ended(15), f"the session of {who} goes on without an answer")
        return time.monotonic() - seen
    work = [harness.Worker(lambda a=each: watch(*a)) for each in (("a server", raw, raw.login()), ("a client", other, other.admit()))]
    for each in work:
        each.join(40 * t.patience)
        t.check(each.result < 2.5 * t.patience, f"ended {each.result:.1f} s after a ping that had 0.5 s, at an interval of 5 s")


@test("C4.pings_under_load", seconds=90)
def pings_under_load(t):
    """A session that carries all it can answers pings in time: load alone ends none, with our own peer and with Go's."""
    sink, interval = t.destination(), f"{t.patience}s"
    flags, loads, ends = ("--keepalive", interval), [], []
    for server, client in ((t.server, t.client), (t.go_server, t.client), (t.server, t.go_client)):
        peer, port = server(*flags), t.port()
        ends.append(client(peer.port, f"127.0.0.1:{port}:127.0.0.1:{sink.port}", flags=flags))
        # Some flows that fill what they may and stand still, and some that take whatever the others leave.
        stuck = t.load_started(port, "down", "--stall", "--connections", 10, "--bytes", 64 * MIB)
        stuck.wait_line('"event":"ready"', 30 * t.patience)
        loads.append(t.load_started(port, "both", "--bytes", 0, "--connections", 4, "--duration", f"{4 * t.patience}s", "--timeout", "60s"))
    for load in loads:
        load.wait_exit(40 * t.patience)
        t.equal(harness.last_json(load)["outcomes"], {"ok": 4}, "the load")
    for client in ends:
        t.check(len(re.findall("Connected", client.text())) == 1 and "Disconnected" not in client.text(),
                f"a session was lost under load: {harness.tail(client.text())}")
    t.check(re.search(r"latency-us=[1-9]", report.report(ends[0])), "no ping was answered")


@test("C5.unknown_global_requests")
def unknown_requests(t):
    server = t.server("--auth", "u:p")
    session = wire.Raw(t, "client", server.port).login("u", "p")
    session.raw.send(message(wire.GLOBAL_REQUEST, string("nobody@example.test"), b"\1", b"some payload"),
                     message(wire.GLOBAL_REQUEST, string("nobody@example.test"), b"\0"),
                     message(wire.GLOBAL_REQUEST, string("ping"), b"\1"))
    session.pump(lambda: bytes([wire.REQUEST_SUCCESS]) + b"pong" in session.replies, 10, "the answer to the ping")
    raw = wire.Raw(t, "client", server.port, "--native")
    raw.authenticate("u", "p")
    for name in ("keepalive@openssh.com", "nobody@example.test", "tcpip-forward-not"):
        raw.send(message(wire.GLOBAL_REQUEST, string(name), b"\1"))
        packet = raw.packet()
        while packet and packet[0] == wire.GLOBAL_REQUEST:  # hostkeys-00 may come in between
            packet = raw.packet()
        t.check(packet and packet[0] in (wire.REQUEST_SUCCESS, wire.REQUEST_FAILURE), f"native {name}: {packet!r}")
    raw.send(message(wire.GLOBAL_REQUEST, string("no-more-sessions@openssh.com"), b"\0"))
    # A client leaves what it does not know unanswered, as Go's does, and goes on.
    port = t.port()
    raw = wire.Raw(t, "server", port)
    t.client(port, connected=False)
    session = raw.admit()
    for want_reply in (b"\1", b"\0"):
        raw.send(message(wire.GLOBAL_REQUEST, string("nobody@example.test"), want_reply, b"some payload"))
    session.ping()
    session.ping()
    t.equal(session.replies, [bytes([wire.REQUEST_SUCCESS]) + b"pong"] * 2, "the replies of a client")


def retries(client):
    return re.findall(r"Retrying in (\S+)", client.text())


def duration(text):
    """Seconds of a Go duration, with or without an ellipsis behind it."""
    units = {"ms": 0.001, "s": 1, "m": 60, "h": 3600}
    return sum(float(number) * units[unit] for number, unit in re.findall(r"([\d.]+?)(ms|[smh])", text.rstrip(".")))


@test("C6.backoff_lines")
def backoff(t):
    client = t.client(t.port(), flags=("--max-retry-count", "4"), connected=False)
    t.equal(client.wait_exit(20 * t.patience), 1, "exit status at give-up")
    t.equal([line.rstrip(".") for line in retries(client)], ["100ms", "200ms", "400ms", "800ms"], "delays")
    text = client.text()
    t.equal(len(re.findall("Connection error: ", text)), 5, "attempts")
    t.equal(re.findall(r"\(Attempt: (\d+)/4\)", text), ["1", "2", "3", "4"], "attempt numbers")
    t.check("Give up" in text, f"no `Give up`: {text}")
    client = t.client(t.port(), flags=("--max-retry-interval", "1s"), connected=False)
    t.wait(lambda: len(retries(client)) >= 6, 20, lambda: f"six retries: {retries(client)}")
    t.equal([duration(each) for each in retries(client)[:6]], [0.1, 0.2, 0.4, 0.8, 1.0, 1.0], "delays under --max-retry-interval 1s")
    t.check("(Attempt: 1/unlimited)" in client.text(), "unlimited attempts are not called so")


@test("C6.backoff_starts_again_after_5_s", seconds=90, slots=0)
def backoff_reset(t):
    port = t.port()
    client = t.client(port, connected=False)
    t.wait(lambda: len(retries(client)) >= 4, 20, "four retries")
    for seconds, expected in ((6, 0.1),):
        server = t.server(port=port)
        client.wait_line("Connected", 20)
        time.sleep(seconds)  # the session's length is what is tested
        before = len(retries(client))
        server.kill()
        t.wait(lambda: len(retries(client)) > before, 20, "a retry")
        t.equal(duration(retries(client)[before]), expected, f"first delay after a session of {seconds} s")


@test("C7.retry_count")
def retry_count(t):
    for count in (0, 1, 2):
        listener = t.listen()
        client = t.client(listener.getsockname()[1], flags=("--max-retry-count", count), connected=False)
        listener.settimeout(0.2)
        attempts, end = 0, time.monotonic() + 20 * t.patience
        while client.alive() and time.monotonic() < end:
            try:
                listener.accept()[0].close()
                attempts += 1
            except TimeoutError:
                pass
        t.equal(client.wait_exit(), 1, "exit status at give-up")
        t.equal(attempts, count + 1, f"attempts with --max-retry-count {count}")
        listener.close()
    client = t.client(t.port(), flags=("--max-retry-count", "2", "--min-retry-interval", "50ms"), connected=False)
    client.wait_exit(15 * t.patience)
    t.check(client.popen.returncode == 1, "exit status at give-up")


@test("C8.listeners_wait_for_a_session")
def listeners_wait(t):
    port, server_port, sink = t.port(), t.port(), t.destination()
    client = t.client(server_port, f"127.0.0.1:{port}:127.0.0.1:{sink.port}", connected=False, env={"CHISEL_SSH_WAIT": "2s"})
    t.listening(client, "127.0.0.1", port)
    begin = time.monotonic()
    waiting = t.connect(port)
    how, _ = harness.ended_how(waiting, 15 * t.patience)
    took = time.monotonic() - begin
    t.check(took >= 1.8, f"the local connection was closed ({how}) after {took:.2f} s, before the wait of 2 s was over")
    t.equal(how, "reset", "a connection that never got a session: nobody may take it for an empty answer")
    for ending in (signal.SIGTERM, signal.SIGKILL):
        other = t.port()
        dying = t.client(server_port, f"127.0.0.1:{other}:127.0.0.1:{sink.port}", connected=False, name="dying-client")
        t.listening(dying, "127.0.0.1", other)
        left = t.connect(other)
        dying.signal(ending)
        t.equal(harness.ended_how(left)[0], "reset", f"a waiting connection whose client ends by {ending.name}")
    # One that comes shortly before the session is served.
    load = t.load_started(port, "both", "--bytes", MIB)
    t.server(port=server_port)
    load.wait_exit(20 * t.patience)
    summary = harness.last_json(load)
    if summary["outcomes"] != {"ok": 1}:  # the server needed more than 2 s
        t.note(f"a connection waiting for the server: {summary['outcomes']}")
        client.wait_line("Connected")
    t.load(port, "both", "--bytes", MIB, ok=1)


@test("C8.ssh_wait_default", seconds=80, slots=0)
def ssh_wait_default(t):
    port = t.port()
    client = t.client(t.port(), f"127.0.0.1:{port}:127.0.0.1:1", connected=False)
    t.listening(client, "127.0.0.1", port)
    begin = time.monotonic()
    waiting = t.connect(port)
    harness.ended_how(waiting, 60)
    took = time.monotonic() - begin
    t.check(took >= 34, f"the local connection was closed after {took:.1f} s; 35 s is the default")


def count_in(process, what):
    """A function that tells how often its log has these words so far; reads what is new alone."""
    seen, rest, file = 0, b"", open(process.err_path, "rb")

    def count():
        nonlocal seen, rest
        text = rest + file.read()
        seen += text.count(what)
        rest = text[-(len(what) - 1):]
        return seen
    return count


def state(t, process):
    """What a process has, when it is at rest."""
    t.wait(lambda: harness.settled(process), 20, "descriptors come to rest")
    idle = report.kept(report.wait_idle(t, process))
    return {"descriptors": process.descriptors(), "threads": process.threads(), **idle}


def nothing_left(t, process, before):
    """Waits until a process has what it had before; a timer of the moment may be missing."""
    last = {}

    def same():
        last.update(state(t, process))
        return last["timers"] <= before["timers"] and all(last[name] == before[name] for name in before if name != "timers")
    t.wait(same, 20, lambda: f"{process.name} has what it had before: {last}, before {before}")


def no_leak(t, process):
    """The allocator grows in steps of 2 MiB; what it cannot tell, the leak sanitizer does when the program ends."""
    process.signal(signal.SIGTERM)
    t.equal(process.wait_exit(20 * t.patience), 0, f"how {process.name} ends: {harness.tail(process.err())}")


@test("C10.many_sessions_leave_nothing", seconds=200, slots=2)
def many_sessions(t):
    """At the server: sessions that end in three ways, each with a flow in it."""
    server, sink = t.server(), t.destination()
    target = f"127.0.0.1:{sink.port}"
    t.equal(t.churn(server.port, 300, "--target", target)["failed"], 0, "failed sessions while warming up")
    before, memory = state(t, server), server.pss()
    count = 300 if t.sanitized else 10000
    summary = t.churn(server.port, count, "--target", target, seconds=180)
    t.equal(summary["failed"], 0, f"failed sessions: {summary}")
    nothing_left(t, server, before)
    grown = server.pss() - memory
    t.check(t.sanitized or grown < 8 * MIB, f"memory grew by {grown / MIB:.1f} MiB in {count} sessions")
    no_leak(t, server)
    t.note(f"{count} sessions in {summary['seconds']:.1f} s, memory {grown / 1024:+.0f} KiB")


@test("C10.many_reconnections_leave_nothing", seconds=500)
def many_reconnections(t):
    """At the client: a server that cuts every session off as soon as it is up, and a local connection that waits meanwhile."""
    port, local = t.port(), t.port()
    server = t.go_server("--cut", port=port)
    client = t.client(port, f"127.0.0.1:{local}:127.0.0.1:1")

    connected = count_in(client, b"Connected (")

    def enough(count):
        client.signal(signal.SIGHUP)  # do not wait before the next attempt
        return connected() >= count

    def sessions(count, seconds):
        wanted = connected() + count
        t.wait(lambda: enough(wanted), seconds, lambda: f"{connected()} of {wanted} sessions", longest_pause=0.002)

    def at_rest():
        # A server that answers, and lets the session be.
        nonlocal server
        server.kill()
        server = t.go_server(port=port, name="go-server-that-stays")
        wanted = connected() + 1
        t.wait(lambda: enough(wanted), 20, "a session that stays")
    sessions(200, 30)
    at_rest()
    before, memory = state(t, client), client.pss()
    server.kill()
    server = t.go_server("--cut", port=port)
    count = 300 if t.sanitized else 10000 if t.long else 2000
    sessions(count, 400 if t.long else 120)
    at_rest()
    nothing_left(t, client, before)
    grown = client.pss() - memory
    t.check(t.sanitized or grown < 8 * MIB, f"memory grew by {grown / MIB:.1f} MiB in {count} sessions")
    no_leak(t, client)
    t.note(f"{count} sessions, memory {grown / 1024:+.0f} KiB")


@test("C10.many_refusals_leave_nothing", seconds=200)
def many_refusals(t):
    """At the client: a server that is not there, and attempts one after another."""
    port = t.port()
    server = t.server(port=port)
    client = t.client(port)
    attempts, connected = count_in(client, b"Connection error"), count_in(client, b"Connected (")

    def refusals(count):
        nonlocal server
        server.kill()
        wanted = attempts() + count

        def enough():
            client.signal(signal.SIGHUP)  # do not wait before the next attempt
            return attempts() >= wanted
        t.wait(enough, 30 + count / 50, lambda: f"{attempts()} of {wanted} attempts", longest_pause=0.002)
        had = connected()
        server = t.server(port=port)

        def again():
            client.signal(signal.SIGHUP)
            return connected() > had
        t.wait(again, 20, "a session again")
    refusals(100)
    before, memory = state(t, client), client.pss()
    count = 10000 if t.long else 200
    refusals(count)
    nothing_left(t, client, before)
    grown = client.pss() - memory
    t.check(t.sanitized or grown < 8 * MIB, f"memory grew by {grown / MIB:.1f} MiB in {count} attempts")
    no_leak(t, client)
    t.note(f"{count} attempts, memory {grown / 1024:+.0f} KiB")
