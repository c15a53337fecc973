"""The models: those of this machine's folder, those that operators pushed, and which of them each tier serves."""

from server.models.folder import DEFAULTS, RECORD, RECORD_BYTES, Models, NoModel, Record
from server.models.serving import ServingView
from server.models.split import is_canary, lane

__all__ = ["DEFAULTS", "RECORD", "RECORD_BYTES", "Models", "NoModel", "Record", "ServingView", "is_canary", "lane"]
