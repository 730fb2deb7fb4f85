"""What the integration scenarios stand on: starting the daemons and the
applications around them, reading their logs, waiting with a deadline, and
leaving nothing behind.

    @scenario(12, "half-close both ways")
    def half_close(t): ...

A scenario fails when it says so, when a daemon that it started died or ended
with a code that was not expected, or when a sanitizer spoke in a log.  Numbers
1-99: applications and operation; 100-199: the wire; 200-219: reloading;
220-239: resuming; 240-259: the life of a session; 260-299: upgrades in place.

Environment: BUILD (where the daemons are), TOOLS (where echo and traffic are),
CHECK_SCALE (volumes and counts), SAN (asan or tsan: the daemons were built with
it; every deadline is five times as long), ALLOW_SKIP=1 (a missing program skips
its scenario instead of failing it).
"""

import ctypes
import fcntl
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import struct
import subprocess
import threading
import time
import traceback

ROOT = pathlib.Path(__file__).resolve().parents[2]


def _directory(variable, default):
    return (ROOT / os.environ.get(variable, default)).resolve()


BUILD = _directory("BUILD", "build")
TOOLS = _directory("TOOLS", "build/tools")
SAN = os.environ.get("SAN", "")
SCALE = float(os.environ.get("CHECK_SCALE", "1.0"))
FACTOR = 5 if SAN else 1

SANITIZERS = ("ERROR: AddressSanitizer", "ERROR: LeakSanitizer",
              "runtime error:", "WARNING: ThreadSanitizer", "Assertion")

SCENARIOS = {}


def scenario(number, title):
    """Register a scenario; the number is its name for ever."""
    def register(function):
        if number in SCENARIOS:
            raise ValueError(f"scenario {number} is there twice")
        SCENARIOS[number] = (title, function)
        return function
    return register


class Failed(Exception):
    """The scenario failed, for the reason given."""


class Skipped(Exception):
    """A program that the scenario needs is not there."""


class OutOfTime(BaseException):
    """The hard limit; a BaseException so that no `except Exception` eats it."""


# --- logs -------------------------------------------------------------------

_PAIR = re.compile(r'([A-Za-z0-9_.-]+)=("(?:[^"\\]|\\.)*"|[^ ]*)')
_ESCAPE = re.compile(r"\\(x[0-9a-fA-F]{2}|.)")
_ESCAPED = {"n": "\n", "t": "\t", "r": "\r"}


def _unescape(match):
    word = match.group(1)
    if len(word) == 3:
        return chr(int(word[1:], 16))
    return _ESCAPED.get(word, word)


def parse_line(line):
    """One log line as a dict, or None when it is not one."""
    parts = line.split(" ", 3)
    if len(parts) < 3 or not re.match(r"\d{4}-\d\d-\d\dT.*Z$", parts[0]):
        return None
    entry = {"time": parts[0], "level": parts[1], "event": parts[2]}
    for key, value in _PAIR.findall(parts[3] if len(parts) > 3 else ""):
        if value.startswith('"'):
            value = _ESCAPE.sub(_unescape, value[1:-1])
        entry[key] = value
    return entry


def _matches(entry, event, fields):
    if event is not None and entry["event"] != event:
        return False
    return all(entry.get(key.rstrip("_")) == str(value)
               for key, value in fields.items())


PR_SET_CHILD_SUBREAPER = 36


