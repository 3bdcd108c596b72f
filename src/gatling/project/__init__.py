"""The content of a push, validated: names, settings, the exported source."""
