"""The contract of recipes: the hard limit is dropping, what is saved loads, an interrupted training ends the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest
import torch
from torch import Tensor

from searchkit.errors import StudyError
from searchkit.records import Candidate
from searchkit.reduction.device import dtype_of
from searchkit.reduction.loading import load_model
from searchkit.reduction.model import AdaptiveModel
from searchkit.reduction.plan import ReductionPlan
from searchkit.reduction.relaxed import Hard
from searchkit.tasks import Encoded, Generated, word_tokenizer
from searchkit.training.finetune import FineTune
from searchkit.training.packing import as_tokens
from searchkit.training.plans import plan, slots
from searchkit.training.recipe import Recipe
from searchkit.training.scratch import Scratch
from searchkit.training.stage import TrainingContext
from searchkit.training.supernet import Supernet

TASK: Final = Generated(train=160, search=40, report=40)
SCRATCH: Final = Scratch(layers=2, width=16, heads=2, feed_forward=16)
LAYERS: Final = SCRATCH.layers


def data_for(head: str, count: int = 160) -> Encoded:
    """Generated documents with classes or numbers, or random texts in which an answer is marked by its neighbours."""
    if head == "question_answering":
        return _questions(count)
    data = TASK.encode(TASK.tables(0).train, word_tokenizer(TASK.words())).take(np.arange(count))
    if head == "regression":
        return Encoded(data.ids, data.types, data.offsets, (data.labels * 2.0 - 1.0).astype(np.float32), data.marks)
    return data


def _questions(count: int) -> Encoded:
    """[CLS] question [SEP] text [SEP]; the answer is the word after token 7; some texts are longer than a block."""
    rng = np.random.default_rng(0)
    ids, types, labels, question, lengths = [], [], [], [], []
    for _ in range(count):
        words = rng.integers(10, 40, rng.integers(12, 60))
        answer = int(rng.integers(1, len(words)))
        words[answer - 1] = 7
        example = [2, 8, 9, 3, *words.tolist(), 3]
        ids += example
        types += [0] * 4 + [1] * (len(words) + 1)
        question += [False, True, True] + [False] * (len(words) + 2)
        labels.append((answer + 4, answer + 4))
        lengths.append(len(example))
    flat = np.array(ids, dtype=np.int32)
    marks = {"sep": flat == 3, "question": np.array(question)}
    offsets = np.cumsum([0, *lengths], dtype=np.int64)
    return Encoded(flat, np.array(types, dtype=np.int32), offsets, np.array(labels, dtype=np.int64), marks)


def untrained(head: str = "classification", seed: int = 0, max_length: int = 80) -> AdaptiveModel:
    labels = ("score",) if head == "regression" else ("a", "b")
    supernet = Supernet(SCRATCH, FineTune())
    return supernet.build(word_tokenizer(TASK.words()), labels, max_length, seed, head)


def context_in(folder: Path, seed: int = 0, progress: Any = lambda *_: None) -> TrainingContext:
    device = torch.device("cpu")
    return TrainingContext(folder, device, seed, progress, dtype_of("auto", device))


def weights(model: AdaptiveModel) -> torch.Tensor:
    return torch.cat([weight.detach().flatten() for weight in model.parameters()])


def candidates(recipe: Recipe, model: AdaptiveModel) -> list[Candidate]:
    """Lengths, what training found, and, where there is a scale, thresholds and both together."""
    count = slots(recipe, LAYERS)
    lengths = tuple(0.9 - 0.3 * place for place in range(count))
    learnt = [Candidate.of(**{key: tuple(model.notes[key])}) for key in ("lengths", "thresholds") if key in model.notes]
    if recipe.scale is None:
        return [Candidate.of(lengths=lengths), *learnt]
    medium = {"relative": 0.8, "probability": 0.4}[recipe.scale]
    thresholds = (medium,) * count
    both = Candidate.of(lengths=lengths, thresholds=thresholds)
    return [Candidate.of(lengths=lengths), Candidate.of(thresholds=thresholds), both, *learnt]


class StoppedError(Exception):
    """A stand-in for a kill: it leaves the training at a step of our choice."""


class RecipeContract:
    """Tests of `recipe`, small enough to train in seconds, with the kind of output `head`.

    interrupted: whether an interrupted training is tested too, which needs 20 steps of training and more
    """

    recipe: Recipe
    head = "classification"
    interrupted = True
    _trained: AdaptiveModel

    def data(self) -> Encoded:
        """160 examples; to be overridden for a head of your own."""
        return data_for(self.head)

    def untrained(self) -> AdaptiveModel:
        """A model of `LAYERS` layers that knows the words of `data`."""
        return untrained(self.head)

    def trained(self, folder: Path, progress: Any = lambda *_: None) -> AdaptiveModel:
        model = self.untrained()
        self.recipe.train(model, self.data(), context_in(folder, progress=progress))
        return model

    @pytest.fixture
    def model(self, tmp_path_factory: pytest.TempPathFactory) -> Any:
        """The model, trained once for all tests of a class, on one thread."""
        threads, cls = torch.get_num_threads(), type(self)
        torch.set_num_threads(1)
        if "_trained" not in vars(cls):
            cls._trained = self.trained(tmp_path_factory.mktemp("recipe")).eval()
        yield cls._trained
        torch.set_num_threads(threads)

    def test_training_changes_the_model_and_leaves_no_trace_of_its_own(self, model: AdaptiveModel) -> None:
        assert not model.learned
        stock = torch.cat([weight.detach().flatten() for weight in model.stock.parameters()])
        before = torch.cat([weight.detach().flatten() for weight in self.untrained().stock.parameters()])
        assert (stock != before).float().mean() > 0.5
        assert torch.isfinite(weights(model)).all()

    @pytest.mark.parametrize("batch", [1, 2, 3, 8])
    def test_the_hard_limit_of_the_relaxed_pass_is_physical_dropping(self, batch: int, model: AdaptiveModel) -> None:
        tokens = as_tokens(self.data().take(range(batch)))
        dropped = 0
        for candidate in candidates(self.recipe, model):
            reduced = plan(self.recipe, candidate, LAYERS)
            with torch.no_grad():
                physical, (logits, _) = model(tokens, reduced), model.fade(tokens, reduced, Hard())
            torch.testing.assert_close(logits, physical.logits, atol=1e-5, rtol=0)
            dropped += int((physical.trace.feed_forward < tokens.layout.lengths[:, None]).sum())
        assert dropped

    def test_an_example_is_treated_the_same_alone_and_in_company_and_every_time(self, model: AdaptiveModel) -> None:
        data = self.data()
        for candidate in candidates(self.recipe, model):
            reduced = plan(self.recipe, candidate, LAYERS)
            with torch.no_grad():
                together, again = (model(as_tokens(data.take(range(9))), reduced) for _ in range(2))
                assert torch.equal(together.logits, again.logits)
                alone = [model(as_tokens(data.take([row])), reduced) for row in range(9)]
            torch.testing.assert_close(torch.cat([one.logits for one in alone]), together.logits, atol=1e-5, rtol=0)
            for column in ("attention", "feed_forward", "scoring"):
                own = torch.cat([getattr(one.trace, column) for one in alone])
                assert torch.equal(own, getattr(together.trace, column)), column
            whole = together.trace.tokens[:, None]
            assert (together.trace.attention <= whole).all()
            assert (together.trace.feed_forward <= together.trace.attention).all()

    def test_what_is_saved_loads_again_and_the_stock_class_loads_the_weights(
        self, model: AdaptiveModel, tmp_path: Path
    ) -> None:
        tokens = as_tokens(self.data().take(range(5)))
        model.save(tmp_path)
        loaded = load_model(str(tmp_path)).eval()
        assert loaded.notes == model.notes
        for candidate in (Candidate.of(), *candidates(self.recipe, model)):
            reduced = plan(self.recipe, candidate, LAYERS)
            with torch.no_grad():  # a product with one output may sum in another order where its weights lie elsewhere
                ours, again = model(tokens, reduced).logits, loaded(tokens, reduced).logits
            torch.testing.assert_close(again, ours, atol=1e-6, rtol=0)
        stock = type(model.stock).from_pretrained(tmp_path)
        for name_, weight in model.stock.named_parameters():
            assert torch.equal(weight, stock.get_parameter(name_))

    def test_a_candidate_that_names_nothing_is_the_unreduced_model(self, model: AdaptiveModel) -> None:
        tokens = as_tokens(self.data().take(range(5)))
        recipe = self.recipe
        count = slots(recipe, LAYERS)
        whole: Tensor = model(tokens, ReductionPlan.unreduced(LAYERS)).logits
        same = [Candidate.of(), Candidate.of(lengths=(1.0,) * count)]
        if recipe.scale is not None:
            same.append(Candidate.of(lengths=(1.0,) * count, thresholds=(0.0,) * count))
        for candidate in same:
            assert plan(recipe, candidate, LAYERS) == ReductionPlan.unreduced(LAYERS)
            assert torch.equal(model(tokens, plan(recipe, candidate, LAYERS)).logits, whole)

    def test_an_interrupted_training_ends_with_the_same_weights(self, model: AdaptiveModel, tmp_path: Path) -> None:
        if not self.interrupted:
            pytest.skip("another class of this recipe holds it to this")
        for stop_at in (3, 14):  # steps since it was continued: in the first stage and in the next
            taken = 0

            def stop(phase: str, done: int, total: int, note: str = "", stop_at: int = stop_at) -> None:
                nonlocal taken
                taken += 1
                if taken == stop_at:
                    raise StoppedError

            try:
                self.trained(tmp_path, stop)
            except StoppedError:
                continue
        rough = self.trained(tmp_path)
        assert torch.equal(weights(rough), weights(model))
        assert rough.notes == model.notes

    def test_thresholds_without_a_score_to_turn_are_refused(self) -> None:
        recipe = self.recipe
        count = slots(recipe, LAYERS)
        if recipe.scale is None:
            with pytest.raises(StudyError, match="trains no score that thresholds could turn; search its lengths"):
                plan(recipe, Candidate.of(thresholds=(0.5,) * count), LAYERS)
        with pytest.raises(StudyError, match="the candidate's lengths are"):
            plan(recipe, Candidate.of(lengths=(1.0,) * (count + 1)), LAYERS)

    def test_another_seed_trains_other_weights(self, model: AdaptiveModel, tmp_path: Path) -> None:
        other = self.untrained()
        self.recipe.train(other, self.data(), context_in(tmp_path, seed=1))
        assert not torch.equal(weights(other), weights(model))
