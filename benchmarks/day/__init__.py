"""Simulates a day of ten tiers, with lending and with quotas alone: ``python -m benchmarks.day``."""
