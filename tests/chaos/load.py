"""What goes through the tunnel while faults happen: the load program, an ssh
session, a download."""
import hashlib
import json
import pathlib
import queue
import random
import re
import shutil
import socket
import struct
import subprocess
import threading
import time

from network import Failed, Network, VISITED

# Beside the remote-client, on its loopback; and where visitors arrive.
ECHO, SSHD, NGINX = 7000, 7022, 7080
ECHO_AT, SSH_AT, HTTP_AT, EXTRA_AT = 8000, 8022, 8080, 8100

STEP, WORD = 0x9E3779B97F4A7C15, 2**64

SSHD_CONFIG = """\
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
ClientAliveInterval 0
"""

NGINX_CONFIG = """\
daemon off;
user root;
worker_processes 1;
pid {dir}/nginx.pid;
error_log {dir}/nginx-error.log;
events {{ worker_connections 64; }}
http {{
  access_log off;
  sendfile on;
  send_timeout 600s;
  client_body_temp_path {dir}/nginx-body;
  proxy_temp_path {dir}/nginx-proxy;
  fastcgi_temp_path {dir}/nginx-fastcgi;
  uwsgi_temp_path {dir}/nginx-uwsgi;
  scgi_temp_path {dir}/nginx-scgi;
  # curl's own limit takes megabytes at once and then waits for seconds.
  limit_rate {rate};
  server {{ listen 127.0.0.1:{port}; root {dir}/www; }}
}}
"""


def program(name):
    path = shutil.which(name) or shutil.which(
        name, path="/usr/sbin:/sbin:/usr/local/sbin")
    if path is None:
        raise Failed(f"{name} is not installed: ./bootstrap.sh chaos")
    return path


def start(directory, host, name, argv, **options):
    """In the background, with standard error in NAME.err."""
    with open(directory / f"{name}.err", "ab") as err:
        return subprocess.Popen(
            Network.inside(host, *argv), stderr=err, cwd=directory,
            start_new_session=True,
            stdin=options.pop("stdin", subprocess.DEVNULL),
            stdout=options.pop("stdout", subprocess.DEVNULL))


