"""The handlers, one module a resource, and what they share."""
