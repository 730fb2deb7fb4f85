"""The life of a session, 240-259: go-away, draining, carriers that are lost or
fall silent between the two daemons, take-over, reloading a remote-client."""
import random
import signal
import socket
import time

import wire
from harness import read_exactly, reset, scenario
from relay import Relay
from scenarios_operation import ask, fixed
from scenarios_reload import Stream, hup, nobody_listens
from scenarios_resume import (MINUTE, Steady, admit, far_steady, next_dial,
                              resumable, resumable_far, steady)
from scenarios_targets import echo_once
from scenarios_wire import Far, Findings, Site, echo, rest, scaled
from wire import (E_FINISHED, E_NO_RESOURCES, E_SHUTTING_DOWN,
                  E_UNKNOWN_SESSION, HALF_CLOSE, REGISTER, ExtendedClient,
                  ExtendedServer, Instance, Listener, Verifier, pattern)


def end_stream(t, one):
    """Both ends of a steady stream say that this is all."""
    one.end.shutdown(socket.SHUT_WR)
    t.eq(one.p.read_end(one.stream), (b"", HALF_CLOSE), "its end")
    one.p.send_half_close(one.stream)
    t.expect_eof(one.end, b"")


def finish(p):
    """A server of ours ends a session whose streams are over."""
    p.settle()
    p.send(wire.end(E_FINISHED))
    p.finish()
    p.expect_closed()


# --------------------------------------------------------------- go-away: 240

@scenario(240, "go-away of a proxy-server that drains: refusals, a resume, the "
          "end")
def server_goes_away(t):
    site = Site(t, more="drain_timeout: 60s\n")
    p = resumable(site)
    late = resumable(site, who=p.who)
    one, two = steady_on(t, site, p, late), steady_on(t, site, late, p)
    late.settle()
    # One of them loses its carrier before it has heard of it.
    late.most = 0
    site.server.signal(signal.SIGTERM)
    p.until(lambda: p.away, "InsGoAway")
    t.eq(p.away.code, E_SHUTTING_DOWN, "its code")
    late.lose()
    late.resume()
    late.until(lambda: late.away, "InsGoAway on the next carrier")
    t.until(lambda: nobody_listens(t, site.ports["x"]),
            what="the listener is closed")
    # No registration is taken, resumes are.
    for instance in (p.who, Instance("x")):
        q = ExtendedClient(site.tunnel, instance=instance)
        q.hello_()
        q.wait_hello()
        q.register_(resume=MINUTE)
        q.expect_end(E_SHUTTING_DOWN)
        q.shut()
    for _ in range(2):
        p.lose()
        p.resume()
        one.check()
        two.check()
    # The end of the last stream, and nothing but that, ends a session.
    end_stream(t, two)
    late.expect_end(E_FINISHED)
    one.check()
    p.auto_ack = False
    end_stream(t, one)
    p.ping()
    rest(0.1)
    p.pump()
    t.eq(p.ended, None, "an end before all was acknowledged")
    t.ok(site.server.alive(), "it went before all was acknowledged")
    p.send(wire.ack(p.rx_offset))
    p.expect_end(E_FINISHED)
    t.eq(site.server.wait_exit(expected=0), 0, "its exit")


def steady_on(t, site, p, *others):
    """A steady stream on the session p, wherever visitors go."""
    while True:
        v = site.visit()
        opened = {q: q.their_identity for q in (p, *others)}
        q = p.until(lambda: next((q for q, n in opened.items()
                                  if q.their_identity > n), None),
                    "an open", others=others)
        s = q.accept_stream()
        if q is p:
            out = Steady(t, p, v, s)
            out.check()
            return out
        q.send_close(s)
        t.expect_eof(v, b"")


