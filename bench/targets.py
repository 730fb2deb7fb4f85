"""What the project wants to reach, and whether it does."""
import statistics

from cells import METRICS
from stats import geometric_mean, once, ratio

BULK = [f"bulk-{d}-{n}" for d in ("down", "up") for n in (1, 8, 64)]
SINGLE = ("bulk-down-1", "bulk-up-1")
OURS = ("ours", "ours-1")


class Target:
    """figure(row) is a number or None; it is judged for one row, and shown
    for the other as well."""

    def __init__(self, title, limit, at_least, figure, row="ours",
                 form="{:.2f}", rows=OURS):
        self.title = title
        self.limit = limit
        self.at_least = at_least
        self.row = row
        self.form = form
        self.figures = {key: figure(key) for key in rows}

    def met(self):
        """None when it was not measured."""
        figure = self.figures.get(self.row)
        if figure is None:
            return None
        return figure >= self.limit if self.at_least else figure <= self.limit

    def wanted(self):
        sign = ">=" if self.at_least else "<="
        return f"{sign} {self.form.format(self.limit)}"


def _median(results, cell, figure, base):
    def of(row):
        found = ratio(results, cell, figure, row, base)
        return found and found[0]
    return of


def _over(results, cells, figure, combine):
    """Some combination of the ratios of several cells."""
    def of(row):
        found = [ratio(results, cell, figure, row, "relay") for cell in cells]
        return combine([f[0] for f in found]) if all(found) else None
    return of


def _once(results, cell, figure):
    def of(row):
        got = once(results, cell, row)
        return got and got[figure]
    return of


def _part(results, cell, label):
    def of(row):
        got = once(results, cell, row)
        return got and got["by_part"][label]
    return of


def targets(results):
    r = results
    found = [
        Target("bulk rate / relay x2, geometric mean of 6 cells", 1.0, True,
               _over(r, BULK, "gbit", geometric_mean)),
        Target("bulk rate / relay x2, the worst of them", 0.93, True,
               _over(r, BULK, "gbit", min)),
        Target("CPU per GB / relay x2, mean of 6 cells", 1.05, False,
               _over(r, BULK, "cpu_per_gb", statistics.fmean)),
        Target("CPU per GB / relay x2, a single stream", 1.20, False,
               _over(r, SINGLE, "cpu_per_gb", max)),
        Target("ping-pong p50 / relay x2", 1.03, False,
               _median(r, "ping", "p50", "relay")),
        Target("(also) a ping each 300 us, p50 / relay x2", 1.03, False,
               _median(r, "paced", "p50", "relay")),
        Target("beside 4 streams: p50 / direct", 0.5, False,
               _median(r, "beside", "p50", "direct"), "ours-1"),
        Target("beside 4 streams: p99 / direct", 0.35, False,
               _median(r, "beside", "p99", "direct"), "ours-1"),
        # Where direct is fast depends on which processes share a core.
        Target("(also) beside 4 streams: p50 / relay x2", 0.5, False,
               _median(r, "beside", "p50", "relay"), "ours-1"),
        Target("(also) beside 4 streams: p99 / relay x2", 0.35, False,
               _median(r, "beside", "p99", "relay"), "ours-1"),
        Target("those 4 streams' rate / relay x2", 0.97, True,
               _median(r, "beside", "gbit", "relay"), "ours-1"),
        Target("visits, 8 visitors / relay x2", 1.20, True,
               _median(r, "connect-8", "per_second", "relay")),
        Target("visits, 64 visitors / relay x2", 1.20, True,
               _median(r, "connect-64", "per_second", "relay")),
    ]
    for label in ("proxy-server", "remote-client"):
        found.append(Target(f"memory, idle connection, {label}, kB", 0.5,
                            False, _part(r, "memory", label)))
    found += [
        Target("64 streams: fastest / slowest", 1.5, False,
               _once(r, "fairness", "spread"), "ours-1"),
        Target("beside a stopped reader: rate kept", 0.95, True,
               _once(r, "stopped", "keep")),
        Target("memory for that reader, MiB", 32, False,
               _once(r, "stopped", "mib"), form="{:.1f}"),
    ]
    for label in ("proxy-server", "remote-client"):
        found.append(Target(f"CPU, 1,000 idle, {label}, % of a core", 0.1,
                            False, _part(r, "idle", label), form="{:.3f}"))
    return found + [_rival(r, key) for key in r["rivals"]]


def _better(results, row, rival):
    """The cells in which the rival is ahead, by name."""
    behind, seen = [], 0
    for (cell, figure), (title, _, more) in METRICS.items():
        found = ratio(results, cell, figure, row, rival)
        if found is None:
            continue
        seen += 1
        if found[0] > 1 if more else found[0] < 1:
            continue
        # A rival that answers most at once and some ten times later has not
        # won by that.
        tail = ratio(results, "beside", "p99", rival, row)
        if (cell, figure) == ("beside", "p50") and tail and tail[0] >= 10:
            continue
        behind.append(title)
    # Of a core, less than a hundredth of a per cent is nothing.
    for cell, figure, title, least in (
            ("memory", "kb", "memory, idle connection", 0),
            ("idle", "percent", "CPU, 1,000 idle", 0.01)):
        ours, theirs = once(results, cell, row), once(results, cell, rival)
        if ours and theirs:
            seen += 1
            if ours[figure] >= max(theirs[figure], least):
                behind.append(title)
    return behind if seen else None


def _rival(results, key):
    """Its figure is the number of cells in which it is ahead."""
    lists = {row: _better(results, row, key) for row in OURS}
    title = f"cells in which {results['rows'][key]} is ahead"
    if lists["ours"]:
        title += f" ({'; '.join(lists['ours'])})"

    def count(row):
        return None if lists[row] is None else len(lists[row])
    return Target(title, 0, False, count, form="{:.0f}")
