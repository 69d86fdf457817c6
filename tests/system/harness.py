"""The ground the whole-system tests stand on: a registry of tests, a bench for each (a network namespace of its own,
processes that die with it, polling with deadlines), and the runner that prints what held.

A test runs in a process of its own inside an unnamed network namespace, so every port is free, nothing of two runs can
meet, and nothing is left behind however the run ends. Processes die with the test (PR_SET_PDEATHSIG).
"""

import contextlib
import ctypes
import dataclasses
import json
import os
import random
import re
import resource
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import traceback

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
CLONE_NEWNET = 0x40000000
CLONE_NEWNS = 0x00020000
PR_SET_PDEATHSIG = 1
CRASHES = {signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGILL, signal.SIGFPE}
libc = ctypes.CDLL(None, use_errno=True)


def settled(process, over=0.3):
    """Whether as many descriptors are open as a moment before."""
    before = process.descriptors()
    time.sleep(over)
    return process.descriptors() == before


def quiet(*processes, over=0.3):
    """Whether processes take next to no CPU."""
    before = [process.cpu_seconds() for process in processes]
    time.sleep(over)
    return all(process.cpu_seconds() - had < 0.03 for process, had in zip(processes, before))


class Failed(Exception):
    """A test's reason to fail."""


@dataclasses.dataclass
class Test:
    name: str
    run: object
    seconds: float
    long_seconds: float
    exclusive: bool
    long: bool
    slots: int


tests = {}


def test(name, seconds=60, exclusive=False, long=False, slots=1, long_seconds=None):
    """Registers a test; `seconds` is when the runner gives up on it (`long_seconds` with --long, by default the same), `exclusive` ones run alone (they compare rates, or fill
    what the kernel has for TCP), `long` ones only with --long. `slots`: how many ordinary tests it keeps as busy as; 0 for
    those that hardly do anything but wait for a deadline of the program, which start at once, beside whatever runs."""

    def register(function):
        assert name not in tests, name
        tests[name] = Test(name, function, seconds, long_seconds or seconds, exclusive, long, slots)
        return function

    return register


def wait_until(condition, seconds, what, longest_pause=0.05):
    """Polls until the condition holds and returns its value."""
    end = time.monotonic() + seconds
    pause = 0.002
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise Failed(f"not within {seconds:g} s: {what() if callable(what) else what}")
        time.sleep(pause)
        pause = min(pause * 1.5, longest_pause)


class Process:
    """A process of the test; its output goes to files in the test's folder."""

    def __init__(self, bench, name, command, env=None, stderr=None, nofile=None, stdout=None, restrict=None):
        self.name = name
        self.command = [str(part) for part in command]
        base = os.path.join(bench.folder, f"{len(bench.processes):02d}-{name}")
        self.out_path, self.err_path = base + ".out", base + ".err"
        parent = os.getpid()

        def before():
            libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != parent:
                os._exit(1)
            if nofile:
                resource.setrlimit(resource.RLIMIT_NOFILE, nofile)
            if restrict:
                restrict()

        with open(self.out_path, "wb") as out, open(self.err_path, "wb") as err:
            self.popen = subprocess.Popen(
                self.command, stdin=subprocess.PIPE, stdout=stdout if stdout is not None else out, stderr=stderr if stderr is not None else err,
                env=env if env is not None else bench.environment(), cwd=bench.folder, preexec_fn=before)
        self.pid = self.popen.pid

    def out(self):
        with open(self.out_path, errors="replace") as f:
            return f.read()

    def err(self):
        with open(self.err_path, errors="replace") as f:
            return f.read()

    def text(self):
        return self.out() + self.err()

    def alive(self):
        return self.popen.poll() is None

    def wait_line(self, pattern, seconds=10, count=1):
        """Waits until the output has `count` matches of the pattern; returns the last of them."""
        def found():
            matches = list(re.finditer(pattern, self.text()))
            if len(matches) >= count:
                return matches[count - 1]
            if not self.alive():
                raise Failed(f"{self.name} ended with {self.popen.returncode} before saying /{pattern}/: {tail(self.text())}")
            return None
        return wait_until(found, seconds, lambda: f"{self.name} says /{pattern}/; it said: {tail(self.text())}")

    def wait_exit(self, seconds=10):
        wait_until(lambda: not self.alive(), seconds, lambda: f"{self.name} ends; it said: {tail(self.text())}")
        return self.popen.returncode

    def signal(self, number):
        if self.alive():
            self.popen.send_signal(number)

    def kill(self):
        """Ends the process at once and waits for it."""
        if self.alive():
            self.popen.kill()
        with contextlib.suppress(BrokenPipeError):
            self.popen.stdin.close()
        self.popen.wait()

    def finish(self):
        """Closes its standard input (go_peer ends then) and waits."""
        with contextlib.suppress(BrokenPipeError):
            self.popen.stdin.close()
        return self.wait_exit()

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def pss(self):
        """Proportional set size in bytes."""
        with open(f"/proc/{self.pid}/smaps_rollup") as f:
            for line in f:
                if line.startswith("Pss:"):
                    return int(line.split()[1]) * 1024
        raise Failed("no Pss")

    def cpu_seconds(self):
        with open(f"/proc/{self.pid}/stat") as f:
            fields = f.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def threads(self):
        return len(os.listdir(f"/proc/{self.pid}/task"))


