"""Changes of an app's database."""
