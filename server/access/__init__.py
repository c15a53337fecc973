"""Tells who sends a request."""
