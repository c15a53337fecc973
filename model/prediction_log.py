"""The log of predictions: a line for each one that was worked on, in the form of the server's access log."""

from __future__ import annotations

import json
import logging
import re
from datetime import UTC, datetime

from model.desk import Completion
from model.messages import Lease

log = logging.getLogger("model.predictions")

JSON, TEXT = "json", "text"
_PLAIN = re.compile(r"[!#-<>-~]+")  # ASCII without spaces, quotation marks and equals signs


def write(form: str, at: float, lease: Lease, completion: Completion) -> None:
    """Log a prediction whose results were handed in at ``at``, in epoch seconds. Empty fields are left out.

    ``form`` is ``text`` or ``json``; nothing is logged in any other.
    """
    if form not in (JSON, TEXT):
        return
    errors = [result["error"]["code"] for result in completion["results"] if "error" in result]
    time = datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    fields: dict[str, str | int | float] = {
        "time": time,
        "request_id": lease.request_id,
        "trace_id": lease.trace[3:35],
        "prediction": lease.id,
        "model": completion["model"],
        "images": len(lease.pictures),
        "failed": len(errors) or "",
        "ms": completion["predict_ms"],
        "code": errors[0] if errors else "",
    }
    told = {name: value for name, value in fields.items() if value != ""}
    if form == JSON:
        log.info(json.dumps(told, separators=(",", ":")))
    else:
        log.info(" ".join([f"{name}={_plain(value)}" for name, value in told.items()]))


def _plain(value: str | int | float) -> str:
    """The value, in quotation marks where it could be taken for several fields."""
    if isinstance(value, str):
        return value if _PLAIN.fullmatch(value) else json.dumps(value)
    return str(value)
