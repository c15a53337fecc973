"""A listener in a process that has no file left to open until a line comes on standard input, and ends at a second.

It prints its port, and then how often it tried to accept a connection meanwhile.
"""

from __future__ import annotations

import asyncio
import logging
import os
import resource
import socket
import sys
from typing import Any

import uvloop
from tornado.web import Application, RequestHandler

from server.http.listener import Listener


class Hello(RequestHandler):
    def get(self) -> None:
        self.finish("hello")


class Counted(socket.socket):
    """Counts the calls of ``accept``."""

    calls = 0

    def accept(self) -> tuple[socket.socket, Any]:
        self.calls += 1
        return super().accept()


async def main() -> None:
    listener = Listener(Application([("/", Hello)]), most=100, lingering=1, refused=lambda *_: None)
    door = Counted()
    door.bind(("127.0.0.1", 0))
    door.setblocking(False)
    door.listen()
    listener.add_sockets([door])
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
    taken = []
    try:
        while True:
            taken.append(os.dup(0))
    except OSError:
        tell(door.getsockname()[1])
    await asyncio.to_thread(sys.stdin.readline)
    tell(door.calls)
    for one in taken:
        os.close(one)
    await asyncio.to_thread(sys.stdin.readline)


def tell(number: int) -> None:
    sys.stdout.write(f"{number}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    uvloop.run(main())
