"""Callbacks and hooks of a project, in real deployments."""
