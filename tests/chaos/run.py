"""One run: the pair, the load through it, and a row for each fault."""
import os
import random
import signal
import time

import load
from daemons import Daemon, until
from network import Failed, SERVER, TUNNEL_PORT, VISITED

FLOW_DEADLINE = 30      # seconds from the end of a fault until all goes on
TUNNELS = 2
# Of the p99 over visitors, in ms.
LIMITS_MS = {"carrier": 300, "server-upgrade": 200, "client-upgrade": 200,
             "both-upgrade": 200}
MEMORY_SLACK = 8        # MiB
MEMORY_WAIT = 25        # seconds
BULK = 16
MOST = 12               # problems and notes of a row


class Row:
    """What one fault did."""

    def __init__(self, name, title):
        self.name, self.title = name, title
        self.times = 0
        self.visitors = self.bytes = self.lost = self.wrong = 0
        self.p99 = self.max = 0.0
        self.fresh = {"ok": 0, "failed": 0, "longest_ms": 0.0}
        self.before = self.after = None
        self.seconds = 0.0
        self.problems, self.notes = [], []
        self.bulk_gap = 0.0
        self.may_lose = False       # lost connections are what was asked for
        self.may_refuse = False     # and so are refused new visitors
        self.deadline = FLOW_DEADLINE

    def fail(self, what):
        if what and what not in self.problems:
            self.problems.append(what)

    def note(self, what):
        self.notes.append(what)


