"""Two servers: the one that leads recalls workers, and any of them may have a worker's channel."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator

import pytest

from tests.cluster.cluster import Cluster
from tests.e2e.deployment import Deployment, deploy
from tests.e2e.flood import Flood
from tests.e2e.lending import SETS, SIGNALED_SECONDS, WORKERS, Wave, borrowed_everything, kept, told, wave
from tests.e2e.processes import send
from tests.e2e.servers import servers
from tests.e2e.stores import Stores, stores
from tests.e2e.things import Thing

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(400)]

WAVES_MOST = 12  # with a worker of either server in turn at random, one of both is next to sure to come


@pytest.fixture(scope="module")
def shared(own_cluster: Cluster) -> Iterator[Stores]:
    with stores(own_cluster) as found:
        yield found


@pytest.fixture(scope="module")
def deployment(own_cluster: Cluster, shared: Stores) -> Iterator[Deployment]:
    found = deploy(own_cluster, *SETS, *shared.sets, "replicas=2")
    try:
        servers(found)
        yield found
    finally:
        found.remove()


def connected(deployment: Deployment, server: Thing, worker: Thing) -> bool:
    """Whether a worker has a connection to a server's pod, as the kernel lists them (proc_net_tcp.txt)."""
    name = server["metadata"]["name"]
    listed = deployment.kubectl("exec", name, "--", "cat", "/proc/net/tcp", "/proc/net/tcp6")
    # An IPv4 address is written as a number of this machine, also at the end of an IPv6 address that stands for one.
    address = ipaddress.ip_address(worker["status"]["podIP"]).packed[::-1].hex().upper()
    return any(
        fields[2].partition(":")[0].endswith(address) and fields[3] == "01"
        for fields in map(str.split, listed.splitlines())
    )


def test_a_worker_is_recalled_whichever_server_has_its_channel(deployment: Deployment, shared: Stores) -> None:
    pods = servers(deployment)
    waves, with_leader = list[Wave](), set[bool]()
    with deployment.watching("") as watch, deployment.watching("", "jobs") as jobs:
        with Flood(deployment, "free") as flood:
            while with_leader != {True, False} and len(waves) < WAVES_MOST:
                worker = borrowed_everything(deployment, watch)
                with_leader.add(connected(deployment, pods[shared.leading()], worker))
                waves.append(wave(deployment, jobs))
        kept(flood.rest())
        most = watch.most
    assert most == WORKERS, f"{most} worker pods at once"
    assert with_leader == {True, False}
    assert told("two servers", waves) < SIGNALED_SECONDS


def test_a_leader_that_is_lost_while_it_recalls_loses_nothing(
    own_cluster: Cluster, deployment: Deployment, shared: Stores
) -> None:
    waves = []
    with deployment.watching("") as watch, deployment.watching("", "jobs") as jobs:
        with Flood(deployment, "free") as flood:
            for _ in range(2):
                borrowed_everything(deployment, watch)
                pods = servers(deployment)
                send(own_cluster, pods[shared.leading()], "SIGKILL")
                waves.append(wave(deployment, jobs))
        kept(flood.rest())
        most = watch.most
    assert most == WORKERS, f"{most} worker pods at once"
    told("the server that led was killed just before", waves)
