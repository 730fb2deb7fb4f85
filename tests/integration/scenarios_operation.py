"""Starting, stopping, restarting, configuration: what an operator sees."""

import os
import queue
import re
import resource
import signal
import socket

from harness import (BUILD, FACTOR, ROOT, Failed, read_exactly, read_to_end,
                     scenario)
from scenarios_stream import busy_ticks, wait_back, wait_quiet
from scenarios_targets import echo_once, http_status


def ask(t, port, word=b"echo"):
    """One short visit that has to be served."""
    visitor = t.connect(port)
    visitor.sendall(word)
    t.eq(t.expect_eof(visitor), word, "the echo")
    visitor.close()


def fixed(t, apps, more=""):
    """A configuration of a proxy-server whose ports outlive it."""
    tunnel, ports = t.port(), [t.port() for _ in apps]
    text = t.server_yaml(
        {"remote_client1": [
            ("tcp", app if isinstance(app, int) else app.port,
             f"127.0.0.1:{port}") for app, port in zip(apps, ports)]},
        more, bind=f"127.0.0.1:{tunnel}")
    return text, tunnel, ports


def keep_reading(results):
    def handler(connection):
        connection.sendall(b"hi")
        results.put(read_to_end(connection)[1])
    return handler


# Sessions that end with their carrier, and sessions that are kept.
KEPT = ("resume_timeout: 0s", "")


@scenario(30, "a remote-client is killed and started again")
def client_restarts(t):
    ends = queue.Queue()
    apps = [t.app(echo_once), t.app(keep_reading(ends))]
    for resume in KEPT:
        server, client = t.pair([("tcp", app.port) for app in apps], resume)
        text = t.client_yaml(server.port("tunnel"))
        for turn in range(2):
            ask(t, server.port(index=0))
            visitor = t.connect(server.port(index=1))
            t.eq(read_exactly(visitor, 2), b"hi", "an open stream")
            client.kill()
            # The kernel of the killed one closes; whether the visitor gets a
            # reset must not depend on it.
            if resume:
                t.expect_reset(visitor, "the open stream")
            else:
                server.wait_log("session-parked", count=turn + 1)
            t.ok(ends.get(timeout=20 * FACTOR) in ("eof", "reset"),
                 "the application's end")
            client = t.client(text, registered=True)
            # Another instance has the name: nobody comes back for the stream.
            if not resume:
                t.expect_reset(visitor, "the open stream")
            ask(t, server.port(index=0))
        server.wait_log("session-ended", remote="remote_client1")


@scenario(31, "a proxy-server is killed and started again on its ports")
def server_restarts(t):
    ends = queue.Queue()
    apps = [t.app(echo_once), t.app(keep_reading(ends))]
    for resume in KEPT:
        text, tunnel, ports = fixed(t, apps, resume)
        server = t.server(text)
        client = t.client(t.client_yaml(tunnel, "tunnels: 2"), registered=2)
        for turn in range(2):
            ask(t, ports[0])
            visitor = t.connect(ports[1])
            t.eq(read_exactly(visitor, 2), b"hi", "an open stream")
            server.kill()
            if resume:
                t.eq(ends.get(timeout=20 * FACTOR), "reset",
                     "the application's end")
            else:
                client.wait_log("session-parked", count=2 * (turn + 1))
                t.ok(ends.empty(), "the application's end")
            server = t.server(text)
            server.wait_log("registered", count=2, timeout=30)
            # A later start: the session is not there any more.
            if not resume:
                t.eq(ends.get(timeout=20 * FACTOR), "reset",
                     "the application's end")
            ask(t, ports[0])
        if not resume:
            client.wait_log("session-ended", count=4,
                            reason="the proxy-server was restarted")
        client.wait_log("session-ended")


@scenario(32, "a proxy-server that stays away for a while is found again")
def server_away(t):
    app = t.app(echo_once)
    text, tunnel, ports = fixed(t, [app])
    client = t.client(t.client_yaml(tunnel))
    client.wait_log("dial-failed", count=4, timeout=20)
    delays = [int(e["retry_ms"]) for e in client.log("dial-failed")]
    t.ok(max(delays) <= 20000 * 1.5, f"the delays: {delays}")
    t.server(text)
    client.wait_log("registered", timeout=30)
    ask(t, ports[0])


