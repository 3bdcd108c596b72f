"""What Gatling knows: apps, releases, deployments, config and who did what, in one SQLite file."""
