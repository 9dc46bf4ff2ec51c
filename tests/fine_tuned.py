"""A checkpoint that transformers alone fine-tuned, and csv files: what a user has before searchkit comes."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd

LABELS: Final = ("positive", "neutral", "negative")  # in the order of the model's outputs: not the alphabet's
CUES: Final = {
    "positive": ("superb", "lovely", "brilliant"),
    "neutral": ("average", "ordinary", "plain"),
    "negative": ("awful", "boring", "dreadful"),
}
REST: Final = "the film has a plot and actors who speak in scenes that were shot near some town by night"
ROWS: Final = {"train": 360, "validation": 150, "test": 150}


def reviews(rows: int, seed: int) -> pd.DataFrame:
    """Texts of 20 to 50 words, three of which tell the label, and one of another label now and then."""
    rng = np.random.default_rng(seed)
    made = []
    for number in range(rows):
        label = LABELS[(number + 1) % 3]
        words = rng.choice(REST.split(), rng.integers(20, 50)).tolist()
        own, other = CUES[label], CUES[LABELS[rng.integers(3)]]
        for cue in (*rng.choice(own, 3), *rng.choice(other, 1)):
            words.insert(int(rng.integers(len(words))), cue)
        made.append({"text": " ".join(words), "label": label})
    return pd.DataFrame(made)


def fine_tuned(model: Path, data: Path, unlabelled: Path) -> None:
    """Write csv files into `data`, texts alone to `unlabelled`, and a tiny BERT that learned them into `model`."""
    from transformers import (
        BertConfig,
        BertForSequenceClassification,
        BertTokenizer,
        DataCollatorWithPadding,
        Trainer,
        TrainingArguments,
        set_seed,
    )

    data.mkdir()
    for seed, (split, rows) in enumerate(ROWS.items()):
        reviews(rows, seed).to_csv(data / f"{split}.csv", index=False)
    reviews(60, 9)[["text"]].to_csv(unlabelled, index=False)
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *sorted({*REST.split(), *sum(CUES.values(), ())})]
    tokenizer = BertTokenizer(vocab={word: number for number, word in enumerate(words)})
    set_seed(0)
    config = BertConfig(
        vocab_size=len(words),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        initializer_range=0.15,
        id2label=dict(enumerate(LABELS)),
        label2id={label: number for number, label in enumerate(LABELS)},
    )
    table = pd.read_csv(data / "train.csv")
    rows = [
        {**tokenizer(text, truncation=True), "label": LABELS.index(label)}
        for text, label in zip(table["text"], table["label"], strict=True)
    ]
    arguments = TrainingArguments(
        str(model),
        num_train_epochs=3,
        learning_rate=6e-3,
        per_device_train_batch_size=16,
        report_to="none",
        save_strategy="no",
        disable_tqdm=True,
        use_cpu=True,
    )
    trainer = Trainer(
        BertForSequenceClassification(config),
        arguments,
        train_dataset=rows,
        processing_class=tokenizer,
        data_collator=DataCollatorWithPadding(tokenizer),
    )
    trainer.train()
    trainer.save_model(str(model))