def tail(text, lines=6):
    return " | ".join(text.strip().splitlines()[-lines:]) or "(nothing)"


class Bench:
    """What a test works with."""

    def __init__(self, name, folder, options):
        self.name, self.folder, self.options = name, folder, options
        self.binary, self.peer = options["binary"], options["peer"]
        self.long, self.sanitized = options["long"], options["sanitized"]
        self.processes = []
        self.sockets = []
        self.seed = options["seed"]
        self.random = random.Random(f"{self.seed}/{name}")
        self.next_port = 20000
        # Everything is slower under a sanitizer; deadlines stretch, sizes shrink.
        self.patience = 4 if self.sanitized else 1

    # -- checks ------------------------------------------------------------------------------------------------------

    def check(self, condition, what):
        if not condition:
            raise Failed(what)

    def equal(self, got, want, what):
        if got != want:
            raise Failed(f"{what}: got {got!r}, want {want!r}")

    def wait(self, condition, seconds, what, longest_pause=0.05):
        return wait_until(condition, seconds * self.patience, what, longest_pause)

    def note(self, text):
        print(f"note: {text}", flush=True)

    # -- processes ---------------------------------------------------------------------------------------------------

    def environment(self, extra=None):
        env = {"PATH": os.environ.get("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"), "HOME": self.folder, "LANG": "C.UTF-8"}
        for name, value in os.environ.items():
            if name.startswith(("ASAN_", "UBSAN_", "LSAN_", "TSAN_", "GO", "BURIN_")):
                env[name] = value
        env.update(extra or {})
        return env

    def start(self, name, command, env=None, stderr=None, nofile=None, restrict=None):
        """`restrict` runs in the new process just before its program does."""
        process = Process(self, name, command, self.environment(env), stderr, nofile, restrict=restrict)
        self.processes.append(process)
        return process

    def start_piped(self, name, command, stdout):
        """As start, with the standard output in a pipe of the caller's."""
        process = Process(self, name, command, stdout=stdout)
        self.processes.append(process)
        return process

    def run(self, name, command, env=None, seconds=30, **more):
        """Runs a command to its end; returns the process."""
        process = self.start(name, command, env, **more)
        process.popen.stdin.close()
        process.wait_exit(seconds * self.patience)
        return process

    def port(self):
        self.next_port += 1
        return self.next_port

    def file(self, name, content, mode=0o600):
        path = os.path.join(self.folder, name)
        with open(path, "wb") as f:
            f.write(content.encode() if isinstance(content, str) else content)
        os.chmod(path, mode)
        return path

    # -- the program under test --------------------------------------------------------------------------------------

    def server(self, *flags, port=None, host="127.0.0.1", env=None, name="burin-server", **more):
        """`burin server`; returns once it accepts connections. The port is in `.port`."""
        port = port or self.port()
        # Logins after a failed one wait, and all of a test's come from one address.
        env = {"BURIN_LOGIN_DELAY": "2ms", **(env or {})}
        process = self.start(name, [self.binary, "server", "--host", host, "--port", port, *flags], env, **more)
        process.port = port
        self.listening(process, "127.0.0.1" if host == "0.0.0.0" else host, port)
        return process

    def client(self, url, *remotes, flags=(), env=None, connected=True, name="burin-client", **more):
        """`burin client`; returns once it is connected (or at once)."""
        if isinstance(url, int):
            url = f"http://127.0.0.1:{url}"
        remotes = remotes or (f"127.0.0.1:{self.port()}:127.0.0.1:1",)  # one there must be
        process = self.start(name, [self.binary, "client", "--min-retry-interval", "100ms", *flags, url, *remotes], env, **more)
        if connected:
            process.wait_line(r"Connected", 15 * self.patience)
        return process

    def listening(self, process, host, port, seconds=15):
        def accepted():
            if not process.alive():
                raise Failed(f"{process.name} ended with {process.popen.returncode}: {tail(process.text())}")
            try:
                socket.create_connection((host, port), 1).close()
                return True
            except OSError:
                return False
        self.wait(accepted, seconds, lambda: f"{process.name} listens on {host}:{port}; it said: {tail(process.text())}")

    # -- peers -------------------------------------------------------------------------------------------------------

    def go_server(self, *flags, port=None, name="go-server"):
        port = port or self.port()
        process = self.start(name, [self.peer, "server", "--host", "127.0.0.1", "--port", port, *flags])
        process.port = port
        self.listening(process, "127.0.0.1", port)
        return process

    def go_client(self, url, *remotes, flags=(), connected=True, name="go-client"):
        if isinstance(url, int):
            url = f"http://127.0.0.1:{url}"
        process = self.start(name, [self.peer, "client", "--server", url, *flags, *remotes])
        if connected:
            process.wait_line(r"Connected", 15 * self.patience)
        return process

    def destination(self, *flags):
        """A load server: does what each connection asks for."""
        port = self.port()
        process = self.start("destination", [self.peer, "load", "server", "--listen", f"127.0.0.1:{port}", *flags])
        process.port = port
        self.listening(process, "127.0.0.1", port)
        return process

    def load_started(self, port, mode, *flags, host="127.0.0.1"):
        return self.start("load", [self.peer, "load", "client", "--connect", f"{host}:{port}", "--mode", mode, *flags])

    def load(self, port, mode, *flags, seconds=60, ok=None):
        """Runs a load client to its end and returns its summary; with `ok`, exactly so many connections must be ok."""
        process = self.load_started(port, mode, *flags)
        process.wait_exit(seconds * self.patience)
        summary = last_json(process)
        if ok is not None and summary["outcomes"] != {"ok": ok}:
            raise Failed(f"load {mode} {' '.join(map(str, flags))}: {summary}")
        return summary

    def churn(self, port, count, *flags, seconds=120):
        process = self.start("churn", [self.peer, "churn", "--server", f"127.0.0.1:{port}", "--count", count, *flags])
        process.wait_exit(seconds * self.patience)
        return last_json(process)

    # -- sockets -----------------------------------------------------------------------------------------------------

    def connect(self, port, host="127.0.0.1", seconds=10):
        s = socket.create_connection((host, port), seconds * self.patience)
        self.sockets.append(s)
        return s

    def fate(self, port, seconds=15):
        """How a connection ends by itself: ("eof" | "reset", bytes read)."""
        try:
            return ended_how(self.connect(port), seconds * self.patience)
        except ConnectionResetError:  # so quick that connect() already saw it
            return "reset", b""

    def kernel_buffers(self, most):
        """Bounds the socket buffers of this namespace, so that thousands of stalled connections do not exhaust what the
        kernel grants to TCP as a whole."""
        for name in ("tcp_rmem", "tcp_wmem"):
            with open(f"/proc/sys/net/ipv4/{name}", "w") as f:
                f.write(f"4096 16384 {most}")

    def names(self, hosts, server="127.0.0.1"):
        """Gives the test's processes a /etc/hosts of their own and this name server (by default one that does not answer)."""
        if libc.unshare(CLONE_NEWNS) != 0:
            raise OSError(ctypes.get_errno(), "unshare(CLONE_NEWNS)")
        subprocess.run(["mount", "--make-rprivate", "/"], check=True)
        for path, text in (("/etc/hosts", hosts), ("/etc/resolv.conf", f"nameserver {server}\noptions timeout:1 attempts:1\n")):
            subprocess.run(["mount", "--bind", self.file(os.path.basename(path), text, 0o644), os.path.realpath(path)], check=True)

    def listen(self, port=None, host="127.0.0.1"):
        s = socket.socket()
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        s.bind((host, port or self.port()))
        s.listen(128)
        s.settimeout(15 * self.patience)
        self.sockets.append(s)
        return s

    def black_hole(self):
        """An address whose packets vanish: they go to a neighbour that is not there, over a link whose other end drops them."""
        for command in ("ip link add name hole type veth peer name bottom", "ip addr add 198.51.100.1/24 dev hole",
                        "ip link set bottom up", "ip link set hole up",
                        "ip neigh add 198.51.100.9 lladdr 02:00:00:00:00:09 nud permanent dev hole"):
            subprocess.run(command.split(), check=True, capture_output=True)
        return "198.51.100.9"

    def close(self):
        for s in self.sockets:
            with contextlib.suppress(OSError):
                s.close()
        for process in reversed(self.processes):
            with contextlib.suppress(OSError):
                process.signal(signal.SIGCONT)
                process.kill()


