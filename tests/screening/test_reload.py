import asyncio
from contextlib import AsyncExitStack

import numpy as np
from structlog.testing import capture_logs

from inference.screening.attempt import CallAttempt
from inference.screening.bulk import load_bulk, read_bulk, save_bulk
from inference.screening.config import ScreeningConfig, open_screening
from inference.screening.entries import EntryBook
from inference.screening.lists import ListEntry, NumberLists
from inference.screening.reload import ListReloader, signature

CALL = CallAttempt(call_id="c", caller="+441212345678", callee="+442079460000")
DENY = ListEntry(kind="deny", number="441212345678", who="desk", why="reported")


def test_another_process_changes_lists_and_a_serving_worker_follows(tmp_path):
    config = ScreeningConfig(path=tmp_path / "s.db", lists_dir=tmp_path / "lists")
    (tmp_path / "lists").mkdir()
    text = tmp_path / "list.txt"
    text.write_text("+441212345678,parcel\n")

    async def go():
        actions = []
        async with AsyncExitStack() as stack:
            served = open_screening(config, stack)
            reloader = next(b.__self__ for b in served.background if isinstance(b.__self__, ListReloader))

            async def decided():
                await reloader.check()
                actions.append((await served.screener.decide(CALL)).action)

            desk = EntryBook(tmp_path / "s.entries")
            await decided()
            desk.add(DENY)
            await decided()
            desk.remove(DENY, who="desk", why="appeal")
            await decided()
            save_bulk(tmp_path / "lists", read_bulk(text, "partner", "deny")[0])
            await decided()
            (tmp_path / "lists" / "partner.npz").unlink()
            await decided()
            desk.close()
            return actions, reloader.num_reloads

    actions, reloads = asyncio.run(go())
    assert actions == ["allow", "reject", "allow", "reject", "allow"]
    assert reloads == 4


def test_a_file_that_is_no_list_leaves_the_former_ones_and_is_said_once(tmp_path):
    text = tmp_path / "list.txt"
    text.write_text("+441212345678\n")
    made, _ = read_bulk(text, "partner", "deny")
    lists, entries = NumberLists(bulk=[made]), EntryBook(None)
    reloader = ListReloader(lists, entries, tmp_path, signature(tmp_path))
    np.savez(tmp_path / "partner.npz", numbers=np.zeros(1))

    async def go():
        with capture_logs() as logs:
            await reloader.check()
            await reloader.check()
        return [line["event"] for line in logs]

    assert asyncio.run(go()) == ["lists not reloaded: the former ones hold"]
    assert lists.find("441212345678")
    assert reloader.num_failures == 2
    entries.close()


def test_a_folder_that_goes_away_leaves_the_lists_as_they_were(tmp_path):
    folder, text = tmp_path / "lists", tmp_path / "list.txt"
    text.write_text("+441212345678,parcel\n")
    made = save_bulk(folder, read_bulk(text, "partner", "deny")[0])
    lists = NumberLists(bulk=load_bulk(folder))
    reloader = ListReloader(lists, EntryBook(None), folder, signature(folder))
    made.unlink()
    folder.rmdir()
    with capture_logs() as lines:
        asyncio.run(reloader.check())
        asyncio.run(reloader.check())
    assert [line["event"] for line in lines] == ["lists not reloaded: the former ones hold"]
    assert lists.find("441212345678")
