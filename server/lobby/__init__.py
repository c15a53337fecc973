"""The lobby: requests that wait for their results in memory, before anything of them is on disk.

On the event loop only. All that others need is imported from here.
"""

from server.lobby.entries import Entry, LaneOf, waiting_of
from server.lobby.handout import Handout
from server.lobby.lobby import Lobby
from server.lobby.recalls import Recalls
from server.lobby.seats import Handed, Peer

__all__ = ["Entry", "Handed", "Handout", "LaneOf", "Lobby", "Peer", "Recalls", "waiting_of"]
