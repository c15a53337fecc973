"""The models that operators have pushed, and what each tier serves. Servers read them again when they have changed."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, fields, replace
from typing import Any

import sqlalchemy as sa

from server.queue.facts.errors import TooManyModels, TooManyTags, VersionTaken
from server.queue.facts.models import Served, Serving, StoredFile, StoredModel
from server.queue.facts.news import ModelsChanged
from server.queue.operations.changes import count_change, number_of
from server.queue.operations.moves import bind
from server.queue.store.statements import Row
from server.queue.store.tables import model_tags, models, serving
from server.queue.store.transactions import Operations, Transaction, read, write

MODELS_MOST, TAGS_MOST = 1000, 100  # models in all; tags of one name
CHANGES = "models"  # the name of their row in the table ``changes``
STEP = 1e-3  # seconds that a push comes after the one before it of the same name, whatever the clocks say

_m, _t, _s = models.c, model_tags.c, serving.c
_SHOWN = (_m.name, _m.version, _m.digest, _m.files, _m.pushed_at)
_this = (_m.name == bind("of"), _m.version == bind("at"))
_ALL = sa.select(*_SHOWN)
_OF_NAME = _ALL.where(_m.name == bind("of"))
_RECORD = sa.select(_m.record).where(*_this)
_LOCKED = sa.select(_m.digest).where(*_this).with_for_update()
_COUNT = sa.select(sa.func.count()).select_from(models)
_LATEST = sa.select(sa.func.coalesce(sa.func.max(_m.pushed_at), 0.0).label("at")).where(_m.name == bind("of"))
_ADD = sa.insert(models).values({column.name: bind(f"new_{column.name}") for column in _m})
_PUSH_AGAIN = sa.update(models).where(*_this).values(pushed_at=bind("now_at"))
_REMOVE = sa.delete(models).where(*_this)
_TAGS = sa.select(_t.name, _t.tag, _t.version)
_TAGS_OF_NAME = _TAGS.where(_t.name == bind("of"))
_MOVE_TAG = sa.update(model_tags).where(_t.name == bind("of"), _t.tag == bind("word")).values(version=bind("to"))
_ADD_TAG = sa.insert(model_tags).values(name=bind("of"), tag=bind("word"), version=bind("to"))
_REMOVE_TAGS = sa.delete(model_tags).where(_t.name == bind("of"), _t.version == bind("at"))
_SERVING = sa.select(_s.tier, _s.state).order_by(_s.tier)
_SERVED = sa.select(_s.state).where(_s.tier == bind("of")).with_for_update()
_SERVE = sa.update(serving).where(_s.tier == bind("of")).values(state=bind("now_state"), at=bind("now"))
_SERVE_FIRST = sa.insert(serving).values(tier=bind("of"), state=bind("now_state"), at=bind("now"))
_FORGET = sa.delete(serving).where(_s.tier == bind("of"))


class Models(Operations):
    """The part of the queue that keeps models."""

    @write
    def add_model(
        self, tx: Transaction, model: StoredModel, tags: Collection[str] = (), most: int = MODELS_MOST
    ) -> bool:
        """Keep a model, which is then the latest of its name, and let these tags point to it; whether it is new.

        When it was pushed is said by the clock of the database. Raises ``TooManyModels``, if it is new and ``most`` are
        kept, ``TooManyTags`` past 100 of a name, or ``VersionTaken``. Servers on PostgreSQL that push at the same time
        can exceed the limits by one each.
        """
        known = tx.first(_LOCKED, of=model.name, at=model.version)
        if known is not None and known.digest != model.digest:
            raise VersionTaken(model.reference)
        if known is None and tx.rows(_COUNT)[0][0] >= most:
            raise TooManyModels(most)
        tagged = _tags(tx.rows(_TAGS_OF_NAME, of=model.name))
        _bound_tags(model.name, tagged, tags)
        ((latest,),) = tx.rows(_LATEST, of=model.name)
        at = max(tx.now, latest + STEP)
        if known is None:
            tx.change(_ADD, _values(model, at))
        else:
            tx.change(_PUSH_AGAIN, {"of": model.name, "at": model.version, "now_at": at})
        for tag in sorted(set(tags)):
            _point(tx, model.name, tag, model.version)
        _changed(tx)
        return known is None

    @write
    def remove_model(self, tx: Transaction, name: str, version: str) -> bool:
        """Forget a model and the tags that point to it; False: there is none."""
        if tx.change(_REMOVE, {"of": name, "at": version}) == 0:
            return False
        tx.change(_REMOVE_TAGS, {"of": name, "at": version})
        _changed(tx)
        return True

    @write
    def tag_model(self, tx: Transaction, name: str, tag: str, version: str) -> bool:
        """Let a tag point to a model; False: there is no such model. Raises ``TooManyTags``."""
        if tx.first(_LOCKED, of=name, at=version) is None:
            return False
        _bound_tags(name, _tags(tx.rows(_TAGS_OF_NAME, of=name)), [tag])
        _point(tx, name, tag, version)
        _changed(tx)
        return True

    @read
    def models(self, tx: Transaction) -> list[StoredModel]:
        """All models without their records, by name; those of one name in the order in which they were pushed."""
        return _models(tx.rows(_ALL), tx.rows(_TAGS))

    @read
    def model(self, tx: Transaction, name: str, version: str) -> StoredModel | None:
        """One model with its record."""
        record = tx.first(_RECORD, of=name, at=version)
        if record is None:
            return None
        found = _models(tx.rows(_OF_NAME, of=name), tx.rows(_TAGS_OF_NAME, of=name))
        return next(replace(model, record=record[0]) for model in found if model.version == version)

    @read
    def models_changed(self, tx: Transaction) -> int:
        """A number that grows with each change of a model, of a tag, or of what a tier serves."""
        return number_of(tx, CHANGES)

    @read
    def serving(self, tx: Transaction) -> dict[str, Serving]:
        """What each tier serves, for every tier of which that was decided."""
        return {row.tier: _serving(json.loads(row.state)) for row in tx.rows(_SERVING)}

    @write
    def serve(self, tx: Transaction, tier: str, now: Serving, before: Serving | None = None) -> bool:
        """Store what a tier serves, in place of what it served ``before``; False: that is not what it serves by now.

        Nothing changes then. Without ``before``, it takes the place of anything.
        """
        row = None if before is None else tx.first(_SERVED, of=tier)
        if before not in (None, _serving(json.loads(row.state)) if row else Serving()):
            return False
        values = {"of": tier, "now_state": json.dumps(asdict(now)), "now": tx.now}
        if tx.change(_SERVE, values) == 0:
            tx.change(_SERVE_FIRST, values)
        _changed(tx)
        return True

    @write
    def forget_serving(self, tx: Transaction, tier: str) -> None:
        """Forget what a tier served, because there is no such tier any more."""
        if tx.change(_FORGET, {"of": tier}):
            _changed(tx)


def _values(model: StoredModel, at: float) -> dict[str, Any]:
    files = json.dumps([[file.sha256, file.size] for file in model.files])
    given = {"name": model.name, "version": model.version, "digest": model.digest, "record": model.record}
    return {f"new_{name}": value for name, value in (given | {"files": files, "pushed_at": at}).items()}


def _bound_tags(name: str, tagged: Mapping[tuple[str, str], str], tags: Collection[str]) -> None:
    """Refuse tags that would be more than a name may have; its tags are ``tagged``."""
    new = {tag for tag in tags if (name, tag) not in tagged}
    if new and len(tagged) + len(new) > TAGS_MOST:
        raise TooManyTags(name, TAGS_MOST)


def _point(tx: Transaction, name: str, tag: str, version: str) -> None:
    values = {"of": name, "word": tag, "to": version}
    if tx.change(_MOVE_TAG, values) == 0:
        tx.change(_ADD_TAG, values)


def _changed(tx: Transaction) -> None:
    count_change(tx, CHANGES)
    tx.tell(ModelsChanged())


def _tags(rows: Sequence[Row]) -> dict[tuple[str, str], str]:
    """The version of each tag of a name."""
    return {(row.name, row.tag): row.version for row in rows}


def _models(found: Sequence[Row], tags: Sequence[Row]) -> list[StoredModel]:
    rows = sorted(found, key=lambda row: (row.name, row.pushed_at, row.version))
    latest = {row.name: row.version for row in rows}
    of_each: dict[tuple[str, str], list[str]] = {}
    for (name, tag), version in _tags(tags).items():
        of_each.setdefault((name, version), []).append(tag)
    return [
        StoredModel(
            name=row.name,
            version=row.version,
            digest=row.digest,
            record="",
            files=tuple(StoredFile(sha256, size) for sha256, size in json.loads(row.files)),
            pushed_at=row.pushed_at,
            tags=tuple(sorted(of_each.get((row.name, row.version), ()))),
            latest=latest[row.name] == row.version,
        )
        for row in rows
    ]


def _serving(told: Mapping[str, Any]) -> Serving:
    """Read only the fields that are known here: a server of another version may have written others."""
    known = {field.name: told[field.name] for field in fields(Serving) if field.name in told}
    for lane in ("main", "canary"):
        known[lane] = None if known.get(lane) is None else _served(known[lane])
    return Serving(**known | {"previous": tuple(map(_served, known.get("previous", ())))})


def _served(told: Mapping[str, Any]) -> Served:
    return Served(**{field.name: told[field.name] for field in fields(Served) if field.name in told})
