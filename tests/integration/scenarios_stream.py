"""One stream and many: bytes, ends, stalls.  No daemon is restarted here."""

import queue
import socket
import subprocess

from harness import (FACTOR, read_exactly, read_to_end, reset, scenario)

MIB = 1 << 20
# What a daemon may grow by while visitors and applications stall, in KiB.
# Sanitizers keep freed memory back and shadow the rest.
SLACK = 12 * 1024 * (8 if FACTOR > 1 else 1)
# What SLACK is held against: windows that do not grow.
SMALL = {"server": "stream_window_max: 256KiB",
         "client": "stream_window_max: 256KiB"}


def request(mode, up=0, down=0, seed=7):
    """The first 64 bytes of a connection to `traffic serve`."""
    return f"{mode} {up} {down} {seed}".ljust(63).encode() + b"\n"


def traffic_pair(t, *options, **more):
    """`traffic serve` behind a tcp listener: server, client, visitors' port."""
    tool = t.tool("traffic", "serve", *options, "0")
    server, client = t.pair([("tcp", tool.port())], **more)
    return server, client, server.port()


def scaled(t, count, least=1):
    return max(least, int(count * t.scale))


def settle(t, daemons, port):
    """Open files of each daemon once everything lazy has been made."""
    t.traffic(port, "--streams", 8, "--count", 200, "--bytes", 64)
    return {daemon: wait_quiet(t, daemon) for daemon in daemons}


def wait_quiet(t, daemon):
    """The number of open files when it has stopped changing."""
    seen = []

    def same():
        seen.append(daemon.fds())
        return len(seen) > 10 and len(set(seen[-10:])) == 1
    t.until(same, what=f"{daemon.name}: open files settle")
    return seen[-1]


def wait_back(t, files, what):
    for daemon, count in files.items():
        t.until(lambda d=daemon, n=count: d.fds() <= n, 20,
                f"{what}: {daemon.name} has {daemon.fds()} files open, "
                f"{count} before")


@scenario(1, "HelloWorld comes back")
def hello_world(t):
    echo = t.tool("echo", "-v", "0")
    server, client = t.pair([("tcp", echo.port())])
    visitor = t.connect(server.port())
    visitor.sendall(b"HelloWorld\n")
    t.eq(read_exactly(visitor, 11), b"HelloWorld\n", "the echo")
    visitor.shutdown(socket.SHUT_WR)
    t.expect_eof(visitor, b"")
    for daemon in (server, client):
        entry = daemon.wait_log("stream")
        t.eq((entry["to_application"], entry["to_visitor"]), ("11", "11"),
             f"bytes in the log of {daemon.name}")
    entry = server.log("stream")[0]
    t.eq(entry["remote"], "remote_client1", "remote in the log")
    t.eq(entry["visitor"], "%s:%d" % visitor.getsockname(),
         "visitor in the log")
    t.ok('"HelloWorld\\n"' in echo.output(), "echo -v shows the message")


@scenario(2, "an application that talks first")
def talks_first(t):
    _, _, port = traffic_pair(t, "--greet")
    t.traffic(port, "--greet", "--streams", 8, "--count", 100)
    visitor = t.connect(port)
    t.eq(read_exactly(visitor, 32), b"welcome".ljust(32), "the greeting")


@scenario(3, "1 GiB each way at once, one stream")
def volume_one(t):
    server, client, port = traffic_pair(t)
    size = scaled(t, 1 << 30)
    t.traffic(port, "--mode", "both", "--bytes", size)
    for daemon in (server, client):
        entry = daemon.wait_log("stream")
        # The request of `traffic` goes up, its answer comes down.
        t.eq((int(entry["to_application"]), int(entry["to_visitor"])),
             (size + 64, size + 32), f"bytes in the log of {daemon.name}")


