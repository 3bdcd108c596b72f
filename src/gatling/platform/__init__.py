"""Where apps run: what each kind of home must offer, and the homes that do."""
