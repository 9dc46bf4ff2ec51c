"""The space: what is legal, how many candidates there are, and how evenly they are drawn."""

from __future__ import annotations

import itertools
import subprocess
import sys
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from searchkit.errors import StudyError
from searchkit.records import Candidate
from searchkit.space import Choice, Integer, Lengths, Space, Thresholds
from searchkit.space.base import power_law
from searchkit.space.operators import SHAPES

TWELVE = Lengths(16).bound(12)
MIXED = Space(Lengths(4, layers=3), Integer("heads", 1, 4), Choice("fate", ("discard", "freeze")))


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


# Construction


def test_a_number_of_levels_means_exact_fractions() -> None:
    assert Lengths(16).values == tuple(k / 16 for k in range(1, 17))


def test_levels_are_python_numbers_of_their_basis() -> None:
    fractions = Lengths(np.array([0.25, 1]))  # type: ignore[arg-type]
    tokens = Lengths([8.0, 16], basis="tokens")
    assert [type(level) for level in fractions.values] == [float, float]
    assert [type(level) for level in tokens.values] == [int, int]
    assert fractions == Lengths((0.25, 1.0))
    assert hash(tokens) == hash(Lengths((8, 16), basis="tokens"))


@pytest.mark.parametrize(
    ("arguments", "rule"),
    [
        ({"levels": 0}, "at least 1, got self.levels=0"),
        ({"levels": True}, "levels must be their number"),
        ({"levels": "16"}, "levels must be their number"),
        ({"levels": 4.0}, "levels must be their number"),
        ({"levels": ()}, "must not be empty"),
        ({"levels": (0.5, 0.25)}, r"must increase, got levels=\(0.5, 0.25\)"),
        ({"levels": (0.5, 0.5)}, "must increase"),
        ({"levels": (0.0, 0.5)}, r"must be in \(0, 1\]"),
        ({"levels": (0.5, 1.5)}, r"must be in \(0, 1\]"),
        ({"levels": (0.5, float("nan"), 1.0)}, "finite number, got nan"),
        ({"levels": (0.5, "1")}, "finite number, got '1'"),
        ({"levels": 16, "basis": "tokens"}, "needs the token counts"),
        ({"levels": (0, 4), "basis": "tokens"}, "at least 1"),
        ({"levels": (1.5, 4), "basis": "tokens"}, "whole tokens, got the level 1.5"),
        ({"basis": "words"}, "basis must be"),
        ({"levels": 4, "first": 0.3}, r"one of the levels \[0.25, 0.5, 0.75, 1.0\], got 0.3"),
        ({"levels": 4, "last": 2}, "one of the levels"),
        ({"levels": 4, "first": 0.5, "last": 0.75}, "must not grow with depth"),
        ({"levels": 4, "first": 0.5, "last": 0.25, "layers": 1}, "one layer has one length"),
        ({"levels": 4, "start": (0.5, 0.75)}, "start: lengths must not grow with depth"),
        ({"levels": 4, "start": (0.7, 0.5)}, "start: a length must be one of"),
        ({"levels": 4, "start": (0.5,), "layers": 2}, "start: lengths must be 2 values"),
        ({"levels": 4, "first": 1.0, "start": (0.5, 0.5)}, "start: lengths must keep first=1.0"),
        ({"layers": 0}, "integer of at least 1, got self.layers=0"),
        ({"layers": 6.0}, "integer of at least 1, got self.layers=6.0"),
    ],
)
def test_illegal_lengths_name_the_rule_and_the_value(arguments: dict[str, Any], rule: str) -> None:
    with pytest.raises(StudyError, match=rule):
        Lengths(**arguments)


