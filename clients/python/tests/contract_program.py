"""Speaks the step protocol of format/contract/README.md on standard input and output.

With COATCHECK_ASYNC=1 it uses asyncio.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from steps import Steps, complete

import coatcheck

output = threading.Lock()


def write(reply: dict[str, Any]) -> None:
    with output:
        sys.stdout.buffer.write((json.dumps(reply) + "\n").encode())
        sys.stdout.buffer.flush()


def with_threads() -> None:
    steps = Steps()

    def serve(request: dict[str, Any]) -> None:
        try:
            reply = steps.make_sync(request)
        except Exception as err:
            reply = {"outcome": "other", "values": [], "session": None, "error": repr(err)}
        write({"id": request["id"], **reply})

    with ThreadPoolExecutor(64) as pool:
        for line in sys.stdin.buffer:
            request = json.loads(line)
            pool.submit(serve, request)
    complete(steps.close())


async def with_asyncio() -> None:
    steps, loop, tasks = Steps(coatcheck.AsyncManager), asyncio.get_running_loop(), set()

    async def serve(request: dict[str, Any]) -> None:
        try:
            reply = await steps.make(request)
        except Exception as err:
            reply = {"outcome": "other", "values": [], "session": None, "error": repr(err)}
        write({"id": request["id"], **reply})

    while line := await loop.run_in_executor(None, sys.stdin.buffer.readline):
        request = json.loads(line)
        task = loop.create_task(serve(request))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
    await asyncio.gather(*tasks)
    await steps.close()


if __name__ == "__main__":
    if os.environ.get("COATCHECK_ASYNC") == "1":
        asyncio.run(with_asyncio())
    else:
        with_threads()