@scenario(33, "a proxy-server stops in order: its remote-client comes back")
def server_stops(t):
    app = t.app(echo_once)
    text, tunnel, ports = fixed(t, [app])
    server = t.server(text)
    client = t.client(t.client_yaml(tunnel, "tunnels: 1"), registered=True)
    ask(t, ports[0])
    t.eq(server.stop(), 0, "exit of the proxy-server")
    server.wait_log("stopping")
    client.wait_log("session-ended")
    t.server(text)
    client.wait_log("registered", count=2, timeout=30)
    ask(t, ports[0])


@scenario(34, "two remote-clients with two names: each gets its own")
def two_names(t):
    def says(word):
        return lambda connection: connection.sendall(word)

    apps = [t.app(says(b"first")), t.app(says(b"second"))]
    server = t.server(t.server_yaml(
        {"one": [("tcp", apps[0].port)], "two": [("tcp", apps[1].port)]}))
    clients = {name: t.client(t.client_yaml(server.port("tunnel"),
                                            remote=name),
                              name=name, registered=True)
               for name in ("one", "two")}
    for _ in range(20):
        for index, word in enumerate((b"first", b"second")):
            visitor = t.connect(server.port(index=index))
            t.expect_eof(visitor, word)
            visitor.close()
    for client in clients.values():
        client.wait_log("stream", count=20)
        t.eq(len(client.log("stream")), 20, f"streams of {client.name}")
    # One of them goes; the other does not notice.
    t.eq(clients["one"].stop(), 0, "exit of the first")
    t.expect_eof(t.connect(server.port(index=1)), b"second")


@scenario(35, "two remote-clients with one name: the second replaces the first")
def one_name(t):
    app = t.app(echo_once)
    server = t.server(t.server_yaml({"same": [("tcp", app.port)]},
                                    "wait_for_remote: 30s"))
    text = t.client_yaml(server.port("tunnel"), "tunnels: 2", remote="same")
    first = t.client(text, name="first", registered=2)
    ask(t, server.port())
    first.wait_log("stream")
    second = t.client(text, name="second", registered=2)
    first.wait_log("session-ended", count=2)
    # The first one asks again and again, and stays outside.
    visits = []

    def second_serves():
        visits.append(ask(t, server.port()))
        return second.wait_log("stream", count=len(visits))
    t.stays(second_serves, 4, "the second serves")
    t.eq(len(first.log("stream")), 1, "streams of the first")
    t.eq(len(first.log("registered")), 2, "registrations of the first")
    t.eq(len(second.log("session-ended")), 0, "sessions the second lost")
    t.eq(second.stop(), 0, "exit of the second")
    first.wait_log("registered", count=3, timeout=40)
    ask(t, server.port())
    first.wait_log("stream", count=2)


@scenario(36, "a list of servers whose first entry is dead")
def server_list(t):
    app = t.app(echo_once)
    server = t.server(t.server_yaml({"remote_client1": [("tcp", app.port)]}))
    dead, live = t.port(), server.port("tunnel")
    client = t.client(t.client_yaml(
        f'["127.0.0.1:{dead}", "127.0.0.1:{live}"]'), registered=True)
    entry = client.wait_log("dial-failed")
    t.ok(str(dead) in entry["server"], f"the dead server in {entry}")
    t.ok(str(live) in client.log("registered")[0]["server"], "the live one")
    ask(t, server.port())


@scenario(37, "a visitor that is there before the remote-client is served")
def visitor_waits(t):
    app = t.app(echo_once)
    server = t.server(t.server_yaml({"remote_client1": [
        ("tcp", app.port), ("http", app.port)]}, "wait_for_remote: 100s"))
    visitors = [t.connect(server.port()) for _ in range(20)]
    for number, visitor in enumerate(visitors):
        visitor.sendall(b"early %d" % number)
    # One that has said all it has to say, and one that has gone.
    visitors[1].shutdown(socket.SHUT_WR)
    visitors.pop().close()
    t.client(t.client_yaml(server.port("tunnel")), registered=True)
    for number, visitor in enumerate(visitors):
        t.eq(t.expect_eof(visitor), b"early %d" % number, "the echo")