class Run:
    def __init__(self, options, directory, network, say):
        self.options, self.dir, self.network = options, directory, network
        self.say = say
        self.short = options.short
        self.random = random.Random(options.seed)
        self.rows, self.actions = [], []
        self.server = Daemon(directory, options.build / "proxy-server",
                             "server")
        self.client = Daemon(directory, options.build / "remote-client",
                             "client")
        self.daemons = [self.server, self.client]
        self.factor = self.server.factor
        self.application = self.visitors = None
        self.ssh = self.download = None
        self.others = []
        self._known = {}
        self._logged = {}

    # - configuration -

    def knows(self, daemon, line):
        """Whether that daemon takes this line in its configuration."""
        key = (daemon.name, line)
        if key not in self._known:
            text = (f'bind: "{SERVER}:{TUNNEL_PORT}"\nname: chaos\n'
                    f'server: "{SERVER}:{TUNNEL_PORT}"\n'
                    "proxy:\n- remote_name: chaos\n  port_list:\n"
                    '  - {type: tcp, bind: "127.0.0.1:1", remote: 1}\n')
            if not daemon.check_config(text):
                raise Failed(f"{daemon.name} -t refuses {text}")
            self._known[key] = daemon.check_config(text + line + "\n")
        return self._known[key]

    def _common(self):
        return "heartbeat_interval: 1s\n" if self.short else ""

    def write_server(self, extra=()):
        """extra: ports of listeners that lead to the application too."""
        text = (f'bind: "{SERVER}:{TUNNEL_PORT}"\n'
                "wait_for_remote: 1m\n" + self._common())
        state = f"state_dir: {self.dir}/state"
        if self.knows(self.server, state):
            text += state + "\n"
        text += "proxy:\n- remote_name: chaos\n  port_list:\n"
        listeners = [("tcp", load.ECHO_AT, load.ECHO),
                     ("tcp", load.SSH_AT, load.SSHD),
                     ("http", load.HTTP_AT, load.NGINX)]
        listeners += [("tcp", port, load.ECHO) for port in extra]
        for kind, port, to in listeners:
            text += (f'  - {{type: {kind}, bind: "{VISITED}:{port}", '
                     f"remote: {to}}}\n")
        self.server.config.write_text(text)

    def write_client(self, daemon=None):
        (daemon or self.client).config.write_text(
            f'name: chaos\nserver: "{SERVER}:{TUNNEL_PORT}"\n'
            f"tunnels: {TUNNELS}\n" + self._common())

    # - starting and ending -

    def start(self):
        (self.dir / "state").mkdir()
        self.write_server()
        self.write_client()
        self.application = load.application(self.dir, self.options.load)
        self.ssh = load.Ssh(self.dir)
        self.download = load.Download(self.dir, self.options.download,
                                      self.options.download_rate)
        self.server.start()
        self.client.start()
        self.wait_carriers()
        # What the first connections set up once is not what a run leaves.
        for port in (load.ECHO_AT,) * 4:
            why = until(lambda port=port: "ok" if load.visit(
                self.network, port) is None else None, 10 * self.factor)
            if not why:
                raise Failed("no visitor gets through\n" + self.tails())
        time.sleep(0.5)
        self.idle_before = [d.memory() for d in self.daemons]
        self.counters_before = [d.counters() for d in self.daemons]

    def wait_carriers(self):
        if not until(lambda: len(self.network.carriers()) == TUNNELS,
                     30 * self.factor, 0.05):
            raise Failed(f"there are {len(self.network.carriers())} carriers, "
                         f"not {TUNNELS}\n" + self.tails())

    def start_load(self):
        options = self.options
        bulk = {"both": BULK} if options.both else \
            {"up": BULK // 2, "down": BULK // 2}
        streams = BULK * 2 if options.both else BULK
        rate = 10**9 if options.unlimited else \
            int(options.rate * 1e6 / streams)
        self.visitors = load.visitors(
            self.dir, options.load, rate=rate, fresh=1000,
            interactive=options.interactive,
            seed=self.random.getrandbits(32), **bulk)
        self.ssh.again()
        self.download.again()

    def applications(self):
        return [self.ssh, self.download]

    def stop_load(self, row):
        """All visitors end, with their totals compared."""
        for one in self.applications():
            if not one.end():
                row.fail("the ssh session did not end")
        self.visitors.tell("stop")
        try:
            told = self.visitors.answer("stop", 60 * self.factor)
        except Failed as error:
            row.fail(f"not all visitors came to their end ({error})")
        else:
            text = f"{told['ended']} visitors ended with the right totals"
            if told["ended"] == self.visitors.ready["visitors"]:
                row.note(text)
            else:
                row.fail(f"only {text}")
        self.collect(row)
        self.visitors.end()
        self.visitors = None

    def finish(self):
        """Both end when they are asked to, and have left nothing."""
        row = Row("end", "SIGTERM to both, without visitors")
        self.say(f"end: {row.title}")
        self.rows.append(row)
        began = time.monotonic()
        for daemon in reversed(self.daemons):
            row.times += 1
            daemon.signal(signal.SIGTERM)
            code = daemon.wait_exit(40)
            daemon.told = True
            if code != 0:
                row.fail(f"{daemon.name}: exit status {code}")
        row.seconds = time.monotonic() - began
        self.judge(row)

    def close(self):
        for daemon in reversed(self.daemons + self.others):
            daemon.kill()
        if self.download:
            self.download.remove()

    def tails(self):
        return "\n".join(f"--- {d.log_path}\n{d.tail()}"
                         for d in self.daemons + self.others)

    # - looking -

    def act(self, what):
        """What happens now, for the record of when connections were lost."""
        self.actions.append((time.monotonic(), what))
        with open(self.dir / "actions.log", "a", encoding="utf-8") as file:
            stamp = time.strftime("%H:%M:%S", time.gmtime())
            file.write(f"{stamp}.{int(time.time() * 1000) % 1000:03} {what}\n")

    def flowing(self, timeout, but=()):
        """Wait until everybody who is connected gets bytes that were sent
        from now on.  The seconds that took, or a text of who does not."""
        began = time.monotonic()
        self.visitors.ask("since")
        self.application.ask("since")
        waiting = "nothing"

        def look():
            nonlocal waiting
            visitors = self.visitors.ask("status")
            behind = {
                "visitors": visitors["behind"],
                "new visitors": visitors["fresh_behind"],
                "uploads": self.application.ask("status")["behind"],
                "ssh": int(self.ssh.wanted and self.ssh.last < began),
                "download": int(self.download.wanted and
                                self.download.last < began)}
            waiting = ", ".join(f"{n} {who}" for who, n in behind.items()
                                if n and who not in but)
            return not waiting
        if until(look, timeout, 0.02):
            return time.monotonic() - began
        return waiting

    def everybody(self, row):
        """The pair runs, and all of the load goes through it."""
        for daemon in self.daemons:
            row.fail(daemon.died())
            if daemon.poll() is not None:
                daemon.start()
        self.revive()

        def look():
            told = self.visitors.ask("status")
            return told["away"] + told["lost"] == 0
        if not until(look, 60 * self.factor, 0.05):
            raise Failed(f"not all visitors come back: "
                         f"{self.visitors.ask('status')}\n" + self.tails())
        flows = self.flowing(60 * self.factor)
        if isinstance(flows, str):
            raise Failed(f"nothing arrives, without a fault, for {flows}\n" +
                         self.tails())
        self.wait_carriers()

    def revive(self):
        """What was lost comes again, as other connections."""
        self.visitors.ask("revive")
        for one in self.applications():
            one.revive()

    def collect(self, row):
        """Since the last time."""
        there = self.visitors.ask("mark")
        here = self.application.ask("mark")
        row.bytes += there["bytes"] + here["bytes"]
        row.lost += there["lost"]
        row.wrong += there["wrong"] + here["wrong"]
        row.visitors = self.visitors.ready["visitors"] + 2
        row.p99, row.max = there["p99_ms"], there["max_ms"]
        row.bulk_gap = max(there["bulk_gap_ms"], here["bulk_gap_ms"])
        row.fresh = there["fresh"]
        if here["broken"] and not (row.lost or row.fresh["failed"]):
            row.fail(f"{here['broken']} connections broken at the application"
                     " and not at the visitors")
        for one in self.applications():
            row.bytes += one.bytes
            row.lost += one.lost
            row.wrong += one.wrong
            if one.error and (one.lost or one.wrong):
                row.note(one.error)
            one.bytes = one.lost = one.wrong = 0
            one.error, one.longest = "", 0.0
        self._explain(row)

    def _explain(self, row):
        """Which action connections were lost in, and how they ended."""
        causes = {}
        for source in (self.visitors, self.application):
            events, source.events = source.events, []
            for when, event in events:
                during = [text for began, text in self.actions
                          if began <= when]
                key = (event["event"], event["why"],
                       during[-1] if during else "start")
                causes[key] = causes.get(key, 0) + 1
        for (event, why, during), n in list(causes.items())[:6]:
            row.note(f"{n} {event}: {why}, in `{during}`")

    # - rows -

    def measure(self, fault):
        row = Row(fault.name, fault.title)
        fault.prepare(row)
        self.say(f"{fault.name}: {fault.title}")
        self.rows.append(row)
        self.everybody(row)
        self.collect(Row("", ""))
        row.before = [d.memory() for d in self.daemons]
        began = time.monotonic()
        self.act(fault.name)
        try:
            fault.function(self, row)
        finally:
            self.network.heal()
        self.act(f"after {fault.name}")
        flows = self.flowing(row.deadline * self.factor)
        row.seconds = time.monotonic() - began
        if isinstance(flows, str):
            row.fail(f"nothing arrives {row.deadline * self.factor} s later "
                     f"for {flows}")
            self.visitors.ask("giveup")
        self.collect(row)
        row.after = [d.memory() for d in self.daemons]
        self.judge(row)

    def alone(self, fault):
        """A fault that brings its own load."""
        row = Row(fault.name, fault.title)
        fault.prepare(row)
        self.say(f"{fault.name}: {fault.title}")
        self.rows.append(row)
        row.before = [d.memory() for d in self.daemons]
        self.act(fault.name)
        fault.function(self, row)
        row.after = [d.memory() for d in self.daemons]
        self.judge(row)

    def judge(self, row):
        for daemon in self.daemons:
            row.fail(daemon.died())
        for daemon in self.daemons + self.others:
            for word in daemon.reports():
                row.fail(f"{daemon.log_path.name} holds `{word}`")
            self._errors(daemon, row)
        if row.wrong:
            row.fail(f"{row.wrong} connections with wrong bytes or totals")
        if row.lost and not row.may_lose:
            row.fail(f"{row.lost} connections lost")
        self._pause(row)
        if row.fresh["failed"]:
            text = f"{row.fresh['failed']} new visitors were not served"
            (row.note if row.may_refuse or row.may_lose else row.fail)(text)
        del row.problems[MOST:], row.notes[MOST:]
        for text in row.problems:
            self.say(f"  FAILED: {text}")
        for text in row.notes:
            self.say(f"  {text}")
        self.say(f"  {row.times} times in {row.seconds:.1f} s, lost {row.lost}"
                 f", longest pause {row.p99:.0f} / {row.max:.0f} ms, of "
                 f"bulk {row.bulk_gap:.0f} ms, new visitors "
                 f"{row.fresh['ok']} served, the slowest in "
                 f"{row.fresh['longest_ms']:.0f} ms")

    def _pause(self, row):
        """What a visitor may notice of it, above what the load itself shows."""
        most = LIMITS_MS.get(row.name)
        base = next((r.p99 for r in self.rows if r.name == "none"), 0)
        if most is None or self.server.sanitizer:
            return
        if row.p99 - base > most:
            row.fail(f"a pause of {row.p99 - base:.0f} ms above the one of "
                     f"`none`; at most {most} are wanted")

    def _errors(self, daemon, row):
        """Lines of level error since the last time, shown."""
        entries = daemon.log(level="error")
        for entry in entries[self._logged.get(daemon.name, 0):][:5]:
            row.note(f"{daemon.name}: {entry['line']}")
        self._logged[daemon.name] = len(entries)

    def idle(self):
        """The load ends, and leaves nothing in the daemons."""
        row = Row("idle", "all load stopped")
        self.say("idle: all load stopped, what is left in memory")
        self.rows.append(row)
        self.everybody(row)
        self.collect(Row("", ""))
        self.act("idle")
        row.times = 1
        began = time.monotonic()
        self.stop_load(row)
        row.before = self.idle_before

        def good(before, now):
            return now[1] == before[1] and (
                self.server.sanitizer or now[0] <= before[0] + MEMORY_SLACK)

        def look():
            row.after = [d.memory() for d in self.daemons]
            return all(map(good, row.before, row.after))
        if not until(look, MEMORY_WAIT, 0.5):
            for daemon, before, after in zip(self.daemons, row.before,
                                             row.after):
                if not good(before, after):
                    row.fail(f"{daemon.name}: {before[0]:.1f} MiB and "
                             f"{before[1]} descriptors before the load, "
                             f"{after[0]:.1f} MiB and {after[1]} after it")
                    self._descriptors(daemon)
        for daemon, before in zip(self.daemons, self.counters_before):
            after = daemon.counters()
            if after == before:
                row.note(f"{daemon.name}: {after}, as before")
            else:
                row.fail(f"{daemon.name}: {before} before the load, "
                         f"{after} after it")
        row.seconds = time.monotonic() - began
        row.note(f"{self.download.complete} downloads complete")
        self.judge(row)

    def _descriptors(self, daemon):
        """What is open, into the directory of the logs."""
        where = f"/proc/{daemon.pid}/fd"
        with open(self.dir / f"{daemon.name}.fds", "w",
                  encoding="utf-8") as file:
            for number in sorted(os.listdir(where), key=int):
                try:
                    file.write(f"{number} "
                               f"{os.readlink(f'{where}/{number}')}\n")
                except OSError:
                    pass
