"""The contract of scorers and predictors: alone as in company, dropping equals masking, costs by number, shares."""

from __future__ import annotations

import copy
from contextlib import suppress
from typing import Any

import pytest
import torch

from searchkit.reduction.attention import attend
from searchkit.reduction.model import AdaptiveModel
from searchkit.reduction.plan import SITES, Reducer, ReductionPlan, TopK
from searchkit.reduction.plugins import registry
from searchkit.reduction.ragged import Layout
from searchkit.reduction.relaxed import Hard
from searchkit.reduction.scorers import Scorer, cost_is_placed, scale_of, scorer_of
from searchkit.testing.models import LAYERS, bert, examples, tokens


class ScorerContract:
    """Tests of `scorer`: an object, or a name."""

    scorer: str | Scorer

    def model(self) -> AdaptiveModel:
        """A random BERT; with the predictor of that name, if it is one."""
        return bert()

    def plans(self, site: str) -> list[ReductionPlan]:
        """Lengths; thresholds and both where its scores have a scale; skipped at a site without an attention map."""
        read = scorer_of(self.scorer, 0, self.model().predictor).read
        if site == "before_attention" and read is not None:
            pytest.skip("no attention map is there before attention")
        template = Reducer(TopK(ratio=1.0), site=site, scorer=self.scorer)
        plans = [ReductionPlan.of_slots(template, LAYERS, lengths=(0.8, 0.5, 0.3))]
        if (medium := {"relative": 0.7, "probability": 0.5}.get(scale_of(self.scorer) or "")) is not None:
            thresholds = (medium,) * LAYERS
            plans.append(ReductionPlan.of_slots(template, LAYERS, thresholds=thresholds))
            plans.append(ReductionPlan.of_slots(template, LAYERS, thresholds=thresholds, lengths=(0.8, 0.5, 0.3)))
        return plans

    @pytest.mark.parametrize("site", SITES)
    def test_an_example_keeps_the_same_tokens_alone_and_in_company(self, site: str) -> None:
        model, ids = self.model(), examples(8, seed=3)
        for plan in self.plans(site):
            with torch.no_grad():
                together, again = (model(tokens(ids), plan) for _ in range(2))
                alone = [model(tokens([example]), plan) for example in ids]
            assert torch.equal(together.logits, again.logits)
            torch.testing.assert_close(torch.cat([each.logits for each in alone]), together.logits, atol=1e-5, rtol=0)
            for column in ("attention", "feed_forward", "scoring"):
                each = torch.cat([getattr(own.trace, column) for own in alone])
                assert torch.equal(each, getattr(together.trace, column)), column

    @pytest.mark.parametrize("site", SITES)
    @pytest.mark.parametrize("batch", [1, 2, 3, 8])
    def test_the_hard_limit_of_the_relaxed_pass_is_physical_dropping(self, site: str, batch: int) -> None:
        model, given = self.model().double(), tokens(examples(batch, seed=batch))
        for plan in self.plans(site):
            with torch.no_grad():
                logits, _ = model.fade(given, plan, Hard())
                torch.testing.assert_close(logits, model(given, plan).logits, atol=1e-9, rtol=0)

    def test_scores_are_finite_and_shares_sum_to_one(self) -> None:
        from searchkit.reduction.scorers import Seen

        model, given = self.model(), tokens(examples(4, seed=1))
        block, hidden, layout = model.view.blocks[0], model.embed(given), given.layout
        projected = block.projected(hidden, layout.positions)
        scorer = scorer_of(self.scorer, 0, model.predictor)
        _, attention = attend(projected, layout, heads=block.heads, read=scorer.read)
        scores = scorer.score(Seen(hidden, layout, layout, lambda: projected.chunk(3, -1)[2], attention))
        assert scores.shape == layout.positions.shape
        assert torch.isfinite(scores).all()
        for start, stop in zip(layout.offsets, layout.offsets[1:], strict=False):
            if scale_of(self.scorer) == "relative":
                assert scores[start:stop].sum().item() == pytest.approx(1.0, abs=1e-5)
            if scale_of(self.scorer) == "probability":
                assert ((scores[start:stop] >= 0) & (scores[start:stop] <= 1)).all()

    def test_the_cost_follows_from_the_numbers_of_tokens_unless_it_says_placed(self) -> None:
        scorer, lengths = scorer_of(self.scorer, 0, self.model().predictor), torch.tensor([3, 17])
        whole = Layout.of_lengths(lengths)
        cost = scorer.macs(whole, width=32, heads=4)
        assert cost.dtype == torch.int64
        assert cost.shape == (2,)
        assert (cost >= 0).all()
        if not cost_is_placed(self.scorer):
            assert torch.equal(scorer.macs(Layout.of_counts(lengths), width=32, heads=4), cost)

    def test_a_copy_is_equal_so_that_candidates_share_what_it_computed(self) -> None:
        again = copy.deepcopy(self.scorer)
        assert again == self.scorer
        assert hash(again) == hash(self.scorer)


class PredictorContract(ScorerContract):
    """Tests of `predictor`, the class of a trained scorer, made with `settings`."""

    predictor: type[Any]
    settings: dict[str, Any] = {}  # noqa: RUF012
    scorer = "predictor_under_test"

    @pytest.fixture(autouse=True)
    def _registered(self) -> Any:
        known = registry("predictor").registered
        known[self.scorer] = self.predictor
        yield
        with suppress(KeyError):
            del known[self.scorer]

    def model(self) -> AdaptiveModel:
        model = bert()
        for part in model.attach(str(self.scorer), **self.settings):
            for weight in part.parameters():
                torch.nn.init.normal_(weight, std=0.5)
        return model.eval()

    def test_every_parameter_gets_a_finite_gradient(self) -> None:
        from searchkit.reduction.scorers import Seen

        model, given = self.model(), tokens(examples(4, seed=1))
        block, hidden, layout = model.view.blocks[0], model.embed(given), given.layout
        projected = block.projected(hidden, layout.positions)
        scorer: Any = model.predictor(str(self.scorer), 0)
        _, attention = attend(projected, layout, heads=block.heads, read=scorer.read)
        seen = Seen(hidden, layout, layout, lambda: projected.chunk(3, -1)[2], attention)
        (scorer.score(seen) ** 2).sum().backward()
        for name, weight in scorer.named_parameters():
            assert weight.grad is not None, name
            assert torch.isfinite(weight.grad).all(), name
