"""What can be looked at of an opened run: predictions, the words that survive under a member, and figures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from searchkit.evaluate.predictions import Predictions
from searchkit.runs.folder import Folder

if TYPE_CHECKING:
    import pandas as pd

    from searchkit.report.rationales import Rationalised
    from searchkit.report.words import Survivors


class Looks:
    """Part of `Run` that shows things, of its folder."""

    _folder: Folder

    def predictions(self, key: str) -> pd.DataFrame:
        """What a member of the front, or the unreduced model, predicts on the report split, a row for each example.

        Columns: key; example, the row in the table of the split; `logit_0`, ... of classes in the order of the task's
        labels, `value` of a number, `start`, `end` and `score` of a question's answer (characters of the context, -1
        for the empty answer); dtype, the number format that they were measured in. StudyError for an unknown key, and
        where none are kept; StoreError for a damaged file.

        >>> import searchkit
        >>> run = searchkit.open("runs/quickstart")  # doctest: +SKIP
        >>> run.predictions(run.front["key"][0]).head()  # doctest: +SKIP
        """
        return Predictions.read(self._folder.predictions).frame(key)

    def words(
        self,
        text: str | None = None,
        second: str | None = None,
        *where: str,
        key: str | None = None,
        best: str | None = None,
        confident: bool = False,
        measured: str | None = None,
        rows: Sequence[int] = (),
        examples: int = 3,
    ) -> Survivors:
        """Words that each layer of a front member keeps, as `searchkit words` shows them.

        text: of one's own, with the `second` of a pair or the context of a question; otherwise the `rows` of the report
        split, or as many drawn `examples`. The member is that of `key`, or what `pick` chooses.

        >>> import searchkit
        >>> shown = searchkit.open("runs/quickstart").words(best="accuracy")  # doctest: +SKIP
        >>> [word.text for word in shown.examples[0].words if word.layer is None]  # doctest: +SKIP
        """
        from searchkit.runs.words import words

        return words(
            self._folder,
            text,
            second,
            key=key,
            where=where,
            best=best,
            confident=confident,
            measured=measured,
            rows=rows,
            examples=examples,
        )

    def rationales(
        self,
        *where: str,
        key: str | None = None,
        best: str | None = None,
        confident: bool = False,
        measured: str | None = None,
    ) -> Rationalised:
        """Precision, recall and false-positive rate of what a member leaves after each layer, against the rationales of
        the report split, beside as many tokens by chance, attention and saliency. StudyError where the task has none.

        >>> import searchkit
        >>> print(searchkit.open("runs/quickstart").rationales(best="accuracy"))  # doctest: +SKIP
        """
        from searchkit.runs.rationales import rationales

        return rationales(self._folder, where=where, key=key, best=best, confident=confident, measured=measured)
