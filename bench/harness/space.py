"""Fresh network namespaces and the processes in them, all gone when the run ends, however it ends.

    loopback:  one namespace; load generator, tunnel ends and destination meet on its loopback
    pair:      gate --veth-- cloud; the destinations 10.98.0.x live in cloud, one for each TUN peer, and gate
               has no route to them but the one that a tunnel makes
    host:      for bench/lan, behind gate over an emulated link (lan.py)
"""

import ctypes
import os
import resource
import shutil
import signal
import subprocess
import tempfile
import time

ALLOWED = "/proc/sys/net/ipv4/tcp_allowed_congestion_control"
GATE, CLOUD = "10.99.0.1", "10.99.0.2"
DESTINATIONS = ("10.98.0.1", "10.98.0.2", "10.98.0.3", "10.98.0.4")
PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)


class Trouble(Exception):
    """Something that the person who runs the benchmark should read; no traceback."""


def _in_child():
    # No child outlives us, and each may have as many descriptors as the machine grants.
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def run(*command, check=True):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if check and done.returncode != 0:
        raise Trouble(f"{' '.join(command)}: {done.stdout.strip()}")
    return done


def children_of(pid):
    """pid and all its descendants that are alive."""
    found = []
    waiting = [pid]
    while waiting:
        one = waiting.pop()
        try:
            for task in os.listdir(f"/proc/{one}/task"):
                with open(f"/proc/{one}/task/{task}/children") as listed:
                    waiting += [int(child) for child in listed.read().split()]
            found.append(one)
        except OSError:
            pass
    return found


def started_at(pid):
    """When a process began, which tells it from a later one with the same number; None if it is gone."""
    try:
        with open(f"/proc/{pid}/stat") as line:
            return line.read().rsplit(")", 1)[1].split()[19]
    except OSError:
        return None


def cpu_seconds(pids):
    """CPU time of these processes and their descendants, to 10 ms: what their threads (ended ones too) ran, kernel work on
    their behalf included. What the kernel does in interrupts is charged to whoever is running then."""
    ticks = 0
    for root in pids:
        for pid in children_of(root):
            try:
                with open(f"/proc/{pid}/stat") as line:
                    ticks += sum(int(word) for word in line.read().rsplit(")", 1)[1].split()[11:15])
            except OSError:
                pass
    return ticks / os.sysconf("SC_CLK_TCK")


def proportional_kib(pids):
    """Pss of these processes and their descendants, KiB: shared pages are counted once between them."""
    total = 0
    for root in pids:
        for pid in children_of(root):
            try:
                with open(f"/proc/{pid}/smaps_rollup") as lines:
                    total += next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
            except (OSError, StopIteration):
                pass
    return total


