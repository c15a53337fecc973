"""The tierserve service: HTTP, durable queue, Job renderer, leader and engines."""
