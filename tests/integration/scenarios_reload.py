"""SIGHUP of a proxy-server: what becomes of listeners, names and settings, and
of those who are connected meanwhile."""

import os
import re
import resource
import signal
import socket
import threading

from harness import read_exactly, scenario
from scenarios_operation import ask
from scenarios_stream import scaled
from scenarios_targets import echo_once, http_status


def echo(connection):
    """Echo until the visitor ends."""
    while data := connection.recv(65536):
        connection.sendall(data)


def says(word):
    """Say a word, then echo; some are reset when a scenario is done."""
    def handler(connection):
        try:
            connection.sendall(word)
            echo(connection)
        except ConnectionError:
            pass
    return handler


def yaml(t, tunnel, remotes, more=""):
    return t.server_yaml(remotes, more, bind=f"127.0.0.1:{tunnel}")


def write(t, daemon, text):
    if "drain_timeout:" not in text:
        text += "drain_timeout: 0s\n"
    (t.dir / f"{daemon.name}.yaml").write_text(text)


def hup(t, daemon, text, event="reloaded"):
    """Reload with another file; the line that tells how it went."""
    done = len(daemon.log(event))
    write(t, daemon, text)
    daemon.signal(signal.SIGHUP)
    return daemon.wait_log(event, count=done + 1)


def counts(entry):
    return tuple(int(entry[key]) for key in ("added", "changed", "removed"))


class Stream:
    """A visitor that stays, and has to be served all the time."""

    def __init__(self, t, port, word=b"", host="127.0.0.1"):
        self.t = t
        self.socket = t.connect(port, host)
        self.said = 0
        if word:
            t.eq(read_exactly(self.socket, len(word)), word, "who answers")

    def works(self):
        self.said += 1
        text = b"message %06d" % self.said
        self.socket.sendall(text)
        self.t.eq(read_exactly(self.socket, len(text)), text, "the echo")

    def end(self):
        self.socket.shutdown(socket.SHUT_WR)
        self.t.expect_eof(self.socket, b"")


def nobody_listens(t, port, host="127.0.0.1"):
    try:
        t.connect(port, host).close()
    except ConnectionRefusedError:
        return True
    return False


def listening(daemon, port):
    """The inodes of the sockets that listen on a port."""
    found = set()
    for table in ("tcp", "tcp6"):
        with open(f"/proc/{daemon.pid}/net/{table}", encoding="ascii") as file:
            for line in file.readlines()[1:]:
                fields = line.split()
                if fields[3] == "0A" and \
                        int(fields[1].rpartition(":")[2], 16) == port:
                    found.add(fields[9])
    return found


def words(t, *names):
    """Applications that say who they are."""
    return [t.app(says(name)).port for name in names]


@scenario(200, "a listener added, one removed, one changed: streams of all live")
def listeners_change(t):
    one, two = words(t, b"one", b"two")
    tunnel, gone, other, new = (t.port() for _ in range(4))
    before = yaml(t, tunnel, {"remote_client1": [
        ("tcp", one, f"127.0.0.1:{gone}"),
        ("tcp", one, f"127.0.0.1:{other}")]})
    after = yaml(t, tunnel, {"remote_client1": [
        ("tcp", two, f"127.0.0.1:{other}"),
        ("tcp", two, f"127.0.0.1:{new}")]})
    server = t.server(before)
    client = t.client(t.client_yaml(tunnel, "tunnels: 2"), registered=2)
    streams = [Stream(t, gone, b"one"), Stream(t, other, b"one")]
    sockets = listening(server, other)
    for _ in range(2):
        t.eq(counts(hup(t, server, after)), (1, 1, 1), "what was changed")
        t.eq(listening(server, other), sockets, "sockets of the one changed")
        t.ok(nobody_listens(t, gone), "the one removed")
        streams += [Stream(t, other, b"two"), Stream(t, new, b"two")]
        for stream in streams:
            stream.works()
        t.eq(counts(hup(t, server, after)), (0, 0, 0), "the same once more")
        t.eq(counts(hup(t, server, before)), (1, 1, 1), "and back")
        t.ok(nobody_listens(t, new), "the one that was new")
        streams += [Stream(t, gone, b"one"), Stream(t, other, b"one")]
        for stream in streams:
            stream.works()
    for event, port in (("listening", new), ("listener-changed", other),
                        ("listener-removed", gone)):
        server.wait_log(event, bind=f"127.0.0.1:{port}", count=2)
    for stream in streams:
        stream.end()
    t.until(lambda: len(server.log("stream")) == len(streams),
            what="every stream is logged")
    targets = [e["target"] for e in server.log("stream")]
    t.eq((targets.count(f"127.0.0.1:{one}"), targets.count(f"127.0.0.1:{two}")),
         (6, 4), "targets in the log")
    t.eq(len(client.log("session-ended")), 0, "sessions that ended")


