"""The rows: what lies between the visitors and the application.

Each row has an application of its own, so that the ports that one row leaves
in TIME_WAIT are not in the way of the next.
"""
import os
import pathlib
import shutil
import time

from processes import Failed, free_port, tail, tree

PATH = os.environ.get("PATH", "") + ":/usr/sbin:/sbin:/usr/local/sbin"
NGINX_STREAM = ("/usr/lib/nginx/modules/ngx_stream_module.so",
                "/usr/lib64/nginx/modules/ngx_stream_module.so")


class Skipped(Exception):
    pass


class Row:
    def __init__(self, key, tools, processes):
        self.key = key
        self.title, self.starter = ROWS[key]
        self.tools = tools
        self.processes = processes
        self.dir = tools.out / "rows" / key
        self.parts = []     # (label, process): those that forward
        self.port = None    # where visitors arrive
        self.app = None
        self.application = None
        self.rival = key not in OWN

    def start(self):
        shutil.rmtree(self.dir, ignore_errors=True)
        self.dir.mkdir(parents=True)
        self.application = self.processes.start(
            f"{self.key}-application",
            [self.tools.load, "serve", self._application_port()])
        self.starter(self)
        self._wait()

    def _application_port(self):
        self.app = free_port()
        return self.app

    def _wait(self):
        """Until an echo comes through."""
        deadline = time.monotonic() + 15
        while True:
            done = self.tools.try_load("ping", "--connect", self.address(),
                                       "--seconds", "0.01", "--warmup", "0")
            if done.returncode == 0:
                return
            self.check()
            if time.monotonic() > deadline:
                raise Failed(f"{self.title}: no echo within 15 s: "
                             f"{done.stderr.strip()}{self.tails()}")
            time.sleep(0.1)

    def address(self):
        return f"127.0.0.1:{self.port}"

    def part(self, label, argv, **options):
        """Start one of those that forward."""
        process = self.processes.start(f"{self.key}-{label}".replace(" ", "-"),
                                       argv, cwd=self.dir, **options)
        self.parts.append((label, process))
        return process

    def file(self, name, text):
        path = self.dir / name
        path.write_text(text)
        return path

    def check(self):
        for label, process in [("the application", self.application),
                               *self.parts]:
            if process.poll() is not None:
                raise Failed(f"{self.title}: {label} ended with "
                             f"{process.returncode}:\n{tail(process)}")

    def tails(self):
        return "".join(f"\n  {process.log}:\n{tail(process)}"
                       for _, process in [("", self.application), *self.parts]
                       if tail(process))

    def pids(self):
        """label -> process ids, children too."""
        return {label: tree(process.pid) for label, process in self.parts}

    def all_pids(self):
        return [pid for pids in self.pids().values() for pid in pids]


def program(name):
    path = shutil.which(name, path=PATH)
    if path is None:
        raise Skipped(f"{name} is not installed")
    return path


# --- one after another ------------------------------------------------------

def direct(row):
    row.port = row.app


def relay(row):
    """Two of them, as the tunnel has two hops."""
    middle, row.port = free_port(), free_port()
    row.part("relay 2", [row.tools.relay, f"127.0.0.1:{middle}",
                         f"127.0.0.1:{row.app}"])
    row.part("relay 1", [row.tools.relay, f"127.0.0.1:{row.port}",
                         f"127.0.0.1:{middle}"])


def own(row, more=""):
    tunnel, row.port = free_port(), free_port()
    server = row.file("proxy-server.yaml", f"""bind: 127.0.0.1:{tunnel}
proxy:
- remote_name: bench
  port_list:
  - {{type: tcp, bind: "127.0.0.1:{row.port}", remote: {row.app}}}
state_dir: {row.dir}/state-{tunnel}
""")
    client = row.file("remote-client.yaml", f"""name: bench
server: 127.0.0.1:{tunnel}
{more}
""")
    row.part("proxy-server", [row.tools.daemon("proxy-server"), "-c", server])
    row.part("remote-client",
             [row.tools.daemon("remote-client"), "-c", client])


def own_one_tunnel(row):
    own(row, "tunnels: 1")


def own_unkept(row):
    """Nothing is kept for a resume: what that costs."""
    own(row, "resume_timeout: 0s")


def own_classic(row):
    own(row, "dialect: classic")


def haproxy(row):
    binary = program("haproxy")
    middle, row.port = free_port(), free_port()
    for name, listen, to in (("haproxy 2", middle, row.app),
                             ("haproxy 1", row.port, middle)):
        config = row.file(f"{name}.cfg".replace(" ", "-"), f"""global
    maxconn 9000
defaults
    mode tcp
    maxconn 9000
    timeout connect 10s
    timeout client 1h
    timeout server 1h
listen bench
    bind 127.0.0.1:{listen}
    server application 127.0.0.1:{to}
""")
        row.part(name, [binary, "-db", "-f", config])