@scenario(38, "nobody comes: reset, 503, and one line in the log")
def nobody(t):
    port = t.port()
    server = t.server(t.server_yaml({"remote_client1": [
        ("tcp", port), ("http", port)]}, "wait_for_remote: 300ms"))
    visitors = [t.connect(server.port(index=0)) for _ in range(5)]
    visitors[0].sendall(b"is anybody there?")
    for visitor in visitors:
        t.eq(t.expect_reset(visitor), b"", "bytes from nobody")
    t.eq(http_status(t, server.port(index=1)), 503, "the status")
    t.eq(server.wait_log("remote-absent")["remote"], "remote_client1",
         "the remote that is absent")
    t.eq(len(server.log("remote-absent")), 1, "lines remote-absent")
    t.until(lambda: not established(server), what="no visitor is held")


def established(server):
    """Local ports of the TCP connections that the daemon holds."""
    inodes = set()
    for fd in os.listdir(f"/proc/{server.pid}/fd"):
        try:
            link = os.readlink(f"/proc/{server.pid}/fd/{fd}")
        except FileNotFoundError:
            continue
        match = re.match(r"socket:\[(\d+)\]", link)
        if match:
            inodes.add(match.group(1))
    found = []
    for table in ("tcp", "tcp6"):
        with open(f"/proc/{server.pid}/net/{table}", encoding="ascii") as file:
            for line in file.readlines()[1:]:
                fields = line.split()
                if fields[9] in inodes and fields[3] != "0A":
                    found.append(int(fields[1].rpartition(":")[2], 16))
    return found


@scenario(39, "more visitors wait than may: the newest are reset")
def max_waiting(t):
    app = t.app(echo_once)
    server = t.server(t.server_yaml(
        {"remote_client1": [("tcp", app.port)]},
        "wait_for_remote: 100s\nmax_waiting: 2\nworkers: 1"))
    waiting = []
    for _ in range(2):
        visitor = t.connect(server.port())
        visitor.sendall(b"I wait")
        waiting.append(visitor)
        t.until(lambda: len(established(server)) == len(waiting),
                what="the visitor is taken")
    for _ in range(3):
        t.visit_refused(server.port(), "one too many")
    t.client(t.client_yaml(server.port("tunnel")), registered=True)
    for visitor in waiting:
        t.eq(t.expect_eof(visitor), b"I wait", "the echo")
    ask(t, server.port())


@scenario(40, "a second proxy-server with the same file takes no visitor")
def second_server(t):
    tool = t.tool("traffic", "serve", "0")
    tunnel, port = t.port(), t.port()
    text = t.server_yaml(
        {"remote_client1": [("tcp", tool.port(), f"127.0.0.1:{port}")]},
        bind=f"127.0.0.1:{tunnel}")
    t.server(text, name="first")
    t.client(t.client_yaml(tunnel), registered=True)
    load = t.thread(t.traffic, port, "--streams", 4, "--bytes", 64,
                    "--count", max(2000, int(20000 * t.scale)))
    # Another tunnel port, but the same listener for visitors, as well.
    other = text.replace(f"127.0.0.1:{tunnel}", "127.0.0.1:0")
    for number, again in enumerate((text, other, text)):
        second = t.server(again, name=f"second{number}", wait_ready=False)
        t.eq(second.wait_exit(), 1, "exit of the second")
        t.ok(str(port) in second.text() or str(tunnel) in second.text(),
             f"the address that is in use in: {second.text()}")
        t.eq(len(second.log("ready")), 0, "it was never ready")
    load.join()


@scenario(41, "SIGHUP: logged, and nothing breaks")
def sighup(t):
    ends = queue.Queue()
    apps = [t.app(echo_once), t.app(keep_reading(ends))]
    server, client = t.pair([("tcp", app.port) for app in apps])
    visitor = t.connect(server.port(index=1))
    t.eq(read_exactly(visitor, 2), b"hi", "an open stream")
    for _ in range(3):
        for daemon in (server, client):
            daemon.signal(signal.SIGHUP)
            # Lines that say the same are not written each time.
            daemon.wait_log("reloaded")
        ask(t, server.port(index=0))
    visitor.shutdown(socket.SHUT_WR)
    t.eq(ends.get(timeout=20 * FACTOR), "eof", "the open stream's end")
    t.eq(client.log("session-ended") + client.log("session-parked"), [],
         "sessions that ended")


