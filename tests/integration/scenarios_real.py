"""Real applications through the tunnel: nginx, OpenSSH, redis, iperf3."""

import hashlib
import json
import os
import pathlib
import pty
import re
import select
import signal
import time

from harness import FACTOR, Failed, scenario

MIB = 1 << 20


def random_file(path, size):
    """A file that does not compress, and its checksum."""
    digest = hashlib.sha256()
    with open(path, "wb") as file:
        while size > 0:
            piece = os.urandom(min(size, MIB))
            file.write(piece)
            digest.update(piece)
            size -= len(piece)
    return digest.hexdigest()


def checksum(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def listens(t, port, what):
    def look():
        try:
            t.connect(port).close()
            return True
        except ConnectionRefusedError:
            return False
    t.until(look, 20, f"{what} listens")


# --- nginx --------------------------------------------------------------------

NGINX = """\
daemon off;
worker_processes 1;
pid {dir}/nginx.pid;
error_log {dir}/nginx-error.log;
{user}
events {{ worker_connections 1024; }}
http {{
    access_log off;
    client_body_temp_path {dir}/body;
    proxy_temp_path {dir}/proxy;
    fastcgi_temp_path {dir}/fastcgi;
    uwsgi_temp_path {dir}/uwsgi;
    scgi_temp_path {dir}/scgi;
    client_max_body_size 0;
    keepalive_requests 1000000;
    server {{
        listen 127.0.0.1:{port};
        root {dir}/www;
        location /up/ {{ dav_methods PUT; create_full_put_path on; }}
        location /host {{ return 200 "$http_host $http_x_forwarded_for\\n"; }}
    }}
}}
"""


def nginx(t, kind):
    """nginx behind a listener; the listener's port."""
    port = t.port()
    (t.dir / "www").mkdir()
    (t.dir / "www/hello").write_text("hello\n")
    path = t.dir / "nginx.conf"
    path.write_text(NGINX.format(
        dir=t.dir, port=port, user="user root;" if os.getuid() == 0 else ""))
    t.start([t.program("nginx"), "-c", path, "-p", t.dir, "-e",
             t.dir / "nginx-error.log"])
    listens(t, port, "nginx")
    server, _ = t.pair([(kind, port)])
    return server.port(), port


def curl(t, *args):
    done = t.run([t.program("curl"), "-sS", "--fail", "--max-time",
                  90 * FACTOR, *args], 100)
    t.eq(done.returncode, 0, f"exit of curl {args}: {done.stderr}")
    return done.stdout


def nginx_files(t, kind):
    port, inner = nginx(t, kind)
    url = f"http://127.0.0.1:{port}"
    host = f"127.0.0.1:{inner} 127.0.0.1" if kind == "http" else \
        f"127.0.0.1:{port}"
    t.eq(curl(t, f"{url}/host").strip(), host, "what nginx sees")
    # Two on one connection.
    t.eq(curl(t, f"{url}/hello", f"{url}/hello"), "hello\n" * 2, "a page")
    size = max(MIB, int(100 * MIB * t.scale))
    right = random_file(t.dir / "www/large", size)
    curl(t, "-o", t.dir / "down", f"{url}/large")
    t.eq(checksum(t.dir / "down"), right, "the file that came down")
    curl(t, "-T", t.dir / "www/large", f"{url}/up/length")
    t.eq(checksum(t.dir / "www/up/length"), right, "the file that went up")
    # From a pipe its length is not known: a chunked body.
    with open(t.dir / "www/large", "rb") as file:
        done = t.run([t.program("curl"), "-sS", "--fail", "-T", "-",
                      f"{url}/up/chunked"], 100, input=file.read(),
                     text=False)
    t.eq(done.returncode, 0, f"exit of curl -T -: {done.stderr}")
    t.eq(checksum(t.dir / "www/up/chunked"), right, "the chunked upload")


def wrk(t, kind):
    port, _ = nginx(t, kind)
    seconds = max(1, round(3 * t.scale))
    for more in ([], ["-H", "Connection: close"]):
        done = t.run([t.program("wrk"), "-t", 1, "-c", 32, "-d",
                      f"{seconds}s", "--timeout", f"{20 * FACTOR}s", *more,
                      f"http://127.0.0.1:{port}/hello"])
        t.eq(done.returncode, 0, f"exit of wrk: {done.stderr}")
        t.ok("Socket errors" not in done.stdout and
             "Non-2xx" not in done.stdout, f"wrk: {done.stdout}")
        found = re.search(r"(\d+) requests in", done.stdout)
        t.ok(found and int(found.group(1)) >= 32, f"wrk: {done.stdout}")


@scenario(80, "nginx and curl through a tcp listener")
def nginx_tcp(t):
    nginx_files(t, "tcp")


@scenario(81, "nginx and curl through an http listener")
def nginx_http(t):
    nginx_files(t, "http")


@scenario(82, "nginx and wrk through a tcp listener")
def wrk_tcp(t):
    wrk(t, "tcp")


@scenario(83, "nginx and wrk through an http listener")
def wrk_http(t):
    wrk(t, "http")


# --- OpenSSH ------------------------------------------------------------------

SSHD = """\
ListenAddress 127.0.0.1
Port {port}
HostKey {dir}/host_key
AuthorizedKeysFile {dir}/user_key.pub
PidFile none
StrictModes no
UsePAM no
PermitRootLogin yes
PasswordAuthentication no
KbdInteractiveAuthentication no
Subsystem sftp internal-sftp
"""


def sshd(t):
    """sshd behind a tcp listener; the options for ssh and scp."""
    program, keygen = t.program("sshd"), t.program("ssh-keygen")
    # Its privilege separation wants this directory, whatever the
    # configuration says.
    if os.getuid() == 0:
        pathlib.Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    for key in ("host_key", "user_key"):
        done = t.run([keygen, "-q", "-t", "ed25519", "-N", "", "-f",
                      t.dir / key])
        t.eq(done.returncode, 0, f"ssh-keygen: {done.stderr}")
    port = t.port()
    path = t.dir / "sshd_config"
    path.write_text(SSHD.format(dir=t.dir, port=port))
    t.start([program, "-D", "-e", "-f", path])
    listens(t, port, "sshd")
    server, _ = t.pair([("tcp", port)])
    return ["-F", "none", "-i", t.dir / "user_key", "-o",
            "StrictHostKeyChecking=no", "-o",
            f"UserKnownHostsFile={t.dir}/known_hosts", "-o", "BatchMode=yes",
            "-o", "LogLevel=ERROR", "-o", f"Port={server.port()}"]


@scenario(84, "scp of a large file, both ways")
def scp(t):
    options = sshd(t)
    program = t.program("scp")
    size = max(MIB, int(200 * MIB * t.scale))
    right = random_file(t.dir / "large", size)
    for source, target in (("large", "127.0.0.1:{}/up"),
                           ("127.0.0.1:{}/large", "down")):
        done = t.run([program, "-q", *options, source.format(t.dir),
                      target.format(t.dir)], 100)
        t.eq(done.returncode, 0, f"exit of scp: {done.stderr}")
    t.eq(checksum(t.dir / "up"), right, "the file that went up")
    t.eq(checksum(t.dir / "down"), right, "the file that came down")


class Terminal:
    """A program on a terminal of its own."""

    def __init__(self, t, argv):
        self.t = t
        self.seen = b""
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            try:
                os.execv(argv[0], [str(a) for a in argv])
            finally:
                os._exit(127)
        t._note_pid(self.pid)
        t._tidy.append(self.close)
        self.status = None

    def expect(self, text, timeout=20):
        """Read until text; what came before it."""
        deadline = time.monotonic() + timeout * FACTOR
        while text not in self.seen:
            left = deadline - time.monotonic()
            ready, _, _ = select.select([self.fd], [], [], max(0, left))
            if not ready:
                self.t.fail(f"{text} did not come, but {self.seen!r}")
            try:
                piece = os.read(self.fd, 65536)
            except OSError:
                piece = b""
            if not piece:
                self.t.fail(f"the end came, not {text}: {self.seen!r}")
            self.seen += piece
        before, _, self.seen = self.seen.partition(text)
        return before

    def write(self, data):
        os.write(self.fd, data)

    def wait(self):
        """The exit code of the program."""
        def ended():
            while select.select([self.fd], [], [], 0)[0]:
                try:
                    if not os.read(self.fd, 65536):
                        break
                except OSError:
                    break
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.status = status
            return pid
        self.t.until(ended, 20, "the program on the terminal ends")
        return os.waitstatus_to_exitcode(self.status)

    def close(self):
        os.close(self.fd)
        if self.status is None:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)


