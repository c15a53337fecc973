"""The tierserve service: HTTP, durable queue, Job renderer, dispatcher and engines."""
