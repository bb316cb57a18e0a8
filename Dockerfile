# CPU:   docker build -t come-lab .
# CUDA:  docker build -t come-lab --build-arg VARIANT=cuda .
# Then:  docker run --init -p 8501:8501 -v come-data:/home/come/data come-lab        (CUDA: with --gpus all)
ARG PYTHON_VERSION=3.12
FROM python:${PYTHON_VERSION}-slim

RUN apt-get update \
    && apt-get install -y --no-install-recommends make \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home come \
    && install -d -o come -g come /home/come/lab /home/come/data

USER come
WORKDIR /home/come/lab

# PyPI's PyTorch brings CUDA. The CPU variant takes the same version from PyTorch's own index instead, which
# holds it as 2.x.y+cpu: pip prefers that, and no CUDA package is fetched.
ARG VARIANT=cpu
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu

# The packages first: they change less often than the sources.
COPY --chown=come Makefile requirements*.txt ./
COPY --chown=come scripts scripts
RUN case "$VARIANT" in \
        cpu) make install PIP_ARGS="--no-cache-dir --extra-index-url $TORCH_INDEX" ;; \
        cuda) make install PIP_ARGS="--no-cache-dir" ;; \
        *) echo "VARIANT is cpu or cuda, not $VARIANT" >&2; exit 1 ;; \
    esac

COPY --chown=come . .
RUN make install PIP_ARGS=--no-cache-dir

ENV ADDRESS=0.0.0.0 PORT=8501 COME_HOME=/home/come/data/home COME_RUNS=/home/come/data/runs
VOLUME /home/come/data
EXPOSE 8501
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s \
    CMD .venv/bin/python -c "from urllib.request import urlopen; urlopen('http://localhost:$PORT/_stcore/health', timeout=4)"

CMD ["make", "app"]
