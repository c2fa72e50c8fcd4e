"""Decoders of other formats, written from their papers to be compared in cost."""

from hw.peers.peer import Peer

PEERS: tuple[Peer, ...] = ()