GOOD = """\
bind: 127.0.0.1:0
workers: 2
wait_for_remote: 3s
max_waiting: 1000
handshake_timeout: 5s
heartbeat_interval: 5s
classic_stall: 30s
session_memory: 256MiB
memory: 1GiB
log_level: info
proxy:
- remote_name: remote_client1
  port_list:
  - {type: tcp, bind: "127.0.0.1:0", remote: 5678}
  - {type: http, bind: "127.0.0.1:0", remote: "host.example:5680"}
name: remote_client1
server: 127.0.0.1:9015
dialect: extended
tunnels: 2
allow_targets: ["127.0.0.1", "::1", "10.0.0.0/8:80-90"]
connect_timeout: 5s
"""

# What is changed, the line that has to be named, and the key.
BAD = [
    ("workers: 2", "wrokers: 2", 2, "wrokers"),
    ("workers: 2", "workers: many", 2, "workers"),
    ("workers: 2", "workers: -1", 2, "workers"),
    ("workers: 2", "workers: [2]", 2, "workers"),
    ("wait_for_remote: 3s", "wait_for_remote: 3 parsecs", 3,
     "wait_for_remote"),
    ("memory: 1GiB", "memory: 1XiB", 9, "memory"),
    ("log_level: info", "log_level: loud", 10, "log_level"),
    ("bind: 127.0.0.1:0", "bind: 127.0.0.1:99999", 1, "bind"),
    ("bind: 127.0.0.1:0", "bind: 127.0.0.1", 1, "bind"),
    ("type: tcp", "type: udp", 14, "type"),
    ("remote: 5678", "remote: 0", 14, "remote"),
    ("remote: 5678", "remote: 567800", 14, "remote"),
    (", remote: 5678", "", 14, "remote"),
    ("dialect: extended", "dialect: klingon", 18, "dialect"),
    ('"10.0.0.0/8:80-90"', '"10.0.0.0/99"', 20, "allow_targets"),
    ("tunnels: 2", "tunnels: 2\ntunnels: 3", 20, "tunnels"),
    ("tunnels: 2", "tunnels: 2\n  oops", 19, "tunnels"),
    ("tunnels: 2", "tunnels: 2\n oops: 1", 20, ""),
    ("tunnels: 2", "\ttunnels: 2", 19, ""),
    ("memory: 1GiB", "memory: 1GiB\nmemory: 2GiB", 10, "memory"),
]


@scenario(42, "-t: a good configuration, and bad ones with line and key")
def check_configuration(t):
    programs = [BUILD / "proxy-server", BUILD / "remote-client"]
    path = t.dir / "good.yaml"
    path.write_text(GOOD)
    for program in programs:
        done = t.run([program, "-t", "-c", path])
        t.eq(done.returncode, 0, f"{program.name}: {done.stderr}")
    state = t.dir / "state"
    path.write_text(f"{GOOD}state_dir: {state}\n")
    for program in programs:
        t.eq(t.run([program, "-t", "-c", path]).returncode, 0, program.name)
    t.ok(not state.exists(), "-t makes no state directory")
    for number, (old, new, line, key) in enumerate(BAD):
        path = t.dir / f"bad{number}.yaml"
        t.ok(old in GOOD, f"{old} is in the good one")
        path.write_text(GOOD.replace(old, new, 1))
        for program in programs:
            done = t.run([program, "-t", "-c", path])
            t.eq(done.returncode, 1, f"{program.name} -t with `{new}`")
            t.ok(re.search(rf"^{re.escape(str(path))}:\d+:\d+: ",
                           done.stderr, re.M),
                 f"{program.name} with `{new}` says {done.stderr}")
            t.ok(re.search(rf":{line}:\d+: .*{re.escape(key)}", done.stderr),
                 f"line {line} and `{key}` in {done.stderr}")
            # Without -t it does not start either.
            done = t.run([program, "-c", path])
            t.eq(done.returncode, 1, f"{program.name} with `{new}`")