def nginx(row):
    binary = program("nginx")
    module = next((m for m in NGINX_STREAM if pathlib.Path(m).exists()), None)
    built = row.tools.run([binary, "-V"]).stderr
    if module is None and "--with-stream " not in built:
        raise Skipped("nginx's stream module is not installed")
    load = f"load_module {module};\n" if module else ""
    middle, row.port = free_port(), free_port()
    for name, listen, to in (("nginx-2", middle, row.app),
                             ("nginx-1", row.port, middle)):
        config = row.file(f"{name}.conf", f"""{load}daemon off;
worker_processes auto;
worker_rlimit_nofile 20000;
pid {row.dir}/{name}.pid;
error_log stderr;
events {{ worker_connections 10000; }}
stream {{
    server {{
        listen 127.0.0.1:{listen};
        proxy_pass 127.0.0.1:{to};
        tcp_nodelay on;
        proxy_timeout 1h;
    }}
}}
""")
        row.part(name, [binary, "-p", row.dir, "-c", config, "-e", "stderr"])


# --- other reverse tunnels --------------------------------------------------

def ssh(row):
    sshd, client = program("sshd"), program("ssh")
    done = row.tools.run([program("ssh-keygen"), "-q", "-t", "ed25519", "-N",
                          "", "-f", row.dir / "key"])
    if done.returncode != 0:
        raise Failed(f"ssh-keygen: {done.stderr}")
    key = (row.dir / "key.pub").read_text()
    row.file("authorized_keys", key).chmod(0o600)
    tunnel, row.port = free_port(), free_port()
    config = row.file("sshd_config", f"""ListenAddress 127.0.0.1
Port {tunnel}
HostKey {row.dir}/key
AuthorizedKeysFile {row.dir}/authorized_keys
StrictModes no
UsePAM no
PasswordAuthentication no
PermitRootLogin prohibit-password
PidFile none
""")
    if os.getuid() == 0:
        # Its privilege separation wants it; Debian makes it at boot.
        os.makedirs("/run/sshd", mode=0o755, exist_ok=True)
    row.part("sshd", [sshd, "-D", "-e", "-f", config])
    deadline = time.monotonic() + 5
    while "Server listening" not in row.parts[0][1].log.read_text():
        row.check()
        if time.monotonic() > deadline:
            raise Failed(f"sshd does not listen:{row.tails()}")
        time.sleep(0.05)
    row.part("ssh", [
        client, "-N", "-F", "/dev/null", "-i", row.dir / "key", "-p", tunnel,
        "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null",
        "-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes",
        "-o", "ExitOnForwardFailure=yes",
        "-R", f"127.0.0.1:{row.port}:127.0.0.1:{row.app}", "127.0.0.1"])


def frp(row):
    """As it comes, with its multiplexing; without TLS, as ours has none."""
    server, client = program("frps"), program("frpc")
    tunnel, row.port = free_port(), free_port()
    row.part("frps", [server, "-c", row.file("frps.toml", f"""
bindAddr = "127.0.0.1"
bindPort = {tunnel}
proxyBindAddr = "127.0.0.1"
log.level = "info"
""")])
    row.part("frpc", [client, "-c", row.file("frpc.toml", f"""
serverAddr = "127.0.0.1"
serverPort = {tunnel}
loginFailExit = false
transport.tls.enable = false
log.level = "info"

[[proxies]]
name = "bench"
type = "tcp"
localIP = "127.0.0.1"
localPort = {row.app}
remotePort = {row.port}
""")])


def rathole(row):
    binary = program("rathole")
    tunnel, row.port = free_port(), free_port()
    row.part("rathole server", [binary, "--server", row.file("server.toml", f"""
[server]
bind_addr = "127.0.0.1:{tunnel}"
default_token = "bench"

[server.services.bench]
bind_addr = "127.0.0.1:{row.port}"
""")])
    row.part("rathole client", [binary, "--client", row.file("client.toml", f"""
[client]
remote_addr = "127.0.0.1:{tunnel}"
default_token = "bench"

[client.services.bench]
local_addr = "127.0.0.1:{row.app}"
""")])


def chisel(row):
    """Always encrypted: it cannot do without."""
    binary = program("chisel")
    tunnel, row.port = free_port(), free_port()
    row.part("chisel server", [binary, "server", "--host", "127.0.0.1",
                               "--port", tunnel, "--reverse"])
    row.part("chisel client", [
        binary, "client", f"127.0.0.1:{tunnel}",
        f"R:127.0.0.1:{row.port}:127.0.0.1:{row.app}"])


ROWS = {
    "direct": ("direct", direct),
    "relay": ("relay x2", relay),
    "ours-1": ("ours, 1 tunnel", own_one_tunnel),
    "ours": ("ours", own),
    "unkept": ("ours, no resuming", own_unkept),
    "classic": ("ours, classic", own_classic),
    "haproxy": ("haproxy x2", haproxy),
    "nginx": ("nginx stream x2", nginx),
    "ssh": ("ssh -R", ssh),
    "frp": ("frp", frp),
    "rathole": ("rathole", rathole),
    "chisel": ("chisel", chisel),
}
OWN = ("direct", "relay", "ours-1", "ours", "classic")
