"""The models: those of this machine's folder, those that operators pushed, and which of them each tier serves."""

from server.models.catalog import Catalog
from server.models.deciding import decide, roll_back, startable, with_canary
from server.models.folder import DEFAULTS, RECORD, RECORD_BYTES, Models, NoModel, Record, Variant
from server.models.lives import rolled_back, unserved
from server.models.measures import Measures, shown
from server.models.orphans import Orphans
from server.models.serving import ServingView
from server.models.split import OUTDATED, is_canary, lane
from server.models.store import Store

__all__ = [
    "DEFAULTS",
    "OUTDATED",
    "RECORD",
    "RECORD_BYTES",
    "Catalog",
    "Measures",
    "Models",
    "NoModel",
    "Orphans",
    "Record",
    "ServingView",
    "Store",
    "Variant",
    "decide",
    "is_canary",
    "lane",
    "roll_back",
    "rolled_back",
    "shown",
    "startable",
    "unserved",
    "with_canary",
]
