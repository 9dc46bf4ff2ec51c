"""What searches optimise: quality, cost, latency. An objective is one function and four words."""

from objectives.flops import flops, macs
from objectives.latency import latency
from objectives.quality import accuracy

__all__ = ["OBJECTIVES", "accuracy", "flops", "latency", "macs"]

OBJECTIVES = {"accuracy": accuracy, "flops": flops, "macs": macs, "latency": latency()}
