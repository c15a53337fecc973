"""The classifier and its worker. They talk to ``server`` over HTTP and never import it."""
