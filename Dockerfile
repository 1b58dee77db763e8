# The gRPC service with its default models inside, so that a container needs no network to start.
#   docker build -t affectline .                    on the CPU
#   docker build -t affectline-gpu --target gpu .   on NVIDIA GPUs; run it with --gpus all
# The image below has the CUDA and cuDNN that onnxruntime-gpu asks for: change both together.
ARG CUDA_IMAGE=nvidia/cuda:13.0.1-cudnn-runtime-ubuntu24.04
ARG ONNXRUNTIME_GPU=1.31.1

FROM ${CUDA_IMAGE} AS gpu-build
ARG ONNXRUNTIME_GPU
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends python3-venv \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
# Both builds of onnxruntime own the same files: the one for the CPU has to go first.
RUN python3 -m venv /opt/affectline \
    && /opt/affectline/bin/pip install --no-cache-dir . \
    && /opt/affectline/bin/pip uninstall --yes onnxruntime \
    && /opt/affectline/bin/pip install --no-cache-dir "onnxruntime-gpu==${ONNXRUNTIME_GPU}" \
    && export AFFECTLINE_MODELS=/opt/models \
    && /opt/affectline/bin/affectline models pull \
    && /opt/affectline/bin/affectline models pull whisper-base-fp16

FROM ${CUDA_IMAGE} AS gpu
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends python3 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --no-create-home affectline
COPY --from=gpu-build /opt/affectline /opt/affectline
COPY --from=gpu-build /opt/models /opt/models
USER 10001
ENV PATH=/opt/affectline/bin:$PATH \
    AFFECTLINE_MODELS=/opt/models \
    AFFECTLINE_PROVIDERS=cuda,cpu \
    AFFECTLINE_SPEECH_MODEL=whisper-base-fp16 \
    AFFECTLINE_LISTEN=0.0.0.0:50051
EXPOSE 50051
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s CMD ["python3", "-c", "\
import grpc; from grpc_health.v1 import health_pb2 as h, health_pb2_grpc as s; \
assert s.HealthStub(grpc.insecure_channel('127.0.0.1:50051')).Check(h.HealthCheckRequest(), timeout=4).status == 1"]
CMD ["affectline", "serve"]

FROM python:3.12-slim AS cpu-build
WORKDIR /src
COPY . .
RUN python -m venv /opt/affectline \
    && /opt/affectline/bin/pip install --no-cache-dir . \
    && AFFECTLINE_MODELS=/opt/models /opt/affectline/bin/affectline models pull

# The last one is what is built when no target is named.
FROM python:3.12-slim AS cpu
RUN useradd --system --uid 10001 --no-create-home affectline
COPY --from=cpu-build /opt/affectline /opt/affectline
COPY --from=cpu-build /opt/models /opt/models
USER 10001
ENV PATH=/opt/affectline/bin:$PATH \
    AFFECTLINE_MODELS=/opt/models \
    AFFECTLINE_LISTEN=0.0.0.0:50051
EXPOSE 50051
HEALTHCHECK --interval=30s --timeout=5s --start-period=30s CMD ["python", "-c", "\
import grpc; from grpc_health.v1 import health_pb2 as h, health_pb2_grpc as s; \
assert s.HealthStub(grpc.insecure_channel('127.0.0.1:50051')).Check(h.HealthCheckRequest(), timeout=4).status == 1"]
CMD ["affectline", "serve"]