def adopt_orphans():
    """What our children leave behind becomes ours when they end."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


class Adopted:
    """A process that we did not start, but are to wait for: adopt_orphans().
    As far as it goes a subprocess.Popen."""

    def __init__(self, pid):
        self.pid = pid
        self.returncode = None

    def poll(self):
        if self.returncode is None:
            try:
                pid, status = os.waitpid(self.pid, os.WNOHANG)
            except ChildProcessError:   # its parent has not ended yet
                return None
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def wait(self, timeout=60):
        deadline = time.monotonic() + timeout
        while self.poll() is None:
            if time.monotonic() > deadline:
                raise subprocess.TimeoutExpired(str(self.pid), timeout)
            time.sleep(0.005)
        return self.returncode

    def send_signal(self, number):
        if self.poll() is None:
            try:
                os.kill(self.pid, number)
            except ProcessLookupError:
                pass

    def kill(self):
        self.send_signal(signal.SIGKILL)


class Daemon:
    """A running proxy-server or remote-client."""

    def __init__(self, test, name, argv, env):
        self.test = test
        self.name = name
        self.argv = argv
        self.path = test.dir / f"{name}.log"
        self.state_dir = None   # of a proxy-server: given by the harness
        self.expected = 0       # exit code that the end of the scenario wants
        self.ended = False      # the scenario itself ended it
        self._offset = 0
        self._rest = b""
        self._entries = []
        with open(self.path, "ab") as err, \
             open(test.dir / f"{name}.out", "ab") as out:
            self.process = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=out, stderr=err,
                cwd=test.dir, env=env, start_new_session=True)
        self.pid = self.group = self.process.pid
        test._note_pid(self.pid)

    # Log fields are compared as text; a key that is a Python keyword takes a
    # trailing underscore: d.log("listening", for_="tunnel").
    def log(self, event=None, **fields):
        with open(self.path, "rb") as file:
            file.seek(self._offset)
            data = file.read()
        self._offset += len(data)
        lines = (self._rest + data).split(b"\n")
        self._rest = lines.pop()
        for line in lines:
            entry = parse_line(line.decode("utf-8", "backslashreplace"))
            if entry:
                self._entries.append(entry)
        return [e for e in self._entries if _matches(e, event, fields)]

    def wait_log(self, event, timeout=10, count=1, **fields):
        def look():
            found = self.log(event, **fields)
            if len(found) >= count:
                return found[count - 1]
            if self.process.poll() is not None and not self.ended:
                found = self.log(event, **fields)
                if len(found) >= count:
                    return found[count - 1]
                self.test.fail(f"{self.name} ended with "
                               f"{self.process.returncode} while `{event}` "
                               f"was awaited")
            return None
        words = " ".join(f"{k}={v}" for k, v in fields.items())
        return self.test.until(
            look, timeout,
            f"{self.name}: log event `{event}` {words} x{count}")

    def text(self):
        return self.path.read_text("utf-8", "backslashreplace")

    def alive(self):
        return self.process.poll() is None

    def signal(self, number):
        self.process.send_signal(number)

    def wait_exit(self, timeout=10, expected=None):
        """Wait for an end that the scenario wants; returns the exit code."""
        self.ended = True
        try:
            code = self.process.wait(timeout * FACTOR)
        except subprocess.TimeoutExpired:
            self.expected = None
            self.test.fail(f"{self.name} did not end in {timeout} s")
        self.expected = code if expected is None else expected
        return code

    def stop(self, timeout=10):
        """SIGTERM, wait, return the exit code (which has to be 0)."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.wait_exit(timeout, expected=0)

    def upgrade(self, timeout=20):
        """SIGUSR2: another process goes on.  The line that it says then."""
        done = len(self.log("upgraded"))
        failed = len(self.log("upgrade-failed"))
        self.process.send_signal(signal.SIGUSR2)
        return self.follow(done, failed, timeout)

    def follow(self, done=0, failed=0, timeout=20):
        """Another process goes on; what was logged of that until now."""
        def look():
            if len(self.log("upgrade-failed")) > failed:
                line = self.log("upgrade-failed")[failed]
                self.test.fail(f"{self.name}: {line}")
            return self.log("upgraded")[done:]
        line = self.test.until(look, timeout, f"{self.name}: upgraded")[0]
        self.test.eq(self.process.wait(10 * FACTOR), 0,
                     f"{self.name}: the exit of the old process")
        self.process = Adopted(int(line["pid"]))
        self.pid = self.process.pid
        return line

    def upgrade_fails(self, timeout=20):
        """SIGUSR2, and nothing comes of it.  The line that says why."""
        failed = len(self.log("upgrade-failed"))
        self.process.send_signal(signal.SIGUSR2)
        line = self.wait_log("upgrade-failed", count=failed + 1,
                             timeout=timeout)
        self.test.ok(self.alive(), f"{self.name} is alive after {line}")
        return line

    def kill(self):
        """SIGKILL."""
        self.process.kill()
        self.process.wait()
        self.ended = True
        self.expected = -signal.SIGKILL

    def fds(self):
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def threads(self):
        return len(os.listdir(f"/proc/{self.pid}/task"))

    def rss_kib(self):
        with open(f"/proc/{self.pid}/status", encoding="ascii") as file:
            for line in file:
                if line.startswith("VmRSS:"):
                    return int(line.split()[1])
        return 0

    def port(self, kind="visitors", index=0):
        """The port of the index-th `listening` event of a kind."""
        bind = self.wait_log("listening", count=index + 1, for_=kind)["bind"]
        return int(bind.rpartition(":")[2])


