"""One study, executed in one folder."""
