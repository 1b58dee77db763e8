"""Settings of the server: defaults, then a YAML file, then AFFECTLINE_* environment variables."""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator, model_validator

from affectline.models.errors import InvalidInputError
from affectline.models.runtime import DEFAULT_PROVIDERS, PROVIDERS, AcceleratorOptions, Runtime, checked_providers
from affectline.server.logs import LogFormat

ENVIRONMENT_PREFIX = "AFFECTLINE_"


class ServerConfig(BaseModel):
    """Every setting; its description is the documentation that people read."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    listen: str = Field(
        default="127.0.0.1:50051", description="Address and port to listen on; port 0 takes a free one."
    )
    tls_cert: Path | None = Field(
        default=None, description="PEM file with the server's certificate chain; turns TLS on."
    )
    tls_key: Path | None = Field(default=None, description="PEM file with the certificate's private key.")
    tls_client_ca: Path | None = Field(
        default=None, description="PEM file with the authority that signs client certificates; turns mutual TLS on."
    )
    token: SecretStr | None = Field(
        default=None, description="Callers must send it as `authorization: Bearer TOKEN`; health checks need none."
    )
    workers: Annotated[int, Field(ge=1, le=256)] = Field(
        default_factory=lambda: os.cpu_count() or 1,
        description="Utterances that are analysed at a time, one thread each; the number of cores by default.",
    )
    threads: Annotated[int, Field(ge=1, le=256)] = Field(
        default=1,
        description="Threads of one network call. Calls share the cores, so one is best where several run; "
        "`affectline tune` measures it.",
    )
    max_calls: Annotated[int, Field(ge=1, le=10_000)] = Field(
        default_factory=lambda: 16 * (os.cpu_count() or 1),
        description="Live calls and written conversations at the same time, 16 per core by default; more, or one more "
        "while results come late, are refused with the advice to try again.",
    )
    max_message_bytes: Annotated[int, Field(ge=4_096, le=256 * 2**20)] = Field(
        default=4 * 2**20, description="Largest message taken from a caller, in bytes."
    )
    idle_timeout_s: Annotated[float, Field(gt=0)] = Field(
        default=30.0, description="A stream on which nothing comes for this many seconds is ended."
    )
    max_call_s: Annotated[float, Field(gt=0, le=86_400)] = Field(
        default=4 * 3600.0, description="Longest live call in seconds, both by the clock and in media time."
    )
    max_jobs: Annotated[int, Field(ge=1, le=100_000)] = Field(
        default=100,
        description="Recording jobs and their timelines remembered; the oldest finished ones give way to new ones.",
    )
    max_pending_jobs: Annotated[int, Field(ge=1, le=1_000)] = Field(
        default=16,
        description="Recording jobs that upload, wait or run; more are refused with the advice to try again.",
    )
    max_upload_bytes: Annotated[int, Field(ge=1)] = Field(default=4 * 2**30, description="Largest recording, in bytes.")
    policies: Path | None = Field(
        default=None, description="YAML file with the policies; the ones that come along by default."
    )
    routing: Path | None = Field(
        default=None, description="YAML file with the queues and rules of routing; the ones that come along by default."
    )
    cues: tuple[Path, ...] = Field(
        default=(), description="YAML files that add to the cue lexicon, or take from it, in order; none by default."
    )
    voice_model: str | None = Field(
        default=None,
        description="Another voice model: a registered one by name, or a file written by `affectline train voice`.",
    )
    face_model: str | None = Field(
        default=None,
        description="Another expression model: a registered one by name (`deepface` needs the extra), or an ONNX file "
        "of HSEmotion's kind; mini-xception by default.",
    )
    speech_model: str | None = Field(
        default=None,
        description="Another Whisper: a registered one by name (`whisper-base-fp16` for GPUs), or a folder that "
        "`affectline models export whisper` wrote.",
    )
    diarizer: str | None = Field(
        default=None,
        description="Tells the voices of recordings with one channel apart in place of our own search: a pipeline of "
        "pyannote.audio (extra `pyannote`) by its folder, config file or name on the hub. A pipeline is trusted like a "
        "program. Live calls keep our own search.",
    )
    providers: tuple[str, ...] = Field(
        default=DEFAULT_PROVIDERS,
        description="What may run the networks, in order, with commas: each network goes to the first that takes it. "
        f"Of {', '.join(PROVIDERS)}; without `cpu` nothing runs unless an accelerator does.",
    )
    gpu_device: Annotated[int, Field(ge=0)] = Field(
        default=0, description="Number of the GPU, for TensorRT, CUDA and MIGraphX."
    )
    accelerator_fp16: bool = Field(
        default=False,
        description="TensorRT, MIGraphX and OpenVINO on a GPU or NPU calculate in half precision. On CUDA the model's "
        "files decide: `affectline models export whisper --precision fp16`.",
    )
    engine_cache: Path | None = Field(
        default=None,
        description="Folder for what TensorRT and OpenVINO compile; without one every start compiles anew.",
    )
    openvino_device: str = Field(
        default="CPU", description="Where OpenVINO runs: CPU, GPU, GPU.1, NPU, or several as AUTO:GPU,CPU."
    )
    accept_license: bool = Field(default=False, description="Models under a restricted licence may be used.")
    site_dir: Path | None = Field(
        default=None,
        description="Folder for the site baseline: how voices usually sound on these lines, learnt without labels. "
        "Recommended in production; without it the voice model judges by its training data.",
    )
    spool_dir: Path | None = Field(
        default=None,
        description="Folder for recordings while they wait for analysis; the system's temporary folder by default.",
    )
    store: str | None = Field(
        default=None,
        description="Where calls are kept, with feedback and outcomes: path of a SQLite file, or the URL of a "
        "PostgreSQL database (extra `postgres`); not kept by default.",
    )
    customer_key: Annotated[SecretStr, Field(min_length=16)] | None = Field(
        default=None,
        description="Secret of at least 16 characters under which customer references are hashed before they are kept; "
        "without one they are not kept.",
    )
    metrics_address: str | None = Field(
        default=None,
        description="Address and port on which Prometheus may fetch metrics, e.g. 127.0.0.1:9464; off by default. They "
        "are open to whoever reaches it: keep it inside.",
    )
    traces_endpoint: str | None = Field(
        default=None,
        description="OTLP/gRPC endpoint that OpenTelemetry traces go to, e.g. http://127.0.0.1:4317; needs the extra "
        "`telemetry`; off by default.",
    )
    log_format: LogFormat = Field(default="text", description="`text` for people, `json` for one object per line.")
    retention_days: Annotated[int, Field(ge=1, le=36_500)] | None = Field(
        default=None,
        description="Calls that began longer ago than this many days are deleted with all that is kept of them, when "
        "the server starts and then daily; kept for good by default.",
    )
    min_group_calls: Annotated[int, Field(ge=1, le=1_000)] = Field(
        default=5, description="Figures over several calls are withheld for groups with fewer calls than this."
    )
    web_address: str | None = Field(
        default=None, description="Address and port of the web pages, e.g. `127.0.0.1:8080`; no pages by default."
    )
    web_users: Path | None = Field(
        default=None,
        description="YAML file with who may sign in to the web pages, written by `affectline web add-user`.",
    )
    web_open: bool = Field(
        default=False,
        description="Whoever uses this machine sees the web pages without signing in, as a supervisor; on a loopback "
        "`web_address` only.",
    )
    web_secret: Annotated[SecretStr, Field(min_length=32)] | None = Field(
        default=None,
        description="Secret of at least 32 characters that signs sessions and links of the web pages; without one they "
        "end when the server stops.",
    )
    web_behind_tls: bool = Field(
        default=False, description="A proxy in front of the web pages speaks TLS; cookies are then sent over TLS only."
    )
    web_media: Path | None = Field(
        default=None,
        description="Folder with recordings of stored calls, named by the call's id (`ID.wav`, `ID.mp3`, …), for the "
        "web pages to play; personal data and parties without consent are silent.",
    )
    keep_recordings: bool = Field(
        default=False,
        description="The sound of recordings that are sent in for analysis is kept in `web_media` for as long as the "
        "call is in the store; personal data and parties without consent are silent in it.",
    )
    shutdown_grace_s: Annotated[float, Field(ge=0)] = Field(
        default=20.0, description="Seconds that running calls get to end when the server is asked to stop."
    )

    @field_validator("listen", "metrics_address", "web_address")
    @classmethod
    def _host_and_port(cls, address: str | None) -> str | None:
        if address is not None:
            host, _, port = address.rpartition(":")
            if not host or not port.isascii() or not port.isdigit() or int(port) > 65_535:
                raise ValueError("expected HOST:PORT with a port of 0 to 65535")
        return address

    @field_validator("traces_endpoint")
    @classmethod
    def _endpoint(cls, endpoint: str | None) -> str | None:
        if endpoint is not None and not re.fullmatch(r"https?://[^/\s]+/?", endpoint):
            raise ValueError("expected http://HOST:PORT or https://HOST:PORT")
        return endpoint

    @field_validator("tls_cert", "tls_key", "tls_client_ca", "policies", "routing", "web_users")
    @classmethod
    def _readable(cls, path: Path | None) -> Path | None:
        if path is not None and not path.is_file():
            raise ValueError("expected a file, found none there")
        return path

    @field_validator("cues", mode="before")
    @classmethod
    def _several(cls, paths: object) -> object:
        return paths.split(os.pathsep) if isinstance(paths, str) else paths

    @field_validator("cues")
    @classmethod
    def _all_readable(cls, paths: tuple[Path, ...]) -> tuple[Path, ...]:
        if missing := [path for path in paths if not path.is_file()]:
            raise ValueError(f"expected files, found none at {', '.join(map(str, missing))}")
        return paths

    @field_validator("providers", mode="before")
    @classmethod
    def _with_commas(cls, names: object) -> object:
        return tuple(name.strip() for name in names.split(",")) if isinstance(names, str) else names

    @field_validator("providers")
    @classmethod
    def _known(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        try:
            return checked_providers(names)
        except InvalidInputError as error:
            raise ValueError(str(error)) from error

    @field_validator("openvino_device")
    @classmethod
    def _device(cls, device: str) -> str:
        try:
            return AcceleratorOptions(openvino_device=device).openvino_device
        except InvalidInputError as error:
            raise ValueError(str(error)) from error

    @field_validator("spool_dir", "site_dir", "engine_cache", "web_media")
    @classmethod
    def _folder(cls, path: Path | None) -> Path | None:
        if path is not None and not path.is_dir():
            raise ValueError("expected a folder, found none there")
        return path

    @model_validator(mode="after")
    def _tls_is_whole(self) -> Self:
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ValueError("expected tls_cert and tls_key together, found one of them")
        if self.tls_client_ca is not None and self.tls_cert is None:
            raise ValueError("expected tls_cert and tls_key with tls_client_ca, found neither")
        return self

    @model_validator(mode="after")
    def _pages_are_guarded(self) -> Self:
        if self.web_address is None:
            return self
        if self.web_open and self.web_users:
            raise ValueError("expected web_users or web_open, found both")
        if self.web_open and not _is_loopback(self.web_address):
            raise ValueError(f"expected a loopback web_address with web_open, found {self.web_address}")
        if not self.web_open and not self.web_users:
            raise ValueError("expected web_users, or web_open on a loopback web_address, found neither")
        return self

    @model_validator(mode="after")
    def _recordings_have_a_place(self) -> Self:
        if self.keep_recordings and (self.store is None or self.web_media is None):
            raise ValueError("expected store and web_media with keep_recordings, found not both")
        return self

    @model_validator(mode="after")
    def _jobs_fit(self) -> Self:
        if self.max_pending_jobs > self.max_jobs:
            raise ValueError(
                f"expected max_pending_jobs to be at most max_jobs, found {self.max_pending_jobs} and {self.max_jobs}"
            )
        return self

    def runtime(self) -> Runtime:
        """How networks run; raises InvalidInputError when onnxruntime offers none of the providers."""
        return Runtime(self.providers, threads=self.threads, options=self.accelerator_options())

    def accelerator_options(self) -> AcceleratorOptions:
        return AcceleratorOptions(self.gpu_device, self.accelerator_fp16, self.engine_cache, self.openvino_device)

    @property
    def is_loopback(self) -> bool:
        return _is_loopback(self.listen)


def _is_loopback(address: str) -> bool:
    return address.rpartition(":")[0] in {"127.0.0.1", "localhost", "[::1]"}


def load_config(path: Path | None = None, environment: Mapping[str, str] = os.environ) -> ServerConfig:
    """Settings from a YAML file with AFFECTLINE_<SETTING> variables over it.

    Raises InvalidInputError naming every setting that is unknown or out of range.
    """
    settings: dict[str, Any] = {}
    if path is not None:
        try:
            content = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidInputError(f"cannot read the settings in {path}: {error}") from error
        except yaml.YAMLError as error:
            raise InvalidInputError(f"expected YAML in {path}, found: {error}") from error
        if content is not None and not isinstance(content, dict):
            raise InvalidInputError(f"expected `setting: value` lines in {path}, found {type(content).__name__}")
        settings.update(content or {})
    for name in ServerConfig.model_fields:
        if (value := environment.get(ENVIRONMENT_PREFIX + name.upper())) is not None:
            settings[name] = value
    try:
        return ServerConfig.model_validate(settings)
    except ValidationError as error:
        problems = (
            f"{'.'.join(map(str, problem['loc'])) or 'settings'}: {problem['msg'].removeprefix('Value error, ')}"
            for problem in error.errors(include_url=False, include_input=False)
        )
        raise InvalidInputError("; ".join(problems)) from error
