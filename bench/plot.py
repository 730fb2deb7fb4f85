"""The ratios as a picture."""
import html
import math

from cells import METRICS
from stats import ratio

BASE = "relay"
COLOURS = {
    "ours": "#1f6fb4", "ours-1": "#74b3de", "classic": "#b8b8b8",
    "haproxy": "#e08a2e", "nginx": "#58a55c", "ssh": "#8d6cab",
    "frp": "#c8504b", "rathole": "#8a6d4f", "chisel": "#d583b5",
}
LEAST, MOST = 1 / 8, 8
BAR, GAP, LEFT, TOP, HEIGHT, FOOT = 9, 14, 92, 64, 320, 130


def _y(value):
    """Logarithmic: twice as good is as far from 1 as half as good."""
    value = min(max(value, LEAST), MOST)
    part = math.log(value / LEAST) / math.log(MOST / LEAST)
    return TOP + HEIGHT * (1 - part)


def _better(found, more):
    """So that up is better."""
    if more:
        return found
    middle, least, most = found
    return 1 / middle, 1 / most, 1 / least


def _bar(x, found, colour, what):
    middle, least, most = found
    top, bottom = sorted((_y(middle), _y(1)))
    centre = x + BAR / 2
    return (f'<g><title>{html.escape(what)}: {middle:.2f} '
            f'({least:.2f}-{most:.2f})</title>'
            f'<rect x="{x:.1f}" y="{top:.1f}" width="{BAR - 1}" '
            f'height="{max(bottom - top, 0.5):.1f}" fill="{colour}"/>'
            f'<path d="M{centre:.1f} {_y(least):.1f}V{_y(most):.1f}" '
            'stroke="#333" stroke-width="1"/></g>')


def _axis(width):
    out = []
    for tick in (1 / 8, 1 / 4, 1 / 2, 1, 2, 4, 8):
        y = _y(tick)
        out.append(f'<path d="M{LEFT} {y:.1f}H{width - 10}" stroke="'
                   f'{"#000" if tick == 1 else "#ddd"}"/>'
                   f'<text x="{LEFT - 6}" y="{y + 4:.1f}" '
                   f'text-anchor="end">{tick:g}</text>')
    return out


def _legend(rows):
    out, x = [], LEFT
    for key, title in rows.items():
        out.append(f'<rect x="{x}" y="38" width="10" height="10" '
                   f'fill="{COLOURS[key]}"/><text x="{x + 14}" y="47">'
                   f'{html.escape(title)}</text>')
        x += 30 + 7 * len(title)
    return out


def svg(results):
    """Grouped bars: each row beside two relays; above 1 is better."""
    rows = {key: title for key, title in results["rows"].items()
            if key in COLOURS}
    groups = []
    for (cell, figure), (title, _, more) in METRICS.items():
        found = {key: ratio(results, cell, figure, key, BASE) for key in rows}
        if any(found.values()):
            groups.append((title, {k: _better(f, more)
                                   for k, f in found.items() if f}))
    step = BAR * max(len(rows), 2) + GAP
    width = max(LEFT + step * len(groups) + 20, 560)
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" '
           f'height="{TOP + HEIGHT + FOOT}" font-family="sans-serif" '
           'font-size="11">',
           '<rect width="100%" height="100%" fill="#fff"/>',
           f'<text x="{LEFT}" y="22" font-size="14">Beside two plain relays '
           'in a row: how many times as good (above 1 is better)</text>',
           *_axis(width), *_legend(rows)]
    for i, (title, found) in enumerate(groups):
        x = LEFT + 8 + i * step
        for j, key in enumerate(rows):
            if key in found:
                out.append(_bar(x + j * BAR, found[key], COLOURS[key],
                                f"{title}, {rows[key]}"))
        middle = x + step / 2 - GAP / 2
        y = TOP + HEIGHT + 14
        out.append(f'<text transform="translate({middle:.1f} {y}) '
                   f'rotate(-40)" text-anchor="end">{html.escape(title)}'
                   '</text>')
    out.append("</svg>")
    return "\n".join(out) + "\n"
