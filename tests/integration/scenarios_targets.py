"""Targets that refuse, do not answer, are not allowed, have names."""

import os
import re

from harness import read_exactly, scenario
from scenarios_stream import full_backlog

GET = b"GET / HTTP/1.1\r\nHost: example.org\r\nConnection: close\r\n\r\n"


def echo_once(connection):
    connection.sendall(connection.recv(65536))


def http_status(t, port, head=GET, host="127.0.0.1"):
    """The status that one request gets; the connection has to end with an
    end of file, or the answer might have been lost."""
    visitor = t.connect(port, host)
    visitor.sendall(head)
    answer = t.expect_eof(visitor)
    match = re.match(rb"HTTP/1\.1 (\d{3}) [^\r\n]*\r\n", answer)
    t.ok(match, f"no HTTP response: {answer[:200]!r}")
    t.ok(b"\r\n\r\n" in answer, f"no end of the head: {answer[:200]!r}")
    visitor.close()
    return int(match.group(1))


@scenario(20, "a target that refuses: reset, and 502 over http")
def refused(t):
    port = t.port()
    server, client = t.pair([("tcp", port), ("http", port)])
    for _ in range(3):
        t.visit_refused(server.port(index=0))
        t.eq(http_status(t, server.port(index=1)), 502, "the status")
    # A visitor that has sent something is told the same.
    t.visit_refused(server.port(index=0), data=b"x" * 100)
    # The application comes up; nothing was remembered.
    t.app(echo_once, port=port)
    visitor = t.connect(server.port(index=0))
    visitor.sendall(b"now?")
    t.eq(t.expect_eof(visitor), b"now?", "the echo")
    t.eq(len(client.log("session-ended")), 0, "sessions that ended")


@scenario(21, "a target that does not answer: reset, and 504 over http")
def timed_out(t):
    port = full_backlog(t)
    server, client = t.pair([("tcp", port), ("http", port)],
                            client="connect_timeout: 300ms")
    visitors = [t.connect(server.port(index=0)) for _ in range(5)]
    visitors[0].sendall(b"hello?")
    for visitor in visitors:
        t.eq(t.expect_reset(visitor), b"", "bytes from nobody")
    t.eq(http_status(t, server.port(index=1)), 504, "the status")
    t.eq(len(client.log("session-ended")), 0, "sessions that ended")


@scenario(22, "targets that are not allowed: reset, 502, nothing is tried")
def denied(t):
    apps = [t.app(echo_once, "0.0.0.0"), t.app(echo_once, "::")]
    v4, v6 = (app.port for app in apps)
    targets = [f"127.0.0.2:{v4}", f"0.0.0.0:{v4}", f"[::]:{v6}",
               f"[::ffff:127.0.0.2]:{v4}", f"[::ffff:0.0.0.0]:{v4}"]
    server, client = t.pair([("tcp", target) for target in targets] +
                            [("http", target) for target in targets] +
                            [("tcp", v4)])
    for index, target in enumerate(targets):
        t.visit_refused(server.port(index=index), target)
        client.wait_log("target-denied", count=index + 1)
    for index, target in enumerate(targets):
        t.eq(http_status(t, server.port(index=len(targets) + index)), 502,
             f"the status for {target}")
    t.eq(sum(app.accepted for app in apps), 0, "connections that were made")
    # The same port by a way that is allowed.
    visitor = t.connect(server.port(index=2 * len(targets)))
    visitor.sendall(b"yes")
    t.eq(t.expect_eof(visitor), b"yes", "the echo")


@scenario(23, "allow_targets: an address, a network, a range of ports")
def allowed(t):
    app, other = t.app(echo_once, "0.0.0.0"), t.app(echo_once, "0.0.0.0")
    cases = [(f"127.0.0.2:{app.port}", True),
             (f"127.0.0.2:{other.port}", False),
             (f"127.3.9.1:{other.port}", True),
             (f"127.3.8.1:{other.port}", False),
             (f"127.0.0.1:{app.port}", False),
             (app.port, False)]
    server, client = t.pair(
        [("tcp", target) for target, _ in cases],
        client=f'allow_targets: ["127.0.0.2:{app.port}", "127.3.9.0/24:'
               f'{other.port}-{other.port}"]')
    for index, (target, right) in enumerate(cases):
        if not right:
            t.visit_refused(server.port(index=index), str(target))
            continue
        visitor = t.connect(server.port(index=index))
        visitor.sendall(b"in")
        t.eq(t.expect_eof(visitor), b"in", str(target))
    # The last two are one and the same, and may be said once.
    t.eq({entry["target"] for entry in client.log("target-denied")},
         {f"127.0.0.2:{other.port}", f"127.3.8.1:{other.port}",
          f"127.0.0.1:{app.port}"}, "targets denied")


