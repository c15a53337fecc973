"""Routes in the shapes of other services, for the clients that people have of those. All ask the same queue."""
