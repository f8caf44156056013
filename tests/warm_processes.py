"""Children of the tests that find torch and Ultralytics imported: each is forked from a process that imported them once.

Starting an engine, a job or a check of a written file costs seconds of imports otherwise, and the tests start hundreds. A child from
here is a real process: with its own pid, group, pipes and environment, the exit status that its parent waits for, and children of its
own from here. What checks a written file, and a stranger who is given one, finds none of this program's modules. PYTHONPATH may have
folders of the test, with a `sitecustomize` that changes this program's modules as they are imported. `@pytest.mark.cold` has a test's
children start as for users, and so does a command that reads settings when it is imported (the app's colours and signs are not imported
here).

    parent --request, descriptors--> server --fork--> (ends at once) --fork--> child, a child of the parent: its nearest subreaper
"""

from __future__ import annotations

import array
import atexit
import contextlib
import ctypes
import functools
import gc
import importlib
import inspect
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, NoReturn

ROOT = Path(__file__).parent.parent
MODULES = ("tui_pruner", "tui_pruner.engine", "tui_pruner.jobs", "tui_pruner.jobs.scan", "tests.engine.faulty")
ISOLATED = ("reload_check.py", "stock_process.py", "stock_use.py")
"""Scripts that find none of this program's modules."""
TRAINING = "DDP"
"""The folder of the scripts that Ultralytics writes for trainings on several GPUs."""
IMPORTED = (
    "torch", "torchvision", "torch_pruning", "cv2", "yaml", "pydantic", "typer", "rich.console", "scipy.sparse", "PIL.Image",
    "ultralytics", "ultralytics.data.build", "ultralytics.engine.trainer", "ultralytics.models.yolo.detect", "ultralytics.nn.tasks",
    "ultralytics.utils.loss", "ultralytics.utils.nms", "tui_pruner.engine.server", "tui_pruner.engine.service", "tui_pruner.jobs.__main__",
    "tui_pruner.jobs.validate", "tui_pruner.jobs.training.finetune", "tui_pruner.jobs.plan", "tui_pruner.cli.main",
)  # fmt: skip
SAME = ("PYTHON", "LC_", "LANG", "LD_", "OMP_NUM", "CUDA", "YOLO_", "KMP_", "MKL_", "TUI_PRUNER_TESTS", "TUI_PRUNER_PRETENDED")
"""What the names of variables begin with that libraries read when they are imported: a child that has others starts cold."""
MAY_DIFFER = (
    "PYTHONUNBUFFERED", "PYTHONPATH", "PYTHONHASHSEED", "LD_LIBRARY_PATH", "YOLO_CONFIG_DIR", "YOLO_VERBOSE", "YOLO_OFFLINE",
    "YOLO_AUTOINSTALL",
)  # fmt: skip
SUBREAPER, DEATH_SIGNAL = 36, 1
REAP_EVERY = 0.1
COLD = "TUI_PRUNER_TESTS_COLD"
BEGUN: dict[str, str] = {}
"""The environment before the first test, which the server has: a test that starts the first child may have changed its own."""
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE, signal.SIGCHLD)


def heed_interrupts() -> None:
    """Let Ctrl-C mean something in a child even where the tests run in the background of a shell, which has it ignored."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


class Server:
    """The other end: forks children of this process on request."""

    def __init__(self, connection: socket.socket, environment: Mapping[str, str]) -> None:
        self._connection, self._environment, self._lock = connection, dict(environment), threading.Lock()
        ctypes.CDLL(None).prctl(SUBREAPER, 1, 0, 0, 0)

    def suits(self, environment: Mapping[str, str]) -> bool:
        """Whether a child's environment gives the same imports."""
        return imported_with(environment) == imported_with(self._environment) and not hides_what_is_imported(environment)

    def start(self, request: Mapping[str, Any], descriptors: Sequence[int]) -> int:
        """Return the pid of a new child of this process."""
        with self._lock:
            content = json.dumps(request).encode()
            lengths = array.array("i", descriptors)
            self._connection.sendmsg([len(content).to_bytes(8, "big")], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, lengths)])
            self._connection.sendall(content)
            answer = self._connection.recv(8)
        if len(answer) < 8:
            raise OSError("the server of warm processes is gone")
        return int.from_bytes(answer, "big")


def ours(arguments: Any) -> bool:
    """Whether a command is this program's: its console script, engine or job, the check of a written file, or a training's script."""
    words = [os.fsdecode(word) for word in arguments] if isinstance(arguments, (list, tuple)) else []
    if len(words) < 2 or words[0] != sys.executable:
        return False
    is_training = words[1].endswith(".py") and Path(words[1]).parent.name == TRAINING
    return is_training or (words[1] == "-m" and words[2] in MODULES) or any(word.endswith(ISOLATED) for word in words)