@scenario(43, "no file, no name, no proxy: said, and exit 1")
def missing_configuration(t):
    server, client = BUILD / "proxy-server", BUILD / "remote-client"
    nothing = t.dir / "nothing.yaml"
    for program in (server, client):
        done = t.run([program, "-c", nothing])
        t.eq(done.returncode, 1, f"{program.name} without a file")
        t.ok(str(nothing) in done.stderr, f"the file in {done.stderr}")
        empty = t.dir / "empty.yaml"
        empty.write_text("")
        t.eq(t.run([program, "-c", empty]).returncode, 1, "an empty file")
    path = t.dir / "half.yaml"
    path.write_text("server: 127.0.0.1:1\n")
    done = t.run([client, "-t", "-c", path])
    t.eq(done.returncode, 1, "a remote-client without a name")
    t.ok("name" in done.stderr, f"`name` in {done.stderr}")
    path.write_text("name: x\n")
    done = t.run([client, "-t", "-c", path])
    t.eq(done.returncode, 1, "a remote-client without a server")
    t.ok("server" in done.stderr, f"`server` in {done.stderr}")
    path.write_text("bind: 127.0.0.1:0\n")
    done = t.run([server, "-t", "-c", path])
    t.eq(done.returncode, 1, "a proxy-server without listeners")
    t.ok("proxy" in done.stderr, f"`proxy` in {done.stderr}")


@scenario(44, "--help, --version, and an option that is none")
def options(t):
    version = (ROOT / "VERSION").read_text().strip()
    for name in ("proxy-server", "remote-client"):
        done = t.run([BUILD / name, "--help"])
        t.eq(done.returncode, 0, f"{name} --help")
        t.ok(name in done.stdout and "-c" in done.stdout,
             f"the help: {done.stdout}")
        done = t.run([BUILD / name, "--version"])
        t.eq(done.returncode, 0, f"{name} --version")
        t.ok(version in done.stdout, f"the version: {done.stdout}")
        done = t.run([BUILD / name, "--no-such-option"])
        t.ok(done.returncode > 0, f"{name} --no-such-option: exit")
        t.ok(done.stderr, f"{name} --no-such-option: words")


@scenario(45, "the remote-client dials what is no proxy-server")
def wrong_server(t):
    def web(connection):
        connection.recv(65536)
        connection.sendall(b"HTTP/1.1 400 Bad Request\r\n"
                           b"Connection: close\r\n\r\n")

    def ssh(connection):
        connection.sendall(b"SSH-2.0-OpenSSH_9.2p1\r\n")
        read_to_end(connection)

    ports = {"echo": t.tool("echo", "0").port(), "http": t.app(web).port,
             "ssh": t.app(ssh).port,
             "closes": t.app(lambda connection: None).port}
    clients = [t.client(t.client_yaml(port), name=name)
               for name, port in ports.items()]
    for client in clients:
        entry = client.wait_log("dial-failed", timeout=20)
        t.ok("dialect" in entry["reason"] or "server" in entry["reason"],
             f"the reason names a key: {entry}")
        client.wait_log("dial-failed", count=2, timeout=60)
        t.eq(len(client.log("registered")), 0, "registrations")


@scenario(46, "the remote-client dials one that says nothing")
def silent_server(t):
    app = t.app(read_to_end)
    client = t.client(t.client_yaml(app.port, "handshake_timeout: 500ms"))
    client.wait_log("dial-failed", count=2, timeout=40)
    t.eq(len(client.log("registered")), 0, "registrations")


@scenario(47, "a name that the proxy-server does not know")
def unknown_name(t):
    app = t.app(echo_once)
    server = t.server(t.server_yaml({"remote_client1": [("tcp", app.port)]}))
    stranger = t.client(t.client_yaml(server.port("tunnel"),
                                      remote="stranger"), name="stranger")
    entry = stranger.wait_log("dial-failed")
    t.ok("name" in entry["reason"], f"the reason: {entry}")
    server.wait_log("peer-dropped")
    t.client(t.client_yaml(server.port("tunnel")), registered=True)
    ask(t, server.port())
    t.eq(len(stranger.log("registered")), 0, "registrations of a stranger")


