"""Submission of a study as a job of a Ray cluster."""
