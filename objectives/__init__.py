"""Objectives of a search: quality, cost, latency, memory; each is a function with a name, unit and direction.

>>> from objectives import OBJECTIVES, accuracy
>>> accuracy.better, OBJECTIVES["flops"].unit
('higher', 'of unreduced')
"""

from objectives.answers import exact_match, f1
from objectives.flops import flops, macs
from objectives.latency import latency
from objectives.memory import memory
from objectives.quality import accuracy, macro_f1, matthews
from objectives.regression import mse, pearson, spearman

__all__ = [
    "OBJECTIVES",
    "accuracy",
    "exact_match",
    "f1",
    "flops",
    "latency",
    "macro_f1",
    "macs",
    "matthews",
    "memory",
    "mse",
    "pearson",
    "spearman",
]

OBJECTIVES = {
    "accuracy": accuracy,
    "macro_f1": macro_f1,
    "matthews": matthews,
    "mse": mse,
    "pearson": pearson,
    "spearman": spearman,
    "exact_match": exact_match,
    "f1": f1,
    "flops": flops,
    "macs": macs,
    "latency": latency(),
    "memory": memory(),
}
