"""Benchmarks, one claim per file; each prints its figures and keeps them in `results/`: `python -m benchmarks.NAME`."""
