"""Surrogate: it finds the front in fewer evaluations than NSGA-II, and its models say what they know."""

from __future__ import annotations

import numpy as np
import pytest

from searchkit.engines import NSGA2, EngineConfig, Surrogate
from searchkit.engines.gaussian import Features, GaussianProcess
from searchkit.engines.outlook import Outlook
from searchkit.errors import StudyError
from searchkit.front import hypervolume_curve, losses
from searchkit.objective import Objective
from searchkit.records import Candidate, Estimate, Failed, Measured, Pruned, Trial
from searchkit.space import Choice, Integer, Lengths, Space, Thresholds

ACCURACY = Objective("accuracy", "fraction", "higher", lambda subject: Estimate(0.0, None, 1))
MACS = Objective("macs", "of unreduced", "lower", lambda subject: Estimate(0.0, None, 1), traced=True)
OBJECTIVES = [ACCURACY, MACS]
DEEP = Space(Lengths(levels=8, layers=12))


def judged(candidate: Candidate, noise: float = 0.0) -> Measured:
    """Every layer saturates at its own rate; a token costs the same in all."""
    kept = np.array(candidate["lengths"], dtype=float)
    rates = np.linspace(3, 9, len(kept))
    accuracy = float((1 - np.exp(-rates * kept)).mean())
    error = noise * float(np.random.default_rng(int(candidate.key, 36) % 2**32).standard_normal()) if noise else 0.0
    return Measured(
        {"accuracy": Estimate(accuracy + error, noise or None, 1), "macs": Estimate(float(kept.mean()), None, 1)}
    )


def search(config: EngineConfig, space: Space, evaluations: int, seed: int) -> list[Trial]:
    engine, trials = config.start(space, OBJECTIVES, seed), list[Trial]()
    while len(trials) < evaluations:
        done = [Trial(ask, judged(ask.candidate), 0.0) for ask in engine.ask(config.population)]
        engine.tell(done)
        trials += done
    return trials


def volume(trials: list[Trial]) -> float:
    points = losses([trial.outcome.estimates for trial in trials if isinstance(trial.outcome, Measured)], OBJECTIVES)
    return float(hypervolume_curve(points, (0.0, 1.01))[-1])


@pytest.mark.parametrize("space", [Space(Lengths(levels=6, layers=4)), DEEP], ids=["listed", "too large to list"])
def test_it_finds_more_than_nsga2_with_the_same_evaluations(space: Space) -> None:
    ours, theirs = (
        [volume(search(engine, space, 40, seed)) for seed in range(2)] for engine in (Surrogate(), NSGA2(8))
    )
    assert min(ours) > max(theirs)


def test_a_model_interpolates_and_doubts_where_it_knows_nothing() -> None:
    rng = np.random.default_rng(0)
    x = rng.random((40, 2))
    y = np.sin(3 * x[:, 0]) + x[:, 1] ** 2
    model = GaussianProcess(x, y, 1e-8, np.zeros(40), np.array([[0.0, 1.0], [0.0, 1.0]]))
    assert model.predict(x)[0] == pytest.approx(y, abs=1e-2)
    near, far = model.predict(np.array([[0.5, 0.5], [5.0, 5.0]]))[1]
    assert far > 5 * near


def test_95_percent_of_unseen_values_lie_within_its_intervals() -> None:
    """Of a function in which the layers matter alike, which the priors do not expect."""
    rng = np.random.default_rng(0)
    genomes = rng.permutation(np.unique(DEEP.sample(300, rng), axis=0))[:160]
    outlook = Outlook(DEEP, OBJECTIVES)
    for genome in genomes[:80]:
        outlook.tell(genome, judged(DEEP.decode(genome), noise=0.01).estimates)
    mean, deviation = outlook.view().predict(genomes[80:])
    truth = losses([judged(DEEP.decode(genome)).estimates for genome in genomes[80:]], OBJECTIVES)
    inside = np.abs(mean - truth)[:, 0] <= 1.96 * deviation[:, 0]
    assert inside.mean() > 0.85
    assert np.abs(mean - truth)[:, 1].max() < 0.02  # the cost follows from the lengths


def test_features_leave_out_what_never_varies() -> None:
    assert Features(Space(Lengths(levels=4, layers=3))).width == 3
    assert Features(Space(Lengths(levels=4, layers=3), last_idle=True)).width == 2
    assert Features(Space(Lengths(levels=4, layers=3, last=0.25), last_idle=True)).width == 2
    mixed = Space(
        Lengths(levels=4, layers=3), Thresholds("probability", levels=[0.5], layers=3), Choice("fate", ("a", "b"))
    )
    assert Features(mixed).width == 3 + 3 + 2
    values = Features(mixed).of(np.array(list(mixed.genomes())))
    assert values.min() >= -1
    assert values.max() <= 1


