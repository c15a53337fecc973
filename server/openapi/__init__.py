"""What the public port offers, in the words of OpenAPI."""
