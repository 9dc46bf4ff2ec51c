"""Entry point of `python -m searchkit`, the command line."""

import os
import sys

sys.path.sort(key=lambda entry: entry == os.getcwd())  # last, as for the command: a file here hides no package

from searchkit.cli.app import main

main()
