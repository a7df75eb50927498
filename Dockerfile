# A server that answers by a kept detector, or by an exported file: docs/how_to/serving.md says how to use it.
#
#   docker build -t kdad .
#   docker run --rm -p 8080:8080 -v "$PWD/detector:/detector:ro" kdad
FROM python:3.11-slim AS build
RUN python -m venv /opt/kdad
WORKDIR /source
COPY requirements.lock requirements-dev.lock ./
# PyTorch's own index has wheels without CUDA, of x86-64 and arm64 alike.
RUN /opt/kdad/bin/pip install --no-cache-dir --disable-pip-version-check --constraint requirements.lock \
    --index-url https://download.pytorch.org/whl/cpu torch torchvision
COPY pyproject.toml README.md LICENSE ./
COPY src ./src
RUN /opt/kdad/bin/pip install --no-cache-dir --disable-pip-version-check --constraint requirements.lock \
    --constraint requirements-dev.lock ".[predict,serve]"

FROM python:3.11-slim
RUN useradd --create-home --uid 10001 kdad
COPY --from=build /opt/kdad /opt/kdad
ENV PATH=/opt/kdad/bin:$PATH \
    PYTHONUNBUFFERED=1
USER kdad
WORKDIR /home/kdad
EXPOSE 8080
HEALTHCHECK --start-period=60s CMD ["python", "-c", \
    "from urllib.request import urlopen; urlopen('http://127.0.0.1:8080/health/live', timeout=3)"]
# The process itself gets SIGTERM, and ends after the requests in progress.
ENTRYPOINT ["python", "-m", "kdad.serving", "--host=0.0.0.0", "--port=8080"]
CMD ["/detector"]
