#!/usr/bin/env bash
# Every benchmark that a CPU can run, small: half an hour on two quiet cores. README.md has what it printed last.
#   benchmarks/cpu.sh [CIFAR10_NPZ]
# CIFAR10_NPZ holds train_images, train_labels, test_images, test_labels; without it CMC's claims and the objectives are
# left out. Peers in PyTorch run where torch (and, for MAE and the augmentation, timm and torchvision) is installed.
# PYTHON=… names another interpreter than .venv's. The seconds of each script stand below its tables.
set -euo pipefail
cd "$(dirname "$0")/.."
python="${PYTHON:-.venv/bin/python}"
export PYTHONPATH="$PWD:${PYTHONPATH:-}" OMP_WAIT_POLICY=PASSIVE
out="$(mktemp -d)"
trap 'rm -rf "$out"' EXIT

run() {
  local began=$SECONDS
  printf '\n## benchmarks/%s\n\n' "$*"
  "$python" "benchmarks/$@"
  printf '\n%s seconds.\n' $((SECONDS - began))
}

run losses.py --parts one_device --rows 2048 8192 16384 --rounds 3
run losses.py --parts pairs family multi_label --rows 4096 --rounds 3
run losses.py --parts redundancy --rows 128 2048 --rounds 3
run losses.py --parts eight_devices --rounds 3
run cpc_loss.py --rounds 3
run chunks.py --networks default --chunks 4 16 --rounds 3
run train_step.py --batch 32 --steps 1 --rounds 3
run cpc_train.py --rate 8000 --rounds 3
run mae_train.py --model small --batch 32 --steps 2 --rounds 3
run gan_train.py --steps 2 --rounds 3
run input_pipeline.py --rounds 3
run input_pipeline.py --size 224 --batch 32 --rounds 3
run start_up.py --rounds 1
run long_run.py --config tests/cli/tiny_config.py --steps 2000 --set logging.every=10 checkpoint.every=250
run scale.py --devices 1 2 8 --processes 2 --batch 32 --steps 1 --rounds 1
run scale_plan.py --devices 8 64 --batches 4096 --networks resnet50
run mutual_information.py --estimators info_nce smile:5 ml_cpc:0.01 --steps 4000 --seeds 1 --out "$out/mutual_information"
run mode_coverage.py --steps 2000 --seeds 1
run methods.py --seconds 15 --seeds 0 --methods simclr autoencoder --out "$out/methods"
if [ -n "${1:-}" ]; then
  run cmc_claims.py --data "$1" --out "$out/claims.json" --seeds 1 --steps 100 --train 5000 --test 2000
  run objectives.py --data "$1" --out "$out/objectives.json" --seeds 1 --steps 100 --train 5000 --test 2000
fi
