"""`python -m searchkit` is the command line."""

from searchkit.cli import main

main()
