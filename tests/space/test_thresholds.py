"""Thresholds: what is legal, how they are drawn and moved, and how they stand beside lengths in one space."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from searchkit import NSGA2, Candidate, Choice, Estimate, Integer, Lengths, Measured, Random, Space, Thresholds, Trial
from searchkit.engines import Engine, EngineConfig
from searchkit.errors import StudyError
from searchkit.space.thresholds import LEVELS
from tests.analytic import OBJECTIVES

TWELVE = Thresholds(layers=12)
JOINT = Space(Lengths(16), Thresholds()).bound(12)
COUNTED = Space(Lengths((1, 2, 4), basis="tokens"), Thresholds(levels=(0.5, 1.0)), Integer("heads", 1, 2)).bound(2)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@st.composite
def thresholds(draw: st.DrawFn) -> Thresholds:
    """Any scale, levels and number of places, with a start or without."""
    scale = draw(st.sampled_from(sorted(LEVELS)))
    most = 1.0 if scale == "probability" else 5.0
    levels = sorted(draw(st.sets(st.floats(1e-3, most), min_size=1, max_size=6)))
    assume(all(b > a * (1 + 1e-6) for a, b in itertools.pairwise(levels)))
    own = Thresholds(scale, levels, layers=draw(st.integers(1, 6)))  # type: ignore[arg-type]
    found = draw(st.none() | st.lists(st.floats(-1, 6), min_size=own.width, max_size=own.width))
    return own if found is None else own.started(tuple(found))


def drawn(data: st.DataObject, space: Thresholds | Space) -> Any:
    """Any legal genome, each number alike."""
    low, high = space.bounds if isinstance(space, Thresholds) else (space.low, space.high)
    return np.array([data.draw(st.integers(int(a), int(b))) for a, b in zip(low, high, strict=True)])


# Construction


def test_the_levels_of_each_scale_have_a_default() -> None:
    assert Thresholds() == Thresholds("relative", LEVELS["relative"])
    assert Thresholds("probability").values == (0.0, *LEVELS["probability"])
    assert hash(Thresholds(levels=np.array([0.5, 1]))) == hash(Thresholds(levels=(0.5, 1.0)))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("arguments", "rule"),
    [
        ({"scale": "absolute"}, "scale must be 'relative' or 'probability', got self.scale='absolute'"),
        ({"levels": ()}, "must not be empty"),
        ({"levels": 16}, "levels must be the thresholds themselves, got levels=16"),
        ({"levels": "ab"}, "levels must be the thresholds themselves"),
        ({"levels": (0, 0.5)}, r"off \(0\) is always included"),
        ({"levels": (-0.5, 0.5)}, "must be above 0"),
        ({"levels": (0.5, 0.5)}, "must increase"),
        ({"levels": (1.0, 0.5)}, r"must increase, got levels=\(1.0, 0.5\)"),
        ({"levels": (0.5, float("inf"))}, "finite number, got inf"),
        ({"levels": (0.5, True)}, "finite number, got True"),
        ({"levels": (0.5, 1.5), "scale": "probability"}, r"scale='probability' must be in \(0, 1\]"),
        ({"layers": 0}, "integer of at least 1, got self.layers=0"),
        ({"layers": 2, "start": (0.0, 0.5, 1.0)}, "start: thresholds must be 2 values"),
        ({"start": (0.0, 0.55)}, "start: a threshold must be off"),
    ],
)
def test_illegal_thresholds_name_the_rule_and_the_value(arguments: dict[str, Any], rule: str) -> None:
    with pytest.raises(StudyError, match=rule):
        Thresholds(**arguments)


def test_the_number_of_places_comes_from_the_encoder() -> None:
    assert Thresholds().bound(12) == TWELVE
    assert TWELVE.size == 19**12
    with pytest.raises(StudyError, match="call bound"):
        _ = Thresholds().width
    with pytest.raises(StudyError, match="for 12 layers, the encoder has 6"):
        TWELVE.bound(6)
    with pytest.raises(StudyError, match="for one encoder"):
        Space(Lengths(4, layers=3), Thresholds(layers=4))


# Values


@given(data=st.data(), own=thresholds())
def test_a_genome_and_its_value_give_each_other(data: st.DataObject, own: Thresholds) -> None:
    genome = drawn(data, own)
    value = own.decode(genome)
    assert value == tuple(own.values[index] for index in genome)
    assert own.encode(value).tolist() == genome.tolist()
    assert own.encode(tuple(level * (1 + 1e-12) for level in value)).tolist() == genome.tolist()


@pytest.mark.parametrize("value", [(0.5, 0.0), 0.5, (0.5, 0.0, 0.55), (0.5, 0.0, -1.0), (0.5, True, 1.0), (0, 0, "1")])
def test_an_illegal_value_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match=r"thresholds must be 3 values|must be off \(0.0\) or one of \[0.5, 1.0\]"):
        Thresholds(levels=(0.5, 1.0), layers=3).encode(value)


@pytest.mark.parametrize("genome", [[0, -1, 0], [0, 3, 0]])
def test_an_illegal_genome_has_no_value(genome: list[int]) -> None:
    with pytest.raises(ValueError, match="must be from 0 to 2"):
        Thresholds(levels=(0.5, 1.0), layers=3).decode(np.array(genome))


# Moves


@given(data=st.data(), own=thresholds(), seed=st.integers(0, 99))
def test_mutants_are_legal_and_differ(data: st.DataObject, own: Thresholds, seed: int) -> None:
    genome = drawn(data, own)
    mutant = own.mutate(genome, rng(seed))
    own.decode(mutant)
    assert mutant.tolist() != genome.tolist()


@given(data=st.data(), own=thresholds(), seed=st.integers(0, 99))
def test_children_lie_between_their_parents(data: st.DataObject, own: Thresholds, seed: int) -> None:
    a, b = drawn(data, own), drawn(data, own)
    for child in own.crossover(a, b, rng(seed)):
        assert (np.minimum(a, b) <= child).all()
        assert (child <= np.maximum(a, b)).all()


@given(own=thresholds(), wild=st.lists(st.integers(-9, 20), min_size=6, max_size=6))
def test_repair_takes_each_place_to_the_nearest_level(own: Thresholds, wild: list[int]) -> None:
    expected = [min(range(len(own.values)), key=lambda index: abs(index - number)) for number in wild[: own.width]]
    assert own.repair(np.array(wild[: own.width])).tolist() == expected


def test_mutation_changes_one_place_often_and_many_now_and_then() -> None:
    generator = rng()
    genome = np.array([0, 0, 1, 2, 2, 4, 5, 7, 7, 10, 12, 15])
    mutants = np.array([TWELVE.mutate(genome, generator) for _ in range(1000)])
    places = (mutants != genome).sum(axis=1)
    assert (places == 1).mean() > 0.35
    assert (places > 4).mean() > 0.15
    assert len({tuple(row) for row in mutants.tolist()}) > 300


@pytest.mark.parametrize(("level", "far"), [(9, {-9}), (0, set(range(6, 16)))])
def test_mutation_switches_a_single_place_off_and_on(level: int, far: set[int]) -> None:
    """Where all places are alike, a single step is seldom as long as a switch."""
    generator = rng()
    genome = np.full(12, level)
    changes = [TWELVE.mutate(genome, generator) - genome for _ in range(1000)]
    assert sum(int(change.sum()) in far for change in changes if np.count_nonzero(change) == 1) > 100


def test_children_exchange_depths_or_single_places_or_blend() -> None:
    generator = rng()
    a, b = np.zeros(12, dtype=np.int64), np.full(12, 10)
    children = [child.tolist() for _ in range(200) for child in TWELVE.crossover(a, b, generator)]
    crossings = [sum(x != y for x, y in itertools.pairwise(child)) for child in children if set(child) == {0, 10}]
    assert crossings.count(1) > 80
    assert sum(number > 2 for number in crossings) > 80
    assert sum(len(set(child)) == 1 and child[0] not in (0, 10) for child in children) > 60


# Samples


def test_samples_hold_off_and_every_shape() -> None:
    rows = TWELVE.sample(1000, rng()).tolist()
    rising = [row for row in rows if row == sorted(row)]
    cliffs = [row for row in rising if row[0] == 0 and len(set(row)) == 2]
    assert rows[0] == [0] * 12
    assert sum(len(set(row)) == 1 and row[0] > 0 for row in rows) > 100
    assert sum(len(set(row)) > 3 for row in rising) > 120
    assert {row.count(0) for row in cliffs} == set(range(1, 12))
    assert sum(0 in row for row in rows if row != sorted(row)) > 120


@given(own=thresholds(), n=st.integers(3, 12), seed=st.integers(0, 99))
def test_samples_begin_with_off_and_hold_the_start(own: Thresholds, n: int, seed: int) -> None:
    rows = own.sample(n, rng(seed))
    assert own.decode(rows[0]) == (0.0,) * own.width
    if own.start is not None:
        assert own.decode(rows[2]) == own.start
    for row in rows:
        own.decode(row)


def test_about_half_of_the_samples_are_near_the_start() -> None:
    own = TWELVE.started(tuple(np.linspace(0.01, 1.1, 12)))
    start = own.encode(own.start or ())
    changed = (own.sample(1000, rng()) != start).sum(axis=1)
    plain = (TWELVE.sample(1000, rng()) != start).sum(axis=1)
    assert (changed <= 3).mean() > 0.25
    assert (plain <= 3).mean() < 0.02
    assert 0.45 < (changed > 8).mean() / (plain > 8).mean() < 0.75


@given(
    levels=st.sets(st.integers(1, 50), min_size=1).map(lambda found: [k / 8 for k in sorted(found)]),
    found=st.lists(st.floats(-1, 7), min_size=1, max_size=5),
)
def test_what_training_found_snaps_to_the_nearest_level_or_off(levels: list[float], found: list[float]) -> None:
    start = Thresholds(levels=levels).started(tuple(found)).start or ()
    for number, level in zip(found, start, strict=True):
        assert abs(level - number) <= 1e-12 + min(abs(other - number) for other in (0.0, *levels))
        assert (level == 0) == (number < levels[0] / 2)


def test_a_start_of_another_encoder_or_without_numbers_is_refused() -> None:
    with pytest.raises(StudyError, match="one number for each of the 12 layers"):
        TWELVE.started((0.5,) * 6)
    with pytest.raises(StudyError, match="finite number, got nan"):
        TWELVE.started((float("nan"),) * 12)


# Beside lengths


@pytest.mark.parametrize("n", [2, 3, 24])
def test_the_first_row_of_a_joint_space_is_the_unreduced_model(n: int) -> None:
    first = JOINT.decode(JOINT.sample(n, rng())[0])
    assert first == Candidate.of(lengths=(1.0,) * 12, thresholds=(0.0,) * 12)


def test_a_single_row_of_a_joint_space_is_not_always_the_same() -> None:
    assert len({tuple(JOINT.sample(1, rng(seed))[0].tolist()) for seed in range(20)}) > 10


def test_about_a_third_of_a_joint_space_keeps_one_dimension_alone() -> None:
    space = Space(*JOINT.dimensions, Integer("heads", 1, 4))
    rows = space.sample(3000, rng())[1:]
    whole, off = (rows[:, :12] == 15).all(axis=1), (rows[:, 12:24] == 0).all(axis=1)
    plain = (TWELVE.sample(3000, rng()) == 0).all(axis=1).mean()  # what is off without being made neutral
    assert (off & ~whole).mean() == pytest.approx(1 / 6 + plain * 2 / 3, abs=0.03)
    assert (whole & ~off).mean() == pytest.approx(1 / 6, abs=0.03)
    assert len(set(rows[whole, 24].tolist())) == 4  # what cannot be neutral is drawn as ever


def test_the_third_row_of_a_joint_space_is_the_model_as_it_was_trained() -> None:
    ramp = tuple(k / 10 for k in range(12))
    row = JOINT.started({"thresholds": ramp}).sample(3, rng())[2]
    trained = (0.0, *[k / 10 for k in range(1, 11)], 1.0)  # 1.1 is nearer to 1.0 than to 1.25
    assert JOINT.decode(row) == Candidate.of(lengths=(1.0,) * 12, thresholds=trained)
    both = JOINT.started({"thresholds": ramp, "lengths": (0.5,) * 12}).sample(3, rng())[2]
    assert JOINT.decode(both) == Candidate.of(lengths=(0.5,) * 12, thresholds=trained)


def test_a_space_passes_starts_on_by_name_and_ignores_names_it_does_not_have() -> None:
    space = JOINT.started({"lengths": (0.49,) * 12, "depth": (2.0,)})
    assert space == Space(Lengths(16, layers=12, start=(0.5,) * 12), TWELVE)
    assert space.describe() == JOINT.describe()


# Canonical form


def test_a_threshold_after_the_last_token_is_off() -> None:
    loose = COUNTED.decode(np.array([2, 0, 1, 2, 1]))
    assert loose == Candidate.of(lengths=(4, 1), thresholds=(0.5, 0.0), heads=1)
    assert loose.key == COUNTED.decode(np.array([2, 0, 1, 0, 1])).key
    assert COUNTED.encode(Candidate.of(lengths=(4, 1), thresholds=(0.5, 1.0), heads=1)).tolist() == [2, 0, 1, 0, 1]


@pytest.mark.parametrize("lengths", [Lengths((2, 4), basis="tokens"), Lengths((0.5, 1.0)), Lengths((1.0,))])
def test_thresholds_beside_more_than_one_token_are_left_alone(lengths: Lengths) -> None:
    space = Space(Thresholds(levels=(0.5, 1.0)), lengths).bound(2)
    assert len({candidate.key for candidate in space.all()}) == space.size


def test_an_implied_threshold_has_to_be_legal_all_the_same() -> None:
    with pytest.raises(ValueError, match="must be from 0 to 2"):
        COUNTED.decode(np.array([2, 0, 1, 9, 1]))


@given(data=st.data())
def test_keys_are_equal_exactly_where_the_same_tokens_stay(data: st.DataObject) -> None:
    """By a slow loop: a place acts through its length and, while more than one token is left, through its threshold."""

    def acts(genome: Sequence[int]) -> list[Any]:
        return [genome[4], *[(length, level if length > 0 else "none") for length, level in zip(genome, genome[2:4])]]  # noqa: B905

    a, b = (COUNTED.repair(drawn(data, COUNTED)) for _ in range(2))
    one, other = COUNTED.decode(a), COUNTED.decode(b)
    assert (one.key == other.key) == (acts(a.tolist()) == acts(b.tolist()))
    assert COUNTED.decode(COUNTED.encode(one)) == one
    assert COUNTED.encode(one).tolist() == COUNTED.canonical(a).tolist()


def test_all_lists_every_candidate_once_and_the_size_is_an_upper_bound() -> None:
    candidates = list(COUNTED.all())
    every = {
        COUNTED.decode(np.array(g))
        for g in itertools.product(range(3), range(3), range(3), range(3), [1, 2])
        if g[0] >= g[1]
    }
    assert len(candidates) == len(set(candidates)) == len({candidate.key for candidate in candidates})
    assert set(candidates) == every
    assert len(candidates) == 2 * (3 * 9 + 2 * 3 + 1) < COUNTED.size  # no one, the last one, both of the lengths are 1


# Engines


def judge(candidate: Candidate) -> Measured:
    """Two losses by formula: what a place loses grows with its cut and its threshold, as does what it saves."""
    lengths = np.array(candidate["lengths"], dtype=float)
    kept = lengths / lengths.max() / (1 + np.array(candidate["thresholds"], dtype=float))
    quality = float(1 - ((1 - kept) ** 2 / np.arange(1, len(kept) + 1)).sum() / len(kept))
    return Measured({"quality": Estimate(quality, None, 1), "cost": Estimate(float(kept.mean()), None, 1)})


def search(engine: Engine, generations: int, n: int) -> list[Trial]:
    told: list[Trial] = []
    for _ in range(generations):
        trials = [Trial(ask, judge(ask.candidate), seconds=0.0) for ask in engine.ask(n)]
        engine.tell(trials)
        told += trials
    return told


def test_a_joint_search_begins_unreduced_and_repeats_nothing() -> None:
    space = JOINT.started({"thresholds": tuple(np.linspace(0.1, 1, 12)), "lengths": tuple(np.linspace(1, 0.3, 12))})
    trials = search(NSGA2(population=24).start(space, OBJECTIVES, seed=0), generations=8, n=24)
    assert len({trial.key for trial in trials}) == len(trials) == 8 * 24
    assert trials[0].ask.candidate == Candidate.of(lengths=(1.0,) * 12, thresholds=(0.0,) * 12)
    lengths, thresholds = (own.start for own in space.dimensions)  # type: ignore[attr-defined]
    assert Candidate.of(lengths=lengths, thresholds=thresholds) in [trial.ask.candidate for trial in trials[:3]]


@pytest.mark.parametrize("config", [NSGA2(population=10), Random(population=10)], ids=["nsga2", "random"])
@pytest.mark.parametrize("enumerable", [10, 20_000])
def test_genomes_of_one_candidate_are_asked_once_and_none_is_lost(
    config: EngineConfig, enumerable: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("searchkit.engines.base.ENUMERABLE", enumerable)
    space = Space(*COUNTED.dimensions, Choice("fate", ("discard", "freeze")))
    keys = [trial.key for trial in search(config.start(space, OBJECTIVES, seed=0), generations=20, n=10)]
    assert len(keys) == len(set(keys))
    assert set(keys) == {candidate.key for candidate in space.all()}
