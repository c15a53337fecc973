"""Draws the queue as a moving picture, from a real run: ``python -m benchmarks.moving_picture``."""
