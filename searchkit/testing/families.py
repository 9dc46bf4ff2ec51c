"""The contract of encoder families: the unreduced packed pass is transformers' own, dropout and gradients included."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from searchkit.reduction.families import FAMILIES, Family, reads
from searchkit.reduction.heads import HEADS
from searchkit.reduction.loading import load_model
from searchkit.reduction.model import AdaptiveModel
from searchkit.reduction.plan import FATES, SITES, Reducer, ReductionPlan, TopK
from searchkit.reduction.plugins import registry
from searchkit.reduction.ragged import Tokens
from searchkit.reduction.relaxed import Hard
from searchkit.reduction.stock_check import compare_with_stock
from searchkit.testing.models import examples, random_model, tokens


class FamilyContract:
    """Tests of `family` on a small transformers `config` (a few layers, at least 60 words); registered meanwhile.

    heads: names of the heads that its stock classes have
    """

    family: Family
    config: Any
    heads: tuple[str, ...] = ("classification", "question_answering")

    @pytest.fixture(autouse=True)
    def _registered(self) -> Any:
        known, name = registry("family").registered, self.config.model_type
        before = dict(known)
        if name not in FAMILIES.own:
            known[name] = self.family
        yield
        known.clear()
        known.update(before)

    def model(self, head: str) -> AdaptiveModel:
        settings = {**self.config.to_dict(), "num_labels": 2}
        return random_model(type(self.config)(**settings), HEADS[head])

    def batch(self, count: int) -> Tokens:
        return tokens(examples(count, seed=count))

    def test_the_unreduced_pass_is_the_stock_models(self) -> None:
        for head in self.heads:
            model = self.model(head)
            compare_with_stock(model, head)
            for count in (1, 2, 3, 8):
                compare_with_stock(model, head, self.batch(count))

    def test_what_heads_read_is_known_from_the_config_alone(self) -> None:
        for head in self.heads:
            assert reads(self.config, head) == self.model(head).view.reads

    @pytest.mark.parametrize("site", SITES)
    @pytest.mark.parametrize("fate", FATES)
    def test_the_hard_limit_of_the_relaxed_pass_is_physical_dropping(self, site: str, fate: str) -> None:
        for head in self.heads:
            model, given = self.model(head).double(), self.batch(3)
            layers = model.shape.layers
            scorer = "value_norm" if site == "before_attention" else "attention_mean"
            template = Reducer(TopK(ratio=1.0), site=site, scorer=scorer, fate=fate)
            plan = ReductionPlan.of_slots(template, layers, lengths=(0.6,) * layers)
            with torch.no_grad():
                logits, _ = model.fade(given, plan, Hard())
                torch.testing.assert_close(logits, model(given, plan).logits, atol=1e-9, rtol=0)

    def test_an_example_is_treated_the_same_alone_and_in_company(self) -> None:
        ids = examples(8, seed=3)
        for head in self.heads:
            model = self.model(head)
            plan = ReductionPlan.of_lengths((0.5,) * model.shape.layers)
            with torch.no_grad():
                together = model(tokens(ids), plan).logits
                alone = torch.cat([model(tokens([example]), plan).logits for example in ids])
            torch.testing.assert_close(alone, together, atol=1e-5, rtol=0)

    def test_a_model_ready_for_inference_predicts_the_same(self) -> None:
        for head in self.heads:
            model, given = self.model(head), self.batch(3)
            whole = ReductionPlan.unreduced(model.shape.layers)
            before = model(given, whole).logits.detach()
            torch.testing.assert_close(model.frozen()(given, whole).logits, before, atol=1e-5, rtol=0)

    def test_a_saved_model_is_loaded_again(self, tmp_path: Path) -> None:
        model, given = self.model("classification"), self.batch(3)
        whole = ReductionPlan.unreduced(model.shape.layers)
        model.save(tmp_path)
        loaded = load_model(str(tmp_path)).eval()
        torch.testing.assert_close(loaded(given, whole).logits, model(given, whole).logits, atol=1e-6, rtol=0)
