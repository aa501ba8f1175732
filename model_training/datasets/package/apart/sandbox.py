"""The process that runs examples of a foreign package. Standard library only.

Started by file path (`python -I sandbox.py`), so that nothing of ours is importable in it. It reads one JSON request a line
and answers with JSON lines. Expressions run in forked children with limits on memory, CPU time, file size and file handles,
in an empty directory, without network, processes or writes elsewhere. That keeps accidents away (an endless iterator, an
example that deletes files); it is no wall against malice: whoever installs a package runs its code anyway.
"""

# pyright: basic
from __future__ import annotations

import importlib
import json
import os
import resource
import select
import signal
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
from mt_literals import literal

MEMORY_BYTES = 256 << 20  # for one expression, beyond what the imported package already takes
CPU_SECONDS = 1.0  # for one expression
KILL_CPU_SECONDS = 1  # where the alarm does not get through (a loop in C), the kernel ends the child
WALL_SECONDS = 30.0  # for one expression, for what waits without using CPU time
CLOCK_SHIFT = 400 * 86_400 + 5 * 3600  # seconds that the second run's clock is ahead
DENIED = (
    "socket.connect",
    "socket.bind",
    "socket.getaddrinfo",
    "subprocess.Popen",
    "os.system",
    "os.exec",
    "os.posix_spawn",
    "os.fork",
    "os.forkpty",
    "os.kill",
    "os.killpg",
    "signal.pthread_kill",
    "ctypes.dlopen",
    "webbrowser.open",
    "builtins.input",
    "builtins.breakpoint",
    "code.__new__",
    "pty.spawn",
    "syslog.syslog",
    "sys.settrace",
    "faulthandler",
)
WRITES = {
    "os.remove",
    "os.rename",
    "os.rmdir",
    "os.mkdir",
    "os.link",
    "os.symlink",
    "os.truncate",
    "os.chmod",
    "os.chown",
    "os.utime",
    "shutil.rmtree",
    "shutil.move",
    "shutil.copyfile",
    "shutil.copytree",
    "os.setxattr",
}


class OutOfTime(BaseException):
    """An expression used up its CPU time. Not an `Exception`, so that examples do not catch it."""


def main() -> None:
    """Serve requests until the input ends. The first line says what to import, every other holds a batch of examples."""
    config = json.loads(sys.stdin.readline())
    sys.path[:] = config["sys_path"]
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 1)  # what a package prints goes nowhere: our standard output is the protocol
    os.dup2(null, 2)
    time.sleep = refuse_sleep
    if config["shift_clock"]:
        shift_clock()
    for name in config["modules"]:
        try:
            importlib.import_module(name)
        except BaseException:
            continue
    for line in sys.stdin:
        run_batch(json.loads(line), out)
        out.write(json.dumps({"done": True}) + "\n")
        out.flush()


def refuse_sleep(_seconds: float) -> None:
    """Takes the place of `time.sleep`: an example that waits holds everything up and mostly shows the time."""
    raise PermissionError("time.sleep is not allowed in an example")


