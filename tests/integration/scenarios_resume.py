"""Resuming, 220-239: a session outlives its carrier.

220-229 against proxy-server, 230-239 against remote-client; the peers are
those of wire.py, written from protocol/PROTOCOL.md alone.
"""
import random
import struct
import threading
import time

import wire
from harness import read_exactly, scenario
from scenarios_wire import (MIB, Far, Findings, Memory, Site, echo,
                            fields_of, scaled, seed_of)
from wire import (CONNECTED, DATA, E_FINISHED, E_NOT_RESUMED, E_PROTOCOL,
                  E_SHUTTING_DOWN, E_UNKNOWN_SESSION, HALF_CLOSE, REGISTER,
                  RESUME, ExtendedClient, ExtendedServer, Instance, Listener,
                  Verifier, WireError, is_counted, pattern)

MINUTE = 60000


def resumable(site, name="x", who=None, ms=MINUTE, **options):
    """A remote-client of ours whose session may be resumed."""
    p = ExtendedClient(site.tunnel, name, instance=who)
    p.start(resume=ms, **options)
    p.note = bytearray()
    return p


def taken(instructions, n):
    """What is counted of n bytes of them: PROTOCOL.md, "On the new
    carrier"."""
    counted = 0
    for raw in instructions:
        got = min(n, len(raw))
        n -= got
        if not is_counted(raw):
            continue
        number, = struct.unpack_from(">H", raw)
        if number == DATA:
            counted += got if got >= 12 else 0
        elif number == 0x0300:      # unknown: its payload may be skipped
            counted += got if got >= 6 else 0
        elif got == len(raw):
            counted += got
    return counted


def send_cut(p, instructions, n):
    """The first n bytes of them, and the carrier is lost."""
    for raw in instructions:
        p.send_cut(raw, min(n, len(raw)))
        n = max(0, n - len(raw))
    p.drained()


def size(instructions):
    return sum(len(raw) for raw in instructions)


class Steady:
    """A stream that has to go on whatever becomes of its carriers."""

    def __init__(self, t, p, end, stream):
        self.t, self.p, self.end, self.stream = t, p, end, stream
        self.n = 0

    def check(self):
        self.n += 1
        text = b"steady %08d" % self.n
        self.end.sendall(text)
        self.t.eq(self.p.read(self.stream, len(text)), text, "to the peer")
        self.p.send_data(self.stream, text[::-1])
        self.t.eq(read_exactly(self.end, len(text)), text[::-1], "back")


def steady(t, site, p, name="x"):
    v = site.visit(name)
    s = p.accept_stream()
    out = Steady(t, p, v, s)
    out.check()
    return out


# ------------------------------------------------- against proxy-server: 220

@scenario(220, "resume: what the remote-client says is cut everywhere")
def resume_cut_up(t):
    site = Site(t)
    p = resumable(site)
    t.eq(p.resume_ms, MINUTE, "the smaller resume_timeout")
    bystander = steady(t, site, p)
    cut, total = 0, 1
    while cut <= total:
        v = site.visit()
        s = p.accept_stream(answer=False)
        s.answer = CONNECTED
        s.tx_grant = s.tx_granted = s.open.window
        s.rx_grant = s.rx_granted = wire.WINDOW
        p.ping()
        said = [wire.ack(p.rx_offset), wire.opened(s.identity),
                wire.control(0x4300, b"local"), wire.data(s.identity, b""),
                wire.data(s.identity, b"hello world"),
                wire.control(0x0300, b"skip me"), wire.ack(p.rx_offset),
                wire.data(s.identity, b"!"), wire.half_close(s.identity)]
        total = size(said)
        before = p.tx_offset
        send_cut(p, said, cut)
        p.lose(reset=cut % 2 == 1)
        s.tx, s.tx_end = 12, HALF_CLOSE
        ins = p.resume()
        t.eq(ins.offset, before + taken(said, cut),
             f"the offset that it has taken, cut at {cut}")
        t.expect_eof(v, b"hello world!", f"cut at {cut}")
        v.close()
        bystander.check()
        cut += 1
    site.lives()
    t.eq(len(site.server.log("registered")), 1, "registrations")
    site.server.wait_log("resumed", attempt=total + 1)


@scenario(221, "resume: what the proxy-server says is cut everywhere")
def resume_cut_down(t):
    site = Site(t)
    p = resumable(site)
    bystander = steady(t, site, p)
    text = b"twenty bytes of text"
    # InsOpen with its three fields, InsData, InsHalfClose.
    total = 6 + 16 + 7 + 11 + 11 + 12 + len(text) + 12
    for again in (False, True):
        for cut in range(total + 1):
            p.settle()
            p.quiet = True
            place = p.here()
            p.most = 0
            v = site.visit()
            v.sendall(text)
            v.shutdown(1)
            p.read_raw(cut)
            taken_at = p.rx_offset
            p.lose(reset=cut % 2 == 1)
            if again:
                p.back_to(place)
                t.ok(p.rx_offset <= taken_at, "an offset that went back")
            p.quiet = False
            p.resume()
            s = p.accept_stream()
            t.eq(p.read_end(s), (text, HALF_CLOSE), f"cut at {cut}")
            p.send_data(s, b"answer")
            p.send_half_close(s)
            t.expect_eof(v, b"answer", f"cut at {cut}")
            v.close()
            bystander.check()
    site.lives()
    t.ok(len(p.note) == p.rx_offset, "all that came was noted")


