"""Work beside the call path that is finished once begun: no transaction is written twice, or accounted by half."""

import asyncio
from collections.abc import Callable


async def in_thread(work: Callable[[], object], then: Callable[[], object] = lambda: None) -> None:
    """Do ``work`` in a thread, and ``then`` on the loop if it succeeded.

    Who waits may be cancelled (the worker ends), the thread cannot: it is waited for, and ``then`` is done, before the
    cancellation goes on.

    Raises:
        whatever ``work`` raises.
    """
    job = asyncio.get_running_loop().run_in_executor(None, work)
    try:
        await asyncio.shield(job)
    finally:
        if not job.done():
            await asyncio.wait({job})
        if job.exception() is None:
            then()