@scenario(48, "the log: levels, and one line for each event")
def log_levels(t):
    app = t.app(echo_once)
    server = t.server(t.server_yaml({"remote_client1": [("tcp", app.port)]}))
    quiet = t.client(t.client_yaml(server.port("tunnel"), "log_level: error"),
                     name="quiet", wait_ready=False)
    server.wait_log("registered")
    ask(t, server.port())
    t.eq(quiet.stop(), 0, "exit of the quiet one")
    t.eq(quiet.text(), "", "its log")
    chatty = t.client(t.client_yaml(server.port("tunnel"),
                                    "log_level: debug"), name="chatty",
                      registered=True)
    ask(t, server.port())
    chatty.wait_log("stream")
    server.wait_log("stream", count=2)
    # No line is added to what is compared.
    t.eq((chatty.stop(), server.stop()), (0, 0), "exits")
    for daemon in (server, chatty):
        lines = daemon.text().splitlines()
        t.eq(len(daemon.log()), len(lines), f"lines of {daemon.name} that "
             f"have the form")
        for entry in daemon.log():
            t.ok(entry["level"] in ("error", "warn", "info", "debug"),
                 f"the level of {entry}")


@scenario(49, "heartbeats: an idle pair stays together")
def heartbeats(t):
    app = t.app(echo_once)
    for dialect in ("extended", "classic"):
        more = "heartbeat_interval: 300ms"
        server, client = t.pair([("tcp", app.port)], more, more,
                                dialect=dialect)
        visitor = t.connect(server.port())
        # Longer than the silence that ends a session: three intervals, and
        # never less than 5 s for a classic one.
        t.stays(lambda: not client.log("session-ended")
                and not client.log("session-parked"),
                7 if dialect == "classic" else 3, f"the {dialect} session")
        visitor.sendall(b"still there")
        t.eq(t.expect_eof(visitor), b"still there", "the echo")


@scenario(50, "a proxy-server that is stopped still (SIGSTOP) is noticed")
def server_frozen(t):
    app = t.app(echo_once)
    for resume, lost, back, count in zip(KEPT, (
            "session-ended", "session-parked"), ("registered", "resumed"),
            (2, 1)):
        text, tunnel, ports = fixed(t, [app], "heartbeat_interval: 300ms")
        server = t.server(text)
        client = t.client(t.client_yaml(tunnel, "heartbeat_interval: 300ms\n"
                                        f"tunnels: 1\n{resume}"),
                          registered=True)
        server.signal(signal.SIGSTOP)
        try:
            client.wait_log(lost, timeout=30)
        finally:
            server.signal(signal.SIGCONT)
        client.wait_log(back, count=count, timeout=60)
        ask(t, ports[0])


@scenario(51, "other numbers of workers and of tunnels")
def workers(t):
    tool = t.tool("traffic", "serve", "0")
    for server_workers, client_workers, tunnels in ((1, 1, 1), (1, 4, 3),
                                                    (5, 1, 4), (3, 3, 1)):
        server, client = t.pair(
            [("tcp", tool.port())], f"workers: {server_workers}",
            f"workers: {client_workers}\ntunnels: {tunnels}",
            registered=tunnels)
        t.traffic(server.port(), "--mode", "both", "--streams", 8,
                  "--bytes", max(100000, int(8000000 * t.scale)))
        t.traffic(server.port(), "--streams", 16, "--count",
                  max(100, int(1000 * t.scale)), "--bytes", 100)
        t.eq(len(client.log("registered")), tunnels, "sessions")
        t.eq((client.stop(), server.stop()), (0, 0), "exits")


@scenario(52, "a proxy-server with many listeners and many names")
def many_listeners(t):
    app = t.app(echo_once)
    names = [f"client-{number}" for number in range(10)]
    server = t.server(t.server_yaml(
        {name: [("tcp", app.port)] * 20 for name in names}))
    for name in names:
        t.client(t.client_yaml(server.port("tunnel"), "tunnels: 1",
                               remote=name), name=name, registered=True)
    for index in range(200):
        ask(t, server.port(index=index), b"listener %d" % index)
    t.eq(len(server.log("listening", for_="visitors")), 200, "listeners")


