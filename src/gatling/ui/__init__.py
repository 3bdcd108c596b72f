"""Output for people: progress, tables, JSON."""
