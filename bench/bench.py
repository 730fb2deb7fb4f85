#!/usr/bin/env python3
"""The benchmark: this project beside a direct connection, beside two plain
relays in a row, and with --full beside other relays and reverse tunnels.

All rows' processes are started once.  In every round each cell is measured of
each row, one row right after the other, so that a ratio compares what was
measured in the same second; the order of the rows moves on from round to
round.  A table, the ratios and the targets go to standard output and OUT/
bench.md, every sample to OUT/bench.json, a picture to OUT/bench.svg, and what
the processes log to OUT/log/.

rows:   direct relay ours-1 ours classic; with --full also
        haproxy nginx ssh frp rathole chisel, as far as they are installed
cells:  bulk-down-1 -8 -64, bulk-up-1 -8 -64, ping, paced, beside,
        connect-8 -64 in each round; memory, idle, stopped, fairness once.
        A name's beginning stands for all that begin so: `bulk`, `connect`.

examples:
  bench.py --cells bulk-down-1,ping --rows relay,ours --rounds 3 --seconds 0.5
  bench.py --cells beside --rows direct,relay,ours-1
  bench.py --cells memory,idle --build /tmp/other-build
"""
import argparse
import collections
import contextlib
import json
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time

import cells
import plot
import report
from processes import Failed, Processes
from rows import OWN, ROWS, Row, Skipped

HOLD_SECONDS = 120  # for idle and stopped visitors, in all


class Tools:
    """The programs, and how the load generator is run."""

    def __init__(self, build, out, processes):
        self.build = pathlib.Path(build).resolve()
        self.out = out
        self.load = self.build / "bench" / "load"
        self.relay = self.build / "bench" / "relay"
        self.processes = processes
        for path in (self.load, self.relay, self.daemon("proxy-server"),
                     self.daemon("remote-client")):
            if not path.exists():
                raise Failed(f"{path} is not built")

    def daemon(self, name):
        return self.build / name

    def run(self, argv, timeout=120):
        """To the end, with its output."""
        process = self.processes.start("load", argv, stdout=subprocess.PIPE,
                                       stderr=subprocess.PIPE, text=True)
        try:
            out, err = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            out, err = process.communicate()
            err += f"not done within {timeout} s"
        self.processes.forget(process)
        return subprocess.CompletedProcess(argv, process.returncode, out, err)

    def try_load(self, *args):
        return self.run([self.load, *args])

    def load_row(self, row, command, *args, pids=False):
        """`load COMMAND` against a row; its figures."""
        more = []
        if pids and row.parts:
            more = ["--cpu-pids", cells.pid_list(row)]
        done = self.try_load(command, "--connect", row.address(), *args, *more)
        if done.returncode != 0:
            self.failed(row, f"load {command} {' '.join(map(str, args))}",
                        done.returncode, done.stderr)
        # The resets that end it are to be over when the next one begins.
        time.sleep(0.05)
        return json.loads(done.stdout)

    @staticmethod
    def failed(row, what, code, said):
        row.check()
        raise Failed(f"{row.title}: {what}: exit {code}: {said.strip()}"
                     f"{row.tails()}")

    @contextlib.contextmanager
    def holding(self, row, command, *args):
        """`load idle` or `load stopped`, as long as the block runs."""
        process = self.processes.start(
            "load", [self.load, command, "--connect", row.address(), *args],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True)
        what = f"load {command} {' '.join(map(str, args))}"
        watchdog = threading.Timer(HOLD_SECONDS, process.kill)
        watchdog.start()
        try:
            if process.stdout.readline() != "ready\n":
                process.wait()
                self.failed(row, what, process.returncode,
                            process.stderr.read())
            yield
            process.stdin.close()
            if process.wait() != 0:
                self.failed(row, what, process.returncode,
                            process.stderr.read())
        finally:
            watchdog.cancel()
            process.kill()
            self.processes.forget(process)
        time.sleep(0.1)


