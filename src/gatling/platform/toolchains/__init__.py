"""Toolchains that Gatling installs: an Elixir and its OTP in one directory, whole or not there."""
