"""The dashboard: pages about all apps, for a browser, over an SSH connection."""