def imported_with(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables that imports depend on."""
    return {name: value for name, value in environment.items() if name.startswith(SAME) and name not in MAY_DIFFER}


def own_folders(environment: Mapping[str, str]) -> list[Path]:
    """The folders of PYTHONPATH that are not this project."""
    return [Path(entry) for entry in environment.get("PYTHONPATH", "").split(os.pathsep) if entry and Path(entry) != ROOT]


def hides_what_is_imported(environment: Mapping[str, str]) -> bool:
    """Whether a folder of PYTHONPATH has another version of a package that a warm process has imported."""
    names = {name.partition(".")[0] for name in IMPORTED}
    return any((folder / name).exists() or (folder / f"{name}.py").exists() for folder in own_folders(environment) for name in names)


def is_customised() -> bool:
    """Whether Python would import a `sitecustomize` from a folder of PYTHONPATH as it starts."""
    return any((folder / "sitecustomize.py").exists() for folder in own_folders(os.environ))


def install(connect: Callable[[], Server]) -> None:
    """Have `subprocess.Popen`, and asyncio's, ask a server for the commands that suit it; it is reached for when the first one comes."""
    started: Any = subprocess.Popen._execute_child  # type: ignore[attr-defined]
    signature = inspect.signature(started)
    connect = functools.partial(_once, threading.Lock(), functools.cache(connect))

    @functools.wraps(started)
    def start(self: Any, *given: Any, **named: Any) -> None:
        asked = signature.bind(self, *given, **named).arguments
        environment = dict(os.environ) if asked["env"] is None else {os.fsdecode(k): os.fsdecode(v) for k, v in asked["env"].items()}
        plain = asked["preexec_fn"] in (None, heed_interrupts) and not (asked["pass_fds"] or asked["shell"] or asked["executable"])
        if not plain or COLD in os.environ or not ours(asked["args"]) or not connect().suits(environment):
            started(self, *given, **named)
            return
        ends = [asked[name] for name in ("p2cread", "p2cwrite", "c2pread", "c2pwrite", "errread", "errwrite")]
        request = {
            "words": [os.fsdecode(word) for word in asked["args"]],
            "environment": environment,
            "folder": os.fspath(asked["cwd"] or Path.cwd()),
            "session": bool(asked["start_new_session"]),
        }
        standard = [end if end != -1 else own for own, end in enumerate((ends[0], ends[3], ends[5]))]
        self.pid = connect().start(request, standard)
        self._child_created = True
        self._close_pipe_fds(*ends)

    subprocess.Popen._execute_child = start  # type: ignore[attr-defined]


def _once(lock: threading.Lock, connect: Callable[[], Server]) -> Server:
    with lock:
        return connect()


def begin() -> None:
    """Let this process have a server as soon as it starts a child that suits, and reap what its children leave behind."""
    BEGUN.update(os.environ)
    if sys.platform.startswith("linux"):
        install(connected)


def forget_changes() -> None:
    """Have the variables that imports depend on as they were before the first test; libraries leave some."""
    begun = imported_with(BEGUN)
    for name in imported_with(os.environ).keys() - begun.keys():
        del os.environ[name]
    os.environ.update(begun)


def connected() -> Server:
    """Start a server for this process."""
    mine, theirs = socket.socketpair()
    environment = {**BEGUN, "OMP_WAIT_POLICY": "PASSIVE", "YOLO_OFFLINE": "true", "YOLO_AUTOINSTALL": "false", "YOLO_VERBOSE": "false"}
    command = [sys.executable, "-m", "tests.warm_processes", str(theirs.fileno())]
    started: Future[None] = Future()

    def live() -> None:
        """Start it from a thread that lasts: the server is killed with the thread that it was started from (PR_SET_PDEATHSIG)."""
        try:
            subprocess.Popen(command, cwd=ROOT, pass_fds=[theirs.fileno()], env=environment)
        except BaseException as error:
            started.set_exception(error)
            return
        started.set_result(None)
        reap()

    threading.Thread(target=live, name="reap", daemon=True).start()
    started.result()
    theirs.close()
    return Server(mine, environment)


def reap() -> None:
    """Wait for processes that were handed to us as the next ancestor of a killed child: members of other groups, not their leaders."""
    again, own, children = threading.Event(), os.getpgrp(), Path(f"/proc/self/task/{os.getpid()}/children")
    while True:
        # whatever a test has replaced meanwhile, such as `Path.open`: the server is killed with this thread
        with contextlib.suppress(Exception):
            # a cold test may count the descriptors of this process
            for pid in map(int, children.read_text().split() if COLD not in os.environ else ()):
                reap_one(pid, own)
        again.wait(REAP_EVERY)  # not `time.sleep`, which tests replace


def reap_one(pid: int, own: int) -> None:
    """Wait for a child that has ended, unless it belongs to our group or leads its own."""
    with contextlib.suppress(OSError, ValueError):
        state, _, group = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[:3]
        if state == "Z" and int(group) not in (own, pid):
            os.waitpid(pid, os.WNOHANG)


def serve(connection: socket.socket) -> dict[str, Any]:
    """Fork a child for each request, and return in it with what it shall do; ends with the connection."""
    while True:
        head, ancillary, _, _ = connection.recvmsg(8, socket.CMSG_SPACE(3 * 4))
        if len(head) < 8:
            os._exit(0)
        descriptors = array.array("i", ancillary[0][2])
        content = b""
        while len(content) < int.from_bytes(head, "big"):
            content += connection.recv(1 << 20)
        told, tell = os.pipe()
        if (between := os.fork()) == 0:
            between = os.getpid()
            if (child := os.fork()) != 0:
                os.write(tell, child.to_bytes(8, "big"))
                os._exit(0)
            while os.getppid() == between:
                time.sleep(0.0005)
            connection.detach()
            request = json.loads(content)
            if request["session"]:
                os.setsid()
            os.write(tell, b"!")
            return {**request, "descriptors": list(descriptors)}
        os.close(tell)
        os.waitpid(between, 0)  # the child has its new parent from now on
        pid = os.read(told, 8)
        os.read(told, 1)  # and its own group, which may be killed as soon as its number is known
        connection.sendall(pid)
        for descriptor in (*descriptors, told):
            os.close(descriptor)


def become(request: Mapping[str, Any]) -> None:
    """Take over streams, folder, environment and group; a server of its own is forked off first."""
    for number, descriptor in enumerate(request["descriptors"]):
        os.dup2(descriptor, number + 100)
    for number in range(3):
        os.dup2(number + 100, number)
    os.closerange(3, 256)
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN if number == signal.SIGPIPE else signal.SIG_DFL)
    heed_interrupts()
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    tempfile.tempdir = None
    unbuffered = bool(os.environ.get("PYTHONUNBUFFERED"))
    sys.stdin = sys.__stdin__ = open(0, encoding="utf-8", errors="surrogateescape", closefd=False)  # type: ignore[misc]  # noqa: SIM115
    for name, number in (("stdout", 1), ("stderr", 2)):
        lines = 1 if os.isatty(number) or number == 2 else -1
        stream = open(number, "w", buffering=lines, encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115
        stream.reconfigure(write_through=unbuffered)
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)


