"""Medians and paired ratios of a run's results."""
import math
import statistics


def samples(results, cell, figure, row):
    """One number for each round; None for a round that has none."""
    return [got.get(figure) if got else None
            for got in results["rounds"].get(cell, {}).get(row, [])]


def spread(results, cell, figure, row):
    """(median, least, most), or None."""
    found = [x for x in samples(results, cell, figure, row) if x is not None]
    if not found:
        return None
    return statistics.median(found), min(found), max(found)


def ratios(results, cell, figure, row, base):
    """Of the rounds in which both were measured."""
    pairs = zip(samples(results, cell, figure, row),
                samples(results, cell, figure, base))
    return [a / b for a, b in pairs if a is not None and b]


def ratio(results, cell, figure, row, base):
    """(median, least, most) of the paired ratios, or None."""
    found = ratios(results, cell, figure, row, base)
    if not found:
        return None
    return statistics.median(found), min(found), max(found)


def once(results, cell, row):
    return results["once"].get(cell, {}).get(row)


def geometric_mean(numbers):
    return math.exp(statistics.fmean(map(math.log, numbers)))
