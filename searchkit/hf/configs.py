"""Configs of shipped models: those of the stock families under a model_type of their own, with the plans."""

from __future__ import annotations

from typing import Any, Final

from transformers import BertConfig, DistilBertConfig, ElectraConfig, ModernBertConfig, RobertaConfig

from searchkit.reduction.families import PREFIX

__all__ = [
    "CONFIGS",
    "SearchkitBertConfig",
    "SearchkitDistilBertConfig",
    "SearchkitElectraConfig",
    "SearchkitModernBertConfig",
    "SearchkitRobertaConfig",
]


class SearchkitBertConfig(BertConfig):
    """BertConfig with the plans of a shipped model under `searchkit` (see `searchkit.hf.members.Members`)."""

    model_type = f"{PREFIX}bert"
    searchkit: dict[str, Any] | None = None


class SearchkitDistilBertConfig(DistilBertConfig):
    """DistilBertConfig with the plans of a shipped model under `searchkit`."""

    model_type = f"{PREFIX}distilbert"
    searchkit: dict[str, Any] | None = None


class SearchkitRobertaConfig(RobertaConfig):
    """RobertaConfig with the plans of a shipped model under `searchkit`."""

    model_type = f"{PREFIX}roberta"
    searchkit: dict[str, Any] | None = None


class SearchkitElectraConfig(ElectraConfig):
    """ElectraConfig with the plans of a shipped model under `searchkit`."""

    model_type = f"{PREFIX}electra"
    searchkit: dict[str, Any] | None = None


class SearchkitModernBertConfig(ModernBertConfig):
    """ModernBertConfig with the plans of a shipped model under `searchkit`."""

    model_type = f"{PREFIX}modernbert"
    searchkit: dict[str, Any] | None = None


CONFIGS: Final[dict[str, type[Any]]] = {
    "bert": SearchkitBertConfig,
    "distilbert": SearchkitDistilBertConfig,
    "roberta": SearchkitRobertaConfig,
    "electra": SearchkitElectraConfig,
    "modernbert": SearchkitModernBertConfig,
}