@scenario(241, "go-away of a remote-client: no new streams, old ones live")
def client_goes_away(t):
    site = Site(t, more="wait_for_remote: 20s\n")
    p = resumable(site)
    one = steady(t, site, p)
    two = resumable(site, who=p.who)
    p.send_go_away(E_SHUTTING_DOWN, "stopping")
    p.ping()
    site.server.wait_log("going-away", session=p.session)
    for _ in range(8):
        v = site.visit()
        s = two.accept_stream()
        two.send_close(s)
        t.expect_eof(v, b"")
    p.ping()
    t.eq(p.their_identity, 1, "streams of the one that goes")
    one.check()
    # It is in nobody's way, and a carrier may be lost meanwhile.
    p.lose()
    two.send_go_away(E_SHUTTING_DOWN)
    two.expect_end(E_FINISHED)
    other = ExtendedClient(site.tunnel, instance=Instance("x"))
    other.start(standby=True)
    v = site.visit()
    s = other.accept_stream()
    p.resume()
    one.check()
    other.send_close(s)
    t.expect_eof(v, b"")
    p.ping()
    t.eq(p.ended, None, "the one that goes")
    p.auto_ack = False
    end_stream(t, one)
    p.ping()
    t.eq(p.ended, None, "an end before all was acknowledged")
    # The acknowledgement is on the next carrier: the offset of its resume.
    p.lose()
    q = p.attempt()
    p.take(q, q.wait_resumed())
    p.auto_ack = True
    p.expect_end(E_FINISHED)
    other.ping()
    # Nobody is there now: a visitor waits for the next.
    other.send_go_away(E_SHUTTING_DOWN)
    other.expect_end(E_FINISHED)
    v = site.visit()
    v.sendall(b"hello")
    late = resumable(site)
    t.eq(late.read(late.accept_stream(), 5), b"hello", "one that waited")


@scenario(242, "go-away of a server: the remote-client registers anew")
def far_goes_away(t):
    far, app = Far(t), Listener()
    p = resumable_far(far)
    one = far_steady(t, p, app)
    before = time.monotonic()
    p.send_go_away(E_SHUTTING_DOWN, "draining")
    # It may have crossed an open.
    crossed = far_steady(t, p, app)
    two = resumable_far(far)
    t.ok(time.monotonic() - before < 2 * t.factor, "not at once")
    t.eq(two.registration.held, [p.session], "what it holds")
    far.client.wait_log("going-away", session=p.session, reason="draining")
    p.lose()
    p.resume(far.server)
    for n in (one, crossed, far_steady(t, two, app)):
        n.check()
    for n in (one, crossed):
        end_stream(t, n)
    finish(p)
    ended = far.client.wait_log("session-ended", session=p.session)
    t.eq(ended["level"], "info", "how it is logged")
    # Nobody takes it for a while: it asks every 2 s at least.
    two.send_go_away(E_SHUTTING_DOWN)
    times = []
    for _ in range(6):
        q, ins = next_dial(far.server)
        t.eq((ins.number, ins.held), (REGISTER, [two.session]), "the dial")
        times.append(time.monotonic())
        q.send(wire.end(E_SHUTTING_DOWN))
        q.finish()
    gaps = [b - a for a, b in zip(times, times[1:])]
    t.ok(max(gaps) < 2.5 * t.factor, f"the pauses: {gaps}")
    q, ins = next_dial(far.server)
    admit(q, ins).ping()
    # With a second proxy-server it goes there.
    far, second = Far(t), ExtendedServer()
    listed = f"[127.0.0.1:{far.server.port}, 127.0.0.1:{second.port}]"
    client = t.client(t.client_yaml(listed, "tunnels: 1\nworkers: 1",
                                    remote="y"))
    p = far.server.accept_peer(resume=MINUTE)
    while p.registration.name != "y":
        p = far.server.accept_peer(resume=MINUTE)
    one = far_steady(t, p, app)
    p.send_go_away(E_SHUTTING_DOWN)
    there = second.accept_peer()
    there.ping()
    one.check()
    t.eq(client.log("session-ended"), [], "sessions that ended")


# -------------------------------------------------------------- draining: 243

