"""Peers of both dialects, written from protocol/PROTOCOL.md and nothing else.

Encoders return the bytes of one instruction.  A peer owns one carrier; it is
used from one thread, step by step: send*() queues and flushes, next() and
expect*() wait for one instruction, pump() does one turn.  While a peer waits
it reads, keeps books on every stream, and raises WireError as soon as the
daemon says anything that PROTOCOL.md does not let it say, so that every
scenario is a conformance test as well.

`python3 wire.py` tries the peers against each other.
"""
import collections
import copy
import hashlib
import hmac
import os
import random
import select
import socket
import struct
import sys
import threading
import time

# --------------------------------------------------------------- constants

INITIAL_REMOTE = 0x0000
INITIAL_CONNECTION = 0x0001
HEARTBEAT = 0x0002
DATA = 0x0003
CLOSE = 0x0004

HELLO = 0x0100
REGISTER = 0xC201
REGISTERED = 0xC202
END = 0xC203
RESUME = 0xC204
RESUMED = 0xC205
ACK = 0xC210
PING = 0xC211
PONG = 0xC212
OPEN = 0x8220
OPENED = 0x8221
HALF_CLOSE = 0x8222
RESET = 0x8223
CREDIT = 0x8224
LIMIT = 0x8225
GO_AWAY = 0x8226

NAMES = {
    INITIAL_REMOTE: "InsInitialRemoteServer",
    INITIAL_CONNECTION: "InsInitialConnection",
    HEARTBEAT: "InsHeartbeat", DATA: "InsData", CLOSE: "InsCloseConnection",
    HELLO: "InsHello", REGISTER: "InsRegister", REGISTERED: "InsRegistered",
    END: "InsEnd", ACK: "InsAck", PING: "InsPing", PONG: "InsPong",
    OPEN: "InsOpen", OPENED: "InsOpened", HALF_CLOSE: "InsHalfClose",
    RESET: "InsReset", CREDIT: "InsCredit", LIMIT: "InsLimit",
    RESUME: "InsResume", RESUMED: "InsResumed", GO_AWAY: "InsGoAway",
}

# Payload bytes: least, most.
LENGTHS = {
    REGISTER: (0, 16384), REGISTERED: (0, 1024), END: (2, 1024),
    ACK: (8, 8), PING: (8, 8), PONG: (8, 8), OPEN: (16, 1024),
    OPENED: (15, 1024), HALF_CLOSE: (6, 6), RESET: (8, 8), CREDIT: (14, 14),
    LIMIT: (22, 22), RESUME: (0, 16384), RESUMED: (0, 1024),
    GO_AWAY: (2, 1024),
}

E_PROTOCOL, E_VERSION, E_UNKNOWN_NAME, E_MALFORMED_NAME = 1, 2, 3, 4
E_NAME_IN_USE, E_REPLACED, E_TOO_SLOW, E_NO_RESOURCES = 5, 6, 7, 8
E_SHUTTING_DOWN, E_NOT_HELD, E_NOT_READ, E_SILENT = 9, 10, 11, 12
E_UNKNOWN_SESSION, E_NOT_RESUMED, E_FINISHED = 13, 14, 15

CONNECTED, REFUSED, TIMED_OUT, UNREACHABLE, NOT_ALLOWED = 0, 1, 2, 3, 4
NAME_NOT_FOUND, NO_RESOURCES, UNSUPPORTED, FAILED = 5, 6, 7, 8

R_LOCAL, R_WRITE, R_RESOURCES, R_NO_ANSWER, R_STALLED, R_POLICY = range(1, 7)

F_NAME, F_INSTANCE, F_SERIAL, F_SETTLED, F_HELD, F_STANDBY, F_SOFTWARE, \
    F_RESUME = range(1, 9)
F_RESUME_SESSION, F_ATTEMPT, F_OFFSET, F_PROOF = range(9, 13)
F_SESSION, F_REGISTERED_RESUME, F_SECRET = 1, 2, 3
F_RESUMED_OFFSET, F_RESUMED_PROOF = 1, 2
F_TARGET, F_SOURCE, F_DESTINATION = 0x8001, 2, 3
F_REASON = 1

RESUME_MOST = 86400000
WINDOW_MIN = 16384
WINDOW_MAX = 1 << 40
WINDOW = 256 * 1024
BEFORE_ANSWER = 16384
CLIENT_BIT = 1 << 47


# Every deadline is that much longer when the daemons carry a sanitizer.
FACTOR = 5 if os.environ.get("SAN") else 1


class WireError(AssertionError):
    """The daemon broke the protocol, or did not do what a test waited for."""


# ---------------------------------------------------------------- encoders

def u8(n):
    return struct.pack(">B", n)


def u16(n):
    return struct.pack(">H", n)


def u32(n):
    return struct.pack(">I", n)


def u48(n):
    return struct.pack(">Q", n)[2:]


def u64(n):
    return struct.pack(">Q", n)


def get48(b, at=0):
    return int.from_bytes(b[at:at + 6], "big")


def initial_remote(name, length=None):
    if isinstance(name, str):
        name = name.encode()
    return u16(INITIAL_REMOTE) + u32(len(name) if length is None
                                     else length) + name


def initial_connection(identity, port):
    return u16(INITIAL_CONNECTION) + u48(identity) + u16(port)


def heartbeat():
    return u16(HEARTBEAT)


def data(identity, body, length=None):
    return (u16(DATA) + u48(identity)
            + u32(len(body) if length is None else length) + bytes(body))


def close(identity):
    return u16(CLOSE) + u48(identity)


def control(number, payload=b"", length=None):
    return (u16(number) + u32(len(payload) if length is None else length)
            + payload)


def field(kind, value=b"", length=None):
    return u16(kind) + u16(len(value) if length is None else length) + value


def hello_client(version=1, features=0, nonce=None, fields=b""):
    nonce = os.urandom(32) if nonce is None else nonce
    return control(HELLO, u16(version) + u64(features) + nonce + fields)


def hello_server(version=1, features=0, nonce=None, instance=None, start=1,
                 fields=b""):
    nonce = os.urandom(32) if nonce is None else nonce
    instance = os.urandom(16) if instance is None else instance
    return control(HELLO, u16(version) + u64(features) + nonce + instance
                   + u64(start) + fields)


def _who(name, instance, serial, settled, held=None, standby=False,
         software=None):
    if isinstance(name, str):
        name = name.encode()
    p = (field(F_NAME, name) + field(F_INSTANCE, instance)
         + field(F_SERIAL, u64(serial)) + field(F_SETTLED, u64(settled)))
    if held is not None:
        p += field(F_HELD, b"".join(u64(h) for h in held))
    if standby:
        p += field(F_STANDBY)
    if software is not None:
        p += field(F_SOFTWARE, software.encode())
    return p


def register(name, instance, serial, settled, held=None, standby=False,
             software=None, extra=b"", resume=0):
    """resume: ms."""
    p = _who(name, instance, serial, settled, held, standby, software)
    if resume:
        p += field(F_RESUME, u64(resume))
    return control(REGISTER, p + extra)


def registered(session, extra=b"", resume=0, secret=None):
    p = field(F_SESSION, u64(session))
    if resume:
        p += field(F_REGISTERED_RESUME, u64(resume))
    if secret is not None:
        p += field(F_SECRET, secret)
    return control(REGISTERED, p + extra)


def proof(secret, by_server, client_instance, server_instance, start, name,
          session, client_nonce, server_nonce, attempt, client_offset,
          server_offset=0):
    """The proof of an InsResume, or (by_server) of its InsResumed."""
    name = name.encode() if isinstance(name, str) else name
    text = (b"port-proxy resume 1\0" + u8(by_server) + client_instance
            + server_instance + u64(start) + u16(len(name)) + name
            + u64(session) + client_nonce + server_nonce + u64(attempt)
            + u64(client_offset)
            + (u64(server_offset) if by_server else b"") + u16(0))
    return hmac.new(secret, text, hashlib.sha256).digest()


def resume(name, instance, serial, settled, session, attempt, offset, proof,
           held=None, extra=b""):
    return control(RESUME, _who(name, instance, serial, settled, held)
                   + field(F_RESUME_SESSION, u64(session))
                   + field(F_ATTEMPT, u64(attempt))
                   + field(F_OFFSET, u64(offset)) + field(F_PROOF, proof)
                   + extra)


def resumed(offset, proof, extra=b""):
    return control(RESUMED, field(F_RESUMED_OFFSET, u64(offset))
                   + field(F_RESUMED_PROOF, proof) + extra)


def go_away(code, text=""):
    return control(GO_AWAY, u16(code) + text.encode())


def end(code, text=""):
    return control(END, u16(code) + text.encode())


def ack(offset):
    return control(ACK, u64(offset))


def ping(stamp):
    return control(PING, u64(stamp))


def pong(stamp):
    return control(PONG, u64(stamp))


