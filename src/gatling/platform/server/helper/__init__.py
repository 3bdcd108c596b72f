"""Root's helper: the few things on a server that need root's rights."""
