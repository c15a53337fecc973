"""The keys of owners. Every server has all of them in memory, and reads them again when they have changed."""

from __future__ import annotations

import json
from dataclasses import fields

import sqlalchemy as sa

from server.queue.facts.callers import KeptKeys, Key
from server.queue.facts.errors import PepperDiffers
from server.queue.facts.news import KeysChanged
from server.queue.operations.changes import count_change, number_of
from server.queue.operations.moves import bind
from server.queue.store.statements import Row
from server.queue.store.tables import keys, secrets
from server.queue.store.transactions import Operations, Transaction, read, write

OVER_KEPT = 90 * 86400.0  # seconds for which a key is still listed that was revoked or has expired
CHANGES = "keys"  # the name of their row in the table ``changes``
PEPPER = "pepper"  # the name of their row in the table ``secrets``

_k = keys.c
_COLUMNS = tuple(field.name for field in fields(Key))
_ALL = sa.select(*(_k[name] for name in _COLUMNS)).order_by(_k.created_at, _k.id)
_BY_ID = sa.select(*(_k[name] for name in _COLUMNS)).where(_k.id == bind("id")).with_for_update()
_INSERT = sa.insert(keys).values({name: bind(f"new_{name}") for name in _COLUMNS})
_REVOKE = sa.update(keys).where(_k.id == bind("row"), _k.revoked_at.is_(None)).values(revoked_at=bind("now"))
_EXPIRE = sa.update(keys).where(_k.id == bind("row")).values(expires_at=bind("end"))
_FORGET = sa.delete(keys).where(sa.func.coalesce(_k.revoked_at, _k.expires_at) < bind("before"))
_PEPPER = sa.select(secrets.c.value).where(secrets.c.name == bind("name"))
_KEEP_PEPPER = sa.insert(secrets).values(name=bind("row"), value=bind("check"))


class Keys(Operations):
    """The part of the queue that keeps keys.

    ``pepper`` is a value that shows with which pepper digests were made. The first key that is added brings it, and
    no key with another one is taken after that.
    """

    @write
    def add_key(self, tx: Transaction, key: Key, pepper: str) -> None:
        """Keep a new key. Raises ``PepperDiffers``, or ``Conflict`` for an id that is there."""
        _add(tx, key, pepper)

    @write
    def revoke_key(self, tx: Transaction, key_id: str) -> Key | None:
        """Revoke a key for ever, and return it; None if there is none. One that was revoked before stays as it is."""
        if tx.first(_BY_ID, id=key_id) is None:
            return None
        if tx.change(_REVOKE, {"row": key_id, "now": tx.now}):
            _changed(tx)
        return _found(tx, key_id)

    @write
    def rotate_key(self, tx: Transaction, key_id: str, new: Key, grace: float, pepper: str) -> Key | None:
        """Keep ``new``, and let the key ``key_id`` expire ``grace`` seconds from now at the latest; return that one.

        None, and nothing is kept, if there is no such key or it is over. Raises ``PepperDiffers`` or ``Conflict``.
        """
        old = _found(tx, key_id)
        if old is None or old.over(tx.now):
            return None
        _add(tx, new, pepper)
        end = tx.now + grace
        tx.change(_EXPIRE, {"row": key_id, "end": end if old.expires_at is None else min(end, old.expires_at)})
        return _found(tx, key_id)

    @read
    def keys(self, tx: Transaction) -> KeptKeys:
        """All keys, also those that are over, in the order in which they were made."""
        return KeptKeys(number_of(tx, CHANGES), _pepper(tx), tuple(map(_key, tx.rows(_ALL))))

    @read
    def keys_changed(self, tx: Transaction) -> int:
        """A number that grows with each change of a key."""
        return number_of(tx, CHANGES)


def _add(tx: Transaction, key: Key, pepper: str) -> None:
    kept = _pepper(tx)
    if kept and kept != pepper:
        raise PepperDiffers
    if not kept:
        tx.change(_KEEP_PEPPER, {"row": PEPPER, "check": pepper})
    tx.change(_FORGET, {"before": tx.now - OVER_KEPT})
    values = {f"new_{name}": getattr(key, name) for name in _COLUMNS}
    tx.change(_INSERT, values | {"new_tiers": json.dumps(key.tiers), "new_limits": json.dumps(dict(key.limits))})
    _changed(tx)


def _changed(tx: Transaction) -> None:
    count_change(tx, CHANGES)
    tx.tell(KeysChanged())


def _pepper(tx: Transaction) -> str:
    row = tx.first(_PEPPER, name=PEPPER)
    return str(row.value) if row is not None else ""


def _found(tx: Transaction, key_id: str) -> Key | None:
    row = tx.first(_BY_ID, id=key_id)
    return _key(row) if row is not None else None


def _key(row: Row) -> Key:
    values = row._asdict()
    return Key(**values | {"tiers": tuple(json.loads(row.tiers)), "limits": json.loads(row.limits)})
