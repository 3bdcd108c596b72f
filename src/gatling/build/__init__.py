"""From exported source to a release tree."""
