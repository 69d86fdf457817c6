"""--send-zc: on this machine's loopback the kernel copies whatever it is asked, and says so."""

import re

import harness
import report
from harness import test

MIB = 1 << 20


def told(t, process):
    """Of the session: sends that the kernel is done with, and those that it had copied; arenas that are lent."""
    text = report.report(process, 20 * t.patience)
    sends, copied = re.search(r" zero-copy-sends=(\d+) copied=(\d+)", text).groups()
    return int(sends), int(copied), int(re.search(r" lent=(\d+)", text)[1])


def ends(t, *flags, env=None):
    sink, port = t.destination(), t.port()
    server = t.server(*flags, env=env)
    client = t.client(server.port, f"127.0.0.1:{port}:127.0.0.1:{sink.port}", flags=flags, env=env)
    return server, client, port


@test("Z.copies_end_it")
def copies_end_it(t):
    """A session that is told of copies goes back to plain sends by itself; without the flag nothing is lent."""
    for flags in (("--send-zc",), ()):
        server, client, port = ends(t, *flags)
        t.load(port, "both", "--bytes", 8 * MIB, "--connections", 4, ok=4)
        for process in (server, client):
            t.wait(lambda process=process: told(t, process)[2] == 0, 20, "what was lent comes back")
            sends, copied, _ = told(t, process)
            t.equal(sends, copied, "on loopback all are copied")
            # As many as were on their way when the second was told.
            t.check(2 <= sends <= 10 if flags else sends == 0, f"{process.name} with {flags}: {sends} sends")
        for process in (client, server):
            process.kill()


@test("Z.what_is_lent_is_left_alone")
def left_alone(t):
    """Lent for good, whatever the kernel says: every byte is right, several sends are out at a time, and an end that is gone
    keeps nothing."""
    server, client, port = ends(t, env={"BURIN_SEND_ZC": "always"})
    t.load(port, "both", "--bytes", 16 * MIB, "--connections", 4, ok=4)
    for process in (server, client):
        text = report.wait_idle(t, process)
        t.equal(re.search(r"arenas=(\d+)/", text)[1], "0", f"arenas of the {process.name}")
        sends, copied, lent = told(t, process)
        t.check(sends > 20 and sends == copied and lent == 0, f"{process.name}: {sends} sends, {copied} copied, {lent} lent")
    load = t.load_started(port, "both", "--bytes", 1 << 40, "--connections", 4)
    before = told(t, server)[0]
    t.wait(lambda: told(t, server)[0] > before + 20, 20, "bulk")
    client.kill()
    load.finish()
    text = report.wait_idle(t, server)
    t.equal(re.search(r"arenas=(\d+)/\d+ lent=(\d+)", text).groups(), ("0", "0"), "arenas of the server")
