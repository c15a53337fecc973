"""What workers and operators may ask, on the internal port."""
