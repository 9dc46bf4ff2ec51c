"""Records as other tools read them: no text of a table becomes a number, a date, a flag or a gap."""

from __future__ import annotations

import io
import re

import pandas as pd
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from searchkit._internal.plain_texts import is_converted, lettered
from searchkit.records import Candidate
from searchkit.report.environment import fingerprint
from searchkit.report.table import csv_of

NUMBERS = ["8e64310212345678", "1234567890123456", "0012", "1e5", "inf", "-inf", "5%", "$5", "1,000", "1.", ".5"]
WORDS = ["nan", "NaN", "true", "FALSE", "NA", "N/A", "null", "None", "<NA>", "#N/A"]
DATES = ["1/2", "2024-01-01", "12:30", "MAR1", "1dec2020", "9feb12"]  # of spreadsheets
PLAIN = ["cpu, 1 thread", "11th Gen (cpu), 1 thread", "mamba2", "8a64", "top_k", "info", "decade"]
texts = st.text("0123456789eE.+-_, infatrulNA%x/:#<>", max_size=9) | st.sampled_from(
    [*NUMBERS, *WORDS, *DATES, "", " 5 "]
)


@given(st.lists(texts, min_size=1, max_size=3))
def test_texts_of_a_table_come_back_from_pandas_as_texts(column: list[str]) -> None:
    """Columns of one cell too: pandas guesses a type from all cells of a column, a spreadsheet from each."""
    frame = pd.DataFrame({"text": pd.Series(column, dtype="str"), "number": range(len(column))})
    read = pd.read_csv(io.BytesIO(csv_of(frame)))
    assert read["text"].dtype == "str"
    found = [cell.removeprefix("'") if cell != own else cell for cell, own in zip(read["text"], column, strict=True)]
    assert found == column
    assert list(read["number"]) == list(range(len(column)))


@pytest.mark.parametrize("text", [*NUMBERS, *WORDS, *DATES])
def test_texts_that_a_spreadsheet_would_change_begin_with_an_apostrophe(text: str) -> None:
    assert csv_of(pd.DataFrame({"a": [text]})).decode().splitlines()[1].strip('"') == f"'{text}"


@pytest.mark.parametrize(
    "text", ["cpu, 1 thread", "11th Gen (cpu), 1 thread", "mamba2", "8a64", "top_k", "info", "decade"]
)
def test_plain_texts_stay_as_they_are(text: str) -> None:
    assert not is_converted(text)


@given(st.text("0123456789e", min_size=16, max_size=16) | st.text("0123456789abcdef", min_size=16, max_size=16))
@example("8e64310212345678")
@example("1234567890123456")
def test_hex_digits_are_lettered_where_a_reader_takes_them_for_a_number(digits: str) -> None:
    named = lettered(digits)
    read = pd.read_csv(io.StringIO(f"key\n{named}\n"))["key"]
    assert (read.dtype, read[0]) == ("str", named)
    assert named[1:] == digits[1:]
    assert named == digits or re.fullmatch(r"\d+(e\d+)?", digits)


def test_keys_and_fingerprints_of_many_are_texts_to_pandas() -> None:
    """A thousandth of the keys and a thirtieth of the fingerprints would be numbers by chance."""
    candidates = [Candidate.of(number=number) for number in range(5000)]
    settings = [fingerprint({"number": number}) for number in range(1000)]
    assert sum(candidate.key != candidate.former_key for candidate in candidates) > 0
    for name in [*(candidate.key for candidate in candidates), *settings]:
        assert not is_converted(name)
        with pytest.raises(ValueError, match="could not convert"):
            float(name)
    assert len({candidate.key for candidate in candidates}) == 5000
