"""Call records in Parquet, simulated by the hundred million, and the reputation that DuckDB makes of them.

One file holds a slice of the callers, so a number's whole day lies in one file: files can be counted apart, on one
machine or on many, and the tables only have to be laid side by side.
"""

from collections.abc import Callable
from pathlib import Path

import duckdb

from inference.errors import ConfigError

COLUMNS = "day INTEGER, caller BIGINT, callee BIGINT, answered BOOLEAN, talked_s FLOAT, complaint BOOLEAN"
NUM_CALLERS = 2_000_000
HEAVY_SHARE = 0.001
"""One caller in a thousand calls hundreds of numbers a day."""

REPUTATION = """
SELECT day, caller, count(*) AS attempts, count(DISTINCT callee) AS callees,
  sum(answered::INTEGER)::BIGINT AS answered, sum((answered AND talked_s <= 10)::INTEGER)::BIGINT AS short,
  sum(complaint::INTEGER)::BIGINT AS complaints
FROM {source} GROUP BY day, caller
"""
"""The daily table, over anything with :data:`COLUMNS`."""

_SIMULATED = """
SELECT (i % {days})::INTEGER AS day,
  (CASE WHEN hash(i + {salt}) % 1000 < 300 THEN hash(i * 7 + {salt}) % {heavy} ELSE hash(i * 3 + {salt}) % {callers} END
    * {files} + {file})::BIGINT AS caller,
  (440000000000 + hash(i * 11 + {salt}) % 1000000000)::BIGINT AS callee,
  hash(i * 13 + {salt}) % 100 < 60 AS answered,
  (hash(i * 17 + {salt}) % 3000 / 10.0)::FLOAT AS talked_s,
  hash(i * 19 + {salt}) % 1000 < 4 AS complaint
FROM range({rows}) AS r(i)
"""


def simulate_records(
    folder: Path,
    num_records: int,
    *,
    days: int = 1,
    files: int = 16,
    seed: int = 1,
    advance: Callable[[], None] = lambda: None,
) -> None:
    """Write simulated records as Parquet, ``files`` of them; same seed, same records.

    Raises:
        ConfigError: the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with duckdb.connect() as db:
            for file in range(files):
                rows = num_records // files + (file < num_records % files)
                callers = max(2, NUM_CALLERS // files)
                query = _SIMULATED.format(
                    days=days,
                    salt=(seed * files + file) * 1_000_003,
                    heavy=max(1, int(callers * HEAVY_SHARE)),
                    callers=callers,
                    files=files,
                    file=file,
                    rows=rows,
                )
                path = quoted(folder / f"records-{file:04}.parquet")
                db.execute(f"COPY ({query}) TO '{path}' (FORMAT parquet)")
                advance()
    except (OSError, duckdb.IOException) as error:
        raise ConfigError(f"{folder}: cannot be written; give a folder on a disk with room") from error


def files_of(folder: Path) -> list[Path]:
    """The Parquet files of a folder, in order.

    Raises:
        ConfigError: there is none.
    """
    found = sorted(folder.glob("*.parquet"))
    if not found:
        raise ConfigError(f"{folder}: holds no Parquet files of call records ({COLUMNS})")
    return found


def parquet(path: Path | str) -> str:
    """The source that reads Parquet files (``*`` for many), for a query; a quote in a folder's name stays a name."""
    return f"read_parquet('{quoted(path)}')"


def quoted(path: Path | str) -> str:
    """A path as it stands between quotes in SQL."""
    return str(path).replace("'", "''")


def reputation(folder: Path, out: Path) -> int:
    """The daily table of all records in ``folder``, by DuckDB; returns its rows.

    Raises:
        ConfigError: no records there, columns missing, or ``out`` cannot be written.
    """
    files_of(folder)
    return write_reputation(parquet(folder / "*.parquet"), out)


def write_reputation(source: str, out: Path) -> int:
    """:data:`REPUTATION` over a source that DuckDB can read, as Parquet, ordered; returns its rows.

    Raises:
        ConfigError: as above.
    """
    temporary = out.with_name(out.name + ".tmp")
    try:
        with duckdb.connect() as db:
            query = REPUTATION.format(source=source)
            db.execute(f"COPY ({query} ORDER BY day, caller) TO '{quoted(temporary)}' (FORMAT parquet)")
            rows = count_rows(db, parquet(temporary))
        temporary.replace(out)
    except (duckdb.Error, OSError) as error:
        temporary.unlink(missing_ok=True)
        raise ConfigError(f"{source}: is not call records ({COLUMNS}), or {out} cannot be written") from error
    return rows


def count_rows(db: duckdb.DuckDBPyConnection, source: str) -> int:
    """Rows of a source that DuckDB can read."""
    found = db.execute(f"SELECT count(*) FROM {source}").fetchone()  # noqa: S608
    return int(found[0]) if found is not None else 0
