"""What runs of an app: instances, workers, jobs."""
