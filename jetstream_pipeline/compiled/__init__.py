"""What is compiled when the package is installed: all of it, or nothing where there is no compiler.

Whoever uses it can do without, message by message.
"""

try:
    from jetstream_pipeline.compiled import cutter, framing, known, zstd_frames
except ImportError:
    cutter = framing = known = zstd_frames = None  # type: ignore[assignment]

IS_COMPILED = cutter is not None

__all__ = ["IS_COMPILED", "cutter", "framing", "known", "zstd_frames"]
