"""What the queue knows and says: states, records, news, errors."""