class Space:
    """Owns namespaces, processes and a folder for keys and logs; `with` cleans all up."""

    def __init__(self, congestion):
        self.congestion = congestion
        self.folder = tempfile.mkdtemp(prefix="burin-bench-")
        os.chmod(self.folder, 0o700)
        self._processes = []
        self._names = {}
        self._allowed_before = None
        self._allowed_ours = None
        self._made_folders = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in reversed(self._processes):
            self.stop(process)
        for name in self._names.values():
            run("ip", "netns", "delete", name, check=False)
        if self._allowed_ours is not None:
            with open(ALLOWED) as now:
                unchanged = now.read().split() == self._allowed_ours
            if unchanged:
                self._write(ALLOWED, self._allowed_before)
        for made in self._made_folders:
            try:
                os.rmdir(made)
            except OSError:
                pass
        shutil.rmtree(self.folder, ignore_errors=True)

    @staticmethod
    def _write(path, text):
        with open(path, "w") as file:
            file.write(text)

    def path(self, name):
        return os.path.join(self.folder, name)

    def make_folder(self, path):
        if not os.path.isdir(path):
            os.makedirs(path)
            self._made_folders.append(path)

    def _allow(self):
        """A fresh namespace may choose only what the first one's list allows; the list is put back at the end."""
        if self._allowed_before is not None:
            return
        with open(ALLOWED) as file:
            self._allowed_before = file.read()
        words = self._allowed_before.split()
        if self.congestion not in words:
            try:
                self._write(ALLOWED, " ".join(words + [self.congestion]))
            except OSError as error:
                raise Trouble(f"congestion control {self.congestion} cannot be allowed: {error}; "
                              "see net.ipv4.tcp_available_congestion_control") from error
            with open(ALLOWED) as file:
                self._allowed_ours = file.read().split()

    def name(self, role):
        """What `ip netns` calls it."""
        return self._names[role]

    def namespace(self, role):
        if role in self._names:
            return
        self._allow()
        name = f"burin-bench-{os.getpid()}-{role}"
        run("ip", "netns", "add", name)
        self._names[role] = name
        run("ip", "-n", name, "link", "set", "lo", "up")
        for key, value in (("tcp_congestion_control", self.congestion), ("tcp_tw_reuse", "1"),
                           ("ip_local_port_range", "10000 65000")):
            done = run("ip", "netns", "exec", name, "sysctl", "-qw", f"net.ipv4.{key}={value}", check=False)
            if done.returncode != 0 and key == "tcp_congestion_control":
                raise Trouble(f"namespace refuses {value}: {done.stdout.strip()}")

    def loopback(self):
        self.namespace("one")

    def pair(self):
        self.namespace("gate")
        self.namespace("cloud")
        gate, cloud = self._names["gate"], self._names["cloud"]
        if run("ip", "-n", gate, "link", "show", "wire", check=False).returncode == 0:
            return
        run("ip", "-n", gate, "link", "add", "wire", "type", "veth", "peer", "name", "wire", "netns", cloud)
        for name, address in ((gate, GATE), (cloud, CLOUD)):
            run("ip", "-n", name, "addr", "add", f"{address}/30", "dev", "wire")
            run("ip", "-n", name, "link", "set", "wire", "up")
        for destination in DESTINATIONS:
            run("ip", "-n", cloud, "addr", "add", f"{destination}/32", "dev", "lo")
            if self.ip("gate", "route", "get", destination, check=False).returncode == 0:
                raise Trouble(f"{destination} is reachable without a tunnel; nothing would be measured")

    def sysctl(self, role, key, value):
        run("ip", "netns", "exec", self._names[role], "sysctl", "-qw", f"{key}={value}")

    def keep_logs(self, folder):
        """Copies what the processes said to where a person can read it."""
        os.makedirs(folder, exist_ok=True)
        for name in os.listdir(self.folder):
            if name.endswith(".log"):
                shutil.copy(self.path(name), folder)

    def ip(self, role, *words, check=True):
        return run("ip", "-n", self._names[role], *words, check=check)

    def start(self, role, command, log=None, stdin=subprocess.DEVNULL, stdout=None):
        """A long-running process in a namespace; its output goes to the log file unless stdout says otherwise."""
        log_file = open(self.path(log), "ab") if log else subprocess.DEVNULL
        process = subprocess.Popen(["ip", "netns", "exec", self._names[role], *command], stdin=stdin,
                                   stdout=log_file if stdout is None else stdout, stderr=log_file,
                                   preexec_fn=_in_child, start_new_session=True)
        if log:
            log_file.close()
        self._processes.append(process)
        return process

    def stop(self, process):
        """Ends a process, gently first, and whatever it started."""
        if process in self._processes:
            self._processes.remove(process)
        family = [(pid, started_at(pid)) for pid in children_of(process.pid)] if process.poll() is None else []
        if family:
            process.terminate()
            try:
                process.wait(timeout=5)
            except subprocess.TimeoutExpired:
                pass
        for pid, started in family:
            if started is not None and started_at(pid) == started:
                try:
                    os.kill(pid, signal.SIGKILL)
                except OSError:
                    pass
        process.wait()

    def output(self, role, command, timeout):
        """Runs a command to its end and returns (status, stdout, stderr)."""
        process = subprocess.Popen(["ip", "netns", "exec", self._names[role], *command], stdin=subprocess.DEVNULL,
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=_in_child)
        try:
            out, err = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            out, err = process.communicate()
            err += f"ended by the benchmark after {timeout} s"
        return process.returncode, out, err

    def log_text(self, log):
        try:
            with open(self.path(log), errors="replace") as file:
                return file.read()
        except OSError:
            return ""

    def wait_for_log(self, log, pattern, process):
        """The match of a compiled pattern once the log has it."""
        self.wait_until(lambda: pattern.search(self.log_text(log)), process,
                        f"no line matches '{pattern.pattern}'", log)
        return pattern.search(self.log_text(log))

    def wait_until(self, true_now, process, complaint, log, seconds=15):
        """Polls; the end of the process or of the patience is a Trouble that quotes the log."""
        end = time.monotonic() + seconds
        while not true_now():
            if process.poll() is not None or time.monotonic() > end:
                raise Trouble(f"{complaint}; {log} says: {self.log_text(log).strip()[-600:] or 'nothing'}")
            time.sleep(0.03)

    def wait_for_port(self, role, port, process, log):
        """Until something in the namespace listens on this TCP port."""
        command = ["ip", "netns", "exec", self._names[role], "ss", "-Hltn", f"sport = :{port}"]
        self.wait_until(lambda: run(*command).stdout.strip(), process, f"nothing listens on port {port}", log)

    def wait_for_link(self, role, device, process, log):
        self.wait_until(lambda: self.ip(role, "link", "show", device, check=False).returncode == 0, process,
                        f"no device {device}", log)
