"""The HTTP API: the operations of the command line over HTTP, for programs with a token."""
