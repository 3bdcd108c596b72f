"""What was pushed, validated: names, settings, the exported source."""
