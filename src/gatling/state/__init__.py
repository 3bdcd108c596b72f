"""Gatling's records: apps, releases, deployments, config and the audit, in one SQLite file."""
