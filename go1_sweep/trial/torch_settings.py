"""Speed against repeatability in torch."""

from __future__ import annotations

import os
from typing import Any

import torch


def configure(*, deterministic: bool) -> None:
    """Set what holds for all that torch computes in this process from now on.

    By default TF32 for matrix products and convolutions, and cuDNN's own choice of algorithms, without trying them
    out. ``deterministic`` turns all of that round, as far as torch can; a simulator's GPU physics may still differ
    from run to run.
    """
    if deterministic:
        os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"  # read when cuBLAS is first used
    cudnn: Any = torch.backends.cudnn
    matmul: Any = torch.backends.cuda.matmul
    if hasattr(matmul, "fp32_precision"):  # torch 2.9 and later, which refuse a mix of both ways
        matmul.fp32_precision = cudnn.fp32_precision = "ieee" if deterministic else "tf32"
    else:
        matmul.allow_tf32 = cudnn.allow_tf32 = not deterministic
    cudnn.benchmark = False
    cudnn.deterministic = deterministic
    torch.use_deterministic_algorithms(deterministic, warn_only=True)
