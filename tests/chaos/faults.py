"""The faults.  Each is a function of the run and its row; the network is
healed behind it, and the run then waits until everything goes on."""
import random
import re
import signal
import threading
import time

import load
from daemons import Daemon, until
from run import TUNNELS

FAULTS = {}


class Fault:
    def __init__(self, name, title, function, kind, **expected):
        self.name, self.title, self.function = name, title, function
        self.kind = kind            # resumable, restart, or drain
        self.expected = expected

    def prepare(self, row):
        for key, value in self.expected.items():
            setattr(row, key, value)


def fault(name, title, kind="resumable", **expected):
    def register(function):
        FAULTS[name] = Fault(name, title, function, kind, **expected)
        return function
    return register


def seconds(run, full, short):
    return short if run.short else full


def some(run, full, short):
    return short if run.short else full


# --- the network --------------------------------------------------------------

@fault("none", "nothing happens; the pauses of the load itself")
def none(run, row):
    row.times = 1
    time.sleep(seconds(run, 10, 3))


@fault("carrier", "one carrier killed")
def carrier(run, row):
    for _ in range(some(run, 3, 1)):
        run.network.kill(run.network.carriers()[:1])
        row.times += 1
        time.sleep(1)


@fault("carriers", "all carriers killed, each 0.5 s")
def carriers(run, row):
    for _ in range(some(run, 20, 8)):
        kill_all(run)
        row.times += 1
        time.sleep(0.5)


def kill_all(run):
    run.network.kill(run.network.carriers())


def black_hole(run, row, full, short):
    row.times = 1
    time_s = seconds(run, full, short)
    row.note(f"for {time_s} s")
    run.network.drop("client", "server")
    time.sleep(time_s)
    run.network.heal()


@fault("blackhole-1", "both directions dropped silently, 1 s")
def black_hole_1(run, row):
    black_hole(run, row, 1, 0.5)


@fault("blackhole-5", "both directions dropped silently, 5 s")
def black_hole_5(run, row):
    black_hole(run, row, 5, 2)


@fault("blackhole-30", "both directions dropped silently, 30 s")
def black_hole_30(run, row):
    black_hole(run, row, 30, 5)


@fault("drop-to-server", "what the client sends dropped, 5 s")
def drop_to_server(run, row):
    row.times = 1
    run.network.drop("server")
    time.sleep(seconds(run, 5, 2))


@fault("drop-to-client", "what the server sends dropped, 5 s")
def drop_to_client(run, row):
    row.times = 1
    run.network.drop("client")
    time.sleep(seconds(run, 5, 2))


@fault("link-down", "the client's link down, 5 s")
def link_down(run, row):
    row.times = 1
    run.network.down()
    time.sleep(seconds(run, 5, 2))


@fault("address", "the client's address changed")
def address(run, row):
    row.times = 1
    run.network.change_address()
    time.sleep(1)


# --- the processes ------------------------------------------------------------

def stop(run, row, daemon, time_s):
    row.times = 1
    daemon.signal(signal.SIGSTOP)
    try:
        time.sleep(time_s)
    finally:
        daemon.signal(signal.SIGCONT)


@fault("client-stopped", "remote-client SIGSTOP, 10 s")
def client_stopped(run, row):
    stop(run, row, run.client, seconds(run, 10, 2))


@fault("server-stopped", "proxy-server SIGSTOP, 10 s")
def server_stopped(run, row):
    stop(run, row, run.server, seconds(run, 10, 2))


def upgrade(run, row, *daemons):
    """All of them at once; whether it worked."""
    began = time.monotonic()
    olds = [daemon.upgrade_begin() for daemon in daemons]
    whys = [daemon.upgrade_end(old) for daemon, old in zip(daemons, olds)]
    for why in filter(None, whys):
        row.fail(why)
    row.times += 1
    row.took = getattr(row, "took", 0) + time.monotonic() - began
    return not any(whys)


