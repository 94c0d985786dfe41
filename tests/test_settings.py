from __future__ import annotations

from contextlib import closing

import pytest

from octa_backend.errors import InvalidSettings
from octa_backend.settings import Settings, load_settings
from octa_backend.storage.database import Database


def test_a_misspelt_variable_is_named_with_the_one_that_was_meant(monkeypatch):
    monkeypatch.setenv("OCTA_MAX_UPLAOD_MIB", "10")
    with pytest.raises(InvalidSettings, match="OCTA_MAX_UPLAOD_MIB is not a setting; did you mean OCTA_MAX_UPLOAD_MIB"):
        load_settings()


def test_a_variable_that_resembles_nothing_is_named_without_a_guess(monkeypatch):
    monkeypatch.setenv("OCTA_XYZZY", "10")
    with pytest.raises(InvalidSettings, match=r"OCTA_XYZZY is not a setting$"):
        load_settings()


def test_variables_are_read_in_any_case_and_given_values_win(monkeypatch, tmp_path):
    monkeypatch.setenv("octa_port", "9001")
    monkeypatch.setenv("OCTA_MAX_ATTEMPTS", "7")
    settings = load_settings(port=9002, data_dir=tmp_path, host=None)
    assert (settings.port, settings.max_attempts, settings.host) == (9002, 7, "127.0.0.1")


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("OCTA_PORT", "70000"),
        ("OCTA_PORT", "http"),
        ("OCTA_MAX_ATTEMPTS", "0"),
        ("OCTA_JOBS_PER_DEVICE", "0"),
        ("OCTA_HEARTBEAT_SECONDS", "0"),
        ("OCTA_WORKER_NICENESS", "20"),
        ("OCTA_LANGUAGE", "fr"),
        ("OCTA_MAX_SCAN_PIXELS", "1"),
    ],
)
def test_a_value_out_of_range_is_refused_by_its_name(monkeypatch, variable, value):
    monkeypatch.setenv(variable, value)
    with pytest.raises(InvalidSettings, match=variable.removeprefix("OCTA_").lower()):
        load_settings()


@pytest.mark.parametrize("variable", ["OCTA_API_KEYS", "OCTA_CORS_ORIGINS"])
def test_a_list_that_is_not_json_is_an_error_in_words(monkeypatch, variable):
    monkeypatch.setenv(variable, "plain-text")
    with pytest.raises(InvalidSettings, match=variable.removeprefix("OCTA_").lower()):
        load_settings()


def test_settings_cannot_be_changed(settings):
    with pytest.raises(ValueError, match="frozen"):
        settings.port = 1


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1"])
def test_loopback_needs_no_key(host):
    Settings(host=host).check_binding()


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.5", "::", ""])
def test_listening_beyond_loopback_without_a_key_is_refused_and_says_how_to_set_one(host):
    with pytest.raises(InvalidSettings, match=r"OCTA_API_KEYS='\[\"a-long-random-key\"\]'"):
        Settings(host=host).check_binding()


def test_listening_beyond_loopback_with_a_key_is_allowed():
    Settings(host="0.0.0.0", api_keys=["k" * 20]).check_binding()


def test_an_empty_key_is_no_key():
    with pytest.raises((InvalidSettings, ValueError), match="key"):
        Settings(host="0.0.0.0", api_keys=[""]).check_binding()


@pytest.mark.parametrize("key", ["schlüssel-aus-bern", "钥匙", " secret", "secret ", "a\nsecret"])
def test_a_key_that_no_header_can_carry_is_refused(key):
    with pytest.raises(InvalidSettings, match="an API key has ASCII letters") as refused:
        load_settings(api_keys=[key])
    assert key.strip() not in str(refused.value)


def test_secrets_are_never_shown():
    settings = Settings(api_keys=["hidden-key"], database_url="postgresql://octa:hidden-password@db/octa")
    shown = f"{settings.without_secrets()} {settings!r} {settings.model_dump_json()}"
    assert settings.without_secrets()["api_keys"] == "1 keys"
    assert "postgresql://octa:***@db/octa" in shown
    assert "hidden-key" not in shown
    assert "hidden-password" not in str(settings.without_secrets())


def test_all_settings_but_secrets_are_shown_and_all_have_a_description():
    assert set(Settings().without_secrets()) == set(Settings.model_fields)
    assert all(field.description for field in Settings.model_fields.values())


def test_the_database_is_sqlite_in_the_data_folder_unless_an_address_is_given(tmp_path):
    assert Settings(data_dir=tmp_path).effective_database_url == f"sqlite:///{tmp_path}/octa.sqlite3"
    assert Settings(database_url="postgresql://db/x").effective_database_url == "postgresql://db/x"


@pytest.mark.parametrize(
    ("url", "words"),
    [("octa.sqlite3", "no SQLAlchemy URL"), ("sqlite://", "needs a file"), ("sqlite:///:memory:", "needs a file")],
)
def test_an_address_that_names_no_database_is_refused(monkeypatch, url, words):
    monkeypatch.setenv("OCTA_DATABASE_URL", url)
    with pytest.raises(InvalidSettings, match=f"database_url: .*{words}"):
        load_settings()


def test_a_data_folder_has_a_database_where_there_is_one_or_an_address(tmp_path):
    assert not Settings(data_dir=tmp_path).has_database
    assert Settings(data_dir=tmp_path, database_url="postgresql://db/x").has_database
    (tmp_path / "octa.sqlite3").touch()
    assert Settings(data_dir=tmp_path).has_database


@pytest.mark.parametrize("name", ["a?b", "a%20b", "a#b", "a b", "视网膜"])
def test_the_database_lies_in_the_data_folder_whatever_its_name(tmp_path, name):
    folder = tmp_path / name
    folder.mkdir()
    with closing(Database(Settings(data_dir=folder).effective_database_url)) as database:
        database.migrate()
    assert (folder / "octa.sqlite3").exists()
    assert [path.name for path in tmp_path.iterdir()] == [name]
