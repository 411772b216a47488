# Serves the page on port 7860.
#   docker build -t opensora .
#   docker run -p 127.0.0.1:7860:7860 -v opensora-data:/data opensora          (add --gpus all on a GPU machine)
# Downloaded weights, the visitor's videos and temporary files live in /data; no weights are in the image but the
# bundled ones. With -p 7860:7860 others reach the page too: give them users with -e OPENSORA_USERS=/data/users.json.
#
# On Linux x86-64 the pinned torch wheel of the public index is the CUDA build and brings CUDA's libraries: the same
# image computes on the CPU, and on the GPU when it is started with --gpus all (the host needs NVIDIA's driver and
# container toolkit only). For a machine without a GPU a build with torch's CPU wheels is several gigabytes smaller:
#   docker build --build-arg PIP_ARGS="--extra-index-url <torch's index of CPU wheels>" -t opensora .
#
# scripts/check_image.py runs these steps in a clean root without Docker.
FROM python:3.12-slim

RUN useradd --create-home --uid 1000 user && mkdir /data && chown user:user /data

WORKDIR /app
COPY requirements.txt ./
ARG PIP_ARGS=""
RUN pip install --no-cache-dir ${PIP_ARGS} -r requirements.txt

# What seldom changes comes first, so that an update is a small layer. The code belongs to root: the page cannot change it.
COPY assets assets
COPY configs configs
COPY scripts scripts
COPY opensora opensora
COPY app.py pyproject.toml README.md LICENSE ./

ENV PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONPATH=/app \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility \
    GRADIO_SERVER_NAME=0.0.0.0 \
    GRADIO_SERVER_PORT=7860 \
    GRADIO_TEMP_DIR=/data/tmp \
    GRADIO_ANALYTICS_ENABLED=False \
    HF_HOME=/data/hf \
    XDG_CACHE_HOME=/data/cache \
    OPENSORA_OUTPUT_DIR=/data/outputs \
    OPENSORA_NO_LOGIN=1

USER 1000:1000
VOLUME /data
EXPOSE 7860
HEALTHCHECK --interval=30s --timeout=5s --start-period=180s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request as r; r.urlopen(f'http://127.0.0.1:{os.environ[\"GRADIO_SERVER_PORT\"]}/healthz', timeout=4)"]
CMD ["python", "app.py"]
