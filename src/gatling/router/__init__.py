"""The proxy: which requests reach which instance."""
