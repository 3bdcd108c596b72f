"""Gatling: one's own server as a Heroku for Phoenix apps."""

__version__ = "2.0.0.dev0"
