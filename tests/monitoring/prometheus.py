"""A real Prometheus that scrapes a server of this machine."""

from __future__ import annotations

import json
import subprocess
import urllib.parse
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from tests.running import Client, free_port
from tests.waiting import eventually

START_SECONDS = 60.0
SCRAPE_SECONDS = 1

Series = Mapping[str, Any]


class Prometheus(Client):
    """Asks one by its HTTP interface."""

    def range(self, expression: str, start: float, end: float) -> Sequence[Series]:
        """The series of a query, with a value for each second. Raises ``AssertionError`` with what Prometheus says."""
        given = {"query": expression, "start": start, "end": end, "step": SCRAPE_SECONDS}
        found: Sequence[Series] = self._data("/api/v1/query_range", given)["result"]
        return found

    def now(self, expression: str) -> Sequence[Series]:
        """The series of a query at this moment."""
        found: Sequence[Series] = self._data("/api/v1/query", {"query": expression})["result"]
        return found

    def label_values(self, selector: str, label: str) -> list[str]:
        """What a label is in the series of a selector."""
        found: list[str] = self._data(f"/api/v1/label/{label}/values", {"match[]": selector})
        return found

    def rules(self) -> Sequence[Mapping[str, Any]]:
        """Every rule that is evaluated, with its health."""
        return [rule for group in self._data("/api/v1/rules", {})["groups"] for rule in group["rules"]]

    def scraped(self) -> int:
        """How many targets answered at the last scrape."""
        return len(self.now("up == 1"))

    def _data(self, path: str, given: Mapping[str, Any]) -> Any:
        answer = self.get(f"{path}?{urllib.parse.urlencode(given)}")
        assert answer.status == 200, f"{given}: {answer.body.decode()}"
        return answer.json["data"]


@contextmanager
def prometheus(
    binary: Path, folder: Path, scrapes: Sequence[Mapping[str, Any]], rules: Sequence[Path]
) -> Iterator[Prometheus]:
    """One with these scrape configurations and files of rules, while the block lasts. Its data is in ``folder``."""
    folder.mkdir()
    often = {"scrape_interval": f"{SCRAPE_SECONDS}s", "evaluation_interval": f"{SCRAPE_SECONDS}s"}
    configuration = {"global": often, "rule_files": [str(path) for path in rules], "scrape_configs": list(scrapes)}
    (folder / "prometheus.yml").write_text(yaml.safe_dump(configuration))
    found = Prometheus(free_port())
    argv = [str(binary), f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data"]
    argv += [f"--web.listen-address=127.0.0.1:{found.port}", "--log.format=json"]
    log = folder / "prometheus.log"
    with log.open("wb") as output, subprocess.Popen(argv, cwd=folder, stdout=output, stderr=output) as process:
        try:
            eventually(
                found.scraped,
                START_SECONDS,
                f"Prometheus scrapes its targets; see {log}",
                lambda many: many == len(scrapes),
                (OSError, AssertionError, json.JSONDecodeError),
            )
            yield found
        finally:
            process.terminate()
            process.wait(30)