class Bench:
    def __init__(self, args, tools, processes):
        self.args = args
        self.tools = tools
        self.processes = processes
        self.rows = []
        self.skipped = []      # (title, why)
        self.failures = []     # of rivals: they do not end the run
        self.rounds = collections.defaultdict(dict)  # [cell][row]: list
        self.once = collections.defaultdict(dict)    # [cell][row]: figures

    def start_rows(self):
        for key in self.args.rows:
            row = Row(key, self.tools, self.processes)
            try:
                row.start()
                self.rows.append(row)
            except Skipped as why:
                self.skipped.append((row.title, str(why)))
            except Failed as why:
                self._failed(row, "start", why)

    def _failed(self, row, cell, why):
        """What fails of our own, or of what it is compared with, ends it."""
        if not row.rival:
            raise why
        self.failures.append((row.title, cell, str(why)))
        say(f"{row.title}, {cell}: {why}")

    def measure_once(self):
        wanted = [c for c in self.args.cells if c in cells.ONCE]
        forwarding = [row for row in self.rows if row.parts]
        for cell in wanted:
            say(cell)
            if cell == "idle":
                self.once[cell] = cells.idle_cpu(self.tools, forwarding,
                                                 self._failed)
                continue
            for row in self.rows if cell == "stopped" else forwarding:
                if cell == "fairness" and row.key != "ours-1" and \
                        not self.args.full:
                    continue
                try:
                    self.once[cell][row.key] = self._once(cell, row)
                except Failed as why:
                    self._failed(row, cell, why)

    def _once(self, cell, row):
        if cell == "memory":
            return cells.idle_memory(self.tools, row)
        if cell == "stopped":
            return cells.stopped(self.tools, row, self.args.seconds)
        return cells.fairness(self.tools, row)

    def measure_rounds(self):
        wanted = [c for c in self.args.cells if c in cells.ROUND]
        for number in range(self.args.rounds if wanted else 0):
            say(f"round {number + 1} of {self.args.rounds}")
            for cell in wanted:
                for repeat in range(cells.REPEATS.get(cell, 1)):
                    turn = (number + repeat) % len(self.rows)
                    for row in self.rows[turn:] + self.rows[:turn]:
                        self._measure(cell, row)

    def _measure(self, cell, row):
        samples = self.rounds[cell].setdefault(row.key, [])
        if None in samples:
            return
        try:
            samples.append(cells.ROUND[cell](self.tools, row,
                                             self.args.seconds))
        except Failed as why:
            samples.append(None)
            self._failed(row, cell, why)

    def results(self, seconds):
        return {
            "about": report.about(self.tools.build, self.args, seconds),
            "rows": {row.key: row.title for row in self.rows},
            "rivals": [row.key for row in self.rows if row.rival],
            "skipped": self.skipped,
            "failures": self.failures,
            "rounds": self.rounds,
            "once": self.once,
        }


def say(text):
    print(f"bench: {time.strftime('%H:%M:%S')} {text}", file=sys.stderr,
          flush=True)


def chosen(text, known, what):
    """Names, or beginnings of names, in the order of all of them."""
    names = set()
    for word in text.split(","):
        found = [word] if word in known else \
            [name for name in known if name.startswith(word)]
        if not found or not word:
            raise SystemExit(f"bench.py: {word}: no such {what}; there are "
                             f"{' '.join(known)}")
        names.update(found)
    return [name for name in known if name in names]


def arguments():
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true",
                        help="the rivals' rows as well")
    parser.add_argument("--rows", metavar="ROW,...",
                        help="only these (default: all up to classic)")
    parser.add_argument("--cells", metavar="CELL,...",
                        help="only these (default: all)")
    parser.add_argument("--rounds", type=int, default=5, metavar="N",
                        help="default 5")
    parser.add_argument("--seconds", type=float, default=0.6, metavar="S",
                        help="of one measurement, after a warm-up of 0.2 s; "
                        "default 0.6")
    parser.add_argument("--build", default=os.environ.get("BUILD", "build"),
                        metavar="DIR", help="where the programs are; default "
                        "$BUILD, or build")
    parser.add_argument("--out", metavar="DIR",
                        help="for what is written; default: bench in --build")
    args = parser.parse_args()
    args.rows = chosen(args.rows, list(ROWS), "row") if args.rows else \
        list(ROWS if args.full else OWN)
    known = [*cells.ROUND, *cells.ONCE]
    args.cells = chosen(args.cells, known, "cell") if args.cells else known
    return args


def end_on(number, _frame):
    raise SystemExit(128 + number)


def main():
    args = arguments()
    out = pathlib.Path(args.out or pathlib.Path(args.build) / "bench")
    out = out.resolve()
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, end_on)
    processes = Processes(out / "log")
    begun = time.monotonic()
    try:
        bench = Bench(args, Tools(args.build, out, processes), processes)
        say(f"starting {' '.join(args.rows)}")
        bench.start_rows()
        bench.measure_once()
        bench.measure_rounds()
        for row in bench.rows:
            if not row.rival:
                row.check()
    except Failed as why:
        print(f"bench: failed: {why}", file=sys.stderr)
        return 1
    finally:
        processes.close()
    results = bench.results(time.monotonic() - begun)
    text = report.markdown(results)
    (out / "bench.json").write_text(json.dumps(results, indent=1) + "\n")
    (out / "bench.md").write_text(text)
    (out / "bench.svg").write_text(plot.svg(results))
    print(text, end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