def upgrades(run, row, *daemons):
    for _ in range(some(run, 10, 3)):
        # nginx sends once a second at its limit.
        if not upgrade(run, row, *daemons) or not traffic(
                run, row, 15, f"number {row.times}", but=["download"]):
            return
    row.note(f"{row.took / row.times * 1000:.0f} ms for each, from the signal "
             "to the end of the old process")


def traffic(run, row, timeout, what, but=()):
    """Between faults that follow each other; whether everything goes on."""
    flows = run.flowing(timeout * run.factor, but)
    if isinstance(flows, str):
        row.fail(f"nothing arrives for {flows}, {timeout * run.factor} s after"
                 f" `{what}`")
        return False
    return True


@fault("server-upgrade", "proxy-server SIGUSR2, again and again")
def server_upgrade(run, row):
    upgrades(run, row, run.server)


@fault("client-upgrade", "remote-client SIGUSR2, again and again")
def client_upgrade(run, row):
    upgrades(run, row, run.client)


@fault("both-upgrade", "SIGUSR2 to both at once, again and again")
def both_upgrade(run, row):
    upgrades(run, row, run.server, run.client)


@fault("dark-upgrade", "both upgraded while no carrier works")
def dark_upgrade(run, row):
    run.network.drop("client", "server")
    time.sleep(0.5)
    upgrade(run, row, run.server)
    upgrade(run, row, run.client)
    time.sleep(seconds(run, 5, 1))


# --- the configuration --------------------------------------------------------

# Seconds: the path may be dark just then, until heartbeats have found that.
DARK = 40


def reloads(run, row, count):
    """Each adds one listener and removes another."""
    old = None
    for number in range(count):
        new = load.EXTRA_AT + number % 7
        run.write_server([new])
        run.server.signal(signal.SIGHUP)
        why = until(lambda: serves(run, new) and not serves(run, old),
                    DARK * run.factor)
        if not why:
            row.fail(f"reload {number + 1}: {DARK * run.factor} s later port "
                     f"{new} is not served, or port {old} still is")
            break
        row.times += 1
        old = new
    run.write_server()
    run.server.signal(signal.SIGHUP)
    if old and not until(lambda: not serves(run, old), DARK * run.factor):
        row.fail(f"port {old} is served after its listener was removed")


def serves(run, port):
    return port is not None and load.visit(run.network, port, DARK) is None


@fault("reload", "a listener added and one removed by SIGHUP")
def reload_good(run, row):
    reloads(run, row, some(run, 100, 20))


@fault("reload-bad", "SIGHUP with a wrong file, to both")
def reload_bad(run, row):
    reload_wrong(run, row)
    if not serves(run, load.ECHO_AT):
        row.fail("new visitors are not served after it")


def reload_wrong(run, row):
    for daemon in run.daemons:
        right = daemon.config.read_text()
        seen = len(daemon.log(level="error"))
        daemon.config.write_text(right.replace("chaos", "other") +
                                 "no_such_key: 1\n")
        daemon.signal(signal.SIGHUP)
        if not until(lambda: len(daemon.log(level="error")) > seen,
                     5 * run.factor):
            row.fail(f"{daemon.name} logs no error")
        daemon.config.write_text(right)
        row.times += 1


# --- limits and rivals --------------------------------------------------------

@fault("fd-limit", "no descriptors left in proxy-server, 5 s",
       may_refuse=True)
def fd_limit(run, row):
    row.times = 1
    run.visitors.ask("fresh 200")
    old = run.server.limit_files()
    try:
        time.sleep(seconds(run, 5, 2))
    finally:
        run.server.limit_files(old)
        run.visitors.ask("fresh 1000")


@fault("second-client", "another remote-client with the same name",
       may_lose=True)