class Tool(subprocess.Popen):
    """A program beside the daemons; its output goes to files."""

    def __init__(self, test, name, argv, **options):
        self.name = name
        self.out_path = test.dir / f"{name}.out"
        self.err_path = test.dir / f"{name}.err"
        options.setdefault("stdin", subprocess.DEVNULL)
        options.setdefault("cwd", test.dir)
        with open(self.out_path, "wb") as out, \
             open(self.err_path, "wb") as err:
            super().__init__([str(a) for a in argv], stdout=out, stderr=err,
                             start_new_session=True, **options)
        self.test = test
        test._note_pid(self.pid)

    def output(self):
        return self.out_path.read_text("utf-8", "backslashreplace")

    def error_output(self):
        return self.err_path.read_text("utf-8", "backslashreplace")

    def port(self):
        """The port of the `listening PORT` line that echo and traffic print."""
        def look():
            found = re.search(r"^listening (\d+)$", self.output(), re.M)
            if found:
                return int(found.group(1))
            if self.poll() is not None:
                self.test.fail(f"{self.name} ended with {self.returncode}: "
                               f"{self.error_output()}")
            return None
        return self.test.until(look, 10, f"{self.name} listens")

    def finish(self, timeout=60):
        """Wait for the end; returns the exit code."""
        try:
            return self.wait(timeout * FACTOR)
        except subprocess.TimeoutExpired:
            self.test.fail(f"{self.name} did not end in {timeout} s; "
                           f"{self.output()[-500:]}")


class Application:
    """A small application in Python: handler(socket) in a thread for each
    connection.  An exception in a handler fails the scenario."""

    def __init__(self, test, handler, address="127.0.0.1", port=0, backlog=128):
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self.test = test
        self.handler = handler
        self.socket = socket.socket(family, socket.SOCK_STREAM)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind((address, port))
        self.socket.listen(backlog)
        self.port = self.socket.getsockname()[1]
        self.accepted = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                connection, _ = self.socket.accept()
            except OSError:
                return
            self.accepted += 1
            connection.settimeout(60 * FACTOR)
            self.test.thread(self._serve, connection)

    def _serve(self, connection):
        try:
            self.handler(connection)
        finally:
            connection.close()

    def close(self):
        # shutdown() wakes the accept() of the other thread; close() does not.
        try:
            self.socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.socket.close()


class Thread:
    def __init__(self, test, function, arguments):
        self.test = test
        self.value = None
        self.error = None
        self._thread = threading.Thread(target=self._run, daemon=True,
                                        args=(function, arguments))
        self._thread.start()

    def _run(self, function, arguments):
        try:
            self.value = function(*arguments)
        except Exception as error:          # given to the scenario's thread
            self.error = error
            self.test._thread_errors.append(
                "".join(traceback.format_exception(error)))

    def join(self, timeout=60):
        self._thread.join(timeout * FACTOR)
        if self._thread.is_alive():
            self.test.fail("a thread of the scenario did not end")
        if self.error is not None:
            raise Failed(f"in a thread: {self.error!r}") from self.error
        return self.value


# --- what a scenario gets ---------------------------------------------------

