"""A process that submits until it is killed, and prints each id when the submit is acknowledged.

Run: python -m tests.server.queue.submit_forever DATA_DIRECTORY
"""

import os
import sys
from pathlib import Path

from server.queue import Queue, SQLite
from tests.server.given import submission

IN_FLIGHT = 8


def main() -> None:
    with SQLite.open(Path(sys.argv[1])) as database:
        queue = Queue(database)
        while True:
            submissions = [submission(database.clock) for _ in range(IN_FLIGHT)]
            for future in [queue.submit(one, 1 << 30) for one in submissions]:
                os.write(1, f"{future.result().prediction.id}\n".encode())


if __name__ == "__main__":
    main()
