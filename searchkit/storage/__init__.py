"""Storage of trials and runs: journal files, databases, remote folders."""
