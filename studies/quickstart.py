"""A first study: a small encoder, trained from nothing on generated documents; runs offline in a few minutes."""

from objectives import accuracy, latency, macs
from searchkit import Budget, Lengths, Scratch, Space, Study, Supernet, Surrogate
from searchkit.tasks import Generated
from searchkit.training import FineTune, LengthDrop


def study(documents: int = 6_000, finetune_epochs: int = 2, epochs: int = 1, evaluations: int = 64) -> Study:
    """`documents` to train on, and a sixth and a third as many to search and to report on; epochs of both stages of the
    training; `evaluations` candidates to measure.
    """
    start = FineTune(epochs=finetune_epochs, learning_rate=7e-4)
    return Study(
        name="quickstart",
        task=Generated(train=documents, search=documents // 6, report=documents // 3, length=(64, 88)),
        supernet=Supernet(
            Scratch(layers=3, width=128, feed_forward=512, dropout=0.0, positions="sinusoidal"),
            # few words of a document decide, so layers may drop most: bound is the largest share that one may
            recipe=LengthDrop(epochs=epochs, learning_rate=7e-4, bound=0.6, sandwich=1, start=start),
        ),
        space=Space(Lengths(levels=16)),
        objectives=[accuracy, macs],
        front_objectives=[latency(batch_size=1, threads=1, budget_s=0.75)],
        engine=Surrogate(population=8),
        budget=Budget(evaluations=evaluations),
    )