def target_port(port):
    return field(F_TARGET, u8(1) + u16(port))


def target_host(port, host):
    if isinstance(host, str):
        host = host.encode()
    return field(F_TARGET, u8(2) + u16(port) + host)


def address(kind, ip, port):
    family = socket.AF_INET6 if ":" in ip else socket.AF_INET
    return field(kind, u8(6 if ":" in ip else 4)
                 + socket.inet_pton(family, ip) + u16(port))


def open_(identity, fields, window=WINDOW, kind=0, klass=0):
    return control(OPEN, u48(identity) + u8(kind) + u8(klass) + u64(window)
                   + fields)


def opened(identity, outcome=CONNECTED, window=WINDOW, fields=b""):
    return control(OPENED, u48(identity) + u8(outcome)
                   + u64(window if outcome == CONNECTED else 0) + fields)


def half_close(identity):
    return control(HALF_CLOSE, u48(identity))


def reset(identity, reason=R_LOCAL):
    return control(RESET, u48(identity) + u16(reason))


def credit(identity, offset):
    return control(CREDIT, u48(identity) + u64(offset))


def limit(identity, to, seen):
    return control(LIMIT, u48(identity) + u64(to) + u64(seen))


def is_counted(instruction):
    """Whether the bytes of one instruction count in offsets."""
    number = struct.unpack_from(">H", instruction)[0]
    return number in (DATA, CLOSE) or (number >= 0x0200
                                       and not number & 0x4000)


def split_all(raw):
    """Every way to cut raw into two non-empty pieces."""
    return [(raw[:i], raw[i:]) for i in range(1, len(raw))]


# ---------------------------------------------------------------- decoders

class Ins:
    """One decoded instruction; what it carries are attributes."""

    def __init__(self, number, **values):
        self.number = number
        self.at = time.monotonic()
        self.__dict__.update(values)

    def __repr__(self):
        name = NAMES.get(self.number, "0x%04x" % self.number)
        return "%s(%s)" % (name, ", ".join(
            "%s=%s" % (k, hex(v) if k == "identity" else repr(v))
            for k, v in self.__dict__.items() if k not in ("number", "at")))


def decode_fields(b, known, required=()):
    """{type: value}; WireError for whatever a sender may not send."""
    out = {}
    at = 0
    while at < len(b):
        if len(b) - at < 4:
            raise WireError("a field's head is cut: %r" % b[at:])
        kind, length = struct.unpack_from(">HH", b, at)
        at += 4
        if len(b) - at < length:
            raise WireError("field %#x is cut" % kind)
        if kind in out:
            raise WireError("field %#x is there twice" % kind)
        if kind not in known:
            raise WireError("field %#x is not in PROTOCOL.md" % kind)
        out[kind] = bytes(b[at:at + length])
        at += length
    for kind in required:
        if kind not in out:
            raise WireError("field %#x is missing" % kind)
    return out


def text_of(b, most, what):
    if len(b) > most:
        raise WireError("%s of %d bytes" % (what, len(b)))
    try:
        return b.decode()
    except UnicodeDecodeError:
        raise WireError("%s is not UTF-8: %r" % (what, b)) from None


def need(value, length, what):
    if len(value) != length:
        raise WireError("%s of %d bytes" % (what, len(value)))
    return value


def decode_address(b):
    if len(b) == 7 and b[0] == 4:
        return (socket.inet_ntop(socket.AF_INET, b[1:5]),
                struct.unpack(">H", b[5:])[0])
    if len(b) == 19 and b[0] == 6:
        return (socket.inet_ntop(socket.AF_INET6, b[1:17]),
                struct.unpack(">H", b[17:])[0])
    raise WireError("not an address: %r" % b)


def decode_target(b):
    if len(b) == 3 and b[0] == 1:
        return (1, struct.unpack_from(">H", b, 1)[0], None)
    if len(b) >= 4 and b[0] == 2 and len(b) - 3 <= 253:
        return (2, struct.unpack_from(">H", b, 1)[0], b[3:].decode("ascii"))
    raise WireError("not a target: %r" % b)


def decode_hello(b, from_server):
    least = 66 if from_server else 42
    if not least <= len(b) <= 1024:
        raise WireError("InsHello of %d bytes" % len(b))
    version, features = struct.unpack_from(">HQ", b)
    out = Ins(HELLO, version=version, features=features, nonce=b[10:42],
              fields=decode_fields(b[least:], ()))
    if from_server:
        out.instance = b[42:58]
        out.start = struct.unpack_from(">Q", b, 58)[0]
    return out


def number_of(f, kind, most=(1 << 64) - 1):
    """The u64 of a field; 0 when it is not there."""
    value = int.from_bytes(need(f.get(kind, bytes(8)), 8, "a number"), "big")
    if value > most:
        raise WireError("field %#x of %d" % (kind, value))
    return value


WHO = (F_NAME, F_INSTANCE, F_SERIAL, F_SETTLED)


def _decode_who(number, f):
    name = text_of(f[F_NAME], 255, "name")
    held = f.get(F_HELD, b"")
    if len(held) % 8 or len(held) > 8192:
        raise WireError("held of %d bytes" % len(held))
    if len(f.get(F_STANDBY, b"")):
        raise WireError("standby is not empty")
    return Ins(number, name=name,
               instance=need(f[F_INSTANCE], 16, "instance"),
               serial=int.from_bytes(need(f[F_SERIAL], 8, "serial"), "big"),
               settled=int.from_bytes(need(f[F_SETTLED], 8, "settled"),
                                      "big"),
               held=[x[0] for x in struct.iter_unpack(">Q", held)],
               standby=F_STANDBY in f,
               software=text_of(f.get(F_SOFTWARE, b""), 64, "software"))


def decode_register(b):
    f = decode_fields(b, range(1, 9), WHO)
    ins = _decode_who(REGISTER, f)
    ins.resume = number_of(f, F_RESUME, RESUME_MOST)
    return ins


def decode_registered(b):
    f = decode_fields(b, (F_SESSION, F_REGISTERED_RESUME, F_SECRET),
                      (F_SESSION,))
    session = number_of(f, F_SESSION)
    if session == 0:
        raise WireError("session 0")
    ins = Ins(REGISTERED, session=session,
              resume=number_of(f, F_REGISTERED_RESUME, RESUME_MOST),
              secret=f.get(F_SECRET))
    if (ins.resume > 0) != (ins.secret is not None):
        raise WireError("%r: one of resume and secret" % ins)
    if ins.secret is not None:
        need(ins.secret, 32, "secret")
    return ins


def decode_resume(b):
    own = (F_RESUME_SESSION, F_ATTEMPT, F_OFFSET, F_PROOF)
    f = decode_fields(b, (*range(1, 8), *own), (*WHO, *own))
    ins = _decode_who(RESUME, f)
    ins.session = number_of(f, F_RESUME_SESSION)
    ins.attempt = number_of(f, F_ATTEMPT)
    ins.offset = number_of(f, F_OFFSET)
    ins.proof = need(f[F_PROOF], 32, "proof")
    return ins


def decode_resumed(b):
    own = (F_RESUMED_OFFSET, F_RESUMED_PROOF)
    f = decode_fields(b, own, own)
    return Ins(RESUMED, offset=number_of(f, F_RESUMED_OFFSET),
               proof=need(f[F_RESUMED_PROOF], 32, "proof"))


def decode_control(number, b, from_server):
    """The Ins of a control instruction's payload."""
    if number == HELLO:
        return decode_hello(b, from_server)
    if number not in LENGTHS:
        raise WireError("instruction %#06x is not in PROTOCOL.md" % number)
    least, most = LENGTHS[number]
    if not least <= len(b) <= most:
        raise WireError("%s of %d bytes" % (NAMES[number], len(b)))
    if number == REGISTER:
        return decode_register(b)
    if number == REGISTERED:
        return decode_registered(b)
    if number == RESUME:
        return decode_resume(b)
    if number == RESUMED:
        return decode_resumed(b)
    if number in (END, GO_AWAY):
        return Ins(number, code=struct.unpack_from(">H", b)[0],
                   text=text_of(b[2:], 255, NAMES[number] + "'s text"))
    if number == ACK:
        return Ins(ACK, offset=struct.unpack(">Q", b)[0])
    if number in (PING, PONG):
        return Ins(number, stamp=struct.unpack(">Q", b)[0])
    identity = get48(b)
    if number == OPEN:
        f = decode_fields(b[16:], (F_TARGET, F_SOURCE, F_DESTINATION),
                          (F_TARGET,))
        return Ins(OPEN, identity=identity, kind=b[6], klass=b[7],
                   window=struct.unpack_from(">Q", b, 8)[0],
                   target=decode_target(f[F_TARGET]),
                   source=decode_address(f[F_SOURCE])
                   if F_SOURCE in f else None,
                   destination=decode_address(f[F_DESTINATION])
                   if F_DESTINATION in f else None)
    if number == OPENED:
        f = decode_fields(b[15:], (F_REASON,))
        return Ins(OPENED, identity=identity, outcome=b[6],
                   window=struct.unpack_from(">Q", b, 7)[0],
                   reason=text_of(f.get(F_REASON, b""), 255, "reason"))
    if number == HALF_CLOSE:
        return Ins(HALF_CLOSE, identity=identity)
    if number == RESET:
        return Ins(RESET, identity=identity,
                   reason=struct.unpack_from(">H", b, 6)[0])
    if number == CREDIT:
        return Ins(CREDIT, identity=identity,
                   offset=struct.unpack_from(">Q", b, 6)[0])
    to, seen = struct.unpack_from(">QQ", b, 6)
    return Ins(LIMIT, identity=identity, limit=to, seen=seen)