@scenario(201, "a file that is wrong: line and column, and nothing changes")
def bad_file(t):
    one, two = words(t, b"one", b"two")
    tunnel, port = t.port(), t.port()
    good = yaml(t, tunnel, {"remote_client1": [
        ("tcp", one, f"127.0.0.1:{port}")]})
    other = good.replace(str(one), str(two))
    server = t.server(good)
    t.client(t.client_yaml(tunnel), registered=True)
    stream = Stream(t, port, b"one")
    bad = other + "no_such_key: 1\n"
    reason = hup(t, server, bad, "reload-failed")["reason"]
    line = len(bad.splitlines())
    t.ok(re.search(rf"/server\.yaml:{line}:1: .*no_such_key", reason),
         f"the place: {reason}")
    t.eq(server.log("reload-failed")[0]["level"], "error", "the level")
    reason = hup(t, server, "bind: [", "reload-failed")["reason"]
    t.ok(re.search(r"/server\.yaml:\d+:\d+: ", reason), f"the place: {reason}")
    os.unlink(t.dir / "server.yaml")
    server.signal(signal.SIGHUP)
    server.wait_log("reload-failed", count=3)
    stream.works()
    Stream(t, port, b"one").end()
    t.eq(counts(hup(t, server, other)), (0, 1, 0), "the good one")
    Stream(t, port, b"two").end()
    stream.works()


@scenario(202, "a reload that cannot bind changes nothing at all")
def cannot_bind(t):
    one, two = words(t, b"one", b"two")
    tunnel, gone, other, taken, new = (t.port() for _ in range(5))
    before = yaml(t, tunnel, {"remote_client1": [
        ("tcp", one, f"127.0.0.1:{gone}"),
        ("tcp", one, f"127.0.0.1:{other}")]})
    after = yaml(t, tunnel, {
        "remote_client1": [("tcp", two, f"127.0.0.1:{other}"),
                           ("tcp", two, f"127.0.0.1:{new}"),
                           ("tcp", two, f"127.0.0.1:{taken}")],
        "another": [("tcp", two)]}, "log_level: error")
    server = t.server(before)
    t.client(t.client_yaml(tunnel), registered=True)
    stream = Stream(t, gone, b"one")
    files = server.fds()
    with socket.socket() as program:
        # Even one that would share it.
        program.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        program.bind(("127.0.0.1", taken))
        program.listen()
        for _ in range(3):
            entry = hup(t, server, after, "reload-failed")
            t.eq(entry["bind"], f"127.0.0.1:{taken}", "which it is")
            t.ok("another program" in entry["reason"], f"why: {entry}")
            Stream(t, gone, b"one").end()
            Stream(t, other, b"one").end()
            stream.works()
            t.ok(nobody_listens(t, new), "nobody at what could be bound")
    both = yaml(t, tunnel, {"remote_client1": [
        ("tcp", two, f"127.0.0.1:{new}"), ("tcp", two, f":{new}")]})
    entry = hup(t, server, both, "reload-failed")
    t.ok("same file" in entry["reason"], f"two that overlap: {entry}")
    t.until(lambda: server.fds() <= files, what="nothing is left open")
    t.eq(len(server.log("reloaded")), 0, "lines reloaded")
    # The level of that file was not taken either.
    Stream(t, gone, b"one").end()
    t.until(lambda: len(server.log("stream")) == 7, what="lines stream")
    write(t, server, after)
    server.signal(signal.SIGHUP)
    t.until(lambda: not nobody_listens(t, taken), what="it is free now")
    Stream(t, taken, b"two").end()
    stream.works()


