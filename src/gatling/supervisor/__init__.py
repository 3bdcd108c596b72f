"""What keeps instances running."""
