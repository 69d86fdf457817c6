"""`burin doctor`: the program itself, as root and as nobody, beside what this machine's files say."""

import errno
import json
import os

from harness import test
from test_start import NOBODY, without_io_uring

VERDICTS = {"ok", "note", "warning"}
FIELDS = {"subject", "verdict", "seen", "change", "gain", "prevents"}


def nobody():
    os.setgroups([])
    os.setgid(NOBODY)
    os.setuid(NOBODY)


def told(t, *arguments, status=0, **more):
    process = t.run("doctor", [t.binary, "doctor", "--json", *arguments], **more)
    t.equal((process.popen.returncode, process.err()), (status, ""), f"doctor {arguments}: status and errors")
    said = json.loads(process.out())
    t.equal(set(said), {"version", "can_run", "findings"}, "what is said")
    t.equal(said["can_run"], status == 0, "whether a tunnel can run")
    found = {one["subject"]: one for one in said["findings"]}
    t.equal(len(found), len(said["findings"]), "one finding a subject")
    for one in found.values():
        t.check(set(one) == FIELDS and one["verdict"] in VERDICTS and one["seen"], f"a finding: {one}")
        t.check(one["verdict"] != "ok" or not one["change"], f"a change where all is well: {one}")
    return found


def setting(name):
    with open(f"/proc/sys/net/{name}") as f:
        return f.read().split()


@test("P.doctor", seconds=40)
def doctor(t):
    os.chmod(t.folder, 0o711)
    root, other = told(t, f"http://127.0.0.1:{t.port()}"), told(t, restrict=nobody)
    t.equal(set(root) - set(other), {"way to the server"} | ({"UDP superframes"} - set(other)), "what root is told and nobody is not")
    for who in (root, other):
        t.equal(who["io_uring"]["verdict"] != "warning", True, "io_uring, which this test runs on")
        t.check(all(number in who["tcp send buffer"]["seen"] for number in setting("ipv4/tcp_wmem")), who["tcp send buffer"])
        t.check(who["congestion control"]["seen"].startswith(setting("ipv4/tcp_congestion_control")[0] + ";"), who["congestion control"])
        t.check(os.uname().release in who["io_uring"]["seen"], who["io_uring"])
        t.check(f"ip_forward = {setting('ipv4/ip_forward')[0]}" in who["forwarding"]["seen"], who["forwarding"])
    t.check("by lo, MTU 65535" in root["way to the server"]["seen"], root["way to the server"])
    t.equal((root["TUN"]["verdict"], other["TUN"]["verdict"]), ("ok", "note"), "a TUN device")
    # What a change says is what makes it well.
    with open("/proc/sys/net/ipv4/tcp_wmem", "w") as f:
        f.write("4096 16384 4194304")
    note = told(t)["tcp send buffer"]
    t.equal((note["verdict"], note["change"]), ("note", 'sysctl -w net.ipv4.tcp_wmem="4096 16384 25000000"'), "a small buffer")
    with open("/proc/sys/net/ipv4/tcp_wmem", "w") as f:
        f.write(note["change"].split('"')[1])
    t.equal(told(t)["tcp send buffer"]["verdict"], "ok", "the buffer after the change")
    # For a person: the same, in words.
    text = t.run("doctor", [t.binary, "doctor", "no.such.host.invalid"])
    t.equal((text.popen.returncode, text.err()), (0, ""), "doctor, in words")
    t.check("\nwarning  way to the server: no.such.host.invalid: " in text.out() and text.out().splitlines()[-1].startswith("A tunnel can run here"),
            text.out())
    told(t, status=1, restrict=without_io_uring(errno.EPERM))
    for arguments in (["--nonsense"], ["a", "b"]):
        process = t.run("doctor", [t.binary, "doctor", *arguments])
        t.equal((process.popen.returncode, process.out(), len(process.err().splitlines())), (2, "", 1), f"doctor {arguments}")
    with open("/proc/net/dev") as f:
        t.check("burin" not in f.read(), "a device is left")
