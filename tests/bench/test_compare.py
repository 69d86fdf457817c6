"""What bench/compare says of samples whose truth is known: noise is seeded, and the seed is in every failure."""

import math
import os
import random
import statistics
import sys
import unittest
from unittest import mock

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../bench"))
sys.dont_write_bytecode = True
from harness import compare  # noqa: E402
from harness.space import Trouble  # noqa: E402

SEED = 20_261_126
TRIALS = 120


def noisy_pairs(chance, count, ratio, spread):
    """Pairs whose members share a drift (the time of day) and have noise of their own."""
    pairs = []
    for _ in range(count):
        drift = 10 * math.exp(chance.gauss(0, 0.2))
        pairs.append((drift * math.exp(chance.gauss(0, spread)), ratio * drift * math.exp(chance.gauss(0, spread))))
    return pairs


def verdicts(count, ratio, spread, more_is_better=True):
    chance = random.Random(SEED)
    with mock.patch.object(compare, "RESAMPLES", 200):
        return [compare.Judgement(noisy_pairs(chance, count, ratio, spread), more_is_better, SEED).verdict
                for _ in range(TRIALS)]


class Interval(unittest.TestCase):
    def test_of_equal_ratios_is_that_ratio(self):
        self.assertEqual(compare.interval([1.25] * 9, 1), (1.25, 1.25))

    def test_same_seed_same_interval(self):
        ratios = [0.9, 1.0, 1.1, 1.2, 1.3, 0.8, 1.05, 1.15, 0.95]
        self.assertEqual(compare.interval(ratios, 7), compare.interval(ratios, 7))

    def test_lies_around_the_median_and_within_the_samples(self):
        ratios = [0.9, 1.0, 1.1, 1.2, 1.3, 0.8, 1.05, 1.15, 0.95]
        low, high = compare.interval(ratios, 7)
        self.assertLess(low, statistics.median(ratios))
        self.assertLess(statistics.median(ratios), high)
        self.assertGreaterEqual(low, min(ratios))
        self.assertLessEqual(high, max(ratios))

    def test_narrows_with_more_pairs(self):
        chance = random.Random(SEED)
        few, many = ([b / a for a, b in noisy_pairs(chance, count, 1, 0.05)] for count in (7, 61))
        widths = [high - low for low, high in (compare.interval(few, 1), compare.interval(many, 1))]
        self.assertLess(widths[1], widths[0], f"seed {SEED}")


class SignFlips(unittest.TestCase):
    def test_counts_all_ways_by_hand(self):
        # Six logarithms of one sign: of 64 ways only all the one way and all the other are as far.
        self.assertAlmostEqual(compare.flip_share([1.1] * 6, 1), 2 / 64)
        # +1 +1 -1: sums of 1 or more in either direction are all eight ways.
        self.assertEqual(compare.flip_share([math.e, math.e, 1 / math.e], 1), 1)
        # 1, 2, 4: the seen sum is 7; only it and its opposite are as far.
        self.assertAlmostEqual(compare.flip_share([math.exp(one) for one in (1, 2, 4)], 1), 2 / 8)
        # 1, 2, -4: |-1| or more: all of the eight odd sums.
        self.assertEqual(compare.flip_share([math.exp(one) for one in (1, 2, -4)], 1), 1)

    def test_sampled_is_near_exact(self):
        chance = random.Random(SEED)
        ratios = [b / a for a, b in noisy_pairs(chance, 12, 1.02, 0.04)]
        exact = compare.flip_share(ratios, 1)
        with mock.patch.object(compare, "EXACT_PAIRS", 3):
            self.assertAlmostEqual(compare.flip_share(ratios, 1), exact, delta=0.04, msg=f"seed {SEED}")


