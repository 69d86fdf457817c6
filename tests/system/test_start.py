"""Starting where io_uring cannot be had: one line that says why and what to change, and the exit status 1."""

import ctypes
import errno
import os
import re
import resource
import struct

import harness
from harness import test

NOBODY = 65534
IO_URING_SETUP = 425  # on every architecture
PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 38, 22, 2


def without_io_uring(number):
    """What a container's seccomp profile does: io_uring_setup fails with this error."""
    load, equal, answer = 0x20, 0x15, 0x06  # BPF_LD|W|ABS, BPF_JMP|JEQ|K, BPF_RET|K
    program = b"".join(struct.pack("HBBI", *each) for each in (
        (load, 0, 0, 0), (equal, 0, 1, IO_URING_SETUP), (answer, 0, 0, 0x00050000 | number), (answer, 0, 0, 0x7FFF0000)))
    code = ctypes.create_string_buffer(program, len(program))
    head = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(code)))

    def restrict():
        if harness.libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or harness.libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, head):
            os._exit(126)
    restrict.kept = code
    return restrict


def commands(t):
    return {"server": [t.binary, "server", "--host", "127.0.0.1", "--port", t.port()],
            "client": [t.binary, "client", "http://127.0.0.1:1", f"127.0.0.1:{t.port()}:h:1"]}


@test("P.refused_io_uring")
def refused(t):
    for number, words in ((errno.EPERM, ("seccomp",)), (errno.ENOSYS, ("kernel", "6.1")), (errno.ENOMEM, ("ulimit -l",))):
        for role, command in commands(t).items():
            process = t.run(f"burin-{role}", command, restrict=without_io_uring(number))
            lines = process.text().strip().splitlines()
            t.equal((process.popen.returncode, len(lines)), (1, 1), f"{role}, {errno.errorcode[number]}: status and lines of {lines}")
            t.check(re.match(r"\d{4}/\d\d/\d\d \d\d:\d\d:\d\d ", lines[0]) and all(word in lines[0] for word in ("io_uring", *words)),
                    f"{role}, {errno.errorcode[number]}: {lines[0]}")


@test("P.without_privileges")
def without_privileges(t):
    """Nobody may be who runs the program, with the 8 MiB of locked memory that everybody has. With none of it, which some kernels
    charge rings to, it either works or says what to raise."""
    def limited(most):
        def restrict():
            resource.setrlimit(resource.RLIMIT_MEMLOCK, (most, most))
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
        return restrict
    os.chmod(t.folder, 0o711)
    sink, port = t.destination(), t.port()
    server = t.server(restrict=limited(8 << 20))
    t.client(server.port, f"127.0.0.1:{port}:127.0.0.1:{sink.port}", restrict=limited(8 << 20))
    t.load(port, "both", "--bytes", 1 << 20, ok=1)
    for role, command in commands(t).items():
        process = t.start(f"burin-{role}-0", command, restrict=limited(0))
        process.wait_line("Listening|ulimit -l", 10 * t.patience)
        t.note(f"{role} without locked memory: {'works' if 'ulimit' not in process.text() else 'refused'}")
        if "ulimit" in process.text():
            t.equal((process.wait_exit(), len(process.text().strip().splitlines())), (1, 1), f"{role}: {process.text()}")
