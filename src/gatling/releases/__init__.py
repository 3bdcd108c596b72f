"""The release store: immutable trees that share equal files, and how many of them are kept."""
