"""Benchmark of the page of a run: its size, and how long until somebody who opens it can select a member.

Made-up runs with the work of layers, a second setting and an example of words; needs Debian's chromium and the extra
`test`. `python_ms`: rendering, the best of 3. `interaction_ms`: from the start of the navigation until a click on a
point, made as soon as the document is there, is painted; median and maximum of 7 fresh contexts, the file cached.
"""

from __future__ import annotations

import gzip
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any, Final

from benchmarks.result import finish
from searchkit.report.page import page
from tests.browsers import CHROMIUM, chromium
from tests.report.pages import run, shown

CASES: Final = ((20, 600), (200, 600), (20, 20_000), (200, 20_000))  # members, trials
LAYERS: Final = 12
OPENINGS: Final = 7
CLICK: Final = """
window.interaction = new Promise((resolve) => addEventListener("DOMContentLoaded", () => {
    const point = document.querySelectorAll("figure [role=option]")[1];
    point.dispatchEvent(new MouseEvent("click", {bubbles: true}));
    requestAnimationFrame(() => setTimeout(() => resolve([point.getAttribute("aria-selected"), performance.now()])));
}));
"""


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, chromium() as browser:
        rows = [_measured(browser, Path(folder) / "report.html", *case) for case in CASES]
        version = browser.version
    finish("page", {"chromium": version, "layers": LAYERS, "openings": OPENINGS, "rows": rows})


def _measured(browser: Any, file: Path, members: int, trials: int) -> dict[str, Any]:
    made = shown(run(members, trials, layers=LAYERS))
    rendering = []
    for _ in range(3):
        start = time.perf_counter()
        text = page([made])
        rendering.append(1000 * (time.perf_counter() - start))
    file.write_text(text)
    interactions = [_interaction_ms(browser, file) for _ in range(OPENINGS)]
    return {
        "members": members,
        "trials": trials,
        "kb": round(len(text.encode()) / 1000, 1),
        "gzip_kb": round(len(gzip.compress(text.encode())) / 1000, 1),
        "python_ms": round(min(rendering)),
        "interaction_ms": round(statistics.median(interactions)),
        "interaction_ms_max": round(max(interactions)),
    }


def _interaction_ms(browser: Any, file: Path) -> float:
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    context.add_init_script(CLICK)
    tab = context.new_page()
    tab.goto(file.as_uri())
    selected, taken = tab.evaluate("window.interaction")
    if selected != "true":
        raise RuntimeError("the click selected nothing")
    context.close()
    return float(taken)


if __name__ == "__main__":
    if CHROMIUM is None:
        raise SystemExit("benchmarks.page needs Debian's chromium: apt-get install chromium")
    main()