@pytest.mark.parametrize(
    ("make", "rule"),
    [
        (lambda: Integer("a b", 1, 2), "identifier, got name='a b'"),
        (lambda: Integer("n", 3, 2), "low must not exceed high"),
        (lambda: Integer("n", 0.5, 2), "must be integers"),  # type: ignore[arg-type]
        (lambda: Choice("c", ()), "at least one"),
        (lambda: Choice("c", (1, True)), "distinct"),
        (lambda: Choice("c", (1, object())), "a candidate holds"),  # type: ignore[arg-type]
        (lambda: Space(), "at least one dimension"),
        (lambda: Space(Lengths(4), Lengths(8)), "different names"),
    ],
)
def test_other_illegal_dimensions_name_the_rule(make: Any, rule: str) -> None:
    with pytest.raises(StudyError, match=rule):
        make()


@pytest.mark.parametrize("use", ["width", "size", "low", "high"])
def test_an_unbound_space_says_what_is_missing(use: str) -> None:
    with pytest.raises(StudyError, match="call bound"):
        getattr(Space(Lengths(4)), use)


def test_an_unbound_space_cannot_be_sampled() -> None:
    with pytest.raises(StudyError, match="call bound"):
        Space(Lengths(4)).sample(2, rng())


def test_binding_gives_the_number_of_layers_and_holds_to_it() -> None:
    space = Space(Lengths(4), Integer("heads", 1, 4)).bound(6)
    assert space.width == 7
    assert space.bound(6) == space
    with pytest.raises(StudyError, match="for 6 layers, the encoder has 12"):
        space.bound(12)


# Candidates


def test_the_genome_of_a_candidate_is_its_level_indices() -> None:
    candidate = Candidate.of(lengths=(1.0, 0.5, 0.25))
    assert Space(Lengths(4, layers=3)).encode(candidate).tolist() == [3, 1, 0]


def test_a_candidate_from_json_comes_back_in_canonical_form() -> None:
    space = Space(Lengths(3, layers=3))
    loose = Candidate.from_json({"lengths": [1, 2 * 0.1 / 0.3, 0.1 / 0.3]})
    assert space.decode(space.encode(loose)) == Candidate.of(lengths=(1.0, 2 / 3, 1 / 3))


@pytest.mark.parametrize(
    ("values", "rule"),
    [
        ({"lengths": (1.0, 0.5)}, "3 values, one per layer"),
        ({"lengths": 1.0}, "3 values, one per layer"),
        ({"lengths": (0.5, 1.0, 0.5)}, "must not grow with depth"),
        ({"lengths": (1.0, 0.6, 0.5)}, "one of the levels .* got 0.6"),
        ({"lengths": (1.0, True, 0.5)}, "one of the levels .* got True"),
        ({"lengths": (1.0, "x", 0.5)}, "one of the levels .* got 'x'"),
        ({"lengths": (1.0, 1.25, 0.5)}, "one of the levels .* got 1.25"),
        ({"heads": 5}, "heads must be an integer from 1 to 4, got 5"),
        ({"heads": 2.0}, "heads must be an integer"),
        ({"fate": "merge"}, r"one of \['discard', 'freeze'\], got 'merge'"),
        ({"depth": 1}, r"has \['fate', 'heads', 'lengths'\], got \['depth', 'fate', 'heads', 'lengths'\]"),
    ],
)
def test_an_illegal_candidate_is_refused_with_the_rule(values: dict[str, Any], rule: str) -> None:
    legal = {"lengths": (1.0, 0.5, 0.25), "heads": 1, "fate": "freeze"}
    assert MIXED.encode(Candidate.of(legal)).tolist() == [3, 1, 0, 1, 1]
    with pytest.raises(ValueError, match=rule):
        MIXED.encode(Candidate.of({**legal, **values}))


def test_a_candidate_that_leaves_a_pinned_end_is_refused() -> None:
    space = Space(Lengths(4, first=0.75, last=0.5, layers=3))
    with pytest.raises(ValueError, match=r"keep first=0.75, last=0.5"):
        space.encode(Candidate.of(lengths=(1.0, 0.75, 0.5)))


