"""Messages in one stretch of memory are what a list of them is."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jetstream_pipeline.compiled import IS_COMPILED, cutter
from jetstream_pipeline.events import messages as messages_module
from jetstream_pipeline.events.messages import Messages


@given(st.lists(st.binary(max_size=9)), st.integers(-5, 5), st.integers(-5, 5), st.booleans())
def test_messages_are_a_sequence(messages: list[bytes], start: int, stop: int, compiled: bool) -> None:
    with pytest.MonkeyPatch.context() as patch:
        if not compiled:
            patch.setattr(messages_module, "cutter", None)
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


@pytest.mark.skipif(not IS_COMPILED, reason="there was no compiler when the package was installed")
def test_texts_are_not_written_where_there_is_no_room() -> None:
    for texts, ends, size in (([b"ab"], [2], 1), ([b"ab"], [3], 3), ([b"a", b"b"], [1, 9], 3), ([b"a"], [1, 2], 2)):
        with pytest.raises(IndexError):
            cutter.line_up(texts, np.array(ends), np.empty(size, np.uint8), 10)
    with pytest.raises(TypeError):
        cutter.line_up(["text"], np.array([4]), np.empty(4, np.uint8), 10)
