"""Where the queue is kept: databases, transactions, tables and their migrations, who leads, who is told."""
