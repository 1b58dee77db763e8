"""Settings of the server."""

from pathlib import Path

import pytest

from affectline.models.errors import InvalidInputError
from affectline.server.config import ServerConfig, load_config

pytestmark = pytest.mark.unit


def test_defaults_need_no_file_and_stay_on_this_machine() -> None:
    config = load_config(environment={})
    assert config.listen == "127.0.0.1:50051"
    assert config.is_loopback
    assert config.token is None


def test_environment_wins_over_file(tmp_path: Path) -> None:
    path = tmp_path / "server.yaml"
    path.write_text("max_calls: 3\nidle_timeout_s: 5\n")
    config = load_config(path, {"AFFECTLINE_MAX_CALLS": "7", "AFFECTLINE_UNRELATED": "x"})
    assert (config.max_calls, config.idle_timeout_s) == (7, 5.0)


def test_providers_come_with_commas_or_as_a_list(tmp_path: Path) -> None:
    assert load_config(environment={"AFFECTLINE_PROVIDERS": "cuda, cpu"}).providers == ("cuda", "cpu")
    path = tmp_path / "server.yaml"
    path.write_text("providers: [openvino, cpu]\nopenvino_device: AUTO:GPU,CPU\naccelerator_fp16: true\n")
    config = load_config(path, {})
    assert config.providers == ("openvino", "cpu")
    assert (config.accelerator_options().openvino_device, config.accelerator_options().fp16) == ("AUTO:GPU,CPU", True)
    assert config.runtime().providers == ("openvino", "cpu")


def test_empty_file_is_all_defaults(tmp_path: Path) -> None:
    path = tmp_path / "server.yaml"
    path.write_text("# nothing set\n")
    assert load_config(path, {}) == ServerConfig()


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("max_cals: 3", "max_cals"),
        ("max_calls: 0", "max_calls"),
        ("max_calls: many", "max_calls"),
        ("listen: 50051", "listen"),
        ("listen: 127.0.0.1:99999", "HOST:PORT"),
        ("tls_cert: nowhere.pem", "tls_cert: expected a file"),
        ("spool_dir: nowhere", "spool_dir: expected a folder"),
        ("providers: cpu,abacus", "providers: expected providers of tensorrt, .*; found cpu, abacus"),
        ("providers: [cpu, cpu]", "each once; found cpu, cpu"),
        ("providers: ''", "providers: expected providers"),
        ("gpu_device: -1", "gpu_device"),
        ("openvino_device: TPU", "openvino_device: expected an OpenVINO device"),
        ("engine_cache: nowhere", "engine_cache: expected a folder"),
        ("- a\n- b", "found list"),
        ("a: [", "expected YAML"),
    ],
)
def test_bad_file_is_named(tmp_path: Path, content: str, expected: str) -> None:
    path = tmp_path / "server.yaml"
    path.write_text(content)
    with pytest.raises(InvalidInputError, match=expected):
        load_config(path, {})


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match=r"nowhere\.yaml"):
        load_config(tmp_path / "nowhere.yaml", {})


def test_certificate_needs_its_key(tmp_path: Path) -> None:
    cert = tmp_path / "cert.pem"
    cert.touch()
    with pytest.raises(InvalidInputError, match="tls_cert and tls_key together"):
        load_config(environment={"AFFECTLINE_TLS_CERT": str(cert)})
    with pytest.raises(InvalidInputError, match="tls_client_ca"):
        load_config(environment={"AFFECTLINE_TLS_CLIENT_CA": str(cert)})


def test_token_is_not_shown() -> None:
    config = load_config(environment={"AFFECTLINE_TOKEN": "not-for-logs"})
    assert "not-for-logs" not in repr(config)
    assert config.token is not None
    assert config.token.get_secret_value() == "not-for-logs"


def test_errors_do_not_repeat_secrets() -> None:
    with pytest.raises(InvalidInputError) as caught:
        load_config(environment={"AFFECTLINE_TOKEN": "not-for-logs", "AFFECTLINE_MAX_CALLS": "-1"})
    assert "not-for-logs" not in str(caught.value)


def test_every_setting_is_described() -> None:
    assert [name for name, field in ServerConfig.model_fields.items() if not field.description] == []