class Test:
    def __init__(self, directory, pids=None):
        self.dir = pathlib.Path(directory)
        self.scale = SCALE
        self.san = SAN
        self.factor = FACTOR
        self.daemons = []
        self.tools = []
        self._pids = pids
        self._names = set()
        self._sockets = []
        self._thread_errors = []
        self._tidy = []
        # After an upgrade a daemon is none of our children.
        adopt_orphans()

    # - starting -

    # program: what to run instead of the one that was built, as one word or
    # as several; env: what the environment has besides.

    def server(self, yaml_text, args=(), name="server", wait_ready=True,
               program=None, env=None):
        return self._daemon("proxy-server", yaml_text, args, name, wait_ready,
                            program, env)

    def client(self, yaml_text, args=(), name="client", wait_ready=True,
               registered=False, program=None, env=None):
        """registered: wait for that many `registered` events (True: one)."""
        daemon = self._daemon("remote-client", yaml_text, args, name,
                              wait_ready, program, env)
        if registered:
            daemon.wait_log("registered", count=int(registered))
        return daemon

    def _daemon(self, program, yaml_text, args, name, wait_ready, instead,
                env):
        if not (BUILD / program).exists():
            self.fail(f"{BUILD / program} is not built")
        name = self._name(name)
        config = self.dir / f"{name}.yaml"
        state = None
        if program == "proxy-server" and not re.search(r"^state_dir:",
                                                       yaml_text, re.M):
            state = self._state_dir()
            yaml_text += f"state_dir: {state}\n"
        # A scenario that is over does not wait for its streams.
        if not re.search(r"^drain_timeout:", yaml_text, re.M):
            yaml_text += "drain_timeout: 0s\n"
        config.write_text(yaml_text)
        if not isinstance(instead, (list, tuple)):
            instead = [instead or BUILD / program]
        argv = [*map(str, instead), "-c", str(config), *map(str, args)]
        # gcc's ThreadSanitizer does not run under wide address randomisation.
        if SAN == "tsan" and shutil.which("setarch"):
            argv = ["setarch", "-R", *argv]
        daemon = Daemon(self, name, argv,
                        {**self.environment(), **(env or {})})
        daemon.state_dir = state
        self.daemons.append(daemon)
        if wait_ready:
            daemon.wait_log("ready")
        return daemon

    def _state_dir(self):
        """The first that no running proxy-server of the scenario has: one that
        is started again is the same, one beside it is another."""
        taken = [daemon.state_dir for daemon in self.daemons if daemon.alive()]
        number = 1
        while (state := self.dir / f"state-{number}") in taken:
            number += 1
        return state

    def pair(self, ports, server="", client="", remote="remote_client1",
             dialect="extended", registered=True):
        """A proxy-server and a remote-client on kernel-chosen ports.

        ports: (type, remote) for each listener, or (type, remote, bind), or
        these with a text of further keys behind; server, client: more lines
        of their configurations.  Visitors' ports are then
        pair[0].port(index=i).
        """
        first = self.server(self.server_yaml({remote: ports}, server))
        second = self.client(
            self.client_yaml(first.port("tunnel"), client, remote, dialect),
            registered=registered)
        return first, second

    @staticmethod
    def server_yaml(remotes, more="", bind="127.0.0.1:0"):
        lines = [f'bind: "{bind}"', *more.splitlines(), "proxy:"]
        for remote, ports in remotes.items():
            lines += [f"- remote_name: {remote}", "  port_list:"]
            for entry in ports:
                kind, target = entry[0], entry[1]
                listen = entry[2] if len(entry) > 2 else "127.0.0.1:0"
                target = f'"{target}"' if isinstance(target, str) else target
                more_keys = f", {entry[3]}" if len(entry) > 3 else ""
                lines.append(f'  - {{type: {kind}, bind: "{listen}", '
                             f"remote: {target}{more_keys}}}")
        return "\n".join(lines) + "\n"

    @staticmethod
    def client_yaml(server_port, more="", remote="remote_client1",
                    dialect="extended"):
        server = server_port
        if isinstance(server_port, int):
            server = f'"127.0.0.1:{server_port}"'
        return (f"name: {remote}\nserver: {server}\ndialect: {dialect}\n"
                f"{more}\n")

    def tool(self, name, *args):
        """A program of tests/support: echo, traffic."""
        return self.start([self.tool_path(name), *args], name)

    def tool_path(self, name):
        if not (TOOLS / name).exists():
            self.fail(f"{TOOLS / name} is not built")
        return TOOLS / name

    def start(self, argv, name=None, **options):
        """Any program, in the background; it is killed at the end."""
        name = self._name(name or pathlib.Path(str(argv[0])).name)
        tool = Tool(self, name, argv, **options)
        self.tools.append(tool)
        return tool

    def run(self, argv, timeout=60, input=None, text=True, **options):
        """Run to the end, with its output captured; fails at the timeout."""
        process = subprocess.Popen(
            [str(a) for a in argv], stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=text, start_new_session=True,
            cwd=options.pop("cwd", self.dir),
            stdin=subprocess.DEVNULL if input is None else subprocess.PIPE,
            **options)
        self._note_pid(process.pid)
        self.tools.append(process)
        try:
            out, err = process.communicate(input, timeout * FACTOR)
        except subprocess.TimeoutExpired:
            self.fail(f"{' '.join(map(str, argv))}: not done in {timeout} s")
        return subprocess.CompletedProcess(argv, process.returncode, out, err)

    def program(self, name):
        """The path of an installed program; fails or skips without it."""
        path = shutil.which(name, path=os.environ.get("PATH", "") +
                            ":/usr/sbin:/sbin:/usr/local/sbin")
        if path is None:
            if os.environ.get("ALLOW_SKIP") == "1":
                raise Skipped(f"{name} is not installed")
            self.fail(f"{name} is not installed")
        return path

    def app(self, handler, address="127.0.0.1", port=0, **options):
        application = Application(self, handler, address, port, **options)
        self._tidy.append(application.close)
        return application

    def thread(self, function, *arguments):
        return Thread(self, function, arguments)

    def traffic(self, port, *args, host="127.0.0.1", timeout=100):
        """`traffic run` against a port; returns its JSON, fails when it did."""
        done = self.run([self.tool_path("traffic"), "run", "--connect",
                         f"{host}:{port}", *args], timeout)
        if done.returncode != 0:
            self.fail(f"traffic run {' '.join(map(str, args))}: exit "
                      f"{done.returncode}: {done.stdout}{done.stderr}")
        return json.loads(done.stdout)

    def connect(self, port, host="127.0.0.1", timeout=20, source=None):
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        visitor = socket.socket(family, socket.SOCK_STREAM)
        self._sockets.append(visitor)
        visitor.settimeout(timeout * FACTOR)
        if source is not None:
            visitor.bind((source, 0))
        visitor.connect((host, port))
        return visitor

    def port(self):
        """A free TCP port on loopback, given out once on this machine."""
        low, high = 10000, 30000
        path = f"/tmp/port-proxy-tests-{os.getuid()}.ports"
        with open(path, "a+", encoding="ascii") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.seek(0)
            try:
                port = int(file.read())
            except ValueError:
                port = low
            for _ in range(high - low):
                port = port + 1 if low <= port < high else low
                if _free(port):
                    break
            else:
                self.fail("no free port")
            file.seek(0)
            file.truncate()
            file.write(str(port))
        return port

    @staticmethod
    def environment():
        env = dict(os.environ)
        env["ASAN_OPTIONS"] = ("detect_leaks=1:exitcode=99:"
                               "quarantine_size_mb=16:detect_stack_use_after_"
                               "return=1:strict_string_checks=1")
        env["UBSAN_OPTIONS"] = "print_stacktrace=1:halt_on_error=1:exitcode=98"
        env["TSAN_OPTIONS"] = "halt_on_error=0:exitcode=66:history_size=4"
        return env

    # - checking -

    def until(self, fn, timeout=10, what="a condition"):
        """Poll fn until it is truthy; its value."""
        deadline = time.monotonic() + timeout * FACTOR
        pause = 0.002
        while True:
            value = fn()
            if value:
                return value
            if time.monotonic() > deadline:
                self.fail(f"not within {timeout * FACTOR} s: {what}")
            time.sleep(pause)
            pause = min(pause * 1.5, 0.1)

    def stays(self, fn, seconds, what):
        """fn has to be truthy all that time: for what must not happen."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self.ok(fn(), f"not for all of {seconds} s: {what}")
            time.sleep(0.05)

    def eq(self, a, b, what):
        if a != b:
            self.fail(f"{what}: {_short(a)} is not {_short(b)}")

    def ok(self, condition, what):
        if not condition:
            self.fail(what)

    def fail(self, what):
        raise Failed(what)

    def expect_reset(self, visitor, what="the visitor", prefix=b""):
        """Read to the end, which has to be a reset; what came before it."""
        data, end = read_to_end(visitor)
        self.eq(end, "reset", f"{what}: the end after {_short(data)}")
        self.ok(data.startswith(prefix), f"{what}: got {_short(data)}")
        return data

    def visit_refused(self, port, what="a visit", data=b""):
        """A visit that has to end with a reset and without a byte; the reset
        may come before connect() has returned."""
        try:
            visitor = self.connect(port)
            if data:
                visitor.sendall(data)
        except (ConnectionResetError, BrokenPipeError):
            return
        self.eq(self.expect_reset(visitor, what), b"", f"{what}: bytes")
        visitor.close()

    def expect_eof(self, visitor, expected=None, what="the visitor"):
        """Read to the end, which has to be a plain end of file."""
        data, end = read_to_end(visitor)
        self.eq(end, "eof", f"{what}: the end after {_short(data)}")
        if expected is not None:
            self.eq(data, expected, what)
        return data

    # - the end -

    def _name(self, name):
        unique, n = name, 1
        while unique in self._names:
            n += 1
            unique = f"{name}-{n}"
        self._names.add(unique)
        return unique

    def _note_pid(self, pid):
        # The runner ends these groups when the scenario's process cannot.
        if self._pids is not None:
            with open(self._pids, "a", encoding="ascii") as file:
                file.write(f"{pid}\n")

    def close(self):
        """Everything ends here; a list of what was wrong with the daemons."""
        # What ends below may well surprise a handler; that is no fault.
        surprised = list(self._thread_errors)
        wrong = []
        for visitor in self._sockets:
            visitor.close()
        # Remote-clients first: they would log failed dials otherwise.
        for daemon in reversed(self.daemons):
            code = daemon.process.poll()
            if code is not None and not daemon.ended:
                wrong.append(f"{daemon.name} died: exit {code}")
                continue
            if code is None:
                daemon.process.send_signal(signal.SIGTERM)
                try:
                    code = daemon.process.wait(10 * FACTOR)
                except subprocess.TimeoutExpired:
                    wrong.append(f"{daemon.name} did not end in "
                                 f"{10 * FACTOR} s after SIGTERM")
                    continue
            if daemon.expected is not None and code != daemon.expected:
                wrong.append(f"{daemon.name} ended with {code}, "
                             f"not {daemon.expected}")
        for daemon in self.daemons:
            _kill_group(daemon.group)
            daemon.process.wait()
        for process in self.tools:
            _kill_group(process.pid)
            process.wait()
        for action in self._tidy:
            action()
        for daemon in self.daemons:
            text = daemon.text()
            wrong += [f"{daemon.name}.log holds `{word}`"
                      for word in SANITIZERS if word in text]
        if surprised:
            wrong.append("in a thread of the scenario:\n" +
                         "".join(surprised[:3]))
        return wrong

    def tails(self, lines=40):
        """The last log lines of each daemon, for a report."""
        out = []
        for daemon in self.daemons:
            every = daemon.text().splitlines()
            found = [number for number, line in enumerate(every)
                     if any(word in line for word in SANITIZERS)]
            if found:
                out.append(f"--- {daemon.path} (a report of the sanitizer)")
                out += every[found[0]:found[0] + 2 * lines]
            out.append(f"--- {daemon.path} (the last lines)")
            out += every[-lines:]
        for tool in self.tools:
            if isinstance(tool, Tool):
                last = (tool.output() + tool.error_output()).splitlines()[-10:]
                if last:
                    out.append(f"--- {tool.name}")
                    out += last
        return "\n".join(out)


def _short(value):
    if isinstance(value, (bytes, str)) and len(value) > 160:
        return f"{value[:100]!r}...{value[-40:]!r} ({len(value)} long)"
    return repr(value)


def _free(port):
    for family, address in ((socket.AF_INET, "0.0.0.0"),
                            (socket.AF_INET6, "::")):
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            if family == socket.AF_INET6:
                probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            try:
                probe.bind((address, port))
            except OSError:
                return False
    return True


def _kill_group(pid):
    try:
        os.killpg(pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        pass


# --- sockets ----------------------------------------------------------------

def read_to_end(connection):
    """Everything that comes, and how it ended: "eof" or "reset"."""
    data = bytearray()
    while True:
        try:
            piece = connection.recv(65536)
        except (ConnectionResetError, BrokenPipeError):
            return bytes(data), "reset"
        except TimeoutError:
            raise Failed(f"no end came after {_short(bytes(data))}") from None
        if not piece:
            return bytes(data), "eof"
        data += piece


def _receive(connection, most, so_far):
    try:
        return connection.recv(most)
    except TimeoutError:
        raise Failed(f"nothing came after {_short(bytes(so_far))}") from None


def read_exactly(connection, count):
    data = bytearray()
    while len(data) < count:
        piece = _receive(connection, min(65536, count - len(data)), data)
        if not piece:
            raise Failed(f"end of file after {len(data)} of {count} bytes: "
                         f"{_short(bytes(data))}")
        data += piece
    return bytes(data)


def read_until(connection, mark):
    """Up to and with the mark, byte by byte: nothing behind it is taken."""
    data = bytearray()
    while not data.endswith(mark):
        piece = _receive(connection, 1, data)
        if not piece:
            raise Failed(f"end of file before {mark!r}: {_short(bytes(data))}")
        data += piece
    return bytes(data)


def reset(connection):
    """Close with a reset."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER,
                          struct.pack("ii", 1, 0))
    connection.close()
