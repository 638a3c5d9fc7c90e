from typing import Any

import numpy as np

COLUMNS: tuple[str, ...]
KINDS: tuple[str, ...]
OPERATIONS: tuple[str, ...]

def take_apart(
    memory: np.ndarray,
    starts: np.ndarray,
    ends: np.ndarray,
    is_v2: bool,
    places: np.ndarray,
    numbers: np.ndarray,
    names: np.ndarray,
) -> tuple[int, bool]: ...
def join(memory: np.ndarray, places: np.ndarray, offsets: np.ndarray, texts: np.ndarray) -> None: ...
def line_up(texts: list[Any], ends: np.ndarray, memory: np.ndarray, between: int) -> None: ...
