"""Deployments of apps that run on a Kubernetes cluster."""
