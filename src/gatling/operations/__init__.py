"""The operations on apps: each change of state is one function."""
