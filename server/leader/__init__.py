"""What one server at a time does."""
