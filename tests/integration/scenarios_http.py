"""`type: http` listeners, by hand: raw bytes from the visitor, and an
application that shows the raw bytes it got."""

import queue
import socket
import struct
import time

from harness import (FACTOR, Failed, read_exactly, read_until, reset,
                     scenario)
from scenarios_stream import SLACK, SMALL, wait_back, wait_quiet
from scenarios_targets import http_status


class Web:
    """An HTTP application.  Every request it gets goes to .requests as
    (request line, {lower-case field: [values]}, body); the answer is made by
    answer(request), which may write to the socket itself and return None."""

    def __init__(self, t, answer=None):
        self.requests = queue.Queue()
        self.answer = answer or (lambda _socket, request: ok(request[2]))
        self.app = t.app(self._serve)
        self.port = self.app.port

    def _serve(self, connection):
        try:
            while self._one(connection):
                pass
        except (ConnectionError, Failed):
            pass        # a request that broke off is none

    def _one(self, connection):
        first = connection.recv(1, socket.MSG_PEEK)
        if not first:
            return False
        head = read_until(connection, b"\r\n\r\n").decode("latin-1")
        line, *rows = head[:-4].split("\r\n")
        fields = {}
        for row in rows:
            name, _, value = row.partition(":")
            fields.setdefault(name.lower(), []).append(value.strip())
        body = b""
        if "content-length" in fields:
            body = read_exactly(connection, int(fields["content-length"][0]))
        elif fields.get("transfer-encoding") == ["chunked"]:
            body = read_chunked(connection)
        request = (line, fields, body)
        self.requests.put(request)
        answer = self.answer(connection, request)
        if answer is not None:
            connection.sendall(answer)
        return answer is not None and fields.get("connection") != ["close"]

    def next(self):
        return self.requests.get(timeout=20 * FACTOR)


def read_chunked(connection):
    body = b""
    while True:
        size = int(read_until(connection, b"\r\n").split(b";")[0], 16)
        if size == 0:
            while read_until(connection, b"\r\n") != b"\r\n":
                pass
            return body
        body += read_exactly(connection, size)
        if read_exactly(connection, 2) != b"\r\n":
            raise Failed("no end of a chunk")


def ok(body=b"", more=""):
    return (f"HTTP/1.1 200 OK\r\n{more}Content-Length: {len(body)}\r\n\r\n"
            .encode() + body)


def response(visitor):
    """One response with a Content-Length: (status, head, body)."""
    head = read_until(visitor, b"\r\n\r\n").decode("latin-1")
    length = 0
    for row in head.split("\r\n")[1:]:
        name, _, value = row.partition(":")
        if name.lower() == "content-length":
            length = int(value)
    return int(head.split(" ")[1]), head, read_exactly(visitor, length)


def pair(t, web, **more):
    server, client = t.pair([("http", web.port)], **more)
    return server, client, server.port()


@scenario(60, "http: the Host and the X-Forwarded fields, request by request")
def fields(t):
    web = Web(t)
    _, _, port = pair(t, web)
    visitor = t.connect(port)
    for turn in range(5):
        visitor.sendall(b"POST /path?q=%d HTTP/1.1\r\n"
                        b"Host: public.example:8443\r\n"
                        b"X-Forwarded-For: 6.6.6.6\r\n"
                        b"x-forwarded-for: 7.7.7.7\r\n"
                        b"X_Forwarded_For: 8.8.8.8\r\n"
                        b"X-Forwarded-Proto: https\r\n"
                        b"X-Forwarded-Host: evil.example\r\n"
                        b"Forwarded: for=6.6.6.6\r\n"
                        b"Cookie: a=b; c=d\r\n"
                        b"X-Other:   kept  as it is \r\n"
                        b"X-Hop: goes\r\n"
                        b"Connection: X-Hop\r\n"
                        b"Content-Length: 4\r\n\r\nbody" % turn)
        status, _, body = response(visitor)
        t.eq((status, body), (200, b"body"), "the response")
        line, got, _ = web.next()
        t.eq(line, f"POST /path?q={turn} HTTP/1.1", "the request line")
        t.eq(got["host"], [f"127.0.0.1:{web.port}"], "Host")
        t.eq(got["x-forwarded-for"], ["127.0.0.1"], "X-Forwarded-For")
        t.eq(got["x-forwarded-proto"], ["http"], "X-Forwarded-Proto")
        t.eq(got["x-forwarded-host"], ["public.example:8443"],
             "X-Forwarded-Host")
        t.eq(got["cookie"], ["a=b; c=d"], "Cookie")
        t.eq(got["x-other"], ["kept  as it is"], "X-Other")
        for name in ("forwarded", "x_forwarded_for", "x-hop"):
            t.ok(name not in got, f"{name} in {got}")
    t.eq(web.app.accepted, 1, "connections of the application")


