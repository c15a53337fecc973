"""A process that submits until it is killed, and says each id once it is acknowledged.

Run: python submit_forever.py DATA_DIRECTORY
"""

import os
import sys
from pathlib import Path

from server.queue import Queue, SQLite, Submission, new_id

IN_FLIGHT = 8


def main() -> None:
    with SQLite.open(Path(sys.argv[1])) as database:
        queue = Queue(database)
        while True:
            submissions = [
                Submission(new_id(database.clock), "free", "lite0", 1, 1000, 5, 0, 600.0, None, None, "anna")
                for _ in range(IN_FLIGHT)
            ]
            for future in [queue.submit(submission, 1 << 30) for submission in submissions]:
                os.write(1, f"{future.result()[0].id}\n".encode())


if __name__ == "__main__":
    main()
