"""The calls to the Kubernetes API that tierserve makes: each with a timeout, its answer plain JSON, its errors ours.

Answers are read as JSON, not as the client's models: those refuse fields that a newer cluster adds.
"""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import kubernetes
from kubernetes.client import ApiClient, ApiException, AuthenticationV1Api, BatchV1Api, Configuration, CoreV1Api
from kubernetes.config import ConfigException
from pydantic import ValidationError
from urllib3.exceptions import HTTPError
from urllib3.util import Retry

from server.engines.base import EngineError
from server.redaction import redacted
from server.settings.manifests import BadManifest, Manifest

TIMEOUT = (3, 10)  # seconds to connect, and to read; by default the client waits for ever
# Once more, as the API server may have closed the connection that was kept. It does not decide how long we wait.
RETRIES = Retry(1, respect_retry_after_header=False)
BUSY_SECONDS = 3.0  # so long a call tries again while the API server says that it has too much to do
SHORTEST_WAIT, TOO_MANY = 0.5, 429
SILENCE_SECONDS = 2.0  # so long after a call without an answer all calls fail at once: each would wait as long in vain
NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")

Object = Mapping[str, Any]


class ApiError(EngineError):
    """The API server refused, with an HTTP ``status``; it may be asked again after ``retry_after`` seconds."""

    def __init__(self, status: int, message: str, retry_after: float = 0.0) -> None:
        super().__init__(message)
        self.status, self.retry_after = status, retry_after

    @property
    def outage(self) -> bool:
        """Whether the API server is there but cannot work. Any other status is a decision of its own."""
        return self.status >= 500


class Cluster:
    """One connection pool to one API server. Every method raises ``ApiError``, or ``EngineError`` without an answer.

    Safe from any thread. ``clock`` is monotonic, in seconds; ``sleep`` waits for so many of them.
    """

    def __init__(
        self,
        client: ApiClient,
        namespace: str,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.namespace, self._clock, self._sleep = namespace, clock, sleep
        self._silent_until, self._silence = -math.inf, ""
        self._listed_at = -math.inf
        self._batch, self._core, self._authentication = (
            BatchV1Api(client),
            CoreV1Api(client),
            AuthenticationV1Api(client),
        )

    @classmethod
    def connect(cls) -> Cluster:
        """By the pod's service account (its token is read anew each minute), else by KUBECONFIG."""
        configuration = Configuration()
        try:
            kubernetes.config.load_incluster_config(configuration)
            namespace = NAMESPACE_FILE.read_text().strip()
        except ConfigException:
            try:
                kubernetes.config.load_kube_config(client_configuration=configuration)
            except ConfigException as error:
                reason = redacted(str(error))
                message = (
                    f"no cluster: not in a pod, and no kubeconfig ({reason}). Set KUBECONFIG, or use --engine local"
                )
                raise EngineError(message) from None
            namespace = ""
        configuration.retries = RETRIES
        logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)  # it logs each retry: many in a second
        return cls(ApiClient(configuration), namespace)

    def lists(self, seconds: float) -> bool:
        """Whether the API server has answered with a list within the last ``seconds``."""
        return self._clock() - self._listed_at < seconds

    def jobs(self, namespace: str, labels: str) -> list[Object]:
        """The Jobs with these labels."""
        return self._list(self._batch.list_namespaced_job, namespace, label_selector=labels)

    def pods(self, namespace: str, labels: str) -> list[Object]:
        """The pods with these labels."""
        return self._list(self._core.list_namespaced_pod, namespace, label_selector=labels)

    def quotas(self, namespace: str) -> list[Object]:
        """The namespace's ResourceQuotas."""
        return self._list(self._core.list_namespaced_resource_quota, namespace)

    def limit_ranges(self, namespace: str) -> list[Object]:
        """The namespace's LimitRanges."""
        return self._list(self._core.list_namespaced_limit_range, namespace)

    def labels(self, namespace: str) -> Mapping[str, str]:
        """The labels of the namespace itself."""
        found: Mapping[str, str] = self._call(self._core.read_namespace, namespace)["metadata"].get("labels") or {}
        return found

    def events(self, namespace: str, job: str, reason: str) -> list[Object]:
        """A Job's events of one reason."""
        # Selected by the API server, as a busy namespace may have tens of thousands of events.
        selector = f"involvedObject.kind=Job,involvedObject.name={job},reason={reason}"
        return self._list(self._core.list_namespaced_event, namespace, field_selector=selector, limit=20)

    def create_job(self, namespace: str, manifest: Manifest, *, dry_run: bool = False) -> None:
        """Create a Job, or only try whether it could be. Raises ``BadManifest`` when the client itself refuses it."""
        options = {"dry_run": "All"} if dry_run else {}
        body = dict(manifest)
        self._call(self._batch.create_namespaced_job, namespace, body, field_validation="Strict", **options)

    def delete_job(self, namespace: str, name: str) -> None:
        """Delete a Job, and its pod behind it."""
        # Without the policy, the API would leave the pod behind.
        self._call(self._batch.delete_namespaced_job, name, namespace, propagation_policy="Background")

    def delete_pod(self, namespace: str, name: str) -> None:
        """Delete a pod by force: at once, whether its node answers or not."""
        self._call(self._core.delete_namespaced_pod, name, namespace, grace_period_seconds=0)

    def review(self, token: str, audience: str) -> Object:
        """What the API server knows of a token: the status of a TokenReview."""
        body = {"spec": {"token": token, "audiences": [audience]}}
        status: Object = self._call(self._authentication.create_token_review, body)["status"]
        return status

    def _list(self, method: Callable[..., Any], *arguments: Any, **options: Any) -> list[Object]:
        items: list[Object] = self._call(method, *arguments, **options)["items"]
        self._listed_at = self._clock()
        return items

    def _call(self, method: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        end = self._clock() + BUSY_SECONDS
        while True:
            try:
                return self._once(method, *arguments, **options)
            except ApiError as error:
                wait = max(error.retry_after, SHORTEST_WAIT)
                if error.status != TOO_MANY or self._clock() + wait > end:
                    raise
                self._sleep(wait)

    def _once(self, method: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        if self._clock() < self._silent_until:
            raise EngineError(self._silence)
        try:
            response = method(*arguments, _preload_content=False, _request_timeout=TIMEOUT, **options)
            return json.loads(response.data)
        except ApiException as error:
            raise ApiError(error.status or 0, _message(error), _retry_after(error)) from error
        except ValidationError as error:  # the client compares a body with its own models before it sends it
            first = error.errors()[0]
            raise BadManifest(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from error
        except (HTTPError, OSError, ValueError, ConfigException) as error:
            cause = getattr(error, "reason", None) or error
            self._silence = f"the API server does not answer: {type(cause).__name__}"
            self._silent_until = self._clock() + SILENCE_SECONDS
            raise EngineError(self._silence) from error


def _message(error: ApiException) -> str:
    try:
        return str(json.loads(error.body)["message"])
    except (KeyError, TypeError, ValueError):
        return f"the API server answered {error.status} {error.reason}"


def _retry_after(error: ApiException) -> float:
    text = (error.headers or {}).get("Retry-After", "")
    return float(text) if text.isascii() and text.isdigit() and len(text) < 10 else 0.0
