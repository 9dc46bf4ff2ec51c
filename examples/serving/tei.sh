#!/usr/bin/env bash
# text-embeddings-inference on a folder of `searchkit ship --format onnx`, on 127.0.0.1:8080:
#
#     ./tei.sh fast-onnx
#     curl 127.0.0.1:8080/predict --json '{"inputs": "A fine film."}'
#
# The image for CPUs: its ONNX Runtime backend runs the graph. Images for GPUs have no such backend.
set -euo pipefail
folder=$(realpath -- "${1:?which folder of searchkit ship --format onnx?}")
if [ ! -f "$folder/model.onnx" ]; then
    echo "$folder: no model.onnx; make the folder with searchkit ship --format onnx" >&2
    exit 2
fi
exec docker run --rm --publish 127.0.0.1:8080:80 --volume "$folder:/model:ro" --env AUTO_TRUNCATE=true \
    ghcr.io/huggingface/text-embeddings-inference:cpu-1.8 --model-id /model --dtype float32
