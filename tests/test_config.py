from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tacit.config import Config, build, merge, parse_assignments, read_toml, to_toml
from tacit.errors import ConfigError


class Inner(Config):
    epochs: int = 3


class Outer(Config):
    name: str = "a"
    train: Inner = Inner()


def test_later_tables_win() -> None:
    assert build(Outer, {"train": {"epochs": 1}}, {"train": {"epochs": 2}, "name": "b"}) == Outer(name="b", train=Inner(epochs=2))


def test_an_unknown_key_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"'train.epoch'.*'train.epochs'"):
        build(Outer, parse_assignments(["train.epoch=5"]))


def test_a_wrong_value_is_an_error_and_no_default() -> None:
    with pytest.raises(ConfigError, match=r"train.epochs.*integer.*'many'"):
        build(Outer, parse_assignments(["train.epochs=many"]))


@pytest.mark.parametrize("bad", ["train.epochs", "=3", ""])
def test_a_malformed_assignment_says_how(bad: str) -> None:
    with pytest.raises(ConfigError, match="key=value"):
        parse_assignments([bad])


def test_a_value_cannot_also_be_a_table() -> None:
    with pytest.raises(ConfigError, match="already given"):
        parse_assignments(["a=1", "a.b=2"])


def test_a_config_cannot_be_changed() -> None:
    with pytest.raises(ValueError):
        Outer().name = "c"  # type: ignore[misc]


values = st.one_of(st.booleans(), st.integers(-(2**40), 2**40), st.floats(allow_nan=False, allow_infinity=False), st.text(st.characters(codec="ascii")))
keys = st.text("abcdefgh_", min_size=1, max_size=5)


@given(st.dictionaries(keys, st.one_of(values, st.lists(st.integers()), st.dictionaries(keys, values))))
def test_toml_comes_back_as_it_went(tmp_path_factory: pytest.TempPathFactory, tables: dict) -> None:
    path = tmp_path_factory.mktemp("toml") / "f.toml"
    path.write_text(to_toml(tables), encoding="utf-8")
    assert read_toml(path) == tables


def test_a_broken_settings_file_is_named(tmp_path) -> None:
    (tmp_path / "f.toml").write_text("a = = 3")
    with pytest.raises(ConfigError, match=r"f\.toml is not valid TOML"):
        read_toml(tmp_path / "f.toml")
    with pytest.raises(ConfigError, match="cannot read"):
        read_toml(tmp_path / "none.toml")


def test_merge_keeps_what_is_not_changed() -> None:
    assert merge({"a": {"b": 1, "c": 2}}, {"a": {"b": 3}}) == {"a": {"b": 3, "c": 2}}


def test_one_setting_of_a_table_leaves_its_other_defaults_alone() -> None:
    from tacit.learn.mssg import MssgConfig

    border = MssgConfig().border
    changed = build(MssgConfig, {"border": {"steps": 10}}).border
    assert changed == border.model_copy(update={"steps": 10}) and changed.padding == "reflect"


class Innermost(Config):
    lr: float = 1.0
    epochs: int = 1


class Middle(Config):
    train: Innermost = Innermost(lr=2.0)
    size: int = 5


class Outermost(Config):
    inner: Middle = Middle(train=Innermost(lr=3.0, epochs=7))


def test_a_setting_two_tables_deep_leaves_the_others_as_the_outermost_settings_have_them() -> None:
    assert build(Outermost, {"inner": {"train": {"epochs": 9}}}).inner == Middle(train=Innermost(lr=3.0, epochs=9))
    assert build(Outermost, {"inner": {"size": 6}}).inner == Middle(train=Innermost(lr=3.0, epochs=7), size=6)
    assert build(Middle, {"train": {"epochs": 9}}).train == Innermost(lr=2.0, epochs=9)
