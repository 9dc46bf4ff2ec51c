"""The contract of tasks: three splits without a common row, encoded as the head reads them, the same every time."""

from __future__ import annotations

import json
from functools import cached_property
from typing import Any

import numpy as np
import pytest

from searchkit.reduction.heads import HEADS
from searchkit.tasks import Tables, Task, word_tokenizer
from searchkit.tasks.base import SPLITS


class TaskContract:
    """Tests of `task`; `tokenizer` is a word-level one over its texts unless given."""

    task: Task

    @cached_property
    def tables(self) -> Tables:
        return self.task.tables(0)

    @cached_property
    def tokenizer(self) -> Any:
        columns = [name for name in ("text", "text_pair", "question", "context") if name in self.tables["train"]]
        texts = [text for split in SPLITS for column in columns for text in self.tables[split][column]]
        return word_tokenizer(sorted({word for text in texts for word in text.split()}))

    def test_every_split_has_rows_numbered_from_zero(self) -> None:
        for split in SPLITS:
            table = self.tables[split]
            assert len(table) > 0
            assert table.index.tolist() == list(range(len(table)))

    def test_the_same_seed_gives_the_same_rows(self) -> None:
        again = self.task.tables(0)
        for split in SPLITS:
            assert again[split].equals(self.tables[split])
        assert again.labels == self.tables.labels

    @pytest.mark.parametrize("split", SPLITS)
    def test_encoded_rows_are_examples_in_order_and_no_longer_than_it_says(self, split: str) -> None:
        table = self.tables[split]
        data = self.task.encode(table, self.tokenizer)
        assert len(np.unique(data.units)) == len(table)
        assert data.lengths.max() <= self.task.max_length
        assert data.digest() == self.task.encode(table, self.tokenizer).digest()

    def test_labels_have_the_format_of_the_head(self) -> None:
        data = self.task.encode(self.tables["train"], self.tokenizer)
        head = HEADS.look_up(self.task.head)
        assert (str(data.labels.dtype), data.labels.shape[1:]) == head.label_format
        assert head.fits(len(self.tables.labels))
        if head.named_outputs:
            assert set(data.labels.tolist()) <= set(range(len(self.tables.labels)))

    def test_a_row_is_encoded_the_same_alone_and_in_company(self) -> None:
        table = self.tables["train"].head(5)
        together = self.task.encode(table, self.tokenizer)
        for row in range(len(table)):
            alone = self.task.encode(table.iloc[[row]].reset_index(drop=True), self.tokenizer)
            assert alone.ids.tolist() == together.take(np.flatnonzero(together.units == row)).ids.tolist()

    def test_the_description_is_json(self) -> None:
        described = self.task.describe()
        assert json.loads(json.dumps(described)) == described
