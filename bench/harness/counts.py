"""Instructions of the hot loops (bench_counts under callgrind): counting, the baseline file, what differs."""

import json
import os
import re
import subprocess
import tempfile

from .space import Trouble

# The C library's copies are those that every x86-64 processor has: a baseline is one for all machines.
TUNABLES = "glibc.cpu.hwcaps=" + ",".join(f"-{feature}" for feature in (
    "AVX", "AVX2", "AVX512F", "AVX512VL", "AVX512BW", "AVX_Fast_Unaligned_Load", "ERMS", "FSRM",
    "SSSE3"))
# The libraries of the ciphers, which pick their code by the processor and are not ours.
LEFT_OUT = re.compile(r"/(libIPSec_MB|libcrypto|libwolfssl)\b")
KEPT_SHARE = 0.02  # functions with less of a loop are not in the baseline
COST = re.compile(r"[-+*]?\d+ (\d+)$")


def short(function):
    """Without parameters: enough for a person to find it."""
    return re.sub(r"\(.*", "", function.replace("(anonymous namespace)", "anonymous")) or function


def parse(text):
    """One dump of callgrind: {function: instructions of its own}, of the objects that count; overloads are one."""
    costs, here, counts, call = {}, "", True, False
    for line in text.splitlines():
        if line.startswith("ob="):
            counts = not LEFT_OUT.search(line)
        elif line.startswith("fn="):
            here = short(line[3:])
        elif line.startswith("calls="):
            call = True  # the next line is what the called ones cost
        else:
            match = COST.match(line)
            if not match:
                continue
            if not call and counts:
                costs[here] = costs.get(here, 0) + int(match[1])
            call = False
    return costs


def count(binary, say=lambda text: None):
    """Runs all loops under callgrind once: {loop: {"work", "unit", "instructions", "functions"}} in order."""
    with tempfile.TemporaryDirectory(prefix="burin-counts-") as folder:
        out = os.path.join(folder, "dump")
        say("counting under callgrind ...")
        try:
            done = subprocess.run(
                ["valgrind", "-q", "--tool=callgrind", f"--callgrind-out-file={out}", "--compress-strings=no",
                 "--compress-pos=no", "--toggle-collect=*counts::measured*", "--dump-after=*counts::loop_ends*", binary],
                env={"PATH": os.environ.get("PATH", ""), "GLIBC_TUNABLES": TUNABLES, "LD_BIND_NOW": "1"},
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=600)
        except FileNotFoundError as error:
            raise Trouble("valgrind is missing: sudo tools/setup installs it") from error
        except subprocess.TimeoutExpired as error:
            raise Trouble("callgrind was not done after ten minutes") from error
        if done.returncode != 0:
            raise Trouble(f"{binary} ended with status {done.returncode}: {done.stderr.strip()[-600:]}")
        loops = {}
        for number, line in enumerate(done.stdout.splitlines(), 1):
            name, work, unit = line.split()
            try:
                with open(f"{out}.{number}") as file:
                    functions = parse(file.read())
            except OSError as error:
                raise Trouble(f"callgrind wrote no dump for {name}; it said: {done.stderr.strip()[-300:]}") from error
            loops[name] = {"work": int(work), "unit": unit, "instructions": sum(functions.values()), "functions": functions}
        if not loops or any(loop["instructions"] == 0 for loop in loops.values()):
            raise Trouble("callgrind counted nothing: does bench_counts have its symbols?")
        return loops


# -- the baseline ------------------------------------------------------------------------------------------------------

def read(path):
    try:
        with open(path) as file:
            return json.load(file)
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise Trouble(f"{path} is not JSON: {error}") from error


def accept(path, key, loops):
    """Puts these loops in under their key; those of other keys stay."""
    known = read(path)
    known[key] = {
        name: {"work": loop["work"], "instructions": loop["instructions"],
               "functions": {function: cost for function, cost in sorted(loop["functions"].items(), key=lambda one: -one[1])
                             if cost >= KEPT_SHARE * loop["instructions"]}}
        for name, loop in loops.items()}
    with open(path, "w") as file:
        json.dump(dict(sorted(known.items())), file, indent=1)
        file.write("\n")


class Comparison:
    """This build beside the baseline of its key: `failures`, `notes`, and a table, as text."""

    def __init__(self, key, loops, baseline, tolerance):
        self.failures, self.notes, self.table = [], [], []
        known = baseline.get(key)
        if known is None:
            self.notes.append(f"no baseline for '{key}' (there are: {', '.join(sorted(baseline)) or 'none'}); nothing was "
                              "compared. bench/counts --accept adds one")
        for name, loop in loops.items():
            before = (known or {}).get(name)
            each = loop["instructions"] / loop["work"]
            row = f"{name:32} {each:12.1f} a {loop['unit']:8}"
            if before is not None and before["work"] == loop["work"]:
                change = loop["instructions"] / before["instructions"] - 1
                row += f" {before['instructions'] / before['work']:12.1f} {100 * change:+7.2f} %"
                if change > tolerance:
                    self.failures.append(
                        f"{name}: {each:.1f} instructions a {loop['unit']}, {before['instructions'] / before['work']:.1f} in the "
                        f"baseline: {100 * change:+.1f} %, more than {100 * tolerance:g} %{self.grown(loop, before)}")
                elif change < -tolerance:
                    self.notes.append(f"{name}: {100 * change:+.1f} %, fewer: bench/counts --accept keeps what was gained")
            elif before is not None:
                self.failures.append(f"{name}: its work is {loop['work']}, and {before['work']} in the baseline")
            elif known is not None:
                self.notes.append(f"{name}: not in the baseline; bench/counts --accept adds it")
            self.table.append(row)
        for name in known or {}:
            if name not in loops:
                self.failures.append(f"{name}: in the baseline, and no longer counted")

    @staticmethod
    def grown(loop, before):
        """The functions that cost more now, the most first."""
        more = []
        for function, cost in loop["functions"].items():
            # One that is not in the baseline had less than the share that is kept there.
            added = cost - before["functions"].get(function, KEPT_SHARE * before["instructions"])
            if added > KEPT_SHARE / 4 * before["instructions"]:
                more.append((added, function))
        if not more:
            return ""
        return "".join(f"\n    {added / loop['work']:+10.1f} a {loop['unit']}  {function}"
                       for added, function in sorted(more, reverse=True)[:6])
