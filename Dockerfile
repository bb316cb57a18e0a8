# CPU:   docker build -t come-lab .
# CUDA:  docker build -t come-lab --build-arg TORCH_INDEX= .
# Then:  docker run --init -p 8501:8501 -v come-data:/home/come/data come-lab        (CUDA: with --gpus all)

# python:3.12-slim by its digest, so that a build tomorrow begins with the same files. A newer one:
#   docker buildx imagetools inspect python:3.12-slim      (its line "Digest")
ARG PYTHON_IMAGE=python:3.12-slim@sha256:78387bc3881b8273120a12ebe6c1ab22b018ccc2c9adf565ae1ac9b536e184ea

# Where packages are installed: what this stage needs for it stays out of the image.
FROM ${PYTHON_IMAGE} AS build
WORKDIR /home/come/lab

# torch, and nothing else, comes from here: PyTorch's own index, whose builds are without CUDA. Empty: from PyPI, with CUDA.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu

# The packages first: they change less often than the sources. All have their hash in a lock file.
COPY requirements*.lock ./
COPY scripts/install.sh scripts/
RUN PIP_ARGS=--no-cache-dir sh scripts/install.sh app
COPY . .
RUN PIP_ARGS=--no-cache-dir sh scripts/install.sh app

FROM ${PYTHON_IMAGE}
RUN useradd --create-home come && install -d -o come -g come /home/come/lab /home/come/data
WORKDIR /home/come/lab
# They belong to root: the page's process can change neither its packages nor its sources.
COPY --from=build /home/come/lab/.venv .venv
COPY come come
COPY app app
COPY pages pages
COPY pyproject.toml LICENSE requirements.txt ./
USER come

ENV ADDRESS=0.0.0.0 PORT=8501 COME_HOME=/home/come/data/home COME_RUNS=/home/come/data/runs PYTHONDONTWRITEBYTECODE=1
VOLUME /home/come/data
EXPOSE 8501
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s \
    CMD .venv/bin/python -c "from urllib.request import urlopen; urlopen('http://localhost:$PORT/_stcore/health', timeout=4)"

CMD ["sh", "-c", "exec .venv/bin/come app --address \"$ADDRESS\" --port \"$PORT\""]
