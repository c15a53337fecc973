"""What one server at a time does: the leader starts Jobs, keeps the queue's promises, and removes what is old."""
