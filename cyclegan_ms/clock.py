"""How long things take: an estimate of the rest, and lengths of time in words."""

__all__ = ["duration", "seconds_left"]


def seconds_left(done: float, left: float, seconds: float) -> float:
    """Return the seconds that the rest takes if `done` took `seconds`; 0 where nobody knows."""
    return seconds * left / done if done else 0.0


def duration(seconds: float) -> str:
    """Return a length of time as it is said: `35 s`, `17 min`, `2 h 05 min`."""
    if round(seconds) < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02} min"
