"""Messages in one stretch of memory are what a list of them is."""

from hypothesis import given, settings
from hypothesis import strategies as st

from jetstream_pipeline.events.messages import Messages


@settings(deadline=None)
@given(st.lists(st.binary(max_size=9)), st.integers(-5, 5), st.integers(-5, 5))
def test_messages_are_a_sequence(messages: list[bytes], start: int, stop: int) -> None:
    together = Messages.of(messages)
    assert Messages.of(together) is together
    assert list(together) == messages
    assert len(together) == len(messages)
    assert [together[place] for place in range(len(messages))] == messages
    assert list(together[start:stop]) == messages[start:stop]
    assert together.lengths.tolist() == [len(message) for message in messages]
    assert together.size == sum(map(len, messages))
    if messages:
        assert together.text.tobytes() == b"\n".join(messages)