@scenario(53, "nobody comes for any of 100 names: one line for each")
def nobody_for_many(t):
    names = [f"absent-{number}" for number in range(100)]
    server = t.server(t.server_yaml({name: [("tcp", 1)] for name in names},
                                    "wait_for_remote: 500ms"))
    # Their deadlines come in several workers at about the same time.
    visitors = [t.connect(server.port(index=index))
                for index in range(100) for _ in range(4)]
    for visitor in visitors:
        t.expect_reset(visitor)
    server.wait_log("remote-absent", count=100)
    said = [entry["remote"] for entry in server.log("remote-absent")]
    t.eq([name for name in names if said.count(name) != 1], [],
         "names without exactly one line")


@scenario(54, "no more files may be opened: it goes on with those it has")
def out_of_files(t):
    tool = t.tool("traffic", "serve", "0")
    server, client = t.pair([("tcp", tool.port())])
    files = {daemon: wait_quiet(t, daemon) for daemon in (server, client)}
    for daemon in (server, client):
        most = daemon.fds() + 20
        limits = resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE,
                         (most, limits[1]))
        # Those that find no file may be reset, or wait: either will do, but
        # not a loop that never sleeps.
        held = [connect_perhaps(t, server.port()) for _ in range(60)]
        t.until(lambda: daemon.fds() >= most - 1, what="all files are used")
        before = busy_ticks(daemon)
        t.stays(daemon.alive, 2, f"{daemon.name} lives")
        ticks = busy_ticks(daemon) - before
        t.ok(ticks < 100, f"{daemon.name} took {ticks} ticks in 2 s to wait")
        for visitor in filter(None, held):
            visitor.close()
        wait_back(t, files, "visitors gone")
        # Visitors are served again, with the limit as it is.
        t.until(lambda: works(t, server.port()), 20, "a visitor is served")
        resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, limits)
        # What still lingers would take files from the next ones and then
        # leave them free, with nobody there to use them.
        wait_back(t, files, "the last visitor gone")
    t.eq(len(client.log("session-ended")), 0, "sessions that ended")


def connect_perhaps(t, port):
    try:
        return t.connect(port)
    except ConnectionResetError:
        return None


def works(t, port):
    """Whether a visit to `traffic serve` is served."""
    visitor = connect_perhaps(t, port)
    if visitor is None:
        return False
    try:
        visitor.sendall(b"echo 0 0 1".ljust(63) + b"\nworks?")
        return read_exactly(visitor, 6) == b"works?"
    except (ConnectionError, Failed):
        return False
    finally:
        visitor.close()


@scenario(55, "either end is killed under many streams: all are reset")
def killed_under_streams(t):
    tool = t.tool("traffic", "serve", "0")
    for resume in KEPT:
        killed_under(t, tool, resume)


def killed_under(t, tool, resume):
    text, tunnel, ports = fixed(t, [tool.port()], resume)
    server = t.server(text)
    client = t.client(t.client_yaml(tunnel, "tunnels: 2"), registered=2)
    quiet = {server: wait_quiet(t, server), client: wait_quiet(t, client)}

    def open_streams():
        visitors = [t.connect(ports[0]) for _ in range(300)]
        for visitor in visitors:
            visitor.sendall(b"echo 0 0 1".ljust(63) + b"\nopen")
        for visitor in visitors:
            t.eq(read_exactly(visitor, 4), b"open", "the echo")
        return visitors

    visitors = open_streams()
    client.kill()
    if not resume:
        # They stay until another one has the name.
        server.wait_log("session-parked", count=2)
        client = t.client(t.client_yaml(tunnel, "tunnels: 2"), name="again",
                          registered=2)
    for visitor in visitors:
        t.eq(t.expect_reset(visitor), b"", "more bytes")
    # Its two carriers are gone too; those of another one may have come.
    t.until(lambda: server.fds() <= quiet[server] - (2 if resume else 0), 20,
            "the proxy-server's files are closed")
    if resume:
        client = t.client(t.client_yaml(tunnel, "tunnels: 2"), name="again",
                          registered=2)
    base = wait_quiet(t, client)
    open_streams()
    server.kill()
    if not resume:
        client.wait_log("session-parked", count=2)
        t.server(text, name="server-again")
        client.wait_log("registered", count=4, timeout=30)
    t.until(lambda: client.fds() <= base, 20,
            "the remote-client's files are closed")
    if resume:
        t.server(text, name="server-again")
        client.wait_log("registered", count=3, timeout=30)
    t.traffic(ports[0], "--streams", 10)