def echo_streams(p, streams):
    """Say back what came on them, as far as credit goes, and their ends."""
    for s in streams:
        n = min(len(s.rx), s.tx_grant - s.tx)
        if n > 0:
            p.send_data(s, s.rx[:n], flush=False)
            del s.rx[:n]
        elif not s.rx and s.rx_end == HALF_CLOSE and s.tx_end is None:
            s.tx_end = HALF_CLOSE
            p.queue(wire.half_close(s.identity))


def exchange(t, sockets, enough):
    """Each sends a pattern until it is enough, and has to get it back; the
    threads."""
    sent = {}

    def send(number, end):
        at = 0
        while not enough.is_set():
            end.sendall(pattern(number, at, 60000))
            at += 60000
        sent[number] = at
        end.shutdown(1)

    def receive(number, end):
        verify = Verifier(number)
        while piece := end.recv(1 << 16):
            verify(piece)
        t.eq(verify.got, sent[number], "bytes that came back")
    return [t.thread(what, number, end) for number, end in enumerate(sockets)
            for what in (send, receive)]


def some_turns(rng, p, work):
    """Some turns of p, whose reading stops anywhere."""
    p.most = rng.choice((0, 1, 13, 1000, 20000, 60000, 100000))
    for _ in range(rng.choice((1, 5, 20, 50))):
        if p.most == 0:
            break
        p.pump(0.002)
        work()
    p.lose(reset=rng.random() < 0.5)


def pieces(rng):
    return lambda: rng.choice((1, 100, 5000, 1 << 16, 1 << 20))


@scenario(222, "resume: carriers lost at random under streams both ways")
def resume_random(t):
    rng = random.Random(seed_of(t, "lost carriers"))
    site = Site(t)
    p = resumable(site)
    p.note = None
    visitors = [site.visit() for _ in range(4)]
    streams = [p.accept_stream() for _ in visitors]
    enough = threading.Event()
    threads = exchange(t, visitors, enough)
    p.piece = pieces(rng)
    for _ in range(scaled(t, 80, 10)):
        some_turns(rng, p, lambda: echo_streams(p, streams))
        p.resume()
    enough.set()
    p.piece = None
    end_at = time.monotonic() + 60 * t.factor
    while any(thread._thread.is_alive() for thread in threads):
        t.ok(time.monotonic() < end_at, "the streams stand still")
        p.pump(0.01)
        echo_streams(p, streams)
    for thread in threads:
        thread.join()
    p.settle()
    site.lives()


@scenario(223, "resume: the proxy-server still believes in the old carrier")
def resume_beside(t):
    site = Site(t)
    p = resumable(site)
    bystander = steady(t, site, p)
    for how in ("idle", "cut", "behind"):
        old = p.sock
        before = p.tx_offset
        if how == "cut":
            p.send_cut(wire.data(bystander.stream.identity, b"0123456789"),
                       17)
            bystander.stream.tx += 10
            p.drained()
        q = p.attempt()
        ins = q.wait_resumed()
        t.eq(ins.offset, before + (17 if how == "cut" else 0), how)
        if how == "behind":
            # What is said on it now is for nobody.
            try:
                old.setblocking(True)
                old.sendall(wire.data(bystander.stream.identity, b"lost"))
            except OSError:
                pass
        p.take(q, ins)
        old.settimeout(10 * t.factor)
        wire.read_all(old)
        old.close()
        if how == "cut":
            t.eq(read_exactly(bystander.end, 10), b"0123456789", how)
        bystander.check()
    site.lives()
    t.eq(site.server.log("session-parked"), [], "parked sessions")
    t.eq(len(site.server.log("resumed")), 3, "resumed")