@pytest.mark.parametrize(
    "genome", [[0, 1, 2, 1, 0], [4, 1, 0, 1, 0], [1, 1, -1, 1, 0], [1, 1, 1, 9, 0], [1, 1, 1, 1, 2]]
)
def test_an_illegal_genome_has_no_candidate(genome: list[int]) -> None:
    with pytest.raises(ValueError, match="must"):
        MIXED.decode(np.array(genome))


@pytest.mark.parametrize("genome", [np.zeros(4, dtype=np.int64), np.zeros((1, 5), dtype=np.int64), np.zeros(5)])
def test_a_genome_of_the_wrong_shape_or_kind_is_refused(genome: Any) -> None:
    with pytest.raises(ValueError, match="5 integers"):
        MIXED.decode(genome)


@given(
    levels=st.integers(1, 5),
    layers=st.integers(1, 5),
    ends=st.tuples(st.none() | st.integers(1, 5), st.none() | st.integers(1, 5)),
)
def test_all_lists_what_a_filter_over_every_vector_finds(
    levels: int, layers: int, ends: tuple[int | None, int | None]
) -> None:
    first, last = ends
    pinned = {name: end for name, end in (("first", first), ("last", last)) if end is not None}
    found = [
        vector
        for vector in itertools.product(range(1, levels + 1), repeat=layers)
        if all(a >= b for a, b in itertools.pairwise(vector))
        and vector[0] == pinned.get("first", vector[0])
        and vector[-1] == pinned.get("last", vector[-1])
    ]
    try:
        counts = tuple(range(1, levels + 1))
        space = Space(Lengths(counts, basis="tokens", first=first, last=last, layers=layers))
    except StudyError:
        assert not found
        return
    assert {candidate["lengths"] for candidate in space.all()} == set(found)
    assert space.size == len(found)


def test_a_product_lists_every_combination_under_its_own_key() -> None:
    keys = {candidate.key for candidate in MIXED.all()}
    assert len(keys) == MIXED.size == 20 * 4 * 2  # 20 = C(3 + 4 - 1, 3)


def test_the_size_is_exact_where_listing_is_out_of_reach() -> None:
    assert Space(TWELVE).size == 17_383_860  # C(27, 12)
    assert Space(Lengths(tuple(range(1, 129)), basis="tokens", layers=12)).size == 66_633_843_585_150_816  # C(139, 12)


# Draws


def test_uniform_draws_have_the_exact_mean_at_every_layer() -> None:
    """The i-th smallest of k positions drawn from N = k + m - 1 has mean i (N + 1) / (k + 1); less i, from 0."""
    n, k, m = 4000, 12, 16
    means = TWELVE.uniform(n, rng()).mean(axis=0)
    i = np.arange(k, 0, -1)
    expected = i * (k + m) / (k + 1) - i
    deviation = 4.7  # of an index on 0..15, uniform at most
    assert np.abs(means - expected).max() < 5 * deviation / np.sqrt(n)


def test_uniform_draws_hit_every_vector_equally_often() -> None:
    lengths = Lengths(4, layers=3)
    n = 8000
    counts = Counter(map(tuple, lengths.uniform(n, rng()).tolist()))
    expected = n / lengths.size
    chi_square = sum((counts[genome] - expected) ** 2 / expected for genome in lengths.genomes())
    assert chi_square < 43.8  # 19 degrees of freedom, one in a thousand


def test_samples_hold_both_corners_first() -> None:
    rows = TWELVE.sample(2, rng())
    assert rows.tolist() == [[15] * 12, [0] * 12]


def test_samples_hold_every_shape() -> None:
    """Constant ratios, two-level cliffs at every depth, and curves of many levels all have their share."""
    rows = TWELVE.sample(1000, rng()).tolist()
    levels = [len(set(row)) for row in rows]
    edges = {row.count(row[0]) for row in rows if len(set(row)) == 2 and row[0] >= 8 > row[-1]}
    assert levels.count(1) > 80
    assert levels.count(2) > 200
    assert sum(number >= 4 for number in levels) > 250
    assert edges == set(range(1, 12))


