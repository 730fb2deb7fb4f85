"""The tunnel over distant paths: throughput of bulk streams, and a key stroke
beside a bulk stream, where the path has a delay, a rate and a queue.

    make bench-long
    python3 bench/long.py --paths 20x20 --cells key --rows direct,ours

Rows:   direct    load generator -> path -> application
        ours-1    load generator -> proxy-server <- path <- remote-client with
                  `tunnels: 1` -> application
        ours      the same with the defaults
        ours-256KiB, ours-2MiB
                  the same with windows of at most that, to show what they
                  are for
        ssh       `ssh -R`: sshd where the proxy-server is
        frp, rathole, chisel
Cells:  one-down, one-up      Mbit/s of one stream
        eight-down, eight-up  of eight
        key-up, key-down      64 bytes there and back on one connection, again
                              and again, while another is bulk in the direction
                              that is named; and what the bulk gets of the line
Paths:  RTTxRATE: round trip in ms, Mbit/s in each direction

`up` is towards the application, `down` from there.  A name without direction
is both: --cells one,key-up.  Each measurement has a path and daemons of its
own, so none finds the queue or the windows of another.  What a path is, and
what it leaves out (losses, TCP's own congestion control), is said in path.c.

A row whose programs are not there is named as skipped.  A measurement that
fails ends the run with status 1, as no number is better than a wrong one; a
target that is missed does not.

Environment: BUILD, the directory with the daemons and bench/ (build).
"""

import argparse
import atexit
import concurrent.futures
import json
import os
import pathlib
import platform
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
BUILD = (ROOT / os.environ.get("BUILD", "build")).resolve()

PATHS = ["0x1000", "20x20", "100x20", "100x200", "100x1000"]
MORE_PATHS = ["20x200", "20x1000"]
CELLS = ["one-down", "one-up", "eight-down", "eight-up", "key-up", "key-down"]
STREAMS = {"one": 1, "eight": 8}
KEY_INTERVAL_US = 5000

# Together: rows whose lines' rates are no more than this in all.
TOGETHER_MBIT = 100

SSHD = """\
ListenAddress 127.0.0.1
Port {port}
HostKey {dir}/host_key
AuthorizedKeysFile {dir}/user_key.pub
PidFile none
StrictModes no
UsePAM no
PermitRootLogin yes
PasswordAuthentication no
KbdInteractiveAuthentication no
AllowTcpForwarding yes
"""


class Failed(Exception):
    """A measurement, or what it stands on, did not work."""


def program(name):
    return shutil.which(name, path=os.environ.get("PATH", "") +
                        ":/usr/sbin:/sbin:/usr/local/sbin")


# --- processes --------------------------------------------------------------

