"""Several commands of searchkit one after the other in one process, since each process takes seconds to start."""

from __future__ import annotations

import io
import json
import shlex
import sys
import time
from contextlib import redirect_stderr, redirect_stdout
from typing import NamedTuple


class Said(NamedTuple):
    """What a command answered, and how long that took."""

    code: int
    stdout: str
    stderr: str
    seconds: float


def _answer(command: str) -> Said:
    from searchkit.cli.app import main

    sys.argv, code, begun = shlex.split(command), 0, time.monotonic()
    with redirect_stdout(io.StringIO()) as out, redirect_stderr(io.StringIO()) as err:
        try:
            main()
        except SystemExit as ended:
            code = int(ended.code or 0)
    return Said(code, out.getvalue(), err.getvalue(), time.monotonic() - begun)


if __name__ == "__main__":
    print(json.dumps([_answer(command) for command in sys.argv[1:]]))