# ------------------------------------------------------------------ carrier

class Peer:
    """One carrier.  Subclasses know a dialect: _head() and _take()."""

    def __init__(self, sock):
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock = sock
        self.timeout = 10.0
        self.out = bytearray()
        self.rbuf = bytearray()
        self.inbox = collections.deque()
        self.body = None            # [identity, bytes left, length]
        self.halted = False         # what is read stays undecoded
        self.reading = True
        self.quiet = False          # nothing is sent of its own accord
        self.mute = False           # ... for an instruction was cut
        self.piece = None           # a function: the most for one send
        self.most = None            # bytes that may still be read
        self.closed = None          # "eof" or "reset", once the carrier ended
        self.received = 0           # bytes, of any kind
        self.last_received = time.monotonic()

    # -- lowest level

    def fileno(self):
        return self.sock.fileno()

    def push(self, raw):
        """Queue bytes; pump() or flush() sends them."""
        self.out += raw

    def raw(self, raw, timeout=None):
        """Send bytes as they are; keeps no books.  Reads meanwhile."""
        self.push(raw)
        self.flush(timeout)

    def flush(self, timeout=None):
        end_at = time.monotonic() + (timeout or self.timeout) * FACTOR
        while self.out and not self.closed:
            self.pump(0.05)
            if self.out and time.monotonic() > end_at:
                raise WireError("the daemon does not read: %d bytes left"
                                % len(self.out))

    def pump(self, timeout=0.0):
        """One turn: write what fits, read what is there, decode it."""
        self._before_turn()
        if self.closed:
            return
        want = (select.POLLIN if self.reading and self.most != 0 else 0) \
            | (select.POLLOUT if self.out else 0)
        if want == 0:
            time.sleep(timeout)
            return
        poller = select.poll()
        poller.register(self.sock, want)
        got = poller.poll(timeout * 1000)
        if not got:
            return
        if self.out and got[0][1] & (select.POLLOUT | select.POLLERR
                                     | select.POLLHUP):
            self._write_some()
        if self.reading:
            self._read_some()

    def _write_some(self):
        try:
            with memoryview(self.out) as m:
                n = self.sock.send(m[:self.piece() if self.piece
                                     else 1 << 20])
            del self.out[:n]
        except (BlockingIOError, InterruptedError):
            pass
        except OSError:
            # What the daemon said before it closed can still be read.
            self.out.clear()
            if not self.reading:
                self.closed = "reset"

    def _read_some(self):
        for _ in range(8):
            if self.most == 0:
                break
            try:
                chunk = self.sock.recv(1 << 18 if self.most is None
                                       else self.most)
            except (BlockingIOError, InterruptedError):
                break
            except OSError:
                self.closed = "reset"
                break
            if not chunk:
                self.closed = "eof"
                break
            self.received += len(chunk)
            if self.most is not None:
                self.most -= len(chunk)
            self.last_received = time.monotonic()
            self.rbuf += chunk
            self._decode()
            if not self.reading:
                break
        self._after_read()

    def _decode(self):
        view = memoryview(self.rbuf)
        at = 0
        try:
            while not self.halted:
                if self.body is not None:
                    n = min(self.body[1], len(view) - at)
                    if n:
                        self._piece(self.body[0], bytes(view[at:at + n]))
                        self.body[1] -= n
                        at += n
                    if self.body[1]:
                        break
                    whole = Ins(DATA, identity=self.body[0],
                                length=self.body[2])
                    self.body = None
                    self._take(whole)
                    continue
                used = self._head(view, at)
                if not used:
                    break
                at += used
        finally:
            view.release()
            del self.rbuf[:at]

    def _before_turn(self):
        pass

    def _after_read(self):
        pass

    # -- for tests

    def until(self, condition, what, timeout=None, others=()):
        """Pump this peer (and others) until condition() is true."""
        end_at = time.monotonic() + (timeout or self.timeout) * FACTOR
        while True:
            result = condition()
            if result:
                return result
            if time.monotonic() > end_at:
                raise WireError("timed out: %s (inbox %s, closed %s)" % (
                    what, list(self.inbox)[:5], self.closed))
            self.pump(0.01 if not self.closed else 0)
            if self.closed:
                time.sleep(0.005)
            for other in others:
                other.pump(0)

    def next(self, timeout=None, skip=()):
        """The next instruction, or WireError at the end or the deadline."""
        end_at = time.monotonic() + (timeout or self.timeout) * FACTOR
        while True:
            while self.inbox:
                ins = self.inbox.popleft()
                if ins.number not in skip:
                    return ins
            if self.closed:
                raise WireError("the carrier ended: %s" % self.closed)
            if time.monotonic() > end_at:
                raise WireError("timed out: no instruction came")
            self.pump(0.02)

    def expect(self, number, timeout=None, **values):
        ins = self.next(timeout)
        if ins.number != number:
            raise WireError("expected %s, got %r" % (NAMES[number], ins))
        for key, value in values.items():
            if getattr(ins, key) != value:
                raise WireError("expected %s=%r in %r" % (key, value, ins))
        return ins

    def read_raw(self, n, timeout=None):
        """Read n bytes more, wherever that cuts, and no further."""
        before, self.most = self.received, n
        self.until(lambda: self.received == before + n or self.closed,
                   "%d bytes" % n, timeout)
        if self.received != before + n:
            raise WireError("the carrier ended (%s) after %d of %d bytes"
                            % (self.closed, self.received - before, n))

    def expect_closed(self, timeout=None):
        """The carrier ends; what is in the inbox stays there."""
        self.until(lambda: self.closed, "the carrier is closed", timeout)
        return self.closed

    def drained(self, timeout=5.0):
        """Wait until the daemon has read all that was sent: nothing is left
        in its receive queue."""
        self.flush()
        drained(self.sock, timeout, self)

    def dribble(self, raw, gap=None):
        """One byte for each send, each read before the next is sent."""
        quiet, self.quiet = self.quiet, True
        for i in range(len(raw)):
            self.raw(raw[i:i + 1])
            if gap is not None:
                gap()
        self.quiet = quiet

    def finish(self):
        """End our direction, as who has sent InsEnd does."""
        self.flush()
        try:
            self.sock.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def shut(self):
        try:
            self.sock.close()
        except OSError:
            pass
        self.closed = self.closed or "shut"

    def abort(self):
        """Reset the carrier."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER,
                             struct.pack("ii", 1, 0))
        self.shut()


_INET_DIAG = struct.Struct("=BBBBI")        # family protocol ext pad states
_NLMSG = struct.Struct("=IHHII")            # length type flags seq pid
_SYN_SENT = 2


def _diag(body, flags):
    """The answers of the kernel's socket diagnostics (sock_diag(7))."""
    out = []
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 4) as nl:
        nl.settimeout(5)
        nl.send(_NLMSG.pack(_NLMSG.size + len(body), 20, flags, 1, 0) + body)
        while True:
            answer = nl.recv(1 << 17)
            at = 0
            while at < len(answer):
                length, kind, _, _, _ = _NLMSG.unpack_from(answer, at)
                if kind in (2, 3):          # NLMSG_ERROR, NLMSG_DONE
                    return out
                out.append(answer[at + _NLMSG.size:at + length])
                at += (length + 3) & ~3
            if not flags & 0x300:           # not a dump
                return out


def _id(source, destination):
    return (struct.pack(">HH", source[1], destination[1])
            + socket.inet_aton(source[0]) + bytes(12)
            + socket.inet_aton(destination[0]) + bytes(12)
            + bytes(4) + b"\xff" * 8)


def receive_queue(sock):
    """Bytes that the other end of a loopback IPv4 socket has not read, or
    None when it is gone."""
    body = _INET_DIAG.pack(socket.AF_INET, socket.IPPROTO_TCP, 0, 0,
                           0xFFFFFFFF) \
        + _id(sock.getpeername(), sock.getsockname())
    for m in _diag(body, 1):
        return struct.unpack_from("=I", m, 4 + 48 + 4)[0]
    return None


