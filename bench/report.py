"""The results as Markdown."""
import os
import pathlib
import platform
import time

from cells import METRICS, ONCE_METRICS
from stats import once, ratio, spread
from targets import targets

BASE = "relay"


def about(build, args, seconds):
    version = pathlib.Path(__file__).parent.parent / "VERSION"
    return {
        "version": version.read_text().strip(),
        "time": time.strftime("%Y-%m-%d %H:%M"),
        "kernel": platform.release(),
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "build": build.name,
        "rounds": args.rounds,
        "seconds": args.seconds,
        "took": round(seconds),
        "load": os.getloadavg()[0],
    }


def _processor():
    try:
        with open("/proc/cpuinfo", encoding="ascii",
                  errors="replace") as file:
            for line in file:
                if line.startswith("model name"):
                    return " ".join(line.partition(":")[2].split())
    except OSError:
        pass
    return platform.machine()


def number(value):
    """Three digits that say something."""
    if value >= 1000:
        return f"{value:,.0f}"
    if value >= 100:
        return f"{value:.0f}"
    if value >= 10:
        return f"{value:.1f}"
    return f"{value:.2f}" if abs(value) >= 0.095 else f"{value:.3f}"


def table(heads, lines):
    """Markdown that can be read as it is."""
    widths = [max(len(line[i]) for line in [heads, *lines])
              for i in range(len(heads))]
    out = ["| " + " | ".join(cell.ljust(width) for cell, width in
                             zip(line, widths)) + " |"
           for line in [heads, *lines]]
    out.insert(1, "|" + "|".join(
        "-" * (width + 1) + (":" if i else "-")
        for i, width in enumerate(widths)) + "|")
    return "\n".join(out) + "\n"


def _spread(found, form):
    """Median (least-most), if there is more than one."""
    if not found:
        return ""
    if found[1] == found[2]:
        return form(found[0])
    return f"{form(found[0])} ({form(found[1])}-{form(found[2])})"


def _values(results):
    """The cells as they were measured."""
    rows = results["rows"]
    lines = []
    for (cell, figure), (title, unit, _) in METRICS.items():
        found = [spread(results, cell, figure, key) for key in rows]
        if any(found):
            lines.append([f"{title}, {unit}"] + [
                _spread(f, number) for f in found])
    for (cell, figure), (title, unit, _) in ONCE_METRICS.items():
        found = [once(results, cell, key) for key in rows]
        if any(found):
            lines.append([f"{title}, {unit}"] + [
                number(f[figure]) if f and f.get(figure) is not None else ""
                for f in found])
    for cell, title, unit in (("memory", "memory, idle connection", "kB"),
                              ("idle", "CPU, 1,000 idle", "%")):
        lines += _parts(results, cell, title, unit)
    return table(["", *rows.values()], lines) if lines else ""


def _parts(results, cell, title, unit):
    """One line for the first process of each row, one for the second."""
    parts = {key: list(got["by_part"].values())
             for key, got in results["once"].get(cell, {}).items()}
    return [[f"{title}, {where}, {unit}"]
            + [number(_ordered(parts[key], key)[i]) if key in parts else ""
               for key in results["rows"]]
            for i, where in enumerate(("visitors' end", "application's end"))
            ] if parts else []


def _ordered(values, key):
    """Relays are started from the application on."""
    return values[::-1] if key in ("relay", "haproxy", "nginx") else values


def _ratios(results):
    rows = {key: title for key, title in results["rows"].items()
            if key != BASE}
    lines = []
    for (cell, figure), (title, _, more) in METRICS.items():
        found = [ratio(results, cell, figure, key, BASE) for key in rows]
        if any(found):
            lines.append([f"{title} ({'more' if more else 'less'} is better)"]
                         + [_spread(f, "{:.2f}".format) for f in found])
    return table(["", *rows.values()], lines) if lines else ""


def _targets(results):
    lines, missed, judged = [], 0, 0
    for target in targets(results):
        met = target.met()
        shown = [target.form.format(f) if f is not None else ""
                 for f in target.figures.values()]
        if not any(shown):
            continue
        if (target.row in target.figures and met is not None
                and not target.title.startswith("(also)")):
            judged += 1
            missed += not met
        lines.append([target.title, *shown, target.wanted(),
                      results["rows"].get(target.row, target.row),
                      {True: "met", False: "**missed**", None: ""}[met]])
    if not lines:
        return ""
    return table(["target", "ours", "ours, 1 tunnel", "wanted", "of", ""],
                 lines) + f"\n{judged - missed} of {judged} targets are met.\n"


def markdown(results):
    a = results["about"]
    out = [f"# port-proxy {a['version']}: benchmark\n",
           f"{a['time']}; Linux {a['kernel']}, {a['cores']} cores, "
           f"{a['processor']}; {a['rounds']} rounds of {a['seconds']} s each; "
           f"took {a['took']} s; load average {a['load']:.1f} at the end.\n"]
    values, ratios = _values(results), _ratios(results)
    if values:
        out += ["Median (least-most) of the rounds:\n", values]
    if ratios:
        out += ["Beside relay x2: median (least-most) of the ratios within "
                "the rounds:\n", ratios]
    out.append(_targets(results))
    out += [f"Skipped: {title}: {why}.\n"
            for title, why in results["skipped"]]
    out += [f"Failed: {title}, {cell}: {why}\n"
            for title, cell, why in results["failures"]]
    return "\n".join(part for part in out if part)
