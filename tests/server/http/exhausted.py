"""A listener in a process that has no file left to open. It takes one word on its standard input: let them go."""

from __future__ import annotations

import asyncio
import logging
import os
import resource
import sys

from tornado.netutil import bind_sockets
from tornado.web import Application, RequestHandler

from server.http.listener import Listener


class Hello(RequestHandler):
    def get(self) -> None:
        self.finish("hello")


async def main() -> None:
    listener = Listener(Application([("/", Hello)]), most=100, refused=lambda problem: None)
    sockets = bind_sockets(0, "127.0.0.1")
    listener.add_sockets(sockets)
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
    taken = []
    try:
        while True:
            taken.append(os.dup(0))
    except OSError:
        sys.stdout.write(f"{sockets[0].getsockname()[1]}\n")
        sys.stdout.flush()
    await asyncio.to_thread(sys.stdin.readline)
    for one in taken:
        os.close(one)
    await asyncio.to_thread(sys.stdin.readline)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    asyncio.run(main())
