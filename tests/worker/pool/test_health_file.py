import asyncio
import os
from pathlib import Path

import pytest

from rustic_ai.llm_queue.worker.pool.health import HealthFile
from support.processes.wait import async_wait_until


async def test_the_file_is_touched_while_the_loop_turns_and_gone_with_it(tmp_path: Path) -> None:
    path = tmp_path / "alive"
    service = asyncio.create_task(HealthFile(path, every_s=0.01).run())
    await async_wait_until(path.exists, what="the file")
    os.utime(path, (0, 0))
    await async_wait_until(lambda: path.stat().st_mtime > 0, what="another touch")
    service.cancel()
    with pytest.raises(asyncio.CancelledError):
        await service
    assert not path.exists()
