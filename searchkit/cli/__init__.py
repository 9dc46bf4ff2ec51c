"""Command line of searchkit."""