def second_client(run, row):
    """Which one wins is not looked at; they must not take turns."""
    row.times = 1
    names = ("registered", "standby", "session-ended")
    second = Daemon(run.dir, run.client.built, "client",
                    f"second-client-{len(run.others) + 1}")
    run.others.append(second)
    run.write_client(second)
    before = {name: len(run.client.log(name)) for name in names}
    server = len(run.server.log("registered"))
    second.start()
    time.sleep(seconds(run, 20, 5))
    told = [{name: len(run.client.log(name)) - before[name]
             for name in names},
            {name: len(second.log(name)) for name in names}]
    replaced = sum("replaced" in entry["line"]
                   for entry in run.server.log()[-2000:])
    for who, counts in zip(("the first", "the second"), told):
        row.note(f"{who}: " + ", ".join(f"{n} {name}" for name, n in
                                        counts.items()))
    row.note(f"proxy-server: {len(run.server.log('registered')) - server} "
             f"registered, {replaced} lines with `replaced`")
    if told[0]["registered"] > 0 or told[1]["registered"] > TUNNELS:
        row.fail("the two take turns")
    second.signal(signal.SIGTERM)
    if second.wait_exit(45) is None:
        row.fail("the second one does not end")
        second.kill()


# --- many, at random ----------------------------------------------------------

def draw(run, rng, row):
    """One resumable fault: its name and what it does."""
    long_s = rng.uniform(0.2, 5)
    daemon = rng.choice(run.daemons)

    def dropped(*hosts):
        run.network.drop(*hosts)
        time.sleep(long_s)

    def stopped():
        stop(run, row, daemon, long_s)

    def again_and_again():
        for _ in range(rng.randrange(2, 6)):
            kill_all(run)
            time.sleep(rng.uniform(0.05, 0.6))

    def link():
        run.network.down()
        time.sleep(long_s)

    def dark():
        run.network.drop("client", "server")
        time.sleep(rng.uniform(0, 1))
        for one in rng.sample(run.daemons, 2):
            upgrade(run, row, one)

    time_text = f"{long_s:.1f} s"
    return rng.choice([
        ("one carrier killed",
         lambda: run.network.kill(run.network.carriers()[:1])),
        ("all carriers killed", lambda: kill_all(run)),
        ("all carriers killed repeatedly", again_and_again),
        (f"black hole {time_text}", lambda: dropped("client", "server")),
        (f"dropped to the server {time_text}", lambda: dropped("server")),
        (f"dropped to the client {time_text}", lambda: dropped("client")),
        (f"link down {time_text}", link),
        ("address changed", run.network.change_address),
        (f"{daemon.name} stopped {time_text}", stopped),
        (f"{daemon.name} upgraded", lambda: upgrade(run, row, daemon)),
        ("both upgraded", lambda: upgrade(run, row, *run.daemons)),
        ("upgraded in the dark", dark),
        ("reload", lambda: reloads(run, row, 2)),
        ("reload of a wrong file", lambda: reload_wrong(run, row)),
    ])


@fault("random", "resumable faults at random")
def at_random(run, row):
    rng = random.Random(run.options.seed)
    row.note(f"seed {run.options.seed}")
    end = time.monotonic() + 60 * run.options.minutes
    number = unseen = 0
    while time.monotonic() < end:
        name, action = draw(run, rng, row)
        if any(word in name for word in run.options.without):
            continue
        number += 1
        run.act(f"{number}: {name}")
        action()
        run.network.heal()
        for daemon in run.daemons:
            why = daemon.died()
            if why:
                row.fail(f"{why} in `{number}: {name}`")
            if daemon.poll() is not None:
                daemon.start()
        time.sleep(rng.uniform(0.1, 3))
        # So that sessions are not away for longer than they are kept.
        unseen += 1
        if unseen == 3 or rng.random() < 0.5:
            unseen = 0
            if not traffic(run, row, 40, f"{number}: {name}"):
                run.visitors.ask("giveup")
            run.revive()
    row.times = number