@scenario(4, "1 GiB each way at once, 16 streams")
def volume_many(t):
    _, _, port = traffic_pair(t)
    t.traffic(port, "--mode", "both", "--streams", 16,
              "--bytes", scaled(t, (1 << 30) // 16 + 12345))


@scenario(5, "half-close of the visitor: the answer comes after it")
def half_close_visitor(t):
    def count_then_answer(connection):
        data, end = read_to_end(connection)
        connection.sendall(f"{end} after {len(data)}".encode())

    app = t.app(count_then_answer)
    server, _ = t.pair([("tcp", app.port)])
    netcat = t.program("nc")
    done = t.run([netcat, "-N", "127.0.0.1", server.port()], input="x")
    t.eq(done.stdout, "eof after 1", "printf x | nc -N")
    for size in (0, 1, 16384, 16385, 300000, 3 * MIB):
        visitor = t.connect(server.port())
        sender = t.thread(visitor.sendall, b"h" * size)
        sender.join()
        visitor.shutdown(socket.SHUT_WR)
        t.expect_eof(visitor, f"eof after {size}".encode())


@scenario(6, "half-close of the application: the visitor goes on sending")
def half_close_application(t):
    results = queue.Queue()

    def end_then_read(connection):
        connection.sendall(b"all that I say")
        connection.shutdown(socket.SHUT_WR)
        results.put(read_to_end(connection))

    app = t.app(end_then_read)
    server, _ = t.pair([("tcp", app.port)])
    for size in (0, 1, 300000, 3 * MIB):
        visitor = t.connect(server.port())
        # The end of file has to come while our direction is still open.
        t.expect_eof(visitor, b"all that I say")
        visitor.sendall(b"v" * size)
        visitor.shutdown(socket.SHUT_WR)
        data, end = results.get(timeout=20 * FACTOR)
        t.eq((len(data), end), (size, "eof"), "what the application got")
        visitor.close()


@scenario(7, "a visitor's reset reaches the application as a reset")
def visitor_resets(t):
    results = queue.Queue()

    def idle(connection):
        connection.sendall(b"ready")
        results.put(read_to_end(connection))

    def busy(connection):
        try:
            while True:
                connection.sendall(b"z" * 65536)
        except ConnectionError as error:
            results.put((b"", type(error).__name__))

    apps = [t.app(idle), t.app(busy)]
    server, _ = t.pair([("tcp", app.port) for app in apps])
    for _ in range(5):
        visitor = t.connect(server.port(index=0))
        t.eq(read_exactly(visitor, 5), b"ready", "the application's word")
        reset(visitor)
        t.eq(results.get(timeout=20 * FACTOR), (b"", "reset"),
             "an idle application")
        visitor = t.connect(server.port(index=1))
        read_exactly(visitor, 100000)
        reset(visitor)
        _, end = results.get(timeout=20 * FACTOR)
        # A send that waits gets the reset; the next one a broken pipe.
        t.ok(end in ("ConnectionResetError", "BrokenPipeError"),
             f"a sending application: {end}")


@scenario(8, "an application's reset reaches the visitor as a reset")
def application_resets(t):
    def reset_at_once(connection):
        reset(connection)

    def reset_after_word(connection):
        read_exactly(connection, 4)
        reset(connection)

    apps = [t.app(reset_at_once), t.app(reset_after_word)]
    server, client = t.pair([("tcp", app.port) for app in apps])
    for _ in range(5):
        t.visit_refused(server.port(index=0), "reset at once")
        visitor = t.connect(server.port(index=1))
        visitor.sendall(b"word")
        t.expect_reset(visitor, "reset after a word")
        # In the middle of an upload.
        visitor = t.connect(server.port(index=1))
        try:
            visitor.sendall(b"w" * (16 * MIB))
            t.fail("16 MiB went to an application that is gone")
        except ConnectionError:
            pass
    t.eq(len(client.log("session-ended")), 0, "sessions that ended")


@scenario(9, "a close stays a close, and ends the stream both ways")
def closes(t):
    results = queue.Queue()

    def close_after_word(connection):
        read_exactly(connection, 4)
        connection.sendall(b"bye")

    def read_all(connection):
        results.put(read_to_end(connection))

    apps = [t.app(close_after_word), t.app(read_all)]
    server, client = t.pair([("tcp", app.port) for app in apps])
    visitor = t.connect(server.port(index=0))
    visitor.sendall(b"word")
    t.expect_eof(visitor, b"bye")
    # The application is gone, and going on sending is told so: by a reset.
    def send_until_reset():
        try:
            visitor.sendall(b"more")
        except ConnectionError:
            return True
        return False
    t.until(send_until_reset, what="the visitor learns that nobody listens")

    for size in (0, 5, MIB):
        visitor = t.connect(server.port(index=1))
        visitor.sendall(b"q" * size)
        visitor.close()
        data, end = results.get(timeout=20 * FACTOR)
        t.eq((len(data), end), (size, "eof"), "what the application got")
    server.wait_log("stream", count=4)
    client.wait_log("stream", count=4)


@scenario(10, "a visitor is gone before the application answers")
def visitor_gone(t):
    results = queue.Queue()

    def slow(connection):
        read_exactly(connection, 3)
        results.put("asked")
        # Only the reset of the visitor ends this.
        results.put(read_to_end(connection))

    app = t.app(slow)
    backlog = full_backlog(t)
    server, client = t.pair([("tcp", app.port), ("tcp", backlog)],
                            client="connect_timeout: 10m")
    files = {server: wait_quiet(t, server), client: wait_quiet(t, client)}
    visitor = t.connect(server.port(index=0))
    visitor.sendall(b"ask")
    t.eq(results.get(timeout=20 * FACTOR), "asked", "the application")
    reset(visitor)
    t.eq(results.get(timeout=20 * FACTOR), (b"", "reset"), "the application")
    # And while the remote-client is still connecting.
    gone = [t.connect(server.port(index=1)) for _ in range(20)]
    for visitor in gone:
        visitor.sendall(b"is anybody there?")
    t.until(lambda: client.fds() >= files[client] + 20,
            what="the remote-client is connecting 20 times")
    for visitor in gone:
        reset(visitor)
    wait_back(t, files, "20 visitors gone")


def full_backlog(t, address="127.0.0.1"):
    """A port that neither accepts nor refuses."""
    listener = socket.socket()
    t._sockets.append(listener)
    listener.bind((address, 0))
    listener.listen(0)
    port = listener.getsockname()[1]
    for _ in range(10):
        probe = socket.socket()
        t._sockets.append(probe)
        probe.settimeout(0.5)
        try:
            probe.connect((address, port))
        except TimeoutError:
            return port
    t.fail("a listener with no backlog accepts for ever")


def send_until_stalled(t, visitor, most):
    """How much goes out until nothing does for a second."""
    visitor.settimeout(1 * FACTOR)
    sent, piece = 0, b"s" * 65536
    try:
        while sent < most:
            sent += visitor.send(piece)
    except TimeoutError:
        return sent
    t.fail(f"{sent} bytes went to an application that does not read")


@scenario(11, "an application that never reads: bounded, and others go on")
def never_reads(t):
    server, client, port = traffic_pair(t, **SMALL)
    files = settle(t, (server, client), port)
    memory = {daemon: daemon.rss_kib() for daemon in files}
    stalled = []
    for _ in range(8):
        visitor = t.connect(port)
        visitor.sendall(request("stall"))
        stalled.append(visitor)
    senders = [t.thread(send_until_stalled, t, visitor, 64 * MIB)
               for visitor in stalled]
    t.traffic(port, "--mode", "both", "--streams", 4,
              "--bytes", scaled(t, 32 * MIB))
    for sender in senders:
        sender.join()
    t.traffic(port, "--streams", 8, "--count", 200)
    for daemon, before in memory.items():
        grown = daemon.rss_kib() - before
        t.ok(grown < SLACK, f"{daemon.name} grew by {grown} KiB")
    for visitor in stalled:
        reset(visitor)
    wait_back(t, files, "stalled visitors gone")
    t.eq(len(client.log("session-ended")), 0, "sessions that ended")


@scenario(12, "a visitor that never reads: bounded, and others go on")
def visitor_never_reads(t):
    server, client, port = traffic_pair(t, **SMALL)
    files = settle(t, (server, client), port)
    memory = {daemon: daemon.rss_kib() for daemon in files}
    size = 64 * MIB
    stalled = []
    for _ in range(8):
        visitor = t.connect(port)
        visitor.sendall(request("transfer-count", down=size))
        stalled.append(visitor)
    t.traffic(port, "--mode", "both", "--streams", 4,
              "--bytes", scaled(t, 32 * MIB))
    t.traffic(port, "--streams", 8, "--count", 200)
    for daemon, before in memory.items():
        grown = daemon.rss_kib() - before
        t.ok(grown < SLACK, f"{daemon.name} grew by {grown} KiB")
    # One takes all of it after all; the others go away.
    data = t.expect_eof(stalled[0])
    t.eq(len(data), size + 32, "bytes for the one who reads after all")
    t.ok(data.endswith(b"ok 0".ljust(4) + b"\0" + b" " * 27),
         "the answer behind the data")
    for visitor in stalled:
        reset(visitor)
    wait_back(t, files, "visitors that do not read gone")
    t.eq(len(client.log("session-ended")), 0, "sessions that ended")


def short_connections(t, at_once):
    server, client, port = traffic_pair(t)
    files = settle(t, (server, client), port)
    memory = {daemon: daemon.rss_kib() for daemon in files}
    count = scaled(t, 50000)
    t.traffic(port, "--bytes", 64, "--streams", at_once, "--count", count,
              "--finish", "count", timeout=115)
    wait_back(t, files, "short connections")
    for daemon, before in memory.items():
        grown = daemon.rss_kib() - before
        t.ok(grown < SLACK, f"{daemon.name} grew by {grown} KiB")
        t.until(lambda d=daemon: len(d.log("stream")) == count + 200, 20,
                f"a stream in the log of {daemon.name} for each connection")


@scenario(13, "50,000 short connections, 8 at a time")
def short_8(t):
    short_connections(t, 8)


@scenario(14, "50,000 short connections, 64 at a time")
def short_64(t):
    short_connections(t, 64)


@scenario(15, "2,000 streams at once: idle, then each echoes")
def many_streams(t):
    server, client, port = traffic_pair(t)
    files = settle(t, (server, client), port)
    t.traffic(port, "--streams", scaled(t, 2000, 20), "--bytes", 20000,
              "--hold", 1000)
    wait_back(t, files, "2,000 streams")


@scenario(16, "both daemons with the classic dialect: every byte, every end")
def classic_bytes(t):
    server, client, port = traffic_pair(t, dialect="classic")
    t.eq(server.wait_log("registered")["dialect"], "classic", "the dialect")
    files = settle_classic(t, (server, client), port)
    for mode in ("echo", "both"):
        t.traffic(port, "--mode", mode, "--finish", "count", "--streams", 8,
                  "--bytes", scaled(t, 32 * MIB))
    t.traffic(port, "--finish", "count", "--bytes", 64, "--streams", 16,
              "--count", scaled(t, 5000))
    wait_back(t, files, "classic connections")
    t.eq(len(client.log("session-ended")), 0, "sessions that ended")


def settle_classic(t, daemons, port):
    t.traffic(port, "--finish", "count", "--streams", 8, "--count", 200,
              "--bytes", 64)
    return {daemon: wait_quiet(t, daemon) for daemon in daemons}


@scenario(17, "SIGTERM under load: both end, and in order")
def stop_under_load(t):
    server, client, port = traffic_pair(t)
    argv = [t.tool_path("traffic"), "run", "--connect", f"127.0.0.1:{port}",
            "--mode", "both", "--bytes", 1 << 40]
    load = [t.start([*argv, "--streams", 8]) for _ in range(2)]
    t.until(lambda: busy_ticks(client) > 20, what="the load is running")
    t.eq(client.stop(), 0, "exit of the remote-client")
    for process in load:
        t.eq(process.finish(), 1, "exit of traffic: its streams broke off")
    t.eq(server.stop(), 0, "exit of the proxy-server")
    client.wait_log("stopping")
    server.wait_log("stopping")


def busy_ticks(daemon):
    """Ticks of processor time that it has taken."""
    with open(f"/proc/{daemon.pid}/stat", encoding="ascii") as file:
        fields = file.read().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


@scenario(18, "many visitors come and go by reset in the middle of data")
def churn(t):
    server, client, port = traffic_pair(t)
    files = settle(t, (server, client), port)
    data = bytes(n * n % 251 for n in range(200000))
    for turn in range(scaled(t, 600, 60)):
        visitor = t.connect(port)
        visitor.sendall(request("echo"))
        # Each turn breaks off elsewhere, with data on its way both ways.
        size = turn * 7919 % len(data)
        visitor.sendall(data[:size])
        taken = visitor.recv(1 + turn * 101 % 65536) if size > 0 else b""
        t.ok(data.startswith(taken), f"turn {turn}: other bytes")
        reset(visitor)
    wait_back(t, files, "visitors that broke off")
    t.traffic(port, "--mode", "both", "--streams", 4)
    t.eq(len(client.log("session-ended")), 0, "sessions that ended")


@scenario(19, "small messages wait for nobody while bulk runs")
def turns_beside_bulk(t):
    _, _, port = traffic_pair(t)
    bulk = t.start([t.tool_path("traffic"), "run", "--connect",
                    f"127.0.0.1:{port}", "--mode", "both", "--streams", 4,
                    "--bytes", scaled(t, 256 * MIB)], stdin=subprocess.DEVNULL)
    t.traffic(port, "--turns", "--chunk", 64, "--bytes",
              64 * scaled(t, 2000, 200))
    t.eq(bulk.finish(100), 0, "exit of the bulk load")


# Those from 92 on are streams again.

@scenario(92, "64 bulk streams in one tunnel: none is far behind another")
def bulk_is_fair(t):
    server, client, port = traffic_pair(t, client="tunnels: 1")
    load = t.start([t.tool_path("traffic"), "run", "--connect",
                    f"127.0.0.1:{port}", "--mode", "both", "--streams", 64,
                    "--bytes", 1 << 40])
    t.until(lambda: busy_ticks(client) > 200, 60, "the load has run")
    # Every stream is cut at one moment: how far had each come?
    t.eq(client.stop(), 0, "exit of the remote-client")
    t.eq(load.finish(), 1, "exit of traffic: its streams broke off")
    server.wait_log("stream", count=64)
    for key in ("to_application", "to_visitor"):
        sizes = sorted(int(e[key]) for e in server.log("stream"))
        t.eq(len(sizes), 64, "streams")
        t.ok(sizes[-1] >= MIB, f"{key}: too little to compare: {sizes}")
        t.ok(sizes[0] >= sizes[-1] // 3, f"{key}: {sizes}")


@scenario(93, "much waits for a visitor that does not read: its window is kept")
def much_for_a_stopped_reader(t):
    more = "stream_window_max: 4MiB"
    server, client, port = traffic_pair(t, server=more, client=more)
    files = settle(t, (server, client), port)
    memory = {daemon: daemon.rss_kib() for daemon in files}
    size = scaled(t, 1 << 30)
    visitor = t.connect(port)
    visitor.sendall(request("transfer-count", down=size))
    for _ in range(3):
        t.traffic(port, "--mode", "both", "--streams", 4,
                  "--bytes", scaled(t, 64 * MIB))
        for daemon, before in memory.items():
            grown = daemon.rss_kib() - before
            t.ok(grown < 4 * 1024 + SLACK,
                 f"{daemon.name} grew by {grown} KiB")
    # All of it comes after all.
    got, last, buffer = 0, b"", bytearray(MIB)
    while count := visitor.recv_into(buffer):
        got += count
        last = (last + buffer[:count])[-32:]
    t.eq((got, last[:4].rstrip()), (size + 32, b"ok 0"),
         "bytes, and the answer behind them")
    visitor.close()
    wait_back(t, files, "the visitor gone")


@scenario(94, "classic: the visitor is gone, the application sends on")
def sender_without_end(t):
    ends, sent, piece = queue.Queue(), [0], b"on" * 32768

    def send_on(connection):
        try:
            while True:
                sent[0] += connection.send(piece)
        except ConnectionError as error:
            ends.put(type(error).__name__)

    app, tool = t.app(send_on), t.tool("traffic", "serve", "0")
    server, client = t.pair([("tcp", app.port), ("tcp", tool.port())],
                            client="tunnels: 1", dialect="classic")
    port = server.port(index=1)
    t.traffic(port, "--finish", "count")
    files = {daemon: wait_quiet(t, daemon) for daemon in (server, client)}
    visitor = t.connect(server.port(index=0))
    read_exactly(visitor, MIB)
    reset(visitor)
    client.wait_log("stream", count=2)
    # What is sent on is not taken without end.
    before, sent_before = busy_ticks(client), sent[0]
    t.stays(client.alive, 2, "the remote-client lives")
    ticks = busy_ticks(client) - before
    t.ok(ticks < 100, f"the remote-client took {ticks} ticks in 2 s")
    t.traffic(port, "--mode", "both", "--finish", "count", "--bytes",
              scaled(t, 16 * MIB))
    t.ok(ends.get(timeout=20 * FACTOR) in
         ("ConnectionResetError", "BrokenPipeError"), "the application's end")
    taken = sent[0] - sent_before
    t.ok(taken < 32 * MIB, f"{taken} bytes were taken for nobody")
    wait_back(t, files, "the visitor gone")
    t.eq(len(client.log("session-ended")), 0, "sessions that ended")
