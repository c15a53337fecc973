"""Where Jobs run: one interface, one module an engine."""
