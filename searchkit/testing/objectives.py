"""The contract of objectives: finite estimates that repeat, on a search split and on all its candidates alike."""

from __future__ import annotations

import json
import math
from functools import cached_property

import numpy as np
import pytest

from searchkit.evaluate.bench import SupernetBench
from searchkit.evaluate.plan_runner import PlanRunner
from searchkit.objective import Objective
from searchkit.records import Candidate, Estimate
from searchkit.tasks import Generated, Task, word_tokenizer
from searchkit.training.finetune import FineTune
from searchkit.training.scratch import Scratch
from searchkit.training.supernet import Supernet

LAYERS = 3


class ObjectiveContract:
    """Tests of `objective` on the search split of `task`, whose words are known."""

    objective: Objective
    task: Task = Generated(train=20, search=60, report=20)

    @cached_property
    def bench(self) -> SupernetBench:
        """An untrained model of `LAYERS` layers on the search split."""
        tables = self.task.tables(0)
        words = sorted({word for text in tables["search"].get("text", ()) for word in text.split()})
        tokenizer = word_tokenizer(words)
        supernet = Supernet(Scratch(layers=LAYERS, width=16, heads=2, feed_forward=32), FineTune())
        model = supernet.build(tokenizer, tables.labels, self.task.max_length, 0, self.task.head).eval()
        data = self.task.encode(tables["search"], tokenizer)
        return SupernetBench(PlanRunner(model, FineTune()), data, padded_to=self.task.max_length, token_budget=256)

    def measured(self, *lengths: float) -> Estimate:
        """The estimate of a candidate with these lengths."""
        return self.objective.measure(self.bench.subject(Candidate.of(lengths=lengths)))

    @pytest.mark.parametrize("lengths", [(1.0, 1.0, 1.0), (1.0, 0.5, 0.5), (0.2, 0.1, 0.1)])
    def test_it_estimates_a_finite_number_and_says_of_how_many_examples(self, lengths: tuple[float, ...]) -> None:
        estimate = self.measured(*lengths)
        assert isinstance(estimate, Estimate)
        assert math.isfinite(estimate.value)
        assert estimate.n >= 1
        assert estimate.standard_error is None or estimate.standard_error >= 0
        assert Estimate.from_json(json.loads(json.dumps(estimate.to_json()))) == estimate

    def test_the_same_candidate_has_the_same_value_every_time(self) -> None:
        if self.objective.exclusive:
            pytest.skip("a timed value is another each time")
        assert self.measured(1.0, 0.5, 0.5) == self.measured(1.0, 0.5, 0.5)

    def test_a_traced_objective_needs_no_outputs(self) -> None:
        static = self.bench.subject(Candidate.of(lengths=(1.0, 0.5, 0.5))).static
        if self.objective.traced and static is not None:
            assert self.objective.measure(static).value == self.measured(1.0, 0.5, 0.5).value

    def test_values_of_examples_are_one_per_unit_and_their_mean_is_the_value(self) -> None:
        if self.objective.examples is None:
            return
        subject = self.bench.subject(Candidate.of(lengths=(1.0, 0.5, 0.5)))
        values = self.objective.examples(subject)
        assert values.shape == (len(np.unique(subject.units)),)
        assert values.mean() == pytest.approx(self.objective.measure(subject).value)

    def test_its_description_is_json(self) -> None:
        described = self.objective.describe()
        assert json.loads(json.dumps(described)) == described
