"""Starting processes so that none is left behind, and looking at them."""
import ctypes
import os
import pathlib
import random
import resource
import signal
import socket
import subprocess
import time

LIBC = ctypes.CDLL(None)
PR_SET_PDEATHSIG = 1
CPUCLOCK_SCHED = 2


class Failed(Exception):
    """What a run cannot go on after; its text is what to tell."""


def _in_child():
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


class Processes:
    """All that were started; the end of them is close()."""

    def __init__(self, log_dir):
        self.log_dir = pathlib.Path(log_dir)
        self.log_dir.mkdir(parents=True, exist_ok=True)
        self._all = []

    def start(self, name, argv, **options):
        """A process in the background; what it says goes to NAME.log."""
        path = self.log_dir / f"{name}.log"
        with open(path, "wb") as log:
            options.setdefault("stdout", log)
            process = subprocess.Popen(
                [str(a) for a in argv], stdin=options.pop(
                    "stdin", subprocess.DEVNULL),
                stderr=options.pop("stderr", log), preexec_fn=_in_child,
                start_new_session=True, **options)
        process.name = name
        process.log = path
        self._all.append(process)
        return process

    def forget(self, process):
        """That one is over."""
        process.wait()
        for pipe in (process.stdin, process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()
        self._all.remove(process)

    def close(self):
        pids = [pid for p in self._all for pid in tree(p.pid)]
        for number in (signal.SIGTERM, signal.SIGKILL):
            for pid in pids:
                _kill(pid, number)
            deadline = time.monotonic() + 2
            while any(map(_alive, pids)) and time.monotonic() < deadline:
                for process in self._all:
                    process.poll()
                time.sleep(0.01)
        for process in self._all:
            process.wait()
        self._all = []


def _kill(pid, number):
    try:
        os.kill(pid, number)
    except (ProcessLookupError, PermissionError):
        pass


def _alive(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii",
                  errors="replace") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def tail(process, lines=8):
    """What a process said last, for a report."""
    try:
        text = process.log.read_text(errors="replace").splitlines()
    except OSError:
        return ""
    return "\n".join(f"    {line}" for line in text[-lines:])


def tree(root):
    """A process and all below it."""
    children = {}
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            with open(f"/proc/{entry}/stat", encoding="ascii",
                      errors="replace") as file:
                parent = int(file.read().rpartition(")")[2].split()[1])
        except OSError:
            continue
        children.setdefault(parent, []).append(int(entry))
    found, left = [], [root]
    while left:
        pid = left.pop(0)
        found.append(pid)
        left += sorted(children.get(pid, ()))
    return found


def cpu_seconds(pid):
    """The process's CPU clock, as clock_getcpuclockid() would name it."""
    try:
        return time.clock_gettime((~pid << 3) | CPUCLOCK_SCHED)
    except OSError:
        raise Failed(f"process {pid} is gone") from None


def memory(pid):
    """Bytes in user space; what processes share is divided among them."""
    try:
        with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as file:
            for line in file:
                if line.startswith("Pss:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    raise Failed(f"process {pid} is gone, or its memory may not be read")


def free_port():
    """A port on loopback, out of the way of outgoing connections."""
    for _ in range(1000):
        port = random.randrange(10000, 32000)
        with socket.socket() as probe:
            try:
                probe.bind(("0.0.0.0", port))
            except OSError:
                continue
        return port
    raise Failed("no free port")
