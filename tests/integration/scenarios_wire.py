"""The wire, 100-199: the daemons against peers that were written from
protocol/PROTOCOL.md alone (wire.py).

100-119 classic, against proxy-server; 120-139 classic, against remote-client;
140-153 extended, against proxy-server; 154-169 extended, against
remote-client; 170-189 hostile input; 190-199 properties.

WIRE_SEED names the seed of the random scenarios.
"""
import os
import random
import select
import socket
import threading
import time

import wire
from harness import Failed, read_exactly, read_to_end, reset, scenario
from wire import (CLIENT_BIT, CLOSE, CONNECTED, END, E_MALFORMED_NAME,
                  E_NAME_IN_USE, E_NOT_HELD, E_NOT_READ, E_PROTOCOL,
                  E_REPLACED, E_SHUTTING_DOWN, E_SILENT, E_TOO_SLOW,
                  E_UNKNOWN_NAME, E_VERSION, HALF_CLOSE, HELLO, NOT_ALLOWED,
                  NO_RESOURCES, OPEN, OPENED, REFUSED, REGISTERED, RESET,
                  TIMED_OUT, UNSUPPORTED, ClassicClient, ClassicServer,
                  ExtendedClient, ExtendedServer, Instance, Listener,
                  Verifier, WireError, close, data, heartbeat,
                  initial_connection, initial_remote, pattern, split_all)

TARGET = 5678       # nothing listens there: the peer is the application
KIB, MIB = 1024, 1024 * 1024

# The longest name: 255 bytes, of one, two, three and four bytes a letter.
LONG_NAME = "a\u00e9\u20ac\U0001f40b" * 25 + "nam\u00e9"
assert len(LONG_NAME.encode()) == 255


def quoted(name):
    return '"' + name + '"'


def echo(connection):
    try:
        while piece := connection.recv(65536):
            connection.sendall(piece)
        connection.shutdown(socket.SHUT_WR)
    except OSError:
        pass


def scaled(t, n, least=1):
    return max(least, int(n * t.scale))


def rest(seconds):
    """Time in which nothing may happen."""
    time.sleep(seconds)


class Findings(list):
    """What a table of cases found; all of it is reported at the end."""

    def run(self, what, function, *args):
        try:
            function(*args)
        except (WireError, Failed) as error:
            self.append(f"{what}: {error}")

    def check(self, t, cases):
        t.ok(not self, f"{len(self)} of {cases} cases:\n" + "\n".join(self))


class Memory:
    """The resident memory of a daemon may not grow by more than limit."""

    def __init__(self, t, daemon):
        self.t, self.daemon = t, daemon
        self.before = daemon.rss_kib()

    def peak_kib(self):
        """The most that there ever was."""
        with open(f"/proc/{self.daemon.pid}/status", encoding="ascii") as f:
            for line in f:
                if line.startswith("VmHWM:"):
                    return int(line.split()[1])
        return 0

    def check(self, mib, what):
        """It did not grow by more than mib, not even for a moment."""
        # The sanitizers keep what was freed for a while.
        mib += 150 if self.t.san else 0
        grown = (self.peak_kib() - self.before) // KIB
        self.t.ok(grown <= mib, f"{what}: {self.daemon.name} grew by "
                  f"{grown} MiB, more than {mib}")


class Site:
    """A proxy-server for peers of ours.

    names: a listener each, to TARGET.  bystander: a real remote-client with
    a live stream, which check() uses; it has to go on whatever happens
    beside it.
    """

    def __init__(self, t, *names, more="", bystander=False):
        self.t = t
        names = names or ("x",)
        remotes = {}
        if bystander:
            self.app = t.app(echo)
            remotes["good"] = [("tcp", self.app.port)]
        for name in names:
            remotes[quoted(name)] = [("tcp", TARGET)]
        if "workers:" not in more:
            more += "workers: 2\n"
        self.server = t.server(t.server_yaml(remotes, more))
        self.tunnel = self.server.port("tunnel")
        self.ports = {name.strip('"'): self.server.port("visitors", i)
                      for i, name in enumerate(remotes)}
        self.live = None
        if bystander:
            t.client(t.client_yaml(self.tunnel, remote="good"),
                     registered=True)
            self.live = t.connect(self.ports["good"])
            self.checks = 0
            self.check()
        self.memory = Memory(t, self.server)

    def lives(self):
        """No session has ended; a line may come a little late."""
        self.t.stays(lambda: not self.server.log("session-ended"), 0.1,
                     "no session ends")

    def visit(self, name="x"):
        return self.t.connect(self.ports[name])

    def check(self):
        """The bystander's stream lives, and so does the daemon."""
        if self.live is None:
            return
        self.checks += 1
        text = pattern(self.checks, 0, 3000)
        self.live.sendall(text)
        self.t.ok(read_exactly(self.live, 3000) == text,
                  "the bystander's echo")
        for event in ("session-ended", "session-parked"):
            self.t.eq(self.server.log(event, remote="good"), [],
                      "the bystander's session")

    def classic(self, name="x", **options):
        return ClassicClient(self.tunnel, name, **options)

    def extended(self, name="x", **options):
        return ExtendedClient(self.tunnel, name, start=True, **options)

    def pair(self, p, name="x"):
        """A visitor and its stream at the peer p (not answered yet when p
        is extended and asks for it)."""
        v = self.visit(name)
        return v, p.accept_stream()

    def logged_once(self, peer, what):
        """At most one line for this peer (they may be held back)."""
        address = "127.0.0.1:%d" % peer
        lines = [e for e in self.server.log(peer=address)
                 if e["event"] in ("peer-dropped", "session-ended")]
        self.t.ok(len(lines) <= 1, f"{what}: {lines}")
        return lines


def local_port(p):
    return p.sock.getsockname()[1]


class Far:
    """A remote-client, and the extended server that it dials."""

    def __init__(self, t, more="", name="x", tunnels=1):
        self.t = t
        self.server = ExtendedServer()
        self.client = t.client(t.client_yaml(
            self.server.port, f"tunnels: {tunnels}\nworkers: 1\n{more}",
            remote=quoted(name)))
        self.memory = Memory(t, self.client)

    def peer(self, timeout=10):
        """The next session.  A dial that waited here for too long is given
        up by the remote-client; then it is the one behind it."""
        end_at = time.monotonic() + timeout * wire.FACTOR
        while True:
            p = self.server.accept_raw(timeout)
            try:
                return p.handshake(timeout)
            except WireError:
                if p.closed is None or time.monotonic() > end_at:
                    raise
            p.shut()


class FullListener:
    """A listening socket whose backlog is full: a connect hangs until
    let_in()."""

    def __init__(self):
        self.listener = Listener(backlog=0)
        self.port = self.listener.port
        self.fillers = []
        for _ in range(8):
            s = socket.socket()
            s.settimeout(0.1)
            try:
                s.connect(("127.0.0.1", self.port))
            except (socket.timeout, BlockingIOError):
                s.close()
                return
            self.fillers.append(s)
        raise WireError("the backlog does not fill")

    def let_in(self, hanging):
        """Accept what fills it, once that many connects hang; they come
        with their next SYN."""
        end_at = time.monotonic() + 10 * wire.FACTOR
        while wire.connecting(self.port) < hanging:
            if time.monotonic() > end_at:
                raise WireError(f"no {hanging} connects to {self.port}")
            time.sleep(0.001)
        self.listener.sock.listen(64)
        for s in self.fillers:
            self.listener.accept().close()
            s.close()
        self.fillers = []

    def accept(self, timeout=10):
        return self.listener.accept(timeout)


# =================================================================== classic
# ------------------------------------------------- against proxy-server: 100

@scenario(100, "classic client: every instruction byte by byte")
def classic_bytes(t):
    site = Site(t)
    p = ClassicClient(site.tunnel, beat=False)
    p.dribble(initial_remote("x") + heartbeat() + heartbeat(), p.drained)
    for _ in range(2):
        v, s = site.pair(p)
        t.eq(s.port, TARGET, "the target port")
        p.dribble(data(s.identity, b"hello") + heartbeat()
                  + data(s.identity, b"") + data(s.identity, b"world"),
                  p.drained)
        t.eq(read_exactly(v, 10), b"helloworld", "the visitor's data")
        v.sendall(b"answer")
        t.eq(p.read(s.identity, 6), b"answer", "the peer's data")
        s.closed_by_us = True
        p.dribble(close(s.identity), p.drained)
        t.expect_eof(v, b"")
    site.lives()


@scenario(101, "classic client: an exchange in two sends, cut everywhere")
def classic_cut(t):
    site = Site(t, "n\u00e4me")
    p = None
    for first, second in split_all(initial_remote("n\u00e4me") + heartbeat()):
        old, p = p, ClassicClient(site.tunnel, beat=False)
        p.raw(first)
        p.drained()
        p.raw(second)
        if old is not None:
            old.expect_closed()
        v, s = site.pair(p, "n\u00e4me")
        p.send(data(s.identity, b"hi"))
        t.eq(read_exactly(v, 2), b"hi", "the visitor's data")
        v.close()
        p.until_close(s.identity)
    sample = heartbeat() + data(0, b"hello") + heartbeat() + close(0)
    for cut in range(1, len(sample)):
        v, s = site.pair(p, "n\u00e4me")
        raw = (heartbeat() + data(s.identity, b"hello") + heartbeat()
               + close(s.identity))
        s.closed_by_us = True
        p.raw(raw[:cut])
        p.drained()
        p.raw(raw[cut:])
        t.expect_eof(v, b"hello", f"cut at {cut}")


@scenario(102, "classic client: many instructions in one segment")
def classic_segment(t):
    site = Site(t, more="wait_for_remote: 10s\n")
    p = ClassicClient(site.tunnel)
    p.send(initial_remote("x"), heartbeat(), heartbeat(), heartbeat(),
           data(0x7F0000010050, b"for nobody"), close(0x7F0000010050),
           data(0, b""), heartbeat())
    pairs = [site.pair(p) for _ in range(5)]
    parts = [heartbeat()]
    for n in range(3):
        for i, (_, s) in enumerate(pairs):
            parts.append(data(s.identity, b"%d:%d " % (i, n)))
        parts.append(heartbeat())
    for _, s in pairs:
        s.closed_by_us = True
        parts.append(close(s.identity))
    p.send(*parts, heartbeat())
    for i, (v, _) in enumerate(pairs):
        t.expect_eof(v, b"%d:0 %d:1 %d:2 " % (i, i, i))
    p.flush()
    site.lives()


@scenario(103, "classic client: data and closes for unknown identities")
def classic_unknown(t):
    site = Site(t)
    p = site.classic()
    v1, s1 = site.pair(p)
    v2, s2 = site.pair(p)
    for identity in (0, 1000, (1 << 48) - 1, 0x0A0102031234):
        t.ok(identity not in p.streams, "an identity that is live")
        p.send(data(identity, b"lost"), close(identity),
               data(identity, b""), close(identity))
    p.send(data(s1.identity, b"first"), close(s1.identity))
    s1.closed_by_us = True
    t.expect_eof(v1, b"first")
    p.send(data(s1.identity, b"too late"), close(s1.identity),
           close(s1.identity), data(s1.identity, bytes(100000)))
    p.send(data(s2.identity, b"second"))
    t.eq(read_exactly(v2, 6), b"second", "the other stream")
    v2.sendall(b"back")
    t.eq(p.read(s2.identity, 4), b"back", "the other stream, up")
    t.eq(s1.closed_by_them, False, "InsCloseConnection was answered")


@scenario(104, "classic client: nothing for an identity after our close")
def classic_after_close(t):
    site = Site(t)
    p = site.classic()
    for _ in range(3):
        v1, s1 = site.pair(p)
        p.reading = False
        v1.setblocking(False)
        blocked = [None]

        def fill():
            try:
                while True:
                    v1.send(bytes(65536))
                    blocked[0] = None
            except BlockingIOError:
                if blocked[0] is None:
                    blocked[0] = time.monotonic()
            return time.monotonic() - blocked[0] > 0.2
        t.until(fill, what="the visitor's sends block", timeout=30)
        p.send_close(s1.identity)

        v1.settimeout(10 * t.factor)
        t.eq(read_to_end(v1)[0], b"", "the visitor gets no data")
        v2 = site.visit()
        p.reading = True
        s2 = p.accept_stream()
        late = s1.late
        v2.sendall(b"x")
        p.read(s2.identity, 1)
        p.send_close(s2.identity)
        t.expect_eof(v2, b"")
        rest(0.05)
        p.pump()
        t.eq(s1.late, late, "instructions for the closed identity")
        t.eq(s1.closed_by_them, False, "InsCloseConnection was answered")


@scenario(105, "classic client: names of 1 and 255 bytes")
def classic_names(t):
    site = Site(t, "x", LONG_NAME)
    for name in (LONG_NAME, "x"):
        p = site.classic(name)
        v, s = site.pair(p, name)
        v.sendall(b"up")
        t.eq(p.read(s.identity, 2), b"up", f"name {name[:4]}")
    site.server.wait_log("registered", count=2, dialect="classic")


@scenario(106, "classic client: 64 MiB each way through one identity")
def classic_volume(t):
    total = scaled(t, 64 * MIB, MIB)
    site = Site(t)
    p = site.classic()
    v, s = site.pair(p)
    s.sink = up = Verifier(1, "to the peer")
    down = Verifier(2, "to the visitor")

    def send():
        for at in range(0, total, 1 << 18):
            v.sendall(pattern(1, at, min(1 << 18, total - at)))

    def receive():
        while down.got < total:
            down(v.recv(1 << 18) or t.fail("end of file"))
    threads = [t.thread(send), t.thread(receive)]
    sizes = random.Random(4)
    at = 0
    while up.got < total or at < total or p.out:
        if at < total and len(p.out) < 4 * MIB:
            n = min(sizes.choice((1, 100, 65536, 1 << 20)), total - at)
            p.push(data(s.identity, pattern(2, at, n)))
            at += n
        else:
            before = p.received, len(p.out)
            p.pump(0.05)
            if before == (p.received, len(p.out)) \
                    and time.monotonic() - p.last_received > 20 * t.factor:
                t.fail(f"stuck: up {up.got}, down {down.got} of {total}")
    for thread in threads:
        thread.join()
    site.memory.check(32, "64 MiB each way")


@scenario(107, "classic client: an InsData of 32 MiB, and one that never ends")
def classic_long_data(t):
    total = scaled(t, 32 * MIB, MIB)
    site = Site(t)
    p = site.classic(beat=False)
    v, s = site.pair(p)
    v2, s2 = site.pair(p)
    body = pattern(3, 0, total)
    sender = t.thread(p.raw, data(s.identity, body)
                      + data(s2.identity, b"behind"), 60)
    check = Verifier(3)
    while check.got < total:
        check(v.recv(1 << 18) or t.fail(f"end of file at {check.got}"))
    sender.join()
    t.eq(read_exactly(v2, 6), b"behind", "what came behind the long InsData")
    site.memory.check(32, "an InsData of 32 MiB")
    p.raw(data(s.identity, b"", 0xFFFFFFFF))
    piece = pattern(9, 0, 65521)
    for i in range(48):
        p.raw(piece)
        t.ok(read_exactly(v, len(piece)) == piece, f"piece {i}")
    site.memory.check(32, "an InsData that never ends")
    p.shut()
    read_to_end(v)


@scenario(109, "classic client: both ends of file, resets, refusals")
def classic_ends(t):
    site = Site(t)
    p = site.classic()
    big = pattern(5, 0, 3 * MIB)
    # The peer closes: everything before it is delivered.
    v, s = site.pair(p)
    sender = t.thread(p.send, data(s.identity, big), close(s.identity))
    s.closed_by_us = True
    t.expect_eof(v, big)
    sender.join()
    # The visitor's end of file: all its data, then InsCloseConnection, and
    # what we send after that is lost without harm.
    v, s = site.pair(p)
    sender = t.thread(v.sendall, big)
    got = p.read(s.identity, len(big))
    t.ok(got == big, "the visitor's data")
    sender.join()
    v.sendall(b"last words")
    v.shutdown(socket.SHUT_WR)
    p.until_close(s.identity)
    t.eq(bytes(s.rx), b"last words", "what came before the end")
    p.send(data(s.identity, b"lost"), close(s.identity))
    t.expect_eof(v, b"")
    # The visitor's reset.
    v, s = site.pair(p)
    v.sendall(b"x")
    p.read(s.identity, 1)
    reset(v)
    p.until_close(s.identity)
    # The target is refused.
    v, s = site.pair(p)
    p.send_close(s.identity)
    t.eq(read_to_end(v)[0], b"", "a refused visitor")
    # Data and close in one segment, right behind the open.
    v, s = site.pair(p)
    s.closed_by_us = True
    p.send(data(s.identity, b"short"), close(s.identity))
    t.expect_eof(v, b"short")
    site.lives()


