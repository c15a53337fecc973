"""The handlers: ``public`` for clients, ``internal`` for workers and operators, and what they share."""