@scenario(56, "class and weight of a listener: taken, and seen nowhere")
def classes(t):
    tool = t.tool("traffic", "serve", "0")
    keys = ("class: auto", "class: interactive", "class: bulk, weight: 1",
            "weight: 100")
    ports = [("tcp", tool.port())]
    ports += [("tcp", tool.port(), "127.0.0.1:0", more) for more in keys]
    for dialect, finish in (("extended", "half"), ("classic", "count")):
        server, client = t.pair(ports, client="tunnels: 1", dialect=dialect)
        visits = [t.thread(t.traffic, server.port(index=index), "--mode",
                           "both", "--finish", finish, "--streams", 2,
                           "--bytes", max(100000, int(8000000 * t.scale)))
                  for index in range(len(ports))]
        for visit in visits:
            visit.join(110)
        for daemon in (server, client):
            daemon.wait_log("stream", count=2 * len(ports))
        for daemon, event in ((server, "listening"), (server, "stream"),
                              (client, "stream")):
            kinds = {tuple(e) for e in daemon.log(event)
                     if e.get("for") != "tunnel"}
            t.eq(len(kinds), 1, f"kinds of `{event}` in {daemon.name}")
        t.eq((client.stop(), server.stop()), (0, 0), "exits")


@scenario(57, "one remote-client uses every worker of both sides")
def every_worker(t):
    tool = t.tool("echo", "0")
    more = "workers: 2\nlog_level: debug"
    server, client = t.pair([("tcp", tool.port())], more,
                            more + "\ntunnels: 2", registered=2)
    server.wait_log("registered", count=2)
    workers = {e["worker"] for e in server.log("registered")}
    t.eq(len(workers), 2, "workers that have a tunnel")
    visitors = [t.connect(server.port()) for _ in range(64)]
    for number, visitor in enumerate(visitors):
        visitor.sendall(b"%06d" % number)
        t.eq(read_exactly(visitor, 6), b"%06d" % number, "the echo")
    for daemon in (server, client):
        daemon.wait_log("opening", count=64)
        sessions = [e["session"] for e in daemon.log("opening")]
        t.eq(len(sessions), 64, f"streams of {daemon.name}")
        t.eq(len(set(sessions)), 2, f"sessions of {daemon.name}")
        # The kernel spreads visitors by chance.
        least = min(sessions.count(session) for session in set(sessions))
        t.ok(least >= 8, f"{daemon.name}: {least} of 64 in one session")


def cannot_start(t, text, *words):
    """A proxy-server that says why it does not start, with these words."""
    daemon = t.server(text, name="refused", wait_ready=False)
    t.eq(daemon.wait_exit(), 1, "exit of the one that cannot start")
    reason = daemon.log("cannot-start")[0]["reason"]
    for word in words:
        t.ok(str(word) in reason, f"`{word}` in `{reason}`")
    t.eq(daemon.log("listening"), [], "it never listened")


@scenario(191, "two proxy-servers with one state_dir: the second does not start")
def one_state_dir(t):
    app = t.app(echo_once)
    state = t.dir / "of" / "both"
    text = t.server_yaml({"remote_client1": [("tcp", app.port)]},
                         f"state_dir: {state}")
    first = t.server(text, name="first")
    client = t.client(t.client_yaml(first.port("tunnel")), registered=True)
    identity, start = (state / "instance").read_text().split()
    cannot_start(t, text, state, "another proxy-server", "set `state_dir`")
    t.eq((state / "instance").read_text().split(), [identity, start],
         "what the directory holds while the first one runs")
    ask(t, first.port())
    t.server(text.replace(str(state), str(t.dir / "own")), name="second")
    client.stop()
    # Killed, it leaves the directory free, and who it was.
    first.kill()
    t.server(text, name="again").stop()
    again, later = (state / "instance").read_text().split()
    t.eq(again, identity, "the identity after a restart")
    t.ok(int(later) > int(start), f"the start {later} after {start}")
    (state / "instance").write_text("damaged")
    cannot_start(t, text, state / "instance", "delete it")
    (state / "instance").unlink()
    t.server(text, name="another").stop()
    t.ok((state / "instance").read_text().split()[0] != identity,
         "another identity when the file was deleted")
