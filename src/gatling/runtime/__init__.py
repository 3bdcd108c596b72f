"""The running parts of an app: instances, workers, jobs."""
