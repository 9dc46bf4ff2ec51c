"""Where trials and runs are kept: journal files, databases, remote folders."""