def has_ipv6():
    try:
        with socket.socket(socket.AF_INET6) as s:
            s.bind(("::1", 0))
        return True
    except OSError:
        return False


@scenario(203, "from every address to one of them, and back")
def wildcard(t):
    port, tunnel = t.port(), t.port()
    app, = words(t, b"hello")

    def text(bind):
        return yaml(t, tunnel, {"remote_client1": [
            ("tcp", app, f"{bind}:{port}")]})

    server = t.server(text(""))
    t.client(t.client_yaml(tunnel), registered=True)
    # What it is next, and where it can be reached then, and where not.
    turns = [("127.0.0.1", ["127.0.0.1"], ["::1"]),
             ("", ["127.0.0.1", "::1"], []),
             ("0.0.0.0", ["127.0.0.1"], ["::1"]),
             ("127.0.0.1", ["127.0.0.1"], ["::1"]),
             ("0.0.0.0", ["127.0.0.1"], ["::1"]),
             ("", ["127.0.0.1", "::1"], []),
             ("[::1]", ["::1"], ["127.0.0.1"]),
             ("", ["127.0.0.1", "::1"], [])]
    if not has_ipv6():
        turns = [(bind, ["127.0.0.1"], []) for bind in
                 ("127.0.0.1", "", "127.0.0.1", "")]
    streams = [Stream(t, port, b"hello")]
    for bind, there, nowhere in turns:
        t.eq(counts(hup(t, server, text(bind))), (1, 0, 1), "what changed")
        for host in there * 10:
            Stream(t, port, b"hello", host).end()
        for host in nowhere:
            t.ok(nobody_listens(t, port, host), f"{bind}: nobody at {host}")
        streams.append(Stream(t, port, b"hello", there[0]))
        for stream in streams:
            stream.works()


@scenario(204, "a name is removed, and added again")
def names(t):
    one, two = words(t, b"one", b"two")
    tunnel, first, second, third = (t.port() for _ in range(4))
    remotes = {"one": [("tcp", one, f"127.0.0.1:{first}")],
               "two": [("tcp", two, f"127.0.0.1:{second}")],
               "three": [("tcp", two, f"127.0.0.1:{third}"),
                         ("http", two)]}
    more = "wait_for_remote: 100s\nresume_timeout: 1s"
    every = yaml(t, tunnel, remotes, more)
    fewer = yaml(t, tunnel, {"one": remotes["one"]}, more)
    server = t.server(every)
    clients = {name: t.client(t.client_yaml(tunnel, "tunnels: 2", remote=name),
                              name=name, registered=2)
               for name in ("one", "two")}
    stream = Stream(t, second, b"two")
    waiting = [t.connect(third) for _ in range(10)]
    t.eq(counts(hup(t, server, fewer)), (0, 0, 3), "what was removed")
    for visitor in waiting:
        t.eq(t.expect_reset(visitor), b"", "bytes of nobody")
    server.wait_log("remote-absent", remote="three")
    # A tunnel that has nothing to do ends; a registration is refused.
    clients["two"].wait_log("session-ended")
    server.wait_log("peer-dropped", timeout=30)
    stream.works()
    for port in (second, third):
        t.ok(nobody_listens(t, port), "listeners of names that are gone")
    Stream(t, first, b"one").end()
    t.eq(counts(hup(t, server, every)), (3, 0, 0), "what was added")
    # The tunnel with the stream is still there.
    Stream(t, second, b"two").end()
    stream.works()
    clients["two"].wait_log("registered", count=3, timeout=60)
    Stream(t, second, b"two").end()
    # And away again, with all that it has.
    hup(t, server, fewer)
    stream.works()
    clients["two"].kill()
    t.expect_reset(stream.socket, "its stream")
    hup(t, server, every)
    again = t.client(t.client_yaml(tunnel, remote="two"), registered=True)
    Stream(t, second, b"two").end()
    late = t.connect(third)
    t.client(t.client_yaml(tunnel, remote="three"), registered=True)
    t.eq(read_exactly(late, 3), b"two", "one who waited")
    t.eq(len(clients["one"].log("session-ended")), 0, "sessions of the other")
    t.eq(again.stop(), 0, "exit")


