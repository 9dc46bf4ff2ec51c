"""Texts that readers of csv files, such as pandas and spreadsheets, turn into numbers, dates, flags or gaps."""

from __future__ import annotations

import re
from typing import Final

LONGEST: Final = 60  # characters of a text that is looked at; others are sentences
_MONTH: Final = (
    r"(jan(uary)?|feb(ruary)?|mar(ch)?|apr(il)?|may|june?|july?|aug(ust)?|sept?(ember)?|oct(ober)?|nov(ember)?"
    r"|dec(ember)?)\.?"
)
_NUMBER: Final = r"[-+(]*\s*[$€£¥]?\s*[\d.,'\s]*\d[\d.,'\s]*(e\s*[-+]?\s*\d+)?\s*[%$€£¥j)]*"
_DATE: Final = (
    rf"\d+\s*[-/.:]\s*\d+(\s*[-/.:T]\s*\d+)*\s*([ap]m?|z)?|\d+[-/.\s]*{_MONTH}[-/.,\s]*\d*|{_MONTH}[-/.\s]*\d+"
)
_WORD: Final = r"true|false|[-+]?inf(inity)?|[-+]?nan|null|none|n/?a|<na>|#.*|-?1\.#(ind|qnan)|nat"
_CONVERTED: Final = re.compile(rf"\s*({_NUMBER}|{_DATE}|{_WORD}|)\s*", re.IGNORECASE)


def is_converted(text: str) -> bool:
    """Return whether default settings of a reader may convert the text: "1e5", "007", "nan", "1/2", ""."""
    return len(text) <= LONGEST and bool(_CONVERTED.fullmatch(text))


def lettered(digits: str) -> str:
    """Hex digits that no reader turns into a number or a date: the first one becomes a letter where one might."""
    return "abcdef"[int(digits[0], 16) % 6] + digits[1:] if is_converted(digits) else digits