def fork_server(environment: Mapping[str, str]) -> dict[str, Any] | None:
    """Fork a server for the children of this process, which goes on; return in one of those children with what it shall do."""
    mine, theirs = socket.socketpair()
    if os.fork() == 0:
        mine.close()
        nowhere = os.open(os.devnull, os.O_RDWR)
        for number in range(3):
            os.dup2(nowhere, number)
        return serve(theirs)
    theirs.close()
    server = Server(mine, environment)
    install(lambda: server)
    return None


def main() -> None:
    """Import, then serve; every child runs what it was asked for as if it had been started so."""
    connection = socket.socket(fileno=int(sys.argv[1]))
    ctypes.CDLL(None).prctl(DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0)
    for name in IMPORTED:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()
    imported, path = dict(os.environ), [entry for entry in sys.path if entry not in ("", str(ROOT))]
    request: dict[str, Any] | None = serve(connection)
    while request is not None:
        become(request)
        words = request["words"]
        isolated = any(word.endswith(ISOLATED) for word in words)
        sys.path[:] = (
            path if isolated else [request["folder"], *(p for p in os.environ.get("PYTHONPATH", "").split(os.pathsep) if p), *path]
        )
        request = None if isolated else fork_server(imported)
    customised = not isolated and is_customised()
    for name in [name for name in sys.modules if (isolated or customised) and name.partition(".")[0] == "tui_pruner"]:
        del sys.modules[name]
    if customised:
        sys.modules.pop("sitecustomize", None)
        importlib.import_module("sitecustomize")
    sys.modules.pop("tests.warm_processes", None)
    sys.modules.pop("tui_pruner.jobs.__main__", None)
    sys.orig_argv = words
    end(run, words)


def run(words: Sequence[str]) -> None:
    """Run a module or a script as Python does it for these words of a command."""
    if words[1] == "-m":
        sys.argv[:] = words[2:]
        runpy.run_module(words[2], run_name="__main__", alter_sys=True)
        return
    at = next(number for number, word in enumerate(words) if word.endswith(".py"))
    sys.argv[:] = words[at:]
    runpy.run_path(words[at], run_name="__main__")


def end(work: Callable[..., None], *arguments: Any) -> NoReturn:
    """Do the work, and end with its exit status as Python does, but for taking everything that was imported apart: that costs a second."""
    status: Any = 0
    try:
        work(*arguments)
    except SystemExit as error:
        status = error.code
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    except BaseException:
        traceback.print_exc()
        status = 1
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    if isinstance(status, str):
        print(status, file=sys.stderr)
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(status if isinstance(status, int) else 0 if status is None else 1)


if __name__ == "__main__":
    main()