@scenario(61, "http: pipelined requests are answered in their order")
def pipelining(t):
    web = Web(t)
    _, _, port = pair(t, web)
    # More of them than the proxy-server keeps without an answer.
    count = 300
    bodies = [b"%d" % number * (number % 50) for number in range(count)]
    head = "POST /{} HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n"
    data = b"".join(head.format(number, len(body)).encode() + body
                    for number, body in enumerate(bodies))
    visitor = t.connect(port)
    sender = t.thread(visitor.sendall, data)
    for number, body in enumerate(bodies):
        status, _, got = response(visitor)
        t.eq((status, got), (200, body), f"the response to {number}")
        t.eq(web.next()[0], f"POST /{number} HTTP/1.1", "the order")
    sender.join()


@scenario(62, "http: a request cut at every byte")
def cut(t):
    web = Web(t)
    _, _, port = pair(t, web)
    request = (b"POST /cut HTTP/1.1\r\nHost: x.example\r\nAccept: */*\r\n"
               b"Transfer-Encoding: chunked\r\n\r\n"
               b"5\r\nhello\r\n6;ext=1\r\n world\r\n0\r\n\r\n")
    visitor = t.connect(port)
    visitor.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for where in range(1, len(request)):
        visitor.sendall(request[:where])
        # Without it the two pieces are mostly read as one.  The result does
        # not depend on it.
        time.sleep(0.001)
        visitor.sendall(request[where:])
        status, _, body = response(visitor)
        t.eq((status, body), (200, b"hello world"), f"cut at {where}")
        t.eq(web.next()[0], "POST /cut HTTP/1.1", f"cut at {where}")
    for byte in request:
        visitor.sendall(bytes([byte]))
    t.eq(response(visitor)[2], b"hello world", "byte by byte")


@scenario(63, "http: chunked bodies both ways, with trailers and extensions")
def chunked(t):
    def answer(connection, request):
        connection.sendall(b"HTTP/1.1 200 OK\r\n"
                           b"Transfer-Encoding: chunked\r\n\r\n")
        body = request[2]
        for at in range(0, len(body), 10000):
            piece = body[at:at + 10000]
            connection.sendall(b"%x\r\n%s\r\n" % (len(piece), piece))
        return b"0\r\nX-Sum: 1\r\n\r\n"

    web = Web(t, answer)
    _, _, port = pair(t, web)
    visitor = t.connect(port)
    for size in (0, 1, 9, 70000, 1 << 20):
        body = bytes(n % 251 for n in range(size))
        visitor.sendall(b"PUT /up HTTP/1.1\r\nHost: x\r\n"
                        b"Transfer-Encoding: chunked\r\n"
                        b"Trailer: X-Sum\r\n\r\n")

        def send():
            for at in range(0, len(body), 4321):
                piece = body[at:at + 4321]
                visitor.sendall(b"%X;name=value\r\n%s\r\n"
                                % (len(piece), piece))
            visitor.sendall(b"0\r\nX-Sum: 1\r\n\r\n")
        sender = t.thread(send)
        head = read_until(visitor, b"\r\n\r\n")
        t.ok(head.startswith(b"HTTP/1.1 200 "), f"the head: {head!r}")
        t.ok(read_chunked(visitor) == body, f"the body of {size} bytes")
        sender.join()
        t.ok(web.next()[2] == body, f"what the application got of {size}")


