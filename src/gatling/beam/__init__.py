"""The running node: the control channel to it, and what runs inside it."""
