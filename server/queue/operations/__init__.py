"""What the queue does: take predictions in, lease them, know the Jobs, end what is overdue, count."""
