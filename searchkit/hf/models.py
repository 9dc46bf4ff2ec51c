"""Classes of shipped models, one per family and head: stock classes whose forward is the packed pass under a plan.

Annotations are evaluated here, no texts: transformers reads the class of a config from them.
"""

from collections.abc import Mapping
from typing import Any, Final

from torch import Tensor
from transformers import (
    BertForQuestionAnswering,
    BertForSequenceClassification,
    DistilBertForQuestionAnswering,
    DistilBertForSequenceClassification,
    ElectraForQuestionAnswering,
    ElectraForSequenceClassification,
    ModernBertForQuestionAnswering,
    ModernBertForSequenceClassification,
    RobertaForQuestionAnswering,
    RobertaForSequenceClassification,
)
from transformers.loss.loss_utils import ForQuestionAnsweringLoss, ForSequenceClassificationLoss
from transformers.modeling_outputs import QuestionAnsweringModelOutput, SequenceClassifierOutput

from searchkit.hf.configs import (
    SearchkitBertConfig,
    SearchkitDistilBertConfig,
    SearchkitElectraConfig,
    SearchkitModernBertConfig,
    SearchkitRobertaConfig,
)
from searchkit.hf.reduced import Reduced
from searchkit.reduction.heads import UNREACHABLE


class Classifier(Reduced):
    """Forward of classifiers and regressors."""

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        plan: str | None = None,
    ) -> Any:
        """Logits (B, C), and the stock class's loss where `labels` are given, of (B, L) tokens padded on the right.

        plan: a key of `plans`, or "unreduced". Raises InputError for a batch or an argument that cannot be read,
        BudgetError for an unknown plan.
        """
        refused = _refused(position_ids, inputs_embeds, output_attentions, output_hidden_states)
        predicted, _ = self._predict(input_ids, attention_mask, token_type_ids, plan, refused)
        loss = None if labels is None else ForSequenceClassificationLoss(labels, predicted.logits, self.config)
        return _returned(SequenceClassifierOutput(loss=loss, logits=predicted.logits), return_dict, self.config)


class Reader(Reduced):
    """Forward of question answering."""

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        start_positions: Tensor | None = None,
        end_positions: Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        plan: str | None = None,
    ) -> Any:
        """Logits (B, L) of the answer's first and last token, and the stock class's loss where positions are given.

        Pads and tokens that were discarded cannot be chosen. Arguments and errors as of a classifier's.
        """
        refused = _refused(position_ids, inputs_embeds, output_attentions, output_hidden_states)
        predicted, tokens = self._predict(input_ids, attention_mask, token_type_ids, plan, refused)
        assert input_ids is not None
        logits, layout = predicted.logits, tokens.layout  # (T, 2)
        rows = layout.examples * input_ids.shape[1] + layout.positions
        padded = logits.new_full((input_ids.numel(), 2), 2 * UNREACHABLE).index_copy(0, rows, logits)
        start, end = (column.reshape(input_ids.shape) for column in padded.unbind(-1))
        loss = None
        if start_positions is not None and end_positions is not None:
            loss = ForQuestionAnsweringLoss(start, end, start_positions, end_positions)
        out = QuestionAnsweringModelOutput(loss=loss, start_logits=start, end_logits=end)
        return _returned(out, return_dict, self.config)


def _refused(positions: Any, embeddings: Any, attentions: Any, states: Any) -> Mapping[str, Any]:
    return {
        "position_ids": positions,
        "inputs_embeds": embeddings,
        "output_attentions": attentions,
        "output_hidden_states": states,
    }


def _returned(out: Any, return_dict: bool | None, config: Any) -> Any:
    as_dict = config.return_dict if return_dict is None else return_dict
    return out if as_dict else out.to_tuple()


class SearchkitBertForSequenceClassification(Classifier, BertForSequenceClassification):
    """BERT with a classifier, on reduced tokens."""

    config: SearchkitBertConfig


class SearchkitBertForQuestionAnswering(Reader, BertForQuestionAnswering):
    """BERT that answers questions, on reduced tokens."""

    config: SearchkitBertConfig


class SearchkitDistilBertForSequenceClassification(Classifier, DistilBertForSequenceClassification):
    """DistilBERT with a classifier, on reduced tokens."""

    config: SearchkitDistilBertConfig


class SearchkitDistilBertForQuestionAnswering(Reader, DistilBertForQuestionAnswering):
    """DistilBERT that answers questions, on reduced tokens."""

    config: SearchkitDistilBertConfig


class SearchkitRobertaForSequenceClassification(Classifier, RobertaForSequenceClassification):
    """RoBERTa with a classifier, on reduced tokens."""

    config: SearchkitRobertaConfig


class SearchkitRobertaForQuestionAnswering(Reader, RobertaForQuestionAnswering):
    """RoBERTa that answers questions, on reduced tokens."""

    config: SearchkitRobertaConfig


class SearchkitElectraForSequenceClassification(Classifier, ElectraForSequenceClassification):
    """ELECTRA with a classifier, on reduced tokens."""

    config: SearchkitElectraConfig


class SearchkitElectraForQuestionAnswering(Reader, ElectraForQuestionAnswering):
    """ELECTRA that answers questions, on reduced tokens."""

    config: SearchkitElectraConfig


class SearchkitModernBertForSequenceClassification(Classifier, ModernBertForSequenceClassification):
    """ModernBERT with a classifier, on reduced tokens."""

    config: SearchkitModernBertConfig


class SearchkitModernBertForQuestionAnswering(Reader, ModernBertForQuestionAnswering):
    """ModernBERT that answers questions, on reduced tokens."""

    config: SearchkitModernBertConfig


CLASSIFIERS: Final[tuple[type[Any], ...]] = (
    SearchkitBertForSequenceClassification,
    SearchkitDistilBertForSequenceClassification,
    SearchkitRobertaForSequenceClassification,
    SearchkitElectraForSequenceClassification,
    SearchkitModernBertForSequenceClassification,
)
READERS: Final[tuple[type[Any], ...]] = (
    SearchkitBertForQuestionAnswering,
    SearchkitDistilBertForQuestionAnswering,
    SearchkitRobertaForQuestionAnswering,
    SearchkitElectraForQuestionAnswering,
    SearchkitModernBertForQuestionAnswering,
)
