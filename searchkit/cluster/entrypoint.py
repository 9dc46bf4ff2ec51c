"""Start of a submitted study on the cluster: a check of what it needs, then `searchkit run` as on any machine.

`python -m searchkit.cluster.entrypoint run STUDY ...`, in the package that `searchkit submit` sent. Ray may unpack that
folder anew at any time (a second raylet of the same machine does), and a process whose working folder is gone cannot
load libraries: so the job works in a copy of its own.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from searchkit.cluster.package import Needs, differences, installed
from searchkit.cluster.submission import RECORD, Submitted
from searchkit.errors import SearchkitError, StudyError
from searchkit.evaluate.ray_cluster import on_every_node


def check(needs: Needs) -> None:
    """Raise StudyError in one line for the first requirement that is not met."""
    for path in needs.paths:
        if not Path(path).exists():
            raise StudyError(f"{path}: the cluster does not see it; put it where all its nodes do, or --include it")
    if needs.runs:
        _check_shared(needs, Path(needs.runs, needs.study))
    for node, versions_there in on_every_node(installed, list(needs.versions)).items():
        for difference in differences(needs.versions, versions_there):
            raise StudyError(
                f"the node {node} {difference}: install the same on every node, or submit with --environment pip"
            )


def _check_shared(needs: Needs, folder: Path) -> None:
    try:
        noted = Submitted.read(folder, own=False)
    except SearchkitError:
        noted = None
    if noted is not None and noted.job == needs.job and noted.stopped:
        raise StudyError(f"{needs.job} was stopped before it started; submit the study again")
    if noted is None or noted.job != needs.job:
        raise StudyError(
            f"{folder}: the cluster does not see the folder that the study was submitted from (or its {RECORD}); give "
            "--runs a folder that both share, or a URL such as s3://bucket/runs"
        )


def main(arguments: Sequence[str]) -> int:
    """Run `searchkit` with these arguments and return its exit code; 2 and one line if a requirement is not met."""
    with tempfile.TemporaryDirectory(prefix="searchkit-job-") as own:
        shutil.copytree(Path.cwd(), own, dirs_exist_ok=True)
        os.chdir(own)
        sys.path.insert(0, own)
        try:
            check(Needs.read(Path(own)))
        except SearchkitError as error:
            print(f"error: {error}", file=sys.stderr)
            return 2
        for number in (signal.SIGINT, signal.SIGTERM):  # they reach the command too, which decides
            signal.signal(number, lambda *_: None)
        code = subprocess.run([sys.executable, "-m", "searchkit", *arguments], cwd=own).returncode
        os.chdir(os.sep)
        return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
