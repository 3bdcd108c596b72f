"""The embedded home: one user's directory, with its own nginx and supervisord."""