def last_json(process):
    lines = [line for line in process.out().splitlines() if line.startswith("{")]
    if not lines:
        raise Failed(f"{process.name} gave no result: {tail(process.text())}")
    return json.loads(lines[-1])


def ended_how(sock, seconds=15):
    """Reads a socket to its end: ("eof" | "reset", bytes read)."""
    sock.settimeout(seconds)
    data = b""
    try:
        while True:
            piece = sock.recv(65536)
            if not piece:
                return "eof", data
            data += piece
    except ConnectionResetError:
        return "reset", data
    except socket.timeout:
        raise Failed(f"the socket did not end within {seconds} s") from None


def reset(sock):
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def receive_exactly(sock, count, seconds=15):
    sock.settimeout(seconds)
    data = b""
    while len(data) < count:
        try:
            piece = sock.recv(count - len(data))
        except socket.timeout:
            raise Failed(f"{len(data)} of {count} bytes within {seconds} s") from None
        if not piece:
            raise Failed(f"the end after {len(data)} of {count} bytes")
        data += piece
    return data


class Worker:
    """A socket's work beside the script: in a thread, its outcome in `.result`."""

    def __init__(self, work):
        self.result = self.error = None

        def run():
            try:
                self.result = work()
            except Exception as error:
                self.error = error
        self.thread = threading.Thread(target=run, daemon=True)
        self.thread.start()

    def join(self, seconds=20):
        self.thread.join(seconds)
        if self.thread.is_alive():
            raise Failed(f"a socket is not done after {seconds} s")
        if self.error:
            raise Failed(f"a socket failed: {self.error}")