@scenario(205, "log_level changes at once; -v wins")
def log_level(t):
    app = t.app(echo_once)
    tunnel, port = t.port(), t.port()
    remotes = {"remote_client1": [("tcp", app.port, f"127.0.0.1:{port}")]}

    def text(level):
        return yaml(t, tunnel, remotes, f"log_level: {level}")

    def lines(event):
        return len(server.log(event))

    server = t.server(text("info"))
    client = t.client(t.client_yaml(tunnel), registered=True)
    ask(t, port)
    server.wait_log("stream")
    t.eq(lines("opening"), 0, "lines of debug")
    hup(t, server, text("debug"))
    ask(t, port)
    server.wait_log("opening")
    server.wait_log("stream", count=2)
    write(t, server, text("error"))
    server.signal(signal.SIGHUP)

    def silent():
        before = lines("opening")
        ask(t, port)
        return lines("opening") == before
    t.until(silent, what="no line of debug")
    done = lines("stream")
    ask(t, port)
    hup(t, server, text("info"))
    t.eq(lines("stream"), done, "streams at log_level: error")
    client.stop()
    server.stop()

    server = t.server(text("info"), args=["-v"])
    t.client(t.client_yaml(tunnel), registered=True)
    hup(t, server, text("error"))
    ask(t, port)
    server.wait_log("opening")


@scenario(206, "many reloads in a row: a listener that stays refuses nobody")
def many_reloads(t):
    tool = t.tool("traffic", "serve", "0")
    one, two = words(t, b"one", b"two")
    tunnel, stays, other, third = (t.port() for _ in range(4))
    always = ("tcp", tool.port(), f"127.0.0.1:{stays}")
    texts = [
        yaml(t, tunnel, {"remote_client1": [
            always, ("tcp", one, f"127.0.0.1:{other}")]}),
        yaml(t, tunnel, {"remote_client1": [
            ("tcp", two, f"127.0.0.1:{other}"), always],
            "another": [("http", two, f"127.0.0.1:{third}")]}),
        yaml(t, tunnel, {"remote_client1": [
            ("http", one, f"127.0.0.1:{third}"), (*always, "class: bulk")]},
            "wait_for_remote: 1s"),
    ]
    server = t.server(texts[0], args=["-v"])
    client = t.client(t.client_yaml(tunnel, "tunnels: 2"), registered=2)
    files = server.fds()
    done = threading.Event()
    visits = []

    def visit():
        # traffic run fails when one of its connections does.
        while not done.is_set():
            t.traffic(stays, "--streams", 20, "--count", 100, "--bytes", 2000)
            visits.append(100)
    threads = [t.thread(visit) for _ in range(2)]
    load = t.thread(t.traffic, stays, "--streams", 4, "--bytes",
                    scaled(t, 100000000))
    for number in range(1, 51):
        hup(t, server, texts[number % 3])
    t.until(lambda: sum(visits) > 200, 60, "some visits")
    done.set()
    for thread in (*threads, load):
        thread.join(100)
    hup(t, server, texts[0])
    t.eq(len(server.log("visitor-refused")), 0, "visitors refused")
    t.eq(len(client.log("session-ended")), 0, "sessions that ended")
    t.until(lambda: server.fds() <= files, 20, "all is closed again")


