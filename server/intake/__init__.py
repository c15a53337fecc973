"""From the bytes of a request to an accepted prediction."""
