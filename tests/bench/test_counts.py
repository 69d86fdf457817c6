"""What bench/counts reads out of callgrind's dumps, and when it complains."""

import os
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../bench"))
sys.dont_write_bytecode = True
from harness import counts  # noqa: E402
from harness.space import Trouble  # noqa: E402

# The format of callgrind's manual, "Callgrind Format Specification": costs of a function's own lines, and after
# calls= one line with what the called function cost, which is not its own.
DUMP = """# callgrind format
version: 1
positions: line
events: Ir
summary: 1000

ob=/build/bench_counts
fl=/src/a.cc
fn=burin::tun::outer(int, char const*)
10 30
fi=/src/inline.hh
5 7
fe=/src/a.cc
11 3
cob=/usr/lib/libIPSec_MB.so.1
cfi=???
cfn=aes_gcm_enc
calls=4 0
12 500
+1 2

fn=(anonymous namespace)::helper()
20 8
ob=/usr/lib/libIPSec_MB.so.1
fl=???
fn=aes_gcm_enc
0 500
ob=/usr/lib/x86_64-linux-gnu/libcrypto.so.3
fn=EVP_thing
0 40
ob=/usr/lib/x86_64-linux-gnu/libc.so.6
fn=__memcpy_sse2_unaligned
0 20
ob=/build/bench_counts
fn=burin::tun::outer(long)
30 5
"""


def loops(**instructions):
    return {name.replace("_", "/"): {"work": 10, "unit": "frame", "instructions": count,
                                     "functions": {"rest": count - count // 2, "hot": count // 2}}
            for name, count in instructions.items()}


class Dumps(unittest.TestCase):
    def test_own_costs_without_ciphers(self):
        self.assertEqual(counts.parse(DUMP), {"burin::tun::outer": 30 + 7 + 3 + 2 + 5, "anonymous::helper": 8,
                                              "__memcpy_sse2_unaligned": 20})


class Baseline(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="burin-test-counts-")
        self.addCleanup(folder.cleanup)
        self.path = os.path.join(folder.name, "counts.json")

    def compare(self, now, tolerance=0.03, key="GCC 1"):
        return counts.Comparison(key, now, counts.read(self.path), tolerance)

    def test_what_was_accepted_is_no_difference(self):
        counts.accept(self.path, "GCC 1", loops(a_1=1000, b_2=2000))
        found = self.compare(loops(a_1=1000, b_2=2000))
        self.assertEqual((found.failures, found.notes, len(found.table)), ([], [], 2))

    def test_growth_beyond_the_tolerance_fails_and_is_named(self):
        counts.accept(self.path, "GCC 1", loops(a_1=1000, b_2=2000))
        grown = loops(a_1=1040, b_2=2050)
        grown["a/1"]["functions"] = {"rest": 500, "hot": 540}
        found = self.compare(grown)
        self.assertEqual(len(found.failures), 1)
        self.assertIn("a/1: 104.0 instructions a frame, 100.0 in the baseline: +4.0 %, more than 3 %", found.failures[0])
        self.assertIn("+4.0 a frame  hot", found.failures[0])
        self.assertNotIn("rest", found.failures[0])
        self.assertEqual(self.compare(grown, tolerance=0.05).failures, [])

    def test_fewer_is_a_note(self):
        counts.accept(self.path, "GCC 1", loops(a_1=1000))
        found = self.compare(loops(a_1=900))
        self.assertEqual(found.failures, [])
        self.assertIn("--accept", found.notes[0])

    def test_another_compiler_is_a_note_and_accept_keeps_all_others(self):
        counts.accept(self.path, "GCC 1", loops(a_1=1000))
        found = self.compare(loops(a_1=2000), key="GCC 2")
        self.assertEqual(found.failures, [])
        self.assertIn("no baseline for 'GCC 2' (there are: GCC 1)", found.notes[0])
        counts.accept(self.path, "GCC 2", loops(a_1=2000))
        self.assertEqual(self.compare(loops(a_1=1000)).failures, [])
        self.assertEqual(self.compare(loops(a_1=2000), key="GCC 2").failures, [])

    def test_a_loop_that_vanished_fails_and_a_new_one_does_not(self):
        counts.accept(self.path, "GCC 1", loops(a_1=1000))
        found = self.compare(loops(b_2=1000))
        self.assertEqual(found.failures, ["a/1: in the baseline, and no longer counted"])
        self.assertIn("b/2: not in the baseline", found.notes[0])

    def test_other_work_cannot_be_compared(self):
        counts.accept(self.path, "GCC 1", loops(a_1=1000))
        now = loops(a_1=1000)
        now["a/1"]["work"] = 20
        self.assertEqual(self.compare(now).failures, ["a/1: its work is 20, and 10 in the baseline"])

    def test_a_broken_baseline_is_said(self):
        with open(self.path, "w") as file:
            file.write("{")
        with self.assertRaisesRegex(Trouble, "not JSON"):
            counts.read(self.path)


if __name__ == "__main__":
    unittest.main()
