"""Choice of a member from the front of a run's folder, by its stored results or another setting's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from searchkit.errors import StudyError, unknown
from searchkit.records import Candidate, Trial
from searchkit.report.limits import Limit, of_study
from searchkit.report.pick import Picked, pick
from searchkit.report.results import CONSTANT_RATIO, UNREDUCED, Results
from searchkit.runs.folder import Folder, stored_rivals
from searchkit.storage.address import with_password


def picked(folder: Folder, where: Sequence[str], best: str | None, confident: bool, measured: str | None) -> Picked:
    """Pick from the front of a finished run, by the study's constraints and the limits in `where` (see `Limit`).

    measured: a setting that `searchkit measure` kept, whose values take the place of the run's own. StudyError where
    nothing meets the limits, or one of them cannot be told.
    """
    from searchkit.runs.stored import stored_results

    parsed = [Limit.parsed(text) for text in where]
    results = stored_results(folder)
    if measured is not None:
        results = in_setting(folder, results, measured)
    limits, untold = of_study(results.study, (*results.objectives, *results.front_objectives))
    return pick(results, [*limits, *parsed], best=best, confident=confident, untold=untold)


def member(
    folder: Folder,
    results: Results,
    key: str | None,
    where: Sequence[str] = (),
    best: str | None = None,
    confident: bool = False,
    measured: str | None = None,
) -> Trial:
    """Member of the front that the key names; without a key, what `picked` chooses. StudyError for an unknown key."""
    if key is None:
        return picked(folder, where, best, confident, measured).trial
    if where or best or confident or measured:
        raise StudyError("--key names the member; --where, --best, --confident and --measured choose one: give either")
    members = {each.key: each for each in results.members}
    if key not in members:
        raise StudyError(f"--key: {unknown('member of the front', key, members)}")
    return members[key]


def in_setting(folder: Folder, results: Results, name: str) -> Results:
    """Results with the values on the report split as measured in another setting, given by its fingerprint."""
    from searchkit.storage.store import Store

    record = folder.read()
    storage, start = with_password(record["storage"] or str(folder.journal)), f"{results.study['name']}-measured-"
    kept = {study.removeprefix(start): axes for study, axes in Store.held(storage).items() if study.startswith(start)}
    if name not in kept:
        raise StudyError(f"--measured: {unknown('setting', name, kept)}; `searchkit measure` adds one")
    stored = Store.open(storage, start + name, kept[name], create=False).trials()
    by_key = {trial.key: trial for trial in stored}
    objectives = {axis.name: axis for axis in kept[name]}
    compared = {UNREDUCED: (Candidate.of(baseline=UNREDUCED),), **stored_rivals(record)}
    families = {
        family: tuple(by_key[each.key] for each in group if each.key in by_key) for family, group in compared.items()
    }
    ratios = [member.key for member in results.members if results.chosen_as(member.key) == CONSTANT_RATIO]
    families[CONSTANT_RATIO] = tuple(by_key[key] for key in ratios if key in by_key)
    searched = tuple(objectives.pop(objective.name, objective) for objective in results.objectives)
    return replace(
        results,
        objectives=searched,
        front_objectives=tuple(objectives.values()),
        report={member.key: by_key[member.key] for member in results.members if member.key in by_key},
        baselines={name: group for name, group in families.items() if group},
    )
