"""What can be done with apps: each change of state is one function."""
