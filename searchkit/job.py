"""The beginning of a submitted study, on the cluster: is all there that it needs?

`python -m searchkit.job`, in the package that `searchkit submit` sent; then `searchkit run` takes over.
"""

from __future__ import annotations

import sys
from pathlib import Path

from searchkit.errors import SearchkitError, StudyError
from searchkit.pack import Needs, differences, installed
from searchkit.submit import RECORD, Submitted, on_every_node


def check(needs: Needs) -> None:
    """StudyError in one line for the first thing that is not as needed."""
    for path in needs.paths:
        if not Path(path).exists():
            raise StudyError(f"{path}: the cluster does not see it; put it where all its nodes do, or --include it")
    if needs.runs:
        _check_shared(needs, Path(needs.runs, needs.study))
    for node, found in on_every_node(installed, list(needs.versions)).items():
        for difference in differences(needs.versions, found):
            raise StudyError(
                f"the node {node} {difference}: install the same on every node, or submit with --environment pip"
            )


def _check_shared(needs: Needs, folder: Path) -> None:
    try:
        same = Submitted.read(folder, own=False).job == needs.job
    except SearchkitError:
        same = False
    if not same:
        raise StudyError(
            f"{folder}: the cluster does not see the folder that the study was submitted from (or its {RECORD}); give "
            "--runs a folder that both share, or a URL such as s3://bucket/runs"
        )


def main() -> None:
    """Exit code 2 and one line if something is missing."""
    try:
        check(Needs.read(Path.cwd()))
    except SearchkitError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