def connecting(port):
    """How many connects to a loopback port hang."""
    body = _INET_DIAG.pack(socket.AF_INET, socket.IPPROTO_TCP, 0, 0,
                           1 << _SYN_SENT) + bytes(48)
    return sum(1 for m in _diag(body, 0x301)
               if struct.unpack_from(">H", m, 6)[0] == port)


def drained(sock, timeout=5.0, peer=None):
    end_at = time.monotonic() + timeout * FACTOR
    while True:
        try:
            left = receive_queue(sock)
        except OSError:
            return
        if not left:
            return
        if time.monotonic() > end_at:
            raise WireError("%d bytes stay unread" % left)
        if peer is not None:
            peer.pump(0)
        time.sleep(0.0002)


def dial(port, timeout=5.0, receive_buffer=None):
    s = socket.socket()
    if receive_buffer:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    s.settimeout(timeout)
    try:
        s.connect(("127.0.0.1", port))
    except OSError:
        s.close()
        raise
    return s


class Listener:
    """A listening socket whose accept() has a deadline."""

    def __init__(self, port=0, backlog=512):
        self.sock = socket.socket()
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.sock.bind(("127.0.0.1", port))
        self.sock.listen(backlog)
        self.port = self.sock.getsockname()[1]

    def accept(self, timeout=10.0):
        self.sock.settimeout(timeout * FACTOR)
        try:
            s, _ = self.sock.accept()
        except (socket.timeout, BlockingIOError):
            raise WireError("nobody connected to port %d within %g s"
                            % (self.port, timeout)) from None
        s.settimeout(10.0)
        return s

    def waiting(self):
        """Whether a connection waits to be accepted."""
        poller = select.poll()
        poller.register(self.sock, select.POLLIN)
        return bool(poller.poll(0))

    def shut(self):
        self.sock.close()


# ------------------------------------------------------------------ classic

class ClassicStream:
    def __init__(self, identity, port):
        self.identity = identity
        self.port = port
        self.rx = bytearray()
        self.total = 0          # bytes that came, also those taken from rx
        self.sink = None        # called with each piece instead of rx
        self.closed_by_them = False
        self.closed_by_us = False
        self.late = 0           # instructions after our InsCloseConnection


class ClassicPeer(Peer):
    def __init__(self, sock):
        super().__init__(sock)
        self.streams = {}
        self.may = {DATA, CLOSE}

    def _head(self, view, at):
        left = len(view) - at
        if left < 2:
            return 0
        number = struct.unpack_from(">H", view, at)[0]
        if number not in self.may:
            raise WireError("instruction %#06x: not from this daemon"
                            % number)
        if number == HEARTBEAT:
            self._take(Ins(HEARTBEAT))
            return 2
        if number == INITIAL_REMOTE:
            if left < 6:
                return 0
            n = struct.unpack_from(">I", view, at + 2)[0]
            if not 1 <= n <= 255:
                raise WireError("a name of %d bytes" % n)
            if left < 6 + n:
                return 0
            self._take(Ins(INITIAL_REMOTE, name=text_of(
                bytes(view[at + 6:at + 6 + n]), 255, "name")))
            return 6 + n
        if left < 8:
            return 0
        identity = get48(view, at + 2)
        if number == CLOSE:
            self._take(Ins(CLOSE, identity=identity))
            return 8
        if number == INITIAL_CONNECTION:
            if left < 10:
                return 0
            self._take(Ins(INITIAL_CONNECTION, identity=identity,
                           port=struct.unpack_from(">H", view, at + 8)[0]))
            return 10
        if left < 12:
            return 0
        n = struct.unpack_from(">I", view, at + 8)[0]
        s = self.streams.get(identity)
        if s is None:
            raise WireError("InsData for %#x, which is unknown" % identity)
        if s.closed_by_them:
            raise WireError("InsData for %#x after its own "
                            "InsCloseConnection" % identity)
        if s.closed_by_us:
            s.late += 1
        self.body = [identity, n, n]
        return 12

    def _piece(self, identity, piece):
        s = self.streams[identity]
        s.total += len(piece)
        if s.sink is not None:
            s.sink(piece)
        else:
            s.rx += piece

    def _take(self, ins):
        if ins.number == INITIAL_CONNECTION:
            old = self.streams.get(ins.identity)
            if old is not None and not (old.closed_by_them
                                        or old.closed_by_us):
                raise WireError("identity %#x is live" % ins.identity)
            self.streams[ins.identity] = ClassicStream(ins.identity,
                                                       ins.port)
        elif ins.number == CLOSE:
            s = self.streams.get(ins.identity)
            if s is None or s.closed_by_them:
                raise WireError("%r: unknown or closed before" % ins)
            if s.closed_by_us:
                s.late += 1
            s.closed_by_them = True
        self.inbox.append(ins)

    def send(self, *instructions):
        self.raw(b"".join(instructions))

    def send_close(self, identity):
        self.streams[identity].closed_by_us = True
        self.raw(close(identity))

    def read(self, identity, n, timeout=None):
        """n bytes of a stream."""
        s = self.streams[identity]
        self.until(lambda: len(s.rx) >= n or self.closed
                   or s.closed_by_them, "%d bytes for %#x (%d are there)"
                   % (n, identity, len(s.rx)), timeout)
        if len(s.rx) < n:
            raise WireError("%#x ended after %d of %d bytes"
                            % (identity, len(s.rx), n))
        out = bytes(s.rx[:n])
        del s.rx[:n]
        return out

    def until_close(self, identity, timeout=None):
        s = self.streams[identity]
        self.until(lambda: s.closed_by_them,
                   "InsCloseConnection for %#x" % identity, timeout)


class ClassicClient(ClassicPeer):
    """A remote-client: dials the proxy-server."""

    def __init__(self, port, name=None, beat=True):
        super().__init__(dial(port))
        self.may.add(INITIAL_CONNECTION)
        self.beat = beat            # heartbeats each second while pumping
        self.next_beat = time.monotonic() + 1
        if name is not None:
            self.send(initial_remote(name))

    def _before_turn(self):
        # Only between instructions, and never more than one waits.
        if (self.beat and not self.quiet and not self.out
                and time.monotonic() >= self.next_beat):
            self.next_beat = time.monotonic() + 1
            self.push(heartbeat())

    def accept_stream(self, timeout=None):
        """The next InsInitialConnection; data before it stays in its
        stream."""
        while True:
            ins = self.next(timeout)
            if ins.number == INITIAL_CONNECTION:
                return self.streams[ins.identity]


class ClassicSession(ClassicPeer):
    """The proxy-server's end of one classic carrier."""

    def __init__(self, sock):
        super().__init__(sock)
        self.may |= {INITIAL_REMOTE, HEARTBEAT}
        self.beats = []
        self.name = None

    def _take(self, ins):
        if ins.number == HEARTBEAT:
            if self.name is None:
                raise WireError("a heartbeat before the registration")
            self.beats.append(ins.at)
            return
        if ins.number == INITIAL_REMOTE:
            if self.name is not None:
                raise WireError("registered twice")
            self.name = ins.name
        super()._take(ins)

    def connect(self, identity, port, *more):
        """InsInitialConnection, and more in the same send."""
        self.streams[identity] = s = ClassicStream(identity, port)
        self.send(initial_connection(identity, port), *more)
        return s


class ClassicServer(Listener):
    def accept_peer(self, timeout=10.0):
        """A remote-client that has registered."""
        p = ClassicSession(self.accept(timeout))
        p.expect(INITIAL_REMOTE, timeout)
        return p


# ----------------------------------------------------------------- extended

class Stream:
    """What both sides may know of one stream, from this peer's side."""

    def __init__(self, identity, ours, rx_grant, tx_grant):
        self.identity = identity
        self.ours = ours
        self.open = None        # the InsOpen that came, when not ours
        self.answer = None      # the outcome, once the answer passed
        self.first_window = None    # of InsOpen or InsOpened, from them
        self.tx = 0
        self.tx_grant = tx_grant
        self.tx_granted = tx_grant      # that they gave, whatever a limit
        self.tx_end = None      # None, HALF_CLOSE, RESET or CLOSE
        self.rx_total = 0
        self.rx_grant = rx_grant
        self.rx_granted = rx_grant      # the newest that we gave
        self.rx_end = None
        self.reset_reason = None
        self.limits = []
        self.rx = bytearray()
        self.sink = None
        self.window = WINDOW    # for automatic credit
        self.auto_credit = True

    @property
    def over(self):
        return (self.answer not in (None, CONNECTED)
                or RESET in (self.rx_end, self.tx_end)
                or CLOSE in (self.rx_end, self.tx_end)
                or (self.rx_end is not None and self.tx_end is not None))

    def __repr__(self):
        return "<%#x answer=%s tx=%d/%d%s rx=%d/%d%s>" % (
            self.identity, self.answer, self.tx, self.tx_grant,
            " " + NAMES[self.tx_end] if self.tx_end else "", self.rx_total,
            self.rx_grant, " " + NAMES[self.rx_end] if self.rx_end else "")