def drain(t, which):
    """SIGTERM of one daemon of a pair."""
    app = t.app(echo)

    def pair(timeout, wait="20s"):
        daemons = t.pair(
            [("tcp", app.port)], f"drain_timeout: {timeout}\n"
            f"wait_for_remote: {wait}", f"tunnels: 2\n"
            f"drain_timeout: {timeout}", registered=2)
        return daemons, daemons[which], daemons[1 - which]

    def term(one, other):
        one.signal(signal.SIGTERM)
        other.wait_log("going-away")
        one.wait_log("stopping")
    # Nothing to wait for.
    daemons, one, other = pair("30s")
    since = time.monotonic()
    t.eq(one.stop(), 0, "exit without streams")
    t.ok(time.monotonic() - since < 10 * t.factor, "without streams")
    ended = other.wait_log("session-ended", count=2)
    t.ok("finished" in ended["reason"], f"{ended}")
    # Short ones finish.
    daemons, one, other = pair("60s")
    short = [Stream(t, daemons[0].port()) for _ in range(6)]
    term(one, other)
    for stream in short:
        stream.works()
        stream.socket.sendall(bytes(300000))
        stream.socket.shutdown(socket.SHUT_WR)
        t.expect_eof(stream.socket, bytes(300000), "a stream that finishes")
    t.eq(one.wait_exit(expected=0), 0, "exit after the last stream")
    for stream in short:
        stream.socket.close()
    for daemon in (one, other):
        t.eq([e for e in daemon.log("stream") if e["ended_by"] == "session"],
             [], f"streams of the {daemon.name} that were cut")
    # A long one is reset.
    daemons, one, other = pair("1s")
    long = Stream(t, daemons[0].port())
    since = time.monotonic()
    term(one, other)
    long.works()
    t.expect_reset(long.socket, "a stream at drain_timeout")
    t.ok(time.monotonic() - since > 0.9, "before drain_timeout")
    t.eq(one.wait_exit(expected=0), 0, "exit at drain_timeout")
    # The second signal.
    daemons, one, other = pair("60s")
    long = Stream(t, daemons[0].port())
    since = time.monotonic()
    term(one, other)
    long.works()
    t.ok(one.alive(), "it waits")
    one.signal(signal.SIGTERM)
    t.expect_reset(long.socket, "a stream at the second signal")
    t.eq(one.wait_exit(expected=0), 0, "exit at the second signal")
    t.ok(time.monotonic() - since < 20 * t.factor, "at once")


@scenario(243, "SIGTERM of a proxy-server: streams finish, or are reset")
def server_drains(t):
    drain(t, 0)


@scenario(244, "SIGTERM of a remote-client: streams finish, or are reset")
def client_drains(t):
    drain(t, 1)


@scenario(245, "a remote-client takes over while the one before it drains")
def rolling(t):
    def says(word):
        return t.app(lambda c: (c.sendall(word), echo(c))).port
    app = says(b"hi")
    server, first = t.pair([("tcp", app)], "wait_for_remote: 20s",
                           "tunnels: 2\ndrain_timeout: 60s", registered=2)
    old = [Stream(t, server.port(), b"hi") for _ in range(4)]
    first.signal(signal.SIGTERM)
    server.wait_log("going-away", count=2)
    # Between the two visitors wait.
    waiting = t.connect(server.port())
    t.client(t.client_yaml(server.port("tunnel"), "tunnels: 2"),
             name="second", registered=2)
    t.eq(read_exactly(waiting, 2), b"hi", "one that waited")
    for stream in old:
        stream.works()
        Stream(t, server.port(), b"hi").works()
    for stream in old:
        stream.end()
    t.eq(first.wait_exit(expected=0), 0, "its exit")
    t.eq(server.log("session-ended", reason="replaced"), [], "replaced")
    waiting.sendall(b"on")
    t.eq(read_exactly(waiting, 2), b"on", "the stream of the second")


# --------------------------------------------------------------- visitors: 246

@scenario(246, "visitors while the only session is parked: they wait")
def visitors_wait(t):
    site = Site(t, more="wait_for_remote: 20s\n")
    p = resumable(site)
    one = steady(t, site, p)
    p.lose()
    site.server.wait_log("session-parked")
    visitors = [site.visit() for _ in range(4)]
    for n, v in enumerate(visitors):
        v.sendall(b"visitor %d" % n)
    rest(0.1)
    p.resume()
    texts = set()
    for _ in visitors:
        s = p.accept_stream()
        texts.add(p.read(s, 9))
        p.send_data(s, b"answer")
        p.send_close(s)
    t.eq(texts, {b"visitor %d" % n for n in range(4)}, "who was served")
    for v in visitors:
        t.expect_eof(v, b"answer")
    one.check()
    # And no longer than that.
    site = Site(t, more="wait_for_remote: 300ms\n")
    p = resumable(site)
    one = steady(t, site, p)
    p.lose()
    site.server.wait_log("session-parked")
    since = time.monotonic()
    t.visit_refused(site.ports["x"], "a visit")
    t.ok(time.monotonic() - since >= 0.29, "it waited")
    p.resume()
    one.check()


