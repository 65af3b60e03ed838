"""Runs the control plane's processes for a parent, and outlives the parent just to clean up.

Whatever ends the parent (a return, an exception, Ctrl-C, SIGTERM, SIGKILL) closes the pipe that is
this process's standard input; at its end every child is killed, each by its own handle, and the
directory removed (one that is named as an argument is somebody else's, and stays). It has a session
of its own, so a terminal's Ctrl-C reaches the parent alone. The data is thrown away anyway, so
nothing is asked to end politely.

Protocol: one JSON object a line. The first line out is the directory. Then, for each request in,
one answer out:
    {"start": name, "argv": […], "log": path}   -> {}         both run in the directory
    {"signal": 19, "to": name}                  -> {}
    {"kill": name}                              -> {}         once it has ended
    {"poll": name}                              -> {"code": null while it runs, else an int}
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any


def main() -> None:
    """Serve requests until standard input ends."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # it ends when the parent does, and only then
    children: dict[str, subprocess.Popen[bytes]] = {}
    given = sys.argv[1:]
    directory = given[0] if given else tempfile.mkdtemp(prefix="headwater-")
    os.chdir(directory)
    try:
        _answer({"directory": directory})
        for line in sys.stdin:
            _answer(_handle(json.loads(line), children))
    except BrokenPipeError:
        pass  # the parent died between a request and its answer: that is an end like any other
    finally:
        for child in children.values():
            child.kill()
        for child in children.values():
            child.wait()
        os.chdir("/")
        if not given:
            shutil.rmtree(directory, ignore_errors=True)  # the janitor may be at it, too


def _handle(
    request: dict[str, Any], children: dict[str, subprocess.Popen[bytes]]
) -> dict[str, Any]:
    match request:
        case {"start": name, "argv": argv, "log": log}:
            with Path(log).open("ab") as output:
                children[name] = subprocess.Popen(
                    argv,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                )
            return {}
        case {"signal": number, "to": name}:
            children[name].send_signal(number)
            return {}
        case {"kill": name}:
            children[name].kill()
            children[name].wait()
            return {}
        case {"poll": name}:
            return {"code": children[name].poll()}
        case _:
            raise ValueError(f"unknown request: {request}")


def _answer(message: dict[str, Any]) -> None:
    print(json.dumps(message), flush=True)


if __name__ == "__main__":
    main()