class ExtendedPeer(Peer):
    """Either side of an extended carrier, after connect or accept.

    auto_ack, auto_pong and auto_credit (for new streams) may be switched
    off.  tx_offset and rx_offset count counted bytes; acked is the newest
    InsAck that came, acks all of them with their times.

    A session that can be resumed keeps what it sent: lose() lets go of the
    carrier, and resume() of a subclass brings another one.  The bytes that
    came are noted as well when note is set, and those that come again have to
    be the same; back_to() forgets having taken them.
    """
    is_server = False

    def __init__(self, sock):
        super().__init__(sock)
        self.streams = {}
        self.dirty = set()          # streams that got data: credit is due
        self.tx_offset = 0
        self.rx_offset = 0
        self.acked = 0
        self.acks = []
        self.ack_sent = 0
        self.keep = False           # what was sent, until acknowledged
        self.kept = bytearray()     # ... from kept_at to tx_offset
        self.kept_at = 0
        self.note = None            # a bytearray: all counted bytes that came
        self.secret = None
        self.resume_ms = 0
        self.attempts = 0           # the last attempt
        self.away = None            # the InsGoAway that came
        self.away_sent = False
        self.auto_ack = True
        self.auto_pong = True
        self.auto_credit = True
        self.pings = []             # stamps that came
        self.pings_sent = []
        self.pongs = []
        self.ended = None           # the InsEnd that came
        self.ready = False          # InsRegistered has passed
        self.hello = None           # theirs
        self.next_identity = 1
        self.their_identity = 0
        self.stamp = random.getrandbits(63)

    # -- receiving

    def _head(self, view, at):
        left = len(view) - at
        if left < 2:
            return 0
        number = struct.unpack_from(">H", view, at)[0]
        if number in (DATA, CLOSE):
            if not self.ready:
                raise WireError("%s before the registration"
                                % NAMES[number])
            if left < (12 if number == DATA else 8):
                return 0
            identity = get48(view, at + 2)
            if number == CLOSE:
                self._count(bytes(view[at:at + 8]))
                self._take(Ins(CLOSE, identity=identity))
                return 8
            n = struct.unpack_from(">I", view, at + 8)[0]
            self._check_data(identity, n)
            self._count(bytes(view[at:at + 12]))
            self.body = [identity, n, n]
            return 12
        if left < 6:
            return 0
        n = struct.unpack_from(">I", view, at + 2)[0]
        if n > 16384:
            raise WireError("%#06x with a payload of %d" % (number, n))
        if left < 6 + n:
            return 0
        ins = decode_control(number, bytes(view[at + 6:at + 6 + n]),
                             not self.is_server)
        if number != HELLO and not number & 0x4000:
            self._count(bytes(view[at:at + 6 + n]))
        self._take(ins)
        return 6 + n

    def _count(self, raw):
        """Counted bytes came; what comes again is what came before."""
        if self.note is not None:
            again = self.note[self.rx_offset:self.rx_offset + len(raw)]
            if again != raw[:len(again)]:
                raise WireError("other bytes at offset %d than before"
                                % self.rx_offset)
            self.note += raw[len(again):]
        self.rx_offset += len(raw)

    def _piece(self, identity, piece):
        self._count(piece)
        s = self.streams[identity]
        self.dirty.add(s)
        s.rx_total += len(piece)
        if s.sink is not None:
            s.sink(piece)
        elif not s.over:
            s.rx += piece

    def _check_data(self, identity, n):
        s = self._stream(identity, "InsData")
        if s.over:
            # It may be on its way, but not behind the end that they sent.
            if s.rx_end is not None:
                raise WireError("InsData after %s: %r"
                                % (NAMES[s.rx_end], s))
            return
        if s.rx_end is not None:
            raise WireError("InsData after %s: %r" % (NAMES[s.rx_end], s))
        if s.ours and s.answer is None:
            raise WireError("InsData before the answer: %r" % s)
        if s.rx_total + n > s.rx_grant:
            raise WireError("InsData of %d is past the grant: %r" % (n, s))

    def _stream(self, identity, what):
        s = self.streams.get(identity)
        if s is None:
            raise WireError("%s for %#x, which was never opened"
                            % (what, identity))
        return s

    def _take(self, ins):
        if self.ended is not None:
            raise WireError("%r after InsEnd" % ins)
        if not self.ready and ins.number not in (
                (HELLO, REGISTER, RESUME, END) if self.is_server
                else (HELLO, REGISTERED, RESUMED, END)):
            raise WireError("%r before the registration" % ins)
        handler = self._handlers.get(ins.number)
        if handler is None:
            raise WireError("%r: not from this daemon" % ins)
        if handler(self, ins) is not False:
            self.inbox.append(ins)

    def _on_hello(self, ins):
        if self.hello is not None:
            raise WireError("InsHello twice")
        self.hello = ins

    def _on_register(self, ins):
        if not self.is_server or self.hello is None or self.ready:
            raise WireError("%r at the wrong time" % ins)
        if ins.settled >= ins.serial:
            raise WireError("%r: settled is not below serial" % ins)

    def _on_registered(self, ins):
        if self.is_server or self.hello is None or self.ready:
            raise WireError("%r at the wrong time" % ins)
        self.ready = True
        self._resumable(ins.resume, ins.secret)

    def _resumable(self, ms, secret):
        self.resume_ms, self.secret = ms, secret
        self.keep = ms > 0

    def _on_resume(self, ins):
        if not self.is_server or self.hello is None or self.ready:
            raise WireError("%r at the wrong time" % ins)
        if ins.settled >= ins.serial:
            raise WireError("%r: settled is not below serial" % ins)
        self.halted = True

    def _on_resumed(self, ins):
        if self.is_server or self.hello is None or self.ready:
            raise WireError("%r at the wrong time" % ins)
        # What is behind it is for the session.
        self.halted = True

    def _on_go_away(self, ins):
        if self.away is not None:
            raise WireError("%r: a second one" % ins)
        self.away = ins

    def _on_end(self, ins):
        self.ended = ins

    def _on_ack(self, ins):
        if ins.offset < self.acked:
            raise WireError("%r goes back: %d" % (ins, self.acked))
        if ins.offset > self.tx_offset:
            raise WireError("%r passes what was sent: %d"
                            % (ins, self.tx_offset))
        self._let_go_of(ins.offset)
        self.acks.append((ins.at, ins.offset))
        return False

    def _let_go_of(self, offset):
        self.acked = offset
        if self.keep:
            del self.kept[:offset - self.kept_at]
            self.kept_at = offset

    def _on_ping(self, ins):
        self.pings.append(ins)
        if self.auto_pong and not self.quiet and not self.mute:
            self.push(pong(ins.stamp))
        return False

    def _on_pong(self, ins):
        # A newer one may replace an older; none comes twice.
        if ins.stamp not in self.pings_sent:
            raise WireError("%r: never asked, or answered before" % ins)
        at = self.pings_sent.index(ins.stamp)
        del self.pings_sent[:at + 1]
        self.pongs.append(ins.stamp)
        return False

    def _on_open(self, ins):
        if bool(ins.identity & CLIENT_BIT) != self.is_server:
            raise WireError("%r: an identity of the wrong side" % ins)
        number = ins.identity & (CLIENT_BIT - 1)
        if number != self.their_identity + 1:
            raise WireError("%r does not count up from %d"
                            % (ins, self.their_identity))
        self.their_identity = number
        if not WINDOW_MIN <= ins.window <= WINDOW_MAX:
            raise WireError("%r: the window" % ins)
        if self.away is not None:
            raise WireError("%r behind InsGoAway" % ins)
        s = Stream(ins.identity, False, BEFORE_ANSWER, 0)
        s.open = ins
        s.first_window = ins.window
        s.auto_credit = self.auto_credit
        self.streams[ins.identity] = s

    def _on_opened(self, ins):
        s = self._stream(ins.identity, "InsOpened")
        if not s.ours or s.answer is not None or s.rx_end is not None:
            raise WireError("%r: not waited for: %r" % (ins, s))
        if ins.outcome > FAILED:
            raise WireError("%r: the outcome" % ins)
        if ins.outcome == CONNECTED:
            if not WINDOW_MIN <= ins.window <= WINDOW_MAX:
                raise WireError("%r: the window" % ins)
            s.tx_grant = s.tx_granted = ins.window
        elif ins.window != 0:
            raise WireError("%r: a window" % ins)
        s.first_window = ins.window
        s.answer = ins.outcome

    def _ended_by_them(self, s, ins):
        """True when the stream is over by our doing: it was on its way.
        WireError when they had ended it themselves."""
        if s.rx_end in (RESET, CLOSE):
            raise WireError("%r after %s" % (ins, NAMES[s.rx_end]))
        return s.over

    def _on_half_close(self, ins):
        s = self._stream(ins.identity, "InsHalfClose")
        self._ended_by_them(s, ins)
        if s.rx_end is not None:
            raise WireError("%r: a second one" % ins)
        if s.ours and s.answer is None:
            raise WireError("%r before the answer" % ins)
        s.rx_end = HALF_CLOSE

    def _on_reset(self, ins):
        s = self._stream(ins.identity, "InsReset")
        self._ended_by_them(s, ins)
        if not 1 <= ins.reason <= 6:
            raise WireError("%r: the reason" % ins)
        s.rx_end = RESET
        s.reset_reason = ins.reason

    def _on_close(self, ins):
        s = self._stream(ins.identity, "InsCloseConnection")
        self._ended_by_them(s, ins)
        s.rx_end = CLOSE

    def _on_credit(self, ins):
        s = self._stream(ins.identity, "InsCredit")
        self._ended_by_them(s, ins)
        if s.answer is None or (s.ours and s.answer != CONNECTED):
            raise WireError("%r before the answer" % ins)
        if s.answer != CONNECTED:
            return
        if ins.offset > 1 << 63:
            raise WireError("%r is over 2^63" % ins)
        if ins.offset <= s.tx_grant:
            raise WireError("%r does not rise: %r" % (ins, s))
        s.tx_grant = s.tx_granted = ins.offset

    def _on_limit(self, ins):
        s = self._stream(ins.identity, "InsLimit")
        if self._ended_by_them(s, ins):
            return
        if s.answer is None:
            raise WireError("%r before the answer" % ins)
        if s.rx_end is not None:
            raise WireError("%r after the half-close" % ins)
        if not s.rx_total <= ins.limit <= ins.seen:
            raise WireError("%r: %d were sent" % (ins, s.rx_total))
        if ins.limit != s.rx_total + 16384:
            raise WireError("%r: not what was sent (%d) + 16,384"
                            % (ins, s.rx_total))
        if ins.seen > s.rx_granted:
            raise WireError("%r: never granted: %r" % (ins, s))
        s.limits.append(ins)
        if ins.seen == s.rx_granted:
            s.rx_grant = s.rx_granted = ins.limit

    _handlers = {
        HELLO: _on_hello, REGISTER: _on_register,
        REGISTERED: _on_registered, END: _on_end, ACK: _on_ack,
        PING: _on_ping, PONG: _on_pong, OPEN: _on_open, OPENED: _on_opened,
        HALF_CLOSE: _on_half_close, RESET: _on_reset, CLOSE: _on_close,
        CREDIT: _on_credit, LIMIT: _on_limit, RESUME: _on_resume,
        RESUMED: _on_resumed, GO_AWAY: _on_go_away,
        DATA: lambda self, ins: None,
    }

    def _after_read(self):
        if self.quiet or self.mute or self.closed or self.ended:
            return
        if self.auto_ack and self.ready and self.rx_offset > self.ack_sent:
            self.ack_sent = self.rx_offset
            self.push(ack(self.rx_offset))
        if self.auto_credit:
            for s in self.dirty:
                self.give_credit(s)
            self.dirty.clear()

    def give_credit(self, s):
        """Credit for a stream that has used up half of its window."""
        if (s.auto_credit and s.answer == CONNECTED and not s.over
                and s.rx_end is None
                and s.rx_grant - s.rx_total <= s.window // 2):
            self.queue(credit(s.identity, s.rx_total + s.window))
            s.rx_grant = s.rx_granted = s.rx_total + s.window

    # -- sending

    def queue(self, *instructions):
        for i in instructions:
            self._note_sent(i)
            self.push(i)

    def _note_sent(self, instruction):
        if is_counted(instruction):
            self.tx_offset += len(instruction)
            if self.keep:
                self.kept += instruction

    def send_cut(self, instruction, n):
        """The first n bytes of an instruction; the rest of a counted one is
        kept for the next carrier.  Nothing else is said on this one."""
        self.mute = True
        self._note_sent(instruction)
        self.raw(instruction[:n])

    def send(self, *instructions, timeout=None):
        """Whole instructions, which are counted; no other books."""
        self.queue(*instructions)
        self.flush(timeout)

    def ping(self, timeout=None):
        """InsPing, and wait for its pong: the daemon has taken all that was
        sent before, and the session lives."""
        self.stamp += 1
        stamp = self.stamp
        self.pings_sent.append(stamp)
        self.send(ping(stamp))
        self.until(lambda: stamp in self.pongs or self.closed
                   or self.ended, "the pong", timeout)
        if stamp not in self.pongs:
            raise WireError("no pong: %r, carrier %s"
                            % (self.ended, self.closed))

    def open(self, fields, window=WINDOW, kind=0, klass=0, send=True):
        """InsOpen with the next identity; the Stream."""
        identity = self.next_identity | (0 if self.is_server else CLIENT_BIT)
        self.next_identity += 1
        s = Stream(identity, True, window, BEFORE_ANSWER)
        s.window = window
        s.auto_credit = self.auto_credit
        self.streams[identity] = s
        self.queue(open_(identity, fields, window, kind, klass))
        if send:
            self.flush()
        return s

    def connect(self, port, window=WINDOW, timeout=None):
        """Open a stream to a port and wait until it is connected."""
        s = self.open(target_port(port), window)
        self.wait_answer(s, timeout)
        if s.answer != CONNECTED:
            raise WireError("outcome %d" % s.answer)
        return s

    def wait_answer(self, s, timeout=None):
        self.until(lambda: s.answer is not None or s.over or self.closed,
                   "the answer for %r" % s, timeout)
        return s.answer

    def accept_stream(self, window=WINDOW, answer=True, timeout=None):
        """Wait for InsOpen and, unless told otherwise, connect it."""
        while True:
            ins = self.next(timeout)
            if ins.number == OPEN:
                break
        s = self.streams[ins.identity]
        if answer:
            self.send_opened(s, CONNECTED, window)
        return s

    def send_opened(self, s, outcome=CONNECTED, window=WINDOW, fields=b""):
        s.answer = outcome
        if outcome == CONNECTED:
            s.tx_grant = s.tx_granted = s.open.window
            s.rx_grant = s.rx_granted = s.window = window
        self.send(opened(s.identity, outcome, window, fields))

    def send_data(self, s, body, length=None, flush=True):
        s.tx += len(body)
        self.queue(data(s.identity, body))
        if flush:
            self.flush()

    def write(self, s, body, piece=65536, timeout=None):
        """All of body, as the credit allows."""
        body = memoryview(body)
        while len(body):
            self.until(lambda: s.tx_grant > s.tx or s.over or self.closed,
                       "credit for %r" % s, timeout)
            if s.over or self.closed:
                raise WireError("the stream ended while writing: %r" % s)
            n = min(piece, len(body), s.tx_grant - s.tx)
            self.send_data(s, body[:n])
            body = body[n:]

    def read(self, s, n, timeout=None):
        self.until(lambda: len(s.rx) >= n or self.closed
                   or s.rx_end is not None,
                   "%d bytes for %r" % (n, s), timeout)
        if len(s.rx) < n:
            raise WireError("%r ended after %d of %d bytes"
                            % (s, len(s.rx), n))
        out = bytes(s.rx[:n])
        del s.rx[:n]
        return out

    def read_end(self, s, timeout=None):
        """All that is left of their direction; which end it had."""
        self.until(lambda: s.rx_end is not None, "the end of %r" % s,
                   timeout)
        out = bytes(s.rx)
        s.rx.clear()
        return out, s.rx_end

    def send_half_close(self, s):
        s.tx_end = HALF_CLOSE
        self.send(half_close(s.identity))

    def send_reset(self, s, reason=R_LOCAL):
        s.tx_end = RESET
        self.send(reset(s.identity, reason))

    def send_close(self, s):
        s.tx_end = CLOSE
        self.send(close(s.identity))

    def send_credit(self, s, offset):
        s.rx_grant = s.rx_granted = offset
        self.send(credit(s.identity, offset))

    def send_limit(self, s, to, seen):
        if seen == s.tx_granted:
            s.tx_grant = s.tx_granted = to
        self.send(limit(s.identity, to, seen))

    def expect_end(self, code, timeout=None):
        """InsEnd with this code (or one of them), then the carrier ends."""
        codes = code if isinstance(code, (tuple, list, set)) else (code,)
        self.until(lambda: self.ended is not None or self.closed,
                   "InsEnd %s" % (code,), timeout)
        if self.ended is None:
            raise WireError("the carrier ended (%s) without InsEnd %s"
                            % (self.closed, code))
        if self.ended.code not in codes:
            raise WireError("%r, expected %s" % (self.ended, code))
        self.expect_closed(timeout)
        return self.ended

    # -- carriers come and go

    def lose(self, reset=False):
        """Let go of the carrier; the session stays as it is."""
        if reset:
            self.abort()
        self.shut()
        self._without_carrier()

    def _without_carrier(self):
        self.out.clear()
        self.rbuf.clear()       # what was cut comes again, or is void
        self.pings_sent.clear()
        self.most = None
        self.mute = False
        self.hello = None
        self.ready = False

    def _adopt(self, other, offset):
        """Go on with the carrier of another peer, whose handshake is over;
        the daemon has counted up to offset."""
        if not self.kept_at <= offset <= self.tx_offset:
            raise WireError("offset %d, but %d to %d were sent"
                            % (offset, self.kept_at, self.tx_offset))
        self._without_carrier()
        self.sock, self.hello = other.sock, other.hello
        self.closed, self.rbuf = other.closed, other.rbuf
        self.last_received = other.last_received
        self.most = other.most
        self.ready = True
        # What we have taken is what the daemon was told.
        self.ack_sent = self.rx_offset
        self._let_go_of(offset)
        self.push(self.kept)

    def go_on(self):
        """Behind _adopt(): what came already, and what is to be sent."""
        self._decode()
        self._after_read()
        self.flush()

    def here(self):
        """What has been taken so far, for back_to()."""
        return copy.deepcopy((self.rx_offset, self.body, self.their_identity,
                              self.away, {i: {k: v for k, v in
                                              s.__dict__.items()
                                              if k != "sink"}
                                          for i, s in self.streams.items()}))

    def back_to(self, place):
        """As if nothing had come since then; without a carrier."""
        (self.rx_offset, self.body, self.their_identity, self.away,
         streams) = copy.deepcopy(place)
        self.streams = {i: s for i, s in self.streams.items()
                        if i in streams}
        for i, values in streams.items():
            self.streams[i].__dict__.update(values)
        self.dirty.clear()
        self.inbox.clear()

    def send_go_away(self, code=E_SHUTTING_DOWN, text=""):
        self.away_sent = True
        self.send(go_away(code, text))

    def settle(self, timeout=None):
        """Wait until the daemon has acknowledged all that was sent."""
        self.until(lambda: self.acked == self.tx_offset, "InsAck %d (%d)"
                   % (self.tx_offset, self.acked), timeout)


class Instance:
    """One remote-client process: what its dials have in common."""

    def __init__(self, name):
        self.name = name
        self.instance = os.urandom(16)
        self.serial = 0
        self.settled = 0
        self.held = []


class ExtendedClient(ExtendedPeer):
    """A remote-client.  hello(), wait_hello(), register(), wait_registered()
    are the steps of start()."""
    is_server = False

    def __init__(self, port, name="x", instance=None, start=False,
                 receive_buffer=None):
        super().__init__(dial(port, receive_buffer=receive_buffer))
        self.port = port
        self.who = instance or Instance(name)
        self.session = None
        self.server = None          # its InsHello at the registration
        self.nonce = os.urandom(32)
        if start:
            self.start()

    def hello_(self, **values):
        values.setdefault("nonce", self.nonce)
        self.send(hello_client(**values))

    def wait_hello(self):
        return self.expect(HELLO)

    def register_(self, held=None, standby=False, software=None, extra=b"",
                  settled=None, resume=0):
        """resume: ms; may be resumed then, if the proxy-server says so too."""
        w = self.who
        w.serial += 1
        if settled is None:
            settled = w.serial - 1
        self.send(register(w.name, w.instance, w.serial, settled,
                           w.held if held is None else held, standby,
                           software, extra, resume))

    def wait_registered(self):
        ins = self.expect(REGISTERED)
        self.session = ins.session
        self.server = self.hello
        self.who.held.append(ins.session)
        return ins

    # Resuming: resume() is attempt(), wait_resumed() and take().

    def attempt(self, port=None, count=True, **other):
        """InsResume on a new carrier, which is returned.  other: what it says
        instead of the truth, and what the proof is made for: name, instance,
        session, attempt, offset, secret, serial, settled, held, start,
        server_instance; proof (or a function of the peer and the right one),
        and extra fields."""
        p = ExtendedClient(port or self.port, instance=self.who)
        p.timeout = self.timeout
        p.hello_()
        hello = p.wait_hello()
        w = self.who
        w.serial += 1
        if count:
            self.attempts += 1
        v = dict(name=w.name, instance=w.instance, serial=w.serial,
                 settled=w.serial - 1, held=w.held, session=self.session,
                 attempt=self.attempts, offset=self.rx_offset,
                 secret=self.secret, start=hello.start,
                 server_instance=hello.instance, extra=b"")
        v.update(other)
        p.proof_input = (v["instance"], v["server_instance"], v["start"],
                         v["name"], v["session"], p.nonce, hello.nonce,
                         v["attempt"], v["offset"])
        right = proof(v["secret"], False, *p.proof_input)
        v.setdefault("proof", right)
        if callable(v["proof"]):
            v["proof"] = v["proof"](p, right)
        p.send(resume(v["name"], v["instance"], v["serial"], v["settled"],
                      v["session"], v["attempt"], v["offset"], v["proof"],
                      v["held"], v["extra"]))
        return p

    def wait_resumed(self, timeout=None):
        return self.expect(RESUMED, timeout)

    def take(self, p, ins):
        """Go on with the carrier p, on which the proxy-server said ins."""
        if ins.proof != proof(self.secret, True, *p.proof_input, ins.offset):
            raise WireError("%r: the proof" % ins)
        if (p.hello.instance, p.hello.start) != (self.server.instance,
                                                 self.server.start):
            raise WireError("%r: another proxy-server" % ins)
        self._adopt(p, ins.offset)
        self.go_on()
        return ins

    def resume(self, port=None, timeout=None):
        """A new carrier, and what the proxy-server said on it."""
        p = self.attempt(port)
        return self.take(p, p.wait_resumed(timeout))

    def refused(self, code, **other):
        """An attempt that is refused with code."""
        p = self.attempt(count=False, **other)
        p.expect_end(code)
        p.shut()

    def start(self, **values):
        self.hello_()
        self.wait_hello()
        self.register_(**values)
        self.wait_registered()
        return self

    def give_up(self):
        """Close the carrier and stop to list the session as held."""
        if self.session in self.who.held:
            self.who.held.remove(self.session)
        self.shut()


class ExtendedSession(ExtendedPeer):
    """The proxy-server's end of one extended carrier."""
    is_server = True
    sessions = 100

    def __init__(self, sock, instance, start):
        super().__init__(sock)
        self.instance = instance
        self.start_ = start
        self.nonce = os.urandom(32)
        self.registration = None
        self.session = None

    def wait_hello(self, timeout=None):
        return self.expect(HELLO, timeout)

    def hello_(self, **values):
        values.setdefault("instance", self.instance)
        values.setdefault("start", self.start_)
        values.setdefault("nonce", self.nonce)
        self.send(hello_server(**values))

    def wait_register(self, timeout=None):
        self.registration = self.expect(REGISTER, timeout)
        return self.registration

    def registered_(self, session=None, extra=b"", *more, resume=0,
                    secret=None):
        """resume: ms; then there is a secret."""
        if session is None:
            ExtendedSession.sessions += 1
            session = ExtendedSession.sessions
        self.session = session
        self.ready = True
        if resume and secret is None:
            secret = os.urandom(32)
        self._resumable(resume, secret)
        self.send(registered(session, extra, resume, secret), *more)

    def handshake(self, timeout=None, resume=0):
        self.wait_hello(timeout)
        self.hello_()
        self.wait_register(timeout)
        self.registered_(resume=resume)
        return self

    # Resuming: resume() is asked() and answer().

    def asked(self, p, timeout=None):
        """The InsResume on the carrier p, which was just accepted; it has to
        be for this session, and right in all that it says."""
        p.wait_hello(timeout)
        p.hello_()
        ins = p.expect(RESUME, timeout)
        g = self.registration
        if (ins.session, ins.name, ins.instance) != (self.session, g.name,
                                                     g.instance):
            raise WireError("%r: not for this session" % ins)
        if self.session not in ins.held:
            raise WireError("%r: it is not held" % ins)
        if ins.attempt <= self.attempts:
            raise WireError("%r: attempt %d was made" % (ins, self.attempts))
        if not self.acked <= ins.offset <= self.tx_offset:
            raise WireError("%r: %d to %d were sent"
                            % (ins, self.acked, self.tx_offset))
        p.proof_input = (g.instance, self.instance, self.start_, g.name,
                         self.session, p.hello.nonce, p.nonce, ins.attempt,
                         ins.offset)
        if ins.proof != proof(self.secret, False, *p.proof_input):
            raise WireError("%r: the proof" % ins)
        self.attempts = ins.attempt
        return ins

    def answer(self, p, ins, more=b""):
        """Take it, and go on with the carrier p; more: bytes that leave right
        behind InsResumed."""
        self._adopt(p, ins.offset)
        self.out[:0] = resumed(self.rx_offset, proof(
            self.secret, True, *p.proof_input, self.rx_offset)) + more
        self.go_on()

    def resume(self, server, timeout=10.0):
        """A new carrier, which the remote-client dials; its InsResume."""
        p = server.accept_raw(timeout)
        ins = self.asked(p, timeout)
        self.answer(p, ins)
        return ins


class ExtendedServer(Listener):
    def __init__(self, port=0):
        super().__init__(port)
        self.instance = os.urandom(16)
        self.start = 1

    def accept_raw(self, timeout=10.0):
        return ExtendedSession(self.accept(timeout), self.instance,
                               self.start)

    def accept_peer(self, timeout=10.0, resume=0):
        return self.accept_raw(timeout).handshake(timeout, resume)


# -------------------------------------------------------------- small helpers

_RING = random.Random(20).randbytes(1 << 16)
_RING2 = _RING + _RING


def pattern(seed, offset, n):
    """n bytes at offset of an endless stream that seed names.  The period is
    not a power of two, so that a block that is lost or doubled shows."""
    period = 65521
    out = bytearray()
    at = (seed * 7919 + offset) % period
    while n > 0:
        k = min(n, period - at)
        out += _RING[at:at + k]
        n -= k
        at = 0
    return bytes(out)


class Verifier:
    """A sink that checks pattern(seed)."""

    def __init__(self, seed, what="stream"):
        self.seed = seed
        self.got = 0
        self.what = what
        self.bad = None

    def __call__(self, piece):
        if bytes(piece) != pattern(self.seed, self.got, len(piece)):
            self.bad = "%s: wrong bytes within [%d, %d)" % (
                self.what, self.got, self.got + len(piece))
            raise WireError(self.bad)
        self.got += len(piece)


def visit(port, receive_buffer=None, timeout=10.0):
    """A visitor's socket."""
    return dial(port, timeout, receive_buffer)


def read_exact(sock, n):
    out = bytearray()
    while len(out) < n:
        piece = sock.recv(min(1 << 18, n - len(out)))
        if not piece:
            raise WireError("end of file after %d of %d bytes"
                            % (len(out), n))
        out += piece
    return bytes(out)


def read_all(sock):
    """(bytes, "eof" or "reset")."""
    out = bytearray()
    while True:
        try:
            piece = sock.recv(1 << 18)
        except socket.timeout:
            raise WireError("no end of file after %d bytes"
                            % len(out)) from None
        except OSError:
            return bytes(out), "reset"
        if not piece:
            return bytes(out), "eof"
        out += piece


def hang_up(sock):
    """Reset a connection."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER,
                    struct.pack("ii", 1, 0))
    sock.close()


class EchoApp:
    """An application that echoes, in a thread of its own."""

    def __init__(self, port=0):
        self.listener = Listener(port)
        self.port = self.listener.port
        self.stopping = False
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self):
        self.listener.sock.settimeout(0.1)
        while not self.stopping:
            try:
                s, _ = self.listener.sock.accept()
            except (socket.timeout, BlockingIOError):
                continue
            except OSError:
                return
            threading.Thread(target=self._echo, args=(s,),
                             daemon=True).start()

    def _echo(self, s):
        s.settimeout(None)
        try:
            while True:
                piece = s.recv(1 << 16)
                if not piece:
                    break
                s.sendall(piece)
            s.shutdown(socket.SHUT_WR)
        except OSError:
            pass
        s.close()

    def stop(self):
        self.stopping = True
        self.listener.shut()


def in_thread(fn, *args):
    """Run fn(*args) in a thread; join() returns its result or raises what it
    raised."""
    class Run(threading.Thread):
        def __init__(self):
            super().__init__(daemon=True)
            self.result = None
            self.error = None

        def run(self):
            try:
                self.result = fn(*args)
            except BaseException as e:      # handed to join()
                self.error = e

        def wait(self, timeout=30.0):
            self.join(timeout)
            if self.is_alive():
                raise WireError("a helper thread does not end: %s" % fn)
            if self.error is not None:
                raise self.error
            return self.result

    r = Run()
    r.start()
    return r


# ------------------------------------------------------------- self-test

def _self_classic():
    server = ClassicServer()
    client = ClassicClient(server.port, "näme")
    peer = server.accept_peer()
    assert peer.name == "näme"
    identity = 0x7F0000011234
    peer.connect(identity, 80, data(identity, b"ping"))
    s = client.accept_stream()
    assert (s.identity, s.port) == (identity, 80)
    assert client.read(identity, 4) == b"ping"
    for first, second in split_all(heartbeat() + data(identity, b"xyz")):
        client.raw(first)
        peer.drained()
        client.raw(second)
        assert peer.read(identity, 3) == b"xyz"
    assert len(peer.beats) == 16
    big = pattern(1, 0, 4 << 20)
    run = in_thread(client.raw, data(identity, big))
    assert peer.read(identity, len(big)) == big
    run.wait()
    client.send_close(identity)
    peer.until_close(identity)
    client.next_beat = 0
    client.pump()
    client.flush()
    peer.until(lambda: len(peer.beats) == 17, "a heartbeat")
    client.shut()
    peer.expect_closed()


def _self_extended():
    server = ExtendedServer()
    client = ExtendedClient(server.port, "x")
    client.hello_()
    peer = server.accept_raw()
    peer.wait_hello()
    peer.hello_()
    client.wait_hello()
    client.register_(software="self-test")
    r = peer.wait_register()
    assert (r.name, r.serial, r.settled, r.held) == ("x", 1, 0, [])
    peer.registered_()
    client.wait_registered()
    assert client.session == peer.session

    def pumping():
        while not peer.closed:
            peer.pump(0.01)
    s = peer.open(target_port(80) + address(F_SOURCE, "127.0.0.1", 9)
                  + address(F_DESTINATION, "::1", 10), window=20000)
    c = client.accept_stream(window=30001)
    assert c.open.target == (1, 80, None)
    assert c.open.source == ("127.0.0.1", 9)
    assert c.open.destination == ("::1", 10)
    assert c.tx_grant == 20000
    peer.wait_answer(s)
    assert s.tx_grant == 30001
    v = s.sink = Verifier(5)
    run = in_thread(peer.until, lambda: s.rx_end, "the half-close")
    client.write(c, pattern(5, 0, 1 << 20))
    client.send_half_close(c)
    run.wait()
    assert v.got == 1 << 20
    run = in_thread(pumping)
    client.settle()
    client.ping()
    client.send(end(E_SHUTTING_DOWN, "bye"))
    client.shut()
    run.wait()
    assert peer.ended.code == E_SHUTTING_DOWN
    for bad in (control(0x0300), ack(1 << 40), pong(1),
                credit(CLIENT_BIT | 1, 5), opened(1), data(7, b"x")):
        client = ExtendedClient(server.port)
        client.hello_()
        peer = server.accept_raw()
        peer.wait_hello()
        peer.hello_()
        client.wait_hello()
        client.register_()
        peer.wait_register()
        peer.registered_()
        client.wait_registered()
        client.send(bad)
        try:
            peer.until(lambda: False, "never", 0.5)
        except WireError as e:
            assert "timed out" not in str(e), bad
        client.shut()


def _self_resume():
    server = ExtendedServer()
    client = ExtendedClient(server.port, "x")
    client.hello_()
    peer = server.accept_raw()
    peer.wait_hello()
    peer.hello_()
    client.wait_hello()
    client.register_(resume=60000)
    assert peer.wait_register().resume == 60000
    peer.registered_(resume=50000)
    client.wait_registered()
    assert client.resume_ms == 50000 and client.secret == peer.secret
    peer.note, client.note = bytearray(), bytearray()
    s = peer.open(target_port(80))
    c = client.accept_stream()
    peer.wait_answer(s)
    sample = data(c.identity, b"0123456789")
    want = b""
    for cut in range(len(sample) + 1):
        place = peer.here()
        c.tx += 10
        client.send_cut(sample, cut)
        if cut:
            peer.read_raw(cut)
        client.lose()
        peer.lose()
        if cut % 3 == 0:
            peer.back_to(place)
        run = in_thread(peer.resume, server)
        client.resume()
        ins = run.wait()
        assert ins.offset == client.rx_offset
        want += b"0123456789"
        got = peer.read(s, 10)
        assert got == b"0123456789", (cut, got)
    assert peer.rx_offset == client.tx_offset
    assert bytes(peer.note[-len(sample):]) == sample
    client.lose()
    run = in_thread(peer.resume, server)
    try:
        client.take(client.attempt(secret=bytes(32)), None)
    except AttributeError:
        pass
    try:
        run.wait()
    except WireError as e:
        assert "proof" in str(e)
    else:
        raise AssertionError("a wrong proof was taken")


if __name__ == "__main__":
    _self_classic()
    _self_extended()
    _self_resume()
    print("wire.py: the peers agree with each other", file=sys.stderr)
