"""What can be looked at of an opened run: predictions, the words that survive under a member, and figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from searchkit.evaluate.predictions import Predictions, kept_layers
from searchkit.runs.folder import Folder

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

    from searchkit.evaluate.layers import LayerCosts
    from searchkit.report.rationales import Rationalised
    from searchkit.report.words import Survivors


class Looks:
    """Part of `Run` that shows things, of its folder."""

    _folder: Folder

    @property
    def layers(self) -> Mapping[str, LayerCosts]:
        """Mean tokens and MACs of one example in each layer, by the key of the member, and of the unreduced model.

        Empty for runs of earlier versions, until `searchkit run` has measured their front again.
        """
        return kept_layers(self._folder.predictions, str(self._folder.read()["fingerprint"]))

    def plot(
        self, kind: str, *others: Looks, ax: Axes | None = None, cost: str | None = None, to: str | Path | None = None
    ) -> Axes | None:
        """Draw a figure, a name of `searchkit.report.figures.kinds.KINDS`, of this run and others.

        It is drawn into `ax`, or into a new figure of pyplot, and the axes are returned; with `to`, a .png, .svg or
        .pdf file, it is written there, with title and conditions. cost: of "pareto", an objective other than the
        search's. StudyError for what the run does not have.

        >>> import searchkit
        >>> run = searchkit.open("runs/quickstart")  # doctest: +SKIP
        >>> axes = run.plot("pareto", cost="latency")  # doctest: +SKIP
        >>> run.plot("lengths", to="lengths.pdf")  # doctest: +SKIP
        """
        if to is not None:
            plotted([self, *others], kind, Path(to), cost=cost)
            return None
        from searchkit.report.figures.kinds import draw

        return draw(kind, [self, *others], ax, cost=cost)

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


def plotted(runs: Sequence[Any], kind: str, file: Path, *, cost: str | None = None) -> None:
    """Write a figure of opened runs to a .png, .svg or .pdf file; StudyError for what these do not have."""
    from searchkit.report.figures.kinds import draw
    from searchkit.report.figures.saved import save

    save(lambda axes: draw(kind, runs, axes, cost=cost), [run.results for run in runs], file)