def bad_attempts(p, other):
    """(what, code, what the attempt says)."""
    right = p.attempts + 1
    good = Instance("x")
    yield "a proof of zeros", E_NOT_RESUMED, dict(proof=bytes(32))
    yield "another secret", E_NOT_RESUMED, dict(secret=other.secret)
    yield "another start", E_NOT_RESUMED, dict(start=1 << 40)
    yield ("another server's instance", E_NOT_RESUMED,
           dict(server_instance=bytes(16)))
    yield "attempt 0", E_NOT_RESUMED, dict(attempt=0)
    yield "the last attempt", E_NOT_RESUMED, dict(attempt=p.attempts)
    yield "an old attempt", E_NOT_RESUMED, dict(attempt=p.attempts - 1)
    for offset in (p.ack_sent - 1, 0, p.rx_offset + 1, 1 << 63,
                   (1 << 64) - 1):
        yield (f"offset {offset}", E_NOT_RESUMED,
               dict(attempt=right, offset=offset))
    yield "another name", E_UNKNOWN_SESSION, dict(attempt=right, name="y")
    yield "no name at all", E_UNKNOWN_SESSION, dict(attempt=right,
                                                    name="nobody")
    yield ("another instance", E_NOT_RESUMED,
           dict(attempt=right, instance=good.instance))
    for session in (0, p.session + 1000, (1 << 64) - 1):
        yield (f"session {session}", E_UNKNOWN_SESSION,
               dict(attempt=right, session=session))
    yield ("a session of another remote", E_UNKNOWN_SESSION,
           dict(attempt=right, session=other.session))
    yield ("... and its secret", E_UNKNOWN_SESSION,
           dict(attempt=right, session=other.session, secret=other.secret))


@scenario(224, "resume: attempts that are refused harm no session")
def resume_refused(t):
    site = Site(t, "x", "y")
    p, other = resumable(site), resumable(site, "y")
    live = [steady(t, site, p), steady(t, site, other, "y")]
    for _ in range(3):
        p.lose()
        p.resume()
        live[0].check()
    # What came is acknowledged, so what is before it was let go of.
    p.ping()
    found = Findings()
    count = 0
    for parked in (False, True):
        cases = list(bad_attempts(p, other))
        for what, code, values in cases:
            count += 1
            found.run(f"{what}, parked {parked}",
                      lambda: p.refused(code, **values))
            live[1].check()
            if not parked:
                live[0].check()
                p.ping()
        # The last one that is right, and then once more the same.
        if parked:
            break
        p.lose()
    for bit in range(0, 256, 5):
        found.run(f"bit {bit} of a proof", lambda: p.refused(
            E_NOT_RESUMED, attempt=p.attempts + 1,
            proof=lambda _, right: (int.from_bytes(right, "big") ^ 1 << bit
                                    ).to_bytes(32, "big")))
    found.run("the proxy-server's proof", lambda: p.refused(
        E_NOT_RESUMED, attempt=p.attempts + 1, proof=lambda q, _: wire.proof(
            p.secret, True, *q.proof_input, p.tx_offset)))
    found.run("a proof for other nonces", lambda: p.refused(
        E_NOT_RESUMED, attempt=p.attempts + 1, proof=lambda q, _: wire.proof(
            p.secret, False, *q.proof_input[:5], q.nonce, q.nonce,
            *q.proof_input[7:])))
    ins = p.resume()
    live[0].check()
    found.run("taken before", lambda: p.refused(E_NOT_RESUMED))
    live[0].check()
    t.ok(ins.offset > 0, "an offset")
    # A session of the same instance; one that cannot be resumed; one that is
    # over.
    second = resumable(site, who=p.who)
    found.run("the secret of the other session", lambda: second.refused(
        E_NOT_RESUMED, attempt=1, secret=p.secret))
    plain = ExtendedClient(site.tunnel, instance=p.who, start=True)
    t.eq((plain.resume_ms, plain.secret), (0, None), "InsRegistered")
    found.run("one that is not resumable", lambda: plain.refused(
        E_NOT_RESUMED, attempt=1, secret=bytes(32)))
    second.send(wire.end(E_SHUTTING_DOWN))
    second.finish()
    second.expect_closed()
    site.server.wait_log("session-ended", session=second.session)
    found.run("one that is over",
              lambda: second.refused(E_UNKNOWN_SESSION, attempt=1))
    for one in live:
        one.check()
    found.check(t, count)
    t.eq(len(site.server.log("session-ended")), 1, "sessions that ended")


@scenario(225, "resume: answers are lost, and the next attempt goes on")
def resume_answer_lost(t):
    site = Site(t)
    p = resumable(site)
    bystander = steady(t, site, p)
    s = bystander.stream
    for turn in range(12):
        text = b"turn %06d" % turn
        bystander.end.sendall(text)
        s.tx += len(text)
        p.send_cut(wire.data(s.identity, text[::-1]),
                   (0, 11, 12, 13, 21)[turn % 5])
        if turn % 2:
            p.lose()
        for lost in range(turn % 4):
            q = p.attempt()
            if lost % 2:
                # It is taken, and nobody reads the answer.
                q.drained()
                q.abort()
            else:
                q.wait_resumed()
                q.shut()
        p.resume()
        t.eq(p.read(s, len(text)), text, "to the peer")
        t.eq(read_exactly(bystander.end, len(text)), text[::-1],
             "to the visitor")
        bystander.check()
    site.lives()