@scenario(207, "another target, another type: for new visitors only")
def new_visitors(t):
    def page(connection):
        data = b""
        while not data.endswith(b"\r\n\r\n"):
            data += connection.recv(65536)
        connection.sendall(b"HTTP/1.1 204 No Content\r\n"
                           b"Connection: close\r\n\r\n")

    one, = words(t, b"one")
    web = t.app(page).port
    tunnel, port = t.port(), t.port()

    def text(kind, target, more=""):
        return yaml(t, tunnel, {"remote_client1": [
            (kind, target, f"127.0.0.1:{port}", *([more] if more else []))]},
            "wait_for_remote: 100s")

    server = t.server(text("tcp", one))
    # They wait for what they came to.
    waiting = [t.connect(port) for _ in range(5)]
    t.eq(counts(hup(t, server, text("http", web))), (0, 1, 0), "the change")
    asked = [t.connect(port) for _ in range(5)]
    for visitor in asked:
        visitor.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    t.eq(counts(hup(t, server, text("tcp", one, "class: bulk"))), (0, 1, 0),
         "the change")
    t.eq(counts(hup(t, server, text("tcp", one, "class: bulk, weight: 3"))),
         (0, 1, 0), "the change")
    t.client(t.client_yaml(tunnel), registered=True)
    for visitor in waiting:
        t.eq(read_exactly(visitor, 3), b"one", "who answers")
    for visitor in asked:
        t.ok(t.expect_eof(visitor).startswith(b"HTTP/1.1 204"), "a response")
    hup(t, server, text("http", web))
    t.eq(http_status(t, port), 204, "the status")
    waiting[0].sendall(b"still")
    t.eq(read_exactly(waiting[0], 5), b"still", "the echo")


@scenario(208, "the tunnel port moves: tunnels that are up stay")
def tunnel_moves(t):
    one, = words(t, b"one")
    old, new, port = t.port(), t.port(), t.port()
    remotes = {"remote_client1": [("tcp", one, f"127.0.0.1:{port}")],
               "another": [("tcp", one)]}
    server = t.server(yaml(t, old, remotes))
    client = t.client(t.client_yaml(old), registered=True)
    stream = Stream(t, port, b"one")
    t.eq(counts(hup(t, server, yaml(t, new, remotes))), (1, 0, 1), "changes")
    t.ok(nobody_listens(t, old), "the old tunnel port")
    stream.works()
    Stream(t, port, b"one").end()
    t.client(t.client_yaml(new, remote="another"), registered=True)
    t.eq(len(client.log("session-ended")), 0, "sessions that ended")
    # A port can be handed from visitors to tunnels and back.
    swapped = {"remote_client1": [("tcp", one, f"127.0.0.1:{new}")]}
    t.eq(counts(hup(t, server, yaml(t, port, swapped))), (0, 2, 1), "changes")
    Stream(t, new, b"one").end()
    stream.works()
    t.eq(client.stop(), 0, "exit")
    t.client(t.client_yaml(port), registered=True)
    Stream(t, new, b"one").end()


@scenario(209, "a port goes from one remote to another")
def port_moves(t):
    one, two = words(t, b"one", b"two")
    tunnel, first, second = t.port(), t.port(), t.port()

    def text(names):
        return yaml(t, tunnel, {
            names[0]: [("tcp", one, f"127.0.0.1:{first}")],
            names[1]: [("tcp", two, f"127.0.0.1:{second}")]})

    server = t.server(text(["a", "b"]))
    clients = {name: t.client(t.client_yaml(tunnel, remote=name), name=name,
                              registered=True) for name in "ab"}
    streams = [Stream(t, first, b"one"), Stream(t, second, b"two")]
    for turn in range(3):
        t.eq(counts(hup(t, server, text("ba"))), (0, 2, 0), "what changed")
        Stream(t, first, b"one").end()
        clients["b"].wait_log("stream", count=turn + 1,
                              target=f"127.0.0.1:{one}")
        t.eq(counts(hup(t, server, text("ab"))), (0, 2, 0), "what changed")
        Stream(t, second, b"two").end()
        clients["b"].wait_log("stream", target=f"127.0.0.1:{two}",
                              count=turn + 1)
        Stream(t, first, b"one").end()
        for stream in streams:
            stream.works()


