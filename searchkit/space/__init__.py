"""Search space: the named dimensions and their product, one file per kind of dimension."""

from searchkit.space.base import Dimension, Genome
from searchkit.space.lengths import Lengths
from searchkit.space.scalars import Choice, Integer
from searchkit.space.space import Space
from searchkit.space.thresholds import Thresholds

__all__ = ["Choice", "Dimension", "Genome", "Integer", "Lengths", "Space", "Thresholds"]
