"""How work arrives on a host: repositories, their hook, pushes."""
