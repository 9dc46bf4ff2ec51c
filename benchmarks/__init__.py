"""One claim per file; each prints its figures and keeps them in `results/`. Run as `python -m benchmarks.NAME`."""
