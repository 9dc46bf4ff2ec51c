"""A first study: a small encoder, trained from nothing on generated documents; runs offline in a few minutes."""

from objectives import accuracy, latency, macs
from searchkit import NSGA2, Budget, Lengths, Scratch, Space, Study, Supernet
from searchkit.tasks import Generated
from searchkit.training import FineTune, LengthDrop


def study(documents: int = 6000, finetune_epochs: int = 6, epochs: int = 2, evaluations: int = 240) -> Study:
    """`documents` to train on; `evaluations` candidates to measure."""
    return Study(
        name="quickstart",
        task=Generated(train=documents, length=(28, 48)),
        supernet=Supernet(
            Scratch(layers=4, width=64, heads=4),
            recipe=LengthDrop(
                epochs=epochs,
                learning_rate=5e-4,
                start=FineTune(epochs=finetune_epochs, learning_rate=1e-3),
            ),
        ),
        space=Space(Lengths(levels=10)),
        objectives=[accuracy, macs],
        front_objectives=[latency(batch_size=1)],
        engine=NSGA2(population=24),
        budget=Budget(evaluations=evaluations),
    )
