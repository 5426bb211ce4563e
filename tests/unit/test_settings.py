"""Knobs: where their values come from, and what is said of a wrong one."""

import pytest

from server import settings as settings_module
from server.core.errors import ConfigurationError
from server.settings import ENV_PREFIX, Settings, load_settings, usable_cores


@pytest.fixture(autouse=True)
def no_variables(monkeypatch):
    for name in Settings.model_fields:
        monkeypatch.delenv(ENV_PREFIX + name.upper(), raising=False)


def test_a_flag_wins_over_the_environment_which_wins_over_the_default(monkeypatch):
    assert load_settings([]).queue_max_items == 1024
    monkeypatch.setenv("STILLGUARD_QUEUE_MAX_ITEMS", "20")
    assert load_settings([]).queue_max_items == 20
    assert load_settings(["--queue-max-items", "10"]).queue_max_items == 10


def test_every_knob_has_a_description_and_a_flag_in_the_help(capsys):
    with pytest.raises(SystemExit) as caught:
        load_settings(["--help"])
    assert caught.value.code == 0
    said = capsys.readouterr().out
    for name, knob in Settings.model_fields.items():
        assert f"--{name.replace('_', '-')} " in said
        assert knob.description
        assert knob.description.endswith(".")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--batch-max-items", "-1"],
            "--batch-max-items (STILLGUARD_BATCH_MAX_ITEMS): Input should be greater than or equal to 0",
        ),
        (["--request-timeout-s", "inf"], "--request-timeout-s (STILLGUARD_REQUEST_TIMEOUT_S): Input should be a finite number"),
        (
            ["--teacher", "http://t,ftp://t"],
            '--teacher (STILLGUARD_TEACHER): must be "embedded", "none", or a URL like http://host:8000',
        ),
        (["--teacher-breaker-failures", "11"], "--teacher-breaker-failures must be at most --teacher-breaker-window"),
        (["--teacher-timeout-s", "300"], "--async-ttl-s must be more than --teacher-timeout-s"),
        (["--encode-max-chars", "100"], "--encode-max-chars must be at least --max-request-chars"),
        (["--teacher", "http://t"], "a teacher URL needs --teacher-model (STILLGUARD_TEACHER_MODEL)"),
    ],
)
def test_a_wrong_value_is_named_with_its_flag_and_variable(arguments, message):
    with pytest.raises(ConfigurationError) as caught:
        load_settings(arguments)
    assert str(caught.value) == message


def test_several_wrong_values_are_named_together():
    with pytest.raises(ConfigurationError, match=r"--port .*; --sessions "):
        load_settings(["--port", "-1", "--sessions", "-1"])


def test_a_misspelt_variable_is_refused_with_a_suggestion(monkeypatch):
    monkeypatch.setenv("STILLGUARD_TEACHR", "none")
    with pytest.raises(
        ConfigurationError, match="unknown environment variable STILLGUARD_TEACHR; did you mean STILLGUARD_TEACHER"
    ):
        load_settings([])


def test_the_teacher_is_a_word_or_a_url():
    assert load_settings([]).teacher_urls == ()
    assert load_settings(["--teacher", "embedded"]).teacher_urls == ()
    asked = load_settings(["--teacher", "http://vllm:8000, https://other/v1", "--teacher-model", "shieldgemma"])
    assert (asked.teacher_urls, asked.teacher_model) == (("http://vllm:8000", "https://other/v1"), "shieldgemma")


@pytest.mark.parametrize(
    "url",
    [
        *("http://", "http://:8000", "http://[::1", "http://h:port", "http://h:0", "http://h:65536", "http:///v1"),
        *("http://a b", "http://h\n:80", "ftp://h", "h:8000", "http://h,http://"),
    ],
)
def test_a_teachers_url_names_a_host_and_a_port_that_there_can_be(url):
    with pytest.raises(ConfigurationError, match="a URL like http://host:8000"):
        load_settings(["--teacher", url, "--teacher-model", "m"])


@pytest.mark.parametrize("url", ["collector:4318", "http://", "http://[::1", "http://c:port", ""])
def test_a_collectors_url_names_a_host_that_can_be_asked(url):
    with pytest.raises(ConfigurationError, match=r"--otlp-endpoint .*a URL like http://collector:4318"):
        load_settings(["--otlp-endpoint", url])
    assert load_settings(["--otlp-endpoint", "https://c.example/otlp"]).otlp_endpoint == "https://c.example/otlp"


@pytest.mark.parametrize("url", ["http://10.0.0.7", "https://[::1]:8443/v1/", "http://my_host:65535", "http://judge.svc.local"])
def test_a_teachers_url_may_be_any_that_can_be_asked(url):
    assert load_settings(["--teacher", url, "--teacher-model", "m"]).teacher_urls == (url,)


@pytest.mark.parametrize(("limit", "cores"), [("max 100000", 64), ("250000 100000", 2), ("50000 100000", 1), ("nonsense", 64)])
def test_a_containers_cpu_limit_bounds_the_sessions(monkeypatch, tmp_path, limit, cores):
    (tmp_path / "cpu.max").write_text(limit)
    monkeypatch.setattr(settings_module, "_CGROUP_CPU_MAX", tmp_path / "cpu.max")
    monkeypatch.setattr("os.sched_getaffinity", lambda _pid: set(range(64)))
    assert usable_cores() == cores
    assert Settings().sessions_on("cpu") == cores
    assert Settings(sessions=5).sessions_on("cpu") == 5


def test_a_gpu_gets_one_session_and_larger_batches():
    assert Settings().sessions_on("cuda") == 1
    by_device = [(Settings().batch_items_on(device), Settings().batch_tokens_on(device)) for device in ("cpu", "cuda")]
    assert by_device == [(32, 192), (256, 16_384)]
    chosen = Settings(sessions=3, batch_max_items=7, batch_max_tokens=99)
    assert {(chosen.sessions_on(d), chosen.batch_items_on(d), chosen.batch_tokens_on(d)) for d in ("cpu", "cuda")} == {
        (3, 7, 99)
    }