@scenario(226, "resume: a storm of bad attempts")
def resume_storm(t):
    site = Site(t, "x", "y", bystander=True)
    p, other = resumable(site), resumable(site, "y")
    live = [steady(t, site, p), steady(t, site, other, "y")]
    p.ping()
    other.lose()
    victims = (p, other)
    done = []

    def storm(seed):
        rng = random.Random(seed)
        for n in range(scaled(t, 120, 20)):
            victim = rng.choice(victims)
            q = ExtendedClient(site.tunnel, instance=Instance(
                victim.who.name))
            q.hello_()
            q.wait_hello()
            q.send(wire.resume(
                victim.who.name, rng.choice((victim.who.instance,
                                             rng.randbytes(16))),
                rng.randrange(1, 1 << 40), 0,
                victim.session + rng.choice((0, 0, 0, 7)),
                rng.choice((1, 2, 1 << 40, (1 << 64) - 1)),
                rng.choice((victim.rx_offset, 0, rng.randrange(1 << 64))),
                rng.randbytes(32)))
            if n % 4 == 3:
                q.abort()
                continue
            q.expect_end((E_NOT_RESUMED, E_UNKNOWN_SESSION))
            q.shut()
            done.append(n)
    threads = [t.thread(storm, seed) for seed in range(4)]
    while any(thread._thread.is_alive() for thread in threads):
        live[0].check()
        site.check()
    for thread in threads:
        thread.join()
    t.ok(len(done) >= scaled(t, 200, 40), f"{len(done)} were refused")
    other.resume()
    p.lose()
    p.resume()
    for one in live:
        one.check()
    site.lives()
    site.memory.check(16, "a storm of attempts")


@scenario(227, "resume: the smaller resume_timeout holds; 0 is none")
def resume_timeouts(t):
    for theirs, ours, both in (("60s", 5000, 5000), ("700ms", MINUTE, 700),
                               ("60s", 700, 700), ("60s", 0, 0),
                               ("0s", MINUTE, 0)):
        site = Site(t, more=f"resume_timeout: {theirs}\n")
        p = resumable(site, ms=ours)
        t.eq(p.resume_ms, both, f"{theirs} and {ours} ms")
        t.eq(p.secret is None, both == 0, "a secret")
        if both == 5000:
            continue
        v = site.visit()
        p.accept_stream()
        before = time.monotonic()
        p.lose()
        t.expect_reset(v, f"{theirs} and {ours} ms")
        took = time.monotonic() - before
        t.ok(took >= both / 1000 - 0.01, f"reset after {took} s")
        ended = site.server.wait_log("session-ended")
        if both:
            t.eq(ended["reason"], "not resumed within resume_timeout", "why")
        t.eq(len(site.server.log("session-parked")), int(both > 0), "parked")
        p.refused(E_UNKNOWN_SESSION, attempt=1, secret=p.secret or bytes(32))


@scenario(228, "resume: a peer that never acknowledges gets resume_memory")
def resume_retention(t):
    site = Site(t, more="resume_memory: 1MiB\nheartbeat_interval: 300ms\n"
                "log_level: debug\n")
    p = resumable(site)
    v, s = site.visit(), p.accept_stream(answer=False)
    sunk = Verifier(3)
    s.sink = sunk
    p.send_opened(s, window=1 << 40)
    site.memory = Memory(t, site.server)
    total, first = 24 * MIB, 8 * MIB

    def send():
        for at in range(0, total, 1 << 18):
            v.sendall(pattern(3, at, min(1 << 18, total - at)))
    sender = t.thread(send)

    def stands():
        """No byte of data for as long as three heartbeats."""
        got, since = -1, time.monotonic()
        while time.monotonic() - since < 1.0:
            p.pump(0.02)
            if sunk.got != got:
                got, since = sunk.got, time.monotonic()
            t.ok(got - first <= 2 * MIB, f"{got} bytes, {p.ack_sent} "
                 f"acknowledged")
        return got
    # It begins well, so that as much may be on its way as ever.
    p.until(lambda: sunk.got >= first, "what it acknowledges", 30)
    p.auto_ack = False
    first = sunk.got
    t.ok(stands() >= first, "what it does not acknowledge")
    # Control instructions pass: pings both ways, opens, ends.
    for _ in range(3):
        p.ping()
        v2, s2 = site.visit(), p.accept_stream()
        p.send_data(s2, b"answer")
        p.send_half_close(s2)
        t.expect_eof(v2, b"answer")
        v2.close()
    t.ok(len(p.pings) >= 1, "heartbeats")
    # All of it can be had again.
    place = p.rx_offset
    p.lose()
    p.resume()
    stands()
    t.ok(p.rx_offset >= place, "the offset")
    site.memory.check(16, "a peer that never acknowledges")
    p.auto_ack = True
    p.send(wire.ack(p.rx_offset))
    p.ack_sent = p.rx_offset
    p.until(lambda: sunk.got == total, "all of it", 30)
    sender.join()
    site.memory.check(16, "the rest of it")