class Stack:
    """The processes of one measurement; leaving it kills them all."""

    living = set()
    lock = threading.Lock()

    def __init__(self, path, options):
        self.path = path
        self.options = options
        self.processes = []

    def __enter__(self):
        self._directory = tempfile.TemporaryDirectory(
            prefix="port-proxy-long-")
        self.dir = pathlib.Path(self._directory.name)
        with Stack.lock:
            Stack.living.add(self)
        return self

    def __exit__(self, *_):
        self.kill()
        with Stack.lock:
            Stack.living.discard(self)
        self._directory.cleanup()

    def kill(self):
        for process in self.processes:
            try:
                os.killpg(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            process.wait()

    def start(self, name, *argv):
        """In the background, with its output in one log."""
        argv = [str(a) for a in argv]
        # So that nothing stays when this process is killed.  It is the thread
        # that counts as the parent, and that lives as long as the stack.
        if program("setpriv"):
            argv = ["setpriv", "--pdeathsig", "KILL", *argv]
        log = self.dir / f"{name}.log"
        with open(log, "wb") as out:
            process = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=out,
                stderr=subprocess.STDOUT, cwd=self.dir,
                start_new_session=True)
        process.name, process.log = name, log
        self.processes.append(process)
        return process

    def wait_log(self, process, pattern, timeout=15):
        """The first group of the pattern, when the log has it."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            text = process.log.read_text("utf-8", "backslashreplace")
            found = re.search(pattern, text, re.M)
            if found:
                return found.group(1)
            if process.poll() is not None:
                break
            time.sleep(0.01)
        raise Failed(f"{process.name}: no /{pattern}/ in its log\n"
                     + self.logs())

    def wait_port(self, port, timeout=15):
        """Until something accepts there."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                return
            except OSError:
                self.check()
                time.sleep(0.02)
        raise Failed(f"nothing listens on port {port}\n" + self.logs())

    def check(self):
        for process in self.processes:
            if process.poll() is not None:
                raise Failed(f"{process.name} ended with "
                             f"{process.returncode}\n" + self.logs())

    def logs(self):
        parts = []
        for process in self.processes:
            text = process.log.read_text("utf-8", "backslashreplace")
            parts.append(f"--- {process.name}\n{text[-1500:]}")
        return "\n".join(parts)

    # - what the rows have in common -

    def application(self):
        process = self.start("application", BUILD / "bench/load", "serve", 0)
        return int(self.wait_log(process, r"^ready (\d+)"))

    def distance(self, port):
        """A port that is as far from that one as the path is long."""
        process = self.start(
            "path", BUILD / "bench/path", "--listen", "127.0.0.1:0", "--to",
            f"127.0.0.1:{port}", "--rtt", self.path.rtt, "--rate",
            self.path.rate, "--queue", self.options.queue)
        return int(self.wait_log(process, r"^ready (\d+)"))

    def load(self, *argv, seconds):
        """The generator's JSON."""
        argv = [str(BUILD / "bench/load"), *map(str, argv)]
        process = self.start("load", *argv)
        try:
            code = process.wait(seconds + 60)
        except subprocess.TimeoutExpired:
            raise Failed(f"{' '.join(argv)}: not done\n" + self.logs()) \
                from None
        text = process.log.read_text("utf-8", "backslashreplace")
        if code != 0:
            raise Failed(f"{' '.join(argv)}: exit {code}\n" + self.logs())
        self.processes.remove(process)
        self.check()
        return json.loads(text.strip().splitlines()[-1])


def kill_all():
    with Stack.lock:
        stacks = list(Stack.living)
    for stack in stacks:
        stack.kill()


def free_port():
    """For programs that cannot be told to let the kernel choose.  Below the
    ports that it gives to connections."""
    for _ in range(1000):
        port = 12000 + int.from_bytes(os.urandom(2), "big") % 16000
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue
    raise Failed("no free port")


# --- rows: each returns the port that the visitors connect to ----------------

def row_direct(stack):
    return stack.distance(stack.application())


def ours(stack, more):
    application = stack.application()
    (stack.dir / "server.yaml").write_text(
        'bind: "127.0.0.1:0"\n'
        "proxy:\n"
        "- remote_name: long\n"
        "  port_list:\n"
        f'  - {{type: tcp, bind: "127.0.0.1:0", remote: {application}}}\n'
        f"state_dir: {stack.dir}/state\n"
        + "\n".join(stack.options.server_yaml) + "\n")
    server = stack.start("proxy-server", BUILD / "proxy-server", "-c",
                         stack.dir / "server.yaml")
    listening = r" listening .*for={}\b.*bind=\S*:(\d+)"
    tunnel = int(stack.wait_log(server, listening.format("tunnel")))
    port = int(stack.wait_log(server, listening.format("visitors")))
    (stack.dir / "client.yaml").write_text(
        "name: long\n"
        f'server: "127.0.0.1:{stack.distance(tunnel)}"\n'
        + more + "\n".join(stack.options.client_yaml) + "\n")
    client = stack.start("remote-client", BUILD / "remote-client", "-c",
                         stack.dir / "client.yaml")
    stack.wait_log(client, r" (registered) ")
    # The others of its tunnels; how many there are is its own affair.
    time.sleep(0.2 + 2e-3 * stack.path.rtt)
    return port


def row_ours_1(stack):
    return ours(stack, "tunnels: 1\n")


def row_ours(stack):
    return ours(stack, "")


