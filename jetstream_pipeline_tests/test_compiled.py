"""What is compiled is there as a whole or not at all, and nothing needs it."""

import subprocess
import sys

import pytest

from jetstream_pipeline_tests.windows import commit

PARTS = ("cutter", "framing", "known", "zstd_frames")


@pytest.mark.parametrize("missing", PARTS)
def test_where_one_part_is_missing_none_is_used(missing: str) -> None:
    code = f"""
import sys
sys.modules["jetstream_pipeline.compiled.{missing}"] = None
from jetstream_pipeline import compiled
from jetstream_pipeline.events.decode import decode
from jetstream_pipeline.events.messages import Messages
from jetstream_pipeline.jetstream.recent import Recent
decoded = decode(Messages.of([{commit("{}", number=1)!r}, b"no event"]), "host")
print(compiled.IS_COMPILED, [getattr(compiled, name) for name in {PARTS}])
print(decoded.events["rkey"].to_pylist(), len(decoded.rejected), Recent(1).fresh(decoded.events).to_pylist())
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert result.stdout.splitlines() == ["False [None, None, None, None]", "['k1'] 1 [True]"]