def resume_of(fields, extra=b""):
    return wire.control(RESUME, b"".join(
        wire.field(k, v) for k, v in fields.items()) + extra)


@scenario(229, "resume: malformed ones, and those out of place")
def resume_malformed(t):
    site = Site(t, bystander=True)
    p = resumable(site)
    bystander = steady(t, site, p)

    def right():
        f = fields_of()
        f.update({wire.F_RESUME_SESSION: wire.u64(p.session),
                  wire.F_ATTEMPT: wire.u64(1), wire.F_OFFSET: wire.u64(0),
                  wire.F_PROOF: bytes(32)})
        return f
    cases = []
    for kind in right():
        f = right()
        del f[kind]
        cases.append((f"field {kind} is missing", resume_of(f)))
        cases.append((f"field {kind} twice", resume_of(
            right(), wire.field(kind, right()[kind]))))
        if kind == wire.F_NAME:
            continue
        for n in (0, len(right()[kind]) - 1, len(right()[kind]) + 1):
            f = right()
            f[kind] = bytes(n)
            cases.append((f"field {kind} of {n} bytes", resume_of(f)))
    for cut in (b"\0", b"\0\xff\0\1", wire.field(0x8123)):
        cases.append((f"fields and {cut.hex()}", resume_of(right(), cut)))
    cases.append(("settled", resume_of(right() | {
        wire.F_SETTLED: wire.u64(1)})))
    cases.append(("too long", wire.control(RESUME, b"", 16385)))
    cases.append(("InsResumed", wire.resumed(0, bytes(32))))
    cases.append(("go-away", wire.go_away(9)))
    found = Findings()
    for what, raw in cases:
        q = ExtendedClient(site.tunnel)
        q.hello_()
        q.wait_hello()
        q.raw(raw)
        found.run(what, q.expect_end, E_PROTOCOL, 5)
        q.shut()
    for what, raw in (("InsResume", resume_of(right())),
                      ("InsResumed", wire.resumed(0, bytes(32)))):
        q = resumable(site, who=p.who)
        q.raw(raw)
        found.run(f"{what} in a session", q.expect_end, E_PROTOCOL, 5)
        q.shut()
    q = ExtendedClient(site.tunnel)
    q.raw(resume_of(right()))
    q.expect_closed()
    # Unknown fields are skipped, and the list of those held is heeded.
    p.lose()
    p.take(q := p.attempt(extra=wire.field(0x0123, b"x") * 2),
           q.wait_resumed())
    bystander.check()
    found.check(t, len(cases) + 2)
    site.check()


# -------------------------------------------------- against remote-client: 230

def resumable_far(far, ms=MINUTE, timeout=10):
    """The next registration of a remote-client, which may be resumed."""
    p = far.server.accept_raw(timeout).handshake(timeout, ms)
    p.note = bytearray()
    return p


def next_dial(server, timeout=10, **hello):
    """A dial of a remote-client, and what it says after the hellos; None:
    it hung up.  hello: what ours says instead of the truth."""
    q = server.accept_raw(timeout)
    q.wait_hello(timeout)
    q.hello_(**hello)
    try:
        return q, q.next(timeout)
    except WireError:
        if q.closed is None:
            raise
        q.shut()
        return q, None


def admit(q, ins, ms=MINUTE):
    """Answer a registration."""
    q.registration = ins
    q.registered_(resume=ms)
    return q


def far_steady(t, p, app):
    """A stream to the application whose listener is app."""
    s = p.open(wire.target_port(app.port))
    end = app.accept()
    end.settimeout(20 * t.factor)
    t.eq(p.wait_answer(s), CONNECTED, "the answer")
    out = Steady(t, p, end, s)
    out.check()
    return out


@scenario(230, "resume: what a server says is cut everywhere")
def resume_far_cut_up(t):
    far, app = Far(t), Listener()
    p = resumable_far(far)
    t.eq(p.registration.resume, MINUTE, "what InsRegister says")
    bystander = far_steady(t, p, app)
    cut, total = 0, 1
    while cut <= total:
        p.ping()
        identity = p.next_identity
        p.next_identity += 1
        s = p.streams[identity] = wire.Stream(identity, True, wire.WINDOW,
                                              wire.BEFORE_ANSWER)
        said = [wire.ack(p.rx_offset), wire.open_(identity, wire.target_port(
                    app.port)), wire.control(0x4300, b"local"),
                wire.data(identity, b""), wire.data(identity, b"hello world"),
                wire.control(0x0300, b"skip me"), wire.ack(p.rx_offset),
                wire.data(identity, b"!"), wire.half_close(identity)]
        total = size(said)
        before = p.tx_offset
        send_cut(p, said, cut)
        p.lose(reset=cut % 2 == 1)
        s.tx, s.tx_end = 12, HALF_CLOSE
        ins = p.resume(far.server)
        t.eq(ins.offset, before + taken(said, cut),
             f"the offset that it has taken, cut at {cut}")
        end = app.accept()
        t.expect_eof(end, b"hello world!", f"cut at {cut}")
        end.sendall(b"answer")
        end.close()
        t.eq(p.read_end(s), (b"answer", HALF_CLOSE), f"cut at {cut}")
        bystander.check()
        cut += 1
    t.ok(not app.waiting(), "an open that came twice")
    t.eq(len(far.client.log("registered")), 1, "registrations")


