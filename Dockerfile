# Serves the page on port 7860.
#   docker build -t opensora .
#   docker run -p 7860:7860 -v opensora-data:/data opensora            (add --gpus all on a GPU machine)
# Downloaded weights, the visitor's videos and temporary files live in /data; no large weights are in the image.
FROM python:3.12-slim

RUN useradd --create-home --uid 1000 user && mkdir /data && chown user:user /data

WORKDIR /app
COPY requirements.txt ./
RUN pip install --no-cache-dir -r requirements.txt
COPY --chown=user:user . .

ENV PYTHONUNBUFFERED=1 \
    PYTHONPATH=/app \
    GRADIO_SERVER_NAME=0.0.0.0 \
    GRADIO_SERVER_PORT=7860 \
    GRADIO_TEMP_DIR=/data/tmp \
    GRADIO_ANALYTICS_ENABLED=False \
    HF_HOME=/data/hf \
    HF_XET_HIGH_PERFORMANCE=1 \
    OPENSORA_OUTPUT_DIR=/data/outputs

USER user
VOLUME /data
EXPOSE 7860
HEALTHCHECK --interval=30s --timeout=5s --start-period=180s --retries=3 \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:7860/healthz', timeout=4)"]
CMD ["python", "app.py"]
