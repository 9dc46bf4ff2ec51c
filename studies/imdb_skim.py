"""Long reviews: Transkimmer's gates, with lengths and skim thresholds searched together on one trained model."""

from objectives import accuracy, latency, macs
from searchkit import Budget, Lengths, Space, Study, Supernet, Surrogate, Thresholds
from searchkit.tasks import TextClassification
from searchkit.training import FineTune, Transkimmer


def study(
    model: str = "sentence-transformers/all-MiniLM-L6-v2",
    data: str = "stanfordnlp/imdb",
    max_length: int = 512,
    train_limit: int | None = None,
    search_limit: int | None = 1000,
    report_limit: int | None = None,
    finetune_epochs: int = 2,
    epochs: int = 3,
    width: int = 64,
    coefficient: float = 0.1,
    evaluations: int = 150,
    seed: int = 0,
) -> Study:
    """The limits cap the rows of a split; `width` is that of the gates, as wide as the encoder in the paper.

    `coefficient` is that of the skim loss. The published 0.2 to 0.5 weigh a share of padded inputs; on real tokens of
    long texts they leave a seventh of the computation and not enough of the quality (docs/measuring.md).
    """
    limits = {"train": train_limit, "search": search_limit, "report": report_limit}
    return Study(
        name="imdb-skim",
        task=TextClassification(
            data, max_length=max_length, limit={split: rows for split, rows in limits.items() if rows}
        ),
        supernet=Supernet(
            model,
            attention_dropout=0.0,
            recipe=Transkimmer(
                epochs=epochs,
                start=FineTune(epochs=finetune_epochs, batch_size=16),
                batch_size=16,
                learning_rate=5e-5,
                width=width,
                bias=2.0,
                coefficient=coefficient,
                measure="macs",
            ),
        ),
        space=Space(Lengths(levels=16), Thresholds("probability")),
        objectives=[accuracy, macs],
        front_objectives=[latency(batch_size=1)],
        engine=Surrogate(population=8),
        budget=Budget(evaluations=evaluations),
        seed=seed,
    )