# -- one test, in a process and a namespace of its own -----------------------------------------------------------------


def run_one(name, folder, options):
    """Enters a fresh namespace, runs the test and writes its result to folder/result."""
    if libc.unshare(CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "unshare(CLONE_NEWNET)")
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    bench = Bench(name, folder, options)
    result = {"passed": False, "why": ""}
    try:
        tests[name].run(bench)
        result["passed"] = True
    except Failed as why:
        here = [frame for frame in traceback.extract_tb(why.__traceback__) if os.path.basename(frame.filename).startswith("test_")]
        result["why"] = str(why) + (f" [{os.path.basename(here[-1].filename)}:{here[-1].lineno}]" if here else "")
    except Exception as error:  # what the test did not expect is its failure as well
        result["why"] = "".join(traceback.format_exception_only(error)).strip()
        traceback.print_exc()
    finally:
        # Whatever else was seen: a program that crashed, or that a sanitizer complained about, is a failure.
        for process in bench.processes:
            if process.command[0] != bench.binary:
                continue
            if process.popen.poll() is not None and -process.popen.returncode in CRASHES:
                result["passed"] = False
                result["why"] += f" [{process.name} crashed: {signal.Signals(-process.popen.returncode).name}]"
        bench.close()
        for process in bench.processes:
            if process.command[0] == bench.binary and "Sanitizer" in process.err():
                result["passed"] = False
                at = process.err().find("Sanitizer")
                result["why"] += f" [{process.name}: {process.err()[max(0, at - 40):at + 300].strip()}]"
    with open(os.path.join(folder, "result"), "w") as f:
        json.dump(result, f)


