"""The cluster's own certificate authority, made by openssl, and kubeconfig files that contain their keys."""

from __future__ import annotations

import base64
import json
from pathlib import Path

from tests.cluster.shell import run

DAYS = "365"
KEY = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]


class Authority:
    """Issues certificates into a folder: ``ca.crt``, and ``NAME.crt`` with ``NAME.key``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.certificate = folder / "ca.crt"

    def create(self) -> None:
        """Make the authority, and the key that signs service account tokens."""
        self.folder.mkdir(mode=0o700)
        run("openssl", "req", "-x509", *KEY, "-days", DAYS, "-subj", "/CN=ca", *self._files("ca"))
        key, public = self.folder / "accounts.key", self.folder / "accounts.pub"
        run("openssl", "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", key)
        run("openssl", "pkey", "-in", key, "-pubout", "-out", public)

    def issue(self, name: str, subject: str, alternatives: str = "") -> None:
        """Issue a certificate for a client, or with ``subjectAltName`` entries also for a server."""
        extensions = ["-addext", f"subjectAltName={alternatives}"] if alternatives else []
        signer: list[str | Path] = ["-CA", self.certificate, "-CAkey", self.folder / "ca.key"]
        run("openssl", "req", "-x509", *signer, *KEY, "-days", DAYS, "-subj", subject, *extensions, *self._files(name))

    def kubeconfig(self, name: str, server: str) -> str:
        """A kubeconfig for the holder of a certificate. It is JSON, which is also YAML."""
        user = {
            "client-certificate-data": _encoded(self.folder / f"{name}.crt"),
            "client-key-data": _encoded(self.folder / f"{name}.key"),
        }
        cluster = {"server": server, "certificate-authority-data": _encoded(self.certificate)}
        document = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "tierserve", "cluster": cluster}],
            "users": [{"name": name, "user": user}],
            "contexts": [{"name": "tierserve", "context": {"cluster": "tierserve", "user": name}}],
            "current-context": "tierserve",
        }
        return json.dumps(document, indent=1)

    def _files(self, name: str) -> list[str | Path]:
        return ["-keyout", self.folder / f"{name}.key", "-out", self.folder / f"{name}.crt"]


def _encoded(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()
