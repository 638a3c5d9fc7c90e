"""What comes in order is taken in order, in batches that lie together."""

from hypothesis import given
from hypothesis import strategies as st

from jetstream_pipeline.events.messages import Messages
from jetstream_pipeline.jetstream.intake import Intake


@given(
    st.lists(st.one_of(st.binary(max_size=5), st.lists(st.binary(max_size=5), max_size=5), st.integers(1, 6))),
    st.integers(1, 4),
)
def test_what_comes_is_taken_in_order(steps: list[bytes | list[bytes] | int], cuts: int) -> None:
    """Bytes: one message; a list: many at once, in `cuts` parts of the same memory; a number: so many are taken."""
    intake = Intake()
    here: list[bytes] = []
    taken = 0
    for step in [*steps, *[5] * 100]:
        match step:
            case bytes():
                intake.add(step)
                here.append(step)
            case list():
                together = Messages.of(step)
                for cut in range(cuts):
                    intake.add_all(together[cut * len(step) // cuts : (cut + 1) * len(step) // cuts])
                here += step
            case int():
                batch = list(intake.take(step))
                assert bool(batch) == bool(here)
                assert batch == here[: len(batch)]
                assert len(batch) <= step
                del here[: len(batch)]
                taken += sum(map(len, batch))
        assert (intake.count, intake.size) == (len(here), sum(map(len, here)))
        assert intake.taken == taken


def test_what_lies_together_is_one_batch() -> None:
    intake = Intake()
    together = Messages.of([b"a", b"b", b"c"])
    for number in range(3):
        intake.add_all(together[number : number + 1])
    intake.add(b"d")
    assert list(intake.take(9)) == [b"a", b"b", b"c"]
    assert list(intake.take(9)) == [b"d"]
