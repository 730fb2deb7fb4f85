"""The cells: what is measured of a row.

Those of ROUND are measured in every round, those of ONCE once.  Each gives a
dict of figures; METRICS says how these are called and which way is better.
"""
import contextlib
import time

from processes import Failed, cpu_seconds, memory

IDLE_CONNECTIONS = 1000
MEMORY_CONNECTIONS = 5000
# It looks at every connection for each event of one.
MEMORY_CONNECTIONS_SSH = 1000
STOPPED_BYTES = 10**9
STOPPED_PAIRS = 3
FAIR_SECONDS = 10


def pid_list(row):
    return ",".join(map(str, row.all_pids())) or None


def bulk(tools, row, direction, streams, seconds):
    got = tools.load_row(row, "bulk", "--direction", direction, "--streams",
                         streams, "--seconds", seconds, pids=True)
    figures = {"gbit": got["gbit"]}
    if row.parts:
        if got["bytes"] == 0:
            raise Failed(f"{row.title}: {streams} streams {direction} carried "
                         "nothing")
        figures["cpu_per_gb"] = got["cpu_seconds"] / (got["bytes"] / 1e9)
    return figures


def ping(tools, row, seconds, interval=0):
    """Short, and several times a round: which processes the scheduler puts on
    one core decides more than anything else, and it stays with that for as
    long as they go on."""
    got = tools.load_row(row, "ping", "--seconds", seconds / 3, "--warmup",
                         0.05, "--interval", interval)
    return {"p50": got["p50_us"], "p99": got["p99_us"]}


def beside(tools, row, seconds):
    got = tools.load_row(row, "ping", "--beside", 4, "--beside-direction",
                         "down", "--seconds", seconds)
    return {"p50": got["p50_us"], "p99": got["p99_us"],
            "gbit": got["beside_gbit"]}


def connect(tools, row, visitors, seconds):
    got = tools.load_row(row, "connect", "--visitors", visitors, "--seconds",
                         seconds)
    return {"per_second": got["per_second"]}


def _memory(row):
    return {label: sum(map(memory, pids))
            for label, pids in row.pids().items()}


def _growth(row, before, after, divisor):
    by_part = {label: (after[label] - before[label]) / divisor
               for label in before}
    return by_part, sum(by_part.values())


def idle_memory(tools, row):
    """What the first connections set up once is not theirs."""
    count = MEMORY_CONNECTIONS_SSH if row.key == "ssh" else MEMORY_CONNECTIONS
    with tools.holding(row, "idle", "--connections", 64):
        pass
    time.sleep(0.3)
    before = _memory(row)
    with tools.holding(row, "idle", "--connections", count):
        time.sleep(0.5)
        after = _memory(row)
    by_part, total = _growth(row, before, after, 1000 * count)
    return {"kb": total, "by_part": by_part}


def idle_cpu(tools, rows, failed, seconds=5):
    """Of all rows at a time, as none of them ought to do anything."""
    figures, before = {}, {}
    with contextlib.ExitStack() as held:
        for row in rows:
            try:
                held.enter_context(tools.holding(
                    row, "idle", "--connections", IDLE_CONNECTIONS))
                before[row.key] = None
            except Failed as why:
                failed(row, "idle", why)
        rows = [row for row in rows if row.key in before]
        time.sleep(1)
        for row in rows:
            before[row.key] = _cpu(row)
        time.sleep(seconds)
        for row in rows:
            after = _cpu(row)
            by_part = {label: (after[label] - used) / seconds * 100
                       for label, used in before[row.key].items()}
            figures[row.key] = {"percent": sum(by_part.values()),
                                "by_part": by_part}
    return figures


def _cpu(row):
    return {label: sum(map(cpu_seconds, pids))
            for label, pids in row.pids().items()}


def stopped(tools, row, seconds):
    """8 streams without and with a reader beside them that has stopped."""
    pairs, growth, by_part = [], None, {}
    for _ in range(STOPPED_PAIRS):
        without = _eight(tools, row, seconds)
        time.sleep(0.3)
        before = _memory(row)
        with tools.holding(row, "stopped", "--bytes", STOPPED_BYTES):
            time.sleep(0.3)
            beside_it = _eight(tools, row, seconds)
            time.sleep(0.3)
            parts, total = _growth(row, before, _memory(row), 2**20)
        pairs.append((without, beside_it))
        if growth is None or total > growth:
            growth, by_part = total, parts
    ratios = sorted(b / a if a else 0.0 for a, b in pairs)
    return {"keep": ratios[len(ratios) // 2], "pairs": pairs,
            "mib": growth, "by_part": by_part}


def _eight(tools, row, seconds):
    return tools.load_row(row, "bulk", "--direction", "down", "--streams", 8,
                          "--seconds", seconds)["gbit"]


def fairness(tools, row):
    got = tools.load_row(row, "bulk", "--direction", "down", "--streams", 64,
                         "--seconds", FAIR_SECONDS)
    slowest = min(got["by_stream"])
    return {"spread": max(got["by_stream"]) / slowest if slowest
            else float("inf"), "by_stream": got["by_stream"]}


ROUND = {
    f"bulk-{direction}-{streams}":
        lambda t, r, s, d=direction, n=streams: bulk(t, r, d, n, s)
    for direction in ("down", "up") for streams in (1, 8, 64)
}
ROUND["ping"] = ping
ROUND["paced"] = lambda t, r, s: ping(t, r, s, 300)
ROUND["beside"] = beside
ROUND["connect-8"] = lambda t, r, s: connect(t, r, 8, s)
ROUND["connect-64"] = lambda t, r, s: connect(t, r, 64, s)
# How many times in a round; 1 if not said.
REPEATS = {"ping": 4, "paced": 3}
ONCE = ("memory", "idle", "stopped", "fairness")

# (cell, figure): title, unit, whether more is better
METRICS = {}
for _d in ("down", "up"):
    for _n in (1, 8, 64):
        METRICS[f"bulk-{_d}-{_n}", "gbit"] = (
            f"bulk {_d}, {_n} stream{'s' * (_n > 1)}", "Gbit/s", True)
for _d in ("down", "up"):
    for _n in (1, 8, 64):
        METRICS[f"bulk-{_d}-{_n}", "cpu_per_gb"] = (
            f"CPU, bulk {_d}, {_n} stream{'s' * (_n > 1)}", "s/GB", False)
METRICS.update({
    ("ping", "p50"): ("ping-pong, p50", "us", False),
    ("ping", "p99"): ("ping-pong, p99", "us", False),
    ("paced", "p50"): ("a ping each 300 us, p50", "us", False),
    ("paced", "p99"): ("a ping each 300 us, p99", "us", False),
    ("beside", "p50"): ("beside 4 streams, p50", "us", False),
    ("beside", "p99"): ("beside 4 streams, p99", "us", False),
    ("beside", "gbit"): ("those 4 streams", "Gbit/s", True),
    ("connect-8", "per_second"): ("visits, 8 visitors", "1/s", True),
    ("connect-64", "per_second"): ("visits, 64 visitors", "1/s", True),
})
ONCE_METRICS = {
    ("memory", "kb"): ("memory, idle connection", "kB", False),
    ("idle", "percent"): ("CPU, 1,000 idle", "% of a core", False),
    ("stopped", "keep"): ("beside a stopped reader", "x of without", True),
    ("stopped", "mib"): ("memory for that reader", "MiB", False),
    ("fairness", "spread"): ("fastest / slowest of 64", "x", False),
}
