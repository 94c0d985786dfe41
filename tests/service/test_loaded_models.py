from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from octa_backend.service.loaded_models import Loaded, LoadedModels

SIZES = {"small": 100.0, "middle": 200.0, "large": 500.0}


class Shelf:
    """Loads names instead of models, and remembers which."""

    def __init__(self):
        self.loaded = []

    def __call__(self, model_id):
        self.loaded.append(model_id)
        return Loaded(f"{model_id} {len(self.loaded)}", SIZES[model_id])


@pytest.fixture
def shelf():
    return Shelf()


def test_a_model_is_loaded_once(shelf):
    models = LoadedModels(shelf, 400)
    assert [models.get("small") for _ in range(3)] == ["small 1"] * 3


def test_the_least_recently_used_model_leaves_when_memory_is_short(shelf):
    models = LoadedModels(shelf, 699)
    for name in ("small", "middle", "small", "large", "small", "middle"):
        models.get(name)
    assert shelf.loaded == ["small", "middle", "large", "middle"]


def test_as_many_models_stay_as_there_is_memory_for(shelf):
    models = LoadedModels(shelf, 800)
    for name in ("small", "middle", "large", "small", "middle", "large"):
        models.get(name)
    assert shelf.loaded == ["small", "middle", "large"]


def test_a_model_larger_than_the_limit_answers_all_the_same(shelf):
    models = LoadedModels(shelf, 300)
    assert models.get("small") == "small 1"
    assert models.get("large") == models.get("large") == "large 2"
    assert models.get("small") == "small 3"


def test_a_model_that_is_forgotten_is_loaded_anew(shelf):
    models = LoadedModels(shelf, 400)
    models.get("small")
    models.forget("small")
    models.forget("never seen")
    assert models.get("small") == "small 2"


def test_a_model_is_loaded_anew_only_where_it_is_in_memory(shelf):
    models = LoadedModels(shelf, 400)
    models.reload("small")
    assert shelf.loaded == []
    models.get("small")
    models.reload("small")
    assert models.get("small") == "small 2"


def test_threads_that_want_one_model_load_it_once_and_others_are_not_kept_waiting():
    entered, go_on = threading.Event(), threading.Event()

    def load(model_id):
        if model_id == "large":
            entered.set()
            assert go_on.wait(20)
        return Loaded(object(), SIZES[model_id])

    models = LoadedModels(load, 1000)
    small = models.get("small")
    with ThreadPoolExecutor(3) as pool:
        large = [pool.submit(models.get, "large") for _ in range(3)]
        assert entered.wait(20)
        assert models.get("small") is small
        go_on.set()
        assert len({id(future.result()) for future in large}) == 1
