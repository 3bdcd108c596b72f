"""What nginx reads: configuration, pages, passwords."""
