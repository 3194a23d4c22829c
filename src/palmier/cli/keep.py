"""`palmier backup | doctor`: a whole copy of the store, and a look whether everything is whole."""

from __future__ import annotations

import os
from pathlib import Path

from palmier.workspace import Workspace


def backup(file: Path, *, home: Path | None = None) -> None:
    """Copy the store of conversations and feedback into one file, also while the server runs.

    The copy is checked before it gets its name. To go back to it, put it in the place of
    feedback.sqlite in the home while no server runs. On PostgreSQL: pg_dump.

    Parameters
    ----------
    file
        The file to write; what is there already is replaced once the copy is whole.
    home
        Folder of versions and rankings; by default $PALMIER_HOME or ~/.palmier.
    """
    from palmier.errors import Refusal
    from palmier.feedback.database import back_up
    from palmier.feedback.store import ADDRESS

    store = Workspace.at(home).store
    if os.environ.get(ADDRESS):
        raise Refusal(f"${ADDRESS} names a store on PostgreSQL, which its own program copies: pg_dump")
    if not store.is_file():
        raise Refusal(f"{store.parent} holds no feedback yet: there is nothing to copy")
    back_up(store, file)
    print(f"{file}: a whole copy of {store}, {file.stat().st_size / 1e6:,.1f} MB, checked")


def doctor(*, home: Path | None = None, database: str = "") -> int:
    """Look whether the store, the versions and the files beside them are whole. Changes nothing.

    Parameters
    ----------
    home
        Folder of versions and rankings; by default $PALMIER_HOME or ~/.palmier.
    database
        The store is in PostgreSQL, at this address; by default $PALMIER_DATABASE, else a file in the home.
    """
    from palmier.feedback.doctor import examine

    wrong = 0
    for finding in examine(Workspace.at(home), database):
        wrong += bool(finding.problem)
        print(f"✗ {finding.about}: {finding.problem}" if finding.problem else f"✓ {finding.about}")
    print(f"{wrong} problem{'s' * (wrong != 1)} found." if wrong else "Everything is whole.")
    return 1 if wrong else 0
