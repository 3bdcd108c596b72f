"""Kubernetes clusters: how they are reached, and whether they fit."""
