"""Clients of other services, unchanged, and our own for Python, against the release in the cluster."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest
from huggingface_hub import InferenceClient

from tests.cluster.cluster import Kubernetes
from tests.e2e.deployment import ANSWER_SECONDS, Deployment, deploy
from tests.e2e.pictures import PICTURES
from tests.foreign.checks import CAT, Labels, check_kserve, check_triton
from tierserve import Client

pytestmark = pytest.mark.cluster


@pytest.fixture(scope="module")
def deployment(cluster: Kubernetes) -> Iterator[Deployment]:
    found = deploy(cluster)
    try:
        yield found
    finally:
        found.remove()


@pytest.fixture(scope="module")
def expected(deployment: Deployment) -> Labels:
    labels: Labels = deployment.post("free", CAT.read_bytes()).json["results"][0]["labels"]
    return labels


def place(deployment: Deployment) -> str:
    host, port = deployment.address()
    return f"{host}:{port}"


def test_the_client_of_hugging_face(deployment: Deployment, expected: Labels) -> None:
    client = InferenceClient(model=f"http://{place(deployment)}/hf/free", timeout=ANSWER_SECONDS)
    found = client.image_classification(CAT, top_k=2)
    assert [one.label for one in found] == [one["label"] for one in expected[:2]]


def test_the_client_of_triton(deployment: Deployment, expected: Labels) -> None:
    check_triton(place(deployment), expected, deployment.get("/v1/tiers/free").json["model"]["labels"])


def test_the_client_of_kserve(deployment: Deployment, expected: Labels) -> None:
    check_kserve(f"http://{place(deployment)}", expected)


def test_curl_as_for_torchserve(deployment: Deployment, expected: Labels) -> None:
    command = ["curl", "--silent", "--fail-with-body", f"http://{place(deployment)}/predictions/free", "-T", str(CAT)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=ANSWER_SECONDS, check=True)
    assert done.stdout.startswith(f'{{"{expected[0]["label"]}":')


def test_our_own_client(deployment: Deployment) -> None:
    pictures = sorted(PICTURES.glob("*.jpg"))
    with Client(f"http://{place(deployment)}", key="") as client:
        outcomes = list(client.map(pictures, tier="free", ordered=True))
        assert [one.picture for one in outcomes if one.error is None] == pictures
        assert client.classify(CAT, tier="premium", top_k=1).labels