class Verdicts(unittest.TestCase):
    def test_two_equal_builds_rarely_differ(self):
        said = [one for count in (6, 7, 9, 15) for spread in (0.02, 0.15) for one in verdicts(count, 1, spread)]
        wrong = sum(one != "no difference shown" for one in said)
        level = 1 - compare.LEVEL
        most = level + 3 * math.sqrt(level * (1 - level) / len(said))  # of so many throws of a fair die
        self.assertLess(wrong / len(said), most, f"seed {SEED}")

    def test_a_real_difference_is_shown_with_its_sign(self):
        for ratio, more_is_better, name in ((1.1, True, "faster"), (0.9, True, "slower"), (1.1, False, "slower"),
                                            (0.9, False, "faster")):
            said = verdicts(9, ratio, 0.03, more_is_better)
            self.assertGreater(said.count(name), 0.95 * TRIALS, f"ratio {ratio}, seed {SEED}")
            self.assertEqual(set(said) - {name, "no difference shown"}, set(), f"seed {SEED}")

    def test_one_outlier_shows_nothing(self):
        pairs = [(10, 10.1), (10, 9.9), (10, 10.05), (10, 9.95), (10, 10), (10, 10.02), (10, 30)]
        self.assertEqual(compare.Judgement(pairs, True, 1).verdict, "no difference shown")

    def test_half_of_the_pairs_far_off_show_nothing(self):
        # The mean has moved, and the sign flips say so; the median of the pairs may as well be below 1.
        found = compare.Judgement([(1, 1.5)] * 6 + [(1, 0.99)] * 6, True, 1)
        self.assertLessEqual(found.chance, 0.05)
        self.assertLess(found.low, 1)
        self.assertEqual(found.verdict, "no difference shown")

    def test_few_pairs_show_nothing_however_far_apart(self):
        found = compare.Judgement([(1, 2)] * 5, True, 1)
        self.assertEqual(found.verdict, "too few pairs to say (5)")
        self.assertEqual((found.of_medians, found.of_pairs, found.low, found.high), (2, 2, 2, 2))
        self.assertEqual(compare.Judgement([(1, 2)] * 6, True, 1).verdict, "faster")

    def test_ratio_of_medians_is_not_the_median_of_ratios(self):
        found = compare.Judgement([(1, 2), (10, 10), (100, 50)], True, 1)
        self.assertEqual((found.a, found.b), (10, 10))
        self.assertEqual(found.of_medians, 1)
        found = compare.Judgement([(1, 3), (2, 8), (10, 10)], True, 1)
        self.assertEqual((found.of_medians, found.of_pairs), (4, 3))


class Rows(unittest.TestCase):
    @staticmethod
    def row(measure, unit, peer, *samples):
        return {"group": "port", "measure": measure, "unit": unit, "peer": peer, "topology": "loopback",
                "samples": {str(pair): value for pair, value in enumerate(samples) if value is not None}}

    def test_pairs_are_matched_and_ends_added(self):
        rows = [self.row("port up 1 throughput", "Gbit/s", "A", 10, 11, 12), self.row("port up 1 client CPU", "CPU-s/GB", "A", 1, 1, 1),
                self.row("port up 1 server CPU", "CPU-s/GB", "A", 2, 2, 2), self.row("port up 1 load CPU", "CPU-s/GB", "A", 9, 9, 9),
                self.row("port up 1 throughput", "Gbit/s", "B", 20, None, 24), self.row("port up 1 client CPU", "CPU-s/GB", "B", 2, 2, 2),
                self.row("port up 1 server CPU", "CPU-s/GB", "B", 4, 4, 4), self.row("port up 1 load CPU", "CPU-s/GB", "B", 9, 9, 9)]
        judged = compare.judge(rows, "A", "B", 1)
        self.assertEqual([(measure, unit) for measure, unit, _ in judged],
                         [("port up 1 throughput", "Gbit/s"), ("port up 1 CPU of both ends", "CPU-s/GB")])
        self.assertEqual(judged[0][2].pairs, [(10, 20), (12, 24)])
        self.assertEqual(judged[1][2].pairs, [(3, 6)] * 3)
        self.assertIn("| port up 1 throughput, Gbit/s | 11.000 | 22.000 | 2.000 | 2.000 (2.000..2.000) |", compare.table(judged))

    def test_less_is_better_for_all_but_rates(self):
        for unit, verdict in (("us", "slower"), ("CPU-s/GB", "slower"), ("Gbit/s", "faster"), ("1/s", "faster")):
            rows = [self.row("x", unit, "A", *[1] * 8), self.row("x", unit, "B", *[2] * 8)]
            self.assertEqual(compare.judge(rows, "A", "B", 1)[0][2].verdict, verdict, unit)

    def test_a_measure_that_one_lacks_is_left_out(self):
        self.assertEqual(compare.judge([self.row("x", "us", "A", 1, 2)], "A", "B", 1), [])


class Builds(unittest.TestCase):
    def test_neither_program_nor_revision(self):
        root = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../..")
        for word in ("no-such-revision", "--help", ""):
            with self.assertRaises(Trouble):
                compare.program(root, word, "/nowhere", print)


if __name__ == "__main__":
    unittest.main()