@scenario(85, "an interactive ssh session, answered line by line")
def ssh_session(t):
    options = sshd(t)
    terminal = Terminal(t, [
        t.program("ssh"), "-tt", *options, "127.0.0.1",
        "stty -echo; echo ready; while read line; do "
        "[ \"$line\" = end ] && exit 7; echo \"<$line>\"; done"])
    terminal.expect(b"ready")
    for number in range(max(20, int(200 * t.scale))):
        terminal.write(b"line %d\n" % number)
        terminal.expect(b"<line %d>" % number)
    terminal.write(b"end\n")
    t.eq(terminal.wait(), 7, "exit of the remote command")


@scenario(86, "ssh: the ends of a command's input and output")
def ssh_pipes(t):
    options = sshd(t)
    program = t.program("ssh")
    size = max(MIB, int(20 * MIB * t.scale))
    data = os.urandom(size)
    done = t.run([program, *options, "127.0.0.1", "sha256sum"], 100,
                 input=data, text=False)
    t.eq(done.returncode, 0, f"exit of ssh: {done.stderr}")
    t.eq(done.stdout.split()[0].decode(), hashlib.sha256(data).hexdigest(),
         "the checksum of the input")
    done = t.run([program, *options, "127.0.0.1",
                  f"head -c {size} /dev/zero; exit 3"], 100, text=False)
    t.eq((done.returncode, len(done.stdout)), (3, size), "the output")


