"""The other servers' applications. Each runs in an environment of its own, with this checkout on its path."""
