"""Keys on two servers in a cluster: made, revoked, kept in Git and rotated; and who is who behind a proxy."""

from __future__ import annotations

import json
import re
import secrets
import shlex
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.cluster.cluster import Cluster
from tests.e2e.deployment import RELEASE, TIERS, Deployment, ask, deploy
from tests.e2e.figures import tell
from tests.e2e.keyholders import Hashed, bearer, code, hashed, holding, keep, logs, operate, servers, use
from tests.e2e.pictures import CAT
from tests.e2e.stores import Stores, stores
from tests.running import Answer
from tests.service.test_classify import is_cat
from tests.waiting import eventually

pytestmark = pytest.mark.cluster

GIT, PEPPER = "keys-from-git", "pepper"
REVOKED_SECONDS = 2.0
SLACK_SECONDS = 1.0  # of this machine, which runs the whole cluster
HANDED_ON_SECONDS = 90.0
A_DAY = 3  # pictures of a caller in free
SETS = (
    "replicas=2",
    "server.accessLog=json",
    f"tiers.free.access.perDay={A_DAY}",
    "tiers.premium.access.anonymous=false",
    "tiers.premium.quota.pods=1",
    "tiers.premium.waits.idleSeconds=600",
    f"access.pepper.secretName={PEPPER}",
    f"access.keys.secretName={GIT}",
)


@pytest.fixture(scope="module")
def shared(own_cluster: Cluster) -> Iterator[Stores]:
    with stores(own_cluster) as found:
        yield found


