# CPU image: the gRPC service with its default models inside, so that a container needs no network to start.
FROM python:3.12-slim AS build
WORKDIR /src
COPY . .
RUN python -m venv /opt/affectline \
    && /opt/affectline/bin/pip install --no-cache-dir . \
    && AFFECTLINE_MODELS=/opt/models /opt/affectline/bin/affectline models pull

FROM python:3.12-slim
COPY --from=build /opt/affectline /opt/affectline
COPY --from=build /opt/models /opt/models
RUN useradd --system --no-create-home affectline
USER affectline
ENV PATH=/opt/affectline/bin:$PATH \
    AFFECTLINE_MODELS=/opt/models \
    AFFECTLINE_LISTEN=0.0.0.0:50051
EXPOSE 50051
HEALTHCHECK --interval=30s --timeout=5s --start-period=30s CMD ["python", "-c", "\
import grpc; from grpc_health.v1 import health_pb2 as h, health_pb2_grpc as s; \
assert s.HealthStub(grpc.insecure_channel('127.0.0.1:50051')).Check(h.HealthCheckRequest(), timeout=4).status == 1"]
CMD ["affectline", "serve"]
