"""What tunnel.md says of rows: aims, and the ratios beside the bound."""

import os
import sys
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../bench"))
sys.dont_write_bytecode = True
from harness.report import Report  # noqa: E402


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
                      report.goals())

    def test_the_least_ratio_decides(self):
        for ours, holds in ((7.9, "no"), (8, "yes")):
            report = Report([row("tun", "up 1 throughput", "Gbit/s", "burin TUN", "pair", ours),
                             row("tun", "up 1 throughput", "Gbit/s", "bound TUN", "pair", 10)], {}, [])
            self.assertIn(f"| {holds} |", report.goals())


if __name__ == "__main__":
    unittest.main()
