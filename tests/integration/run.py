#!/usr/bin/env python3
"""Run the integration scenarios, each in a process of its own.

    run.py [-j N] [-l] [NUMBER | FIRST-LAST | WORD]...
"""

import argparse
import importlib
import os
import pathlib
import shutil
import signal
import sys
import tempfile
import time
import traceback

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
sys.dont_write_bytecode = True

import harness                                              # noqa: E402

LIMIT = 120 * harness.FACTOR            # seconds for one scenario
GRACE = 15 * harness.FACTOR             # for its clean-up behind that
PASSED, FAILED, SKIPPED = 0, 1, 2


def load():
    for path in sorted(HERE.glob("scenarios_*.py")):
        importlib.import_module(path.stem)


def chosen(words):
    for number in sorted(harness.SCENARIOS):
        title, function = harness.SCENARIOS[number]
        text = f"{title} {function.__name__} {function.__module__}".lower()
        if not words or any(_selects(w, number, text) for w in words):
            yield number


def _selects(word, number, text):
    first, dash, last = word.partition("-")
    if first.isdigit() and (last.isdigit() if dash else True):
        return int(first) <= number <= int(last or first)
    return word.lower() in text


def run_one(number, directory, report):
    """In the child: run it, write the report, return the exit code."""
    def out_of_time(_signal, _frame):
        raise harness.OutOfTime()

    title, function = harness.SCENARIOS[number]
    wrong, result = [], PASSED
    signal.signal(signal.SIGALRM, out_of_time)
    signal.signal(signal.SIGTERM, out_of_time)
    signal.setitimer(signal.ITIMER_REAL, LIMIT)
    test = harness.Test(directory / "files", directory / "pids")
    test.dir.mkdir()
    try:
        function(test)
    except harness.Skipped as error:
        result = SKIPPED
        report.write(f"{error}\n")
    except harness.Failed as error:
        wrong.append(str(error))
        frames = traceback.extract_tb(error.__traceback__)
        wrong += [f"at {pathlib.Path(f.filename).name}:{f.lineno}: {f.line}"
                  for f in frames if "scenarios_" in f.filename]
    except harness.OutOfTime:
        wrong.append(f"stopped: the limit of {LIMIT} s, or asked to stop\n" +
                     traceback.format_exc())
    except Exception:
        wrong.append(traceback.format_exc())
    signal.setitimer(signal.ITIMER_REAL, 0)
    try:
        wrong += test.close()
    except Exception:
        wrong.append(traceback.format_exc())
    if wrong:
        result = FAILED
        report.write("\n".join(wrong) + "\n" + test.tails() +
                     f"\nkept: {directory}\n")
    return result


def start(number):
    title, _ = harness.SCENARIOS[number]
    directory = pathlib.Path(tempfile.mkdtemp(prefix=f"port-proxy-{number}-"))
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        result = FAILED
        try:
            with open(directory / "report", "w", encoding="utf-8") as report:
                result = run_one(number, directory, report)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(result)
    return {"pid": pid, "number": number, "title": title,
            "directory": directory, "since": time.monotonic()}


def kill_left(job):
    """What a scenario's process that was killed could not end itself."""
    try:
        pids = (job["directory"] / "pids").read_text().split()
    except OSError:
        return
    for pid in pids:
        harness._kill_group(int(pid))


def finish(job, status):
    code = os.waitstatus_to_exitcode(status)
    seconds = time.monotonic() - job["since"]
    word = {PASSED: "ok", SKIPPED: "skip"}.get(code, "FAIL")
    print(f"{job['number']:4} {word:4} {seconds:6.1f} s  {job['title']}")
    path = job["directory"] / "report"
    text = path.read_text("utf-8") if path.exists() else ""
    if code not in (PASSED, FAILED, SKIPPED):
        kill_left(job)
        text += (f"the scenario's process ended with {code}\n"
                 f"kept: {job['directory']}\n")
    if text:
        print("     " + text.rstrip("\n").replace("\n", "\n     "))
    if code in (PASSED, SKIPPED):
        shutil.rmtree(job["directory"], ignore_errors=True)
    sys.stdout.flush()
    return code if code in (PASSED, SKIPPED) else FAILED


def overdue(jobs):
    for job in jobs.values():
        if time.monotonic() - job["since"] > LIMIT + GRACE:
            os.kill(job["pid"], signal.SIGKILL)


def stop_all(jobs):
    for job in jobs.values():
        os.kill(job["pid"], signal.SIGTERM)
    for job in jobs.values():
        os.waitpid(job["pid"], 0)
        kill_left(job)


def run_all(numbers, at_once):
    waiting, jobs, results = list(numbers), {}, []
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        while waiting or jobs:
            while waiting and len(jobs) < at_once:
                job = start(waiting.pop(0))
                jobs[job["pid"]] = job
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid:
                results.append(finish(jobs.pop(pid), status))
                continue
            overdue(jobs)
            time.sleep(0.01)
    except KeyboardInterrupt:
        stop_all(jobs)
        raise
    return results


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-j", type=int, default=1, metavar="N")
    parser.add_argument("-l", action="store_true", help="only list them")
    parser.add_argument("words", nargs="*")
    options = parser.parse_args()
    load()
    numbers = list(chosen(options.words))
    if not numbers:
        parser.error("no scenario has that number or word")
    if options.l:
        for number in numbers:
            print(f"{number:4} {harness.SCENARIOS[number][0]}")
        return 0
    try:
        results = run_all(numbers, options.j)
    except KeyboardInterrupt:
        print("integration: stopped")
        return 1
    skipped = results.count(SKIPPED)
    print(f"integration: {results.count(PASSED)} passed, "
          f"{results.count(FAILED)} failed" +
          (f", {skipped} skipped" if skipped else ""))
    return 1 if results.count(FAILED) else 0


if __name__ == "__main__":
    sys.exit(main())
