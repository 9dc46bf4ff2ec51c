"""Packed batches: packing, padding and selecting are inverse to each other, for any lengths."""

from __future__ import annotations

from dataclasses import replace

import torch
from hypothesis import given
from hypothesis import strategies as st

from searchkit.reduction.ragged import Layout

lengths_lists = st.lists(st.integers(1, 12), min_size=1, max_size=8)


@given(lengths_lists, st.integers(1, 3))
def test_unpad_undoes_pad_and_pads_hold_the_fill(lengths: list[int], width: int) -> None:
    layout = Layout.of_lengths(torch.tensor(lengths))
    values = torch.arange(float(sum(lengths) * width)).reshape(-1, width) + 1
    grid = layout.pad(values, fill=-7.0)
    assert grid.shape == (len(lengths), max(lengths), width)
    assert torch.equal(layout.unpad(grid), values)
    start = 0
    for row, length in enumerate(lengths):
        assert torch.equal(grid[row, :length], values[start : start + length])
        assert (grid[row, length:] == -7.0).all()
        start += length
    assert layout.is_even == (len(set(lengths)) == 1)


@given(lengths_lists, st.data())
def test_selecting_keeps_the_chosen_tokens_their_order_and_their_positions(
    lengths: list[int], data: st.DataObject
) -> None:
    layout = Layout.of_lengths(torch.tensor(lengths))
    chosen = [[0, *data.draw(st.lists(st.integers(1, n), unique=True).map(sorted))] for n in lengths]
    keep = torch.tensor([p in picks for n, picks in zip(lengths, chosen, strict=True) for p in range(n)])
    rows, smaller = layout.select(keep)
    expected = [[p for p in picks if p < n] for n, picks in zip(lengths, chosen, strict=True)]
    assert smaller.lengths.tolist() == [len(picks) for picks in expected]
    assert smaller.positions.tolist() == [p for picks in expected for p in picks]
    assert torch.equal(smaller.rows_in(layout), rows)
    assert smaller.examples.tolist() == [b for b, picks in enumerate(expected) for _ in picks]


@given(st.lists(st.integers(1, 90), min_size=1, max_size=40), st.integers(1, 20_000), st.booleans())
def test_buckets_cut_a_batch_into_neighbours_that_fit(lengths: list[int], pad_slots: int, recurring: bool) -> None:
    layout = Layout.of_lengths(torch.tensor(lengths))
    buckets = layout.buckets(pad_slots, recurring)
    assert [size for bucket in buckets for size in bucket.lengths.tolist()] == lengths
    assert torch.equal(torch.cat([bucket.positions for bucket in buckets]), layout.positions)
    for bucket in buckets:
        count = len(bucket.lengths)
        assert bucket.width >= bucket.longest
        assert count == 1 or count * bucket.width**2 <= pad_slots
        if recurring:
            assert count <= bucket.height <= 1.25 * count
            assert bucket.width % 8 == 0 or (count == 1 and bucket.width == bucket.longest <= 64)


@given(st.lists(st.integers(1, 9), min_size=1, max_size=9), st.integers(0, 12), st.integers(0, 12))
def test_the_padded_arrangement_may_be_larger_than_needed(lengths: list[int], room: int, seats: int) -> None:
    whole = Layout.of_lengths(torch.tensor(lengths))
    layout = replace(whole, room=room, seats=seats)
    values = torch.arange(1.0, len(whole.positions) + 1)[:, None].repeat(1, 2)
    assert layout.mask.shape == (max(len(lengths), seats), max(*lengths, room))
    assert layout.mask.sum(1).tolist() == lengths + [1] * (layout.height - len(lengths))
    for padded in (layout.pad(values), layout.spread(values)):
        assert padded.shape == (*layout.mask.shape, 2)
        assert torch.equal(layout.unpad(padded), values)
    assert layout.pad(values).sum() == values.sum()
    assert torch.equal(
        layout.vacant.sum(1), torch.tensor([0.0] * len(lengths) + [1.0] * (layout.height - len(lengths)))
    )
