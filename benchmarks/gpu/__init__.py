"""One command for a machine with a GPU: is every number right there, how fast is it, and what does full data give.

python -m benchmarks.gpu verify | speed | train --task sst2 --minutes 10 | join FOLDER

Nothing is downloaded. It needs torch, transformers, numpy, pandas, pyarrow, safetensors, scikit-learn and this
checkout; what a part needs beyond that and lacks is skipped with a reason.
"""
