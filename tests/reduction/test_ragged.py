"""Packed batches: packing, padding and selecting are inverse to each other, for any lengths."""

from __future__ import annotations

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
def test_buckets_cut_a_batch_into_neighbours_that_fit(lengths: list[int], places: int, recurring: bool) -> None:
    layout = Layout.of_lengths(torch.tensor(lengths))
    buckets = layout.buckets(places, recurring)
    assert [size for bucket in buckets for size in bucket.lengths.tolist()] == lengths
    assert torch.equal(torch.cat([bucket.positions for bucket in buckets]), layout.positions)
    for bucket in buckets:
        count = len(bucket.lengths)
        assert bucket.width >= bucket.longest
        assert count == 1 or count * bucket.width**2 <= places
        if recurring:
            assert count.bit_count() == 1
            assert bucket.width % 8 == 0 or (count == 1 and bucket.width == bucket.longest <= 64)
