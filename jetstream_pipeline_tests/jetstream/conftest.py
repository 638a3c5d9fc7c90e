"""Tests that are coroutines, and what reads their websockets."""

import asyncio
import gc
import inspect
from typing import Any

import pytest

from jetstream_pipeline.jetstream.transport import Transport


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run tests that are coroutines, each in a loop of its own, where no exception may go unseen."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    names = inspect.signature(pyfuncitem.obj).parameters
    asyncio.run(_watched(pyfuncitem.obj(**{name: pyfuncitem.funcargs[name] for name in names})))
    return True


async def _watched(test: Any) -> None:
    unseen: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: unseen.append(context))
    async with asyncio.timeout(120):
        await test
    gc.collect()
    await asyncio.sleep(0)
    assert not unseen


@pytest.fixture(params=list(Transport))
def transport(request: pytest.FixtureRequest) -> Transport:
    """Each in turn."""
    chosen: Transport = request.param
    return chosen
