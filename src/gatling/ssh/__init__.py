"""Who comes in over SSH: keys' roles, remote commands, pushes."""
