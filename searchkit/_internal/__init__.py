"""Private helpers: checks of settings, identity of user code, paths, files, progress."""
