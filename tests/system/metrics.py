"""What `--metrics` shows, read by a parser that takes nothing but what the text format 0.0.4 of Prometheus allows, and none
of what this program has no reason to say (timestamps, comments, blanks)."""

import http.client
import re
import subprocess

from harness import Failed

NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\[\\"n])*)"(,|$)')
SAMPLE = re.compile(rf"({NAME})(?:\{{(.*)\}})? (\d+(?:\.\d+)?)")


class Metrics:
    """The samples of one scrape: {(name, frozenset of labels): number}, and the kind of each family."""

    def __init__(self, text):
        self.samples, self.kinds, self.text = {}, {}, text
        if not text.endswith("\n"):
            raise Failed("the last line has no end")
        helped = family = None
        for line in text[:-1].split("\n"):
            if match := re.fullmatch(rf"# HELP ({NAME}) ((?:[^\\]|\\\\|\\n)+)", line):
                helped, family = match.group(1), None
                if helped in self.kinds:
                    raise Failed(f"{helped} is told twice")
            elif match := re.fullmatch(rf"# TYPE ({NAME}) (counter|gauge)", line):
                family = match.group(1)
                if family != helped:
                    raise Failed(f"the type of {family} behind the help of {helped}")
                self.kinds[family] = match.group(2)
            elif match := SAMPLE.fullmatch(line):
                name, labels, value = match.groups()
                if name != family:
                    raise Failed(f"a sample of {name} in the family {family}")
                key = name, frozenset(self.labels(labels))
                if key in self.samples:
                    raise Failed(f"twice: {line}")
                self.samples[key] = float(value) if "." in value else int(value)
            else:
                raise Failed(f"no line of the format: {line!r}")
        if empty := set(self.kinds) - {name for name, _ in self.samples}:
            raise Failed(f"families without a sample: {empty}")

    @staticmethod
    def labels(text):
        if text is None:
            return
        at, names = 0, set()
        while at < len(text):
            match = LABEL.match(text, at)
            if not match or match.group(1) in names or (match.group(3) == "," and match.end() == len(text)):
                raise Failed(f"no labels: {text!r}")
            names.add(match.group(1))
            yield match.group(1), match.group(2)
            at = match.end()

    def sum(self, name, **labels):
        """Over all samples of the family with these labels; there must be one."""
        found = [value for (one, pairs), value in self.samples.items() if one == name and labels.items() <= dict(pairs).items()]
        if not found:
            raise Failed(f"no {name} {labels}")
        return sum(found)


def ask(port, method="GET", path="/metrics", host="127.0.0.1", seconds=15):
    web = http.client.HTTPConnection(host, port, timeout=seconds)
    try:
        web.request(method, path)
        answer = web.getresponse()
        return answer, answer.read().decode()
    finally:
        web.close()


def scrape(port, seconds=15):
    answer, text = ask(port, seconds=seconds)
    if (answer.status, answer.getheader("Content-Type")) != (200, "text/plain; version=0.0.4; charset=utf-8"):
        raise Failed(f"a scrape ended with {answer.status} {answer.getheaders()}: {text}")
    return Metrics(text)


def curl(there, port, *flags):
    """The status that curl sees."""
    done = subprocess.run([*there, "curl", "--silent", "--max-time", "15", "--output", "/dev/null", "--write-out", "%{http_code}", *flags,
                           f"http://127.0.0.1:{port}/metrics"], capture_output=True, text=True)
    return done.stdout
