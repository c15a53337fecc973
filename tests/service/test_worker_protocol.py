"""The internal port, asked with the token of a real worker."""

from __future__ import annotations

import json
from pathlib import Path

from tests.running import Answer, Client, service
from tests.service.pictures import CAT
from tests.service.test_classify import is_cat
from tests.waiting import eventually


def test_the_job_of_a_worker_that_was_killed_is_dismissed(models: Path, tmp_path: Path) -> None:
    with service(models, tmp_path, ["tiers.free.quota.pods=1"]) as serving:
        assert is_cat(serving.post("free", CAT))
        (worker,) = serving.workers()
        bearer = {"Authorization": f"Bearer {worker.environ()['TIERSERVE_TOKEN']}"}
        internal = Client(serving.internal_port)

        def lease() -> Answer:
            return internal.ask("POST", "/work/lease", json.dumps({"most": 1, "wait": 0}).encode(), bearer)

        assert lease().status == 204
        worker.kill()
        eventually(lease, 30, "the Job that was killed is dismissed", lambda answer: answer.status == 410)
