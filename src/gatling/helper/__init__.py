"""What Gatling asks of root: the helper that does it, and the client that asks."""