@scenario(111, "classic client: heartbeats of any timing")
def classic_heartbeats(t):
    site = Site(t)
    p = site.classic(beat=False)
    v, s = site.pair(p)
    p.send(*[heartbeat()] * 20000)
    p.send(data(s.identity, b"a"), *[heartbeat()] * 3)
    t.eq(read_exactly(v, 1), b"a", "data behind many heartbeats")
    rest(1.5)
    p.raw(heartbeat()[:1])
    p.drained()
    p.raw(heartbeat()[1:])
    p.send(data(s.identity, b"b"))
    t.eq(read_exactly(v, 1), b"b", "data after a pause")


@scenario(112, "classic client: the newer one replaces the older")
def classic_replaces(t):
    site = Site(t, "x", "y")
    other = site.classic("y")
    vy, sy = site.pair(other, "y")
    p = site.classic()
    for i in range(3):
        v, s = site.pair(p)
        v.sendall(b"x")
        p.read(s.identity, 1)
        old, p = p, site.classic()
        old.expect_closed()
        t.eq(read_to_end(v)[0], b"", "the old session's visitor")
        v, s = site.pair(p)
        p.send(data(s.identity, b"new"))
        t.eq(read_exactly(v, 3), b"new", "the new one's visitor")
        site.server.wait_log("session-ended", count=i + 1, remote="x")
    vy.sendall(b"still here")
    t.eq(other.read(sy.identity, 10), b"still here", "the other name")


def push_until_blocked(t, p, chunk, most=256 * MIB):
    """Send until the daemon reads no more."""
    sent = 0
    quiet = time.monotonic()
    while time.monotonic() - quiet < 0.5:       # less than any stall
        before = len(p.out)
        if before < MIB:
            p.push(chunk)
            sent += len(chunk)
            before = len(p.out)
        p.pump(0.02)
        if len(p.out) < before:
            quiet = time.monotonic()
        t.ok(sent < most, f"the daemon took {sent} bytes that nobody reads")


@scenario(113, "classic client: stalled visitors, silent peers")
def classic_stall(t):
    slow = Site(t, "a", more="heartbeat_interval: 200ms\n"
                "classic_stall: 7s\n")
    fast = Site(t, "b", "silent", "c",
                more="heartbeat_interval: 200ms\nclassic_stall: 1s\n")
    silent = fast.classic("silent", beat=False)
    silent_since = time.monotonic()
    fast.server.wait_log("registered", remote="silent")
    other = fast.classic("c")
    vc, sc = fast.pair(other, "c")
    # The silence limit is 5 s; the long stall passes it.
    a = slow.classic("a")
    va, sa = slow.pair(a, "a")
    va2, sa2 = slow.pair(a, "a")
    push_until_blocked(t, a, data(sa.identity, bytes(65536)))
    a_blocked = time.monotonic()
    a.push(data(sa2.identity, b"behind"))
    # The short one: its visitor is closed, the others go on.
    b = fast.classic("b")
    vb, sb = fast.pair(b, "b")
    vb2, sb2 = fast.pair(b, "b")
    push_until_blocked(t, b, data(sb.identity, bytes(65536)))
    b.push(data(sb2.identity, b"behind"))
    b.until(lambda: sb.closed_by_them, "the stalled visitor is closed",
            others=(a, other, silent))
    b.until(lambda: not b.out, "the tunnel goes on", others=(a, other))
    t.eq(read_exactly(vb2, 6), b"behind", "the data behind the stall")
    vb2.sendall(b"up")
    t.eq(b.read(sb2.identity, 2), b"up", "the other visitor")
    read_to_end(vb)
    slow.memory.check(32, "a stalled visitor")
    fast.memory.check(32, "a stalled visitor")
    # Silence.
    other.until(lambda: silent.closed, "the silent peer is dropped",
                others=(a, b, silent))
    waited = time.monotonic() - silent_since
    t.ok(waited >= 4.9, f"the silent peer was dropped after {waited:.2f} s")
    fast.server.wait_log("session-ended", remote="silent")
    # The long stall is over at last, and nobody was dropped for it.
    a.until(lambda: sa.closed_by_them or a.closed,
            "the stalled visitor is closed", others=(b, other))
    t.eq(a.closed, None, "the tunnel that the daemon did not read")
    t.ok(time.monotonic() - a_blocked > 5.0, "the stall was shorter than "
         "the silence limit: this test tests nothing")
    a.until(lambda: not a.out, "the tunnel goes on", others=(b, other))
    t.eq(read_exactly(va2, 6), b"behind", "the data behind the stall")
    vc.sendall(b"hello")
    t.eq(other.read(sc.identity, 5), b"hello", "the other name")
    t.eq(other.closed or b.closed, None, "the others")


# ------------------------------------------------ against remote-client: 120

class ClassicFar:
    def __init__(self, t, more="", name="x"):
        self.t = t
        self.server = ClassicServer()
        self.client = t.client(t.client_yaml(
            self.server.port, "workers: 1\n" + more, remote=quoted(name),
            dialect="classic"))
        self.p = self.server.accept_peer()
        self.memory = Memory(t, self.client)
        self.identity = 0x7F0000010000

    def connect(self, port, *more):
        """A stream with an identity as the original programs make them."""
        self.identity += 1
        return self.p.connect(self.identity, port, *more)

    def pair(self, app):
        s = self.connect(app.port)
        return app.accept(), s


@scenario(121, "classic server: an exchange byte by byte, and cut everywhere")
def classic_server_cut(t):
    far = ClassicFar(t)
    p, app = far.p, Listener()

    def exchange(send):
        far.identity += 1
        i = far.identity
        p.streams[i] = wire.ClassicStream(i, app.port)
        p.streams[i].closed_by_us = True
        send(initial_connection(i, app.port) + data(i, b"hello")
             + data(i, b"") + close(i))
        a = app.accept()
        t.expect_eof(a, b"hello", "the application")
        a.close()
    exchange(lambda raw: p.dribble(raw, p.drained))
    for cut in range(1, 10 + 17 + 12 + 8):
        def in_two(raw):
            p.raw(raw[:cut])
            p.drained()
            p.raw(raw[cut:])
        exchange(in_two)


@scenario(122, "classic server: many instructions in one segment")
def classic_server_segment(t):
    far = ClassicFar(t)
    p, app = far.p, Listener()
    parts = []
    for i in range(8):
        far.identity += 1
        p.streams[far.identity] = wire.ClassicStream(far.identity, app.port)
        p.streams[far.identity].closed_by_us = True
        parts += [initial_connection(far.identity, app.port)]
    for n in range(3):
        for i in range(8):
            parts.append(data(far.identity - i, b"%d:%d " % (i, n)))
    parts += [close(far.identity - i) for i in range(8)]
    # One identity three times over: it is free as soon as it is closed.
    again = 0x0A0000010007
    p.streams[again] = wire.ClassicStream(again, app.port)
    p.streams[again].closed_by_us = True
    for n in range(3):
        parts += [initial_connection(again, app.port),
                  data(again, b"again %d" % n), close(again)]
    p.send(*parts)
    got = sorted(t.expect_eof(app.accept()) for _ in range(11))
    t.eq(got, sorted([b"%d:0 %d:1 %d:2 " % (i, i, i) for i in range(8)]
                     + [b"again %d" % n for n in range(3)]),
         "what the applications got")


@scenario(123, "classic server: identities, refusals, targets not allowed")
def classic_server_identities(t):
    app = t.app(echo)
    free = t.port()
    denied = t.app(echo)
    far = ClassicFar(t, f'allow_targets: ["127.0.0.1:{app.port}", '
                     f'"127.0.0.1:{free}"]\n')
    p = far.p
    original = int.from_bytes(socket.inet_aton("192.168.3.77"), "big") << 16
    identities = (original | 49152, original | 49153, 0, 1, 1 << 47,
                  (1 << 48) - 1)
    for i in identities:
        p.connect(i, app.port)
    for n in range(2):
        for i in identities:
            p.send(data(i, b"%d:%d" % (n, i)))
        for i in identities:
            text = b"%d:%d" % (n, i)
            t.eq(p.read(i, len(text)), text, f"identity {i:#x}")
    for i in identities[:3]:
        p.send_close(i)
    p.connect(identities[0], app.port, data(identities[0], b"once more"))
    t.eq(p.read(identities[0], 9), b"once more", "an identity used again")
    for port in (free, denied.port):
        s = p.connect(0x555500000000 | port, port,
                      data(0x555500000000 | port, b"lost"))
        p.until_close(s.identity)
    t.eq(denied.accepted, 0, "connections to a target that is not allowed")
    far.client.wait_log("target-denied")
    # Unknown and closed identities.
    p.send(data(77, b"lost"), close(77), close(77), data(identities[1], b"x"),
           close(identities[1]), data(identities[5], b"and on"))
    t.eq(p.read(identities[5], 6), b"and on", "the other streams")


@scenario(125, "classic server: ends of file, resets, a slow connect")
def classic_server_ends(t):
    far = ClassicFar(t)
    p, app = far.p, Listener()
    big = pattern(5, 0, 3 * MIB)
    full = FullListener()
    slow = far.connect(full.port, data(far.identity + 1, big[:200000]))
    # The application's end of file.
    full.let_in(1)
    a = full.accept()
    t.ok(read_exactly(a, 200000) == big[:200000],
         "data that came before the connection")
    a.sendall(b"bye")
    a.shutdown(socket.SHUT_WR)
    p.until_close(slow.identity)
    t.eq(bytes(slow.rx), b"bye", "what the application said")
    a, s = far.pair(app)
    sender = t.thread(a.sendall, big)
    t.ok(p.read(s.identity, len(big)) == big, "the application's data")
    sender.join()
    a.shutdown(socket.SHUT_WR)
    p.until_close(s.identity)
    p.send(data(s.identity, b"lost"))
    t.expect_eof(a, b"")
    # Ours.
    a, s = far.pair(app)
    s.closed_by_us = True
    sender = t.thread(p.send, data(s.identity, big), close(s.identity))
    t.expect_eof(a, big)
    sender.join()
    # The application's reset.
    a, s = far.pair(app)
    reset(a)
    p.until_close(s.identity)
    t.eq(far.client.log("session-ended"), [], "the session lives")


