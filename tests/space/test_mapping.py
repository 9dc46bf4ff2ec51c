"""Candidates mapped from one space to another: legal whatever the spaces are, and the same where nothing differs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from searchkit.records import Candidate
from searchkit.space import Choice, Integer, Lengths, Space, Thresholds
from searchkit.space.mapping import SpaceMap

SHARES = st.lists(st.integers(1, 16).map(lambda k: k / 16), min_size=1, max_size=6, unique=True).map(sorted)
COUNTS = st.lists(st.integers(1, 40), min_size=1, max_size=6, unique=True).map(sorted)


@st.composite
def lengths(draw: st.DrawFn, basis: str = "fraction") -> Lengths:
    levels = draw(SHARES if basis == "fraction" else COUNTS)
    first, last = draw(st.none() | st.sampled_from(levels)), draw(st.none() | st.sampled_from(levels))
    if first is not None and last is not None and first < last:
        first, last = last, first
    return Lengths(levels, basis=basis, first=first, last=last)  # type: ignore[arg-type]


@st.composite
def spaces(draw: st.DrawFn, basis: str = "fraction") -> tuple[Space, int]:
    """A space of lengths, thresholds or both, with or without a slot for the input, and the layers of its encoder."""
    layers, of_input = draw(st.integers(2, 13)), draw(st.booleans())
    thresholds = draw(st.sampled_from([Thresholds(), Thresholds(levels=(0.5, 1.0, 2.0))]))
    parts = draw(st.sampled_from([(0,), (1,), (0, 1)]))
    dimensions = [(draw(lengths(basis)), thresholds)[part] for part in parts]
    return Space(*dimensions).bound(layers + of_input, last_idle=draw(st.booleans())), layers


def candidate_of(space: Space, seed: int) -> Candidate:
    return space.decode(space.sample(3, np.random.default_rng(seed))[2])


def mapped(candidate: Candidate, source: tuple[Space, int], target: tuple[Space, int]) -> Candidate:
    return SpaceMap(source[0].describe(), source[1], *target)(candidate)


@given(source=st.sampled_from(["fraction", "tokens"]).flatmap(spaces), seed=st.integers(0, 2**32))
def test_a_candidate_of_the_same_space_stays_what_it_is(source: tuple[Space, int], seed: int) -> None:
    candidate = candidate_of(source[0], seed)
    assert mapped(candidate, source, source) == candidate


@given(st.data())
def test_what_is_mapped_is_legal_and_canonical_or_refused_for_its_dimensions(data: st.DataObject) -> None:
    basis = data.draw(st.sampled_from(["fraction", "tokens"]))
    source, target = data.draw(spaces(basis)), data.draw(spaces(basis))
    candidate = candidate_of(source[0], data.draw(st.integers(0, 2**32)))
    new = [own for own in target[0].dimensions if own.name not in candidate]
    try:
        result = mapped(candidate, source, target)
    except ValueError:
        assert len(new) == len(target[0].dimensions) or any(own.neutral is None for own in new)
        return
    assert target[0].decode(target[0].encode(result)) == result
    for own in new:
        neutral = target[0].completed(Candidate.of({name: value for name, value in result.items if name != own.name}))
        assert target[0].encode(neutral).tolist() == target[0].encode(result).tolist()


@given(
    share=st.integers(1, 16).map(lambda k: k / 16),
    levels=SHARES,
    layers=st.tuples(st.integers(1, 13), st.integers(1, 13)),
    of_input=st.booleans(),
    idle=st.booleans(),
)
def test_one_ratio_throughout_becomes_the_nearest_level_throughout(
    share: float, levels: list[float], layers: tuple[int, int], of_input: bool, idle: bool
) -> None:
    there, here = (number + of_input for number in layers)
    source = Space(Lengths(16)).bound(there)
    target = Space(Lengths(levels)).bound(here, last_idle=idle and here > 1)
    result = mapped(Candidate.of(lengths=(share,) * there), (source, layers[0]), (target, layers[1]))
    gaps = [abs(level - share) for level in levels]
    assert set(result["lengths"]) == {max(level for level, gap in zip(levels, gaps, strict=True) if gap == min(gaps))}  # type: ignore[arg-type]


@given(seed=st.integers(0, 2**32), idle=st.booleans(), layers=st.integers(2, 12), of_input=st.booleans())
def test_twice_the_layers_and_back_is_the_same_candidate(seed: int, idle: bool, layers: int, of_input: bool) -> None:
    few, many = (
        (Space(Lengths(16), Thresholds()).bound(number + of_input, last_idle=idle), number)
        for number in (layers, 2 * layers)
    )
    candidate = candidate_of(few[0], seed)
    assert mapped(mapped(candidate, few, many), many, few) == candidate


def test_six_layers_are_every_second_one_of_twelve() -> None:
    six, twelve = Space(Lengths(16)).bound(6), Space(Lengths(16)).bound(12)
    sixteenths = [16, 14, 8, 4, 2, 2]
    result = mapped(Candidate.of(lengths=tuple(k / 16 for k in sixteenths)), (six, 6), (twelve, 12))
    assert [16 * level for level in result["lengths"]] == [16, 16, 15, 14, 11, 8, 6, 4, 3, 2, 2, 2]  # type: ignore[union-attr, operator]


def test_thresholds_follow_the_depth_and_off_is_nought() -> None:
    three, six = Space(Thresholds()).bound(3), Space(Thresholds()).bound(6)
    result = mapped(Candidate.of(thresholds=(0.0, 0.4, 2.0)), (three, 3), (six, 6))
    assert result["thresholds"] == (0.0, 0.0, 0.2, 0.4, 1.25, 2.0)  # 1.2 is nearest to 1.25


def test_the_slot_of_the_input_is_mapped_to_that_of_the_input() -> None:
    plain, with_input = (Space(Lengths(4), Thresholds()).bound(slots) for slots in (2, 3))
    candidate = Candidate.of(lengths=(0.75, 0.5, 0.25), thresholds=(0.5, 1.0, 0.0))
    longer = Space(Lengths(4), Thresholds()).bound(5)
    assert mapped(candidate, (with_input, 2), (longer, 4)) == Candidate.of(
        lengths=(0.75, 0.5, 0.5, 0.5, 0.25), thresholds=(0.5, 1.0, 1.0, 0.5, 0.0)
    )
    without = mapped(candidate, (with_input, 2), (plain, 2))
    assert without == Candidate.of(lengths=(0.5, 0.25), thresholds=(1.0, 0.0))
    assert mapped(without, (plain, 2), (with_input, 2)) == Candidate.of(
        lengths=(1.0, 0.5, 0.25), thresholds=(0.0, 1.0, 0.0)
    )


def test_the_idle_last_slot_of_the_source_says_nothing() -> None:
    idle, plain = Space(Thresholds()).bound(2, last_idle=True), Space(Thresholds()).bound(4)
    result = mapped(Candidate.of(thresholds=(1.0, 0.0)), (idle, 2), (plain, 4))
    assert result["thresholds"] == (1.0, 1.0, 1.0, 1.0)


def test_pinned_ends_of_the_target_are_kept() -> None:
    source, target = Space(Lengths(4)).bound(3), Space(Lengths(4, first=1.0, last=0.5)).bound(3)
    result = mapped(Candidate.of(lengths=(0.75, 0.25, 0.25)), (source, 3), (target, 3))
    assert result["lengths"] == (1.0, 0.5, 0.5)


def test_scalars_are_clipped_and_options_kept() -> None:
    source = Space(Integer("heads", 1, 8), Choice("fate", ("merge", "freeze")))
    target = Space(Integer("heads", 2, 4), Choice("fate", ("discard", "freeze")))
    assert mapped(Candidate.of(heads=8, fate="freeze"), (source, 3), (target, 3)) == Candidate.of(
        heads=4, fate="freeze"
    )
    with pytest.raises(ValueError, match=r"fate must be one of \['discard', 'freeze'\], got 'merge'"):
        mapped(Candidate.of(heads=1, fate="merge"), (source, 3), (target, 3))


@pytest.mark.parametrize(
    ("source", "candidate", "target", "rule"),
    [
        (Lengths((8, 16), basis="tokens"), {"lengths": (16, 8)}, Lengths(4), "basis='tokens' there and .*'fraction'"),
        (Lengths(4), {"lengths": (1.0, 0.5)}, Lengths((8, 16), basis="tokens"), "basis='fraction' there"),
        (Thresholds("probability"), {"thresholds": (0.5, 0.5)}, Thresholds(), "scale='probability' there"),
        (Lengths(4), {"lengths": (1.0, 0.5)}, Thresholds(), "candidates there have lengths, those here thresholds"),
        (Lengths(4), {"lengths": (1.0,)}, Lengths(4), r"one for each of 2 layers there, got \(1.0,\)"),
        (Lengths(4), {"lengths": (1.0,) * 4}, Lengths(4), "one for each of 2 layers there"),
        (Lengths(4), {"lengths": (1.0, "x")}, Lengths(4), "lengths are numbers"),
        (Lengths(4), {"lengths": 1.0}, Lengths(4), "lengths are numbers"),
    ],
)
def test_what_cannot_be_mapped_is_refused_with_the_reason(
    source: Any, candidate: dict[str, Any], target: Any, rule: str
) -> None:
    with pytest.raises(ValueError, match=rule):
        mapped(Candidate.of(candidate), (Space(source).bound(2), 2), (Space(target).bound(2), 2))


def test_a_new_dimension_that_always_drops_something_is_refused() -> None:
    source, target = Space(Thresholds()).bound(2), Space(Lengths((8, 16), basis="tokens"), Thresholds()).bound(2)
    with pytest.raises(ValueError, match="lengths cannot be left out"):
        mapped(Candidate.of(thresholds=(0.5, 0.0)), (source, 2), (target, 2))


def test_a_dimension_that_is_not_searched_any_more_is_left_out() -> None:
    source, target = Space(Lengths(4), Thresholds()).bound(2), Space(Lengths(4)).bound(2)
    result = mapped(Candidate.of(lengths=(1.0, 0.5), thresholds=(0.5, 0.0)), (source, 2), (target, 2))
    assert result == Candidate.of(lengths=(1.0, 0.5))
