"""What the program tells about itself when it is asked with SIGUSR2."""

import re
import signal

FIRST = "worker 0: turns="

# What is in use, and the sums of it over all workers that a report of a program at rest shows.
IN_USE = {
    "flows": r"enters=\d+ flows=(\d+)", "socket buffers": r"socket-buffers=(\d+)/", "session buffers": r"session-buffers=(\d+)/",
    "arenas": r"arenas=(\d+)/", "pieces": r"pieces=(\d+)", "held bytes": r"held-bytes=(\d+)", "channels": r"budget: .*channels=(\d+)/",
    "TUN slots": r" slots=(\d+)/", "TUN writes": r" in-flight=(\d+)", "TUN blocks": r"held-blocks=(\d+)"}


def report(process, seconds=30):
    """One whole report. They come one after another: where the next begins, this one is over."""
    for _ in range(2):
        count = process.text().count(FIRST) + 1
        process.signal(signal.SIGUSR2)
        process.wait_line(FIRST, seconds, count)
    text = process.text()
    end = text.rindex(FIRST)
    return text[text.rindex(FIRST, 0, end):end]


def total(text, pattern):
    return sum(int(number) for number in re.findall(pattern, text))


def in_use(text):
    """What is not free, by name."""
    counts = {name: total(text, pattern) for name, pattern in IN_USE.items()}
    return {name: count for name, count in counts.items() if count}


def wait_idle(t, process, seconds=20):
    """Waits until nothing of any flow is left in a program; returns its report."""
    last = {}

    def idle():
        last["text"] = report(process, 10 * t.patience)
        return not in_use(last["text"])
    t.wait(idle, seconds, lambda: f"{process.name} at rest: in use {in_use(last['text'])}")
    return last["text"]


def kept(text):
    """What must be the same whenever a program is at rest with the same sessions: timers and the budget."""
    return {"timers": total(text, r" timers=(\d+)"), "free for growth": total(text, r"free-for-growth=(\d+)")}