@scenario(247, "two sessions, one parked: visitors go to the other at once")
def visitors_other(t):
    site = Site(t, more="wait_for_remote: 60s\n")
    p = resumable(site)
    one = steady(t, site, p)
    two = resumable(site, who=p.who)
    p.lose()
    site.server.wait_log("session-parked", session=p.session)
    visitors = []
    for n in range(8):
        v = site.visit()
        v.sendall(b"x")
        t.eq(two.read(two.accept_stream(), 1), b"x", "the other session")
        visitors.append(v)
    p.resume()
    p.ping()
    one.check()
    # It is one of the two again.
    for _ in range(40):
        visitors.append(site.visit())
        until = time.monotonic() + 0.2
        while p.their_identity == 1 and time.monotonic() < until:
            p.pump(0.005)
        two.pump(0)
        if p.their_identity > 1:
            break
    t.ok(p.their_identity > 1, "no visitor comes to it again")


# ------------------------------------------------------------ two daemons: 248

class Loop:
    """A visitor that sends and gets back without pause, in a thread."""

    def __init__(self, t, port, seed):
        self.t, self.done = t, False
        self.socket = t.connect(port)
        self.verify = Verifier(seed)
        self.seed = seed
        self.thread = t.thread(self.run)

    def run(self):
        sent = 0
        while not self.done:
            self.socket.sendall(pattern(self.seed, sent, 20000))
            sent += 20000
            while self.verify.got < sent - 10000:
                self.verify(self.socket.recv(65536)
                            or self.t.fail("end of file"))
        self.socket.shutdown(socket.SHUT_WR)
        while piece := self.socket.recv(65536):
            self.verify(piece)
        self.t.eq(self.verify.got, sent, "bytes that came back")

    def finish(self):
        self.done = True
        self.thread.join()


def relayed(t, more="", ports=None, **options):
    """A pair of daemons with a relay between them."""
    app = t.app(echo)
    server = t.server(t.server_yaml(
        {"remote_client1": [("tcp", ports or app.port)]}, more))
    relay = Relay(t, server.port("tunnel"))
    client = t.client(t.client_yaml(relay.port, more, **options))
    return server, relay, client


@scenario(248, "a path that goes silent is found by heartbeats, idle or busy")
def black_hole(t):
    server, relay, client = relayed(
        t, "heartbeat_interval: 300ms\ntunnels: 1\nhandshake_timeout: 1s")
    client.wait_log("registered")
    stream = Stream(t, server.port())
    stream.works()
    for turn, busy in enumerate((False, True, False, True), 1):
        loops = [Loop(t, server.port(), n) for n in range(3 * busy)]
        if busy:
            passed = relay.passed
            t.until(lambda: relay.passed > passed + 1000000, 30,
                    "data on its way")
        since = time.monotonic()
        relay.hold()
        # The proxy-server may learn of it by the resume.
        client.wait_log("session-parked", count=turn, timeout=5)
        took = time.monotonic() - since
        t.ok(took >= 0.5, f"found after {took} s, before three intervals")
        server.wait_log("resumed", count=turn)
        stream.works()
        for loop in loops:
            loop.finish()
    t.eq((len(client.log("registered")), server.log("session-ended")),
         (1, []), "registrations, sessions that ended")
    # A path on which nothing passes from the beginning.
    relay.hold(also_new=True)
    client.wait_log("session-parked", count=5, timeout=5)
    accepted = relay.accepted
    t.until(lambda: relay.accepted > accepted, 10, "it dials meanwhile")
    relay.let_new()
    client.wait_log("resumed", count=5, timeout=20)
    stream.works()
    # The proxy-server finds it by itself, whether or not it has much to say.
    for much in (0, 20000000):
        site = Site(t, more="heartbeat_interval: 300ms\n")
        p = resumable(site)
        v, s = site.visit(), p.accept_stream(window=1 << 40)
        sender = t.thread(v.sendall, bytes(much))
        site.server.wait_log("session-parked", timeout=5)
        p.lose()
        p.resume()
        s.sink = lambda piece: None
        p.until(lambda: s.rx_total == much, "what waited", 30)
        sender.join()


