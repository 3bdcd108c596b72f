"""How a release takes the live one's place."""
