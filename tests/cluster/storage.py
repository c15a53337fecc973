"""Storage: for each claim, local-path-provisioner makes a folder on the node of the claim's first pod."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from tests.cluster.busybox import BUSYBOX

NAMESPACE = "kube-system"
NAME = "local-path"


def manifests(folders: Mapping[str, Path]) -> str:
    """The default StorageClass, and the provisioner's settings: in which folder of each node it makes volumes."""
    paths = [{"node": node, "paths": [str(path)]} for node, path in folders.items()]
    helper = {"name": "helper-pod", "image": BUSYBOX, "imagePullPolicy": "Never"}
    settings = {
        "config.json": json.dumps({"nodePathMap": paths}),
        "helperPod.yaml": json.dumps({"metadata": {"name": "volume"}, "spec": {"containers": [helper]}}),
        "setup": 'mkdir -m 0777 "$VOL_DIR"',
        "teardown": 'rm -rf "$VOL_DIR"',
    }
    storage_class = {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {"name": NAME, "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}},
        "provisioner": "rancher.io/local-path",
        "volumeBindingMode": "WaitForFirstConsumer",
    }
    config = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": NAME, "namespace": NAMESPACE}}
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": [storage_class, {**config, "data": settings}]})
