#!/usr/bin/env bash
# Training with torchrun: docs/scaling/train.sh PROCESSES, from the repository's root.
# One process a GPU (or a core, with train.accelerator: cpu). On several machines start it on each, with
#   NODES=4 RANK=0…3 HEAD=the first one's address
set -euo pipefail

processes=${1:?number of processes on this machine}
shift
. .venv/bin/activate
export DO_NOT_TRACK=true MLFLOW_DISABLE_TELEMETRY=true DVC_NO_ANALYTICS=1

where=(--standalone)
if [ "${NODES:-1}" -gt 1 ]; then
  where=(--nnodes "$NODES" --node-rank "${RANK:?number of this machine, from 0}" \
    --master-addr "${HEAD:?address of the first machine}" --master-port "${PORT:-29500}")
fi
torchrun "${where[@]}" --nproc-per-node "$processes" "$@" pipelines/train.py
