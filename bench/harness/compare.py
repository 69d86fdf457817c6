"""Two builds side by side: who they are, their tunnels, and what may be said of their samples."""

import math
import os
import random
import statistics
import subprocess

from . import peers as kinds
from .space import Trouble

RESAMPLES = 4000
LEVEL = 0.95
EXACT_PAIRS = 12     # up to here all sign flips are tried
LEAST_PAIRS = 6      # with fewer, no order of signs is rarer than one in twenty
TOLD_SECONDS = 20    # how often a build says how far it is
MORE_IS_BETTER = {"Gbit/s", "1/s", "Gbit/CPU-s"}


# -- statistics --------------------------------------------------------------------------------------------------------

def interval(ratios, seed):
    """Percentile bootstrap of the median of the ratios of pairs: (low, high)."""
    chance = random.Random(seed)
    medians = sorted(statistics.median(chance.choices(ratios, k=len(ratios))) for _ in range(RESAMPLES))
    tail = (1 - LEVEL) / 2
    return medians[int(tail * (RESAMPLES - 1))], medians[math.ceil((1 - tail) * (RESAMPLES - 1))]


def flip_share(ratios, seed):
    """If A and B were the same, each pair could as well have come out the other way round: the share of all such ways in
    which the mean logarithm is at least as far from 0 (a sign-flip test, two-sided)."""
    logs = [math.log(ratio) for ratio in ratios]
    seen = abs(sum(logs)) * (1 - 1e-12)
    if len(logs) <= EXACT_PAIRS:
        ways = [sum(-one if way >> at & 1 else one for at, one in enumerate(logs)) for way in range(1 << len(logs))]
        return sum(abs(way) >= seen for way in ways) / len(ways)
    chance = random.Random(seed)
    hits = sum(abs(sum(one if chance.random() < 0.5 else -one for one in logs)) >= seen for _ in range(RESAMPLES))
    return (hits + 1) / (RESAMPLES + 1)


class Judgement:
    """What pairs of samples (A's, B's) of one measure show. Both the interval and the sign flips must speak for a
    difference: the interval of a median alone is too narrow when pairs are few (with seven it says so one time in eight
    where there is none)."""

    def __init__(self, pairs, more_is_better, seed):
        self.pairs = [(a, b) for a, b in pairs if a > 0 and b > 0]
        self.a = statistics.median(a for a, _ in self.pairs)
        self.b = statistics.median(b for _, b in self.pairs)
        ratios = [b / a for a, b in self.pairs]
        self.of_medians = self.b / self.a
        self.of_pairs = statistics.median(ratios)
        self.low, self.high = interval(ratios, seed)
        self.chance = flip_share(ratios, seed)
        shown = self.chance <= 1 - LEVEL and not self.low <= 1 <= self.high
        if len(self.pairs) < LEAST_PAIRS:
            self.verdict = f"too few pairs to say ({len(self.pairs)})"
        elif not shown:
            self.verdict = "no difference shown"
        else:
            self.verdict = "faster" if (self.of_pairs > 1) == more_is_better else "slower"


def pairs_of(rows, measure, a, b):
    """The samples of a measure that both have, by pair."""
    found = {}
    for row in rows:
        if row["measure"] == measure and row["peer"] in (a, b):
            found[row["peer"]] = row["samples"]
    mine, theirs = found.get(a, {}), found.get(b, {})
    return [(mine[pair], theirs[pair]) for pair in mine if pair in theirs]


def judge(rows, a, b, seed):
    """[(measure, unit, Judgement)] of the rows of a Bench in which the peers `a` and `b` took turns: rates, times, and the
    CPU of both ends together."""
    judged = []
    for measure, unit in dict.fromkeys((row["measure"], row["unit"]) for row in rows if row["peer"] == a):
        if measure.endswith((" slowest stream", " load CPU", " per CPU-second", " server CPU")):
            continue
        pairs = pairs_of(rows, measure, a, b)
        if measure.endswith(" client CPU"):
            stem = measure.removesuffix(" client CPU")
            far = pairs_of(rows, f"{stem} server CPU", a, b)
            pairs = [(near_a + far_a, near_b + far_b) for (near_a, near_b), (far_a, far_b) in zip(pairs, far)]
            measure = f"{stem} CPU of both ends"
        pairs = [pair for pair in pairs if pair[0] > 0 and pair[1] > 0]
        if pairs:
            judged.append((measure, unit, Judgement(pairs, unit in MORE_IS_BETTER, seed)))
    return judged


def table(judged):
    lines = ["| what | A | B | B / A of medians | B / A of pairs (95 %) | B is |", "| --- | ---: | ---: | ---: | ---: | --- |"]
    for measure, unit, found in judged:
        lines.append(f"| {measure}, {unit} | {found.a:.3f} | {found.b:.3f} | {found.of_medians:.3f} | {found.of_pairs:.3f} "
                     f"({found.low:.3f}..{found.high:.3f}) | {found.verdict} |")
    return "\n".join(lines)


# -- builds ------------------------------------------------------------------------------------------------------------

def build(root, commit, tree, say):
    here = dict(os.environ, CCACHE_BASEDIR=tree, CCACHE_NOHASHDIR="1")
    log = f"{tree}.log"
    for command in (f"git -C '{root}' archive {commit} | tar -x", "cmake --preset release -DBURIN_WERROR=OFF",
                    "cmake --build --preset release --target burin"):
        with open(log, "ab") as told, subprocess.Popen(["bash", "-o", "pipefail", "-c", command], cwd=tree, env=here, stdout=told,
                                                       stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL) as running:
            while True:
                try:
                    status = running.wait(TOLD_SECONDS)
                    break
                except subprocess.TimeoutExpired:
                    say(f"  ... {last_line(log)}")
        if status != 0:
            with open(log, errors="replace") as text:
                raise Trouble(f"{commit[:12]} does not build: {command}: {text.read().strip()[-1500:]}")


def last_line(path):
    with open(path, errors="replace") as text:
        return (text.read().strip().splitlines() or [""])[-1][:100]


def program(root, word, folder, say):
    """The path of a build: a `burin` that is there, or a git revision, which is built in `folder`."""
    if os.path.isfile(word):
        if not os.access(word, os.X_OK):
            raise Trouble(f"{word} is no program")
        return os.path.abspath(word)
    try:
        found = subprocess.run(["git", "-C", root, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{word}^{{commit}}"],
                               stdout=subprocess.PIPE, text=True)
    except FileNotFoundError:
        raise Trouble(f"'{word}' is no program, and without git there are no revisions: apt-get install git, or name a program") from None
    if found.returncode != 0:
        raise Trouble(f"'{word}' is neither a program nor a revision of this repository")
    commit = found.stdout.strip()
    tree = os.path.join(folder, commit)
    if not os.path.isdir(tree):
        os.mkdir(tree)
        say(f"building {word} ({commit[:12]}): minutes, where nothing of it was built before")
        build(root, commit, tree, say)
    return os.path.join(tree, "build/release/burin")


# -- tunnels -----------------------------------------------------------------------------------------------------------

class Port(kinds.Burin):
    def __init__(self, name, number, space, topology, *words):
        super().__init__(space, topology, *words)
        self.name = name
        self.server_port, self.entry_port = 7501 + number, 7511 + number


class Tun(kinds.BurinTun):
    def __init__(self, name, number, space, *words):
        super().__init__(space, "pair", *words)
        self.name = name
        self.server_port = 7521 + number
        self.device, self.address = f"burin{number}", f"10.97.{5 + number}.1/30"
        self.destination = self.target = kinds.DESTINATIONS[number]
