#!/usr/bin/env bash
# Everything worth measuring on a GPU, in two calls of under ten minutes each, on a machine with jax[cuda] and torch.
#   benchmarks/gpu.sh quick       train step, losses, chunks and augmentation, beside PyTorch
#   benchmarks/gpu.sh cifar10 NPZ  SimCLR, CPC and CMC on CIFAR-10 from arrays: accuracies, minutes and peak memory
# Add what it prints to benchmarks/results/, with the date and the hardware.
set -euo pipefail
cd "$(dirname "$0")/.."
export PYTHONPATH="$PWD:${PYTHONPATH:-}"

case "${1:-}" in
  quick)
    nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv
    for dtype in float32 bfloat16; do
      python3 benchmarks/train_step.py --batch 512 --steps 20 --rounds 7 --dtype "$dtype"
    done
    for dtype in float32 bfloat16; do
      python3 benchmarks/mae_train.py --model small --batch 1024 --steps 10 --rounds 5 --dtype "$dtype"
      python3 benchmarks/mae_train.py --model base --batch 256 --steps 10 --rounds 5 --dtype "$dtype" --remat
    done
    for dtype in float32 bfloat16; do
      python3 benchmarks/gan_train.py --batch 512 --steps 20 --rounds 5 --dtype "$dtype"
    done
    python3 benchmarks/input_pipeline.py --engines device --batch 512 --rounds 7
    python3 benchmarks/losses.py --parts one_device pairs --rows 8192 16384 --rounds 5
    python3 benchmarks/losses_gpu.py --rounds 3
    python3 benchmarks/losses.py --parts family multi_label --rows 8192 16384 --rounds 3
    python3 benchmarks/losses.py --parts redundancy --rounds 3
    python3 benchmarks/cpc_loss.py
    for rate in 8000 16000; do
      python3 benchmarks/cpc_train.py --rate "$rate" --steps 20
    done
    python3 benchmarks/chunks.py
    ;;
  cifar10)
    python3 benchmarks/cifar10.py --data "$2" --method simclr --epochs 200 --batch 512 --minutes 3.5
    python3 benchmarks/cifar10.py --data "$2" --method cpc --epochs 60 --batch 256 --minutes 2
    python3 benchmarks/cifar10.py --data "$2" --method cmc --epochs 100 --batch 256 --minutes 2
    ;;
  *)
    echo "usage: benchmarks/gpu.sh quick | cifar10 FILE.npz" >&2
    exit 2
    ;;
esac
