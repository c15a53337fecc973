"""All attacks by name, in the order in which they are tried."""

from __future__ import annotations

from collections.abc import Mapping

from tests.hostile import (
    attacks_of_bodies,
    attacks_of_connections,
    attacks_of_keys,
    attacks_of_pictures,
    attacks_of_streams,
)
from tests.hostile.attack import Attack

ATTACKS: Mapping[str, type[Attack]] = {
    attack.name: attack
    for attack in (
        attacks_of_bodies.BodiesEverywhere,
        attacks_of_bodies.JsonBombs,
        attacks_of_bodies.InternalBodies,
        attacks_of_bodies.Forms,
        attacks_of_bodies.HangUps,
        attacks_of_bodies.Replays,
        attacks_of_connections.HeadsOnly,
        attacks_of_connections.SlowUploads,
        attacks_of_connections.TinyChunks,
        attacks_of_connections.BadLengths,
        attacks_of_connections.BadHeads,
        attacks_of_connections.Silence,
        attacks_of_connections.Crowds,
        attacks_of_streams.Streams,
        attacks_of_streams.DeafReaders,
        attacks_of_streams.HangUpsOnStreams,
        attacks_of_streams.OddStreams,
        attacks_of_streams.Preflights,
        attacks_of_streams.StaticPaths,
        attacks_of_keys.Guesses,
        attacks_of_pictures.Scans,
    )
}