@scenario(127, "classic server: 64 MiB each way, and frames without end")
def classic_server_volume(t):
    total = scaled(t, 64 * MIB, MIB)
    far = ClassicFar(t)
    p, app = far.p, Listener()
    a, s = far.pair(app)
    s.sink = up = Verifier(1, "to the peer")
    down = Verifier(2, "to the application")

    def send():
        for at in range(0, total, 1 << 18):
            a.sendall(pattern(1, at, min(1 << 18, total - at)))

    def receive(until):
        while down.got < until:
            down(a.recv(1 << 18) or t.fail("end of file"))
    threads = [t.thread(send), t.thread(receive, total)]
    # The way down is two frames.
    p.push(data(s.identity, pattern(2, 0, total // 2))
           + data(s.identity, pattern(2, total // 2, total - total // 2)))
    p.until(lambda: not p.out and up.got == total, "64 MiB each way", 60)
    for thread in threads:
        thread.join()
    far.memory.check(32, "64 MiB each way")
    p.raw(data(s.identity, b"", 0xFFFFFFFF))
    piece = pattern(9, 0, 65521)
    for i in range(48):
        p.raw(piece)
        t.ok(read_exactly(a, len(piece)) == piece, f"piece {i}")
    far.memory.check(32, "an InsData that never ends")


@scenario(128, "classic server: nothing for an identity after our close")
def classic_server_after_close(t):
    far = ClassicFar(t)
    p, app = far.p, Listener()
    for _ in range(3):
        a, s = far.pair(app)
        b, s2 = far.pair(app)
        p.reading = False
        a.settimeout(0.3 * t.factor)
        try:
            while True:
                a.sendall(bytes(65536))
        except (TimeoutError, BlockingIOError):
            pass
        p.send_close(s.identity)
        a.settimeout(10 * t.factor)
        t.eq(read_to_end(a)[0], b"", "the application gets no data")
        b.sendall(b"barrier")
        p.reading = True
        p.read(s2.identity, 7)
        late = s.late
        b.sendall(b"barrier")
        p.read(s2.identity, 7)
        b.close()
        p.until_close(s2.identity)
        rest(0.05)
        p.pump()
        t.eq(s.late, late, "instructions for the closed identity")
        t.eq(s.closed_by_them, False, "InsCloseConnection was answered")


@scenario(129, "classic server: registration, heartbeats, a stalled application")
def classic_server_stall(t):
    far = ClassicFar(t, "classic_stall: 3s\n", LONG_NAME)
    p, app = far.p, Listener()
    t.eq(p.name, LONG_NAME, "the name")
    a, s = far.pair(app)
    b, s2 = far.pair(app)
    push_until_blocked(t, p, data(s.identity, bytes(65536)))
    beats = len(p.beats)
    p.push(data(s2.identity, b"behind"))
    p.until(lambda: s.closed_by_them, "the stalled application is closed")
    t.ok(len(p.beats) >= beats + 2, "heartbeats while the daemon did not "
         f"read: {len(p.beats) - beats}")
    p.until(lambda: not p.out, "the tunnel goes on")
    t.eq(read_exactly(b, 6), b"behind", "the data behind the stall")
    b.sendall(b"up")
    t.eq(p.read(s2.identity, 2), b"up", "the other stream")
    read_to_end(a)
    p.until(lambda: len(p.beats) >= 6, "heartbeats")
    took = p.beats[-1] - p.beats[0]
    t.ok(took > 0.7 * (len(p.beats) - 1), f"{len(p.beats)} heartbeats "
         f"within {took:.1f} s: more than each second")
    far.memory.check(32, "a stalled application")


@scenario(130, "classic server: what it may not say")
def classic_server_violations(t):
    bad = {"number 5": wire.u16(5), "InsHello": wire.hello_server(),
           "number 0xFFFF": wire.u16(0xFFFF), "heartbeat": heartbeat(),
           "registration": initial_remote("x")}
    fars = [(what, raw, ClassicFar(t)) for what, raw in bad.items()]
    for what, raw, far in fars:
        app = Listener()
        a, s = far.pair(app)
        far.p.send(data(s.identity, b"before"))
        t.eq(read_exactly(a, 6), b"before", "the application")
        far.p.raw(raw)
        far.p.expect_closed()
        read_to_end(a)
        far.client.wait_log("session-ended")
    for what, raw, far in fars:
        p = far.server.accept_peer(40)
        t.eq(p.name, "x", f"{what}: the next registration")


# ================================================================== extended
# ------------------------------------------------- against proxy-server: 140

@scenario(140, "extended client: the handshake, step by step")
def extended_handshake(t):
    site = Site(t)
    p = ExtendedClient(site.tunnel)
    p.dribble(wire.hello_client(), p.drained)
    h = p.wait_hello()
    t.eq((h.version, h.features), (1, 0), "InsHello")
    p.who.serial = 1
    p.dribble(wire.register("x", p.who.instance, 1, 0), p.drained)
    sessions = [p.wait_registered().session]
    e = site.server.wait_log("registered", remote="x", dialect="extended")
    t.eq(e["peer"], "127.0.0.1:%d" % local_port(p), "peer in the log")
    p.ping()
    nonces = {h.nonce}
    # Whatever else may stand there.
    unknown = wire.field(0x7000, bytes(300)) + wire.field(9)
    filled = wire.field(0x0123, bytes(1024 - 42 - 4))
    for features, fields in (((1 << 64) - 1, unknown), (0, filled)):
        q = ExtendedClient(site.tunnel, instance=p.who)
        q.hello_(features=features, fields=fields, version=0xFFFF)
        h2 = q.wait_hello()
        t.eq((h2.version, h2.features), (1, 0), "InsHello's answer")
        t.eq((h2.instance, h2.start), (h.instance, h.start), "the instance")
        t.ok(h2.nonce not in nonces, "the nonce is fresh")
        nonces.add(h2.nonce)
        q.register_(held=[sessions[0]], software="s" * 64,
                    extra=wire.field(0x1234, b"?"))
        sessions.append(q.wait_registered().session)
        q.ping()
        p.who.held = [sessions[0]]
        q.shut()
    # Fields in another order; the longest payload; a thousand sessions.
    for i in range(3):
        w = Instance("x")
        q = ExtendedClient(site.tunnel, instance=w)
        q.hello_()
        q.wait_hello()
        fields = [wire.field(wire.F_SETTLED, wire.u64(6)),
                  wire.field(wire.F_NAME, b"x"),
                  wire.field(wire.F_SERIAL, wire.u64(7)),
                  wire.field(wire.F_INSTANCE, w.instance),
                  wire.field(wire.F_HELD, b"".join(
                      wire.u64(1 << 60 | n) for n in range(1024)))]
        fields.append(wire.field(0x1111, bytes(
            16384 - 4 - sum(map(len, fields)))))
        random.Random(i).shuffle(fields)
        q.send(wire.control(wire.REGISTER, b"".join(fields)))
        sessions.append(q.wait_registered().session)
        q.ping()
        q.shut()
    t.eq(len(set(sessions)), len(sessions), "a session identifier came twice")
    # No version that both speak.
    q = ExtendedClient(site.tunnel)
    q.hello_(version=0)
    q.expect_end(E_VERSION)


@scenario(141, "extended client: unknown instructions are skipped and counted")
def extended_unknown(t):
    site = Site(t)
    skip_unknown(t, site.extended())


def skip_unknown(t, p):
    for number in (0x0200, 0x0201, 0x1234, 0x3FFF, 0x0300):
        for n in (0, 1, 5, 65536):
            p.send(wire.control(number, bytes(n)))
            p.settle()
    p.ping()
    for number in (0x4000, 0x4210, 0x7FFF):
        for n in (0, 1, 65536):
            p.send(wire.control(number, bytes(n)))
    p.ping()
    t.eq(p.acked, p.tx_offset, "carrier-local instructions are not counted")
    p.dribble(wire.control(0x4300, b"slow"), p.drained)
    counted = wire.control(0x0300, b"slow")
    p.tx_offset += len(counted)
    p.dribble(counted, p.drained)
    p.settle()
    p.ping()


@scenario(142, "extended client: open, data, half-closes, refusals")
def extended_streams(t):
    remotes = {"x": [("tcp", TARGET), ("tcp", "db.example.test:5432"),
                     ("tcp", "[2001:db8::7]:80")]}
    server = t.server(t.server_yaml(remotes))
    ports = [server.port("visitors", i) for i in range(3)]
    p = ExtendedClient(server.port("tunnel"), "x", start=True)
    targets = [(1, TARGET, None), (2, 5432, "db.example.test"),
               (2, 80, "2001:db8::7")]
    for i, (port, target) in enumerate(zip(ports, targets)):
        v = t.connect(port)
        s = p.accept_stream(answer=False)
        o = s.open
        t.eq((o.identity, o.kind, o.target, o.window),
             (i + 1, 0, target, 256 * KIB), "InsOpen")
        t.ok(o.klass <= 2, "the class")
        t.eq(o.source, v.getsockname(), "the visitor's address")
        t.eq(o.destination, v.getpeername(), "the address it reached")
        p.send_opened(s, fields=wire.field(0x0777, b"skip me"))
        v.sendall(b"to the application")
        t.eq(p.read(s, 18), b"to the application", "up")
        p.send_data(s, b"")
        p.send_data(s, b"to the visitor")
        t.eq(read_exactly(v, 14), b"to the visitor", "down")
        if i % 2 == 0:      # the visitor ends first
            v.shutdown(socket.SHUT_WR)
            t.eq(p.read_end(s), (b"", HALF_CLOSE), "the visitor's end")
            p.send_data(s, b"more")
            t.eq(read_exactly(v, 4), b"more", "after its half-close")
            p.send_half_close(s)
            t.expect_eof(v, b"")
        else:               # the peer ends first
            p.send_data(s, b"more")
            p.send_half_close(s)
            t.expect_eof(v, b"more")
            v.sendall(b"after the end")
            t.eq(p.read(s, 13), b"after the end", "after our half-close")
            v.shutdown(socket.SHUT_WR)
            t.eq(p.read_end(s), (b"", HALF_CLOSE), "the visitor's end")
        e = server.wait_log("stream", count=i + 1)
        t.eq((e["to_visitor"], e["to_application"]),
             (("18", "18") if i % 2 == 0 else ("18", "31")), "the log")
        p.settle()
    for outcome in range(1, 9):
        v = t.connect(ports[0])
        s = p.accept_stream(answer=False)
        reason = wire.field(wire.F_REASON, b"r" * (outcome * 31))
        p.send_opened(s, outcome, fields=reason if outcome % 2 else b"")
        t.eq(read_to_end(v)[0], b"", f"outcome {outcome}")
        # It is over: all of this is taken and dropped.
        p.send(data(s.identity, bytes(20000)), wire.half_close(s.identity),
               wire.half_close(s.identity), wire.credit(s.identity, 1),
               wire.opened(s.identity), wire.limit(s.identity, 5, 1),
               close(s.identity), wire.reset(s.identity))
        p.ping()
    # Data and the end right behind the answer, in one send.
    v = t.connect(ports[0])
    s = p.accept_stream(answer=False)
    s.answer, s.tx_end = CONNECTED, HALF_CLOSE
    s.tx_grant = s.tx_granted = s.open.window
    s.rx_grant = s.rx_granted = 16384
    p.send(wire.opened(s.identity, window=16384),
           data(s.identity, b"all at once"), wire.half_close(s.identity))
    t.expect_eof(v, b"all at once")
    v.close()
    t.eq(p.read_end(s)[0], b"", "nothing came up")


@scenario(143, "extended client: before the answer")
def extended_before_answer(t):
    site = Site(t)
    p = site.extended()
    text = pattern(1, 0, 100000)
    # 16 KiB and no byte more; a half-close is kept until they are out.
    v = site.visit()
    s = p.accept_stream(answer=False)
    s.auto_credit = False
    v.sendall(text)
    v.shutdown(socket.SHUT_WR)
    p.until(lambda: len(s.rx) == 16384, "16 KiB before the answer")
    p.ping()
    rest(0.05)
    p.ping()
    t.eq(len(s.rx), 16384, "bytes before the answer")
    p.send_opened(s, window=20001)
    p.until(lambda: len(s.rx) == 20001, "what the answer grants")
    p.ping()
    t.eq(len(s.rx), 20001, "bytes behind the answer")
    s.auto_credit = True
    p.give_credit(s)
    got, end = p.read_end(s)
    t.ok((got, end) == (text, HALF_CLOSE), "all of it")
    p.send_data(s, b"answer")
    p.send_half_close(s)
    t.expect_eof(v, b"answer")
    # The visitor ends at once.
    v = site.visit()
    s = p.accept_stream(answer=False)
    v.sendall(b"question")
    v.shutdown(socket.SHUT_WR)
    t.eq(p.read_end(s), (b"question", HALF_CLOSE), "before the answer")
    p.send_opened(s)
    p.send_data(s, b"answer")
    p.send_half_close(s)
    t.expect_eof(v, b"answer")
    # The visitor resets.
    v = site.visit()
    s = p.accept_stream(answer=False)
    v.sendall(b"x")
    p.read(s, 1)
    reset(v)
    p.read_end(s)
    t.ok(s.rx_end in (RESET, CLOSE), f"the visitor's reset: {s}")
    p.send_opened(s)
    p.send_data(s, b"lost")
    p.ping()
    # The peer resets, closes, refuses after 16 KiB.
    for how in (p.send_reset, p.send_close,
                lambda s: p.send_opened(s, NO_RESOURCES)):
        v = site.visit()
        s = p.accept_stream(answer=False)
        v.sendall(text)
        p.until(lambda: len(s.rx) == 16384, "16 KiB before the answer")
        how(s)
        t.eq(read_to_end(v)[0], b"", "the visitor")
        p.ping()
    t.eq(len(p.streams), 6, "streams")


@scenario(144, "extended client: acknowledgements")
def extended_acks(t):
    site = Site(t)
    p = site.extended()
    v, s = site.pair(p)
    check_acks(t, p, s, v)


def check_acks(t, p, s, sock):
    """sock is the local end of stream s at the daemon."""
    total = scaled(t, 8 * MIB, MIB)
    for n in (1, 2, 100, 4096):
        p.send_data(s, bytes(n))
        p.settle()
        read_exactly(sock, n)
    # What is carrier-local is not counted.
    p.send(wire.control(0x4300, b"abc"), wire.ack(p.rx_offset))
    p.ack_sent = p.rx_offset
    p.ping()
    p.ping()
    t.eq(p.acked, p.tx_offset, "acknowledged after carrier-local ones")
    # Acknowledged although the local socket does not take it.
    p.until(lambda: s.tx_grant - s.tx >= 100000 or p.closed, "credit")
    p.send_data(s, bytes(s.tx_grant - s.tx))
    p.settle()
    waiting = s.tx - 4199
    # ... and while much is on its way.
    count = len(p.acks)

    def receive():
        left = total + waiting
        while left > 0:
            piece = sock.recv(min(1 << 18, left))
            if not piece:
                t.fail(f"end of file with {left} left")
            left -= len(piece)
    reader = t.thread(receive)
    p.write(s, bytes(total), piece=5000)
    p.settle()
    reader.join()
    t.ok(len(p.acks) - count >= total // (256 * KIB), "acknowledgements: "
         f"{len(p.acks) - count} for {total} bytes")
    # An instruction of which only a part is there.
    whole = data(s.identity, bytes(3000))
    before = p.tx_offset
    p.tx_offset += len(whole)
    s.tx += 3000
    p.quiet = True
    p.raw(whole[:1000])
    p.drained()
    rest(0.15)
    p.pump()
    t.ok(p.acked <= before + 1000, f"acknowledged {p.acked} of "
         f"{before + 1000}")
    p.raw(whole[1000:])
    p.quiet = False
    p.settle()
    read_exactly(sock, 3000)
    # Upwards: the daemon goes on as long as it is acknowledged, by bits.
    p.auto_ack = False
    up = scaled(t, 4 * MIB, MIB)
    sender = t.thread(sock.sendall, bytes(up))
    s.sink = lambda piece: None
    rng = random.Random(1)
    start = s.rx_total

    def step():
        if p.rx_offset > p.ack_sent and rng.random() < 0.5:
            p.ack_sent += rng.randint(0, p.rx_offset - p.ack_sent)
            p.queue(wire.ack(p.ack_sent))
        return s.rx_total - start == up
    p.until(step, "the data with acknowledgements in bits", 30)
    sender.join()
    p.auto_ack = True
    p.ping()


@scenario(145, "extended client: ping, pong, silence")
def extended_life(t):
    site = Site(t, "x", "quiet", "slow",
                more="heartbeat_interval: 200ms\n")
    check_life(t, site.extended(), site.extended("quiet"),
               site.extended("slow"))
    site.server.wait_log("session-ended", remote="quiet")
    site.server.wait_log("session-ended", remote="slow")


def check_life(t, p, quiet, slow):
    """Three sessions with a heartbeat_interval of 200 ms."""
    p.ping()
    stamps = list(range(1 << 62, (1 << 62) + 100)) + [0, (1 << 64) - 1]
    p.pings_sent += stamps
    p.send(*[wire.ping(n) for n in stamps])
    p.until(lambda: p.pongs[-1] == stamps[-1], "the newest pong")
    quiet.auto_pong = slow.auto_pong = False
    quiet.pump()
    quiet.send(wire.control(0x4300))
    began = quiet_since = slow_since = time.monotonic()
    trickle = list(wire.control(0x4300, bytes(20)))
    slow_alive = None

    def step():
        nonlocal slow_since, slow_alive
        now = time.monotonic()
        if trickle and now - slow_since > 0.1:
            # Any byte counts, whether an instruction is whole or not.
            slow_since = now
            slow.push(bytes([trickle.pop(0)]))
        elif not trickle and slow_alive is None:
            slow_alive = slow.closed is None and slow.ended is None
        if quiet.ended and not step.quiet:
            step.quiet = now - quiet_since
        return slow.closed and quiet.closed and now - began > 2.0
    step.quiet = None
    p.until(step, "both silent ones are ended", 20, others=(quiet, slow))
    quiet.expect_end(E_SILENT)
    slow.expect_end(E_SILENT)
    t.ok(step.quiet >= 0.55, f"ended as silent after {step.quiet:.2f} s")
    t.ok(slow_alive, "the one with a byte from time to time was ended")
    t.ok(len(quiet.pings) >= 1, "the quiet one was pinged")
    t.eq(p.closed, None, "the one that answers")
    t.ok(len(p.pings) >= 3, f"pings within 2 s: {len(p.pings)}")
    t.ok(len({i.stamp for i in p.pings}) == len(p.pings), "a stamp twice")
    p.ping()


@scenario(146, "extended client: credit, both ways")
def extended_credit(t):
    site = Site(t, more="stream_window_max: 256KiB\n")
    p = site.extended()
    p.auto_credit = False
    v = site.visit()
    s = p.accept_stream(window=16384)
    check_credit(t, p, s, v)
    site.memory.check(24, "credit")


def check_credit(t, p, s, sock):
    """s was granted 16,384 and nothing flowed yet; sock is its local end."""
    text = pattern(1, 0, 300000)
    sender = t.thread(sock.sendall, text)
    p.until(lambda: s.rx_total == 16384, "the first grant is used")
    granted = 16384
    for more in (1, 2, 17, 1023, 4095, 16384, 16385, 65537, 3, 100003):
        granted += more
        p.send_credit(s, granted)
        p.until(lambda: s.rx_total == granted, f"{granted} bytes")
    p.ping()
    rest(0.05)
    p.ping()
    t.eq(s.rx_total, granted, "bytes past the grant")
    p.send_credit(s, 1 << 63)       # the most there is
    p.until(lambda: s.rx_total == len(text), "the rest")
    sender.join()
    t.ok(bytes(s.rx) == text, "what came")
    # The other way: nobody reads.
    first = s.first_window
    t.eq(first, 256 * KIB, "the window")
    quiet = time.monotonic()
    sent = 0
    while time.monotonic() - quiet < 0.3 * t.factor:
        n = min(s.tx_grant - s.tx, 50001)
        if n:
            p.send_data(s, pattern(2, s.tx, n))
            quiet = time.monotonic()
            t.ok(s.tx_grant - s.tx <= 256 * KIB, f"granted too much: {s}")
            t.ok(s.tx < 256 * MIB, "credit without end")
        p.pump(0.01)
    t.eq(s.tx, s.tx_grant, "used up")
    sent = s.tx
    check = Verifier(2)
    sock.settimeout(10 * t.factor)
    while check.got < sent:
        check(sock.recv(min(100000, sent - check.got))
              or t.fail("end of file"))
    p.until(lambda: s.tx_grant > sent, "credit after the reading")
    p.until(lambda: s.tx_grant >= sent + 128 * KIB, "all the credit")
    n = s.tx_grant - s.tx
    t.ok(n <= 256 * KIB, f"granted {n}")
    p.send_data(s, pattern(2, s.tx, n))
    t.ok(read_exactly(sock, n) == pattern(2, sent, n), "the rest")


@scenario(147, "extended, both daemons: InsLimit after 10 s, and ours")
def extended_limit(t):
    more = "heartbeat_interval: 10s\n"
    site = Site(t, more=more)
    p = site.extended()
    p.auto_credit = False
    far = Far(t, more)
    q = far.peer()
    q.auto_credit = False
    app = Listener()

    def pair(peer, window):
        if peer is p:
            v = site.visit()
            return v, p.accept_stream(window=window)
        s = q.connect(app.port, window)
        return app.accept(), s
    both = {peer: [pair(peer, w)
                   for w in (100000, 100000, 100000, 20000, 100000, 100000)]
            for peer in (p, q)}
    for peer in (p, q):
        for i, (sock, s) in enumerate(both[peer]):
            if i < 5:               # 5: it never sends anything
                sock.sendall(pattern(i, 0, 5000))
                peer.read(s, 5000, 10)
        # 2: half-closed; it has nothing to give up.
        both[peer][2][0].shutdown(socket.SHUT_WR)
        peer.read_end(both[peer][2][1])
        # 1: most of a credit is there, the rest comes when it is too late.
        s = both[peer][1][1]
        held = wire.credit(s.identity, 200000)
        peer.tx_offset += len(held)
        peer.flush()
        peer.quiet = True
        peer.raw(held[:11])
        s.rx_granted = 200000
    p.until(lambda: all(both[x][i][1].limits for x in (p, q)
                        for i in (0, 1, 4)),
            "InsLimit for the idle streams", 30, others=(q,))
    p.until(lambda: all(both[x][5][1].limits for x in (p, q)),
            "InsLimit for the streams that never sent anything", 8,
            others=(q,))
    for peer in (p, q):
        streams = [s for _, s in both[peer]]
        for i in (0, 1, 4):
            m = streams[i].limits[0]
            t.eq((m.limit, m.seen), (5000 + 16384, 100000), f"stream {i}")
        m = streams[5].limits[0]
        t.eq((m.limit, m.seen), (16384, 100000), "the one without data")
        t.eq(streams[2].limits, [], "InsLimit for a half-closed stream")
        t.eq(streams[3].limits, [], "InsLimit that would be over the grant")
        # Stream 1: the credit was on its way.
        s = streams[1]
        s.rx_grant = 200000
        peer.raw(wire.credit(s.identity, 200000)[11:])
        peer.quiet = False
        sender = t.thread(both[peer][1][0].sendall, pattern(1, 5000, 195000))
        t.ok(peer.read(s, 195000) == pattern(1, 5000, 195000),
             "the credit that crossed the limit")
        sender.join()
        # Stream 0: the grant fell; it stops there.
        sock, s = both[peer][0]
        sender = t.thread(sock.sendall, pattern(0, 5000, 60000))
        peer.until(lambda: s.rx_total == 21384, "up to the limit")
        peer.ping()
        t.eq(s.rx_total, 21384, "past its own limit")
        peer.send_credit(s, 21385)
        peer.until(lambda: s.rx_total == 21385, "one byte more")
        peer.send_credit(s, 100000)
        t.ok(peer.read(s, 60000) == pattern(0, 5000, 60000), "all of it")
        sender.join()
        # Ours: it falls, and credit lets us go on.
        sock, s = both[peer][4]
        peer.send_data(s, bytes(1000))
        read_exactly(sock, 1000)
        peer.ping()
        peer.send_limit(s, s.tx + 16384, s.tx_granted)
        reader = t.thread(read_exactly, sock, MIB)
        peer.write(s, bytes(MIB))
        reader.join()
        # Ours, and the credit that we saw is not the newest: no effect.
        sock, s = both[peer][3]
        reader = t.thread(read_exactly, sock, 200000)
        peer.write(s, bytes(200000))
        reader.join()
        peer.until(lambda: s.tx_granted > s.first_window, "credit")
        peer.ping()
        peer.send_limit(s, s.tx + 16384, s.first_window)
        n = s.tx_grant - s.tx
        t.ok(n > 16384, "a test of nothing")
        peer.send_data(s, bytes(n))
        read_exactly(sock, n)
        peer.ping()


@scenario(148, "extended client: one name, several instances")
def extended_one_name(t):
    site = Site(t)
    a, b = Instance("x"), Instance("x")
    a1 = site.extended(instance=a)
    a2 = site.extended(instance=a)
    a1.ping()
    a2.ping()
    live = [site.visit() for _ in range(4)]
    a1.until(lambda: a1.their_identity + a2.their_identity == 4,
             "the visitors", others=(a2,))
    b1 = site.extended(instance=b)
    for old in (a1, a2):
        old.expect_end(E_REPLACED)
    for v in live:
        t.eq(read_to_end(v)[0], b"", "the old sessions' visitors")
    a.held = []
    for standby in (False, True, False):
        q = ExtendedClient(site.tunnel, instance=a)
        q.hello_()
        q.wait_hello()
        q.register_(standby=standby)
        q.expect_end(E_NAME_IN_USE)
    c = ExtendedClient(site.tunnel, "x")
    c.hello_()
    c.wait_hello()
    c.register_(standby=True)
    c.expect_end(E_NAME_IN_USE)
    b1.ping()
    # The same instance adds sessions, standby or not.
    b2 = site.extended(instance=b)
    b1.ping()
    b2.ping()
    v, s = site.visit(), None
    b1.until(lambda: b1.their_identity + b2.their_identity == 1,
             "the visitor", others=(b2,))
    # The name is free: the replaced one is taken.
    b1.give_up()
    b2.give_up()
    site.server.wait_log("session-ended", count=4, remote="x")
    a3 = ExtendedClient(site.tunnel, instance=a)
    a3.start(standby=True)
    v, s = site.pair(a3)
    v.sendall(b"x")
    a3.read(s, 1)
    # A classic one replaces whoever holds it.
    k = site.classic()
    a3.expect_end(E_REPLACED)
    v = site.visit()
    s = k.accept_stream()
    v.sendall(b"classic")
    t.eq(k.read(s.identity, 7), b"classic", "the classic one's visitor")
    # ... and a newer instance replaces the classic one.
    d = site.extended(instance=Instance("x"))
    k.expect_closed()
    d.ping()


@scenario(149, "extended client: sessions that are not held")
def extended_held(t):
    site = Site(t)
    w = Instance("x")

    def dial(held, settled=None):
        q = ExtendedClient(site.tunnel, instance=w)
        q.start(held=[p.session for p in held], settled=settled)
        return q
    s1 = dial([])
    s2 = dial([s1], 1)
    s3 = dial([s1], 2)          # s2: serial 2, settled, not listed
    s2.expect_end(E_NOT_HELD)
    s4 = dial([s1], 1)          # s3 is not listed, but its serial is above
    s3.ping()
    s1.ping()
    s5 = dial([s4], 2)          # s1: settled; s3: not
    s1.expect_end(E_NOT_HELD)
    s3.ping()
    s4.ping()
    s6 = dial([], 5)            # all the others
    for q in (s3, s4, s5):
        q.expect_end(E_NOT_HELD)
    s6.ping()
    other = Instance("x")
    q = ExtendedClient(site.tunnel, instance=other)
    q.start(held=[s6.session])
    s6.expect_end(E_REPLACED)   # another instance's list protects nobody
    q.ping()


@scenario(150, "extended client: windows and refusals with 1 MiB a session")
def extended_memory(t):
    site = Site(t, more="session_memory: 1MiB\n")
    p = site.extended()

    def fill():
        """Visitors until one is turned away."""
        visitors, streams = [], []
        while True:
            t.ok(len(visitors) < 200, "no visitor was turned away")
            try:
                v = site.visit()
            except ConnectionResetError:    # that fast
                return visitors + [None], streams
            visitors.append(v)
            v.setblocking(False)
            opens = p.their_identity

            def answered():
                if p.their_identity > opens:
                    return "open"
                try:
                    return "away" if v.recv(1) == b"" else None
                except BlockingIOError:
                    return None
                except OSError:
                    return "away"
            if p.until(answered, "an open or a refusal") == "away":
                return visitors, streams
            streams.append(p.accept_stream())
    for _ in range(2):
        visitors, streams = fill()
        windows = [s.open.window for s in streams]
        t.eq(windows[0], 256 * KIB, "the first window")
        t.ok(set(windows) == {256 * KIB, 16 * KIB}, f"windows: {windows}")
        t.eq(sorted(windows, reverse=True), windows, "their order")
        t.ok(sum(windows) <= 896 * KIB, f"together: {sum(windows)}")
        t.ok(len(windows) >= 20, f"streams: {len(windows)}")
        # They all work, with their small windows.
        for i, (v, s) in enumerate(zip(visitors, streams)):
            v.settimeout(10 * t.factor)
            p.write(s, pattern(i, 0, 40000))
            t.ok(read_exactly(v, 40000) == pattern(i, 0, 40000), "data")
        for s in streams:
            p.send_close(s)
        for v in visitors[:-1]:
            t.expect_eof(v, b"")
        p.ping()


@scenario(151, "extended client: opens of its own are answered")
def extended_client_opens(t):
    site = Site(t)
    p = site.extended()
    for i in range(20):
        s = p.open(wire.target_port(80), send=False)
        p.queue(data(s.identity, bytes(16384)))
        if i % 2:
            p.queue(wire.half_close(s.identity))
        p.flush()
        t.ok(p.wait_answer(s) != CONNECTED, "a connected stream")
    s = p.open(wire.target_port(80), kind=7)
    t.ok(p.wait_answer(s) != CONNECTED, "a connected stream")
    p.settle()
    v, s = site.pair(p)
    p.send_data(s, b"x")
    t.eq(read_exactly(v, 1), b"x", "a visitor's stream")


@scenario(152, "extended client: reset and close")
def extended_reset(t):
    site = Site(t)
    p = site.extended()
    big = pattern(1, 0, 200000)
    # Reset: what is queued is dropped, the socket is reset.
    v, s = site.pair(p)
    p.send_data(s, b"x")
    t.eq(read_exactly(v, 1), b"x", "before the reset")
    p.send_reset(s, wire.R_LOCAL)
    t.expect_reset(v)
    for reason in range(1, 7):
        v, s = site.pair(p)
        p.send_reset(s, reason)
        t.expect_reset(v)
    # Close: all before it is delivered, whatever the visitor sends.
    for upload in (False, True):
        v, s = site.pair(p)
        if upload:
            v.sendall(big)
        p.send(data(s.identity, big), close(s.identity))
        s.tx_end = CLOSE
        got, _ = read_to_end(v)
        t.eq(len(got), len(big), f"delivered before the close (the visitor "
             f"sends: {upload})")
        t.ok(got == big, "the bytes")
    # The visitor's reset.
    v, s = site.pair(p)
    v.sendall(b"x")
    p.read(s, 1)
    reset(v)
    p.read_end(s)
    t.eq((s.rx_end, s.reset_reason), (RESET, wire.R_LOCAL), "the reset")
    # After our half-close, after its half-close.
    v, s = site.pair(p)
    p.send_half_close(s)
    t.expect_eof(v, b"")
    p.send_reset(s)

    def written():
        try:
            v.send(b"x")
        except OSError:
            return True
        return False
    t.until(written, what="the visitor's connection is reset")
    v, s = site.pair(p)
    v.shutdown(socket.SHUT_WR)
    p.read_end(s)
    p.send_reset(s)
    t.expect_reset(v)
    # A visitor that went away without reading.
    v, s = site.pair(p)
    v.shutdown(socket.SHUT_WR)
    p.read_end(s)
    p.send_data(s, b"unread")
    v.close()
    p.until(lambda: p.closed or s.rx_end != HALF_CLOSE or s.tx > 10 * MIB
            or p.send_data(s, b"more"), "InsReset: nobody can be written to")
    t.eq(s.rx_end, RESET, "how it ended")
    p.ping()


def check_taken(t, p, pair):
    """What the state table takes; pair() gives (local socket, stream) with
    a grant of 16,384 bytes from p."""
    text = pattern(3, 0, 60000)
    # Half-closed by us: credit is taken, and data goes on the other way.
    sock, s = pair()
    s.auto_credit = False
    p.send_half_close(s)
    t.expect_eof(sock, b"")
    sender = t.thread(sock.sendall, text)
    p.until(lambda: s.rx_total == 16384, "the grant")
    p.send_credit(s, 16385)
    p.until(lambda: s.rx_total == 16385, "a byte more")
    p.send_credit(s, 1 << 63)
    t.ok(p.read(s, 60000) == text, "after our half-close")
    sender.join()
    # ... and it may still be reset,
    p.send_reset(s)
    p.ping()
    t.until(lambda: broken(sock), what="the socket is reset")
    # ... or closed.
    sock, s = pair()
    p.send_data(s, text)
    p.send_half_close(s)
    p.send_close(s)
    t.ok(t.expect_eof(sock) == text, "half-close, then close")
    # All of the grant, and then nothing: no byte is past it.
    sock, s = pair()
    p.send_data(s, bytes(s.tx_grant))
    p.send_data(s, b"")
    t.eq(len(read_exactly(sock, s.tx)), s.tx, "the grant")
    # An acknowledgement that says nothing new.
    p.send(wire.ack(p.rx_offset), wire.ack(p.rx_offset))
    p.ack_sent = p.rx_offset
    # The largest grants; credit and a limit that give up nothing.
    sock, s = pair()
    p.send_credit(s, 1 << 63)
    p.send_limit(s, s.tx, s.tx_granted)
    p.ping()


def broken(sock):
    try:
        sock.send(b"x")
    except BlockingIOError:
        pass
    except OSError:
        return True
    return False


@scenario(153, "extended client: what the state table takes; InsEnd")
def extended_taken(t):
    site = Site(t)
    p = site.extended()

    def pair():
        v = site.visit()
        return v, p.accept_stream(window=16384)
    check_taken(t, p, pair)
    v, s = pair()
    p.send(wire.end(E_SHUTTING_DOWN, "that is all"))
    p.finish()
    p.expect_closed()
    t.expect_reset(v)
    site.server.wait_log("session-ended", remote="x")
    # An InsEnd that no text is.
    for raw in (wire.control(END, wire.u16(999) + b"\xff\xfe"),
                wire.control(END, wire.u16(1) + bytes(1022))):
        p = site.extended()
        p.send(raw)
        p.finish()
        p.expect_closed()


# ------------------------------------------------ against remote-client: 154

@scenario(154, "extended server: the remote-client's handshake and dials")
def extended_dials(t):
    # What it does after each InsEnd.
    codes = (1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 99)
    fars = {}
    for code in codes:
        far = fars[code] = Far(t)
        q = far.server.accept_raw()
        h = q.wait_hello()
        t.eq((h.version, h.features), (1, 0), "InsHello")
        unknown = wire.field(0x0777, bytes(100)) if code % 2 else b""
        q.hello_(features=(1 << 64) - 1 if code % 2 else 0, fields=unknown)
        far.first = q.wait_register()
        far.nonce = h.nonce
        r = far.first
        t.eq((r.name, r.serial, r.settled, r.held, r.standby),
             ("x", 1, 0, [], False), "the first InsRegister")
        if code not in (2, 3, 4, 5, 8):     # refusals
            q.registered_(extra=wire.field(0x0555, b"?"))
            q.ping()
        if code != 99:
            q.send(wire.end(code, "a reason"))
            q.finish()
        far.old = q
    fars[99].old.shut()                     # no InsEnd: the carrier broke
    # Two tunnels: one process, several sessions.
    two = Far(t, tunnels=2)
    held, serials = [], []
    for _ in range(2):
        q = two.server.accept_raw()
        q.wait_hello()
        q.hello_()
        serials.append(q.wait_register())
        q.registered_()
        q.ping()
        held.append(q)
    held[0].shut()
    q = two.server.accept_raw(40)
    q.wait_hello()
    q.hello_()
    serials.append(q.wait_register())
    t.eq(len({r.instance for r in serials}), 1, "instances")
    t.eq(sorted(r.serial for r in serials), [1, 2, 3], "serials")
    t.eq(serials[2].held, [held[1].session], "held")
    t.ok(serials[2].settled <= 2, "settled")
    held[1].ping()
    for code, far in fars.items():
        if code != 99:
            far.old.expect_closed()
    for code, far in fars.items():
        q = far.server.accept_raw(40)
        h = q.wait_hello()
        t.ok(h.nonce != far.nonce, "a nonce twice")
        q.hello_()
        r = q.wait_register()
        t.eq(r.instance, far.first.instance, f"{code}: the instance")
        t.eq((r.serial, r.held), (2, []), f"{code}: serial and held")
        t.eq(r.settled, 1, f"{code}: settled")
        t.eq(r.standby, code in (5, 6), f"{code}: standby")
        q.registered_()
        q.ping()


@scenario(155, "extended server: targets and outcomes")
def extended_targets(t):
    app = t.app(echo)
    free = t.port()
    denied = t.app(echo)
    full = FullListener()
    allowed = ", ".join(f'"{a}"' for a in (
        f"127.0.0.1:{app.port}", f"127.0.0.1:{free}",
        f"127.0.0.1:{full.port}"))
    far = Far(t, f"allow_targets: [{allowed}]\nconnect_timeout: 1s\n")
    p = far.peer()
    slow = p.open(wire.target_port(full.port))
    there = (wire.target_port(app.port),
             wire.target_host(app.port, "127.0.0.1"),
             wire.target_host(app.port, "localhost"),
             wire.field(0x0123, b"?") + wire.target_port(app.port)
             + wire.address(wire.F_SOURCE, "192.0.2.1", 1)
             + wire.address(wire.F_DESTINATION, "2001:db8::1", 65535)
             + wire.field(0x0124))
    for fields in there:
        for window, klass in ((16384, 0), (1 << 40, 1), (20001, 2),
                              (262144, 77)):
            s = p.open(fields, window, klass=klass)
            t.eq(p.wait_answer(s), CONNECTED, f"{fields!r}")
            t.eq(s.first_window, 256 * KIB, "the window")
            p.write(s, pattern(1, 0, 50000))
            t.ok(p.read(s, 50000) == pattern(1, 0, 50000), "the echo")
            p.send_half_close(s)
            t.eq(p.read_end(s), (b"", HALF_CLOSE), "the end")
    for fields, kind, outcomes in (
            (wire.target_port(free), 0, (REFUSED,)),
            (wire.target_host(free, "127.0.0.1"), 0, (REFUSED,)),
            (wire.target_port(denied.port), 0, (NOT_ALLOWED,)),
            (wire.target_host(denied.port, "127.0.0.1"), 0, (NOT_ALLOWED,)),
            (wire.target_host(80, "10.1.2.3"), 0, (NOT_ALLOWED,)),
            (wire.target_host(80, "2001:db8::1"), 0, (NOT_ALLOWED,)),
            (wire.target_host(80, "no-such-name.invalid"), 0,
             (wire.NAME_NOT_FOUND, wire.FAILED, TIMED_OUT)),
            (wire.target_port(app.port), 1, (UNSUPPORTED,)),
            (wire.target_port(app.port), 255, (UNSUPPORTED,)),
            (wire.field(wire.F_TARGET, b"\x03abc"), 0, (UNSUPPORTED,)),
            (wire.field(wire.F_TARGET, b"\x00"), 0, (UNSUPPORTED,)),
            (wire.field(wire.F_TARGET, b"\xff" + bytes(900)), 0,
             (UNSUPPORTED,))):
        s = p.open(fields, kind=kind)
        t.ok(p.wait_answer(s, 15) in outcomes,
             f"{fields!r}: outcome {s.answer}")
    t.eq(denied.accepted, 0, "connections to a target that is not allowed")
    far.client.wait_log("target-denied")
    t.ok(p.wait_answer(slow) == TIMED_OUT, f"a connect that hangs: {slow}")
    p.settle()
    p.ping()


@scenario(156, "extended server: before the answer")
def extended_server_before_answer(t):
    app, full, closes = Listener(), FullListener(), FullListener()
    far = Far(t, "connect_timeout: 8s\n")
    p = far.peer()
    text = pattern(7, 0, 16384)
    kept = p.open(wire.target_port(full.port))
    p.send_data(kept, text)
    p.send_data(kept, b"")
    half = p.open(wire.target_port(full.port))
    p.send_data(half, b"half")
    p.send_half_close(half)
    over = p.open(wire.target_port(full.port))
    p.send_data(over, b"lost")
    p.send_reset(over)
    p.settle()
    p.ping()
    t.eq((kept.answer, half.answer), (None, None), "answers")
    done = p.open(wire.target_port(closes.port))
    p.send_data(done, b"close")
    p.send_close(done)
    full.let_in(2)
    closes.let_in(1)
    a = closes.accept()
    t.expect_eof(a, b"close", "closed before the answer")
    got = {}
    while len(got) < 2:         # the one that was reset may come, or not
        a = full.accept()
        try:
            first = a.recv(4, socket.MSG_WAITALL)
        except OSError:
            first = b""
        if first:
            got[first] = a
    t.ok(set(got) == {text[:4], b"half"}, f"connections: {list(got)}")
    a = got[text[:4]]
    t.ok(read_exactly(a, 16380) == text[4:], "16 KiB before the answer")
    t.eq(p.wait_answer(kept), CONNECTED, "the answer")
    p.send_data(kept, b"after")
    t.eq(read_exactly(a, 5), b"after", "after the answer")
    t.eq(p.wait_answer(half), CONNECTED, "the answer")
    t.expect_eof(got[b"half"], b"", "the half-close before the answer")
    got[b"half"].sendall(b"back")
    t.eq(p.read(half, 4), b"back", "the other way")
    got[b"half"].close()
    t.eq(p.read_end(half), (b"", HALF_CLOSE), "the end")
    # All at once, without a wait.
    for _ in range(20):
        s = p.open(wire.target_port(app.port), send=False)
        p.queue(data(s.identity, b"one send"), wire.half_close(s.identity))
        s.tx_end = HALF_CLOSE
        p.flush()
        a = app.accept()
        t.expect_eof(a, b"one send", "in one send")
        a.close()
        t.eq(p.read_end(s), (b"", HALF_CLOSE), "the end")
    p.ping()


@scenario(157, "extended server: data, half-closes, resets, closes")
def extended_server_streams(t):
    far = Far(t)
    p, app = far.peer(), Listener()
    big = pattern(1, 0, 200000)

    def pair():
        s = p.connect(app.port)
        return app.accept(), s
    # The application ends first; then the peer.
    a, s = pair()
    a.sendall(b"from the application")
    a.shutdown(socket.SHUT_WR)
    t.eq(p.read_end(s), (b"from the application", HALF_CLOSE), "its end")
    p.write(s, big)
    t.ok(read_exactly(a, len(big)) == big, "after its end")
    p.send_half_close(s)
    t.expect_eof(a, b"")
    # The peer first.
    a, s = pair()
    p.send_data(s, b"bye")
    p.send_half_close(s)
    t.expect_eof(a, b"bye")
    sender = t.thread(a.sendall, big)
    t.ok(p.read(s, len(big)) == big, "after our end")
    sender.join()
    a.close()
    t.eq(p.read_end(s), (b"", HALF_CLOSE), "its end")
    # Resets.
    a, s = pair()
    a.sendall(b"x")
    p.read(s, 1)
    reset(a)
    p.read_end(s)
    t.eq((s.rx_end, s.reset_reason), (RESET, wire.R_LOCAL), "its reset")
    for reason in range(1, 7):
        a, s = pair()
        p.send_reset(s, reason)
        t.expect_reset(a, "the application")
    a, s = pair()
    p.send_half_close(s)
    t.expect_eof(a, b"")
    reset(a)
    p.read_end(s)
    t.eq(s.rx_end, RESET, "its reset after our end")
    # Close: all that came before it is delivered, even while it uploads.
    for upload in (False, True):
        a, s = pair()
        if upload:
            a.sendall(big)
        s.tx_end = CLOSE
        p.send(data(s.identity, big), close(s.identity))
        got, _ = read_to_end(a)
        t.eq(len(got), len(big), f"delivered before the close (upload: "
             f"{upload})")
    # It closes without reading.
    a, s = pair()
    a.shutdown(socket.SHUT_WR)
    p.read_end(s)
    p.send_data(s, b"unread")
    a.close()
    p.until(lambda: p.closed or s.rx_end != HALF_CLOSE or s.tx > 10 * MIB
            or p.send_data(s, b"more"), "InsReset: nobody can be written to")
    t.eq(s.rx_end, RESET, "how it ended")
    p.settle()
    p.ping()


@scenario(158, "extended server: acknowledgements, skipped instructions")
def extended_server_acks(t):
    far = Far(t)
    p, app = far.peer(), Listener()
    skip_unknown(t, p)
    s = p.connect(app.port)
    check_acks(t, p, s, app.accept())


@scenario(159, "extended server: credit, both ways")
def extended_server_credit(t):
    far = Far(t, "stream_window_max: 256KiB\n")
    p, app = far.peer(), Listener()
    p.auto_credit = False
    s = p.connect(app.port, 16384)
    check_credit(t, p, s, app.accept())
    far.memory.check(24, "credit")


@scenario(160, "extended server: ping, pong, silence")
def extended_server_life(t):
    far = Far(t, "heartbeat_interval: 200ms\n", tunnels=3)
    p, quiet, slow = far.peer(), far.peer(), far.peer()
    check_life(t, p, quiet, slow)
    far.client.wait_log("session-ended", count=2)


@scenario(161, "extended server: opens without end, 1 MiB a session")
def extended_server_memory(t):
    far = Far(t, "session_memory: 1MiB\n")
    p, app = far.peer(), Listener(backlog=4096)
    for _ in range(2):
        streams = [p.open(wire.target_port(app.port), send=False)
                   for _ in range(400)]
        p.flush()
        for s in streams:
            p.wait_answer(s)
        t.eq({s.answer for s in streams}, {CONNECTED, NO_RESOURCES},
             "outcomes")
        good = [s for s in streams if s.answer == CONNECTED]
        windows = [s.first_window for s in good]
        t.eq(max(windows), 256 * KIB, "the largest window")
        t.ok(set(windows) == {256 * KIB, 16 * KIB}, f"windows: {windows}")
        t.ok(sum(windows) <= 896 * KIB, f"together: {sum(windows)}")
        t.ok(len(good) >= 20, f"streams: {len(good)}")
        socks = [app.accept() for _ in good]
        for a in socks:
            a.shutdown(socket.SHUT_WR)
        for s in good:
            p.read_end(s)
            p.send_half_close(s)
        for a in socks:
            t.expect_eof(a, b"")
            a.close()
        p.ping()
        p.settle()
        while app.waiting():
            app.accept().close()
    far.memory.check(16, "opens without end")


@scenario(162, "extended server: versions, and servers that say nothing")
def extended_server_versions(t):
    fars = {}
    for what, raw in (
            ("version 0", wire.hello_server(version=0)),
            ("version 2", wire.hello_server(version=2)),
            ("InsEnd", wire.end(E_VERSION, "none")),
            ("close", None), ("reset", None)):
        far = fars[what] = Far(t)
        q = far.server.accept_raw()
        q.wait_hello()
        if what == "close":
            q.shut()
        elif what == "reset":
            q.abort()
        else:
            q.send(raw)
            if what == "InsEnd":
                q.finish()
            q.expect_closed()
            if what != "InsEnd":
                t.ok(q.ended is None
                     or q.ended.code in (E_PROTOCOL, E_VERSION), f"{what}")
        far.client.wait_log("dial-failed")
    for what, far in fars.items():
        q = far.peer(40)
        q.ping()


@scenario(163, "extended server: what the state table takes; InsEnd")
def extended_server_taken(t):
    app, full = Listener(), FullListener()
    far = Far(t, "connect_timeout: 60s\nheartbeat_interval: 60s\n",
              tunnels=2)
    p, other = far.peer(), far.peer()

    def pair():
        s = p.connect(app.port, 16384)
        return app.accept(), s
    check_taken(t, p, pair)
    for ends in ((p.send_reset,), (p.send_close,),
                 (p.send_half_close, p.send_reset),
                 (p.send_half_close, p.send_close)):
        s = p.open(wire.target_port(full.port))
        for end in ends:
            end(s)
        p.ping()
        t.eq(s.answer, None, "an answer for a stream that is over")
    a, s = pair()
    p.send(wire.end(E_SHUTTING_DOWN, "that is all"))
    p.finish()
    p.expect_closed()
    t.expect_reset(a)
    far.client.wait_log("session-ended")
    other.ping()
    # The proxy-server may go on right behind InsRegistered; what came so is
    # acknowledged as well.
    p = far.server.accept_raw(40)
    p.wait_hello()
    p.hello_()
    p.wait_register()
    p.registered_(None, b"", wire.control(0x0300, bytes(100)))
    p.settle(3)
    p.shut()
    p = far.server.accept_raw(40)
    p.wait_hello()
    p.hello_()
    p.wait_register()
    s = wire.Stream(1, True, 16384, 16384)
    p.streams[1] = s
    p.next_identity = 2
    p.pings_sent.append(7)
    p.registered_(None, b"", wire.open_(1, wire.target_port(app.port), 16384),
                  data(1, b"at once"), wire.half_close(1), wire.ping(7))
    s.tx_end = HALF_CLOSE
    t.expect_eof(app.accept(), b"at once")
    t.eq(p.wait_answer(s), CONNECTED, "the answer")
    p.ping()


# =================================================================== hostile
# ---------------------------------------------- before the registration: 170

TLS_HELLO = bytes.fromhex(
    "16030100c8010000c40303") + bytes(range(32)) + bytes(157)
HTTP_REQUEST = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
SSH_BANNER = b"SSH-2.0-OpenSSH_9.6\r\n"
BAD_NAMES = {
    "invalid UTF-8": b"\xff\xfe", "cut UTF-8": b"x\xe2\x82",
    "overlong UTF-8": b"\xc0\xaf", "a surrogate": b"\xed\xa0\x80",
    "above U+10FFFF": b"\xf4\x90\x80\x80", "NUL": b"x\0", "LF": b"x\ny",
    "DEL": b"\x7f", "U+0085": "\u0085".encode(), "U+009F": "a\u009f".encode(),
}


def fields_of(name=b"x", instance=bytes(16), serial=1, settled=0, **without):
    """InsRegister's four required fields as a dict by type."""
    return {wire.F_NAME: name, wire.F_INSTANCE: instance,
            wire.F_SERIAL: wire.u64(serial),
            wire.F_SETTLED: wire.u64(settled)}


def register_of(fields, extra=b""):
    return wire.control(wire.REGISTER, b"".join(
        wire.field(k, v) for k, v in fields.items()) + extra)


def bad_registers():
    """(what, bytes after the two InsHello, codes)."""
    for what, name in BAD_NAMES.items():
        yield (f"name: {what}", register_of(fields_of(name)),
               (E_MALFORMED_NAME,))
    for n in (0, 256):
        yield (f"name of {n} bytes", register_of(fields_of(b"n" * n)),
               (E_MALFORMED_NAME, E_PROTOCOL))
    yield ("unknown name", register_of(fields_of(b"nobody")),
           (E_UNKNOWN_NAME,))
    protocol = (E_PROTOCOL,)
    for kind in (1, 2, 3, 4):
        f = fields_of()
        del f[kind]
        yield f"field {kind} is missing", register_of(f), protocol
    yield "no fields", wire.control(wire.REGISTER), protocol
    for kind, lengths in ((2, (0, 15, 17)), (3, (0, 7, 9)), (4, (0, 7, 9))):
        for n in lengths:
            f = fields_of()
            f[kind] = bytes(n)
            yield f"field {kind} of {n} bytes", register_of(f), protocol
    for kind, n in ((5, 7), (5, 8 * 1025), (6, 1), (7, 65)):
        yield (f"field {kind} of {n} bytes",
               register_of(fields_of(), wire.field(kind, b"\1" * n)),
               protocol)
    for settled in (1, 2, (1 << 64) - 1):
        yield (f"settled {settled}, serial 1",
               register_of(fields_of(settled=settled)), protocol)
    for kind in (1, 2, 3, 4):
        yield (f"field {kind} twice",
               register_of(fields_of(),
                           wire.field(kind, fields_of()[kind])), protocol)
    for kind, value in ((5, b""), (6, b""), (7, b"s")):
        yield (f"field {kind} twice",
               register_of(fields_of(), wire.field(kind, value) * 2),
               protocol)
    for cut in (b"\0", b"\0\7", b"\0\7\0", wire.field(7, b"abc", 4),
                wire.field(0x0123, b"", 0xFFFF)):
        yield (f"a cut field {cut.hex()}", register_of(fields_of(), cut),
               protocol)
    yield ("must-understand field",
           register_of(fields_of(), wire.field(0x8123)), protocol)
    yield ("too long", wire.control(wire.REGISTER, bytes(16385)), protocol)
    yield ("without end", wire.control(wire.REGISTER, b"", 0xFFFFFFFF),
           protocol)
    for what, raw in (
            ("ping", wire.ping(1)), ("ack", wire.ack(0)),
            ("data", data(1, b"x")), ("close", close(1)),
            ("4 GiB of data", data(1, b"", 0xFFFFFFFF)),
            ("InsOpen", wire.open_(CLIENT_BIT | 1, wire.target_port(1))),
            ("InsHello", wire.hello_client()),
            ("InsRegistered", wire.registered(1)),
            ("classic registration", initial_remote("x")),
            ("heartbeat", heartbeat()),
            ("number 5", wire.u16(5) + bytes(4)),
            ("0xFFFF", wire.control(0xFFFF))):
        yield f"{what} before InsRegister", raw, protocol


def bad_hellos():
    good = wire.hello_client()[6:]
    for n in (0, 41, 1025):
        yield (f"InsHello of {n} bytes",
               wire.control(HELLO, (good + bytes(1024))[:n]))
    yield "InsHello without end", wire.control(HELLO, b"", 0xFFFFFFFF)
    yield "a cut field", wire.control(HELLO, good + b"\0\1\0")
    yield "a cut value", wire.control(HELLO, good + wire.field(1, b"", 1))
    yield "must-understand", wire.control(HELLO, good + wire.field(0x8009))


def bad_openings():
    """What is neither dialect, or a bad classic registration."""
    yield "TLS", TLS_HELLO
    yield "HTTP", HTTP_REQUEST
    yield "SSH", SSH_BANNER
    for number in (1, 2, 3, 4, 5, 0x00FF, 0x0101, 0x01FF, 0x0200, 0x8220,
                   0xC201, 0xC203, 0xC211, 0xFFFF):
        yield f"number {number:#06x} first", wire.control(number, bytes(8))
    for what, name in BAD_NAMES.items():
        yield f"classic name: {what}", initial_remote(name)
    for n in (0, 256, 0xFFFFFFFF):
        yield f"classic name of {n} bytes", initial_remote(b"", n)
    yield "unknown classic name", initial_remote("nobody")


@scenario(170, "hostile: what no registration is")
def hostile_openings(t):
    site = Site(t, more="handshake_timeout: 60s\n", bystander=True)
    count = 0
    found = Findings()

    def gone(p, what):
        nonlocal count
        count += 1
        p.expect_closed(5)
        site.logged_once(local_port(p), what)
        p.shut()
        if count % 10 == 0:
            site.check()
    for what, raw in bad_openings():
        p = ClassicClient(site.tunnel, beat=False)
        p.raw(raw)
        found.run(what, gone, p, what)
        t.eq(p.received, 0, f"{what}: bytes in answer")
    # The same, cut.
    for raw in (TLS_HELLO, b"\x02", initial_remote(b"", 0)):
        p = ClassicClient(site.tunnel, beat=False)
        try:
            p.dribble(raw, p.drained)
        except WireError:
            pass
        found.run("cut", gone, p, f"cut {raw[:6].hex()}")
    for what, raw in bad_hellos():
        p = ExtendedClient(site.tunnel)
        p.raw(raw)
        found.run(what, gone, p, what)
        if p.ended is not None:
            t.eq(p.ended.code, E_PROTOCOL, what)
    for what, raw, codes in bad_registers():
        p = ExtendedClient(site.tunnel)
        p.hello_()
        p.wait_hello()
        p.raw(raw)
        found.run(what, p.expect_end, codes, 5)
        found.run(what, gone, p, what)
    lines = site.server.log("peer-dropped")
    t.ok(1 <= len(lines) <= count, f"{len(lines)} lines for {count} peers")
    found.run("log", t.eq, site.server.log("registered", remote="x"), [],
              "registrations")
    # PROTOCOL.md does not say: either is right, as long as nobody suffers.
    p = ExtendedClient(site.tunnel)
    p.hello_()
    p.wait_hello()
    p.send(register_of(fields_of(), wire.field(wire.F_SOFTWARE, b"\xff\n")))
    t.ok(p.next().number in (REGISTERED, END), "software that is no text")
    found.check(t, count)
    site.check()
    site.memory.check(16, f"{count} peers that never registered")


def swarm(t, port, payloads, at_once, finish=lambda i: False, timeout=60):
    """A connection for each payload, at_once at a time; each has to be
    closed by the daemon."""
    poller = select.poll()
    live = {}
    todo = list(enumerate(payloads))
    todo.reverse()
    end_at = time.monotonic() + timeout * t.factor
    while todo or live:
        while todo and len(live) < at_once:
            i, raw = todo.pop()
            s = wire.dial(port)
            try:
                s.sendall(raw)
                if finish(i):
                    s.shutdown(socket.SHUT_WR)
            except OSError:
                pass
            s.setblocking(False)
            live[s.fileno()] = s
            poller.register(s, select.POLLIN)
        for fd, _ in poller.poll(100):
            try:
                if live[fd].recv(65536):
                    continue
            except BlockingIOError:
                continue
            except OSError:
                pass
            poller.unregister(fd)
            live.pop(fd).close()
        if time.monotonic() > end_at:
            t.fail(f"{len(live)} connections are still open")


def seed_of(t, what):
    seed = int(os.environ.get("WIRE_SEED", "0")) \
        or int.from_bytes(os.urandom(4), "big")
    print(f"     {what}: WIRE_SEED={seed}", flush=True)
    return seed


def mutated(rng, raw):
    """raw with a few bytes changed, or bytes put in, or cut."""
    raw = bytearray(raw)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(raw) + 1)
        how = rng.random()
        if how < 0.5 and at < len(raw):
            raw[at] = rng.choice((0, 1, 0x7F, 0x80, 0xFF,
                                  rng.randrange(256)))
        elif how < 0.8:
            raw[at:at] = rng.randbytes(rng.randint(1, 8))
        else:
            del raw[at:at + rng.randint(1, 8)]
    return bytes(raw)


@scenario(171, "hostile: random bytes, and mutations of what is valid")
def hostile_random(t):
    rng = random.Random(seed_of(t, "random bytes"))
    site = Site(t, "x", "y", more="handshake_timeout: 1s\n"
                "heartbeat_interval: 200ms\n", bystander=True)
    count = scaled(t, 1000, 50)
    hello = wire.hello_client()

    def payload(i):
        body = rng.randbytes(rng.choice((1, 2, 7, 50, 300, 5000)))
        valid = hello + register_of(fields_of(b"y", rng.randbytes(16)))
        behind = b"".join(rng.choice((
            wire.ping(i), wire.ack(0), wire.credit(1, 1 << 20),
            wire.open_(CLIENT_BIT | 1, wire.target_port(80)),
            wire.control(0x0300, body[:99]), data(1, body),
            wire.half_close(1), wire.limit(1, 1, 2), close(1)))
            for _ in range(rng.randint(0, 6)))
        classic = initial_remote("x") + b"".join(rng.choice((
            heartbeat(), data(i, body), close(i))) for _ in range(5))
        return (body, b"\0\0" + body, b"\1\0" + body, hello + body,
                valid + body, mutated(rng, valid), mutated(rng,
                                                          valid + behind),
                valid + mutated(rng, behind or b"\0"),
                mutated(rng, classic))[i % 9]
    swarm(t, site.tunnel, [payload(i) for i in range(count)], 100,
          lambda i: i % 2 == 0)
    site.check()
    t.ok(len(site.server.log("peer-dropped"))
         + len(site.server.log("session-ended")) <= count, "one line each")
    site.memory.check(24, f"{count} random peers")


@scenario(181, "hostile: a server of random bytes and mutations")
def hostile_server_random(t):
    rng = random.Random(seed_of(t, "random servers"))
    app = t.app(echo)
    far = Far(t, "handshake_timeout: 60s\n", tunnels=64)
    live = far.peer()
    s = live.connect(app.port)
    hello = wire.hello_server()
    welcome = wire.registered(77)
    for n in range(scaled(t, 63, 20)):
        p = far.server.accept_raw(40)
        body = rng.randbytes(rng.choice((1, 7, 300, 70000)))
        number = rng.choice((1, 2))
        talk = b"".join(rng.choice((
            wire.open_(number, wire.target_port(app.port)),
            data(1, body[:16384]), wire.half_close(1), wire.ping(n),
            wire.ack(0), wire.credit(1, 1 << 20), wire.limit(1, 1, 2),
            wire.opened(CLIENT_BIT | 1), wire.reset(1), close(1),
            wire.control(0x0300, body[:99])))
            for _ in range(rng.randint(1, 8)))
        raw = (body, mutated(rng, hello + welcome), hello + welcome + body,
               hello + mutated(rng, welcome) + talk,
               hello + welcome + mutated(rng, talk),
               hello + welcome + talk)[n % 6]
        # What it says is not looked at; that it goes on is.
        p.sock.settimeout(10 * t.factor)
        try:
            p.sock.sendall(raw)
            p.sock.shutdown(socket.SHUT_WR)
        except OSError:
            pass
        read_all = wire.read_all(p.sock)
        t.ok(len(read_all[0]) < MIB, f"{len(read_all[0])} bytes in answer")
        p.shut()
        live.send_data(s, b"hello")
        t.eq(live.read(s, 5), b"hello", "the other session")
    far.memory.check(24, "random servers")
    far.peer(40).ping()


@scenario(179, "hostile: payloads without end in the handshake")
def hostile_handshake_memory(t):
    site = Site(t, more="handshake_timeout: 2s\n", bystander=True)
    fars = [Far(t, "handshake_timeout: 2s\n") for _ in range(3)]
    body = bytes(1 << 18)

    def flood(sock):
        """As much as it takes, for as long as it takes it."""
        sock.settimeout(1.0 * t.factor)
        for _ in range(scaled(t, 1000, 200)):
            try:
                sock.sendall(body)
            except OSError:
                return
    for raw in (data(1, b"", 0xFFFFFFFF),
                wire.control(wire.REGISTER, b"", 0xFFFFFFFF),
                wire.control(0x0300, b"", 0xFFFFFFFF)):
        p = ExtendedClient(site.tunnel)
        p.hello_()
        p.wait_hello()
        p.raw(raw)
        flood(p.sock)
        site.memory.check(4, f"{raw[:12].hex()} in the handshake")
        p.abort()
        site.check()
    for far, raw in zip(fars, (
            wire.hello_server() + data(1, b"", 0xFFFFFFFF),
            data(1, b"", 0xFFFFFFFF), wire.u16(END) + b"\xff" * 4)):
        q = far.server.accept_raw()
        q.raw(raw)
        flood(q.sock)
        far.memory.check(4, f"{raw[-12:].hex()} in the handshake")
        q.abort()
    for far in fars:
        far.peer(40).ping()


@scenario(172, "hostile: connections that say nothing, or too slowly")
def hostile_silent(t):
    site = Site(t, more="handshake_timeout: 1s\n", bystander=True)
    count = scaled(t, 1000, 50)
    began = time.monotonic()
    slow = {}
    for what, raw in (
            ("hello", wire.hello_client()), ("classic", initial_remote(
                "a name of some length, for which there is time")),
            ("garbage", b"\1")):
        slow[what] = [ClassicClient(site.tunnel, beat=False), raw, None]
    # One that gets as far as InsRegister.
    p = ExtendedClient(site.tunnel)
    p.hello_()
    p.wait_hello()
    slow["register"] = [p, register_of(fields_of(b"x" * 200)), None]
    stop = threading.Event()

    def dribble():
        sent = 0
        while not stop.is_set() and any(x[2] is None for x in slow.values()):
            for x in slow.values():
                p, raw, closed = x
                if closed is None:
                    p.push(raw[sent:sent + 1])
                    try:
                        p.pump(0)
                    except WireError:       # a dialect that it does not speak
                        p.closed = "eof"
                    if p.closed:
                        x[2] = time.monotonic() - began
            sent += 1
            stop.wait(0.1)
    thread = t.thread(dribble)
    swarm(t, site.tunnel, [b""] * count, count)
    waited = time.monotonic() - began
    t.ok(waited >= 0.9, f"closed after {waited:.2f} s")
    thread.join()
    for what, (p, _, closed) in slow.items():
        t.ok(closed is not None, f"{what}: slow, and still there")
        t.ok(closed >= 0.9, f"{what}: closed after {closed:.2f} s")
    if p.ended is not None:
        t.eq(p.ended.code, E_TOO_SLOW, "the code")
    site.check()
    lines = site.server.log("peer-dropped")
    t.ok(1 <= len(lines) <= count + 4, f"{len(lines)} lines")
    site.memory.check(24, f"{count} silent connections")
    base = site.server.fds()
    t.ok(base < 100, f"{base} descriptors")


# ------------------------------------------------ after the registration: 173

def own(p, n):
    return n | (0 if p.is_server else CLIENT_BIT)


def theirs(p, n):
    return n | (CLIENT_BIT if p.is_server else 0)


def next_open(p, fields, **values):
    """InsOpen with the identity that is due."""
    return wire.open_(own(p, p.next_identity), fields, **values)


def violations():
    """(what, function(peer, open stream)): what ends any session."""
    def case(what, *make):
        return what, lambda p, s: p.send(*[m(p, s) for m in make])
    target = wire.target_port(80)
    yield case("data past the grant", lambda p, s: data(
        s.identity, bytes(s.tx_grant - s.tx + 1)))
    yield case("data that declares 4 GiB", lambda p, s: data(
        s.identity, b"", 0xFFFFFFFF))
    for what, to in (("does not rise", lambda s: s.rx_granted),
                     ("falls", lambda s: s.rx_granted - 1),
                     ("is zero", lambda s: 0),
                     ("is over 2^63", lambda s: (1 << 63) + 1),
                     ("is all ones", lambda s: (1 << 64) - 1)):
        yield case(f"credit that {what}",
                   lambda p, s, to=to: wire.credit(s.identity, to(s)))
    yield case("the same credit twice", *[
        lambda p, s: wire.credit(s.identity, 1 << 40)] * 2)
    yield case("acknowledgement of what was not sent",
               lambda p, s: wire.ack(p.rx_offset + (1 << 30)))
    yield case("acknowledgement of all ones",
               lambda p, s: wire.ack((1 << 64) - 1))
    yield case("acknowledgement that goes back",
               lambda p, s: wire.ack(p.rx_offset),
               lambda p, s: wire.ack(p.rx_offset - 1))
    yield case("InsOpened for an open stream",
               lambda p, s: wire.opened(s.identity))
    for which, make in (("own", own), ("their", theirs)):
        for n in (0, 1000, CLIENT_BIT - 1):
            for what, ins in (
                    ("data", lambda i: data(i, b"x")),
                    ("no data", lambda i: data(i, b"")),
                    ("half-close", wire.half_close), ("reset", wire.reset),
                    ("close", close), ("opened", wire.opened),
                    ("credit", lambda i: wire.credit(i, 1 << 30)),
                    ("limit", lambda i: wire.limit(i, 16384, 16384))):
                if n == 1000 or what in ("data", "reset"):
                    yield case(f"{what} for {which} identity {n}, never "
                               "opened", lambda p, s, n=n, make=make,
                               ins=ins: ins(make(p, n)))
    yield case("half-close twice",
               *[lambda p, s: wire.half_close(s.identity)] * 2)
    yield case("data after the half-close",
               lambda p, s: wire.half_close(s.identity),
               lambda p, s: data(s.identity, b"x"))
    yield case("limit after the half-close",
               lambda p, s: wire.half_close(s.identity),
               lambda p, s: wire.limit(s.identity, s.tx, s.tx_granted))
    yield case("InsOpened after the half-close",
               lambda p, s: wire.half_close(s.identity),
               lambda p, s: wire.opened(s.identity))
    yield case("limit below what was sent",
               lambda p, s: data(s.identity, bytes(100)),
               lambda p, s: wire.limit(s.identity, s.tx + 99, s.tx_granted))
    yield case("limit above what was seen",
               lambda p, s: wire.limit(s.identity, s.tx_granted + 1,
                                       s.tx_granted))
    yield case("data past our own limit",
               lambda p, s: wire.limit(s.identity, s.tx + 16384,
                                       s.tx_granted),
               lambda p, s: data(s.identity, bytes(16385)))
    yield case("InsHello", lambda p, s: wire.hello_client())
    yield case("InsHello of a server", lambda p, s: wire.hello_server())
    yield case("InsRegister", lambda p, s: register_of(fields_of()))
    yield case("InsRegistered", lambda p, s: wire.registered(9))
    yield case("InsEnd of code 0", lambda p, s: wire.end(0))
    yield case("classic registration", lambda p, s: initial_remote("x"))
    yield case("classic open", lambda p, s: initial_connection(5, 80))
    yield case("heartbeat", lambda p, s: heartbeat() + bytes(4))
    for n in (0x0005, 0x00FF, 0x0101, 0x01FF, 0x8000, 0x8200, 0x8226,
              0xC204, 0xC205, 0xBFFF, 0xC300, 0xFFFF):
        yield case(f"number {n:#06x}", lambda p, s, n=n: wire.control(n))
    for n in (0x0300, 0x4300):
        yield case(f"{n:#06x} of 65,537 bytes",
                   lambda p, s, n=n: wire.control(n, bytes(65537)))
        yield case(f"{n:#06x} without end",
                   lambda p, s, n=n: wire.control(n, b"", 0xFFFFFFFF))
    for n, (least, most) in wire.LENGTHS.items():
        for length in (least - 1, most + 1):
            if length >= 0:
                yield case(f"{wire.NAMES[n]} of {length} bytes",
                           lambda p, s, n=n, length=length:
                           wire.control(n, bytes(length)))
        yield case(f"{wire.NAMES[n]} without end",
                   lambda p, s, n=n: wire.control(n, b"", 0xFFFFFFFF))
    # InsOpen.
    yield case("open of the wrong side",
               lambda p, s: wire.open_(theirs(p, 1000), target))
    yield case("open of number 0", lambda p, s: wire.open_(own(p, 0), target))

    def again(p, s):
        x = p.open(target)
        p.wait_answer(x)
        p.send(wire.open_(x.identity, target))
    yield "open that does not count up", again

    def back(p, s):
        p.open(target)
        x = p.open(target)
        p.wait_answer(x)
        p.send(wire.open_(x.identity - 1, target))
    yield "open that counts down", back
    for window in (0, 16383, (1 << 40) + 1, (1 << 64) - 1):
        yield case(f"open with a window of {window}",
                   lambda p, s, w=window: next_open(p, target, window=w))
    bad = wire.F_TARGET
    for what, fields in (
            ("no target", wire.field(0x0123)), ("target twice", target * 2),
            ("an empty target", wire.field(bad)),
            ("form 1 of 2 bytes", wire.field(bad, b"\1\0")),
            ("form 1 of 4 bytes", wire.field(bad, b"\1\0\0\0")),
            ("form 2 without a host", wire.field(bad, b"\2\0\x50")),
            ("form 2 of 254 bytes", wire.target_host(80, "h" * 254)),
            ("a cut head", target + b"\0\2\0"),
            ("a cut value", target + wire.field(2, b"\4\x7f", 7)),
            ("a short source", target + wire.field(2, b"\4\x7f\0\0\1\0")),
            ("a source of family 5", target + wire.field(2, b"\5" +
                                                         bytes(6))),
            ("a long source", target + wire.field(2, b"\4" + bytes(18))),
            ("a short destination", target + wire.field(3, b"\6" +
                                                        bytes(6))),
            ("source twice", target
             + wire.address(2, "127.0.0.1", 1) * 2),
            ("a must-understand field", target + wire.field(0x8002)),
            ("another one", wire.field(0xFFFF) + target)):
        yield case(f"open with {what}",
                   lambda p, s, fields=fields: next_open(p, fields))


def violations_opening():
    """(what, function(peer, stream that we did not answer)); proxy-server."""
    def case(what, *make):
        return what, lambda p, u: p.send(*[m(u.identity) for m in make])
    yield case("data before our answer", lambda i: data(i, b"x"))
    yield case("no data before our answer", lambda i: data(i, b""))
    yield case("half-close before our answer", wire.half_close)
    yield case("credit before our answer", lambda i: wire.credit(i, 1 << 20))
    yield case("limit before our answer", lambda i: wire.limit(i, 5, 5))
    for w in (0, 16383, (1 << 40) + 1, (1 << 64) - 1):
        yield case(f"InsOpened with a window of {w}",
                   lambda i, w=w: wire.opened(i, window=w))
    yield case("a refusal with a window", lambda i: wire.control(
        OPENED, wire.u48(i) + b"\1" + wire.u64(16384)))
    reason = wire.field(wire.F_REASON, b"why")
    for what, fields in (
            ("reason twice", reason * 2), ("a cut head", reason + b"\0"),
            ("a cut value", wire.field(1, b"", 3)),
            ("a reason of 256 bytes", wire.field(1, b"r" * 256)),
            ("a must-understand field", wire.field(0x8001))):
        yield case(f"InsOpened with {what}",
                   lambda i, f=fields: wire.opened(i, fields=f))
        yield case(f"a refusal with {what}",
                   lambda i, f=fields: wire.opened(i, REFUSED, fields=f))


def violations_connecting():
    """(what, function(peer, stream that has no answer)); remote-client."""
    def case(what, *make):
        return what, lambda p, u: p.send(*[m(u.identity) for m in make])
    half = wire.half_close
    late = (("InsOpened", wire.opened),
            ("credit", lambda i: wire.credit(i, 1 << 40)),
            ("limit", lambda i: wire.limit(i, 16384, 16384)))
    for what, make in late:
        yield case(f"connecting: {what}", make)
        yield case(f"connecting, half-closed: {what}", half, make)
    yield case("connecting: 16 KiB and a byte",
               lambda i: data(i, bytes(16384)), lambda i: data(i, b"x"))
    yield case("connecting: 16 KiB and a byte at once",
               lambda i: data(i, bytes(16385)))
    yield case("connecting, half-closed: data", half,
               lambda i: data(i, b"x"))
    yield case("connecting, half-closed: again", half, half)


def leniencies():
    """(what, function(peer, open stream)) of which PROTOCOL.md does not say
    whether they are offences: either InsEnd 1, or all goes on."""
    def case(what, make):
        return what, lambda p, s: p.send(make(p, s))
    yield case("a pong that nobody asked for", lambda p, s: wire.pong(5))
    for reason in (0, 7, 65535):
        yield case(f"reset with reason {reason}",
                   lambda p, s, r=reason: wire.reset(s.identity, r))
    yield case("limit with a grant that never was",
               lambda p, s: wire.limit(s.identity, s.tx + 16384, 1 << 41))
    def leap(p, s):
        p.next_identity = 500
        p.open(wire.target_port(80))
    yield "open that leaves identities out", leap
    for host in (b"\xff\xfe", b"a\0b", b"a b", b"-", "n\u00e4me".encode()):
        yield (f"host {host!r}",
               lambda p, s, h=host: p.open(wire.target_host(80, h)))
    yield "port 0", lambda p, s: p.open(wire.target_port(0))
    yield "an unknown field twice", lambda p, s: p.open(
        wire.target_port(80) + wire.field(0x0999) * 2)
    yield case("fields in a carrier-local skippable", lambda p, s:
               wire.control(0x4999, wire.field(1)))


def run_violation(fn, p, stream, code):
    p.quiet = True
    fn(p, stream)
    if code is not None:
        p.expect_end(code, 3)
        return
    # Either.
    try:
        p.ping()
    except WireError:
        if p.ended is None or p.ended.code != E_PROTOCOL:
            raise
        p.expect_closed()


@scenario(173, "hostile: every violation by an extended client")
def hostile_client(t):
    site = Site(t, bystander=True)
    cases = [(*c, "open", E_PROTOCOL) for c in violations()]
    cases += [(*c, "opening", E_PROTOCOL) for c in violations_opening()]
    cases += [(*c, "open", None) for c in leniencies()]
    for n in (9, 255):
        cases.append((f"outcome {n}", lambda p, u, n=n: p.send(
            wire.opened(u.identity, n)), "opening", None))
    cases.append(("a reason that is not UTF-8", lambda p, u: p.send(
        wire.opened(u.identity, 1, fields=wire.field(1, b"\xff"))),
        "opening", None))
    found = Findings()
    for n, (what, fn, state, code) in enumerate(cases):
        p = site.extended()
        v, s = site.pair(p)
        p.send_data(s, b"before")
        t.eq(read_exactly(v, 6), b"before", what)
        if state == "opening":
            u = site.visit()
            s = p.accept_stream(answer=False)
        found.run(what, run_violation, fn, p, s, code)
        port = local_port(p)
        p.shut()
        read_to_end(v)
        t.until(lambda: site.server.log(
            "session-ended", peer=f"127.0.0.1:{port}"),
            what=f"{what}: session-ended in the log")
        site.logged_once(port, what)
        if n % 10 == 0:
            site.check()
    site.check()
    t.eq(site.server.log("peer-dropped"), [], "all of them were registered")
    site.memory.check(24, f"{len(cases)} violations")
    found.check(t, len(cases))


@scenario(174, "hostile: every violation by an extended server")
def hostile_server(t):
    app, full = t.app(echo), FullListener()
    cases = [(*c, "open", E_PROTOCOL) for c in violations()]
    cases += [(*c, "connecting", E_PROTOCOL)
              for c in violations_connecting()]
    cases += [(*c, "open", None) for c in leniencies()]
    fars, found = [], Findings()
    for _ in range(len(cases) // 63 + 1):
        far = Far(t, "connect_timeout: 60s\n", tunnels=64)
        fars.append(far)
        far.live = far.peer(20)
        far.echo = far.live.connect(app.port)
        far.peers = [far.peer(20) for _ in range(63)]
    for n, (what, fn, state, code) in enumerate(cases):
        far = fars[n % len(fars)]
        p = far.peers.pop()
        s = p.connect(app.port)
        p.send_data(s, b"before")
        t.eq(p.read(s, 6), b"before", what)
        if state == "connecting":
            s = p.open(wire.target_port(full.port))
        found.run(what, run_violation, fn, p, s, code)
        p.shut()
        if n % 10 == 0:
            far.live.send_data(far.echo, b"%05d" % n)
            t.eq(far.live.read(far.echo, 5), b"%05d" % n, "the other session")
    used = [n for n in range(len(cases))]
    for i, far in enumerate(fars):
        far.live.send_data(far.echo, b"end")
        t.eq(far.live.read(far.echo, 3), b"end", "the other session")
        mine = len([n for n in used if n % len(fars) == i])
        far.client.wait_log("session-ended", count=mine)
        far.memory.check(32, "violations")
        p = far.peer(40)                # it dials again
        s = p.connect(app.port)
        p.send_data(s, b"again")
        t.eq(p.read(s, 5), b"again", "after the next dial")
        t.eq(len(far.client.log("session-ended")), mine, "one line each")
    found.check(t, len(cases))


@scenario(175, "hostile: a server that breaks the handshake")
def hostile_server_handshake(t):
    good = wire.hello_server()[6:]
    session = wire.field(wire.F_SESSION, wire.u64(5))
    hellos = [
        ("HTTP", b"HTTP/1.1 400 Bad Request\r\n\r\n"), ("SSH", SSH_BANNER),
        ("TLS", b"\x15\x03\x01\0\2\2\x28"), ("random", os.urandom(500)),
        ("a client's InsHello", wire.hello_client()),
        ("InsHello of 65 bytes", wire.control(HELLO, good[:65])),
        ("InsHello of 1,025 bytes", wire.control(HELLO, good + bytes(959))),
        ("InsHello without end", wire.control(HELLO, b"", 0xFFFFFFFF)),
        ("InsHello with a cut field", wire.control(HELLO, good + b"\0")),
        ("InsHello with a must-understand field",
         wire.control(HELLO, good + wire.field(0x8007))),
        ("InsRegistered first", wire.registered(5)),
        ("ping first", wire.ping(1)),
        ("heartbeat", heartbeat()), ("InsEnd of 1 byte",
                                     wire.control(END, b"\1")),
        ("InsEnd of 1,025 bytes", wire.control(END, bytes(1025))),
    ]
    answers = [
        ("no session", wire.control(REGISTERED)),
        ("session 0", wire.registered(0)),
        ("session of 7 bytes", wire.control(
            REGISTERED, wire.field(1, bytes(7)))),
        ("session twice", wire.control(REGISTERED, session * 2)),
        ("a cut field", wire.control(REGISTERED, session + b"\0\1")),
        ("a must-understand field", wire.registered(
            5, wire.field(0x8005))),
        ("too long", wire.registered(5, wire.field(5, bytes(1009)))),
        ("InsHello twice", wire.hello_server()),
        ("InsRegister", register_of(fields_of())),
        ("ping before InsRegistered", wire.ping(1)),
        ("open before InsRegistered", wire.open_(1, wire.target_port(80))),
        ("data before InsRegistered", data(1, b"x")),
        ("4 GiB of data", data(1, b"", 0xFFFFFFFF)),
        ("classic open", initial_connection(1, 80)),
        ("InsRegistered twice", wire.registered(5) + wire.registered(6)),
    ]
    app = t.app(echo)
    far = Far(t, "handshake_timeout: 60s\n",
              tunnels=len(hellos) + len(answers) + 1)
    live = far.peer()
    s = live.connect(app.port)
    found = Findings()
    for what, raw in hellos + answers:
        p = far.server.accept_raw()
        p.wait_hello()
        if (what, raw) in answers:
            p.hello_()
            p.wait_register()
            p.ready = "twice" in what
        p.raw(raw)
        if (what, raw) in answers:
            found.run(what, p.expect_end, E_PROTOCOL, 3)
        else:
            found.run(what, p.expect_closed, 3)
        p.shut()
        live.send_data(s, b"hello")
        t.eq(live.read(s, 5), b"hello", "the other session")
    p = far.peer(40)
    p.ping()
    far.memory.check(16, "handshakes that break")
    found.check(t, len(hellos) + len(answers))


def blast(sock, make, count, t, stop_when=lambda: False):
    """Send count pieces and read nothing; how many the daemon took before
    it closed ("closed") or stopped reading ("blocked")."""
    sock.settimeout(1.0 * t.factor)
    for n in range(count):
        try:
            sock.sendall(make(n))
        except (TimeoutError, BlockingIOError):
            return n, "blocked"
        except OSError:
            return n, "closed"
    return count, "taken"


def asker_cases(t, connect, refused):
    """connect() gives a new session; refused(peer, n) is an InsOpen with the
    n-th identity that is answered with a refusal."""
    yield ("pings", connect(receive_buffer=4096),
           lambda p, n: wire.ping(n) * 1000,
           scaled(t, 500, 200))
    yield ("refused opens", connect(receive_buffer=4096),
           lambda p, n: b"".join(refused(p, n * 500 + i + 1)
                                 for i in range(500)),
           scaled(t, 800, 400))


def check_askers(t, connect, refused, memory, check, over):
    """over(peer) gives a stream that is over."""
    for what, p, make, count in asker_cases(t, connect, refused):
        taken, how = blast(p.sock, lambda n: make(p, n), count, t)
        check()
        memory.check(24, f"{what}: {taken} thousands, {how}")
        p.abort()
        check()
    # Answers that are read, but not acknowledged: at most 1 MiB of them.
    p = connect()
    p.auto_ack = False
    n = 0
    while p.ended is None and not p.closed and n < 200000:
        p.queue(*[refused(p, n + i + 1) for i in range(200)])
        for i in range(200):
            identity = own(p, n + i + 1)
            p.streams[identity] = wire.Stream(identity, True, wire.WINDOW,
                                              16384)
        n += 200
        p.flush()
        p.pump()
        p.inbox.clear()
    p.expect_end(E_NOT_READ)
    # The answers to the last read of ours were never sent: 260 KiB of opens.
    t.ok(p.rx_offset > 700 * KIB, f"ended after {p.rx_offset} bytes")
    check()
    # Data for a stream that is over costs nothing, and is no offence.
    p = connect()
    s = over(p)
    body = bytes(65536)
    for _ in range(scaled(t, 1000, 50)):
        p.queue(data(s.identity, body))
        p.flush()
    if not s.ours:
        p.send(wire.opened(s.identity))
    p.send(wire.half_close(s.identity), wire.half_close(s.identity),
           wire.credit(s.identity, 0),
           wire.limit(s.identity, 9, 1), wire.reset(s.identity),
           close(s.identity), close(s.identity))
    p.settle()
    p.ping()
    memory.check(24, "data for streams that are over")
    check()
    p.shut()


@scenario(176, "hostile: a client that never reads its answers")
def hostile_client_asks(t):
    site = Site(t, bystander=True)

    def refused(p, n):
        return wire.open_(CLIENT_BIT | n, wire.target_port(80), 16384)

    def over(p):
        v, s = site.pair(p)
        p.send_reset(s)
        read_to_end(v)
        return s
    check_askers(t, site.extended, refused, site.memory, site.check, over)
    # Data that the daemon sends and that is read, but never acknowledged.
    p = site.extended()
    p.auto_ack = False
    v, s = site.pair(p)
    s.sink = lambda piece: None
    v.settimeout(0.5 * t.factor)
    most = scaled(t, 64 * MIB, 8 * MIB)

    def send():
        try:
            for _ in range(most // 65536):
                v.sendall(bytes(65536))
        except OSError:
            pass
    sender = t.thread(send)
    quiet = time.monotonic()
    while time.monotonic() - quiet < 0.5 * t.factor and not p.closed:
        before = s.rx_total
        p.pump(0.05)
        if s.rx_total > before:
            quiet = time.monotonic()
    sender.join()
    site.memory.check(24 + 64, "data that is not acknowledged")
    site.check()


@scenario(177, "hostile: a server that never reads its answers")
def hostile_server_asks(t):
    app = t.app(echo)
    far = Far(t, f'allow_targets: ["127.0.0.1:{app.port}"]\n', tunnels=8)
    live = far.peer()
    s = live.connect(app.port)

    def check():
        live.send_data(s, b"hello")
        t.eq(live.read(s, 5), b"hello", "the other session")

    def connect(receive_buffer=None):
        p = far.peer(40)
        if receive_buffer:
            p.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF,
                              receive_buffer)
        return p

    def refused(p, n):
        return wire.open_(n, wire.target_port(1), 16384)

    def over(p):
        x = p.connect(app.port)
        p.send_reset(x)
        p.ping()
        return x
    check_askers(t, connect, refused, far.memory, check, over)


@scenario(178, "hostile: a classic client's violations")
def hostile_classic(t):
    site = Site(t, bystander=True)
    for what, raw in (
            ("registers twice", initial_remote("x")),
            ("InsInitialConnection", initial_connection(1, 80)),
            ("number 5", wire.u16(5)), ("InsHello", wire.hello_client()),
            ("0xFFFF", wire.u16(0xFFFF)), ("InsOpen", wire.open_(
                CLIENT_BIT | 1, wire.target_port(80)))):
        p = site.classic(beat=False)
        v, s = site.pair(p)
        p.send(heartbeat(), data(s.identity, b"before"))
        t.eq(read_exactly(v, 6), b"before", what)
        p.raw(raw)
        p.expect_closed()
        read_to_end(v)
        port = local_port(p)
        site.server.wait_log("session-ended", peer=f"127.0.0.1:{port}")
        site.logged_once(port, what)
        site.check()


# What a local socket still sends after its stream was closed was read into
# the buffer that the carrier's instructions were being taken from.

def closed_beside_others(t, p, pairs, close_one, rounds, mib):
    """pairs(): two (local socket, stream); the first is closed while it has
    more to say than the daemon took, and instructions follow in the same
    segment."""
    for _ in range(rounds):
        (one, s1), (two, s2) = pairs()
        one.settimeout(0.3 * t.factor)
        try:                    # which no instruction is
            for _ in range(mib):
                one.sendall(b"\xff" * MIB)
        except (TimeoutError, BlockingIOError):
            pass
        text = pattern(7, 0, 20000)
        close_one(s1, data(s2.identity, text), s2)
        one.settimeout(10 * t.factor)
        t.eq(read_to_end(one)[0], b"", "the closed one")
        t.ok(read_exactly(two, len(text)) == text,
             "what came behind the close in the same segment")
        two.sendall(b"still here")
        yield two, s2


@scenario(180, "a closed socket's bytes are no instructions")
def closed_bytes(t):
    site = Site(t, "x", "k")
    app = Listener()
    p = site.extended()
    far = Far(t)
    q = far.peer()

    def close_extended(peer):
        def run(s1, behind, s2):
            s1.tx_end = CLOSE
            s2.tx += 20000
            peer.send(close(s1.identity), behind)
        return run

    def at_server():
        p.auto_credit = False
        pairs = []
        for _ in range(2):
            v = site.visit()
            pairs.append((v, p.accept_stream(window=16384)))
        return pairs

    def at_client():
        q.auto_credit = False
        return [(app.accept(), s) for s in
                (q.connect(app.port, 16384), q.connect(app.port, 16384))]
    for peer, pairs in ((p, at_server), (q, at_client)):
        for two, s2 in closed_beside_others(t, peer, pairs,
                                            close_extended(peer), 5, 1):
            t.eq(peer.read(s2, 10), b"still here", "the other one")
            peer.ping()
    # The same in the classic dialect, where a full carrier holds it back.
    k = site.classic("k")
    cfar = ClassicFar(t)

    def classic_pairs(peer, make):
        def run():
            peer.reading = True
            both = [make(), make()]
            peer.reading = False
            return both
        return run

    def close_classic(peer):
        def run(s1, behind, s2):
            s1.closed_by_us = True
            peer.send(close(s1.identity), behind)
        return run
    for peer, make in ((k, lambda: site.pair(k, "k")),
                       (cfar.p, lambda: cfar.pair(app))):
        for two, s2 in closed_beside_others(
                t, peer, classic_pairs(peer, make), close_classic(peer), 2,
                64):
            peer.reading = True
            t.eq(peer.read(s2.identity, 10), b"still here", "the other one")


# ================================================================ properties

class RandomStream:
    """One stream of a RandomPeer: s at the peer, sock at the daemon's local
    end; pattern(up) flows from sock to the peer, pattern(down) back."""

    def __init__(self, rng, number):
        self.rng = rng
        self.number = number
        self.s = None
        self.sock = None
        self.header = b""           # that sock has to read first
        self.up = self.size()
        self.down = self.size()
        self.up_check = Verifier(2 * number, f"stream {number} up")
        self.down_check = Verifier(2 * number + 1, f"stream {number} down")
        self.sent = 0               # by sock
        self.sent_down = 0          # by the peer, without the header
        self.sock_end = rng.choices(("fin", "reset"), (8, 1))[0]
        self.peer_end = rng.choices(("half", "reset", "close"), (8, 1, 1))[0]
        self.sock_at = rng.randint(0, self.up)
        self.peer_at = rng.randint(0, self.down)
        self.fin_sent = self.sock_closed = False
        self.saw = None             # "eof" or "reset", at sock
        self.lazy = rng.random() < 0.2
        self.refuse = rng.random() < 0.05
        self.began = time.monotonic()

    def size(self):
        r = self.rng
        return r.choice((0, 1, r.randint(2, 100), r.randint(100, 20000),
                         r.randint(20000, 300000), r.randint(1, 2 * MIB)))

    def __repr__(self):
        return (f"<{self.number}: {self.s} up {self.sent}/{self.up} "
                f"{self.sock_end}@{self.sock_at} got {self.up_check.got} "
                f"down {self.sent_down}/{self.down} {self.peer_end}@"
                f"{self.peer_at} got {self.down_check.got} saw {self.saw} "
                f"fin {self.fin_sent} closed {self.sock_closed}>")

    # - the local end -

    def step_sock(self):
        if self.sock is None or self.sock_closed:
            return
        r = self.rng
        if not (self.lazy and r.random() < 0.9):
            self.read_sock(r.choice((1, 100, 4096, 65536, 262144)))
        if self.sock_closed or self.fin_sent:
            return
        if self.sock_end == "reset" and self.sent >= self.sock_at \
                and r.random() < 0.3:
            reset(self.sock)
            self.sock_closed = True
            return
        if self.sent < self.up:
            n = min(self.up - self.sent, r.choice((1, 1000, 16384, 100000)))
            try:
                self.sent += self.sock.send(
                    pattern(2 * self.number, self.sent, n))
            except BlockingIOError:
                pass
            except OSError:
                self.saw = self.saw or "reset"
                self.read_rest()
        elif self.sock_end == "fin":
            try:
                self.sock.shutdown(socket.SHUT_WR)
            except OSError:
                pass
            self.fin_sent = True

    def read_sock(self, n):
        try:
            piece = self.sock.recv(n)
        except BlockingIOError:
            return
        except OSError:
            self.gone("reset")
            return
        if not piece:
            self.saw = self.saw or "eof"
            if self.fin_sent or (self.s is not None and self.s.over):
                self.gone("eof")
            return
        self.take_down(piece)

    def read_rest(self):
        """A send failed: the connection is reset; what came is still
        there."""
        while not self.sock_closed:
            before = self.down_check.got
            self.read_sock(1 << 20)
            if self.down_check.got == before:
                self.gone("reset")

    def take_down(self, piece):
        if self.header:
            n = min(len(piece), len(self.header))
            if piece[:n] != self.header[:n]:
                raise WireError(f"{self}: the header")
            self.header, piece = self.header[n:], piece[n:]
        if piece:
            self.down_check(piece)

    def gone(self, how):
        self.saw = self.saw or how
        self.sock.close()
        self.sock_closed = True

    # - the peer -

    def step_peer(self, p):
        s, r = self.s, self.rng
        if s is None or s.over:
            return
        if s.answer is None and not s.ours:
            if r.random() < 0.2:
                if self.refuse:
                    p.send_opened(s, r.randint(1, 8))
                else:
                    p.send_opened(s, CONNECTED, r.choice(
                        (16384, 16385, 65536, 262144, 1 << 40)))
            elif r.random() < 0.02:
                p.send_reset(s)
            return
        if self.peer_end != "half" and self.sent_down >= self.peer_at \
                and r.random() < 0.2:
            (p.send_reset if self.peer_end == "reset" else p.send_close)(s)
            return
        if s.tx_end is None:
            room = s.tx_grant - s.tx
            if self.sent_down < self.down and room > 0:
                n = min(r.choice((0, 1, 777, 16384, 65536, 262144)), room,
                        self.down - self.sent_down)
                p.send_data(s, pattern(2 * self.number + 1, self.sent_down,
                                       n), flush=False)
                self.sent_down += n
            elif self.sent_down == self.down and self.peer_end == "half":
                s.tx_end = HALF_CLOSE
                p.queue(wire.half_close(s.identity))
        if (s.answer == CONNECTED and s.rx_end is None
                and s.rx_grant - s.rx_total < r.choice((1, 9999, 200000))):
            s.rx_grant += r.choice((1, 3, 4095, 16384, 65537, 300001))
            s.rx_granted = s.rx_grant
            p.queue(wire.credit(s.identity, s.rx_grant))

    # - the end -

    def finished(self):
        s = self.s
        if s is None:               # a visitor that was gone at once
            return self.sock_closed and time.monotonic() - self.began > 1
        if self.sock is None:       # remote-client: nobody knows the socket
            return s.over and (s.tx < 8 or s.tx_end == RESET
                               or s.answer not in (None, CONNECTED))
        return s.over and self.sock_closed

    def verify(self):
        s = self.s
        if self.sock is None or s is None:
            return
        clean = (self.sock_end == "fin" and s.answer == CONNECTED
                 and s.tx_end == HALF_CLOSE)
        if clean:
            if (self.up_check.got, self.down_check.got) \
                    != (self.up, self.down) or s.rx_end != HALF_CLOSE:
                raise WireError(f"not all came: {self}")
        if s.tx_end == CLOSE and self.sock_end == "fin" \
                and s.rx_end != RESET:
            if self.down_check.got != self.sent_down:
                raise WireError(f"lost before InsCloseConnection: {self}")
        if self.sock_end == "reset" and s.tx_end in (None, HALF_CLOSE) \
                and s.answer == CONNECTED and s.rx_end != RESET \
                and self.sent < self.up:
            raise WireError(f"the reset was lost: {self}")


class RandomPeer:
    """Valid behaviour in random sizes, cuts and orders."""

    def __init__(self, t, seed, p, begin, most):
        self.t, self.p, self.begin, self.most = t, p, begin, most
        self.rng = random.Random(seed)
        self.streams = []
        self.ghosts = []            # visitors that reset before an open came
        self.done = 0
        self.number = 0
        p.auto_ack = p.auto_credit = False
        p.piece = lambda: self.rng.choice((1, 7, 100, 5000, 65536, 1 << 20))

    def run(self, seconds):
        end_at = time.monotonic() + seconds
        hard = end_at + 40 * self.t.factor
        while time.monotonic() < end_at or self.streams:
            now = time.monotonic()
            if now > hard:
                raise WireError(f"not finished: {self.streams}")
            if now < end_at and len(self.streams) < self.most \
                    and self.rng.random() < 0.5:
                self.number += 1
                x = RandomStream(self.rng, self.number)
                try:
                    self.begin(x)
                    self.streams.append(x)
                except ConnectionResetError:
                    pass    # no memory for it: refused before connect() ended
            self.turn()
        self.p.quiet = False
        self.p.auto_ack = True
        self.p.ping()
        self.p.settle()
        return self.done

    def turn(self):
        p, r = self.p, self.rng
        self.match()
        before = p.received, len(p.out)
        p.pump(0)
        if p.closed or p.ended:
            raise WireError(f"the session ended: {p.ended} {p.closed}")
        if p.rx_offset > p.ack_sent and r.random() < 0.3:
            p.ack_sent += r.randint(0, p.rx_offset - p.ack_sent) \
                if r.random() < 0.5 else p.rx_offset - p.ack_sent
            p.queue(wire.ack(p.ack_sent))
        if r.random() < 0.01:
            p.stamp += 1
            p.pings_sent.append(p.stamp)
            p.queue(wire.ping(p.stamp))
        if r.random() < 0.01:
            p.queue(wire.control(
                r.choice((0x0200, 0x0300, 0x3FFF, 0x4000, 0x4300, 0x7FFF)),
                bytes(r.choice((0, 1, 99, 5000, 65536)))))
        r.shuffle(self.streams)
        for x in list(self.streams):
            if len(p.out) < MIB:
                x.step_peer(p)
            x.step_sock()
            if x.finished():
                x.verify()
                self.streams.remove(x)
                if x.s is None:
                    self.ghosts.append(x)
                self.done += 1
        if before == (p.received, len(p.out)):
            time.sleep(0.0005)

    def match(self):
        """New opens find their streams by the visitor's address."""
        while self.p.inbox:
            ins = self.p.inbox.popleft()
            if ins.number != OPEN:
                continue
            for x in self.streams + self.ghosts:
                if x.s is None and x.address == ins.source:
                    x.s = self.p.streams[ins.identity]
                    x.up_check(x.s.rx)      # what came with it
                    x.s.sink = x.up_check
                    if x in self.ghosts:
                        self.ghosts.remove(x)
                        self.streams.append(x)
                    break
            else:
                raise WireError(f"{ins}: from no visitor of ours")


@scenario(190, "property: random extended peers in both roles")
def random_peers(t):
    seed = seed_of(t, "random peers")
    seconds = 30 * t.scale
    # Sometimes with so little memory that opens are refused.
    choice = random.Random(seed)
    memory = [choice.choice(("256MiB", "1MiB")) for _ in range(2)]
    site = Site(t, more=f"session_memory: {memory[0]}\n")
    far = Far(t, f"session_memory: {memory[1]}\n")
    app = Listener()
    apps = {}

    def begin_visit(x):
        # Each from an address of its own: one that was refused gets no open,
        # and another may come from its port in the next moment.
        n = x.number
        x.sock = t.connect(site.ports["x"], source="127.%d.%d.%d" % (
            1 + (n >> 16), n >> 8 & 255, n & 255))
        x.sock.setblocking(False)
        x.address = x.sock.getsockname()

    first = RandomPeer(t, seed, site.extended(), begin_visit,
                       choice.choice((8, 60)))

    q = far.peer()

    def begin_open(x):
        s = x.s = q.open(wire.target_port(app.port), x.rng.choice(
            (16384, 65537, 262144, 1 << 40)), send=False)
        s.sink = x.up_check
        x.header = wire.u64(x.number)
        apps[x.number] = x
        if x.rng.random() < 0.05:
            if x.peer_end != "half":    # it ends before anybody knows it
                x.peer_at = x.down = 0
                return
        q.send_data(s, x.header, flush=False)

    second = RandomPeer(t, seed + 1, q, begin_open, choice.choice((8, 60)))
    stop = threading.Event()

    def know():
        """Accept, read the header, hand the socket to its stream."""
        unknown = []
        app.sock.settimeout(0.01)
        while not stop.is_set():
            try:
                c, _ = app.sock.accept()
                c.setblocking(False)
                unknown.append([c, b""])
            except (socket.timeout, BlockingIOError):
                pass
            for u in list(unknown):
                try:
                    piece = u[0].recv(8 - len(u[1]))
                except BlockingIOError:
                    continue
                except OSError:
                    piece = b""
                u[1] += piece
                if not piece:
                    u[0].close()
                    unknown.remove(u)
                elif len(u[1]) == 8:
                    x = apps.pop(int.from_bytes(u[1], "big"))
                    x.header = b""
                    x.sock = u[0]
                    unknown.remove(u)
        for u in unknown:
            u[0].close()
    acceptor = t.thread(know)
    other = t.thread(second.run, seconds)
    try:
        done = first.run(seconds)
        done2 = other.join(120)
    finally:
        stop.set()
    acceptor.join()
    print(f"     random peers: {done} streams at proxy-server, {done2} at "
          "remote-client", flush=True)
    t.ok(min(done, done2) >= 10 * t.scale, f"streams: {done}, {done2}")
    site.memory.check(64, "random streams")
    far.memory.check(64, "random streams")