@scenario(249, "carriers that are cut at random under traffic: every byte is "
          "right")
def cut_at_random(t):
    tool = t.tool("traffic", "serve", "0")
    server, relay, client = relayed(t, "tunnels: 2\nworkers: 2",
                                    tool.port())
    client.wait_log("registered", count=2)
    rng, cuts = random.Random(3), 0
    size = scaled(t, 12000000, 2000000)
    while cuts < scaled(t, 12, 4):
        run = t.thread(t.traffic, server.port(), "--mode", "both",
                       "--streams", 8, "--bytes", size)
        while run._thread.is_alive():
            time.sleep(rng.uniform(0.05, 0.3) * t.factor)
            cuts += relay.cut() > 0
        run.join(100)
    t.ok(len(client.log("resumed")) >= 2, "resumed sessions")
    t.eq(server.log("session-ended") + client.log("session-ended"), [],
         "sessions that ended")
    t.eq(len(server.log("registered")), 2, "registrations")


@scenario(250, "a second remote-client takes over while the first is parked")
def take_over(t):
    app = t.app(echo_once)
    text, tunnel, ports = fixed(t, [app], "wait_for_remote: 20s")
    server = t.server(text)
    relay = Relay(t, tunnel)
    first = t.client(t.client_yaml(relay.port, "tunnels: 1"), name="first",
                     registered=True)
    held = t.app(echo)
    ask(t, ports[0])
    relay.close()
    server.wait_log("session-parked")
    second = t.client(t.client_yaml(tunnel, "tunnels: 1"), name="second",
                      registered=True)
    server.wait_log("session-ended", reason="replaced")
    ask(t, ports[0])
    # The first one is back: it finds its session gone, and waits.
    relay = Relay(t, tunnel, relay.port)
    first.wait_log("standby", timeout=20)
    t.stays(lambda: len(server.log("registered")) == 2
            and not second.log("session-ended"), 2.5, "they alternate")
    ask(t, ports[0])
    # Until the second one leaves.
    t.eq(second.stop(), 0, "its exit")
    first.wait_log("registered", count=2, timeout=20)
    ask(t, ports[0])
    held.close()


@scenario(251, "a proxy-server with another start does not know its sessions")
def later_start(t):
    text, tunnel, ports = fixed(t, [1234])
    server = t.server(text)
    p = ExtendedClient(tunnel, "remote_client1")
    p.start(resume=MINUTE)
    server.kill()
    server = t.server(text)
    p.lose()
    q = p.attempt()
    t.eq((q.hello.instance, q.hello.start > p.server.start),
         (p.server.instance, True), "its instance and its start")
    q.expect_end(E_UNKNOWN_SESSION)
    # Even one whose number is in use again.
    other = ExtendedClient(tunnel, instance=p.who)
    other.start(resume=MINUTE)
    for session in (p.session, other.session):
        q = p.attempt(session=session, start=p.server.start)
        q.expect_end((E_UNKNOWN_SESSION, wire.E_NOT_RESUMED))
    other.ping()


@scenario(254, "a remote-client that drains comes back for its streams")
def drains_and_resumes(t):
    for parked in (False, True):
        far, app = Far(t, "drain_timeout: 60s\n"), Listener()
        p = resumable_far(far)
        one = far_steady(t, p, app)
        if parked:
            p.lose()
            q = far.server.accept_raw()
            ins = p.asked(q)
        far.client.signal(signal.SIGTERM)
        far.client.wait_log("stopping")
        if parked:
            p.answer(q, ins)
        p.until(lambda: p.away, "InsGoAway")
        t.eq(p.away.code, E_SHUTTING_DOWN, "its code")
        one.check()
        for _ in range(2):
            p.lose()
            p.resume(far.server)
            one.check()
        t.ok(not far.server.waiting(), "a registration")
        end_stream(t, one)
        t.ok(far.client.alive(), "it ended before it was told to")
        finish(p)
        t.eq(far.client.wait_exit(expected=0), 0, "its exit")
    # One that nobody comes back to.
    far = Far(t, "drain_timeout: 700ms\n")
    p = resumable_far(far)
    one = far_steady(t, p, app)
    far.server.shut()
    p.lose()
    far.client.wait_log("session-parked")
    far.client.signal(signal.SIGTERM)
    t.expect_reset(one.end, "a stream at drain_timeout")
    t.eq(far.client.wait_exit(expected=0), 0, "its exit")


