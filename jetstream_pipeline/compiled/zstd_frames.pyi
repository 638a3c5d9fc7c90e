import numpy as np

def content_sizes(
    memory: np.ndarray, starts: np.ndarray, ends: np.ndarray, dictionary: int
) -> tuple[np.ndarray, np.ndarray]: ...
