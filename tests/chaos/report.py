"""The table."""

HEAD = ["fault", "times", "visitors", "MB checked", "lost",
        "pause ms p99 / max", "of none", "new visitors",
        "server MiB (fds)", "client MiB (fds)", "result"]


def _memory(row, index):
    if row.before is None or row.after is None:
        return "-"
    (mib, fds), (mib_after, fds_after) = row.before[index], row.after[index]
    return f"{mib:.1f} ({fds}) -> {mib_after:.1f} ({fds_after})"


def _cells(row, base):
    ratio = row.p99 / base.p99 if base and base.p99 and row.p99 else 0
    served = row.fresh["ok"]
    of = served + row.fresh["failed"]
    return [row.name, str(row.times), str(row.visitors),
            f"{row.bytes / 1e6:.0f}", str(row.lost),
            f"{row.p99:.0f} / {row.max:.0f}" if row.max else "-",
            f"{ratio:.3g}x" if ratio else "-",
            f"{served} of {of}, {row.fresh['longest_ms']:.0f} ms"
            if of else "-",
            _memory(row, 0), _memory(row, 1),
            "FAILED" if row.problems else "ok"]


def _lines(rows):
    base = next((row for row in rows if row.name == "none"), None)
    return [HEAD] + [_cells(row, base) for row in rows]


def plain(rows):
    lines = _lines(rows)
    widths = [max(map(len, column)) for column in zip(*lines)]
    text = "\n".join("  ".join(cell.ljust(width) for cell, width in
                               zip(line, widths)).rstrip() for line in lines)
    failed = [f"{row.name}: {problem}" for row in rows
              for problem in row.problems]
    return text + "\n" + "".join(f"FAILED {line}\n" for line in failed)


def markdown(rows, title):
    lines = _lines(rows)
    lines.insert(1, ["---"] * len(HEAD))
    parts = [title, ""] + [f"| {' | '.join(line)} |" for line in lines] + [""]
    for row in rows:
        parts.append(f"- **{row.name}**: {row.title}; {row.seconds:.1f} s.")
        parts += [f"  - FAILED: {text}" for text in row.problems]
        parts += [f"  - {text}" for text in row.notes]
    return "\n".join(parts) + "\n"
