"""The measurements. All peers of a group are up at once and take turns (A B C A B C ...), so that whatever the machine
does besides falls on each of them alike; a pair is one turn of all."""

import json
import select
import subprocess
import time

from .peers import LOAD_PORT
from .space import Trouble, cpu_seconds, proportional_kib

BULK_STREAMS_BESIDE = 4  # how many bulk streams load the tunnel while round trips are taken
SETTLE_SECONDS = 3       # after a burst, until idle memory is looked at


class Bench:
    """Runs groups of measurements in a space and collects rows: one per (measure, peer), with all samples."""

    def __init__(self, space, load_binary, settings, say):
        self.space = space
        self.load_binary = load_binary
        self.settings = settings
        self.say = say
        self.rows = []
        self.absent = []
        self._servers = {}

    # -- the load generator ------------------------------------------------------------------------------------------

    def serve(self, topology):
        if topology in self._servers:
            return
        self.space.loopback() if topology == "loopback" else self.space.pair()
        far = "one" if topology == "loopback" else "cloud"
        process = self.space.start(far, [self.load_binary, "serve", "0.0.0.0", str(LOAD_PORT), "--congestion",
                                         self.settings.congestion], log=f"serve-{topology}.log")
        self.space.wait_for_port(far, LOAD_PORT, process, f"serve-{topology}.log")
        self._servers[topology] = process

    def command(self, peer, mode, *words):
        host, port = peer.entry
        return [self.load_binary, mode, host, str(port), "--congestion", peer.congestion or self.settings.congestion,
                *[str(word) for word in words]]

    def load(self, peer, mode, *words, timeout=180):
        status, out, err = self.space.output(peer.load_from, self.command(peer, mode, *words), timeout)
        try:
            answer = json.loads(out.strip().splitlines()[-1])
        except (ValueError, IndexError):
            answer = {}
        if status != 0 or not answer or answer.get("count") == 0:
            raise Trouble(f"{peer.name}: {mode} {' '.join(map(str, words))}: {err.strip()[-400:] or out.strip()}")
        return answer

    # -- rows ----------------------------------------------------------------------------------------------------------

    def add(self, group, measure, unit, peer, pair, value):
        for row in self.rows:
            if row["measure"] == measure and row["peer"] == peer.name and row["topology"] == peer.topology:
                break
        else:
            row = {"group": group, "measure": measure, "unit": unit, "peer": peer.name, "topology": peer.topology,
                   "samples": {}}
            self.rows.append(row)
        row["samples"][str(pair)] = value

    def start(self, peers):
        """Those of the peers that come up; the others are noted with their reason."""
        up = []
        for peer in peers:
            self.serve(peer.topology)
            try:
                peer.start()
                self.load(peer, "rtt", "--count", 20, "--timeout", 10)
                up.append(peer)
            except Trouble as trouble:
                peer.stop()
                self.note_absent(peer, f"{trouble}{peer.last_words()}")
        return up

    def note_absent(self, peer, why):
        self.absent.append({"peer": peer.name, "topology": peer.topology, "why": why})
        self.say(f"{peer.name} is left out: {why}")

    def take_turns(self, peers, steps):
        """steps: (title, function(peer, pair) -> text). A peer that fails once is left out from there on."""
        failed = set()
        total = self.settings.pairs * len(steps) * len(peers)
        done = 0
        for pair in range(self.settings.pairs):
            for title, measure in steps:
                turn = pair % len(peers)
                for peer in peers[turn:] + peers[:turn]:
                    done += 1
                    if (peer, title) in failed:
                        continue
                    try:
                        text = measure(peer, pair)
                    except Trouble as trouble:
                        failed.add((peer, title))
                        self.absent.append({"peer": peer.name, "topology": peer.topology, "why": f"{title}: {trouble}"})
                        text = f"failed: {trouble}"
                    self.say(f"[{done:3}/{total}] {title:28} {peer.name:20} {text}")

    # -- groups --------------------------------------------------------------------------------------------------------

    def throughput(self, group, peers):
        def step(direction, streams):
            def measure(peer, pair):
                seconds = self.settings.seconds
                near, far = cpu_seconds(peer.client), cpu_seconds(peer.server)
                serve = cpu_seconds([self._servers[peer.topology].pid])
                answer = self.load(peer, direction, "--streams", streams, "--seconds", seconds)
                near, far = cpu_seconds(peer.client) - near, cpu_seconds(peer.server) - far
                serve = cpu_seconds([self._servers[peer.topology].pid]) - serve
                gbit = answer["bytes"] * 8e-9
                title = f"{group} {direction} {streams}"
                self.add(group, f"{title} throughput", "Gbit/s", peer, pair, answer["gbit_per_second"])
                self.add(group, f"{title} slowest stream", "Gbit/s", peer, pair, answer["slowest_stream_gbit"])
                self.add(group, f"{title} load CPU", "CPU-s/GB", peer, pair,
                         (serve + answer["cpu_seconds"]) / (gbit / 8))
                text = f"{answer['gbit_per_second']:6.2f} Gbit/s"
                if peer.client or peer.server:
                    self.add(group, f"{title} per CPU-second", "Gbit/CPU-s", peer, pair, gbit / max(near + far, 1e-9))
                    self.add(group, f"{title} client CPU", "CPU-s/GB", peer, pair, near / (gbit / 8))
                    self.add(group, f"{title} server CPU", "CPU-s/GB", peer, pair, far / (gbit / 8))
                    text += f"  {gbit / max(near + far, 1e-9):6.2f} Gbit per CPU-second"
                return text
            return measure
        steps = [(f"{group} {direction}, {streams} stream{'s' if streams > 1 else ''}", step(direction, streams))
                 for streams in self.settings.streams for direction in ("up", "down")]
        self.take_turns(peers, steps)

    def round_trips(self, group, peers):
        """Request and answer, one after another, with nothing beside them: of a byte, and of 1000."""
        def step(name, size):
            def measure(peer, pair):
                answer = self.load(peer, "rtt", "--count", self.settings.trips, "--size", size)
                for share in ("p50", "p99"):
                    self.add(group, f"{group} {name} {share}", "us", peer, pair, answer[f"{share}_us"])
                return f"p50 {answer['p50_us']:7.1f} us  p99 {answer['p99_us']:7.1f} us"
            return measure
        self.take_turns(peers, [(f"{group}, {name}", step(name, size)) for name, size in (("idle", 1), ("idle, 1000 bytes,", 1000))])

    def loaded_round_trips(self, group, peers):
        """Ping-pong of one byte beside bulk streams in the other connections of the same tunnel."""
        self.take_turns(peers, [(group, lambda peer, pair: self.beside_bulk(group, peer, pair, "down"))])

    def round_trips_at_half(self, group, peers):
        """The same beside bulk that is offered at half of what the tunnel carried right before."""
        def measure(peer, pair):
            seconds = self.settings.seconds
            whole = self.load(peer, "up", "--streams", BULK_STREAMS_BESIDE, "--seconds", seconds)["gbit_per_second"]
            return self.beside_bulk(group, peer, pair, "up", "--rate", f"{whole / 2:.4f}G") + f" (of {whole:.2f})"
        self.take_turns(peers, [(group, measure)])

    def beside_bulk(self, group, peer, pair, direction, *words):
        seconds = self.settings.seconds
        bulk = self.space.start(peer.load_from, self.command(peer, direction, "--streams", BULK_STREAMS_BESIDE, "--seconds",
                                                        seconds + 1, *words), stdout=subprocess.PIPE)
        time.sleep(0.5)
        try:
            answer = self.load(peer, "rtt", "--count", 100000, "--seconds", seconds)
            told = json.loads(bulk.communicate(timeout=60)[0] or "{}")
        except (subprocess.TimeoutExpired, ValueError) as error:
            raise Trouble(f"the bulk streams did not end: {error}") from error
        finally:
            self.space.stop(bulk)
        for share in ("p50", "p99"):
            self.add(group, f"{group} {share}", "ms", peer, pair, answer[f"{share}_us"] / 1000)
        self.add(group, f"{group} bulk", "Gbit/s", peer, pair, told.get("gbit_per_second", 0))
        return (f"p50 {answer['p50_us'] / 1000:7.3f} ms  p99 {answer['p99_us'] / 1000:7.3f} ms beside "
                f"{told.get('gbit_per_second', 0):.2f} Gbit/s")

    def connections(self, group, peers):
        def step(parallel):
            def measure(peer, pair):
                count = self.settings.connections * (3 if parallel > 1 else 1)
                answer = self.load(peer, "connect", "--count", count, "--parallel", parallel)
                self.add(group, f"{group} {parallel} at a time", "1/s", peer, pair, answer["per_second"])
                return f"{answer['per_second']:8.0f} per second"
            return measure
        self.take_turns(peers, [(f"{group}, {parallel} at a time", step(parallel)) for parallel in (1, 16)])

    def open_at_once(self, group, peers):
        def measure(peer, pair):
            count = self.settings.open
            answer = self.load(peer, "open", "--count", count, timeout=120)
            self.add(group, f"{group} {count} channels open after", "s", peer, pair, answer["seconds"])
            return f"{count} channels open after {answer['seconds']:6.3f} s"
        self.take_turns(peers, [(group, measure)])

    def memory(self, group, makers):
        """makers: (function -> fresh peer, largest count). Every count begins with a fresh tunnel."""
        for maker, largest in makers:
            for count in self.settings.idle:
                if count > largest:
                    continue
                peer = maker()
                for ready in self.start([peer]):
                    try:
                        self.idle_channels(group, ready, count)
                    except Trouble as trouble:
                        self.note_absent(peer, f"{count} idle channels: {trouble}{peer.last_words()}")
                    ready.stop()

    def idle_channels(self, group, peer, count):
        time.sleep(1)
        before = [proportional_kib(peer.client), proportional_kib(peer.server)]
        if count == 0:
            for end, kib in zip(("client", "server"), before):
                self.add(group, f"{group} no channel, {end}", "MiB", peer, 0, kib / 1024)
            self.say(f"{peer.name}: {before[0] / 1024:.1f} and {before[1] / 1024:.1f} MiB without a channel")
            return
        answer, during, after = self.idle_round(peer, count, "1MiB")
        for at, end in enumerate(("client", "server")):
            each = (during[at] - before[at]) * 1024 / count
            self.add(group, f"{group} {count} idle, {end}, per channel", "bytes", peer, 0, each)
            self.add(group, f"{group} {count} idle, {end}", "MiB", peer, 0, during[at] / 1024)
            self.add(group, f"{group} {count} closed again, {end}", "MiB", peer, 0, after[at] / 1024)
        self.add(group, f"{group} {count} opened and filled in", "s", peer, 0, answer["seconds"])
        self.say(f"{peer.name}: {count} idle channels, each carried 1 MiB both ways: "
                 f"{(during[0] - before[0]) * 1024 / count:.0f} and {(during[1] - before[1]) * 1024 / count:.0f} bytes "
                 f"each at the two ends; {during[0] / 1024:.1f} and {during[1] / 1024:.1f} MiB, after closing "
                 f"{after[0] / 1024:.1f} and {after[1] / 1024:.1f} MiB")
        if count != max(self.settings.idle) or not peer.opens_many:
            return
        # Windows, pools and tables have their size since the first round: the others need not carry as much.
        for _ in range(1, self.settings.rounds):
            _, during, after = self.idle_round(peer, count, "64KiB")
        for at, end in enumerate(("client", "server")):
            self.add(group, f"{group} {count} closed again after {self.settings.rounds} rounds, {end}", "MiB", peer, 0,
                     after[at] / 1024)
        self.say(f"{peer.name}: after {self.settings.rounds} rounds {after[0] / 1024:.1f} and {after[1] / 1024:.1f} MiB "
                 f"({before[0] / 1024:.1f} and {before[1] / 1024:.1f} before the first)")

    def idle_round(self, peer, count, each):
        """Opens channels that each carry so much both ways, and closes them again: what was answered, and the memory of both
        ends between and after, KiB."""
        idle = self.space.start(peer.load_from, self.command(peer, "idle", "--count", count, "--bytes-each", each, "--parallel",
                                                        self.settings.idle_parallel),
                                log="idle.log", stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        try:
            answer = self._line(idle, 60 + count / 20)
            time.sleep(SETTLE_SECONDS)
            during = [proportional_kib(peer.client), proportional_kib(peer.server)]
            idle.stdin.close()
            released = self._line(idle, 60)
            time.sleep(SETTLE_SECONDS)
            after = [proportional_kib(peer.client), proportional_kib(peer.server)]
        finally:
            self.space.stop(idle)
        if not answer.get("checksum_ok") or answer.get("open") != count or released.get("open") != count:
            raise Trouble(f"{answer.get('open')} of {count} were open, {released.get('open')} at the end")
        return answer, during, after

    def _line(self, process, seconds):
        readable, _, _ = select.select([process.stdout], [], [], seconds)
        line = process.stdout.readline() if readable else b""
        try:
            return json.loads(line)
        except ValueError as error:
            raise Trouble(f"no answer within {seconds:.0f} s: {self.space.log_text('idle.log').strip()[-300:]}") from error