def shift_clock() -> None:
    """Let the clock run ahead, so that values which depend on the date differ from the first run's."""
    import datetime

    real_time, real_ns = time.time, time.time_ns
    time.time = lambda: real_time() + CLOCK_SHIFT
    time.time_ns = lambda: real_ns() + CLOCK_SHIFT * 10**9

    class Shifted(datetime.datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return super().fromtimestamp(time.time(), tz)

        @classmethod
        def utcnow(cls) -> Any:
            return super().fromtimestamp(time.time(), datetime.UTC).replace(tzinfo=None)

        @classmethod
        def today(cls) -> Any:
            return cls.now()

    class ShiftedDate(datetime.date):
        @classmethod
        def today(cls) -> Any:
            return super().fromtimestamp(time.time())

    datetime.datetime = Shifted
    datetime.date = ShiftedDate


def memory_in_use() -> int:
    """Address space of this process in bytes."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[0]) * resource.getpagesize()
    except OSError:
        return 1 << 30


def run_batch(examples: list[dict[str, Any]], out: Any) -> None:
    """Run examples one after the other in a forked child; after a crash or a hang the next child takes the rest."""
    position = 0
    while position < len(examples):
        position += run_some(examples[position:], out)


def run_some(examples: list[dict[str, Any]], out: Any) -> int:
    """Fork, relay results, and return how many examples are dealt with: the one that hung or crashed included."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        try:
            work(examples, os.fdopen(writer, "w", encoding="utf-8"))
        finally:
            os._exit(0)
    os.close(writer)
    done, buffer, why = 0, b"", "crashed"
    try:
        while done < len(examples):
            ready, _, _ = select.select([reader], [], [], WALL_SECONDS)
            if not ready:
                why = "timeout"
                break
            data = os.read(reader, 65_536)
            if not data:
                break
            buffer += data
            *lines, buffer = buffer.split(b"\n")
            for line in lines:
                out.write(line.decode() + "\n")
                done += 1
    finally:
        os.close(reader)
        if why == "timeout" or done == len(examples):
            os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGXCPU:
        why = "timeout"
    if done < len(examples):
        out.write(json.dumps({"id": examples[done]["id"], "error": why}) + "\n")
        done += 1
    out.flush()
    return done


def work(examples: list[dict[str, Any]], out: Any) -> None:
    """In the forked child: set the limits, then run each example and write one line for it."""
    limit_resources()
    keep = os.getcwd()
    sys.addaudithook(lambda event, args: guard(event, args, keep))
    signal.signal(signal.SIGVTALRM, on_alarm)
    for example in examples:
        try:
            result = {"id": example["id"], **run_one(example)}
        except OutOfTime:
            result = {"id": example["id"], "error": "timeout"}
        except MemoryError:
            result = {"id": example["id"], "error": "memory"}
        except BaseException as error:
            text = f"{type(error).__name__}: {error}".splitlines()[0][:200]
            result = {"id": example["id"], "error": "raised", "detail": text}
        finally:
            signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        out.write(json.dumps(result) + "\n")
        out.flush()


def limit_resources() -> None:
    """Limits of a child that runs examples."""
    memory = memory_in_use() + MEMORY_BYTES
    for what, value in (
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_FSIZE, 1 << 20),
        (resource.RLIMIT_NOFILE, 64),
    ):
        _, hard = resource.getrlimit(what)
        resource.setrlimit(what, (value if hard == resource.RLIM_INFINITY else min(value, hard), hard))


def allow_cpu_seconds(seconds: int) -> None:
    """The kernel ends this process when it has used that much CPU time more than now."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    soft = int(used.ru_utime + used.ru_stime) + 1 + seconds
    resource.setrlimit(
        resource.RLIMIT_CPU, (soft if hard == resource.RLIM_INFINITY else min(soft, hard), hard)
    )


def on_alarm(*_: Any) -> None:
    """The CPU-time alarm of one expression."""
    raise OutOfTime


def guard(event: str, args: tuple[Any, ...], keep: str) -> None:
    """Refuse what an example has no business doing."""
    if event.startswith(DENIED):
        raise PermissionError(f"{event} is not allowed in an example")
    if event in WRITES or (event == "open" and len(args) > 1 and writes(args[1], args[2])):
        path = args[0]
        inside = isinstance(path, (str, bytes)) and os.path.abspath(os.fsdecode(path)).startswith(keep)
        if not inside and path != os.devnull:
            raise PermissionError(f"{event} outside the working directory is not allowed in an example")


def writes(mode: Any, flags: Any) -> bool:
    """Whether an `open` event asks for writing."""
    if isinstance(mode, str) and set(mode) & set("wax+"):
        return True
    return isinstance(flags, int) and bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC))


def run_one(example: dict[str, Any]) -> dict[str, Any]:
    """Evaluate one expression twice in fresh namespaces; its value must be a literal and both times the same."""
    texts = []
    for _ in range(2):
        allow_cpu_seconds(KILL_CPU_SECONDS)
        signal.setitimer(signal.ITIMER_VIRTUAL, CPU_SECONDS)
        namespace: dict[str, Any] = {"__name__": "example"}
        for statement in [*example["imports"], *example.get("setup", [])]:
            exec(compile(statement, "<example>", "exec"), namespace)  # nosec B102 # this is the sandbox
        value = eval(compile(example["expression"], "<example>", "eval"), namespace)  # nosec B307 # this is the sandbox
        try:
            texts.append(literal(value))
        except ValueError as error:
            return {"error": "not_literal", "detail": str(error)}
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
    if texts[0] != texts[1]:
        return {"error": "unstable"}
    return {"value": texts[0]}


if __name__ == "__main__":
    main()