class Load:
    """The load program at one end."""

    def __init__(self, directory, host, name, argv):
        self.name = name
        self.events = []            # (time, what the program told by itself)
        self._answers = queue.Queue()
        self.process = start(directory, host, name, argv,
                             stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        threading.Thread(target=self._read, daemon=True).start()
        self.ready = self._answer("ready", 10)

    def _read(self):
        for line in self.process.stdout:
            told = json.loads(line)
            if "answer" in told:
                self._answers.put(told)
            else:
                self.events.append((time.monotonic(), told))
        self._answers.put({"answer": None})

    def _answer(self, name, timeout):
        try:
            told = self._answers.get(timeout=timeout)
        except queue.Empty:
            raise Failed(f"{self.name}: no answer to `{name}`") from None
        if told["answer"] != name:
            raise Failed(f"{self.name}: {told} is no answer to `{name}`")
        return told

    def ask(self, command, timeout=20):
        self.tell(command)
        return self._answer(command.split()[0], timeout)

    def tell(self, command):
        try:
            self.process.stdin.write(command.encode() + b"\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            raise Failed(f"{self.name}: the load program ended with "
                         f"{self.process.wait()}") from None

    def answer(self, name, timeout):
        return self._answer(name, timeout)

    def end(self):
        self.process.stdin.close()
        self.process.wait(10)


def application(directory, binary):
    return Load(directory, "client", "application",
                [binary, "serve", f"127.0.0.1:{ECHO}"])


def visitors(directory, binary, name="visitors", **options):
    argv = [binary, "run", "--connect", f"{VISITED}:{ECHO_AT}"]
    for key, value in options.items():
        argv += [f"--{key}", str(value)]
    return Load(directory, "visitors", name, argv)


# --- a single visit -----------------------------------------------------------

def visit(network, port, timeout=5):
    """One message and its echo, at a listener that leads to the application;
    None, or why it did not work."""
    seed = random.getrandbits(63)
    words = [(seed + i) * STEP % WORD for i in range(8)]
    message = struct.pack("=8Q", *words)
    with network.visiting("visitors"):
        visitor = socket.socket()
    with visitor:
        visitor.settimeout(timeout)
        try:
            visitor.connect((VISITED, port))
            visitor.sendall(f"echo {seed} ".encode().ljust(64) + message)
            visitor.shutdown(socket.SHUT_WR)
            got = b""
            while piece := visitor.recv(256):
                got += piece
        except OSError as error:
            return error.strerror or str(error)
    return None if got == message else f"{len(got)} bytes, not the echo"


# --- ssh ----------------------------------------------------------------------

class Ssh:
    """A shell loop at the other end that numbers the lines that it reads, and
    a hand that types one each 0.2 s."""

    LOOP = 'i=0; while read n; do i=$((i+1)); echo "$i $n"; done; echo end $i'
    INTERVAL = 0.2

    def __init__(self, directory):
        self.dir = directory / "ssh"
        self.dir.mkdir()
        keygen = program("ssh-keygen")
        for key in ("host_key", "user_key"):
            subprocess.run([keygen, "-q", "-t", "ed25519", "-N", "", "-f",
                            self.dir / key], check=True)
        (self.dir / "sshd_config").write_text(
            SSHD_CONFIG.format(dir=self.dir, port=SSHD))
        self.server = start(directory, "client", "sshd",
                            [program("sshd"), "-D", "-e", "-f",
                             self.dir / "sshd_config"])
        self.session = None
        self.wanted = False         # it is there, or is to come
        self.lost = self.wrong = self.bytes = 0
        self.error = ""
        self.last = self.longest = 0.0
        self.ending = False

    def revive(self):
        if self.wanted:
            return
        self.wanted, self.last = True, time.monotonic()
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self):
        """Until the first line it is a new visitor that comes again."""
        while self.wanted and not self._one():
            time.sleep(0.3)

    def _one(self):
        self.session = start(
            self.dir, "visitors", "ssh",
            [program("ssh"), "-F", "none", "-T", "-i", self.dir / "user_key",
             "-o", "StrictHostKeyChecking=no", "-o", "LogLevel=ERROR",
             "-o", f"UserKnownHostsFile={self.dir}/known_hosts",
             "-o", "BatchMode=yes", "-o", "ServerAliveInterval=0",
             "-p", SSH_AT, f"root@{VISITED}", self.LOOP],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        typing = threading.Thread(target=self._type, args=(self.session,),
                                  daemon=True)
        typing.start()
        lines = self._read(self.session)
        typing.join()
        return lines > 0

    def _type(self, session):
        number = 0
        try:
            while session.poll() is None and not self.ending:
                number += 1
                session.stdin.write(f"{number}\n".encode())
                session.stdin.flush()
                time.sleep(self.INTERVAL)
            session.stdin.close()
        except OSError:
            pass                    # _read() tells it

    def _read(self, session):
        number, ended = 0, False
        for line in session.stdout:
            now = time.monotonic()
            self.longest = max(self.longest, now - self.last)
            self.last = now
            self.bytes += len(line)
            if line == f"end {number}\n".encode():
                ended = True
                continue
            number += 1
            if ended or line != f"{number} {number}\n".encode():
                self.wrong += 1
                self.error = f"ssh: {line!r} instead of {number}"
        session.wait()
        if number and (session.returncode or not ended or not self.ending):
            self.wanted = False
            self.lost += 1
            self.error = f"ssh ended with {session.returncode}"
        return number

    def end(self):
        """Whether the session ends by itself, with everything said."""
        self.ending = True
        try:
            return self.session.wait(15) == 0
        except subprocess.TimeoutExpired:
            return False
        finally:
            self.wanted = False

    def again(self):
        self.ending = False
        self.revive()


# --- a download ---------------------------------------------------------------

class Download:
    """curl, again and again, from nginx; each byte compared with the file, and
    the sum of the whole at the end."""

    BLOCK = 1 << 20

    def __init__(self, directory, mib, rate):
        self.dir = directory / "http"
        (self.dir / "www").mkdir(parents=True)
        self.file = self.dir / "www" / "file"
        self.size = mib * self.BLOCK
        self.sum = self._make(mib)
        (self.dir / "nginx.conf").write_text(
            NGINX_CONFIG.format(dir=self.dir, port=NGINX, rate=rate))
        self.server = start(directory, "client", "nginx",
                            [program("nginx"), "-p", self.dir, "-c",
                             self.dir / "nginx.conf"])
        self.curl = None
        self.lost = self.wrong = self.bytes = self.complete = 0
        self.error = ""
        self.last = self.longest = 0.0
        self.ending = True
        self.wanted = False
        self._thread = None

    def _make(self, mib):
        """Each block another one."""
        digest = hashlib.sha256()
        block = random.Random(1).randbytes(self.BLOCK - 8)
        with open(self.file, "wb") as file:
            for number in range(mib):
                whole = number.to_bytes(8, "big") + block
                digest.update(whole)
                file.write(whole)
        return digest.hexdigest()

    def revive(self):
        if self.wanted:
            return
        self.ending, self.wanted = False, True
        self.last = time.monotonic()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self):
        while self.wanted and not self.ending:
            self._one()

    def _one(self):
        """Until the first byte it is a new visitor that comes again."""
        self.curl = start(
            self.dir, "visitors", "curl",
            [program("curl"), "-sS", "--fail", "--no-buffer",
             f"http://{VISITED}:{HTTP_AT}/file"], stdout=subprocess.PIPE)
        digest, got = hashlib.sha256(), 0
        with open(self.file, "rb") as file:
            while piece := self.curl.stdout.read1(65536):
                now = time.monotonic()
                self.longest = max(self.longest, now - self.last)
                self.last = now
                if piece != file.read(len(piece)):
                    self.wrong += 1
                    self.error = f"download: wrong within 64 KiB of {got}"
                    self.curl.kill()
                    break
                digest.update(piece)
                got += len(piece)
                self.bytes += len(piece)
        code = self.curl.wait()
        if self.ending:
            return
        if code == 0 and got == self.size and digest.hexdigest() == self.sum:
            self.complete += 1
        elif code != 0 and got == 0:
            time.sleep(0.3)
        else:
            self.wanted = False
            self.lost += 1
            self.error = self.error or \
                f"curl ended with {code} after {got} bytes"

    def end(self):
        self.ending, self.wanted = True, False
        if self.curl is not None:
            self.curl.kill()
        if self._thread is not None:
            self._thread.join(10)
        return True

    def again(self):
        self.revive()

    def remove(self):
        self.file.unlink(missing_ok=True)


def last_line(path):
    try:
        lines = pathlib.Path(path).read_text("utf-8", "replace").splitlines()
    except OSError:
        return ""
    return re.sub(r"\s+", " ", lines[-1]) if lines else ""
