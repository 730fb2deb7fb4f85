"""The two daemons: starting and ending them, following them through upgrades,
reading their logs."""
import os
import pathlib
import resource
import shutil
import signal
import subprocess
import sys
import time

sys.path.append(str(pathlib.Path(__file__).resolve().parents[1] /
                    "integration"))
import harness                                          # noqa: E402
from network import Failed, Network                     # noqa: E402

SANITIZERS = {"asan": b"__asan_init", "tsan": b"__tsan_init"}


def sanitizer_of(program):
    """asan, tsan or nothing, as the program was built."""
    text = pathlib.Path(program).read_bytes()
    for name, mark in SANITIZERS.items():
        if mark in text:
            return name
    return ""


def until(look, timeout, pause=0.01):
    """Poll; what look gave, which is false when the time is over."""
    deadline = time.monotonic() + timeout
    while True:
        value = look()
        if value or time.monotonic() > deadline:
            return value
        time.sleep(pause)


def state_of(pid):
    """The letter of the process's state; Z or nothing: it is over."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii",
                  errors="replace") as file:
            return file.read().rpartition(")")[2].split()[0]
    except OSError:
        return ""


class Daemon:
    """A proxy-server or a remote-client, through all of its processes.

    An upgrade makes another process of it.  This one being the first of its
    namespace, it inherits that process when the old one ends, so that the
    status of each can be had.
    """

    def __init__(self, directory, program, host, name=None):
        self.host = host
        self.built = pathlib.Path(program)
        self.name = name or self.built.name
        # A copy, which upgrades replace.
        self.program = directory / "bin" / self.name
        self.program.parent.mkdir(exist_ok=True)
        self._install()
        self.config = directory / f"{self.name}.yaml"
        self.log_path = directory / f"{self.name}.log"
        self.sanitizer = sanitizer_of(program)
        self.factor = 5 if self.sanitizer else 1
        self.pid = None
        self.code = None            # of the present process, when it is over
        self.told = False           # that it is over
        self._errors = 0            # in the log when it was to be upgraded
        self._offset, self._rest, self._entries = 0, b"", []

    def _install(self):
        """As a package manager does: another file of the same name."""
        new = self.program.with_suffix(".new")
        shutil.copy2(self.built, new)
        new.replace(self.program)

    # - processes -

    def start(self):
        for stray in self.processes():
            os.kill(stray, signal.SIGKILL)
        argv = [str(self.program), "-c", str(self.config)]
        # gcc's ThreadSanitizer does not run under wide address randomisation.
        if self.sanitizer == "tsan" and shutil.which("setarch"):
            argv = ["setarch", "-R", *argv]
        seen = len(self.log("ready"))
        with open(self.log_path, "ab") as log:
            process = subprocess.Popen(
                Network.inside(self.host, *argv), stdin=subprocess.DEVNULL,
                stdout=log, stderr=log, cwd=self.config.parent,
                env=harness.Test.environment(), start_new_session=True)
        self.pid, self.code, self.told = process.pid, None, False
        process.returncode = 0      # its status is ours to ask for
        if not until(lambda: len(self.log("ready")) > seen or
                     self.poll() is not None, 10 * self.factor) or \
                self.code is not None:
            raise Failed(f"{self.name} did not start\n{self.tail()}")

    def check_config(self, text):
        """Whether `-t` finds that configuration right."""
        path = self.config.with_suffix(".try")
        path.write_text(text)
        done = subprocess.run([self.program, "-t", "-c", path],
                              stdout=subprocess.DEVNULL,
                              stderr=subprocess.DEVNULL)
        path.unlink()
        return done.returncode == 0

    def poll(self):
        """The exit code of the present process, or None."""
        if self.code is None and self.pid is not None:
            try:
                pid, status = os.waitpid(self.pid, os.WNOHANG)
            except ChildProcessError:   # its parent is the old process still
                return None if state_of(self.pid) not in ("", "Z") else 0
            if pid:
                self.code = os.waitstatus_to_exitcode(status)
        return self.code

    def processes(self):
        """All processes of this daemon, by the configuration they name."""
        mark, found = str(self.config).encode(), []
        for entry in os.listdir("/proc"):
            if not entry.isdigit() or state_of(entry) in ("", "Z"):
                continue
            try:
                line = pathlib.Path(f"/proc/{entry}/cmdline").read_bytes()
            except OSError:
                continue
            if mark in line.split(b"\0"):
                found.append(int(entry))
        return found

    def signal(self, number):
        if self.poll() is None:
            os.kill(self.pid, number)

    def upgrade_begin(self):
        self._install()
        self._errors = len(self.log(level="error"))
        self.signal(signal.SIGUSR2)
        return self.pid

    def upgrade_end(self, old, timeout=15):
        """The old process is over, with status 0, and one other goes on."""
        def look():
            if self.poll() is None:
                failed.extend(e["line"] for e in self.log(level="error")
                              [self._errors:] if "upgrade" in e["line"])
                return failed
            # In this order: whoever takes over is there before that.
            others = [pid for pid in self.processes() if pid != old]
            return None if len(others) > 1 else others or ["none"]
        failed = []
        others = until(look, timeout * self.factor)
        if failed:
            return f"{self.name}: {failed[0]}"
        if not others:
            return (f"{self.name}: not upgraded in "
                    f"{timeout * self.factor} s; processes "
                    f"{self.processes()}, signalled {old}")
        if others == ["none"]:
            self.told = True
            return f"{self.name} ended with {self.code} at SIGUSR2"
        code, self.pid, self.code = self.code, others[0], None
        if code != 0:
            return f"{self.name}: the old process ended with {code}"
        return None

    def died(self):
        """What to tell of an end that nobody asked for; once."""
        if self.poll() is None or self.told:
            return None
        self.told = True
        return f"{self.name} ended with {self.code}"

    def kill(self):
        """SIGKILL, all of it."""
        if self.pid is None:
            return
        for pid in self.processes():
            os.kill(pid, signal.SIGKILL)
        until(lambda: self.poll() is not None, 5)

    def wait_exit(self, timeout):
        """The exit code, or None when it does not end."""
        until(lambda: self.poll() is not None, timeout * self.factor)
        return self.code

    # - looking at it -

    def memory(self):
        """MiB that are resident, and how many descriptors are open."""
        mib = 0.0
        try:
            with open(f"/proc/{self.pid}/status", encoding="ascii") as file:
                for line in file:
                    if line.startswith("VmRSS:"):
                        mib = int(line.split()[1]) / 1024
            return mib, len(os.listdir(f"/proc/{self.pid}/fd"))
        except OSError:
            return mib, 0

    def counters(self):
        """What it says of itself at SIGUSR1: key=value, but for its pid."""
        seen = len(self.log("state"))
        self.signal(signal.SIGUSR1)
        if not until(lambda: len(self.log("state")) > seen, 5 * self.factor):
            return "no answer to SIGUSR1"
        words = self.log("state")[-1]["line"].split(" state ", 1)[1].split()
        return " ".join(w for w in words if not w.startswith("pid="))

    def limit_files(self, soft=None):
        """Returns what the limit was.  Without a number: the lowest that is
        free, so that nothing more can be opened."""
        old = resource.prlimit(self.pid, resource.RLIMIT_NOFILE)
        if soft is None:
            used = set(map(int, os.listdir(f"/proc/{self.pid}/fd")))
            soft = next(n for n in range(len(used) + 1) if n not in used)
        resource.prlimit(self.pid, resource.RLIMIT_NOFILE, (soft, old[1]))
        return old[0]

    def log(self, event=None, level=None):
        try:
            with open(self.log_path, "rb") as file:
                file.seek(self._offset)
                data = file.read()
        except FileNotFoundError:
            return []
        self._offset += len(data)
        lines = (self._rest + data).split(b"\n")
        self._rest = lines.pop()
        for line in lines:
            text = line.decode("utf-8", "backslashreplace")
            entry = harness.parse_line(text)
            if entry:
                entry["line"] = text
                self._entries.append(entry)
        return [e for e in self._entries
                if event in (None, e["event"]) and level in (None, e["level"])]

    def reports(self):
        """What a sanitizer said, by its first words."""
        try:
            text = self.log_path.read_text("utf-8", "backslashreplace")
        except FileNotFoundError:
            return []
        return [word for word in harness.SANITIZERS if word in text]

    def tail(self, lines=15):
        try:
            text = self.log_path.read_text("utf-8", "backslashreplace")
        except FileNotFoundError:
            return ""
        return "\n".join(text.splitlines()[-lines:])