@scenario(255, "a resume ends the sessions that its instance has given up")
def resume_settles(t):
    site = Site(t)
    p = resumable(site)
    one = steady(t, site, p)
    given_up, kept = (resumable(site, who=p.who) for _ in range(2))
    given_up.lose()
    p.who.held.remove(given_up.session)
    # One that is not settled may yet be held.
    p.lose()
    q = p.attempt(settled=0)
    p.take(q, q.wait_resumed())
    one.check()
    t.eq(site.server.log("session-ended"), [], "sessions that ended")
    p.lose()
    p.resume()
    site.server.wait_log("session-ended", session=given_up.session,
                         reason="not held")
    given_up.refused(E_UNKNOWN_SESSION, attempt=1)
    kept.ping()
    one.check()
    t.eq(len(site.server.log("session-ended")), 1, "sessions that ended")


def bad_go_aways():
    for n in (0, 1, 1025):
        yield f"InsGoAway of {n} bytes", wire.control(wire.GO_AWAY,
                                                      b"\0\1".ljust(n)[:n])
    yield "code 0", wire.go_away(0)
    yield "256 bytes of text", wire.go_away(9, "x" * 256)
    for text in (b"\xff", b"a\nb", b"\xc2\x85"):
        yield f"text {text}", wire.control(wire.GO_AWAY, wire.u16(9) + text)


@scenario(256, "hostile: InsGoAway that is malformed")
def bad_go_away(t):
    site, far = Site(t, bystander=True), Far(t)
    found, count = Findings(), 0
    for what, raw in bad_go_aways():
        count += 2
        p = resumable(site)
        p.send(raw)
        found.run(f"proxy-server: {what}", p.expect_end, wire.E_PROTOCOL)
        p.shut()
        p = resumable_far(far, timeout=40)
        p.send(raw)
        found.run(f"remote-client: {what}", p.expect_end, wire.E_PROTOCOL)
        p.shut()
        far.client.kill()
        far = Far(t)
    found.check(t, count)
    site.check()


# -------------------------------------------------- reload of a remote-client

@scenario(252, "SIGHUP of a remote-client: allow_targets, log_level, a bad "
          "file")
def reload_client(t):
    app = t.app(echo)
    server, client = t.pair([("tcp", app.port)], "",
                            "heartbeat_interval: 300ms")
    old = Stream(t, server.port())
    old.works()

    def text(more):
        return t.client_yaml(server.port("tunnel"),
                             f"heartbeat_interval: 300ms\n{more}")
    hup(t, client, text('allow_targets: ["127.0.0.1:1"]'))
    t.visit_refused(server.port(), "a target that is no longer allowed")
    old.works()
    # What cannot be read changes nothing.
    for bad, key in ((text("tunnels: many"), "tunnels"),
                     (text("no_such_key: 1"), "no_such_key"), ("{", ""),
                     (text("").replace("remote_client1", "other"), "name"),
                     (text("").replace("extended", "classic"), "dialect")):
        failed = hup(t, client, bad, "reload-failed")
        t.ok(key in failed["reason"], f"{failed}")
        t.visit_refused(server.port(), "a target that is not allowed")
        old.works()
    hup(t, client, text(f'allow_targets: ["127.0.0.1:{app.port}"]'))
    Stream(t, server.port()).end()
    t.eq(client.log("path"), [], "lines of the debug log")
    hup(t, client, text("log_level: debug"))
    client.wait_log("path")
    (t.dir / "client.yaml").write_text(text("log_level: error")
                                       + "drain_timeout: 0s\n")
    client.signal(signal.SIGHUP)

    def quiet():
        before = len(client.log("path"))
        rest(0.8 * t.factor)
        return len(client.log("path")) == before
    t.until(quiet, 20, "the debug log ends")
    old.works()
    old.end()
    t.eq(len(server.log("registered")), len(client.log("registered")),
         "registrations")
    t.eq(client.log("session-ended"), [], "sessions that ended")


