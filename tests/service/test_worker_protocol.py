"""The internal port, asked with the token of a real worker."""

from __future__ import annotations

from pathlib import Path

from tests.channel import Channel, Closed, Refused
from tests.running import service
from tests.service.pictures import CAT
from tests.service.test_classify import is_cat
from tests.waiting import eventually


def test_the_job_of_a_worker_that_was_killed_is_dismissed(models: Path, tmp_path: Path) -> None:
    with service(models, tmp_path, ["tiers.free.quota.pods=1"]) as serving:
        assert is_cat(serving.post("free", CAT))
        (worker,) = serving.workers()
        token = worker.environ()["TIERSERVE_TOKEN"]

        def status() -> int:
            try:
                with Channel(f"http://127.0.0.1:{serving.internal_port}", token) as channel:
                    assert channel.hold() == []
                return 101
            except Refused as refused:
                return refused.answer.status

        assert status() == 101
        assert is_cat(serving.post("free", CAT)), "its worker has come back"
        worker.kill()
        eventually(status, 30, "the Job that was killed is dismissed", lambda found: found == 410, (Closed,))
