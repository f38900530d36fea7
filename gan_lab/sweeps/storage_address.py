"""Database of a sweep: its address, and its errors in one line."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import optuna
import sqlalchemy
from optuna.exceptions import StorageInternalError

from gan_lab.utils.errors import UserError, first_line, import_extra

ADDRESS_REMEDY = "Use sqlite:///<file> or postgresql://user@host/database"


def resolve_storage(url: str) -> str:
    """Add the driver to the address of a database.

    Raises:
        UserError: The database is neither SQLite nor PostgreSQL.
    """
    try:
        parsed = sqlalchemy.make_url(url)
    except sqlalchemy.exc.ArgumentError:
        raise UserError(f"--storage is not an address: {url}. {ADDRESS_REMEDY}") from None
    if parsed.drivername == "sqlite" and parsed.database:
        return url
    if parsed.drivername not in ("postgresql", "postgresql+psycopg", "postgres"):
        raise UserError(
            f"--storage has an unsupported database: {parsed.drivername}://…. {ADDRESS_REMEDY}"
        )
    import_extra("psycopg", "postgres", f"--storage {parsed.drivername}://…")
    return parsed.set(drivername="postgresql+psycopg").render_as_string(hide_password=False)


@contextmanager
def explain_storage_errors(url: str) -> Iterator[None]:
    """Turn database errors into a UserError without the password.

    Optuna's warnings about heartbeats are silenced.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            warnings.filterwarnings("ignore", message="Heartbeat of storage is supposed")
            yield
    except (StorageInternalError, sqlalchemy.exc.SQLAlchemyError) as error:
        cause = error.__cause__ or error
        address = sqlalchemy.make_url(url).render_as_string()
        raise UserError(
            f"the storage does not respond: {address} ({first_line(cause)}). Check its server"
        ) from None
