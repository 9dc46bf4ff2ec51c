"""Where the numbers of a page come from: the study, its environments, and how long it took."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from searchkit.report.environment import environments
from searchkit.report.page.markup import Markup, lines, tag
from searchkit.report.page.shown import Shown


def provenance(shown: Shown) -> Markup:
    """Section of one run."""
    results = shown.results
    facts = {
        "folder": shown.folder,
        "fingerprint of the study": results.study.get("fingerprint"),
        "seed": results.study.get("seed"),
        "evaluations": f"{len(results.evaluations)}, of {len(results.trials)} candidates asked for",
        **{f"seconds: {phase}": f"{seconds:.0f}" for phase, seconds in results.seconds.items()},
        **{f"texts in both splits: {pair}": count for pair, count in results.duplicates.items()},
    }
    measured = environments([*results.trials, *results.on_report])
    for view in shown.settings.values():
        measured |= environments(view.on_report)
    return tag(
        "section",
        tag("h2", f"Where the numbers of {shown.name} come from"),
        _facts(facts),
        [
            tag("details", tag("summary", f"Environment {fingerprint}"), _facts(values))
            for fingerprint, values in measured.items()
        ],
        tag("details", tag("summary", "The study"), tag("pre", lines(_indented(results.study)), tabindex=0)),
    )


def _facts(facts: Mapping[str, Any]) -> Markup:
    known = ((name, value) for name, value in facts.items() if value is not None)
    return tag("dl", [(tag("dt", name), tag("dd", str(value))) for name, value in known])


def _indented(study: Mapping[str, Any]) -> str:
    return json.dumps(study, indent=2, default=str, ensure_ascii=True)