def test_failures_are_no_measurements() -> None:
    engine = Surrogate(initial=4).start(DEEP, OBJECTIVES, 0)
    for _ in range(4):
        asks = engine.ask(4)
        engine.tell([Trial(ask, Failed("nan", "no number"), 0.0) for ask in asks])
    assert len({ask.key for ask in engine.ask(4)}) == 4


@pytest.mark.parametrize("value", [0, -1, 1.5, True])
def test_sizes_are_checked(value: object) -> None:
    with pytest.raises(StudyError, match="population"):
        Surrogate(population=value)  # type: ignore[arg-type]
    with pytest.raises(StudyError, match="initial"):
        Surrogate(initial=1)


def test_one_objective_and_three_are_searched_too() -> None:
    space = Space(Lengths(levels=5, layers=3), Integer("batch", 1, 4))
    third = Objective("size", "1", "lower", lambda subject: Estimate(0.0, None, 1))
    for axes in ([MACS], [*OBJECTIVES, third]):
        engine = Surrogate(initial=5).start(space, axes, 0)
        for _ in range(4):
            trials = []
            for ask in engine.ask(4):
                estimates = {
                    **judged(ask.candidate).estimates,
                    "size": Estimate(float(ask.candidate["batch"]), None, 1),
                }  # type: ignore[arg-type]
                trials.append(Trial(ask, Measured(estimates), 0.0))
            engine.tell(trials)
        assert len(engine.ask(4)) == 4


def test_what_lost_a_race_tells_what_was_seen() -> None:
    """A candidate that was seen to be bad on a part of the examples makes its neighbours less promising."""
    space = Space(Lengths(levels=8, layers=4))
    bad = space.decode(np.array([6, 5, 3, 2]))
    neighbour = np.array([[6, 5, 3, 3]])
    means = []
    for seen in ({}, {"accuracy": Estimate(0.2, 0.02, 200)}):
        outlook = Outlook(space, OBJECTIVES)
        for genome in space.sample(12, np.random.default_rng(0)):
            outlook.tell(genome, {**judged(space.decode(genome), 0.01).estimates})
        outlook.tell_part(space.encode(bad), seen)
        means.append(outlook.view().predict(neighbour)[0][0, 0])
    assert means[1] > means[0] + 0.2


def test_a_search_replays_where_candidates_lost_races() -> None:
    runs = []
    for _ in range(2):
        engine, keys = Surrogate(initial=4).start(DEEP, OBJECTIVES, 0), list[str]()
        for generation in range(4):
            asks = engine.ask(4)
            lost = Pruned("behind", 100, seen={"accuracy": Estimate(0.5, 0.05, 100)})
            trials = [
                Trial(ask, lost if generation and not n else judged(ask.candidate), 0.0) for n, ask in enumerate(asks)
            ]
            engine.tell([Trial.from_json(trial.to_json()) for trial in trials])
            keys += [ask.key for ask in asks]
        runs.append(keys)
    assert runs[0] == runs[1]


def test_it_says_what_is_left_to_gain() -> None:
    space = Space(Lengths(levels=4, layers=3))
    engine = Surrogate(initial=4).start(space, OBJECTIVES, 0)
    gains = []
    while asks := engine.ask(4):
        gains.append(engine.expected_gain)  # type: ignore[attr-defined]
        engine.tell([Trial(ask, judged(ask.candidate), 0.0) for ask in asks])
    assert gains[0] is None
    assert gains[-1] < 0.01 < gains[1] * 10


def test_initial_candidates_come_before_samples_with_both_corners() -> None:
    first = tuple(DEEP.decode(genome) for genome in DEEP.sample(20, np.random.default_rng(5))[2:12])
    asks = Surrogate(population=4, initial=6, first=first).start(DEEP, OBJECTIVES, 0).ask(len(set(first)) + 6)
    candidates = [ask.candidate for ask in asks]
    assert candidates[: len(set(first))] == list(dict.fromkeys(first))
    assert {(1.0,) * 12, (0.125,) * 12} <= {candidate["lengths"] for candidate in candidates}


def test_what_a_constraint_turned_down_is_not_proposed_again_and_again() -> None:
    """Where accuracy is limited, the model learns from what fell short of it, and stays away from there."""
    space, kept = Space(Lengths(levels=8, layers=4)), 0.9

    def outcome(candidate: Candidate, tells: bool) -> Measured | Pruned:
        measured = judged(candidate)
        short = kept - measured.estimates["accuracy"].value
        if short <= 0:
            return measured
        return Pruned("too low", 1, {"accuracy": short}, measured.estimates if tells else {})

    wasted = []
    for tells in (False, True):
        engine, lost = Surrogate().start(space, OBJECTIVES, 0), 0
        for _ in range(12):
            trials = [Trial(ask, outcome(ask.candidate, tells), 0.0) for ask in engine.ask(4)]
            lost += sum(isinstance(trial.outcome, Pruned) for trial in trials)
            engine.tell(trials)
        wasted.append(lost)
    assert wasted[1] < 0.7 * wasted[0]
