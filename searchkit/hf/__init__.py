"""Shipped models in transformers: `import searchkit.hf` registers their classes, without remote code.

After it `AutoConfig`, `AutoModelForSequenceClassification`, `AutoModelForQuestionAnswering`, `pipeline` and `Trainer`
know folders whose model_type is "searchkit-bert", -distilbert, -roberta, -electra or -modernbert.

>>> import searchkit.hf
>>> from transformers import AutoConfig
>>> AutoConfig.for_model("searchkit-bert").model_type
'searchkit-bert'
"""

from __future__ import annotations

from transformers import AutoConfig, AutoModelForQuestionAnswering, AutoModelForSequenceClassification

from searchkit.hf.configs import CONFIGS
from searchkit.hf.errors import BudgetError, InputError
from searchkit.hf.models import CLASSIFIERS, READERS

__all__ = ["BudgetError", "InputError"]

for _config in CONFIGS.values():
    AutoConfig.register(_config.model_type, _config, exist_ok=True)
for _auto, _classes in ((AutoModelForSequenceClassification, CLASSIFIERS), (AutoModelForQuestionAnswering, READERS)):
    for _cls in _classes:
        _auto.register(_cls.config_class, _cls, exist_ok=True)