# --- what ends sessions -------------------------------------------------------

def first_served(run, seconds):
    """A visitor each 50 ms: when the first was served (the monotonic clock),
    and a text of those who were not."""
    served, failed = [], []

    def one():
        why = load.visit(run.network, load.ECHO_AT, 30)
        if why is None:
            served.append(time.monotonic())
        else:
            failed.append(why)
    threads, end = [], time.monotonic() + seconds
    while not served and time.monotonic() < end:
        threads.append(threading.Thread(target=one, daemon=True))
        threads[-1].start()
        time.sleep(0.05)
    for thread in threads:
        thread.join()
    return (min(served) if served else None,
            ", ".join(f"{failed.count(why)} {why}" for why in set(failed)))


def killed(run, row, daemon, limit_ms):
    for _ in range(some(run, 3, 1)):
        began = time.monotonic()
        daemon.kill()
        daemon.start()
        restarted = time.monotonic()
        first, others = first_served(run, 30)
        row.times += 1
        if first is None:
            row.fail("no new visitor is served within 30 s")
            continue
        after_ms = 1000 * (first - began)
        row.note(f"a new visitor was served {after_ms:.0f} ms after the kill,"
                 f" {1000 * (first - restarted):.0f} ms after the start")
        if others:
            row.note(f"not served: {others}")
        if after_ms > limit_ms * run.factor:
            row.fail(f"{after_ms:.0f} ms until a new visitor is served")
        run.revive()
        time.sleep(1)


@fault("client-killed", "remote-client killed and started again",
       kind="restart", may_lose=True)
def client_killed(run, row):
    killed(run, row, run.client, 1000)


@fault("server-killed", "proxy-server killed and started again",
       kind="restart", may_lose=True)
def server_killed(run, row):
    killed(run, row, run.server, 2000)


def drained(run, row, daemon, other):
    """Streams that are there at SIGTERM go on and end as they should."""
    row.times = 1
    visitors = load.visitors(run.dir, run.options.load, f"{daemon.name}-short",
                             up=4, down=4, interactive=50, rate=1000000,
                             seed=run.random.getrandbits(32))
    if not until(lambda: visitors.ask("status")["live"] == 58,
                 20 * run.factor):
        row.fail(f"not all connected: {visitors.ask('status')}")
    seen = len(other.log())
    daemon.signal(signal.SIGTERM)
    began = time.monotonic()
    time.sleep(seconds(run, 5, 2))
    visitors.tell("stop")
    ended = visitors.answer("stop", 60 * run.factor)["ended"]
    mark, here = visitors.ask("mark"), run.application.ask("mark")
    row.visitors, row.lost = 58, mark["lost"]
    row.wrong = mark["wrong"] + here["wrong"]
    row.bytes = mark["bytes"] + here["bytes"]
    visitors.end()
    if ended != 58:
        row.fail(f"{ended} of 58 visitors came to their end")
    code = daemon.wait_exit(40)
    daemon.told = True
    row.seconds = time.monotonic() - began
    row.note(f"ended {row.seconds:.1f} s after SIGTERM with status {code}")
    if code != 0:
        row.fail(f"exit status {code}")
    words = re.compile(r"drain|go-?away|shutting|stopping|leaving")
    lines = [entry["line"] for entry in other.log()[seen:]
             if words.search(entry["line"])]
    if lines:
        row.note(f"{other.name}: {lines[0]}")
    else:
        row.fail(f"{other.name} logs nothing of it")
    if code is None:
        daemon.kill()
    daemon.start()
    run.wait_carriers()


@fault("server-drain", "SIGTERM to proxy-server, streams end 5 s later",
       kind="drain")
def server_drain(run, row):
    drained(run, row, run.server, run.client)


@fault("client-drain", "SIGTERM to remote-client, streams end 5 s later",
       kind="drain")
def client_drain(run, row):
    drained(run, row, run.client, run.server)