@scenario(64, "http: a WebSocket, opaque both ways after 101")
def websocket(t):
    results = queue.Queue()

    def answer(connection, request):
        results.put(request[1])
        connection.sendall(b"HTTP/1.1 101 Switching Protocols\r\n"
                           b"Upgrade: websocket\r\nConnection: Upgrade\r\n"
                           b"Sec-WebSocket-Accept: x\r\n\r\n")
        while True:
            data = connection.recv(65536)
            if not data:
                return None
            connection.sendall(data)

    web = Web(t, answer)
    _, _, port = pair(t, web)
    visitor = t.connect(port)
    upgrade = (b"GET /chat HTTP/1.1\r\nHost: x.example\r\n"
               b"Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n"
               b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
               b"Sec-WebSocket-Version: 13\r\n\r\n")
    visitor.sendall(upgrade)
    head = read_until(visitor, b"\r\n\r\n")
    t.ok(head.startswith(b"HTTP/1.1 101 "), f"the head: {head!r}")
    got = results.get(timeout=20 * FACTOR)
    t.eq(got["upgrade"], ["websocket"], "Upgrade")
    t.ok("upgrade" in got["connection"][0].lower(), f"Connection in {got}")
    t.eq(got["sec-websocket-version"], ["13"], "Sec-WebSocket-Version")
    t.eq(got["host"], [f"127.0.0.1:{web.port}"], "Host")
    for size in (1, 125, 65536, 1 << 20):
        # Bytes that look like HTTP are only bytes now.
        frame = (b"GET / HTTP/1.1\r\n\r\n" * (size // 18 + 1))[:size]
        sender = t.thread(visitor.sendall, frame)
        t.ok(read_exactly(visitor, size) == frame, f"{size} bytes came back")
        sender.join()
    visitor.shutdown(socket.SHUT_WR)
    t.expect_eof(visitor, b"")
    # The first frame right behind the request, before the answer.
    visitor = t.connect(port)
    visitor.sendall(upgrade + b"\x81\x05hello")
    read_until(visitor, b"\r\n\r\n")
    t.eq(read_exactly(visitor, 7), b"\x81\x05hello", "the early frame")


@scenario(65, "http: other upgrades are taken out, and refused ones go on")
def upgrades(t):
    web = Web(t)
    _, _, port = pair(t, web)
    visitor = t.connect(port)
    visitor.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n"
                    b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
                    b"HTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n")
    t.eq(response(visitor)[0], 200, "the status")
    _, got, _ = web.next()
    for name in ("upgrade", "http2-settings"):
        t.ok(name not in got, f"{name} in {got}")
    t.ok("upgrade" not in str(got.get("connection")).lower(),
         f"Connection in {got}")
    # A WebSocket that the application does not want is a request like others.
    for turn in range(3):
        visitor.sendall(b"GET /ws HTTP/1.1\r\nHost: x\r\n"
                        b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
        t.eq(response(visitor)[0], 200, "the status")
        t.eq(web.next()[1].get("upgrade"), ["websocket"], "Upgrade")
        visitor.sendall(b"GET /next HTTP/1.1\r\nHost: x\r\n\r\n")
        t.eq(response(visitor)[0], 200, "the status")
        t.eq(web.next()[0], "GET /next HTTP/1.1", "the next request")


HOST = b"Host: x\r\n"
REFUSED = [
    (400, b"GET / HTTP/1.1\r\n\r\n"),
    (400, b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"),
    (400, b"GET / HTTP/1.1\nHost: x\n\n"),
    (400, b"GET /\r\nHost: x\r\n\r\n"),
    (400, b"GET  / HTTP/1.1\r\n" + HOST + b"\r\n"),
    (400, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(64)),
    (400, b"GET / HTTP/1.1\r\n" + HOST + b"A : b\r\n\r\n"),
    (400, b"GET / HTTP/1.1\r\n" + HOST + b"A: b\r\n c\r\n\r\n"),
    (400, b"POST / HTTP/1.1\r\n" + HOST +
     b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    (400, b"POST / HTTP/1.1\r\n" + HOST +
     b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!"),
    (400, b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: +5\r\n\r\nhello"),
    (400, b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 5, 5\r\n\r\nhello"),
    (400, b"POST / HTTP/1.1\r\n" + HOST +
     b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n"),
    (400, b"POST / HTTP/1.1\r\n" + HOST +
     b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n"
     b"0\r\n\r\n"),
    (400, b"POST / HTTP/1.0\r\n" + HOST +
     b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    (501, b"POST / HTTP/1.1\r\n" + HOST +
     b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
    (501, b"CONNECT x:80 HTTP/1.1\r\nHost: x:80\r\n\r\n"),
    (505, b"GET / HTTP/2.0\r\n" + HOST + b"\r\n"),
    (431, b"GET / HTTP/1.1\r\n" + HOST + b"A: " + b"a" * 70000 + b"\r\n\r\n"),
    (431, b"GET /" + b"a" * 70000 + b" HTTP/1.1\r\n" + HOST + b"\r\n"),
]


@scenario(66, "http: ambiguous and broken requests are refused, none passes")
def refused(t):
    web = Web(t)
    _, _, port = pair(t, web)
    for code, head in REFUSED:
        t.eq(http_status(t, port, head), code, f"the status for {head[:99]}")
    t.eq(web.requests.qsize(), 0, "requests that the application got")


@scenario(67, "http: heads of many sizes up to 64 KiB pass")
def large_heads(t):
    web = Web(t)
    _, _, port = pair(t, web)
    visitor = t.connect(port)
    for size in (1, 1000, 1024, 4096, 16384, 32768, 65000):
        visitor.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"a" * size +
                        b"\r\n\r\n")
        t.eq(response(visitor)[0], 200, f"the status with {size} bytes")
        t.eq(web.next()[1]["a"], ["a" * size], "the field")


@scenario(68, "http: bodies that end with the connection, HTTP/1.0, HEAD, 1xx")
def body_kinds(t):
    def answer(connection, request):
        line = request[0]
        if "/close" in line:
            connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n" + b"c" * 300000)
            return None
        if "/100" in line:
            connection.sendall(b"HTTP/1.1 102 Processing\r\n\r\n")
        if "/304" in line:
            return b"HTTP/1.1 304 Not Modified\r\nContent-Length: 99\r\n\r\n"
        if line.startswith("HEAD"):
            return b"HTTP/1.1 200 OK\r\nContent-Length: 12345\r\n\r\n"
        return ok(b"plain")

    web = Web(t, answer)
    _, _, port = pair(t, web)
    visitor = t.connect(port)
    visitor.sendall(b"HEAD / HTTP/1.1\r\nHost: x\r\n\r\n")
    head = read_until(visitor, b"\r\n\r\n")
    t.ok(b"Content-Length: 12345" in head, f"the head: {head!r}")
    visitor.sendall(b"GET /304 HTTP/1.1\r\nHost: x\r\n\r\n")
    t.ok(read_until(visitor, b"\r\n\r\n").startswith(b"HTTP/1.1 304"), "304")
    visitor.sendall(b"GET /100 HTTP/1.1\r\nHost: x\r\n\r\n")
    t.ok(read_until(visitor, b"\r\n\r\n").startswith(b"HTTP/1.1 102"), "102")
    t.eq(response(visitor)[2], b"plain", "the response behind 102")
    visitor.sendall(b"GET /close HTTP/1.1\r\nHost: x\r\n\r\n")
    data = t.expect_eof(visitor)
    t.eq(data.count(b"c"), 300000, "a body that the connection ends")
    visitor = t.connect(port)
    visitor.sendall(b"GET /close HTTP/1.0\r\n\r\n")
    t.eq(t.expect_eof(visitor).count(b"c"), 300000, "the same for HTTP/1.0")
    # printf 'GET ...' | nc -N: the answer comes after the visitor's end.
    visitor = t.connect(port)
    visitor.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    visitor.shutdown(socket.SHUT_WR)
    t.ok(t.expect_eof(visitor).endswith(b"plain"), "after a half-close")


@scenario(69, "http: Expect: 100-continue")
def expect_continue(t):
    def answer(connection, request):
        return ok(request[2])

    results = queue.Queue()

    def serve(connection):
        head = read_until(connection, b"\r\n\r\n")
        results.put(head.decode())
        connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        connection.sendall(ok(read_exactly(connection, 5)))

    app = t.app(serve)
    server, _ = t.pair([("http", app.port)])
    visitor = t.connect(server.port())
    visitor.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n"
                    b"Expect: 100-continue\r\n\r\n")
    t.ok("100-continue" in results.get(timeout=20 * FACTOR), "Expect passes")
    t.eq(read_until(visitor, b"\r\n\r\n"), b"HTTP/1.1 100 Continue\r\n\r\n",
         "the interim answer")
    visitor.sendall(b"12345")
    t.eq(response(visitor)[2], b"12345", "the answer")


@scenario(70, "http: the application breaks off, or says what is no HTTP")
def broken_application(t):
    def answer(connection, request):
        line = request[0]
        if "/half" in line:
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n"
                               b"\r\nhalf")
        if "/reset" in line:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER,
                                  struct.pack("ii", 1, 0))
        if "/ssh" in line:
            connection.sendall(b"SSH-2.0-OpenSSH_9.2p1\r\n")
        return None

    web = Web(t, answer)
    server, client, port = pair(t, web)
    # Nothing had come: an answer can be put in.
    for path in (b"/nothing", b"/ssh"):
        status = http_status(t, port, b"GET " + path + b" HTTP/1.1\r\n"
                             b"Host: x\r\n\r\n")
        t.eq(status, 502, f"the status for {path}")
    # In the middle of a response the end must not look like a good one.
    for path in (b"/half", b"/reset"):
        visitor = t.connect(port)
        visitor.sendall(b"GET " + path + b" HTTP/1.1\r\nHost: x\r\n\r\n")
        data = b""
        try:
            while piece := visitor.recv(65536):
                data += piece
        except ConnectionError:
            pass
        t.ok(not data or data.endswith(b"\r\n\r\nhalf") or
             data.startswith(b"HTTP/1.1 502"), f"{path}: {data!r}")
    t.eq(len(client.log("session-ended")), 0, "sessions that ended")


@scenario(71, "http: many visitors at once, keep-alive, each its own answers")
def many_visitors(t):
    web = Web(t)
    _, _, port = pair(t, web)

    def visit(number):
        visitor = t.connect(port)
        for turn in range(max(5, int(50 * t.scale))):
            body = b"%d/%d " % (number, turn) * 200
            visitor.sendall(b"POST /%d HTTP/1.1\r\nHost: x\r\n"
                            b"Content-Length: %d\r\n\r\n%s"
                            % (number, len(body), body))
            t.ok(response(visitor)[2] == body, f"{number}: another's answer")
    visitors = [t.thread(visit, number) for number in range(30)]
    for visitor in visitors:
        visitor.join()


@scenario(72, "http: a refused request behind a good one: both are answered")
def refused_second(t):
    web = Web(t)
    _, _, port = pair(t, web)
    for code, head in REFUSED:
        visitor = t.connect(port)
        visitor.sendall(b"GET /good HTTP/1.1\r\nHost: x\r\n\r\n" + head)
        t.eq(response(visitor)[0], 200, "the good one's status")
        t.eq(response(visitor)[0], code, f"the status for {head[:99]}")
        t.expect_eof(visitor, b"")
        t.eq(web.next()[0], "GET /good HTTP/1.1", "the good one")
    t.eq(web.requests.qsize(), 0, "requests that the application got")


@scenario(73, "http: visitors that do not read: bounded, and others go on")
def stalled(t):
    piece = b"p" * (1 << 20)

    def answer(connection, request):
        if "/large" not in request[0]:
            return ok(piece if "/medium" in request[0] else b"small")
        connection.sendall(b"HTTP/1.1 200 OK\r\n"
                           b"Content-Length: %d\r\n\r\n" % (64 << 20))
        for _ in range(64):
            connection.sendall(piece)
        return b""

    web = Web(t, answer)
    server, client, port = pair(t, web, **SMALL)
    files = {daemon: wait_quiet(t, daemon) for daemon in (server, client)}
    memory = {daemon: daemon.rss_kib() for daemon in files}
    held = [t.connect(port) for _ in range(4)]
    for visitor in held:
        visitor.sendall(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n")
    # Requests without end, and no answer is read.
    head = (b"GET /medium HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 1000 +
            b"\r\n\r\n")
    pipeliner = t.connect(port)
    held.append(pipeliner)
    pipeliner.settimeout(1 * FACTOR)
    sent = 0
    try:
        while sent < 64 << 20:
            sent += pipeliner.send(head * 60)
    except TimeoutError:
        pass
    t.ok(sent < 64 << 20, f"{sent} bytes of requests were taken")
    visitor = t.connect(port)
    for _ in range(20):
        visitor.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        t.eq(response(visitor)[2], b"small", "another visitor's answer")
    visitor.close()
    for daemon, before in memory.items():
        grown = daemon.rss_kib() - before
        t.ok(grown < SLACK, f"{daemon.name} grew by {grown} KiB")
    # One reads after all.
    head = read_until(held[0], b"\r\n\r\n")
    t.ok(read_exactly(held[0], 64 << 20) == piece * 64, "the large answer")
    for visitor in held:
        reset(visitor)
    wait_back(t, files, "visitors gone")
    t.eq(len(client.log("session-ended")), 0, "sessions that ended")


@scenario(74, "http: visitors that break off everywhere in a request")
def broken_off(t):
    web = Web(t)
    server, client, port = pair(t, web)
    files = {daemon: wait_quiet(t, daemon) for daemon in (server, client)}
    request = (b"POST / HTTP/1.1\r\nHost: x\r\n"
               b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n")
    for turn in range(4 * len(request)):
        visitor = t.connect(port)
        visitor.sendall(request[:turn % (len(request) + 1)])
        if turn % 2 == 0:
            reset(visitor)
        else:
            visitor.close()
    wait_back(t, files, "visitors that broke off")
    # Only whole requests were answered, none was made up from two.
    while web.requests.qsize() > 0:
        t.eq(web.next()[2], b"hello", "the body")
    t.eq(http_status(t, port, request.replace(
        b"Host: x", b"Host: x\r\nConnection: close")), 200, "the status")


@scenario(79, "http: a visitor that waits for its remote and resets is forgotten")
def waiting_reset(t):
    server = t.server(t.server_yaml(
        {"remote_client1": [("http", 1)]},
        "wait_for_remote: 1s\nmax_waiting: 1"))
    port = server.port()
    for _ in range(3):
        visitor = t.connect(port)
        visitor.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        # Another one is refused at once: the first one waits.
        t.until(lambda: http_status(t, port) == 503, what="a refusal")
        reset(visitor)
    # Its place is free again, and what timed it is gone.
    t.eq(http_status(t, port), 503, "the status")
    t.ok(server.alive(), "the server lives")
