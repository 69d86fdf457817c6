"""From rows to what a person reads: medians in a table, ratios of pairs beside their goals, bars."""

import json
import os
import statistics

from . import aims, chart

# What both ends of the bound move, beside the same measures of ours (docs/performance.md, "The bound").
BOUNDS = {"port": (aims.PORT, aims.BOUND), "tun": (aims.TUN, aims.BOUND_TUN)}
RATES = (("throughput", "Gbit/s"), ("per CPU-second", "Gbit per CPU-second of both ends"))


class Report:
    def __init__(self, rows, conditions, absent):
        self.rows = rows
        self.conditions = conditions
        self.absent = absent
        self._by_key = {(row["measure"], row["peer"], row["topology"]): row for row in rows}

    def samples(self, measure, peer):
        row = self._by_key.get((measure, *peer))
        return row["samples"] if row else {}

    def median(self, measure, peer):
        values = list(self.samples(measure, peer).values())
        return statistics.median(values) if values else None

    def ratios(self, ours, other):
        """One ratio for each pair in which both were measured; `ours` and `other` are (measure, peer)."""
        mine, theirs = self.samples(*ours), self.samples(*other)
        return [mine[pair] / theirs[pair] for pair in mine if pair in theirs and theirs[pair] > 0]

    def peers(self, groups):
        seen = []
        for row in self.rows:
            peer = (row["peer"], row["topology"])
            if row["group"] in groups and peer not in seen:
                seen.append(peer)
        return seen

    # -- text ----------------------------------------------------------------------------------------------------------

    def table(self, group):
        peers = self.peers([group])
        lines = ["| " + " | ".join([group] + [self.title(peer) for peer in peers]) + " |",
                 "| --- |" + " ---: |" * len(peers)]
        measures = []
        for row in self.rows:
            if row["group"] == group and (row["measure"], row["unit"]) not in measures:
                measures.append((row["measure"], row["unit"]))
        for measure, unit in measures:
            cells = []
            for peer in peers:
                values = list(self.samples(measure, peer).values())
                if not values:
                    cells.append("")
                elif len(values) < 2:
                    cells.append(chart.short(values[0]))
                else:
                    cells.append(f"{chart.short(statistics.median(values))} "
                                 f"({chart.short(min(values))}..{chart.short(max(values))})")
            name = measure.removeprefix(group).strip()
            lines.append(f"| {name}, {unit} | " + " | ".join(cells) + " |")
        return "\n".join(lines)

    @staticmethod
    def title(peer):
        return peer[0] + (" (veth)" if peer[1] == "pair" and peer[0] in ("burin", "direct", "ssh -L") else "")

    def beside_the_bound(self):
        lines = []
        for group, (ours, bound) in BOUNDS.items():
            measures = [row["measure"] for row in self.rows if row["group"] == group and
                        (row["peer"], row["topology"]) == ours]
            for rate, unit in RATES:
                for measure in measures:
                    ratios = self.ratios((measure, ours), (measure, bound))
                    if not measure.endswith(rate) or not ratios:
                        continue
                    lines.append(f"| {measure.removesuffix(rate).strip()}, {unit} | "
                                 f"{chart.short(self.median(measure, ours))} | {chart.short(self.median(measure, bound))} | "
                                 f"{statistics.median(ratios):.2f} ({min(ratios):.2f}..{max(ratios):.2f}) |")
        if not lines:
            return ""
        return "\n".join(["| direction and streams | burin | bound | burin / bound, of pairs |", "| --- | ---: | ---: | ---: |",
                          *lines])

    def markdown(self):
        parts = ["# Tunnel benchmark", "\n".join(f"* {key}: {value}" for key, value in self.conditions.items())]
        goals = aims.table(self)
        if goals:
            parts.append("## Aims\n\n" + goals)
        bound = self.beside_the_bound()
        if bound:
            parts.append("## Beside the bound\n\n" + bound)
        groups = list(dict.fromkeys(row["group"] for row in self.rows))
        parts.append("## Medians (range)\n\nCPU of the load generator is its two ends together; the tunnel's ends are apart. "
                     "Only figures of one run compare.")
        parts += [self.table(group) for group in groups]
        if self.absent:
            parts.append("## Left out\n\n" + "\n".join(
                f"* {one['peer']} ({one['topology']}): {' '.join(one['why'].split())}" for one in self.absent))
        return "\n\n".join(parts) + "\n"

    # -- picture -------------------------------------------------------------------------------------------------------

    def panels(self):
        panels = []

        def add(title, unit, group, series):
            bars = []
            for peer in self.peers([group]):
                values = [self.median(measure, peer) for _, measure in series]
                if any(value is not None for value in values):
                    bars.append((self.title(peer), values))
            if bars:
                panels.append((title, unit, [name for name, _ in series], bars))

        ways = ("up", "down")
        for group, name in (("port", "Forwarded port"), ("tun", "Through a TUN")):
            for streams in sorted({int(row["measure"].split()[2]) for row in self.rows if row["group"] == group}):
                plural = f"{streams} stream{'s' if streams > 1 else ''}"
                add(f"{name}, {plural}", "Gbit/s", group, [(way, f"{group} {way} {streams} throughput") for way in ways])
                if streams == 1:
                    add(f"{name}, {plural}", "Gbit per CPU-second of the tunnel's ends", group,
                        [(way, f"{group} {way} {streams} per CPU-second") for way in ways])
        shares = ("p50", "p99")
        add("Round trip of one byte, idle", "us", "rtt", [(share, f"rtt idle {share}") for share in shares])
        add("Round trip through the TUN, idle", "us", "tun-rtt", [(share, f"tun-rtt idle {share}") for share in shares])
        for group, name in (("loaded", "beside four bulk streams"), ("tun-loaded", "through the TUN, beside four bulk streams"),
                            ("half", "beside bulk at half of capacity"), ("tun-half", "through the TUN, beside bulk at half of capacity"),
                            ("narrow", "beside bulk both ways on a path of 100 Mbit/s and 40 ms")):
            add(f"Round trip {name}", "ms", group, [(share, f"{group} {share}") for share in shares])
        add("Round trip of 1000 bytes, idle", "us", "rtt", [(share, f"rtt idle, 1000 bytes, {share}") for share in shares])
        add("Connections", "per second", "connect",
            [(f"{count} at a time", f"connect {count} at a time") for count in (1, 16)])
        for count in sorted({int(row["measure"].split()[1]) for row in self.rows
                             if row["group"] == "memory" and "per channel" in row["measure"]}):
            add(f"Memory of {count} idle channels", "bytes each", "memory",
                [(end, f"memory {count} idle, {end}, per channel") for end in ("client", "server")])
        return panels

    def write(self, folder):
        os.makedirs(folder, exist_ok=True)
        with open(os.path.join(folder, "tunnel.json"), "w") as file:
            json.dump({"conditions": self.conditions, "rows": self.rows, "absent": self.absent}, file, indent=1)
        with open(os.path.join(folder, "tunnel.md"), "w") as file:
            file.write(self.markdown())
        note = ", ".join(str(self.conditions[key]) for key in ("processor", "kernel", "congestion control", "samples"))
        with open(os.path.join(folder, "tunnel.svg"), "w") as file:
            file.write(chart.draw("Burin beside other tunnels", note, self.panels()))