@scenario(24, "targets by name and by [::1]")
def names(t):
    v4, v6 = t.app(echo_once), t.app(echo_once, "::1")
    server, client = t.pair([("tcp", f"localhost:{v4.port}"),
                             ("tcp", f"[::1]:{v6.port}"),
                             ("tcp", f"127.0.0.1:{v4.port}"),
                             ("http", f"localhost:{v4.port}")])
    for index in range(3):
        for _ in range(20):
            visitor = t.connect(server.port(index=index))
            visitor.sendall(b"name")
            t.eq(t.expect_eof(visitor), b"name", f"the echo of {index}")
    t.eq(len(client.log("target-denied")), 0, "targets denied")


@scenario(25, "a name that has no address: reset, and 502 over http")
def no_such_name(t):
    # The C library takes this name for one with a label that is too long,
    # which it refuses by itself: no query leaves the machine.
    aliases = t.dir / "aliases"
    aliases.write_text(f"no-such-name {'x' * 64}.invalid\n")
    os.environ["HOSTALIASES"] = str(aliases)
    server, client = t.pair([("tcp", "no-such-name:80"),
                             ("http", "no-such-name:80")])
    for _ in range(3):
        t.visit_refused(server.port(index=0))
        t.eq(http_status(t, server.port(index=1)), 502, "the status")
    t.eq(len(client.log("session-ended")), 0, "sessions that ended")


@scenario(26, "IPv6 from end to end, and one listener for both families")
def ipv6(t):
    seen = []

    def http(connection):
        seen.append(connection.recv(65536).decode())
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    app, web = t.app(echo_once, "::1"), t.app(http)
    server = t.server(t.server_yaml(
        {"remote_client1": [("tcp", f"[::1]:{app.port}", "[::1]:0"),
                            ("tcp", f"[::1]:{app.port}", ":0"),
                            ("http", web.port, ":0")]}, bind="[::1]:0"))
    t.client(t.client_yaml(f'"[::1]:{server.port("tunnel")}"'),
             registered=True)
    for index, host in ((0, "::1"), (1, "::1"), (1, "127.0.0.1")):
        visitor = t.connect(server.port(index=index), host)
        visitor.sendall(b"six")
        t.eq(t.expect_eof(visitor), b"six", f"the echo over {host}")
    for host in ("127.0.0.1", "::1"):
        t.eq(http_status(t, server.port(index=2), host=host), 200,
             "the status")
        t.ok(re.search(rf"^x-forwarded-for: {re.escape(host)}\r$",
                       seen[-1], re.M | re.I),
             f"the visitor {host} in {seen[-1]}")
    try:
        t.connect(server.port(index=0), "127.0.0.1")
        t.fail("[::1] was reached over IPv4")
    except ConnectionRefusedError:
        pass


@scenario(27, "a listener without a host is on every address of both families")
def tunnel_dual_stack(t):
    app = t.app(echo_once)
    server = t.server(t.server_yaml(
        {"remote_client1": [("tcp", app.port)], "other": [("tcp", app.port)]},
        bind=":0"))
    port = server.port("tunnel")
    t.client(t.client_yaml(port), registered=True)
    t.client(t.client_yaml(f'"[::1]:{port}"', remote="other"), name="other",
             registered=True)
    for index in (0, 1):
        visitor = t.connect(server.port(index=index))
        visitor.sendall(b"both")
        t.eq(t.expect_eof(visitor), b"both", "the echo")


@scenario(28, "streams of refused and of working targets side by side")
def mixed(t):
    port = t.port()
    app = t.app(echo_once)
    server, client = t.pair([("tcp", port), ("tcp", app.port)])

    def visit(index):
        for turn in range(max(20, int(200 * t.scale))):
            if index == 0:
                t.visit_refused(server.port(index=index))
                continue
            visitor = t.connect(server.port(index=index))
            visitor.sendall(b"%06d" % turn)
            t.eq(read_exactly(visitor, 6), b"%06d" % turn, "the echo")
            visitor.close()
    threads = [t.thread(visit, index) for index in (0, 1, 0, 1)]
    for thread in threads:
        thread.join()
    t.eq(len(client.log("session-ended")), 0, "sessions that ended")