def row_window(size):
    """One tunnel whose windows stay small, to see what they are for."""
    def row(stack):
        line = f"stream_window_max: {size}\n"
        with_it = stack.options.server_yaml
        stack.options.server_yaml = [*with_it, line]
        try:
            return ours(stack, "tunnels: 1\n" + line)
        finally:
            stack.options.server_yaml = with_it
    return row


def row_ssh(stack):
    application = stack.application()
    port = free_port()
    for key in ("host_key", "user_key"):
        subprocess.run([program("ssh-keygen"), "-q", "-t", "ed25519", "-N",
                        "", "-f", stack.dir / key], check=True)
    # Its privilege separation wants this directory, whatever the
    # configuration says.
    if os.getuid() == 0:
        pathlib.Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    (stack.dir / "sshd_config").write_text(
        SSHD.format(dir=stack.dir, port=port))
    stack.start("sshd", program("sshd"), "-D", "-e", "-f",
                stack.dir / "sshd_config")
    stack.wait_port(port)
    client = stack.start(
        "ssh", program("ssh"), "-F", "none", "-N", "-i",
        stack.dir / "user_key", "-o", "StrictHostKeyChecking=no", "-o",
        f"UserKnownHostsFile={stack.dir}/known_hosts", "-o", "BatchMode=yes",
        "-o", "ExitOnForwardFailure=yes", "-p", stack.distance(port), "-R",
        f"127.0.0.1:0:127.0.0.1:{application}", "127.0.0.1")
    return int(stack.wait_log(client, r"^Allocated port (\d+)", 30))


def row_frp(stack):
    # As it comes, but without TLS, as ours has none.
    application = stack.application()
    control, port = free_port(), free_port()
    (stack.dir / "frps.toml").write_text(
        f'bindAddr = "127.0.0.1"\nbindPort = {control}\n')
    stack.start("frps", program("frps"), "-c", stack.dir / "frps.toml")
    stack.wait_port(control)
    (stack.dir / "frpc.toml").write_text(
        'serverAddr = "127.0.0.1"\n'
        f"serverPort = {stack.distance(control)}\n"
        "transport.tls.enable = false\n"
        "[[proxies]]\n"
        'name = "long"\ntype = "tcp"\nlocalIP = "127.0.0.1"\n'
        f"localPort = {application}\nremotePort = {port}\n")
    stack.start("frpc", program("frpc"), "-c", stack.dir / "frpc.toml")
    stack.wait_port(port)
    return port


def row_rathole(stack):
    application = stack.application()
    control, port = free_port(), free_port()
    (stack.dir / "server.toml").write_text(
        f'[server]\nbind_addr = "127.0.0.1:{control}"\n'
        'default_token = "long"\n'
        f'[server.services.long]\nbind_addr = "127.0.0.1:{port}"\n')
    stack.start("rathole-server", program("rathole"),
                stack.dir / "server.toml")
    stack.wait_port(control)
    (stack.dir / "client.toml").write_text(
        f'[client]\nremote_addr = "127.0.0.1:{stack.distance(control)}"\n'
        'default_token = "long"\n'
        f'[client.services.long]\nlocal_addr = "127.0.0.1:{application}"\n')
    stack.start("rathole-client", program("rathole"),
                stack.dir / "client.toml")
    stack.wait_port(port)
    return port


def row_chisel(stack):
    application = stack.application()
    control, port = free_port(), free_port()
    stack.start("chisel-server", program("chisel"), "server", "--host",
                "127.0.0.1", "--port", control, "--reverse")
    stack.wait_port(control)
    stack.start("chisel-client", program("chisel"), "client",
                f"http://127.0.0.1:{stack.distance(control)}",
                f"R:127.0.0.1:{port}:127.0.0.1:{application}")
    stack.wait_port(port)
    return port


# name: what starts it, the programs that it needs
ROWS = {
    "direct": (row_direct, []),
    "ours-1": (row_ours_1, []),
    "ours": (row_ours, []),
    "ours-256KiB": (row_window("256KiB"), []),
    "ours-2MiB": (row_window("2MiB"), []),
    "ssh": (row_ssh, ["ssh", "sshd", "ssh-keygen"]),
    "frp": (row_frp, ["frps", "frpc"]),
    "rathole": (row_rathole, ["rathole"]),
    "chisel": (row_chisel, ["chisel"]),
}


