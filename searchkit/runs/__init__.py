"""Execution of one study in one folder."""
