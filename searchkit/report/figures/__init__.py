"""Figures of runs: each function draws into one matplotlib `Axes`, given or new, and returns it.

>>> import matplotlib.pyplot as plt
>>> import searchkit
>>> from searchkit.report import figures
>>> run = searchkit.open("runs/quickstart")  # doctest: +SKIP
>>> _, (left, right) = plt.subplots(1, 2)  # doctest: +SKIP
>>> figures.pareto(run, left), figures.layers(run, right)  # doctest: +SKIP
"""

from searchkit._internal.checks import lazy_names

_HOME = {
    "convergence": "progress",
    "heat_map": "per_layer",
    "hypervolume": "progress",
    "latency": "trade_offs",
    "layers": "per_layer",
    "parallel": "trade_offs",
    "pareto": "quality",
    "words": "text",
}
__all__ = list(_HOME)

__getattr__, __dir__ = lazy_names(__name__, _HOME)