@scenario(231, "resume: what the remote-client says is cut everywhere")
def resume_far_cut_down(t):
    far, app = Far(t), Listener()
    p = resumable_far(far)
    bystander = far_steady(t, p, app)
    text = b"twenty bytes of text"
    # InsOpened, InsData, InsHalfClose.
    for again in (False, True):
        for cut in range(6 + 15 + 12 + len(text) + 12 + 1):
            p.settle()
            p.quiet = True
            place = p.here()
            p.most = 0
            s = p.open(wire.target_port(app.port))
            place[4][s.identity] = dict(s.__dict__)
            place[4][s.identity]["rx"] = bytearray()
            end = app.accept()
            end.sendall(text)
            end.shutdown(1)
            p.read_raw(cut)
            p.lose(reset=cut % 2 == 1)
            if again:
                p.back_to(place)
            p.quiet = False
            p.resume(far.server)
            t.eq(p.read_end(s), (text, HALF_CLOSE), f"cut at {cut}")
            p.send_data(s, b"answer")
            p.send_half_close(s)
            t.expect_eof(end, b"answer", f"cut at {cut}")
            end.close()
            bystander.check()
    t.ok(len(p.note) == p.rx_offset, "all that came was noted")


class Driver:
    """Writes a pattern to a stream and checks what comes back."""

    def __init__(self, p, stream, seed):
        self.p, self.stream, self.seed = p, stream, seed
        stream.sink = self.back = Verifier(seed)

    def turn(self):
        s = self.stream
        n = min(s.tx_grant - s.tx, 30000)
        if n > 0 and len(self.p.out) < MIB:
            self.p.send_data(s, pattern(self.seed, s.tx, n), flush=False)


@scenario(232, "resume: a server's carriers lost at random under streams")
def resume_far_random(t):
    rng = random.Random(seed_of(t, "lost carriers"))
    far, app = Far(t), t.app(echo)
    p = resumable_far(far)
    p.note = None
    drivers = [Driver(p, p.connect(app.port), i) for i in range(4)]
    p.piece = pieces(rng)
    for _ in range(scaled(t, 60, 10)):
        some_turns(rng, p, lambda: [d.turn() for d in drivers])
        p.resume(far.server)
    p.piece = None
    for d in drivers:
        p.until(lambda: d.back.got == d.stream.tx, "what is to come back",
                60)
    p.settle()
    t.eq(far.client.log("session-ended"), [], "sessions that ended")


@scenario(233, "resume: answers that prove nothing, or never come")
def resume_far_answers(t):
    far, app = Far(t), Listener()
    p = resumable_far(far)
    bystander = far_steady(t, p, app)

    def say(offset=0, make=lambda right: right):
        """An answer with another offset, or another proof."""
        def how(q, at):
            at += offset
            right = wire.proof(p.secret, True, *q.proof_input, at)
            q.push(wire.resumed(at, make(right)))
            q.flush()
            q.expect_closed()
        return how

    def flip(right):
        return bytes([right[0] ^ 1]) + right[1:]

    def told(q, raw):
        """It is told that this is wrong."""
        q.halted = False
        q.raw(raw)
        q.expect_end(E_PROTOCOL)

    def mirror(q, at):
        """The remote-client's own proof."""
        q.push(wire.resumed(at, wire.proof(p.secret, False,
                                           *q.proof_input)))
        q.flush()
        q.expect_closed()
    cases = {
        "closed": lambda q, at: q.shut(),
        "reset": lambda q, at: q.abort(),
        "a wrong proof": say(make=flip),
        "no proof": say(make=lambda right: bytes(32)),
        "its own proof": mirror,
        "one byte more than was sent": say(offset=1),
        "less than was acknowledged": say(offset=-1),
        "nothing at all": lambda q, at: say(offset=-at)(q, at),
        "InsRegistered": lambda q, at: told(q, wire.registered(7)),
        "malformed": lambda q, at: told(q, wire.control(wire.RESUMED)),
        "a cut answer": lambda q, at: (q.raw(wire.resumed(at, bytes(
            32))[:-1]), q.finish(), q.expect_closed()),
    }
    found = Findings()
    for what, answer in cases.items():
        p.ping()
        p.lose()
        q = far.server.accept_raw()
        p.asked(q)
        found.run(what, answer, q, p.rx_offset)
        q.shut()
        # The one behind it is right: a new attempt, the same session.
        p.resume(far.server)
        found.run(what, bystander.check)
    found.check(t, len(cases))
    t.eq(len(far.client.log("registered")), 1, "registrations")
    t.eq(far.client.log("session-ended"), [], "sessions that ended")
    # The other way round: a registration that is answered like a resume.
    far = Far(t)
    q, _ = next_dial(far.server)
    q.raw(wire.resumed(0, bytes(32)))
    q.expect_end(E_PROTOCOL)
    resumable_far(far).ping()


