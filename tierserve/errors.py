"""What can go wrong for whoever asks a server."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

HINT = (
    "On a laptop, start one: make run. "
    "In a cluster, look at its pods: kubectl get pods --all-namespaces --selector app.kubernetes.io/name=tierserve"
)
HINTS = {
    "key_missing": (
        "Put the key into the environment as TIERSERVE_KEY, or give it to the client as key, or give its file to the "
        "command with --key-file."
    ),
    "key_expired": "Ask the operators of the server for a new key.",
    "key_revoked": "Ask the operators of the server for a new key.",
    "no_such_route": "The URL of a server ends with its port, or with the path that a proxy has for it: http://127.0.0.1:8080.",
    "result_gone": "Classify the picture again.",
}
"""What to do about a refusal, by its code, where the server does not say it."""


class TierserveError(Exception):
    """The root of all errors of this package. The message says what is wrong and what to do."""


class Unreachable(TierserveError):
    """No server answers, or the connection broke, or a proxy answers that has lost its server."""


class Misconfigured(TierserveError, ValueError):
    """The URL of the server, or the key, cannot be one."""


class BadPicture(TierserveError):
    """A picture cannot be read here, so that it was not sent."""


class Refused(TierserveError):
    """The server refused a request.

    ``status`` is that of HTTP, ``code`` a stable word (docs/errors.md lists them), ``retry_after`` the seconds after
    which a later request can succeed, if the server says so. ``document`` is the whole problem of RFC 9457, which has
    the numbers of the limit that was exceeded.
    """

    def __init__(self, status: int, document: Mapping[str, Any], retry_after: float | None = None) -> None:
        self.status, self.retry_after, self.document = status, retry_after, document
        self.code, self.detail = str(document["code"]), str(document["detail"])
        self.request_id = str(document.get("request_id", ""))
        super().__init__(status, document, retry_after)

    def __str__(self) -> str:
        hint = HINTS.get(self.code)
        return f"{self.code}: {self.detail}" + (f". {hint}" if hint else "")


class NotYet(TierserveError, TimeoutError):
    """A prediction has not ended within the time for which it was to be waited; it goes on."""

    def __init__(self, prediction_id: str, seconds: float) -> None:
        self.prediction_id, self.seconds = prediction_id, seconds
        super().__init__(prediction_id, seconds)

    def __str__(self) -> str:
        return f"prediction {self.prediction_id} has not ended within {self.seconds:g} s; it goes on"