# --- measuring --------------------------------------------------------------

class Path:
    def __init__(self, text):
        found = re.fullmatch(r"(\d+(?:\.\d+)?)x(\d+(?:\.\d+)?)", text)
        if not found or float(found.group(2)) == 0:
            raise argparse.ArgumentTypeError(f"{text}: not RTTxRATE")
        self.name = text
        self.rtt, self.rate = float(found.group(1)), float(found.group(2))

    def title(self):
        return f"{self.rtt:g} ms, {self.rate:g} Mbit/s"


def times(path, options):
    """Warm-up and measurement: less where no window has to grow."""
    if path.rtt == 0:
        return min(1, options.warmup), min(3, options.seconds)
    return options.warmup, options.seconds


def measure(path, cell, row, options):
    kind, direction = cell.split("-")
    warmup, seconds = times(path, options)
    common = ["--warmup", warmup, "--seconds", seconds]
    with Stack(path, options) as stack:
        port = ROWS[row][0](stack)
        # For the rows that know only that something listens: the first
        # visitor may come before the way to the application is there.
        if row in ("frp", "rathole", "chisel"):
            time.sleep(0.3 + 4e-3 * path.rtt)
        where = ["--connect", f"127.0.0.1:{port}", *common]
        if kind == "key":
            got = stack.load("ping", *where, "--size", 64, "--interval",
                             KEY_INTERVAL_US, "--beside", 1,
                             "--beside-direction", direction,
                             seconds=warmup + seconds)
            return {"p50": got["p50_us"] / 1e3, "p99": got["p99_us"] / 1e3,
                    "max": got["max_us"] / 1e3, "count": got["count"],
                    "mbit": got["beside_gbit"] * 1e3,
                    "share": got["beside_gbit"] * 1e5 / path.rate}
        got = stack.load("bulk", *where, "--direction", direction,
                         "--streams", STREAMS[kind], seconds=warmup + seconds)
        return {"mbit": got["gbit"] * 1e3,
                "by_stream": [n * 8e-6 / got["seconds"]
                              for n in got["by_stream"]]}


class Lateness:
    """How late the machine woke a sleeper while something was measured: a
    busy one puts that into every key stroke, whatever carries it."""

    def __enter__(self):
        self.worst = 0.0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._over.set()
        self._thread.join()

    def _watch(self):
        while True:
            since = time.monotonic()
            if self._over.wait(0.005):
                return
            late = (time.monotonic() - since) * 1e3 - 5
            self.worst = max(self.worst, late)


def measure_watched(path, cell, row, options):
    with Lateness() as lateness:
        got = measure(path, cell, row, options)
    return {**got, "late_ms": lateness.worst}


def brief(cell, got):
    if cell.startswith("key"):
        return (f"p50 {got['p50']:.1f} ms, p99 {got['p99']:.1f} ms, "
                f"bulk {got['share']:.1f} %")
    return f"{got['mbit']:.1f} Mbit/s"


def groups(path, rows):
    """Rows that are measured at one time: slow lines leave the machine idle,
    fast ones do not."""
    if path.rate * len(rows) <= TOGETHER_MBIT:
        return [rows]
    return [[row] for row in rows]


def run(options, rows):
    """[round][path][cell][row] as a flat list of records."""
    records = []
    total = options.rounds * len(options.paths) * len(options.cells) * \
        len(rows)
    with concurrent.futures.ThreadPoolExecutor(len(rows)) as pool:
        for number in range(options.rounds):
            for path in options.paths:
                for cell in options.cells:
                    for group in groups(path, rows):
                        futures = [
                            pool.submit(measure_watched, path, cell, row,
                                        options) for row in group]
                        try:
                            for row, future in zip(group, futures):
                                got = future.result()
                                records.append(
                                    {"round": number, "path": path.name,
                                     "cell": cell, "row": row, **got})
                                print(f"[{len(records)}/{total}] "
                                      f"{path.name} {cell} {row}: "
                                      f"{brief(cell, got)}",
                                      file=sys.stderr, flush=True)
                        except BaseException:
                            # Else the pool would wait for the others.
                            kill_all()
                            raise
    return records


