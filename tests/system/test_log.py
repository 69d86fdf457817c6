"""What a person reads: log lines in chisel's shape (docs/wire.md section 10.8), and nothing of a peer's that is not escaped."""

import http.client
import re
import signal
import subprocess

import harness
import wire
from harness import test


def lines(text):
    """Log lines without their times, addresses and durations."""
    masked = []
    for line in text.splitlines():
        line = re.sub(r"^\d{4}/\d\d/\d\d \d\d:\d\d:\d\d(\.\d{3})? ", "", line)
        line = re.sub(r"127\.0\.0\.1:\d+", "ADDRESS", line)
        line = re.sub(r"(duration=|Latency )[0-9.]+[µm]?s", r"\1TIME", line)
        masked.append(re.sub(r"(/\w+ \d+) [0-9.]+[nµm]?s ", r"\1 TIME ", line))
    return masked


@test("V.verbose_logs_of_both_ends")
def verbose_logs(t):
    sink, dead = t.destination(), t.port()
    server = t.server("-v", "--auth", "user:pass", "--key", "seed")
    web = http.client.HTTPConnection("127.0.0.1", server.port)
    for path in ("/health", "/nothing"):
        web.request("GET", path)
        web.getresponse().read()
    web.close()
    wrong = t.client(server.port, flags=("--auth", "user:wrong", "--max-retry-count", "0"), connected=False, name="wrong")
    wrong.wait_exit()
    print_of_key = server.wait_line(r"Fingerprint (\S+)").group(1)
    port, refused = t.port(), t.port()
    client = t.client(server.port, f"127.0.0.1:{port}:127.0.0.1:{sink.port}", f"127.0.0.1:{refused}:127.0.0.1:{dead}",
                      flags=("-v", "--auth", "user:pass", "--fingerprint", print_of_key))
    t.load(port, "both", "--bytes", 5, ok=1)
    client.wait_line(r"conn#1: Close")
    t.equal(t.fate(refused)[0], "reset", "a connection whose destination refuses")
    client.wait_line(r"Stream error")
    client.signal(signal.SIGTERM)
    client.wait_exit()
    server.wait_line(r"session#\d+: Close")
    got = lines(client.err())
    proxy, other = "client: tun: proxy#ADDRESS=>ADDRESS: ".replace("=>ADDRESS", f"=>{sink.port}"), f"client: tun: proxy#ADDRESS=>{dead}: "
    want = [f"{proxy}Listening", f"{other}Listening", "client: tun: Bound proxies", "client: Connecting to ws://ADDRESS",
            "client: Handshaking...", f"client: Fingerprint {print_of_key}", "client: Sending config", "client: Connected (Latency TIME)",
            f"{proxy}conn#1: Open"]
    got = [line for line in got if "extensions of the peer" not in line]  # ours
    t.equal(got[:len(want)], want, "the client's first lines")
    t.check(any(re.fullmatch(re.escape(proxy) + r"conn#1: Close \(sent \d+B received \d+B\)", line) for line in got), f"no close in {got}")
    t.check(f"{other}conn#1: Stream error: ssh: rejected: connect failed (dial tcp ADDRESS: connect: connection refused)" in got,
            f"no refusal in {got}")
    got = lines(server.err())
    for line in ("server: User authentication enabled", 'server: session#1: Login failed for user "user" (ADDRESS)',
                 "server: session#2: Handshaking with ADDRESS...", "server: session#2: Verifying configuration",
                 f"server: session#2: Open (user=user addr=ADDRESS remotes=ADDRESS=>{sink.port},ADDRESS=>{dead})",
                 "server: session#2: tun: conn#1: Open [1/1]", "server: session#2: tun: conn#1: Close [0/1]",
                 "server: session#2: tun: conn#2: dial tcp ADDRESS: connect: connection refused",
                 "server: session#2: Close (user=user addr=ADDRESS duration=TIME)"):
        t.check(line in got, f"the server did not say {line!r}: {got}")
    t.check(any(re.fullmatch(r"server: session#2: tun: conn#1: sent \d+B received \d+B", line) for line in got), f"no counts in {got}")
    t.equal(lines(server.out())[:2], ["GET /health 200 TIME 3B", "GET /nothing 404 TIME 9B"], "requests on standard output")


@test("V.peers_write_no_log_lines")
def peers_write_no_log_lines(t):
    """Names of users, remotes and hosts are a stranger's bytes: they stay within their line, escaped."""
    server = t.server("-v")
    forged = "2006/01/02 15:04:05 server: forged"
    raw = wire.Raw(t, "client", server.port)
    raw.authenticate(user=f"a\x1b[31m\n{forged}")
    raw.configure(wire.config_json("1.12.0"))
    session = wire.Session(raw)
    session.open(f"no\x1bhost\n{forged}:80", must=False)
    server.wait_line("Open \\(user=")
    server.signal(signal.SIGUSR2)
    server.wait_line("worker 0: budget")
    raw.process.kill()
    server.wait_line("Close \\(user=")
    raw = wire.Raw(t, "client", server.port)
    raw.handshake()
    raw.process.kill()
    key = t.file("key", "")
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key + ".id"], check=True)
    with open(key + ".id.pub") as public:
        keys = t.file("authorized", public.read())
    native = t.server("-v", "--authorized-keys", keys)
    local = t.port()
    ssh = t.start("ssh", ["ssh", "-F", "none", "-N", "-i", key + ".id", "-p", native.port, "-o", "StrictHostKeyChecking=no",
                          "-o", "UserKnownHostsFile=/dev/null", "-L", f"127.0.0.1:{local}:no\x1bhost:80", "user@127.0.0.1"])
    t.listening(ssh, "127.0.0.1", local)
    t.fate(local)
    native.wait_line("tun: conn#1: ")
    for process in (server, native):
        text = process.err()
        t.check("\x1b" not in text, "an escape character in the log")
        t.check(not any(line.startswith(forged) for line in text.splitlines()), f"a forged line in the log: {harness.tail(text)}")
