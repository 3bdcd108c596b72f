"""The machine: installation, checks, backups."""
