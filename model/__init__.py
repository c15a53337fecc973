"""The classifier and its worker. Never imports ``server``: the two meet over HTTP only."""
