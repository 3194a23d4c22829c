"""The feedback store: conversations, and what people say of answers. To the latter things are only ever added.

It lies over several files, each a subject: ``database`` (opening, transactions, backup),
``chats`` (conversations as trees), ``given`` (rankings, thumbs, better answers), ``consent``
(the log of consent), ``training`` (the one place where consent and withdrawal are applied;
whatever trains or exports reads through it) and ``fate`` (what became of each thing).

When a call that adds something returns, the thing is on the disk. Every call takes its own
connection and its own transaction, so one Store may be shared by threads, and the server and a
training run may open the same store at once.
"""

from __future__ import annotations

import os

from palmier.errors import Refusal
from palmier.feedback.chats import ROOT, Chat, Chats
from palmier.feedback.fate import Fate, Fates
from palmier.feedback.given import KINDS, Kind, Spot
from palmier.feedback.training import Preference, Reach
from palmier.feedback.trees import NotStored, StoredMessage, Tree
from palmier.workspace import Workspace

__all__ = [
    "KINDS",
    "ROOT",
    "Chat",
    "Fate",
    "Kind",
    "NotStored",
    "Preference",
    "Reach",
    "Spot",
    "Store",
    "StoredMessage",
    "Tree",
]

ADDRESS = "PALMIER_DATABASE"
"""The variable that names a PostgreSQL database in place of the home's file."""


class Store(Chats, Fates):
    """One feedback store: a file, or PostgreSQL's URL. Raises Refusal where it is none or one of a newer Palmier."""


def open_store(workspace: Workspace, database: str = "", *, new: bool = True) -> Store:
    """The store of a home: the database at this address, at ``$PALMIER_DATABASE``, or the home's own file.

    Raises Refusal where it can't be opened, and, unless ``new``, where the home has none yet.
    """
    address = database or os.environ.get(ADDRESS, "")
    if address:
        return Store(address)
    if not new and not workspace.store.is_file():
        raise Refusal(f"{workspace.home} holds no feedback yet: run `palmier serve` and rank answers at /rank")
    return Store(workspace.store)
