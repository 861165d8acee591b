"""Secret: a string that cannot be shown by accident."""

import hmac
from typing import NoReturn


class Secret:
    """
    A token, code, verifier or client secret.

    ``repr``, ``str`` and ``format`` show a placeholder and pickling fails, so that a log record, an error
    report or a cache can't spill it. Only :meth:`reveal` gives the text. Comparison takes constant time.
    """

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """The text itself; call it where the text leaves for its destination, not earlier."""
        return self._text

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(
            self._text.encode("utf-8", "surrogatepass"), other._text.encode("utf-8", "surrogatepass")
        )

    def __hash__(self) -> int:
        return hash((Secret, self._text))

    def __bool__(self) -> bool:
        return bool(self._text)

    def __repr__(self) -> str:
        return "<Secret>"

    __str__ = __repr__

    def __format__(self, format_spec: str) -> str:
        return repr(self)

    def __reduce__(self) -> NoReturn:
        raise TypeError("A Secret is not pickled: it would be readable wherever it is kept.")