# --- reporting --------------------------------------------------------------

class Results:
    """The medians of the rounds."""

    def __init__(self, records):
        self.records = records

    def get(self, path, cell, row, key):
        values = [r[key] for r in self.records
                  if (r["path"], r["cell"], r["row"]) == (path, cell, row)]
        return statistics.median(values) if values else None


def table(results, path, options, rows):
    heads, rules = [path.title()], ["---"]
    for cell in options.cells:
        kind, direction = cell.split("-")
        if kind == "key":
            heads += [f"key beside {direction}: p50 / p99 ms",
                      f"{direction} gets"]
            rules += ["--:", "--:"]
        else:
            heads.append(f"{kind} {direction}")
            rules.append("--:")
    lines = ["| " + " | ".join(heads) + " |", "|" + "|".join(rules) + "|"]
    for row in rows:
        columns = [row]
        for cell in options.cells:
            def get(key):
                return results.get(path.name, cell, row, key)
            if cell.startswith("key"):
                columns += [f"{get('p50'):.1f} / {get('p99'):.1f}",
                            f"{get('share'):.1f} %"]
            else:
                columns.append(f"{get('mbit'):.1f}")
        lines.append("| " + " | ".join(columns) + " |")
    return "\n".join(lines)


def targets(results, rows):
    """(text, outcome) of each; None when it was not measured."""
    found = []
    for row in [r for r in rows if r in ("ours-1", "ours")]:
        for name in ("100x200", "100x1000"):
            for direction in ("down", "up"):
                cell = f"one-{direction}"
                mine = results.get(name, cell, row, "mbit")
                best = results.get(name, cell, "direct", "mbit")
                text = (f"{row}, {Path(name).title()}: one stream {direction} "
                        f">= 90 % of direct")
                if mine is None or not best:
                    found.append((text, None))
                    continue
                part = 100 * mine / best
                found.append((f"{text}: {part:.1f} %", part >= 90))
        for direction in ("up", "down"):
            cell = f"key-{direction}"
            share = results.get("20x20", cell, row, "share")
            p99 = results.get("20x20", cell, row, "p99")
            where = f"{row}, {Path('20x20').title()}, key beside {direction}"
            texts = (f"{where}: bulk >= 95 % of the line",
                     f"{where}: p99 <= RTT + 15 ms")
            if share is None:
                found += [(text, None) for text in texts]
                continue
            found += [(f"{texts[0]}: {share:.1f} %", share >= 95),
                      (f"{texts[1]}: {p99:.1f} ms", p99 <= 35)]
    return found


def report(results, options, rows, skipped, took):
    version = (ROOT / "VERSION").read_text().strip()
    lines = [
        "# Over distant paths",
        "",
        f"port-proxy {version}, {len(os.sched_getaffinity(0))} cores, Linux "
        f"{platform.release()}; {took / 60:.1f} minutes.",
        f"Each direction of a path is one line with a queue of "
        f"{options.queue:g} ms; what is read beyond waits in its socket.",
        "A measurement warms up first, as windows grow: "
        f"{options.warmup:g} s, then {options.seconds:g} s count "
        + "(without a delay {:g} s and {:g} s)".format(
            *times(Path("0x1"), options))
        + f"; median of {options.rounds}.",
        "Throughput is in Mbit/s, up is towards the application. A key "
        "stroke is 64 bytes there and back.",
    ]
    together = [p.name for p in options.paths
                if len(rows) > 1 and len(groups(p, rows)) == 1]
    if together:
        lines.append("The rows of " + ", ".join(together) + " were measured "
                     "at the same time, each on a line of its own.")
    late = [r["late_ms"] for r in results.records]
    lines.append(
        f"The machine woke a sleeper late by up to {max(late):.0f} ms, by "
        f"more than 10 ms during {sum(ms > 10 for ms in late)} of {len(late)} "
        "measurements; that is in the key strokes.")
    if skipped:
        lines.append("Skipped, as not installed: " + ", ".join(skipped) + ".")
    for path in options.paths:
        lines += ["", table(results, path, options, rows)]
    lines += ["", "Targets:", ""]
    checked = targets(results, rows)
    lines += [f"- {'met' if met else '**missed**'}: {text}"
              for text, met in checked if met is not None]
    missing = sum(met is None for _, met in checked)
    if missing or not checked:
        lines.append(f"- not measured: {missing or 'all'}")
    return "\n".join(lines) + "\n", checked


