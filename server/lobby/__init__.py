"""The lobby: requests that wait for their results in memory, before anything of them is on disk.

On the event loop only. All that others need is imported from here.
"""

from server.lobby.entries import Entry
from server.lobby.handout import Handed, Handout, Peer
from server.lobby.lobby import Lobby

__all__ = ["Entry", "Handed", "Handout", "Lobby", "Peer"]
