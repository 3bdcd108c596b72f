"""How a release becomes the live one, and why: decided before anything is carried out."""
