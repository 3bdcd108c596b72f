"""PostgreSQL clusters of apps, as names, settings and SQL: pure, for every platform.

Root's helper loads these modules, so they need the standard library alone.
"""
