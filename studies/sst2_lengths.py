"""Accuracy against computation on SST-2 when an encoder keeps fewer words at every layer (LengthDrop, then search)."""

from objectives import accuracy, latency, macs
from searchkit import Budget, Lengths, Space, Study, Supernet, Surrogate
from searchkit.tasks import TextClassification
from searchkit.training import FineTune, LengthDrop


def study(
    model: str = "sentence-transformers/all-MiniLM-L6-v2",
    data: str = "stanfordnlp/sst2",
    text: str | None = None,
    limit: int | None = None,
    finetune_epochs: int = 2,
    epochs: int = 3,
    bound: float = 0.36,
    evaluations: int = 200,
    seed: int = 0,
) -> Study:
    """`data` is a hub name or a local folder; `text` its column of sentences; `limit` caps the rows of every split.

    `bound` is the share of tokens a layer may drop in training: 0.36 leaves 7 % after six layers, 0.2 after twelve.
    """
    column = text or ("sentence" if data == "stanfordnlp/sst2" else "text")
    return Study(
        name="sst2-lengths",
        task=TextClassification(data, text=column, max_length=128, limit=limit),
        supernet=Supernet(model, recipe=LengthDrop(epochs=epochs, bound=bound, start=FineTune(epochs=finetune_epochs))),
        space=Space(Lengths(levels=16)),
        objectives=[accuracy, macs],
        front_objectives=[latency(batch_size=1)],
        engine=Surrogate(population=8),
        budget=Budget(evaluations=evaluations),
        seed=seed,
    )