@pytest.fixture(scope="module")
def pepper(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("operator") / "pepper"
    path.write_text(secrets.token_hex(32))
    return path


@pytest.fixture(scope="module")
def first(pepper: Path) -> Hashed:
    """A key that the servers find in their Secret when they start."""
    return hashed(pepper, "--owner", "git", "--tier", "premium")


@pytest.fixture(scope="module")
def deployment(own_cluster: Cluster, shared: Stores, pepper: Path, first: Hashed) -> Iterator[Deployment]:
    before = Deployment(own_cluster)
    before.kubectl("create", "secret", "generic", PEPPER, f"--from-file=pepper={pepper}")
    keep(before, GIT, first)
    found = deploy(own_cluster, *shared.sets, *SETS, f"server.trustedProxies={{{own_cluster.network.host}/32}}")
    try:
        yield found
    finally:
        found.remove()


def create(deployment: Deployment, *words: str) -> str:
    """A new key, which every server takes."""
    key = str(json.loads(operate(deployment, "create", "--json", *words))["key"])
    everywhere(deployment, key, taken, REVOKED_SECONDS + SLACK_SECONDS)
    return key


def everywhere(deployment: Deployment, key: str, stands: Callable[[Answer], bool], seconds: float) -> float:
    """Wait until the answers of all servers show how it stands with a key; returns how long it took, in seconds."""
    began = time.monotonic()
    for server in servers(deployment):
        eventually(lambda: use(server, key), seconds, f"{server} knows how it stands with a key", stands)  # noqa: B023
    return time.monotonic() - began


def taken(answer: Answer) -> bool:
    """Whether the request came with a right key; it had no picture."""
    return not refused(answer)


def refused(answer: Answer) -> bool:
    """Whether the request came with a wrong key. Who sends many wrong ones gets 429 for each of them."""
    return answer.status == 401 or (answer.status == 429 and code(answer) == "too_many_wrong_keys")


def test_premium_wants_a_key_and_the_first_one_is_made_as_the_notes_say(deployment: Deployment) -> None:
    answer = deployment.post("premium", CAT)
    assert (answer.status, code(answer)) == (401, "key_missing")
    assert answer.headers["Www-Authenticate"].startswith("Bearer")
    assert is_cat(deployment.post("free", CAT))
    notes = deployment.helm("get", "notes", RELEASE)
    (command,) = re.findall(r"^ +kubectl (.* exec .*)$", notes, re.MULTILINE)
    (key,) = set(re.findall(r"tsk_\w+", deployment.cluster.kubectl(*shlex.split(command))))
    for server in servers(deployment):
        eventually(lambda: ask_premium(server, bearer(key)), 3, "the key is known everywhere", is_cat)  # noqa: B023
        assert is_cat(ask_premium(server, {"X-API-Key": key}))
    wrong = f"{key[:-1]}{'a' if key[-1] != 'a' else 'b'}"
    assert code(deployment.post("premium", CAT, bearer(wrong))) == "key_unknown"
    assert key not in logs(deployment)


def ask_premium(server: tuple[str, int], headers: dict[str, str]) -> Answer:
    return ask(server, "POST", "/img-classification/premium", CAT, headers)


def test_a_revoked_key_is_worth_nothing_on_any_server_two_seconds_later(deployment: Deployment) -> None:
    key = create(deployment, "--owner", "acme", "--tier", "premium")
    operate(deployment, "revoke", key.split("_")[1])
    took = everywhere(deployment, key, refused, REVOKED_SECONDS + SLACK_SECONDS)
    tell(f"a key is refused by both servers {took:.1f} s after `tierserve keys revoke` has ended")


def test_helm_test_classifies_a_picture_in_each_tier_with_a_key(deployment: Deployment) -> None:
    key = create(deployment, "--owner", "tester", *(word for tier in TIERS for word in ("--tier", tier)))
    deployment.kubectl("create", "secret", "generic", "tester", f"--from-literal=key={key}")
    deployment.upgrade("access.test.secretName=tester")
    said = deployment.helm("test", RELEASE, "--logs", "--timeout=2m")
    assert said.count("Succeeded") >= len(TIERS)
    assert said.count("cat") >= len(TIERS)
    assert key not in said


def test_keys_from_git_are_rotated_and_no_request_fails(deployment: Deployment, pepper: Path, first: Hashed) -> None:
    second = hashed(pepper, "--owner", "git", "--tier", "premium")
    with holding(deployment, first.key) as client:
        eventually(lambda: client.served, 60, "the first key is in use")
        keep(deployment, GIT, first, second)
        began = time.monotonic()
        deployment.hand_on()
        everywhere(deployment, second.key, taken, HANDED_ON_SECONDS)
        added = time.monotonic() - began
        client.key = second.key
        eventually(lambda: client.served[-1], 30, "the second key is in use", lambda key: key == second.key)
        keep(deployment, GIT, second)
        deployment.hand_on()
        everywhere(deployment, first.key, refused, HANDED_ON_SECONDS)
        served = len(client.served)
        eventually(lambda: len(client.served), 30, "the client goes on", lambda count: count > served + 3)
    assert client.failures == []
    tell(f"a record in a Secret is a key {added:.1f} s later; rotated, {len(client.served)} requests, none failed")


def test_a_client_is_known_by_its_address_behind_a_trusted_proxy_alone(deployment: Deployment) -> None:
    (server, *_) = servers(deployment)  # this host is the proxy: its connections to a pod have its own address
    for client in ("198.51.100.7", "198.51.100.8"):
        statuses = [ask_free(server, f"203.0.113.{turn}, {client}").status for turn in range(A_DAY + 2)]
        assert statuses[:A_DAY] == [202] * A_DAY, f"{client} has a limit of its own"
        assert statuses[-1] == 429, "what a client says of others makes it nobody else"
    answer = ask_free(server, "198.51.100.8")
    assert code(answer) == "day_limit"
    assert int(answer.headers["Retry-After"]) >= 1
    found = addresses(deployment)
    assert {"198.51.100.7", "198.51.100.8"} <= found
    assert not [address for address in found if address.startswith("203.0.113.")]
    # Through the Service the node's address is that of the connection, and no proxy's.
    deployment.post("free", CAT, {"X-Forwarded-For": "198.51.100.9", "Prefer": "respond-async"})
    assert "198.51.100.9" not in addresses(deployment)


def ask_free(server: tuple[str, int], forwarded: str) -> Answer:
    headers = {"X-Forwarded-For": forwarded, "Prefer": "respond-async"}
    return ask(server, "POST", "/img-classification/free", CAT, headers)


def addresses(deployment: Deployment) -> set[str]:
    """The addresses in the servers' access logs."""
    lines = [line[line.index("{") :] for line in logs(deployment).splitlines() if '"request_id"' in line]
    return {str(json.loads(line).get("address", "")) for line in lines}
