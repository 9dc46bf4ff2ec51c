"""Model card of a shipped folder: how to load it, what was measured, with intervals, where, and what is not known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from searchkit.errors import one_line
from searchkit.ship.check import Agreement
from searchkit.ship.shipment import Format, Shipment
from searchkit.ship.speed import Speed

LOADED: Final[dict[Format, str]] = {
    "pytorch": """```python
import searchkit.hf  # registers the classes; pip install searchkit
from transformers import pipeline

classify = pipeline("text-classification", "THIS_FOLDER", truncation=True)
print(classify("A text."))
```""",
    "stock": """```python
from transformers import pipeline

classify = pipeline("text-classification", "THIS_FOLDER", truncation=True)
print(classify("A text."))
```""",
    "onnx": """```python
import onnxruntime
from transformers import AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("THIS_FOLDER")
session = onnxruntime.InferenceSession("THIS_FOLDER/model.onnx")
names = {item.name for item in session.get_inputs()}
inputs = tokenizer(["A text."], truncation=True, padding=True, return_tensors="np")
print(session.run(None, {name: inputs[name].astype("int64") for name in names}))
```""",
}
READER: Final = """```python
import torch
import searchkit.hf  # registers the classes; pip install searchkit
from transformers import AutoModelForQuestionAnswering, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("THIS_FOLDER")
model = AutoModelForQuestionAnswering.from_pretrained("THIS_FOLDER").eval()
inputs = tokenizer("A question?", "A context.", truncation="only_second", return_tensors="pt")
with torch.no_grad():
    answer = model(**inputs)
start, end = int(answer.start_logits.argmax()), int(answer.end_logits.argmax())
print(tokenizer.decode(inputs["input_ids"][0, start : end + 1]))
```"""


def card(
    shipment: Shipment,
    kind: Format,
    *,
    int8: bool,
    agreement: Agreement,
    speeds: Sequence[Speed],
    quality: Mapping[str, Mapping[str, Any]],
    where: Mapping[str, Any],
) -> str:
    """Text of README.md. quality: figure -> member and unreduced -> value; where: the times were measured."""
    about, model = shipment.about, shipment.model
    reader = model.head.name == "question_answering"
    load = READER if reader and kind != "onnx" else LOADED[kind]
    if kind == "stock" and reader:
        load = load.replace("import searchkit.hf  # registers the classes; pip install searchkit\n", "")
    lines = [
        "---",
        "library_name: " + ("transformers" if kind == "stock" else "searchkit"),
        "license: unknown",
        "tags: [token-reduction, length-adaptive]",
        "---",
        f"# {about['study']}",
        "",
        _summary(kind, int8),
        "",
        "## How to load it",
        "",
        load,
        "",
        f"Texts are cut at {shipment.max_length} tokens, as when it was measured: pass `truncation=True`. "
        "Tokenizers must pad on the right.",
        "",
        "## What was measured",
        "",
        f"On the report split of {about['data']}, which neither the training nor the search has seen.",
        "",
        "| | this model | unreduced |",
        "|---|---|---|",
        *(f"| {name} | {_shown(row['member'])} | {_shown(row.get('unreduced'))} |" for name, row in quality.items()),
        "",
        *_times(speeds, where),
        f"Self-test after writing: {agreement.text}.",
        "",
        "## Where it comes from",
        "",
        *(f"* {name}: {value}" for name, value in about.items()),
        f"* labels: {', '.join(one_line(str(name)) for name in model.stock.config.id2label.values())}",
        f"* plan: {shipment.key}" + (f", of {len(shipment.plans)} in this folder" if kind == "pytorch" else ""),
        "",
        "The licence, the intended use and the limits of the training data are not known to searchkit: fill them in.",
        "",
    ]
    return "\n".join(lines)


def _summary(kind: Format, int8: bool) -> str:
    if kind == "stock":
        return "The unreduced model of a search with searchkit: all words at every layer."
    what = "in ONNX, with int8 weights" if int8 else "in ONNX" if kind == "onnx" else "for transformers"
    return (
        f"A transformer encoder that keeps fewer words at every layer, {what}; the lengths were found with searchkit."
    )


def _shown(figure: Mapping[str, Any] | None) -> str:
    if figure is None:
        return ""
    value, low, high = figure["value"], figure.get("low"), figure.get("high")
    ends = "" if low is None or high is None else f" ({low:.4g} to {high:.4g})"
    return f"{value:.4g}{ends}"


def _times(speeds: Sequence[Speed], where: Mapping[str, Any]) -> list[str]:
    if not speeds:
        return []
    setting = ", ".join(f"{name} {value}" for name, value in where.items())
    rows = [
        f"| {speed.name} | {speed.ms:.2f} | "
        + (f"{speed.speedup:.2f} ({speed.low:.2f} to {speed.high:.2f})" if number else "1")
        + " |"
        for number, speed in enumerate(speeds)
    ]
    busy = ["The machine was busy with other work while this was timed.", ""] if speeds[0].contended else []
    return [
        f"Times of one text, side by side in one process ({setting}); intervals are 95 %.",
        "",
        "| | ms | times as fast |",
        "|---|---|---|",
        *rows,
        "",
        *busy,
    ]
