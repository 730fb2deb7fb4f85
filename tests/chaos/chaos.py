"""Real faults on a real pair of daemons, under load.

    make chaos                               all faults, 20 minutes
    make chaos CHAOS_FLAGS='--short'         each once and shorter, 3 minutes
    python3 tests/chaos/chaos.py --only blackhole-30,random --minutes 2

A client host, a server host and a visitor host are network namespaces; nothing
is left of them when this ends.  Through the tunnel go 16 bulk streams, 200
visitors that type, an ssh session and a download, all the while; each byte is
compared with what it has to be.  After each fault everything has to go on: no
connection lost, no byte lost, changed or doubled.  At the end all load stops,
and the daemons have to be as they were before it; then come the faults that
end connections.

A pause is the longest round trip of a visitor's message while the fault was
on and until everything went on; the table has the 99th percentile of the
visitors and the longest, and the first as a multiple of the first row's.

Exit status 0 only when all that must hold held.  Needs root.
Environment: BUILD, the directory with the daemons; LOAD, the load program.
"""
import argparse
import os
import pathlib
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback

import faults
import network
import report
from run import Run

ROOT = pathlib.Path(__file__).resolve().parents[2]
PROGRAMS = ("ip", "ss", "nft", "nsenter", "ssh", "sshd", "ssh-keygen",
            "nginx", "curl")
PATHS = ":/usr/sbin:/sbin:/usr/local/sbin"


def arguments():
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n\n")[0],
        formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--list", action="store_true", help="the names of the faults")
    add("--only", metavar="NAME[,NAME]", help="these faults only")
    add("--without", default="", metavar="WORD[,WORD]",
        help="neither faults with a word in their name, nor random ones with "
        "it in their description, as --without upgrade")
    add("--short", action="store_true",
        help="each fault once and shorter, heartbeats each second")
    add("--minutes", type=float,
        help="of faults at random (10; 1 when --short)")
    add("--seed", type=int, help="of these, and of the contents")
    add("--build", type=pathlib.Path, metavar="DIR",
        help="where the daemons are (BUILD, or build)")
    add("--rate", type=float, default=40, metavar="MB",
        help="per second of all bulk streams together (40)")
    add("--unlimited", action="store_true",
        help="bulk streams as fast as they can")
    add("--both", action="store_true",
        help="bulk streams both ways instead of 8 up and 8 down")
    add("--interactive", type=int, default=200, metavar="N",
        help="visitors that send a message each 50 ms (200)")
    add("--download", type=int, metavar="MIB",
        help="size of the download (1024; 64 when --short)")
    add("--download-rate", default="1280k", metavar="RATE",
        help="its limit, in bytes per second (1280k)")
    add("--kill-with", choices=("ss", "nft"),
        help="how a carrier is killed: ss -K, or resets by nft where the "
        "kernel has no ss -K")
    add("--markdown", type=pathlib.Path, metavar="FILE",
        help="the table there too, with all notes")
    add("--logs", type=pathlib.Path, metavar="DIR",
        help="keep the logs, in a directory there")
    options = parser.parse_args()
    names = options.only.split(",") if options.only else list(faults.FAULTS)
    unknown = [name for name in names if name not in faults.FAULTS]
    if unknown:
        parser.error(f"no fault {', '.join(unknown)}; --list has them")
    options.without = [word for word in options.without.split(",") if word]
    options.faults = [f for f in faults.FAULTS.values() if f.name in names
                      and not any(w in f.name for w in options.without)]
    if options.minutes is None:
        options.minutes = 1 if options.short else 10
    if options.download is None:
        options.download = 64 if options.short else 1024
    if options.seed is None:
        options.seed = random.SystemRandom().randrange(10**6)
    build = options.build or ROOT / os.environ.get("BUILD", "build")
    options.build = build.resolve()
    options.load = (ROOT / os.environ.get("LOAD",
                                          "build/chaos/load")).resolve()
    return options


def say(text):
    print(time.strftime("%H:%M:%S ", time.gmtime()) + text, file=sys.stderr,
          flush=True)


def perform(run, wanted):
    """The load goes on through all faults of a kind."""
    kinds = {kind: [f for f in wanted if f.kind == kind]
             for kind in ("resumable", "restart", "drain")}
    run.start()
    if kinds["resumable"]:
        run.start_load()
        for fault in kinds["resumable"]:
            run.measure(fault)
        run.idle()
    if kinds["restart"]:
        run.start_load()
        for fault in kinds["restart"]:
            run.measure(fault)
        run.everybody(run.rows[-1])
        run.stop_load(run.rows[-1])
    for fault in kinds["drain"]:
        run.alone(fault)
    run.finish()


def check(options):
    if os.getuid() != 0:
        sys.exit("chaos: only root can make network namespaces")
    for path in (options.build / "proxy-server",
                 options.build / "remote-client", options.load):
        if not path.exists():
            sys.exit(f"chaos: {path} is not built: make chaos")
    os.environ["PATH"] = os.environ.get("PATH", "/usr/bin:/bin") + PATHS
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    if missing:
        sys.exit(f"chaos: not installed: {', '.join(missing)}; "
                 "./bootstrap.sh chaos installs it")


def ended(number, _frame):
    raise SystemExit(128 + number)


def main():
    options = arguments()
    if options.list:
        for fault in faults.FAULTS.values():
            print(f"{fault.name:16} {fault.title}")
        return 0
    check(options)
    network.isolate()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, ended)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if options.logs:
        options.logs.mkdir(parents=True, exist_ok=True)
    directory = pathlib.Path(tempfile.mkdtemp(
        prefix="port-proxy-chaos-", dir=options.logs)).resolve()
    say(f"seed {options.seed}, logs in {directory}")
    began, why = time.monotonic(), None
    run = Run(options, directory, network.Network(options.kill_with), say)
    try:
        perform(run, options.faults)
    except network.Failed as error:
        why = f"the run could not go on: {error}"
    except KeyboardInterrupt:
        why = "interrupted"
    except SystemExit as error:
        why = f"ended by signal {error.code - 128}"
    except Exception:
        why = traceback.format_exc()
    finally:
        run.close()
    if why is not None and run.rows:
        run.rows[-1].fail("not finished")
    title = (f"{options.build}, {'short, ' if options.short else ''}seed "
             f"{options.seed}, {os.cpu_count()} cores, "
             f"{time.monotonic() - began:.0f} s")
    good = why is None and not any(row.problems for row in run.rows)
    print(title)
    print(report.plain(run.rows), end="")
    if why is not None:
        print(f"FAILED: {why}")
    if options.markdown:
        options.markdown.write_text(report.markdown(run.rows, title) +
                                    (f"\nFAILED: {why}\n" if why else ""))
    if not good:
        print(f"logs: {directory}")
    elif not options.logs:
        shutil.rmtree(directory)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
