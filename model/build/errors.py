"""What goes wrong in a build."""


class BuildError(Exception):
    """A model cannot be built; the message says why, and what to choose instead."""
