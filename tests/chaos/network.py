"""Three hosts on one machine: the network namespaces `client`, `server` and
`visitors`, with a link from each of the others to the server.

    client    10.81.1.2 --- 10.81.1.1  server  10.81.2.1 --- 10.81.2.2  visitors

isolate() puts this process and all that it starts into namespaces of their own
for processes, mounts and networks before, so that names do not collide, and so
that nothing is left when it ends, however it ends.
"""
import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time

LIBC = ctypes.CDLL(None, use_errno=True)
CLONE_NEWNS, CLONE_NEWPID, CLONE_NEWNET = 0x20000, 0x20000000, 0x40000000
MS_REC, MS_PRIVATE = 0x4000, 0x40000
PR_SET_PDEATHSIG = 1

TUNNEL_PORT = 9015
SERVER = "10.81.1.1"
VISITED = "10.81.2.1"
# What a host receives on; the drop rules are at the receiver, so that nobody
# is told of a drop.
DEVICES = {"client": "c0", "server": "s0"}


class Failed(Exception):
    """What a run cannot go on after; its text is what to tell."""


def _must(result, what):
    if result < 0:
        sys.exit(f"chaos: {what}: {os.strerror(ctypes.get_errno())}")


def _mount(source, target, kind, flags):
    _must(LIBC.mount(source and source.encode(), target.encode(),
                     kind and kind.encode(), ctypes.c_ulong(flags), None),
          f"mount {target}")


def isolate():
    """Returns in the child only, which is the first process of its
    namespace: when it ends the kernel ends all others there.  The parent
    passes signals on and ends with the child's status."""
    _must(LIBC.unshare(CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET), "unshare")
    child = os.fork()
    if child == 0:
        LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        _mount(None, "/", None, MS_REC | MS_PRIVATE)
        _mount("proc", "/proc", "proc", 0)
        # `ip netns` and sshd keep things there.
        _mount("tmpfs", "/run", "tmpfs", 0)
        os.mkdir("/run/sshd", 0o755)
        return
    # A terminal sends SIGINT to the child as well.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _: os.kill(child, number))
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    os._exit(code if code >= 0 else 128 - code)


def command(*argv, input=None):
    done = subprocess.run([str(a) for a in argv], input=input, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    if done.returncode != 0:
        raise Failed(f"{' '.join(map(str, argv))}: {done.stderr.strip()}")
    return done.stdout


class Network:
    def __init__(self, kill_with=None):
        self.address = 2            # the last number of the client's
        self._own = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        for host in ("client", "server", "visitors"):
            command("ip", "netns", "add", host)
            self.on(host, "ip", "link", "set", "lo", "up")
        self._link("client", "c0", "10.81.1.2/24", "s0", f"{SERVER}/24")
        self._link("visitors", "v0", "10.81.2.2/24", "s1", f"{VISITED}/24")
        # So that a second address stays when the first one goes.
        with self.visiting("client"), \
             open("/proc/sys/net/ipv4/conf/c0/promote_secondaries", "w",
                  encoding="ascii") as file:
            file.write("1")
        for host, device in DEVICES.items():
            self.on(host, "nft", "-f", "-", input=(
                "table inet chaos {\n"
                " chain pass { type filter hook prerouting priority -300;\n }\n"
                " chain reset_in { type filter hook input priority 0;\n }\n"
                " chain reset_out { type filter hook output priority 0;\n }\n"
                "}\n"))
        self.kill_with = kill_with or "ss"

    def _link(self, host, device, address, server_device, server_address):
        command("ip", "link", "add", device, "netns", host, "type", "veth",
                "peer", "name", server_device, "netns", "server")
        for where, name, number in ((host, device, address),
                                    ("server", server_device, server_address)):
            self.on(where, "ip", "address", "add", number, "dev", name)
            self.on(where, "ip", "link", "set", name, "up")

    @staticmethod
    def inside(host, *argv):
        """What runs argv on a host, with the process id that it is started
        with."""
        return ["nsenter", f"--net=/run/netns/{host}", *map(str, argv)]

    def on(self, host, *argv, input=None):
        return command(*self.inside(host, *argv), input=input)

    @contextlib.contextmanager
    def visiting(self, host):
        """Sockets that this thread makes here are that host's."""
        there = os.open(f"/run/netns/{host}", os.O_RDONLY)
        try:
            _must(LIBC.setns(there, CLONE_NEWNET), "setns")
            yield
        finally:
            _must(LIBC.setns(self._own, CLONE_NEWNET), "setns")
            os.close(there)

    # - the client's link -

    def drop(self, *receivers):
        """Silently: what these two hosts would receive from each other."""
        for host in receivers:
            self.on(host, "nft", "add", "rule", "inet", "chaos", "pass",
                    "iifname", DEVICES[host], "drop")

    def down(self):
        self.on("client", "ip", "link", "set", "c0", "down")

    def heal(self):
        """Whatever was done to the link."""
        for host in DEVICES:
            for chain in ("pass", "reset_in", "reset_out"):
                self.on(host, "nft", "flush", "chain", "inet", "chaos", chain)
        self.on("client", "ip", "link", "set", "c0", "up")

    def change_address(self):
        old, self.address = self.address, self.address % 200 + 1
        # The new one first: the last one to go would take the route along.
        self.on("client", "ip", "address", "add",
                f"10.81.1.{self.address}/24", "dev", "c0")
        self.on("client", "ip", "address", "del", f"10.81.1.{old}/24",
                "dev", "c0")

    # - the carriers -

    def carriers(self):
        """The client's ports of the connections to the tunnel port."""
        lines = self.on("client", "ss", "-Htn", "state", "established",
                        "dport", "=", f":{TUNNEL_PORT}").splitlines()
        return [int(line.split()[2].rpartition(":")[2]) for line in lines]

    def kill(self, ports):
        """Break these connections for both ends."""
        if self.kill_with == "ss":
            for port in ports:
                self._ss_kill(port)
            left = set(ports) & set(self.carriers())
            if not left:
                return
            # A kernel without CONFIG_INET_DIAG_DESTROY says nothing.
            self.kill_with = "nft"
            ports = left
        self._nft_kill(ports)

    def _ss_kill(self, port):
        self.on("client", "ss", "-KHtn", "dport", "=", f":{TUNNEL_PORT}",
                "and", "sport", "=", f":{port}")

    def _nft_kill(self, ports):
        """The next packet of each way is answered with a reset.  What is
        silent is not broken, so this waits until they are gone."""
        for port in ports:
            for chain, own, other in (("reset_in", "dport", "sport"),
                                      ("reset_out", "sport", "dport")):
                self.on("client", "nft", "add", "rule", "inet", "chaos",
                        chain, "tcp", own, port, "tcp", other, TUNNEL_PORT,
                        "reject", "with", "tcp", "reset")
        deadline = time.monotonic() + 2
        while set(ports) & set(self.carriers()) and \
                time.monotonic() < deadline:
            time.sleep(0.005)
        for chain in ("reset_in", "reset_out"):
            self.on("client", "nft", "flush", "chain", "inet", "chaos", chain)
