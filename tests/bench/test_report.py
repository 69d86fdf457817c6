"""What tunnel.md says of rows: aims, and the ratios beside the bound."""

import os
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../bench"))
sys.dont_write_bytecode = True
from harness import aims  # noqa: E402
from harness.report import Report  # noqa: E402
from harness.space import Trouble  # noqa: E402


def row(group, measure, unit, peer, topology, *samples):
    return {"group": group, "measure": f"{group} {measure}", "unit": unit, "peer": peer, "topology": topology,
            "samples": {str(pair): value for pair, value in enumerate(samples) if value is not None}}


class BesideTheBound(unittest.TestCase):
    def test_ratios_are_those_of_pairs(self):
        report = Report([row("port", "up 1 throughput", "Gbit/s", "burin", "loopback", 9, 16, 30),
                         row("port", "up 1 throughput", "Gbit/s", "bound", "loopback", 10, 20, 30),
                         row("port", "up 1 per CPU-second", "Gbit/CPU-s", "burin", "loopback", 12, 12, 12),
                         row("port", "up 1 per CPU-second", "Gbit/CPU-s", "bound", "loopback", 15, None, 16)], {}, [])
        text = report.beside_the_bound()
        self.assertIn("| port up 1, Gbit/s | 16.00 | 20.0 | 0.90 (0.80..1.00) |", text)
        self.assertIn("| port up 1, Gbit per CPU-second of both ends | 12.00 | 15.50 | 0.78 (0.75..0.80) |", text)

    def test_each_group_has_its_own_bound(self):
        report = Report([row("tun", "down 16 throughput", "Gbit/s", "burin TUN", "pair", 8),
                         row("tun", "down 16 throughput", "Gbit/s", "burin", "pair", 4),
                         row("tun", "down 16 throughput", "Gbit/s", "bound TUN", "pair", 10)], {}, [])
        self.assertIn("| tun down 16, Gbit/s | 8.00 | 10.00 | 0.80 (0.80..0.80) |", report.beside_the_bound())

    def test_without_a_bound_there_is_no_section(self):
        report = Report([row("port", "up 1 throughput", "Gbit/s", "burin", "loopback", 9)], {"kernel": "6"}, [])
        self.assertEqual(report.beside_the_bound(), "")
        self.assertNotIn("Beside the bound", report.markdown())


class Aims(unittest.TestCase):
    def test_one_measure_beside_another_of_the_same_peer(self):
        report = Report([row("port", "up 1 throughput", "Gbit/s", "burin", "loopback", 10, 10),
                         row("port", "up 16 throughput", "Gbit/s", "burin", "loopback", 9, 12)], {}, [])
        self.assertIn("| forwarded port up, 16 streams beside one: Gbit/s | at least 1 times | 1.05 (0.90..1.20, 2 pairs) | yes |",
                      aims.table(report))

    def test_the_least_ratio_decides(self):
        for ours, holds in ((7.9, "no"), (8, "yes")):
            report = Report([row("tun", "up 1 throughput", "Gbit/s", "burin TUN", "pair", ours),
                             row("tun", "up 1 throughput", "Gbit/s", "bound TUN", "pair", 10)], {}, [])
            self.assertIn(f"| {holds} |", aims.table(report))

    def test_the_most_decides_where_less_is_better_and_units_are_made_one(self):
        for loaded, holds in ((0.4, "yes"), (0.41, "no")):
            report = Report([row("loaded", "p50", "ms", "burin", "loopback", loaded),
                             row("rtt", "idle p50", "us", "burin", "loopback", 100)], {}, [])
            self.assertRegex(aims.table(report), r"beside four bulk streams, p50, beside idle \| at most 4 times \| 4\.\d+ \(.*\) \| " + holds)

    def test_a_figure_of_our_own(self):
        report = Report([row("open", "10000 channels open after", "s", "burin", "loopback", 0.5, 3, 1.9)], {}, [])
        self.assertIn("| 10 000 channels open after | at most 2 s | 1.90 (0.50..3.00, 3 pairs) | yes |", aims.table(report))

    def test_what_was_not_measured_is_no_row(self):
        self.assertEqual(aims.table(Report([], {}, [])), "")

    def test_they_are_printed_between_two_marks_and_nothing_else_changes(self):
        report = Report([row("open", "10000 channels open after", "s", "burin", "loopback", 1)], {"kernel": "6"}, [])
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "a.md")
            with open(path, "w") as file:
                file.write(f"before\n{aims.BEGIN}\nwhat was here\n{aims.END}\nafter\n")
            for _ in range(2):
                aims.print_into(path, report)
            with open(path) as file:
                text = file.read()
            self.assertTrue(text.startswith(f"before\n{aims.BEGIN}\n\n* kernel: 6\n\n| aim |") and text.endswith(f"|\n\n{aims.END}\nafter\n"), text)
            self.assertNotIn("what was here", text)
            with open(path, "w") as file:
                file.write(f"{aims.BEGIN}\nbut no end\n")
            self.assertRaises(Trouble, aims.print_into, path, report)
            with open(path) as file:
                self.assertEqual(file.read(), f"{aims.BEGIN}\nbut no end\n")


if __name__ == "__main__":
    unittest.main()
