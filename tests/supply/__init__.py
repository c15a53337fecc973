"""What the project is made of: the lock, the floors of versions, the bill of materials and the audit."""
