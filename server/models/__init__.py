"""The models: those of this machine's folder, those that operators pushed, and which of them each tier serves."""

from server.models.folder import DEFAULTS, RECORD, RECORD_BYTES, Models, NoModel, Record

__all__ = ["DEFAULTS", "RECORD", "RECORD_BYTES", "Models", "NoModel", "Record"]
