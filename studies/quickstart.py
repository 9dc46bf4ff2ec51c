"""A first study: a small encoder, trained from nothing on generated documents; runs offline in a few minutes."""

from objectives import accuracy, latency, macs
from searchkit import NSGA2, Budget, Lengths, Scratch, Space, Study, Supernet
from searchkit.tasks import Generated
from searchkit.training import FineTune, LengthDrop


def study(documents: int = 20_000, finetune_epochs: int = 4, epochs: int = 1, evaluations: int = 240) -> Study:
    """`documents` to train on, epochs of both stages of the training, and `evaluations` candidates to measure."""
    start = FineTune(epochs=finetune_epochs, batch_size=64, learning_rate=1e-3)
    return Study(
        name="quickstart",
        task=Generated(train=documents),
        supernet=Supernet(
            Scratch(layers=4, width=64, heads=4, dropout=0.0),
            recipe=LengthDrop(epochs=epochs, batch_size=64, learning_rate=5e-4, start=start),
        ),
        space=Space(Lengths(levels=10)),
        objectives=[accuracy, macs],
        front_objectives=[latency(batch_size=1)],
        engine=NSGA2(population=24),
        budget=Budget(evaluations=evaluations),
    )
