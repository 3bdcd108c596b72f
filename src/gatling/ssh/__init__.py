"""Access over SSH: keys' roles, remote commands, pushes."""
