"""What goes wrong in a build."""


class BuildError(Exception):
    """A model cannot be built; the message says why, and what to choose instead."""


class NotExportable(Exception):
    """torch cannot write the network as ONNX; the message says why."""


class NotQuantizable(Exception):
    """The ONNX file cannot be quantised; the message says why."""
