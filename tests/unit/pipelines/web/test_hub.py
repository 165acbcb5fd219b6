"""Events: a client that comes back hears what it missed, and one that missed too much is asked to read again."""

from __future__ import annotations

import asyncio

from pipelines.web import hub as hub_module
from pipelines.web.hub import KEPT, Hub


async def heard(hub: Hub, after: int | None, count: int) -> list[str]:
    stream, texts = hub.stream(after), []
    async for text in stream:
        texts.append(text)
        if len(texts) == count:
            break
    await stream.aclose()  # type: ignore[attr-defined]
    return texts


def test_a_client_that_was_away_hears_what_it_missed() -> None:
    hub = Hub()
    for number in range(3):
        hub.publish("job", {"n": number})
    _, first, second = asyncio.run(heard(hub, 1, 3))
    assert first == 'id: 2\nevent: job\ndata: {"n": 1}\n\n'
    assert second.startswith("id: 3\n")
    assert hub.clients == 0


def test_a_client_that_missed_too_much_reads_again_and_memory_is_bounded() -> None:
    hub = Hub()
    for number in range(KEPT + 50):
        hub.publish("job", {"n": number})
    assert "event: reset" in asyncio.run(heard(hub, 3, 2))[1]
    assert len(hub._events) == KEPT


def test_a_number_of_another_start_begins_now() -> None:
    hub = Hub()
    hub.publish("job", {})
    assert "id: 1\nevent: hello" in asyncio.run(heard(hub, 999, 1))[0]


def test_closing_ends_the_streams(monkeypatch: object) -> None:
    hub = Hub()

    async def listen() -> list[str]:
        stream = hub.stream(None)
        first = await anext(stream)  # type: ignore[arg-type]
        asyncio.get_running_loop().call_later(0.05, hub.close)
        return [first, *[text async for text in stream]]

    assert len(asyncio.run(asyncio.wait_for(listen(), hub_module.PING_SECONDS))) == 1
