"""The files that nginx reads: configuration, pages, passwords."""
