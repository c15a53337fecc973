"""The access log: a line for each answer, as text or as JSON.

No line has a key, a value of a query, the name of a file or the id of a prediction: of a request's target, only the
route is told.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping
from datetime import UTC, datetime

from server.access.callers import Caller

log = logging.getLogger("server.http.access")

OFF, JSON = "off", "json"
CLIENT_CLOSED = 499
"""The status of a request whose client hung up before its answer. It is nginx's, and none of HTTP's."""

_encode = json.JSONEncoder(separators=(",", ":")).encode  # json.dumps would make an encoder for each line
_PLAIN = re.compile(r"[!#-<>-~]+")  # ASCII without spaces, quotation marks and equals signs


def write(form: str, at: float, fields: Mapping[str, str | int | float]) -> None:
    """Log a request that was answered at ``at``, in epoch seconds. Empty fields are left out.

    ``form`` is the setting ``server.accessLog``.
    """
    if form == OFF:
        return
    time = datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    told = {"time": time} | {name: value for name, value in fields.items() if value != ""}
    if form == JSON:
        log.info(_encode(told))
    else:
        log.info(" ".join([f"{name}={_plain(value)}" for name, value in told.items()]))


def who(caller: object, address: str) -> dict[str, str]:
    """The owner and the id of its key; without a key the address."""
    if isinstance(caller, Caller) and caller.key:
        return {"owner": caller.owner, "key": caller.key}
    return {"address": address}


def _plain(value: str | int | float) -> str:
    """The value, in quotation marks where it could be taken for several fields."""
    if isinstance(value, str):
        return value if _PLAIN.fullmatch(value) else json.dumps(value)
    return str(value)