@scenario(253, "SIGHUP of a remote-client: tunnels up and down, other servers")
def reload_tunnels(t):
    far, app, second = Far(t), Listener(), ExtendedServer()
    p = resumable_far(far)
    one = far_steady(t, p, app)

    def text(tunnels, port=far.server.port):
        return t.client_yaml(port, f"tunnels: {tunnels}\nworkers: 1\n"
                             f"drain_timeout: 0s", remote="x")
    hup(t, far.client, text(3))
    more = [resumable_far(far) for _ in range(2)]
    two = far_steady(t, more[0], app)
    t.ok(not far.server.waiting(), "more than it shall have")
    hup(t, far.client, text(1))
    for peer in more:
        peer.until(lambda: peer.away, "InsGoAway")
    two.check()
    end_stream(t, two)
    for peer in more:
        finish(peer)
    one.check()
    t.eq((p.away, p.ended), (None, None), "the one that stays")
    # Elsewhere: there at once, and here until the last stream is over.
    hup(t, far.client, text(1, second.port))
    there = second.accept_peer(resume=MINUTE)
    p.until(lambda: p.away, "InsGoAway")
    three = far_steady(t, there, app)
    one.check()
    p.lose()
    p.resume(far.server)
    one.check()
    end_stream(t, one)
    finish(p)
    three.check()
    far.client.wait_log("session-ended", count=3)
    t.ok(not far.server.waiting(), "it still dials the old one")


# ------------------------------------------------ what a session does not die of

@scenario(257, "visitors that come and go while the remote-client stands still")
def churn(t):
    app = t.app(echo)
    server, client = t.pair([("tcp", app.port)], "", "tunnels: 1")
    stream = Stream(t, server.port())
    stream.works()
    client.signal(signal.SIGSTOP)
    # Each leaves an open and an end behind: more than 1 MiB of them.
    for _ in range(20000):
        reset(t.connect(server.port()))
    client.signal(signal.SIGCONT)
    stream.works()
    stream.end()
    t.eq((server.log("session-ended"), client.log("session-ended")), ([], []),
         "sessions that ended")
    Stream(t, server.port()).works()


@scenario(258, "carriers that are cut right behind each resume: no spinning")
def cut_behind_resume(t):
    app = t.app(echo)
    server = t.server(t.server_yaml({"remote_client1": [("tcp", app.port)]}))
    relay = Relay(t, server.port("tunnel"))
    client = t.client(t.client_yaml(relay.port, "tunnels: 1"), registered=True)
    stream = Stream(t, server.port())
    stream.works()
    t.until(lambda: not stream.socket.recv(0), 1, "nothing to be said")
    dials, end = relay.accepted, time.monotonic() + 5
    while time.monotonic() < end:
        relay.cut()
        time.sleep(0.001)
    # Doubling from 200 ms: a handful; hundreds where nothing holds it back.
    t.ok(relay.accepted - dials < 60,
         f"{relay.accepted - dials} dials in five seconds")
    stream.works()
    t.eq((server.log("session-ended"), client.log("session-ended")), ([], []),
         "sessions that ended")


@scenario(259, "hostile: one name's sessions without a carrier are bounded")
def parked_without_end(t):
    site = Site(t)
    first = resumable(site)
    first.lose()
    for _ in range(1023):
        resumable(site, who=first.who).lose()
    p = ExtendedClient(site.tunnel, instance=first.who)
    p.hello_()
    p.wait_hello()
    p.register_(resume=MINUTE)
    p.expect_end(E_NO_RESOURCES)
    # Another machine takes the name from all of them.
    resumable(site).shut()
    t.until(lambda: len(site.server.log("session-ended")) >= 1024, 10,
            "the others are over")