# --- the command line -------------------------------------------------------

def names(known):
    """A parser of a list out of these; `one` stands for one-down, one-up."""
    def parse(text):
        found = []
        for word in text.split(","):
            some = [k for k in known if k == word]
            some = some or [k for k in known if "-" in k and k not in ROWS
                            and k.split("-")[0] == word]
            if not some:
                raise argparse.ArgumentTypeError(
                    f"{word}: not among {', '.join(known)}")
            found += [k for k in some if k not in found]
        return found
    return parse


def path_list(text):
    if text == "all":
        text = ",".join(PATHS + MORE_PATHS)
    return [Path(word) for word in text.split(",")]


def number(text):
    value = float(text)
    if not 0 <= value <= 3600:
        raise argparse.ArgumentTypeError(f"{text}: not from 0 to 3600")
    return value


def arguments():
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--paths", type=path_list, default=path_list(",".join(PATHS)),
        metavar="LIST", help="RTTxRATE,... or `all`, which is also "
        f"{', '.join(MORE_PATHS)} (default {','.join(PATHS)})")
    add("--cells", type=names(CELLS), default=CELLS, metavar="LIST",
        help=f"of {', '.join(CELLS)}; or one, eight, key (default all)")
    add("--rows", type=names(list(ROWS)), metavar="LIST",
        help=f"of {', '.join(ROWS)} (default all that are installed)")
    add("--rounds", type=int, default=1, metavar="N",
        help="each measurement so often; the median is shown (1)")
    add("--warmup", type=number, default=5, metavar="S",
        help="before each measurement, at most 1 without a delay (5)")
    add("--seconds", type=number, default=5, metavar="S",
        help="of a measurement, at most 3 without a delay (5)")
    add("--queue", type=number, default=1000, metavar="MS",
        help="what a line's queue holds (1000)")
    add("--server-yaml", action="append", default=[], metavar="LINE",
        help="one more line of the proxy-server's configuration, as "
        "'workers: 1'; may be repeated")
    add("--client-yaml", action="append", default=[], metavar="LINE",
        help="the same for the remote-client")
    add("--output", type=pathlib.Path, default=BUILD / "bench",
        metavar="DIRECTORY",
        help="where long.md and long.json go (BUILD/bench)")
    options = parser.parse_args()
    if options.rounds < 1 or options.seconds == 0:
        parser.error("--rounds and --seconds are more than 0")
    return options


def choose_rows(options):
    """Those that can be measured, and the names of the others."""
    rows = options.rows or list(ROWS)
    missing = [r for r in rows if not all(map(program, ROWS[r][1]))]
    return [r for r in rows if r not in missing], missing


def main():
    options = arguments()
    for needed in ("proxy-server", "remote-client", "bench/load",
                   "bench/path"):
        if not (BUILD / needed).exists():
            sys.exit(f"{BUILD / needed} is not built: make bench-long")
    atexit.register(kill_all)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    signal.signal(signal.SIGHUP, lambda *_: sys.exit(129))
    rows, skipped = choose_rows(options)
    if not rows:
        sys.exit(f"not installed: {', '.join(skipped)}")
    since = time.monotonic()
    try:
        records = run(options, rows)
    except Failed as error:
        print(f"long.py: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    text, checked = report(Results(records), options, rows, skipped,
                           time.monotonic() - since)
    options.output.mkdir(parents=True, exist_ok=True)
    (options.output / "long.md").write_text(text)
    (options.output / "long.json").write_text(json.dumps(
        {"warmup": options.warmup, "seconds": options.seconds,
         "queue_ms": options.queue, "rounds": options.rounds,
         "skipped": skipped, "records": records,
         "targets": [{"target": t, "met": o} for t, o in checked]},
        indent=1) + "\n")
    print(text, end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
