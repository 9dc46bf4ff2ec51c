"""`python -m searchkit` is the command line."""

from searchkit.cli.app import main

main()
