"""A process that submits until it is killed, and prints each id when the submit is acknowledged.

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
                Submission(
                    id=new_id(database.clock),
                    tier="free",
                    model="lite0",
                    images=1,
                    size=1000,
                    top_k=5,
                    priority=0,
                    deadline=600.0,
                    idempotency_key=None,
                    fingerprint=None,
                    owner="anna",
                )
                for _ in range(IN_FLIGHT)
            ]
            for future in [queue.submit(submission, 1 << 30) for submission in submissions]:
                os.write(1, f"{future.result()[0].id}\n".encode())


if __name__ == "__main__":
    main()
