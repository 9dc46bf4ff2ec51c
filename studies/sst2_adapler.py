"""AdapLeR on SST-2: its contribution predictors, with the thresholds it learnt as the start of the search."""

from objectives import accuracy, latency, macs
from searchkit import Budget, Space, Study, Supernet, Surrogate, Thresholds
from searchkit.tasks import TextClassification
from searchkit.training import AdapLeR, FineTune


def study(
    model: str = "sentence-transformers/all-MiniLM-L6-v2",
    data: str = "stanfordnlp/sst2",
    text: str | None = None,
    limit: int | None = None,
    finetune_epochs: int = 3,
    epochs: int = 5,
    gamma: float = 5e-3,
    phi: float = 5e-4,
    evaluations: int = 150,
    seed: int = 0,
) -> Study:
    """`data` is a hub name or a local folder; `gamma` and `phi` weigh AdapLeR's distillation and length losses."""
    return Study(
        name="sst2-adapler",
        task=TextClassification(
            data, text=text or ("sentence" if data == "stanfordnlp/sst2" else "text"), max_length=64, limit=limit
        ),
        supernet=Supernet(
            model, recipe=AdapLeR(epochs=epochs, gamma=gamma, phi=phi, start=FineTune(epochs=finetune_epochs))
        ),
        space=Space(Thresholds("relative")),
        objectives=[accuracy, macs],
        front_objectives=[latency(batch_size=1)],
        engine=Surrogate(population=8),
        budget=Budget(evaluations=evaluations),
        seed=seed,
    )
