"""What shows that a release serves."""
