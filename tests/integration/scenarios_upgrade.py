"""Upgrades in place, 260-299: SIGUSR2 hands everything to the program that is
now where the daemon's own was.

The programs are copies, which a scenario may replace.
"""

import os
import queue
import signal
import socket
import struct
import sys
import threading
import time

from harness import (BUILD, FACTOR, SAN, Failed, read_exactly, read_to_end,
                     read_until, scenario)
from scenarios_http import Web, ok
from scenarios_reload import (Stream, echo, listening, nobody_listens, says,
                              words, write, yaml)
from scenarios_stream import scaled, wait_quiet
from scenarios_targets import echo_once
from wire import (ClassicClient, ClassicServer, ExtendedClient, data,
                  heartbeat, hello_client, initial_connection, initial_remote,
                  pattern)

MIB = 1 << 20


# --- programs ---------------------------------------------------------------

def install(t, program, name=None, source=None):
    """A copy in the scenario's directory, as a package manager puts it there:
    by rename.  Its path."""
    directory = t.dir / "bin"
    directory.mkdir(exist_ok=True)
    path = directory / (name or program)
    new = directory / f"{path.name}.new"
    # Not by ourselves: a child of another thread would have it open for
    # writing for a moment, and nobody may run such a file.
    done = t.run(["cp", source or BUILD / program, new])
    t.eq(done.returncode, 0, f"cp: {done.stderr}")
    new.replace(path)
    return path


def script(t, path, text):
    """Another program there: a shell's or a Python's."""
    new = path.with_name(f"{path.name}.new")
    new.write_text(text)
    new.chmod(0o755)
    new.replace(path)
    return path


def pair(t, ports, server="", client="", dialect="extended",
         remote="remote_client1", registered=True):
    """As Test.pair(), on copies, and with ports that stay."""
    paths = install(t, "proxy-server"), install(t, "remote-client")
    # What a scenario leaves open is not waited for at its end.
    server, client = (more if "drain_timeout" in more else
                      f"drain_timeout: 0s\n{more}"
                      for more in (server, client))
    tunnel = t.port()
    entries = [(*entry[:2], f"127.0.0.1:{t.port()}", *entry[2:])
               for entry in ports]
    first = t.server(yaml(t, tunnel, {remote: entries}, server),
                     program=paths[0])
    second = t.client(t.client_yaml(tunnel, client, remote, dialect),
                      program=paths[1], registered=registered)
    return first, second


def renew(t, *daemons):
    """Another file where each one's program was."""
    for daemon in daemons:
        program = "proxy-server" if "server" in daemon.name else \
            "remote-client"
        install(t, program)


def upgrade_both(t, server, client):
    """At the same moment."""
    before = [(d, len(d.log("upgraded")), len(d.log("upgrade-failed")))
              for d in (server, client)]
    for daemon, _, _ in before:
        daemon.process.send_signal(signal.SIGUSR2)
    for daemon, done, failed in before:
        daemon.follow(done, failed)


def nothing_ended(t, *daemons):
    for daemon in daemons:
        for event in ("session-ended", "session-parked", "visitor-refused",
                      "dial-failed", "upgrade-failed", "cannot-take-over"):
            t.eq(daemon.log(event), [], f"{daemon.name}: {event}")


class Hand:
    """An application whose connections the scenario has in its hand."""

    def __init__(self, t):
        self.connections = queue.Queue()
        self.done = threading.Event()
        self.app = t.app(self._serve)
        self.port = self.app.port
        t._tidy.append(self.done.set)

    def _serve(self, connection):
        self.connections.put(connection)
        self.done.wait()

    def next(self):
        connection = self.connections.get(timeout=20 * FACTOR)
        connection.settimeout(20 * FACTOR)
        return connection


# --- traffic ----------------------------------------------------------------

def under_traffic(t, server, client, *modes):
    """Each daemon, then both at once, again and again; no byte is wrong."""
    port = server.port()
    done = threading.Event()
    rounds = []

    def load(*args):
        while not done.is_set():
            t.traffic(port, *args)
            rounds.append(args)

    threads = [t.thread(load, *mode) for mode in modes]
    for turn in range(10):
        renew(t, server, client)
        if turn % 3 == 0:
            server.upgrade()
        elif turn % 3 == 1:
            client.upgrade()
        else:
            upgrade_both(t, server, client)
        time.sleep(0.1)
    done.set()
    for thread in threads:
        thread.join(100)
    t.ok(len(rounds) >= len(modes), "every load was served")
    nothing_ended(t, server, client)


@scenario(260, "upgrade: either daemon and both at once, ten times, in traffic")
def traffic(t):
    tool = t.tool("traffic", "serve", "0")
    server, client = pair(t, [("tcp", tool.port())], "workers: 2",
                          "tunnels: 2\nworkers: 2", registered=2)
    size = scaled(t, 30 * MIB, 20000)
    under_traffic(
        t, server, client,
        ("--streams", 4, "--bytes", size, "--mode", "both"),
        ("--streams", 10, "--count", 100, "--bytes", 3000),
        ("--streams", 4, "--bytes", scaled(t, MIB, 5000), "--turns",
         "--chunk", 1000),
        ("--streams", 4, "--count", 40, "--bytes", 100000, "--mode", "reset"))
    t.eq(len(client.log("registered")), 2, "registrations, all in all")


@scenario(261, "upgrade: classic sessions in traffic, ten times")
def classic_traffic(t):
    tool = t.tool("traffic", "serve", "0")
    server, client = pair(t, [("tcp", tool.port())], dialect="classic")
    size = scaled(t, 20 * MIB, 20000)
    under_traffic(
        t, server, client,
        ("--streams", 4, "--bytes", size, "--mode", "both", "--finish",
         "count"),
        ("--streams", 10, "--count", 100, "--bytes", 3000, "--finish",
         "count"))
    t.eq(len(client.log("registered")), 1, "registrations")


@scenario(262, "upgrade: a classic client sees nothing of it")
def classic_client(t):
    path, tunnel, port = install(t, "proxy-server"), t.port(), t.port()
    server = t.server(yaml(t, tunnel, {"x": [
        ("tcp", 5678, f"127.0.0.1:{port}")]}), program=path)
    peer = ClassicClient(tunnel, "x")
    server.wait_log("registered")
    visitor = t.connect(port)
    stream = peer.accept_stream()
    body = pattern(1, 0, 300000)
    for turn in range(4):
        # A part of an instruction before it, at other places each time.
        raw = data(stream.identity, body)
        cut = (1, 7, 13, 200000)[turn]
        peer.quiet = True       # a heartbeat has no place inside of it
        peer.raw(raw[:cut])
        sender = t.thread(visitor.sendall, body)
        time.sleep(0.05)
        server.upgrade()
        got = bytearray(peer.read(stream.identity, len(body), 20))
        t.ok(got == body, "what the visitor said")
        peer.raw(raw[cut:])
        peer.quiet = False
        t.ok(read_exactly(visitor, len(body)) == body, "what the peer said")
        sender.join()
    # Half a heartbeat, and the close of one that is open.
    peer.quiet = True
    peer.raw(heartbeat()[:1])
    server.upgrade()
    peer.raw(heartbeat()[1:])
    peer.quiet = False
    peer.send_close(stream.identity)
    t.expect_eof(visitor, b"")
    nothing_ended(t, server)
    peer.shut()