@scenario(234, "resume: one that is refused is tried again beside another")
def resume_far_refused(t):
    far, app = Far(t), Listener()
    p = resumable_far(far)
    bystander = far_steady(t, p, app)
    for code in (E_UNKNOWN_SESSION, E_NOT_RESUMED):
        p.lose()
        q = far.server.accept_raw()
        p.asked(q)
        q.send(wire.end(code))
        q.finish()
        q.expect_closed()
        # It registers at once, and goes on trying.
        beside = None
        for _ in range(20):
            q, ins = next_dial(far.server)
            if ins.number == REGISTER:
                t.eq(beside, None, "one more registration")
                t.ok(p.session in ins.held, "it is still held")
                beside = admit(q, ins)
                two = far_steady(t, beside, app)
            elif beside is None:
                q.send(wire.end(code))
                q.finish()
                q.expect_closed()
            else:
                break
        t.eq(ins.number, RESUME, "it is tried again")
        q.shut()
        p.resume(far.server)
        bystander.check()
        # The one made meanwhile has done its part.
        beside.until(lambda: beside.away, "InsGoAway on the other")
        two.check()
        two.end.close()
        t.eq(beside.read_end(two.stream)[1], HALF_CLOSE, "its end")
        beside.send_half_close(two.stream)
        beside.settle()
        beside.send(wire.end(E_FINISHED))
        beside.finish()
        beside.expect_closed()
        bystander.check()
    far.client.wait_log("session-ended", count=2)
    t.ok(not far.server.waiting(), "no further dial")


@scenario(235, "resume: what a remote-client keeps, and for how long")
def resume_far_timeouts(t):
    for theirs, ours in (("60s", 0), ("0s", 0), ("700ms", MINUTE),
                         ("60s", 700), ("700ms", -1)):
        far, app = Far(t, f"resume_timeout: {theirs}\n"), Listener()
        p = resumable_far(far, abs(ours) * 1000 if ours < 0 else ours)
        t.eq(p.registration.resume, {"60s": MINUTE, "0s": 0,
                                     "700ms": 700}[theirs], "InsRegister")
        bystander = far_steady(t, p, app)
        p.lose()
        before = time.monotonic()
        if ours == 0:
            t.expect_reset(bystander.end, f"{theirs}, {ours}")
            q, ins = next_dial(far.server)
            t.eq((ins.number, ins.held), (REGISTER, []), "the next dial")
            continue
        if ours < 0:
            # As long as its InsResume is not answered it waits.
            q = far.server.accept_raw()
            ins = p.asked(q)
            t.stays(lambda: not far.client.log("session-ended"), 1.2,
                    "it waits for the answer")
            p.answer(q, ins)
            bystander.check()
            continue
        while not far.client.log("session-ended"):
            t.ok(time.monotonic() < before + 20 * t.factor, "it never ends")
            if not far.server.waiting():
                time.sleep(0.01)
                continue
            q = far.server.accept_raw()
            try:
                q.wait_hello()
                q.hello_()
                if q.next().number == REGISTER:
                    break
            except WireError:
                pass
            q.shut()
        t.expect_reset(bystander.end, f"{theirs}, {ours}")
        took = time.monotonic() - before
        t.ok(took >= 0.69, f"over after {took} s")
        t.eq(far.client.wait_log("session-ended")["reason"],
             "not resumed within resume_timeout", "why")


