"""Question answering with fewer words at every layer: LengthDrop, and Drop-and-Restore for the span head (SQuAD)."""

from objectives import exact_match, f1, latency, macs
from searchkit import Budget, Lengths, Space, Study, Supernet, Surrogate
from searchkit.engines import LAT
from searchkit.tasks import QuestionAnswering
from searchkit.training import FineTune, LengthDrop


def study(
    model: str = "sentence-transformers/all-MiniLM-L6-v2",
    data: str = "rajpurkar/squad",
    max_length: int = 384,
    train_limit: int | None = None,
    search_limit: int | None = 1000,
    report_limit: int | None = None,
    finetune_epochs: int = 2,
    epochs: int = 2,
    fate: str = "freeze",
    evaluations: int = 150,
    published: int = 0,
    seed: int = 0,
) -> Study:
    """`fate`: "freeze" gives dropped words back to the span head with their last state, "discard" rules them out.

    `finetune_epochs=0` takes a model that is fine-tuned already. `published` iterations of LAT's own search, 30 in its
    authors' experiments, make a fifth baseline of the report.
    """
    limits = {"train": train_limit, "search": search_limit, "report": report_limit}
    start = FineTune(epochs=finetune_epochs, batch_size=16) if finetune_epochs else None
    return Study(
        name=f"squad-lengths-{fate}",
        task=QuestionAnswering(
            data, max_length=max_length, limit={split: rows for split, rows in limits.items() if rows}
        ),
        supernet=Supernet(
            model, recipe=LengthDrop(epochs=epochs, start=start, batch_size=16, fate=fate), attention_dropout=0.0
        ),
        space=Space(Lengths(levels=16)),
        objectives=[f1, macs],
        front_objectives=[exact_match, latency(batch_size=1)],
        engine=Surrogate(population=8),
        budget=Budget(evaluations=evaluations),
        published=LAT(iterations=published) if published else None,
        seed=seed,
    )
