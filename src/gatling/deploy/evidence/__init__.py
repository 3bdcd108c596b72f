"""The evidence that a release serves."""
