import pytest

from inference.errors import ConfigError

duckdb = pytest.importorskip("duckdb")

from training.screening.records import reputation, simulate_records  # noqa: E402


def table(path):
    return duckdb.sql(f"SELECT * FROM read_parquet('{path}') ORDER BY day, caller").fetchall()


def test_the_table_counts_what_plain_python_counts(tmp_path):
    simulate_records(tmp_path / "records", 5000, days=2, files=4)
    rows = duckdb.sql(f"SELECT * FROM read_parquet('{tmp_path}/records/*.parquet')").fetchall()
    assert len(rows) == 5000
    want = {}
    for day, caller, callee, answered, talked_s, complaint in rows:
        held = want.setdefault((day, caller), [0, set(), 0, 0, 0])
        held[0] += 1
        held[1].add(callee)
        held[2] += answered
        held[3] += answered and talked_s <= 10
        held[4] += complaint
    assert reputation(tmp_path / "records", tmp_path / "table.parquet") == len(want)
    for day, caller, attempts, callees, answered, short, complaints in table(tmp_path / "table.parquet"):
        held = want[day, caller]
        assert (attempts, callees, answered, short, complaints) == (held[0], len(held[1]), *held[2:])


def test_records_are_the_same_for_a_seed_and_a_caller_lies_in_one_file(tmp_path):
    for name in ("a", "b"):
        simulate_records(tmp_path / name, 2000, files=4)
    first, second = (
        duckdb.sql(f"SELECT * FROM read_parquet('{tmp_path}/{name}/*.parquet') ORDER BY ALL").fetchall()
        for name in ("a", "b")
    )
    assert first == second
    spread = duckdb.sql(
        "SELECT max(files) FROM (SELECT caller, count(DISTINCT filename) AS files "
        f"FROM read_parquet('{tmp_path}/a/*.parquet', filename=true) GROUP BY caller)"
    ).fetchall()
    assert spread == [(1,)]


def test_a_folder_without_records_says_so(tmp_path):
    with pytest.raises(ConfigError, match="no Parquet files"):
        reputation(tmp_path, tmp_path / "x.parquet")
    (tmp_path / "x.parquet").write_bytes(b"nonsense")
    with pytest.raises(ConfigError, match="is not call records"):
        reputation(tmp_path, tmp_path / "y.parquet")
    assert not (tmp_path / "y.parquet.tmp").exists()


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_ray_computes_the_same_table(tmp_path):
    pytest.importorskip("ray")
    from training.screening.distributed import reputation_on_ray

    simulate_records(tmp_path / "records", 20_000, days=2, files=4)
    rows = reputation(tmp_path / "records", tmp_path / "table.parquet")
    done = reputation_on_ray(tmp_path / "records", tmp_path / "by-ray")
    assert (done.rows, done.records) == (rows, 20_000)
    assert table(f"{tmp_path}/by-ray/*.parquet") == table(tmp_path / "table.parquet")


def test_a_folder_with_a_quote_in_its_name_is_a_folder(tmp_path):
    folder = tmp_path / "o'hara' OR 1"
    simulate_records(folder, 1000, files=2)
    assert reputation(folder, tmp_path / "it's.parquet") > 0
