"""One member of the family on one task: any recipe, at equal training budget, searched by lengths, thresholds or both.

Run it once per recipe and compare the reports; `benchmarks/family.py` does so and makes one table.
"""

from typing import Any

from objectives import accuracy, latency, macs
from searchkit import Budget, Lengths, Space, Study, StudyError, Supernet, Surrogate, Thresholds
from searchkit.tasks import TextClassification
from searchkit.training import LTP, AdapLeR, FineTune, InputReducer, LengthDrop, PowerBert, Recipe, Transkimmer


def study(
    model: str = "sentence-transformers/all-MiniLM-L6-v2",
    data: str = "stanfordnlp/sst2",
    text: str | None = None,
    recipe: str = "length_drop",
    space: str = "lengths",
    passes: int = 8,
    finetune_epochs: int = 2,
    batch_size: int = 32,
    input: bool = False,
    coefficient: float = 0.3,
    max_length: int = 128,
    train_limit: int | None = None,
    search_limit: int | None = None,
    report_limit: int | None = None,
    evaluations: int = 150,
    front_latency: bool = True,
    seed: int = 0,
) -> Study:
    """`recipe`: length_drop, power_bert, ltp, adapler or transkimmer; `space`: lengths, thresholds or joint.

    `passes` is the training budget after the fine-tuning, in times that the data go forward and back through the model;
    `finetune_epochs=0` takes a model that is fine-tuned already. `input` adds a reducer before the first attention.
    `coefficient` is that of Transkimmer's skim loss; long texts, of which more can go, want less of a push.
    """
    start = FineTune(epochs=finetune_epochs, batch_size=batch_size) if finetune_epochs else None
    trained = recipe_of(
        recipe, passes, batch_size, start, InputReducer(batch_size=batch_size) if input else None, coefficient
    )
    limits = {"train": train_limit, "search": search_limit, "report": report_limit}
    return Study(
        name=f"family-{recipe}-{space}" + ("-input" if input else ""),
        task=TextClassification(
            data,
            text=text or ("sentence" if data == "stanfordnlp/sst2" else "text"),
            max_length=max_length,
            limit={split: rows for split, rows in limits.items() if rows},
        ),
        supernet=Supernet(model, recipe=trained, attention_dropout=0.0 if max_length > 128 else None),
        space=space_of(space, trained),
        objectives=[accuracy, macs],
        front_objectives=[latency(batch_size=1)] if front_latency else [],
        engine=Surrogate(population=8),
        budget=Budget(evaluations=evaluations),
        seed=seed,
    )


def recipe_of(
    name: str,
    passes: int,
    batch_size: int,
    start: FineTune | None,
    input: InputReducer | None = None,
    coefficient: float = 0.3,
) -> Recipe:
    """The recipe whose stages make `passes` passes: LengthDrop makes 4 per epoch, AdapLeR goes back twice."""
    rate, half, third = 5e-5, max(1, passes // 2), max(1, passes // 3)
    if name == "length_drop":
        epochs = max(1, passes // 4)
        return LengthDrop(epochs, start, input, batch_size, rate, bound=0.36, thresholds=0.5)
    if name == "power_bert":
        return PowerBert(passes - half, half, start, input, batch_size, rate)
    if name == "ltp":
        return LTP(passes - third, third, start, input, batch_size, rate)
    if name == "adapler":
        return AdapLeR(half, start, input, "finetuned", batch_size, rate)
    if name == "transkimmer":
        gate: dict[str, Any] = {"width": 64, "bias": 2.0, "coefficient": coefficient, "measure": "macs"}
        return Transkimmer(passes, start, input, batch_size, rate, **gate)
    raise StudyError(f"recipe is length_drop, power_bert, ltp, adapler or transkimmer, got {name!r}")


def space_of(name: str, recipe: Recipe) -> Space:
    lengths = Lengths(levels=[0.02, 0.05, *(k / 16 for k in range(2, 17))])
    if name == "lengths":
        return Space(lengths)
    if name not in ("thresholds", "joint"):
        raise StudyError(f"space is lengths, thresholds or joint, got {name!r}")
    if recipe.scale is None:
        raise StudyError(f"{type(recipe).__name__} trains no score that thresholds could turn; space=lengths")
    thresholds = Thresholds(recipe.scale)
    return Space(thresholds) if name == "thresholds" else Space(lengths, thresholds)