@scenario(236, "resume: a proxy-server that was restarted, and another one")
def resume_far_other(t):
    far, app = Far(t), Listener()
    p = resumable_far(far)
    bystander = far_steady(t, p, app)
    # A later start: that run of it is dead.
    far.server.start += 1
    p.lose()
    while True:
        q, ins = next_dial(far.server)
        if ins is not None:
            break
    t.eq((ins.number, ins.held), (REGISTER, []), "the next dial")
    t.expect_reset(bystander.end, "its application")
    far.client.wait_log("session-ended",
                        reason="the proxy-server was restarted")
    p = admit(q, ins)
    bystander = far_steady(t, p, app)
    # Another instance at the address: there as well, meanwhile.
    other = bytes(range(16))
    p.lose()
    for _ in range(20):
        q, ins = next_dial(far.server, instance=other, start=7)
        if ins is not None:
            break
    t.eq((ins.number, ins.held), (REGISTER, []), "what it says to another")
    beside = admit(q, ins)
    two = far_steady(t, beside, app)
    # It goes on to try, and is not shown its secrets.
    for _ in range(2):
        q, ins = next_dial(far.server, instance=other, start=7)
        t.eq(ins, None, "what it says to another")
    p.resume(far.server)
    bystander.check()
    beside.until(lambda: beside.away, "InsGoAway on the other")
    two.check()
    beside.send_close(two.stream)
    beside.settle()
    beside.send(wire.end(E_FINISHED))
    beside.finish()
    beside.expect_closed()
    bystander.check()
    far.client.wait_log("session-ended", count=2)


@scenario(237, "resume: a list of servers; the first one's session after a "
          "detour")
def resume_far_list(t):
    first, second, app = ExtendedServer(t.port()), ExtendedServer(), \
        Listener()
    listed = f"[127.0.0.1:{first.port}, 127.0.0.1:{second.port}]"
    client = t.client(t.client_yaml(listed, "tunnels: 1\nworkers: 1",
                                    remote="x"))
    p = first.accept_peer(resume=MINUTE)
    bystander = far_steady(t, p, app)
    # The first is away: what it holds waits, and visitors have the second.
    first.shut()
    p.lose()
    detour = second.accept_peer(resume=MINUTE)
    t.eq(detour.registration.held, [], "what is held of the second")
    two = far_steady(t, detour, app)
    bystander.end.sendall(b"meanwhile")
    back = ExtendedServer(first.port)
    back.instance, back.start = first.instance, first.start
    ins = p.resume(back)
    t.eq(ins.held, [p.session], "what is held of the first")
    t.eq(p.read(bystander.stream, 9), b"meanwhile", "what waited")
    bystander.check()
    detour.until(lambda: detour.away, "InsGoAway on the detour")
    two.check()
    two.end.close()
    detour.read_end(two.stream)
    detour.send_half_close(two.stream)
    detour.settle()
    detour.send(wire.end(E_FINISHED))
    detour.finish()
    detour.expect_closed()
    client.wait_log("session-ended")
    bystander.check()
    t.ok(not second.waiting() and not back.waiting(), "no further dial")
    # The first was never there: the second is next, without a pause.
    back.shut()
    t.client(t.client_yaml(listed, "tunnels: 1\nworkers: 1", remote="y"))
    second.accept_peer().ping()


@scenario(238, "resume: a server that never acknowledges gets resume_memory")
def resume_far_retention(t):
    far, app = Far(t, "resume_memory: 1MiB\nheartbeat_interval: 300ms\n"), \
        Listener()
    p = resumable_far(far)
    s = p.open(wire.target_port(app.port), window=1 << 40)
    end = app.accept()
    end.settimeout(60 * t.factor)
    sunk = s.sink = Verifier(3)
    total, first = 24 * MIB, 8 * MIB

    def send():
        for at in range(0, total, 1 << 18):
            end.sendall(pattern(3, at, min(1 << 18, total - at)))
    sender = t.thread(send)
    p.until(lambda: sunk.got >= first, "what is acknowledged", 30)
    p.auto_ack = False
    first = sunk.got
    until = time.monotonic() + 1.5
    while time.monotonic() < until:
        p.pump(0.02)
    t.ok(sunk.got - first <= 2 * MIB, f"{sunk.got - first} bytes without an "
         f"acknowledgement")
    stopped = sunk.got
    p.ping()
    quick = p.open(wire.target_port(app.port))
    t.eq(p.wait_answer(quick), CONNECTED, "an open meanwhile")
    p.send_data(quick, b"down")
    p.send_close(quick)
    t.expect_eof(app.accept(), b"down")
    p.lose()
    p.resume(far.server)
    far.memory.check(16, "a server that never acknowledges")
    p.auto_ack = True
    p.until(lambda: sunk.got == total, "all of it", 30)
    t.ok(stopped < total, "it did not stop")
    sender.join()
    far.memory.check(16, "the rest of it")


@scenario(239, "resume: pauses of a remote-client that nobody answers")
def resume_far_pauses(t):
    far, app = Far(t), Listener()
    p = resumable_far(far)
    bystander = far_steady(t, p, app)
    p.lose()
    times = []
    for _ in range(7):
        q = far.server.accept_raw()
        times.append(time.monotonic())
        q.abort()
    gaps = [b - a for a, b in zip(times, times[1:])]
    t.ok(max(gaps) < 2.5 * t.factor, f"the pauses: {gaps}")
    t.ok(sum(gaps) > 0.2, f"the pauses: {gaps}")
    p.resume(far.server)
    bystander.check()