@scenario(263, "upgrade: a classic server sees nothing of it")
def classic_server(t):
    app = t.app(says(b""))
    path = install(t, "remote-client")
    listener = ClassicServer()
    client = t.client(t.client_yaml(listener.port, dialect="classic"),
                      program=path)
    peer = listener.accept_peer()
    peer.connect(1, app.port)
    body = pattern(2, 0, 100000)
    for turn in range(4):
        raw = data(1, body)
        cut = (1, 9, 13, 60000)[turn]
        peer.raw(raw[:cut])
        client.upgrade()
        peer.raw(raw[cut:])
        t.ok(bytes(peer.read(1, len(body), 20)) == body, "the echo")
    half = initial_connection(2, app.port)
    peer.raw(half[:5])
    client.upgrade()
    beats = len(peer.beats)
    peer.raw(half[5:])
    peer.until(lambda: len(peer.beats) > beats + 1, "heartbeats go on")
    peer.send_close(1)
    nothing_ended(t, client)
    t.eq(len(client.log("registered")), 1, "registrations")
    peer.shut()


# --- http -------------------------------------------------------------------

def asks(path, more="", body=b""):
    return (f"POST {path} HTTP/1.1\r\nHost: v\r\n{more}\r\n".encode() + body)


@scenario(264, "upgrade: http visitors at every place of a request")
def http_requests(t):
    web = Web(t)
    server, client = pair(t, [("http", web.port)])
    port = server.port()
    whole = asks("/one", "Content-Length: 10\r\n", b"0123456789") + \
        asks("/two", "Transfer-Encoding: chunked\r\n",
             b"5\r\nabcde\r\n3;x=y\r\nfgh\r\n0\r\nT: u\r\n\r\n") + \
        b"GET /three HTTP/1.1\r\nHost: v\r\n\r\n"
    step = max(1, len(whole) // scaled(t, 40, 6))
    visitors = []
    cuts = list(range(1, len(whole), step))
    for cut in cuts:
        visitor = t.connect(port)
        visitor.sendall(whole[:cut])
        visitors.append((cut, visitor))
    server.upgrade()
    upgrade_both(t, server, client)
    for cut, visitor in visitors:
        visitor.sendall(whole[cut:])
    for cut, visitor in visitors:
        bodies = []
        for _ in range(3):
            head = read_until(visitor, b"\r\n\r\n").decode()
            size = int(head.split("Content-Length: ")[1].split("\r\n")[0])
            bodies.append(read_exactly(visitor, size))
        t.eq(bodies, [b"0123456789", b"abcdefgh", b""],
             f"bodies, cut at {cut}")
    lines = [web.next()[0].split()[1] for _ in range(3 * len(cuts))]
    for path in ("/one", "/two", "/three"):
        t.eq(lines.count(path), len(cuts), f"requests for {path}")
    nothing_ended(t, server, client)


@scenario(265, "upgrade: http responses at every place, and pipelined requests")
def http_responses(t):
    hand = Hand(t)
    server, client = pair(t, [("http", hand.port)])
    port = server.port()
    answer = (b"HTTP/1.1 100 Continue\r\n\r\n"
              b"HTTP/1.1 200 OK\r\nX: y\r\nContent-Length: 5\r\n\r\nhello"
              b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
              b"3;a=b\r\nabc\r\n0\r\nU: v\r\n\r\n"
              b"HTTP/1.1 204 No Content\r\n\r\n")
    step = max(1, len(answer) // scaled(t, 40, 6))
    runs = []
    for cut in range(1, len(answer), step):
        visitor = t.connect(port)
        visitor.sendall(b"GET / HTTP/1.1\r\nHost: v\r\n\r\n" * 3)
        application = hand.next()
        for _ in range(3):
            read_until(application, b"\r\n\r\n")
        application.sendall(answer[:cut])
        runs.append((cut, visitor, application))
    for _, visitor, _ in runs[:3]:
        t.until(lambda v=visitor: v.recv(1, socket.MSG_PEEK), what="bytes")
    server.upgrade()
    upgrade_both(t, server, client)
    for cut, visitor, application in runs:
        application.sendall(answer[cut:])
        t.ok(read_exactly(visitor, len(answer)) == answer,
             f"the responses, cut at {cut}")
        # It knows where it is: one more request, one that is answered by 502.
        visitor.sendall(b"GET /more HTTP/1.1\r\nHost: v\r\n\r\n")
        t.ok(read_until(application, b"\r\n\r\n").startswith(b"GET /more"),
             "the request after it")
        application.shutdown(socket.SHUT_RDWR)
        rest, _ = read_to_end(visitor)
        t.ok(rest.startswith(b"HTTP/1.1 502 "), f"cut at {cut}: {rest}")
    nothing_ended(t, server, client)


@scenario(266, "upgrade: a WebSocket, and one that is about to be")
def websocket(t):
    hand = Hand(t)
    server, client = pair(t, [("http", hand.port)])
    request = (b"GET /chat HTTP/1.1\r\nHost: v\r\nConnection: Upgrade\r\n"
               b"Upgrade: websocket\r\n\r\n")
    yes = (b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n"
           b"Upgrade: websocket\r\n\r\n")
    both = []
    for _ in range(2):
        visitor = t.connect(server.port())
        visitor.sendall(request)
        application = hand.next()
        read_until(application, b"\r\n\r\n")
        both.append((visitor, application))
    both[0][1].sendall(yes)
    t.eq(read_exactly(both[0][0], len(yes)), yes, "the answer")
    both[1][1].sendall(yes[:50])
    both[1][0].sendall(b"too early\r\n")
    server.upgrade()
    upgrade_both(t, server, client)
    both[1][1].sendall(yes[50:])
    t.eq(read_exactly(both[1][0], len(yes)), yes, "the answer")
    t.eq(read_exactly(both[1][1], 11), b"too early\r\n", "what it said early")
    for visitor, application in both:
        for a, b in ((visitor, application), (application, visitor)):
            a.sendall(bytes(range(256)) * 40)
            t.eq(read_exactly(b, 10240), bytes(range(256)) * 40, "bytes")
    nothing_ended(t, server, client)


# --- visitors and streams ---------------------------------------------------

@scenario(267, "upgrade: visitors who wait for their remote")
def waiting(t):
    app, web = t.app(echo_once), Web(t)
    path, tunnel = install(t, "proxy-server"), t.port()
    ports = [t.port() for _ in range(3)]
    server = t.server(yaml(t, tunnel, {
        "a": [("tcp", app.port, f"127.0.0.1:{ports[0]}"),
              ("http", web.port, f"127.0.0.1:{ports[1]}")],
        "b": [("tcp", app.port, f"127.0.0.1:{ports[2]}")]},
        "wait_for_remote: 8s\nmax_waiting: 3"), program=path)
    began = time.monotonic()
    tcp, http, late = (t.connect(port) for port in ports)
    tcp.sendall(b"hello")
    http.sendall(b"GET / HTTP/1.1\r\nHost: v\r\n\r\n")
    time.sleep(0.2)
    for _ in range(3):
        server.upgrade()
    # They count still: nobody else may wait.
    t.visit_refused(ports[0], "a fourth")
    t.client(t.client_yaml(tunnel, remote="a"), registered=True)
    t.expect_eof(tcp, b"hello")
    t.ok(read_until(http, b"\r\n\r\n").startswith(b"HTTP/1.1 200"), "http")
    t.eq(t.expect_reset(late), b"", "one whose time is up")
    t.ok(time.monotonic() - began >= 7.9, "not before its time")
    if not SAN:
        t.ok(time.monotonic() - began < 12, "its time did not begin anew")


def stop_reading(t, port, hand, both):
    """A visitor and its application that have filled all buffers."""
    visitor = t.connect(port)
    application = hand.next()
    sent = []
    for source in (visitor, application) if both else (application,):
        source.setblocking(False)
        n = 0
        quiet = 0
        while quiet < 20:
            try:
                n += source.send(pattern(3, n, 65536))
                quiet = 0
            except BlockingIOError:
                quiet += 1
                time.sleep(0.02)
        source.settimeout(30 * FACTOR)
        sent.append(n)
    return visitor, application, sent


def check_sent(t, connection, n, what):
    got = 0
    while got < n:
        piece = connection.recv(min(65536, n - got))
        t.ok(piece, f"{what}: an end after {got} of {n}")
        t.ok(piece == pattern(3, got, len(piece)), f"{what}: bytes at {got}")
        got += len(piece)


@scenario(268, "upgrade: readers that have stopped, with full buffers")
def stopped(t):
    hand = Hand(t)
    for dialect in ("extended", "classic"):
        server, client = pair(t, [("tcp", hand.port)], dialect=dialect)
        visitor, application, sent = stop_reading(
            t, server.port(), hand, dialect == "extended")
        other = t.connect(server.port())
        upgrade_both(t, server, client)
        server.upgrade()
        client.upgrade()
        check_sent(t, visitor, sent[-1], "the visitor")
        if len(sent) > 1:
            check_sent(t, application, sent[0], "the application")
        other.sendall(b"x")
        t.eq(read_exactly(hand.next(), 1), b"x", "another visitor")
        nothing_ended(t, server, client)
        client.stop()
        server.stop()


@scenario(269, "upgrade: half-closed streams, in each direction, and over")
def half_closed(t):
    hand = Hand(t)
    server, client = pair(t, [("tcp", hand.port)])
    streams = []
    for _ in range(2):
        visitor = t.connect(server.port())
        streams.append((visitor, hand.next()))
    (v1, a1), (v2, a2) = streams
    v1.sendall(b"question")
    v1.shutdown(socket.SHUT_WR)
    a2.sendall(b"greeting")
    a2.shutdown(socket.SHUT_WR)
    t.expect_eof(a1, b"question")
    t.expect_eof(v2, b"greeting")
    # One that is over, but delivers still.
    v3, a3, sent = stop_reading(t, server.port(), hand, False)
    v3.shutdown(socket.SHUT_WR)
    t.expect_eof(a3, b"")
    a3.close()
    server.upgrade()
    upgrade_both(t, server, client)
    a1.sendall(b"answer")
    a1.shutdown(socket.SHUT_WR)
    t.expect_eof(v1, b"answer")
    v2.sendall(b"thanks")
    v2.shutdown(socket.SHUT_WR)
    t.expect_eof(a2, b"thanks")
    check_sent(t, v3, sent[0], "the last bytes")
    t.expect_eof(v3, b"")
    t.until(lambda: len(server.log("stream")) == 3 and
            len(client.log("stream")) == 3, what="each is logged once")
    nothing_ended(t, server, client)


class Full:
    """A socket that listens and whose queue is full: who connects waits."""

    def __init__(self, t):
        self.socket = socket.socket()
        self.socket.bind(("127.0.0.1", 0))
        self.socket.listen(0)
        self.port = self.socket.getsockname()[1]
        self.fillers = []
        for _ in range(4):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", self.port))
            self.fillers.append(filler)
        t._tidy.append(self.socket.close)

    def open(self, t, ours):
        """Accept until the one with these bytes comes."""
        for filler in self.fillers:
            filler.close()
        self.socket.settimeout(30 * FACTOR)
        while True:
            connection, _ = self.socket.accept()
            connection.settimeout(20 * FACTOR)
            try:
                if read_exactly(connection, len(ours)) == ours:
                    return connection
            except (Failed, ConnectionError):
                connection.close()


@scenario(270, "upgrade: a stream whose application has not answered")
def opening(t):
    full = Full(t)
    server, client = pair(t, [("tcp", full.port), ("tcp", "localhost:1")],
                          client='connect_timeout: 30s\n'
                          'allow_targets: ["127.0.0.0/8", "::1/128"]')
    visitor = t.connect(server.port())
    visitor.sendall(b"first")
    ended = t.connect(server.port())
    ended.sendall(b"early and over")
    ended.shutdown(socket.SHUT_WR)
    time.sleep(0.3)
    # Names are looked up again; what is refused is refused once.
    refused = [t.thread(t.visit_refused, server.port(index=1))
               for _ in range(50)]
    client.upgrade()
    upgrade_both(t, server, client)
    server.upgrade()
    for visit in refused:
        visit.join()
    t.until(lambda: len(server.log("stream", why="refused")) == 50,
            what="each is logged")
    application = full.open(t, b"first")
    application.sendall(b"late")
    t.eq(read_exactly(visitor, 4), b"late", "the answer")
    nothing_ended(t, server, client)


@scenario(271, "upgrade: connections of the tunnel port, in the handshake or not")
def arrivals(t):
    path, tunnel, port = install(t, "proxy-server"), t.port(), t.port()
    name = "a-name"
    # tsan takes a second for each process to end.
    limit = 40 if SAN == "tsan" else 6
    server = t.server(yaml(t, tunnel, {name: [
        ("tcp", 5678, f"127.0.0.1:{port}")]}, f"handshake_timeout: {limit}s"),
        program=path)
    silent = [t.connect(tunnel) for _ in range(2)]
    began = time.monotonic()
    time.sleep(0.1)
    server.upgrade()
    # It was moved, and may register now; and be moved at every byte of that.
    for byte in initial_remote(name):
        silent[0].sendall(bytes([byte]))
        server.upgrade()
    server.wait_log("registered", remote=name, dialect="classic")
    visitor = t.connect(port)
    t.eq(read_exactly(silent[0], 10)[:2], b"\0\1", "InsInitialConnection")
    visitor.close()
    # An extended one, between any two things that are said.
    peer = ExtendedClient(tunnel, name)
    peer.push(hello_client()[:20])
    peer.flush()
    server.upgrade()
    peer.shut()
    peer = ExtendedClient(tunnel, name)
    peer.hello_()
    peer.wait_hello()
    server.upgrade()
    peer.register_()
    peer.wait_registered()
    visitor = t.connect(port)
    stream = peer.accept_stream()
    visitor.sendall(b"hello")
    t.eq(bytes(peer.read(stream, 5)), b"hello", "what the visitor says")
    peer.shut()
    t.expect_eof(silent[1], b"", "one whose time is up")
    t.ok(time.monotonic() - began >= limit - 0.1, "not before its time")
    if not SAN:
        t.ok(time.monotonic() - began < limit + 4, "its time began once")


@scenario(272, "upgrade: in the middle of the handshake, nothing is refused")
def handshake(t):
    app = t.app(says(b""))
    server, client = pair(t, [("tcp", app.port)])
    tunnel = server.port("tunnel")
    # Dials that hang in the middle of everything, and are made again.
    relay = Relay(t, tunnel)
    relay.mute()
    dialling = t.client(t.client_yaml(relay.port, "tunnels: 3"),
                        name="client-dialling",
                        program=install(t, "remote-client"))
    relay.wait(1)
    dialling.upgrade()
    relay.wait(2)
    t.eq(dialling.log("dial-failed"), [], "errors")
    dialling.stop()
    # And those that come while the proxy-server is upgraded.
    client.stop()
    for _ in range(scaled(t, 10, 3)):
        many = t.client("drain_timeout: 0s\n" +
                        t.client_yaml(tunnel, "tunnels: 64"),
                        name="client-many", wait_ready=False)
        for _ in range(3):
            server.upgrade()
        many.wait_log("registered", count=64)
        t.eq(many.log("dial-failed"), [], "errors")
        many.stop()
    t.eq(server.log("peer-dropped"), [], "who was dropped")


class Relay:
    """A TCP relay in front of a port, that can be cut and held."""

    def __init__(self, t, target):
        self.t = t
        self.target = target
        self.socket = socket.socket()
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(("127.0.0.1", 0))
        self.socket.listen(64)
        self.port = self.socket.getsockname()[1]
        self.muted = self.closed = False
        self.accepted = 0
        self.both = []
        threading.Thread(target=self._accept, daemon=True).start()
        t._tidy.append(self._close)

    def _close(self):
        self.closed = True
        self.cut()
        try:
            self.socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.socket.close()

    def _accept(self):
        while not self.closed:
            try:
                near, _ = self.socket.accept()
            except OSError:
                return
            self.accepted += 1
            self.both.append(near)
            if self.muted:
                continue
            try:
                far = socket.create_connection(("127.0.0.1", self.target))
            except OSError:
                near.close()
                continue
            self.both.append(far)
            for a, b in ((near, far), (far, near)):
                threading.Thread(target=self._copy, args=(a, b),
                                 daemon=True).start()

    @staticmethod
    def _copy(a, b):
        try:
            while piece := a.recv(65536):
                b.sendall(piece)
            b.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def mute(self):
        """Who connects gets no answer from here on."""
        self.muted = True

    def mend(self):
        """Those who got none are cut, and others are served."""
        self.muted = False
        self.cut()

    def cut(self):
        both, self.both = self.both, []
        for connection in both:
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            connection.close()

    def wait(self, count):
        self.t.until(lambda: self.accepted >= count, what=f"dial {count}")


@scenario(273, "upgrade: sockets that only linger")
def lingering(t):
    hand = Hand(t)
    server, client = pair(t, [("tcp", hand.port)], dialect="classic")
    both = []
    for _ in range(5):
        visitor = t.connect(server.port())
        visitor.sendall(b"x")
        application = hand.next()
        t.eq(read_exactly(application, 1), b"x", "what it said")
        body = pattern(3, 0, 200000)
        application.sendall(body)
        # For a classic peer that ends both directions.
        application.shutdown(socket.SHUT_WR)
        both.append(visitor)
    server.wait_log("stream", count=5)
    server.upgrade()
    upgrade_both(t, server, client)
    for visitor in both:
        # Without the socket behind it this would be answered by a reset,
        # which takes with it what has not been read.
        visitor.sendall(b"y" * 1000)
    time.sleep(0.2)
    for visitor in both:
        visitor.sendall(b"y" * 1000)
        t.expect_eof(visitor, body)
    nothing_ended(t, server, client)


@scenario(274, "upgrade: sessions that are parked go on, and end in their time")
def parked(t):
    app = t.app(says(b""))
    path, tunnel, port = install(t, "proxy-server"), t.port(), t.port()
    server = t.server(yaml(t, tunnel, {"remote_client1": [
        ("tcp", app.port, f"127.0.0.1:{port}")]}, "resume_timeout: 12s"),
        program=path)
    relay = Relay(t, tunnel)
    client = t.client(t.client_yaml(relay.port, "resume_timeout: 12s\n"
                                    "tunnels: 1"),
                      program=install(t, "remote-client"), registered=True)
    stream = Stream(t, port)
    stream.works()
    for daemons in ((server,), (client,), (server, client)):
        parks = len(server.log("session-parked"))
        relay.mute()
        relay.cut()
        server.wait_log("session-parked", count=parks + 1)
        client.wait_log("session-parked", count=parks + 1)
        stream.socket.sendall(b"meanwhile")
        for daemon in daemons:
            daemon.upgrade()
        relay.mend()
        t.eq(read_exactly(stream.socket, 9), b"meanwhile", "the echo")
        stream.works()
    t.eq(len(client.log("registered")), 1, "registrations")
    # Not longer than it may, upgrades or not.
    relay.mute()
    relay.cut()
    server.wait_log("session-parked", count=4)
    began = time.monotonic()
    time.sleep(4)
    upgrade_both(t, server, client)
    time.sleep(3)
    upgrade_both(t, server, client)
    t.expect_reset(stream.socket)
    took = time.monotonic() - began
    t.ok(took >= 11.5, f"not before its time: {took}")
    if not SAN:
        t.ok(took < 15, f"its time did not begin anew: {took}")
    client.wait_log("session-ended")


# --- configurations ---------------------------------------------------------

@scenario(275, "upgrade: more workers, and fewer")
def workers(t):
    app = t.app(echo)
    path, tunnel, port = install(t, "proxy-server"), t.port(), t.port()
    remotes = {"remote_client1": [("tcp", app.port, f"127.0.0.1:{port}")]}
    server = t.server(yaml(t, tunnel, remotes, "workers: 1"), program=path)
    client = t.client(t.client_yaml(tunnel, "workers: 1\ntunnels: 3"),
                      program=install(t, "remote-client"), registered=3)
    streams = [Stream(t, port) for _ in range(20)]
    for n in (3, 1, 2, 4, 1):
        write(t, server, yaml(t, tunnel, remotes,
                              f"workers: {n}\nstate_dir: {server.state_dir}"))
        write(t, client, t.client_yaml(tunnel, f"workers: {n}\ntunnels: 3"))
        t.eq(server.upgrade()["workers"], str(n), "workers of the server")
        t.eq(client.upgrade()["workers"], str(n), "workers of the client")
        if SAN != "tsan":       # which has one of its own
            t.eq(server.threads(), n + 1, "threads of the server")
        for stream in streams:
            stream.works()
        new = [Stream(t, port) for _ in range(10)]
        for stream in new:
            stream.works()
            stream.end()
    time.sleep(0.3)
    t.eq(len(client.log("registered")), 3, "registrations")
    nothing_ended(t, server, client)
    # Every one of them is there: fewer are wanted, and the others run out.
    write(t, client, t.client_yaml(tunnel, "workers: 2\ntunnels: 1"))
    client.upgrade()
    server.wait_log("going-away", count=2)
    for stream in streams:
        stream.works()
    t.eq(client.log("session-ended"), [], "sessions that ended before")
    for stream in streams:
        stream.end()
    client.wait_log("session-ended", count=2)


@scenario(276, "upgrade: listeners come, go, and move, and nobody is reset")
def listeners(t):
    tool = t.tool("echo", "0")
    tunnel, gone, stays, new, other = (t.port() for _ in range(5))
    target = tool.port()

    def text(*ports, bind=tunnel):
        return yaml(t, bind, {"remote_client1": [
            ("tcp", target, f"127.0.0.1:{port}") for port in ports]},
            f"workers: 2\nstate_dir: {t.dir / 'state'}")
    server = t.server(text(gone, stays),
                      program=install(t, "proxy-server"))
    t.client(t.client_yaml(tunnel), registered=True)
    streams = [Stream(t, gone), Stream(t, stays)]
    for turn in range(3):
        sockets = listening(server, stays)
        write(t, server, text(stays, new))
        # In the queue when it comes; more of them than are accepted at once.
        server.process.send_signal(signal.SIGSTOP)
        visitors = [t.connect(port) for port in (gone, stays) * 200]
        done = len(server.log("upgraded"))
        server.process.send_signal(signal.SIGUSR2)
        server.process.send_signal(signal.SIGCONT)
        server.follow(done)
        for visitor in visitors:
            visitor.sendall(b"served?")
        for visitor in visitors:
            t.eq(read_exactly(visitor, 7), b"served?", "the echo")
            visitor.close()
        t.ok(nobody_listens(t, gone), "the one removed")
        t.eq(listening(server, stays), sockets, "sockets of the one that stays")
        streams.append(Stream(t, new))
        for stream in streams:
            stream.works()
        write(t, server, text(gone, stays))
        server.upgrade()
        t.ok(nobody_listens(t, new), "the one that was new")
        streams.append(Stream(t, gone))
    # The tunnel port moves too.
    write(t, server, text(gone, stays, bind=other))
    server.upgrade()
    t.ok(nobody_listens(t, tunnel), "the old tunnel port")
    for stream in streams:
        stream.works()
    nothing_ended(t, server)


@scenario(277, "upgrade: a queue at its switch, with nothing changed")
def queued(t):
    tool = t.tool("echo", "0")
    server, client = pair(t, [("tcp", tool.port())], "workers: 2")
    for _ in range(5):
        server.process.send_signal(signal.SIGSTOP)
        visitors = [t.connect(server.port()) for _ in range(300)]
        done = len(server.log("upgraded"))
        server.process.send_signal(signal.SIGUSR2)
        server.process.send_signal(signal.SIGCONT)
        late = []
        while len(server.log("upgraded")) == done and len(late) < 5000:
            late.append(t.connect(server.port()))
        server.follow(done)
        for visitor in visitors + late:
            visitor.sendall(b"served?")
        for visitor in visitors + late:
            t.eq(read_exactly(visitor, 7), b"served?", "the echo")
            visitor.close()
    nothing_ended(t, server, client)


@scenario(278, "upgrade: a file that is wrong changes nothing")
def bad_file(t):
    app, = words(t, b"one")
    server, client = pair(t, [("tcp", app)])
    stream = Stream(t, server.port(), b"one")
    texts = [(t.dir / f"{d.name}.yaml").read_text() for d in (server, client)]
    with socket.socket() as program:
        program.bind(("127.0.0.1", 0))
        program.listen()
        taken = program.getsockname()[1]
        beside = texts[0].replace(
            "  - {", f'  - {{type: tcp, bind: "127.0.0.1:{taken}", '
            f'remote: {app}}}\n  - {{', 1)
        for daemon, text in ((server, texts[0] + "no_such_key: 1\n"),
                             (client, texts[1] + "no_such_key: 1\n"),
                             (server, "bind: ["), (client, ""),
                             (server, beside)):
            write(t, daemon, text)
            line = daemon.upgrade_fails()
            t.eq(line["step"], "prepare", "the step")
            # One that has said why may be ended before it ends.
            if "ended" in line["reason"]:
                t.eq(line.get("exit"), "1", f"the exit: {line}")
            else:
                t.ok("configuration" in line["reason"], f"why: {line}")
            stream.works()
            Stream(t, server.port(), b"one").end()
        t.ok("no_such_key" in server.text(), "why, on the same output")
        os.unlink(t.dir / "server.yaml")
        server.upgrade_fails()
    stream.works()
    for daemon, text in zip((server, client), texts):
        write(t, daemon, text)
        daemon.upgrade()
    stream.works()


@scenario(279, "upgrade: another name or dialect needs a restart, and says so")
def other_name(t):
    app, = words(t, b"one")
    server, client = pair(t, [("tcp", app)], client="tunnels: 2",
                          registered=2)
    stream = Stream(t, server.port(), b"one")
    text = (t.dir / "client.yaml").read_text()
    for key, other in (("name", text.replace("remote_client1", "another")),
                       ("dialect", text.replace("extended", "classic"))):
        write(t, client, other)
        line = client.upgrade_fails()
        t.ok(f"`{key}`" in line["reason"], f"the reason: {line}")
        t.eq(line["step"], "prepare", "before anybody stood still")
        stream.works()
    write(t, client, text)
    client.upgrade()
    stream.works()
    t.eq(len(client.log("registered")), 2, "registrations")


# --- programs that are not what they should be ------------------------------

# Speaks as much of the handover as its argument says, then does something.
FAKE = """#!{python}
import os, socket, struct, sys, time
old = socket.socket(fileno=3)

def take():
    while True:
        note, more, _, _ = old.recvmsg(512, 8192)
        word, size, n = struct.unpack_from("=4xIQQ", note)
        for _, _, fds in more:
            for i in range(0, len(fds), 4):
                os.close(struct.unpack_from("i", fds, i)[0])
        if word == 100:
            left = n
        else:
            left -= size
        if left == 0:
            return

def say(word, kind=1, text=b""):
    old.send(struct.pack("=IIQQ", kind, word, 0, 0) + text)

{script}
"""


def fake(t, path, text):
    script(t, path, FAKE.format(python=sys.executable, script=text))


FAKES = [
    ("os._exit(7)", "prepare", "ended", "7"),
    ("os.kill(os.getpid(), 11)", "prepare", "ended", None),
    ("take(); say(1, 2); time.sleep(60)", "prepare", "format", None),
    ("take(); say(2); time.sleep(60)", "prepare", "out of turn", None),
    ("take(); old.send(b'x'); time.sleep(60)", "prepare", "ended", None),
    ("take(); say(102, 1, b'because of it'); time.sleep(60)", "prepare",
     "because of it", None),
    ("take(); say(1); os._exit(8)", "switch", "ended", "8"),
    ("take(); say(1); take(); os._exit(9)", "switch", "ended", "9"),
    ("take(); say(1); take(); os.kill(os.getpid(), 6)", "switch", "ended",
     None),
    ("take(); say(1); take(); time.sleep(60)", "switch", "in time", None),
    ("take(); say(1); take(); say(1); time.sleep(60)", "switch",
     "out of turn", None),
    ("take(); say(1); take(); say(102, 1, b'cannot read'); time.sleep(60)",
     "switch", "cannot read", None),
]


@scenario(280, "upgrade: programs that fail at every step change nothing")
def fakes(t):
    app, = words(t, b"one")
    hand = Hand(t)
    server, client = pair(t, [("tcp", app), ("tcp", hand.port)],
                          "upgrade_timeout: 10s", "upgrade_timeout: 10s")
    stream = Stream(t, server.port(), b"one")
    for program, daemon in (("proxy-server", server),
                            ("remote-client", client)):
        path = t.dir / "bin" / program
        files = wait_quiet(t, daemon)
        for text, step, reason, code in FAKES:
            # Bytes are on their way, both ways, all the time.
            visitor = t.connect(server.port(index=1))
            application = hand.next()
            body = pattern(4, 0, 2 * MIB)
            threads = [t.thread(c.sendall, body)
                       for c in (visitor, application)]
            fake(t, path, text)
            line = daemon.upgrade_fails()
            t.eq(line["step"], step, f"{text}: the step in {line}")
            t.ok(reason in line["reason"], f"{text}: the reason in {line}")
            t.eq(line.get("exit"), code, f"{text}: the exit in {line}")
            t.ok(read_exactly(visitor, len(body)) == body, f"{text}: bytes")
            t.ok(read_exactly(application, len(body)) == body,
                 f"{text}: bytes")
            for thread in threads:
                thread.join()
            visitor.close()
            application.close()
            stream.works()
            Stream(t, server.port(), b"one").end()
        t.until(lambda d=daemon, n=files: d.fds() <= n, 20,
                f"{daemon.name}: nothing is left open: {daemon.fds()}, "
                f"{files} before")
        install(t, program)
        daemon.upgrade()
        stream.works()
    t.eq(server.log("session-ended"), [], "sessions that ended")


@scenario(281, "upgrade: the path leads to nothing, to no program, nowhere")
def no_program(t):
    app, = words(t, b"one")
    server, client = pair(t, [("tcp", app)], "upgrade_timeout: 1s",
                          "upgrade_timeout: 1s")
    stream = Stream(t, server.port(), b"one")
    for program, daemon in (("proxy-server", server),
                            ("remote-client", client)):
        path = t.dir / "bin" / program
        os.unlink(path)
        line = daemon.upgrade_fails()
        t.ok("No such file" in line["reason"], f"no file: {line}")
        path.mkdir()
        daemon.upgrade_fails()
        path.rmdir()
        path.write_text("no program")
        daemon.upgrade_fails()
        path.chmod(0o755)
        daemon.upgrade_fails()
        script(t, path, "#!/bin/sh\nexit 3\n")
        t.eq(daemon.upgrade_fails()["exit"], "3", "a script that exits")
        # One that hangs, with a child of its own.
        script(t, path, "#!/bin/sh\nsleep 60 &\nsleep 60\n")
        began = time.monotonic()
        daemon.upgrade_fails()
        t.ok(time.monotonic() - began >= 0.9, "upgrade_timeout")
        # It does nothing of what a daemon does.
        script(t, path, "#!/bin/sh\nexec /bin/true\n")
        daemon.upgrade_fails()
        stream.works()
        Stream(t, server.port(), b"one").end()
        # A broken link, then the real one.
        os.unlink(path)
        path.symlink_to(t.dir / "nowhere")
        daemon.upgrade_fails()
        install(t, program)
        daemon.upgrade()
        stream.works()


@scenario(282, "upgrade: a relative path, PATH, a link that is switched")
def paths(t):
    app, = words(t, b"one")
    install(t, "proxy-server")
    tunnel, port = t.port(), t.port()
    text = yaml(t, tunnel, {"remote_client1": [
        ("tcp", app, f"127.0.0.1:{port}")]})
    one, two = install(t, "proxy-server", "one"), \
        install(t, "proxy-server", "two")
    link = t.dir / "bin" / "link"
    link.symlink_to(one)
    client = t.client(t.client_yaml(tunnel))

    def exe(daemon):
        return os.readlink(f"/proc/{daemon.pid}/exe")

    for program, env, path in (
            ("bin/proxy-server", {}, "bin/proxy-server"),
            ("./bin/../bin/proxy-server", {}, "bin/proxy-server"),
            ("proxy-server", {"PATH": f"/nowhere:{t.dir}/bin:" +
                              os.environ["PATH"]}, "bin/proxy-server"),
            (link, {}, "bin/one")):
        server = t.server("drain_timeout: 0s\n" + text, program=program,
                          env=env)
        client.wait_log("registered", timeout=30,
                        count=len(client.log("registered")) + 1)
        stream = Stream(t, port, b"one")
        t.eq(exe(server), str(t.dir / path), "the program")
        for _ in range(2):
            if program is link:
                new = t.dir / "bin" / "link.new"
                new.symlink_to(two)
                new.replace(link)
                path = "bin/two"
            else:
                os.unlink(t.dir / "bin" / "proxy-server")
                install(t, "proxy-server")
                time.sleep(0.02)
                renew(t, server)
            server.upgrade()
            t.eq(exe(server), str(t.dir / path), "the program now")
            stream.works()
            with open(f"/proc/{server.pid}/cmdline", "rb") as file:
                t.ok(os.fsencode(str(program)) in file.read().split(b"\0"),
                     "its name stays")
        server.stop()
        t.expect_reset(stream.socket)


# --- signals and processes --------------------------------------------------

def slow(t, program, seconds):
    """A program that takes its time, and is the real one then."""
    real = install(t, program, f"{program}-real")
    return script(t, t.dir / "bin" / program,
                  f'#!{t.program("bash")}\nsleep {seconds}\n'
                  f'exec -a "$0" {real} "$@"\n')


@scenario(283, "upgrade: SIGHUP and SIGTERM that come meanwhile are served")
def signals(t):
    one, two = words(t, b"one", b"two")
    server, client = pair(t, [("tcp", one)], "upgrade_timeout: 2s",
                          "upgrade_timeout: 20s")
    port = server.port()
    text = (t.dir / "server.yaml").read_text()
    path = t.dir / "bin" / "proxy-server"

    def begin(number, *daemons):
        for daemon in daemons:
            done = len(daemon.log("upgrading"))
            daemon.process.send_signal(signal.SIGUSR2)
            daemon.wait_log("upgrading", count=done + 1)
            daemon.process.send_signal(number)

    # It fails: the old one reads the file.
    script(t, path, "#!/bin/sh\nsleep 60\n")
    write(t, server, text.replace(str(one), str(two)))
    begin(signal.SIGHUP, server)
    server.wait_log("upgrade-failed")
    server.wait_log("reloaded")
    Stream(t, port, b"two").end()
    # It succeeds: the new one does.
    write(t, server, text.replace("2s", "20s"))
    server.process.send_signal(signal.SIGHUP)
    server.wait_log("reloaded", count=2)
    slow(t, "proxy-server", 1)
    begin(signal.SIGHUP, server)
    server.follow(failed=1)
    server.wait_log("reloaded", count=3)
    stream = Stream(t, port, b"one")
    stream.works()
    # To stop: the new ones do.
    stream.end()
    slow(t, "remote-client", 1)
    begin(signal.SIGTERM, client)
    client.follow()
    t.eq(client.wait_exit(20), 0, "the client's exit")
    client.expected = 0
    begin(signal.SIGTERM, server)
    server.follow(done=1, failed=1)
    t.eq(server.wait_exit(20), 0, "the server's exit")
    for daemon in (client, server):
        t.eq(len(daemon.log("stopping")), 1, "lines stopping")


@scenario(284, "upgrade: a second SIGUSR2 meanwhile is dropped, with a line")
def twice(t):
    app, = words(t, b"one")
    server, client = pair(t, [("tcp", app)], "upgrade_timeout: 3s",
                          "upgrade_timeout: 20s")
    path = t.dir / "bin" / "proxy-server"

    def both(daemon):
        done = len(daemon.log("upgrading"))
        daemon.process.send_signal(signal.SIGUSR2)
        daemon.wait_log("upgrading", count=done + 1)
        daemon.process.send_signal(signal.SIGUSR2)

    script(t, path, "#!/bin/sh\nsleep 60\n")
    both(server)
    server.wait_log("upgrade-failed")
    server.wait_log("upgrade-dropped")
    slow(t, "remote-client", 1)
    both(client)
    client.follow()
    t.eq(len(client.log("upgrade-dropped")), 1, "lines upgrade-dropped")
    t.stays(lambda: len(client.log("upgrading")) == 1 and
            len(server.log("upgrading")) == 1, 0.5, "one each")
    Stream(t, server.port(), b"one").end()


@scenario(285, "upgrade: in a drain it is not tried, and kills nobody")
def draining(t):
    app = t.app(echo)
    server, client = pair(t, [("tcp", app.port)], "drain_timeout: 20s",
                          "drain_timeout: 20s")
    stream = Stream(t, server.port())
    stream.works()
    for daemon in (server, client):
        daemon.process.send_signal(signal.SIGTERM)
        daemon.wait_log("stopping")
        daemon.process.send_signal(signal.SIGUSR2)
        daemon.wait_log("upgrade-dropped")
        stream.works()
        t.ok(daemon.alive(), "it goes on with what it has")
    stream.end()
    for daemon in (server, client):
        t.eq(daemon.wait_exit(20), 0, f"{daemon.name}: exit")
        t.eq(daemon.log("upgrading"), [], "upgrades tried")


@scenario(286, "upgrade: the first process of a container refuses")
def first_process(t):
    app, = words(t, b"one")
    unshare = t.program("unshare")
    tunnel, port = t.port(), t.port()
    server = t.server(
        yaml(t, tunnel, {"remote_client1": [
            ("tcp", app, f"127.0.0.1:{port}")]}),
        program=[unshare, "--pid", "--fork", "--kill-child",
                 install(t, "proxy-server")], wait_ready=False)
    t.until(lambda: server.log("ready") or not server.alive(), 20, "ready")
    if not server.log("ready"):
        server.ended, server.expected = True, None
        t.ok("Operation not permitted" in server.text(), server.text())
        return
    t.client(t.client_yaml(tunnel), registered=True)
    with open(f"/proc/{server.pid}/task/{server.pid}/children",
              encoding="ascii") as file:
        inside = int(file.read().split()[0])
    stream = Stream(t, port, b"one")
    os.kill(inside, signal.SIGUSR2)
    line = server.wait_log("upgrade-failed")
    t.ok("process 1" in line["reason"], f"the reason: {line}")
    stream.works()
    stream.end()
    os.kill(inside, signal.SIGTERM)
    server.wait_exit(20)


@scenario(287, "upgrade: thirty of them leave nothing behind")
def many(t):
    app = t.app(echo)
    server, client = pair(t, [("tcp", app.port)], client="tunnels: 2",
                          registered=2)
    streams = [Stream(t, server.port()) for _ in range(20)]

    def look(daemon):
        for stream in streams:
            stream.works()
        return wait_quiet(t, daemon), daemon.threads()

    for daemon in (server, client):
        daemon.upgrade()
    files = {daemon: look(daemon) for daemon in (server, client)}
    memory = {daemon: daemon.rss_kib() for daemon in (server, client)}
    for turn in range(scaled(t, 30, 5)):
        upgrade_both(t, server, client)
        for stream in streams:
            stream.works()
        if turn % 10 == 3:
            visitors = [Stream(t, server.port()) for _ in range(30)]
            for visitor in visitors:
                visitor.works()
                visitor.end()
    for daemon in (server, client):
        t.eq(look(daemon), files[daemon], f"{daemon.name}: files, threads")
        t.ok(daemon.rss_kib() <= memory[daemon] + 8192 * t.factor,
             f"{daemon.name}: {memory[daemon]} KiB, then {daemon.rss_kib()}")
        with open(f"/proc/{daemon.pid}/environ", "rb") as file:
            names = [e.split(b"=")[0] for e in file.read().split(b"\0")]
        t.eq(len(names), len(set(names)), "the environment did not grow")
    # None of them is there but the last: no zombies either.
    for daemon in (server, client):
        with open(f"/proc/{daemon.pid}/task/{daemon.pid}/children",
                  encoding="ascii") as file:
            t.eq(file.read().split(), [], "children")
    nothing_ended(t, server, client)


# --- service managers -------------------------------------------------------

class Manager:
    """What a service manager hears: (pid, text) of each message."""

    def __init__(self, t):
        self.t = t
        self.path = t.dir / "notify"
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self.socket.bind(str(self.path))
        self.socket.settimeout(20 * FACTOR)

    def next(self):
        text, more, _, _ = self.socket.recvmsg(4096, 64)
        pid = struct.unpack_from("i", more[0][2])[0]
        return pid, text.decode()


@scenario(288, "upgrade: what a service manager hears of it")
def notify(t):
    app, = words(t, b"one")
    for program in ("proxy-server", "remote-client"):
        manager = Manager(t)
        tunnel, port = t.port(), t.port()
        if program == "proxy-server":
            daemon = t.server(yaml(t, tunnel, {"remote_client1": [
                ("tcp", app, f"127.0.0.1:{port}")]}),
                program=install(t, program),
                env={"NOTIFY_SOCKET": str(manager.path)})
        else:
            daemon = t.client(t.client_yaml(tunnel),
                              program=install(t, program),
                              env={"NOTIFY_SOCKET": str(manager.path)})
        first = daemon.pid
        t.eq(manager.next(), (first, "READY=1"), "at the start")
        for _ in range(2):
            old = daemon.pid
            daemon.upgrade()
            t.eq(manager.next(), (old, f"MAINPID={daemon.pid}"), "the old one")
            t.eq(manager.next(), (daemon.pid, "READY=1"), "the new one")
        daemon.process.send_signal(signal.SIGHUP)
        pid, text = manager.next()
        t.eq(pid, daemon.pid, "who reloads")
        t.ok(text.startswith("RELOADING=1\nMONOTONIC_USEC="), text)
        t.eq(manager.next(), (daemon.pid, "READY=1"), "reloaded")
        # One that fails says nothing.
        script(t, t.dir / "bin" / program, "#!/bin/sh\nexit 3\n")
        daemon.upgrade_fails()
        daemon.process.send_signal(signal.SIGTERM)
        t.eq(manager.next(), (daemon.pid, "STOPPING=1"), "at the end")
        t.eq(daemon.wait_exit(20), 0, "exit")
        daemon.expected = 0
        manager.socket.close()
        os.unlink(manager.path)


# Listens, and becomes the program: sockets from descriptor 3 on.
LAUNCHER = """#!{python}
import os, socket, sys
n, argv = int(sys.argv[1]), sys.argv[2:]
ports, argv = [int(p) for p in argv[:n]], argv[n:]
made = []
for port in ports:
    s = socket.socket()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.bind(("127.0.0.1", port))
    s.listen(100)
    made.append(os.dup2(s.fileno(), 50 + len(made), inheritable=False))
    s.detach()
for i, fd in enumerate(made):
    os.dup2(fd, 3 + i, inheritable=True)
os.environ["LISTEN_FDS"] = str(n)
os.environ["LISTEN_PID"] = str(os.getpid())
os.execv(argv[0], argv)
"""


@scenario(289, "upgrade: sockets of a service manager are used and go along")
def activation(t):
    app, = words(t, b"one")
    launcher = script(t, install(t, "proxy-server").with_name("launcher"),
                      LAUNCHER.format(python=sys.executable))
    tunnel, port, unwanted = t.port(), t.port(), t.port()
    server = t.server(
        yaml(t, tunnel, {"remote_client1": [
            ("tcp", app, f"127.0.0.1:{port}")]}, "workers: 1"),
        program=[launcher, 3, tunnel, port, unwanted,
                 install(t, "proxy-server")])
    sockets = listening(server, tunnel), listening(server, port)
    t.eq((len(sockets[0]), len(sockets[1])), (1, 1), "sockets")
    t.ok(nobody_listens(t, unwanted), "one that the file does not want")
    t.client(t.client_yaml(tunnel), registered=True)
    stream = Stream(t, port, b"one")
    for _ in range(3):
        server.upgrade()
        t.eq((listening(server, tunnel), listening(server, port)), sockets,
             "the sockets are the same")
        with open(f"/proc/{server.pid}/environ", "rb") as file:
            t.ok(b"LISTEN_" not in file.read(), "the environment")
        stream.works()
        Stream(t, port, b"one").end()


# --- much of it -------------------------------------------------------------

@scenario(290, "upgrade: thousands of idle streams")
def idle(t):
    tool = t.tool("echo", "0")
    server, client = pair(t, [("tcp", tool.port())])
    streams = [Stream(t, server.port()) for _ in range(scaled(t, 2000, 200))]
    for stream in streams:
        stream.works()
    for daemon in (server, client, server, client):
        daemon.upgrade(60)
    upgrade_both(t, server, client)
    for stream in streams:
        stream.works()
    for stream in streams:
        stream.socket.close()
    nothing_ended(t, server, client)


@scenario(291, "upgrade: a name is removed, and added again")
def names(t):
    one, two = words(t, b"one", b"two")
    tunnel, first, second, third = (t.port() for _ in range(4))
    remotes = {"one": [("tcp", one, f"127.0.0.1:{first}")],
               "two": [("tcp", two, f"127.0.0.1:{second}")],
               "three": [("tcp", two, f"127.0.0.1:{third}")]}
    more = f"wait_for_remote: 100s\nstate_dir: {t.dir / 'state'}"
    every = yaml(t, tunnel, remotes, more)
    fewer = yaml(t, tunnel, {"one": remotes["one"]}, more)
    server = t.server(every, program=install(t, "proxy-server"))
    clients = {name: t.client(t.client_yaml(tunnel, "tunnels: 1", remote=name),
                              name=name, registered=True)
               for name in ("one", "two")}
    stream = Stream(t, second, b"two")
    waiting = [t.connect(third) for _ in range(5)]
    write(t, server, fewer)
    server.upgrade()
    for visitor in waiting:
        t.eq(t.expect_reset(visitor), b"", "bytes of nobody")
    clients["two"].wait_log("going-away")
    stream.works()
    for port in (second, third):
        t.ok(nobody_listens(t, port), "listeners of names that are gone")
    Stream(t, first, b"one").end()
    write(t, server, every)
    server.upgrade()
    stream.works()
    clients["two"].wait_log("registered", count=2, timeout=60)
    Stream(t, second, b"two").end()
    stream.works()
    stream.end()
    t.eq(len(clients["one"].log("registered")), 1, "registrations of the other")