@scenario(210, "settings: some count at once, some need a restart")
def settings(t):
    app = t.app(echo_once)
    tunnel, port = t.port(), t.port()
    remotes = {"remote_client1": [("tcp", app.port, f"127.0.0.1:{port}")]}
    server = t.server(yaml(t, tunnel, remotes,
                           "wait_for_remote: 100s\nhandshake_timeout: 100s\n"
                           "workers: 2"))
    patient, silent = t.connect(port), t.connect(tunnel)
    threads = server.threads()
    more = "wait_for_remote: 0s\nhandshake_timeout: 200ms\n"
    hup(t, server, yaml(t, tunnel, remotes,
                        more + "workers: 3\nmemory: 1GiB\n"
                        f"state_dir: {t.dir}/elsewhere"))
    for setting in ("workers", "memory", "state_dir"):
        server.wait_log("restart-needed", setting=setting, level="warn")
    t.eq(len(server.log("restart-needed")), 3, "lines restart-needed")
    t.eq(server.threads(), threads, "threads")
    t.visit_refused(port, "one who came later")
    t.expect_eof(t.connect(tunnel), b"", "a tunnel that says nothing")
    # Back to what it runs with: nothing to be said.
    hup(t, server, yaml(t, tunnel, remotes, more + "workers: 2\n"
                        f"state_dir: {server.state_dir}"))
    t.eq(len(server.log("restart-needed")), 3, "lines restart-needed")
    patient.sendall(b"here still")
    t.client(t.client_yaml(tunnel), registered=True)
    t.expect_eof(patient, b"here still")
    silent.close()


@scenario(211, "no descriptors: said once, and once when it is over")
def scarcity(t):
    app = t.app(echo)
    server, _ = t.pair([("tcp", app.port)], "workers: 1")
    soft, hard = resource.prlimit(server.pid, resource.RLIMIT_NOFILE)
    for turn in range(2):
        streams = [Stream(t, server.port()) for _ in range(3)]
        for stream in streams:
            stream.works()
        highest = max(int(fd) for fd in os.listdir(f"/proc/{server.pid}/fd"))
        resource.prlimit(server.pid, resource.RLIMIT_NOFILE,
                         (highest + 1, hard))
        late = [Stream(t, server.port()) for _ in range(30)]
        server.wait_log("accept-paused", count=turn + 1)
        t.stays(lambda: len(server.log("accept-paused")) == turn + 1 and
                len(server.log("accept-resumed")) == turn, 1, "said once")
        resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (soft, hard))
        server.wait_log("accept-resumed", count=turn + 1)
        for stream in late + streams:
            stream.works()
            stream.end()
    t.eq(len(server.log("accept-resumed")), 2, "lines accept-resumed")


@scenario(212, "a listener is removed: those in its queue are served")
def queued(t):
    tool = t.tool("echo", "0")
    tunnel, port, other = t.port(), t.port(), t.port()
    with_it = yaml(t, tunnel, {"remote_client1": [
        ("tcp", tool.port(), f"127.0.0.1:{port}"),
        ("tcp", tool.port(), f"127.0.0.1:{other}")]}, "workers: 1")
    without = yaml(t, tunnel, {"remote_client1": [
        ("tcp", tool.port(), f"127.0.0.1:{other}")]}, "workers: 1")
    server = t.server(with_it)
    t.client(t.client_yaml(tunnel), registered=True)
    for _ in range(5):
        Stream(t, other).works()
        # So many that the reload comes before the last of them is accepted.
        server.signal(signal.SIGSTOP)
        visitors = [t.connect(port) for _ in range(800)]
        write(t, server, without)
        done = len(server.log("reloaded"))
        server.signal(signal.SIGHUP)
        server.signal(signal.SIGCONT)
        server.wait_log("reloaded", count=done + 1)
        for visitor in visitors:
            visitor.sendall(b"served?")
        for visitor in visitors:
            t.eq(read_exactly(visitor, 7), b"served?", "the echo")
            visitor.close()
        t.ok(nobody_listens(t, port), "nobody listens there")
        hup(t, server, with_it)
