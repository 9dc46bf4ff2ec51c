"""Environment of a training, without the variables of launchers and trackers that `accelerate` would obey."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

log = logging.getLogger(__name__)

# torchrun, mpirun, accelerate launch, DeepSpeed, SageMaker, Kubeflow: read in accelerate/state.py, accelerate/utils and
# transformers/training_args.py
_RANKS: Final = frozenset(
    {
        *("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "GROUP_RANK", "GROUP_WORLD_SIZE"),
        *("ROLE_RANK", "ROLE_WORLD_SIZE", "ROLE_NAME", "MASTER_ADDR", "MASTER_PORT", "NODE_RANK", "FORK_LAUNCHED"),
    }
)
_PREFIXES: Final = (
    *("ACCELERATE_", "FSDP_", "DEEPSPEED_", "TORCHELASTIC_", "MEGATRON_LM_", "PARALLELISM_CONFIG_", "KUBEFLOW_"),
    *("OMPI_", "PMI_", "PMIX_", "MPI_", "MV2_", "I_MPI_", "CCL_WORKER", "SM_", "SMDATAPARALLEL", "TORCH_DIST", "TPU_"),
)
_TRAINER: Final = frozenset(
    {"PT_HPU_LAZY_MODE", "PJRT_DEVICE", "XRT_TPU_CONFIG", "XLA_USE_SPMD", "LOCAL_PROCESS_INDEX"}
)


@contextmanager
def one_process() -> Iterator[None]:
    """Train in this process alone: remove variables of distributed training, and restore them afterwards."""
    taken = {name: os.environ.pop(name) for name in sorted(os.environ) if _steers_training(name)}
    if taken:
        log.info("training runs in this process alone, without the environment's %s", ", ".join(taken))
    try:
        yield
    finally:
        for name in filter(_steers_training, list(os.environ)):  # accelerate leaves some of its own
            del os.environ[name]
        os.environ.update(taken)


def _steers_training(name: str) -> bool:
    return name in _RANKS or name in _TRAINER or name.startswith(_PREFIXES)