def test_a_first_generation_of_24_holds_corners_and_start_and_mostly_each_shape(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """About half of the rows after the start are its neighbours, the others are drawn by kind: of 200 seeds."""
    shaped: dict[tuple[int, ...], set[str]] = {}

    def noted(shape: Any) -> Any:
        def call(*given: Any) -> list[int]:
            row: list[int] = shape(*given)
            shaped.setdefault(tuple(row), set()).add(shape.__name__)
            return row

        return call

    monkeypatch.setattr("searchkit.space.lengths.SHAPES", tuple(map(noted, SHAPES)))
    found = TWELVE.started(tuple(np.linspace(1, 0.2, 12).tolist()))
    generations: Counter[str] = Counter()
    for seed in range(200):
        rows = [tuple(row) for row in found.sample(24, rng(seed)).tolist()]
        assert rows[:3] == [(15,) * 12, (0,) * 12, tuple(found.encode(found.start or ()).tolist())]
        generations.update(set().union(*(shaped.get(row, set()) for row in rows[3:])))
        shaped.clear()
    assert set(generations) == {shape.__name__ for shape in SHAPES}
    assert min(generations.values()) > 100  # those of a tenth of the draws


def test_samples_do_not_collapse_with_depth() -> None:
    """Uniform draws cut to their running minimum keep less than half as much in the last layers."""
    last_quarter = TWELVE.sample(2000, rng())[:, -3:].mean()
    collapsed = np.minimum.accumulate(rng().integers(0, 16, size=(2000, 12)), axis=1)[:, -3:].mean()
    assert last_quarter > 2 * collapsed


def test_a_step_of_the_power_law_is_at_least_k_in_one_of_k_draws() -> None:
    generator = rng()
    steps = np.array([power_law(15, generator) for _ in range(20_000)])
    assert steps.min() == 1
    assert steps.max() == 15
    for k in (2, 3, 5, 15):
        assert (steps >= k).mean() == pytest.approx(1 / k, abs=0.02)


@pytest.mark.parametrize("levels", [2, 4, 16, 128])
@pytest.mark.parametrize("parent", ["top", "bottom", "interior"])
def test_mutation_always_changes_small_and_large_ranges(levels: int, parent: str) -> None:
    space = Space(Lengths(levels, layers=12))
    generator = rng()
    genomes = {"top": space.high, "bottom": space.low, "interior": space.sample(30, generator)[7]}
    genome = genomes[parent]
    mutants = [space.mutate(genome, generator) for _ in range(300)]
    assert all(not np.array_equal(mutant, genome) for mutant in mutants)


def test_mutation_makes_many_different_neighbours_near_and_far() -> None:
    generator = rng()
    genome = TWELVE.encode(tuple(float(k) for k in np.array([16, 16, 14, 14, 12, 9, 9, 6, 4, 3, 3, 1]) / 16))
    mutants = np.array([TWELVE.mutate(genome, generator) for _ in range(1000)])
    distance = np.abs(mutants - genome).sum(axis=1)
    assert len({tuple(row) for row in mutants.tolist()}) > 250
    assert (distance == 1).mean() > 0.05
    assert (distance > 12).mean() > 0.1


def test_mutation_of_a_product_moves_each_dimension_alone_and_together() -> None:
    generator = rng()
    genome = MIXED.encode(Candidate.of(lengths=(0.75, 0.5, 0.5), heads=2, fate="freeze"))
    blocks = [slice(0, 3), slice(3, 4), slice(4, 5)]
    moved = Counter(
        tuple(bool((mutant[block] != genome[block]).any()) for block in blocks)
        for mutant in (MIXED.mutate(genome, generator) for _ in range(400))
    )
    assert set(moved) == set(itertools.product([False, True], repeat=3)) - {(False, False, False)}


def test_a_space_of_one_point_mutates_to_itself() -> None:
    space = Space(Integer("heads", 4, 4))
    assert space.mutate(space.low, rng()).tolist() == [4]


def test_repair_keeps_apart_what_sorting_and_running_minima_would_lose() -> None:
    """One early dip must not pull every later layer down with it."""
    dipped = np.array([15, 2, 13, 12, 11, 10])
    repaired = Lengths(16, layers=6).repair(dipped)
    assert repaired.tolist() == [15, 10, 10, 10, 10, 10]  # the mean of 2, 13, 12, 11, 10 is 9.6
    assert np.minimum.accumulate(dipped).tolist() == [15, 2, 2, 2, 2, 2]


def test_children_of_lengths_cut_blend_or_envelop_their_parents() -> None:
    """The parents cross twice, so that no cut in depth gives their upper or lower envelope."""
    generator = rng()
    a = np.array([15] * 3 + [5] * 6 + [4] * 3)
    b = np.array([11] * 3 + [9] * 6 + [0] * 3)
    children = {tuple(child.tolist()) for _ in range(200) for child in TWELVE.crossover(a, b, generator)}
    assert tuple(np.maximum(a, b).tolist()) in children
    assert tuple(np.minimum(a, b).tolist()) in children
    assert tuple(a[:9].tolist() + b[9:].tolist()) in children
    assert any(11 < child[0] < 15 for child in children)  # a blend


def test_a_space_that_is_neutral_in_one_dimension_at_most_samples_its_dimensions_one_by_one() -> None:
    one, other = rng(), rng()
    drawn = np.hstack([dimension.sample(50, one) for dimension in MIXED.dimensions])
    assert np.array_equal(MIXED.sample(50, other), drawn)
    assert one.random() == other.random()


# Identity


@pytest.mark.parametrize(
    ("space", "candidate", "canonical"),
    [
        (Space(Lengths(4)), {"lengths": (1.0, 0.5, 0.25)}, {"lengths": (1.0, 0.5, 0.5)}),
        (Space(Lengths(4, last=0.25)), {"lengths": (1.0, 0.5, 0.25)}, {"lengths": (1.0, 0.5, 0.25)}),
        (Space(Thresholds("relative")), {"thresholds": (0.0, 0.0, 1.0)}, {"thresholds": (0.0, 0.0, 0.0)}),
    ],
)
def test_an_idle_last_place_stands_for_the_one_before(space: Space, candidate: Any, canonical: Any) -> None:
    bound = space.bound(3, last_idle=True)
    assert bound.decode(bound.encode(Candidate.of(candidate))) == Candidate.of(canonical)
    plain = space.bound(3)
    assert plain.decode(plain.encode(Candidate.of(candidate))) == Candidate.of(candidate)


@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize(
    "lengths", [Lengths(4), Lengths(4, first=0.75), Lengths(4, last=0.5), Lengths(4, first=0.5, last=0.5)]
)
def test_candidates_of_a_space_with_an_idle_last_place_are_all_there_once(lengths: Lengths, layers: int) -> None:
    """Against the canonical form of every candidate of the space without."""
    bound = Space(lengths).bound(layers, last_idle=True)
    every = [bound.decode(np.array(genome)) for genome in Space(lengths).bound(layers).genomes()]
    listed = list(bound.all())
    assert len(listed) == len(set(listed)) <= bound.size
    assert set(listed) == set(every)
    for one in listed:
        assert bound.decode(bound.encode(one)) == one


def test_the_description_tells_spaces_apart() -> None:
    spaces = [Space(Lengths(4)), Space(Lengths(8)), Space(Lengths(4, first=1.0)), Space(Lengths(4)).bound(3), MIXED]
    assert len({str(space.describe()) for space in spaces}) == len(spaces)
    assert Space(Lengths(2)).describe() == Space(Lengths((0.5, 1.0))).describe()


def test_importing_the_space_loads_no_heavy_library() -> None:
    code = "import sys, searchkit.space; print({'torch', 'pymoo', 'ray', 'optuna', 'pandas'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"
