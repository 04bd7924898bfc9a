"""The daily reputation table on many machines: Ray hands each file of records to a core somewhere, DuckDB counts it.

A number's records lie in one file (:mod:`training.screening.records`), so nothing has to be shuffled between machines:
what limits it is reading, and it grows with the machines that read.
"""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from inference.errors import ConfigError
from training.screening.records import count_rows, files_of, parquet, write_reputation


@dataclass(frozen=True, slots=True)
class Counted:
    """What a run did.

    Attributes:
        rows: of the table.
        records: read.
        seconds: of wall clock, without starting the cluster.
    """

    rows: int
    records: int
    seconds: float


def count_file(row: dict[str, str]) -> dict[str, int]:
    """Count one file; runs on any machine of the cluster that sees the same folders."""
    import duckdb

    source, out = row["source"], Path(row["out"])
    with duckdb.connect(config={"threads": 1}) as db:
        records = count_rows(db, parquet(source))
    return {"rows": write_reputation(parquet(source), out), "records": records}


def reputation_on_ray(
    folder: Path, out: Path, *, address: str | None = None, advance: Callable[[], None] = lambda: None
) -> Counted:
    """The table as one Parquet file a file of records, in the folder ``out``, by Ray Data.

    Args:
        folder: of records.
        out: folder for the table; made.
        address: of a Ray cluster; None starts one on this machine.
        advance: told after each file.

    Raises:
        ConfigError: Ray is not installed, or no records are there.
    """
    try:
        import ray
    except ImportError as error:
        raise ConfigError("many machines need Ray: pip install 'scamtap[cluster]'") from error
    files = files_of(folder)
    out.mkdir(parents=True, exist_ok=True)
    jobs = [{"source": str(file.resolve()), "out": str((out / file.name).resolve())} for file in files]
    ray.init(address=address, log_to_driver=False, include_dashboard=False, logging_level=logging.ERROR)
    try:
        ray.data.DataContext.get_current().enable_progress_bars = False
        began_s = time.monotonic()
        dataset = ray.data.from_items(jobs, override_num_blocks=len(jobs)).map(count_file, num_cpus=1)
        rows = records = 0
        for done in dataset.iter_rows():
            rows, records = rows + int(done["rows"]), records + int(done["records"])
            advance()
        seconds = time.monotonic() - began_s
    finally:
        ray.shutdown()
    return Counted(rows, records, seconds)
