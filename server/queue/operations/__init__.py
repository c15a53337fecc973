"""What the queue does: take in, lease, keep account of Jobs, keep promises, count."""