class Runner:
    """Runs tests side by side, each as `run --one NAME`."""

    def __init__(self, chosen, options, jobs, keep):
        self.queue = [tests[name] for name in chosen]
        # Those that wait, then the longest; those that want the machine for themselves at the end.
        self.queue.sort(key=lambda one: (one.exclusive, one.slots > 0, -one.seconds))
        self.options, self.jobs, self.keep = options, jobs, keep
        self.folder = tempfile.mkdtemp(prefix=f"burin-system-{os.getpid()}-")
        self.running = []
        self.passed, self.failed = [], []
        self.began = time.monotonic()

    def start(self, one):
        folder = os.path.join(self.folder, re.sub(r"\W+", "_", one.name))
        os.mkdir(folder)
        log = open(os.path.join(folder, "log"), "wb")
        command = [sys.executable, os.path.join(HERE, "run"), "--one", one.name, "--module", one.run.__module__,
                   "--folder", folder, "--options", json.dumps(self.options)]
        parent = os.getpid()

        def before():
            libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != parent:
                os._exit(1)

        popen = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, preexec_fn=before)
        log.close()
        patience = 4 if self.options["sanitized"] else 1
        seconds = one.long_seconds if self.options["long"] else one.seconds
        self.running.append((one, popen, folder, time.monotonic(), time.monotonic() + seconds * patience))

    def reap(self):
        for entry in list(self.running):
            one, popen, folder, began, end = entry
            if popen.poll() is None:
                if time.monotonic() < end:
                    continue
                popen.kill()
                popen.wait()
                result = {"passed": False, "why": f"no end within {end - began:.0f} s"}
            else:
                try:
                    with open(os.path.join(folder, "result")) as f:
                        result = json.load(f)
                except (OSError, ValueError):
                    result = {"passed": False, "why": f"the test's process ended with {popen.returncode}"}
            self.running.remove(entry)
            self.report(one, folder, result, time.monotonic() - began)

    def report(self, one, folder, result, seconds):
        with open(os.path.join(folder, "log"), errors="replace") as f:
            log = f.read()
        notes = " ".join(line[6:] for line in log.splitlines() if line.startswith("note: "))
        if result["passed"]:
            self.passed.append(one.name)
            print(f"ok {one.name} ({seconds:.1f} s){': ' + notes if notes else ''}", flush=True)
            if not self.keep:
                shutil.rmtree(folder, ignore_errors=True)
            return
        self.failed.append(one.name)
        print(f"FAILED {one.name}: {result['why']} ({seconds:.1f} s; {folder}){' note: ' + notes if notes else ''}", flush=True)
        for line in log.strip().splitlines()[-12:]:
            print(f"    {line}", flush=True)
        for name in sorted(os.listdir(folder)):
            if name.endswith(".err"):
                with open(os.path.join(folder, name), errors="replace") as f:
                    lines = f.read().strip().splitlines()
                for line in lines[-4:]:
                    print(f"    {name}: {line[:300]}", flush=True)

    def has_room_for(self, one):
        busy = [entry[0] for entry in self.running if entry[0].slots]
        if not one.slots or not busy:
            return True
        if one.exclusive or any(other.exclusive for other in busy):
            return False
        return one.slots + sum(other.slots for other in busy) <= self.jobs

    def run(self):
        while self.queue or self.running:
            while next_one := next((one for one in self.queue if self.has_room_for(one)), None):
                self.queue.remove(next_one)
                self.start(next_one)
            self.reap()
            time.sleep(0.02)
        if not self.failed and not self.keep:
            shutil.rmtree(self.folder, ignore_errors=True)
        print(f"seed {self.options['seed']}, {time.monotonic() - self.began:.0f} s"
              + (f", logs in {self.folder}" if self.failed or self.keep else ""), flush=True)
        return not self.failed