# --- redis --------------------------------------------------------------------

@scenario(87, "redis: redis-cli and redis-benchmark -P 16")
def redis(t):
    program, cli = t.program("redis-server"), t.program("redis-cli")
    benchmark = t.program("redis-benchmark")
    inner = t.port()
    t.start([program, "--port", inner, "--bind", "127.0.0.1", "--save", "",
             "--dir", t.dir, "--appendonly", "no"])
    listens(t, inner, "redis")
    server, _ = t.pair([("tcp", inner)])
    base = [cli, "-p", server.port()]
    value = os.urandom(4 * MIB).hex()
    done = t.run([*base, "-x", "set", "large"], input=value)
    t.eq(done.stdout.strip(), "OK", f"redis-cli set: {done.stderr}")
    done = t.run([*base, "get", "large"])
    t.ok(done.stdout.strip() == value, "redis-cli get: another value")
    # A multiple of what the 50 clients send at a time: no more is counted.
    requests = 800 * max(12, int(400 * t.scale))
    done = t.run([benchmark, "-p", server.port(), "-P", 16, "-c", 50, "-q",
                  "-n", requests, "-t", "set,get,incr,lpush,lrange_100"
                  if t.scale >= 1 else "set,get,incr"], 100)
    t.eq(done.returncode, 0, f"exit of redis-benchmark: {done.stderr}")
    t.ok("rror" not in done.stdout + done.stderr,
         f"redis-benchmark: {done.stdout}{done.stderr}")
    done = t.run([*base, "get", "counter:__rand_int__"])
    t.eq(done.stdout.strip(), str(requests), "INCRs that were counted")


# --- iperf3 -------------------------------------------------------------------

def iperf(t, *args):
    program = t.program("iperf3")
    inner = t.port()
    t.start([program, "-s", "-B", "127.0.0.1", "-p", inner])
    # iperf3 serves one at a time: a connection to look would be one.
    server, _ = t.pair([("tcp", inner)])

    def look():
        with open("/proc/net/tcp", encoding="ascii") as file:
            return f":{inner:04X} 00000000:0000 0A" in file.read()
    t.until(look, 20, "iperf3 listens")
    amount = max(8, int(500 * t.scale))
    done = t.run([program, "-c", "127.0.0.1", "-p", server.port(), "-J", "-n",
                  f"{amount}M", *args], 100)
    try:
        result = json.loads(done.stdout)
    except ValueError:
        raise Failed(f"iperf3: {done.stdout} {done.stderr}") from None
    t.ok("error" not in result, f"iperf3: {result.get('error')}")
    t.eq(done.returncode, 0, "exit of iperf3")
    ends = result["end"]
    t.ok(ends["sum_sent"]["bytes"] >= amount * MIB, f"iperf3 sent: {ends}")
    t.ok(ends["sum_received"]["bytes"] > 0, f"iperf3 received: {ends}")


@scenario(88, "iperf3, towards the application")
def iperf_up(t):
    iperf(t)


@scenario(89, "iperf3 -R, towards the visitor")
def iperf_down(t):
    iperf(t, "-R")


@scenario(90, "iperf3 -P 4")
def iperf_four(t):
    iperf(t, "-P", 4)


@scenario(91, "iperf3 -P 4 -R")
def iperf_four_down(t):
    iperf(t, "-P", 4, "-R")
