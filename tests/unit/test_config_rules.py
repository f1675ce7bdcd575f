"""Rules of the config history: names, patterns, versions, secrets and differences."""

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reanimate.config_history.differences import compare, compare_json
from reanimate.config_history.finding import find_files, is_named
from reanimate.config_history.masking import MASK, looks_secret, masked_json, masked_text
from reanimate.config_history.server_restore import plan_settings
from reanimate.config_history.subjects import Setting, path_of, subject_of
from reanimate.config_history.versions import Author, Version, choose, identified, same_state
from reanimate.errors import InputInvalid, NotFound, Refused

NOW = datetime(2026, 11, 23, 1, 30, tzinfo=UTC)
SOMEBODY = Author(name="root", source="owner")


def version(number: int = 0, **changes: object) -> Version:
    fields = {"subject": "/etc/a.yaml", "kind": "file", "found_at": NOW + timedelta(hours=number), "author": SOMEBODY}
    return identified(Version.model_validate({**fields, "sha256": f"{number:064x}", **changes}), None)


# -- names -------------------------------------------------------------------------------------------------------------


@given(st.binary(min_size=1, max_size=40).filter(lambda name: b"\0" not in name))
def test_subject__every_path_can_be_had_back(name: bytes) -> None:
    """Any bytes make a subject that JSON and a terminal can hold, and no two the same one."""
    subject = subject_of(b"/" + name)
    assert os.fsencode(path_of(subject)) == b"/" + name
    assert subject.encode()
    assert not any(ord(character) < 0x20 for character in subject)


def test_subject__a_usual_path_is_itself() -> None:
    assert subject_of("/etc/agent/größe.yaml") == "/etc/agent/größe.yaml"
    assert subject_of(b"/etc/\xff\n\\x") == r"/etc/\xff\x0a\\x"
    with pytest.raises(InputInvalid):
        path_of(r"/etc/\q")
    with pytest.raises(InputInvalid):
        path_of("qdrant:primary/aliases")


@pytest.mark.parametrize(
    "setting",
    [
        Setting("primary", "collections", "kb 1:2"),
        Setting("primary", "aliases"),
        Setting("a-b", "server"),
    ],
)
def test_setting__reads_its_own_subject(setting: Setting) -> None:
    assert Setting.parse(setting.subject) == setting


@pytest.mark.parametrize(
    "wrong", ["qdrant:", "qdrant:primary", "qdrant:primary/points", "qdrant:p/collections", "/etc/a"]
)
def test_setting__refuses_what_is_none(wrong: str) -> None:
    with pytest.raises(InputInvalid, match="is no setting"):
        Setting.parse(wrong)


# -- patterns ----------------------------------------------------------------------------------------------------------


def test_find_files__patterns_folders_and_what_is_not_walked_into(tmp_path: Path) -> None:
    """A folder stands for all in it, a symlink for itself; git's own files and half restored ones are left out."""
    for name in (
        "a.yaml",
        "b.json",
        ".hidden",
        "deep/er/c.yaml",
        ".git/config",
        ".reanimate-restoring-12",
        "x[1].yaml",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    (tmp_path / "link").symlink_to("deep")
    (tmp_path / "loop").symlink_to(".")
    whole = find_files([str(tmp_path)])
    names = {str(path.relative_to(tmp_path)) for path in whole.paths}
    assert names == {"a.yaml", "b.json", ".hidden", "deep/er/c.yaml", "x[1].yaml", "link", "loop"}
    assert [path.name for path in find_files([f"{tmp_path}/*.yaml", f"{tmp_path}/a.yaml"]).paths] == [
        "a.yaml",
        "x[1].yaml",
    ]
    assert [path.name for path in find_files([f"{tmp_path}/**/c.yaml"]).paths] == ["c.yaml"]
    assert [path.name for path in find_files([f"{tmp_path}/x[1].yaml"]).paths] == ["x[1].yaml"]
    assert find_files([f"{tmp_path}/none*"]).problems == (f"{tmp_path}/none*: nothing is there",)


@pytest.mark.parametrize(
    ("pattern", "path", "named"),
    [
        ("/etc/agent/*.yaml", "/etc/agent/a.yaml", True),
        ("/etc/agent/*.yaml", "/etc/agent/deep/a.yaml", False),
        ("/etc/agent", "/etc/agent/deep/a.yaml", True),
        ("/etc/agent/", "/etc/agent/a", True),
        ("/etc/agent", "/etc/agents/a", False),
        ("/etc/**/a.yaml", "/etc/x/y/a.yaml", True),
        ("/etc/**/a.yaml", "/etc/a.yaml", True),
        ("/etc/[ab].yaml", "/etc/b.yaml", True),
        ("/etc/[!ab].yaml", "/etc/b.yaml", False),
        ("/etc/?.yaml", "/etc/b.yaml", True),
        ("/etc/a.yaml", "/etc/aXyaml", False),
    ],
)
def test_is_named__goes_by_the_pattern_alone(pattern: str, path: str, named: bool) -> None:
    """Also for a path that is gone: else its deletion would be no version."""
    assert is_named(Path(path), [pattern]) is named


# -- versions ----------------------------------------------------------------------------------------------------------


def test_same_state__a_touched_file_is_not_another_version() -> None:
    one = version(mtime=NOW, mode="0644")
    assert same_state(one, one.model_copy(update={"mtime": NOW + timedelta(days=1), "found_at": NOW, "id": "x"}))
    assert not same_state(one, one.model_copy(update={"mode": "0600"}))
    assert not same_state(one, one.model_copy(update={"kind": "unreadable"}))
    large = version(kind="too_large", sha256=None, size=7, mtime=NOW)
    assert not same_state(large, large.model_copy(update={"mtime": NOW + timedelta(1)}))


def test_choose__by_id_by_word_and_by_time() -> None:
    newest, middle, oldest = versions = [version(2), version(1), version(0)]
    assert choose(versions, "latest") == newest
    assert choose(versions, "previous") == middle
    assert choose(versions, oldest.id) == choose(versions, oldest.id[:6]) == oldest
    assert choose(versions, "2026-11-23T02:45") == middle
    assert choose(versions, "2026-11-23T04:30:00+01:00") == newest
    for wrong in ("2026-11-22", "zzzz", "", newest.id[:3]):
        with pytest.raises(NotFound, match="the newest are"):
            choose(versions, wrong)
    with pytest.raises(NotFound, match="none"):
        choose([], "latest")


# -- secrets -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("api_key: abc123def", f"api_key: {MASK}"),
        ('  "api-key": "abc", "model": "m1"', f'  "api-key": "{MASK}", "model": "m1"'),
        ("OPENAI_API_KEY=sk-abc # note", f"OPENAI_API_KEY={MASK}"),
        ("password = 'it''s'", f"password = '{MASK}'"),
        ("url: postgresql://user:pass@host/db", f"url: postgresql://user:{MASK}@host/db"),
        ("Authorization: Bearer abcdef123456", f"Authorization: Bearer {MASK}"),
        ("token: |\n  line one\n  line two\nname: x", f"token: |\n  {MASK}\n  {MASK}\nname: x"),
        ("api_keys:\n  - first\n  - second\nname: x", f"api_keys:\n  - {MASK}\n  - {MASK}\nname: x"),
        ('bearer_tokens = ["a1", "b2"]', f"bearer_tokens = {MASK}"),
        ("<password>abc</password>", f"<password>{MASK}</password>"),
        ("note: AKIAABCDEFGHIJKLMNOP is ours", f"note: {MASK} is ours"),
        (
            "-----BEGIN PRIVATE KEY-----\nMIIabc\ndef\n-----END PRIVATE KEY-----",
            f"-----BEGIN PRIVATE KEY-----\n{MASK}\n{MASK}\n-----END PRIVATE KEY-----",
        ),
        ("model: gpt\nmax_tokens: 128000", None),
        ("api_key: ${OPENAI_API_KEY}", None),
        ("api_key: null\npassword: ''\ntokens: true", None),
        ("secret_name: {{ vault.x }}", None),
        ("http://host:8080/path", None),
    ],
)
def test_masked_text__hides_the_value_and_keeps_the_lines(text: str, shown: str | None) -> None:
    """What gives nothing away is shown; a text with nothing hidden does not look secret."""
    assert masked_text(text) == (text if shown is None else shown)
    assert looks_secret(text) is (shown is not None)


def test_masked_json__by_name_at_any_depth() -> None:
    value = {"a": [{"api_key": "x", "n": 1}], "secret": {"token": "y"}, "url": "http://u:p@h"}
    shown = {"a": [{"api_key": MASK, "n": 1}], "secret": {"token": MASK}, "url": f"http://u:{MASK}@h"}
    assert masked_json(value) == shown


# -- differences -------------------------------------------------------------------------------------------------------


def _plain(before: bytes | None, after: bytes | None, *, settings: bool = False) -> list[str]:
    return [line.text for line in compare(before, after, names=("a", "b"), settings=settings)[2:]]


def test_compare__text_in_unified_form() -> None:
    before = b"".join(b"line %d\n" % number for number in range(10))
    after = before.replace(b"line 5\n", b"line five\nline 5b\n")
    assert _plain(before, after) == [
        "@@ -3,7 +3,8 @@",
        *(f" line {number}" for number in (2, 3, 4)),
        "-line 5",
        "+line five",
        "+line 5b",
        *(f" line {number}" for number in (6, 7, 8)),
    ]
    assert _plain(before, before) == []
    assert _plain(None, b"x\n") == ["@@ -0,0 +1,1 @@", "+x"]


def test_compare__a_changed_secret_shows_as_changed_and_not_as_what() -> None:
    lines = _plain(b"model: a\napi_key: old-one\n", b"model: a\napi_key: new-one\n")
    assert lines == ["@@ -1,2 +1,2 @@", " model: a", f"-api_key: {MASK}", f"+api_key: {MASK}"]


def test_compare__what_is_no_text() -> None:
    assert _plain(b"\x00\x01", b"\x00\x01\x02") == ["binary: 2 bytes before, 3 bytes after"]
    assert _plain(b"a\n", b"a") == ["the last line ends without a line break after"]
    assert _plain(b"a\nb\n", b"a\r\nb\r\n") == ["only the line ends differ"]


def test_compare_json__names_each_value_by_its_path() -> None:
    before = {"config": {"hnsw": {"m": 16}, "gone": 1, "api_key": "a"}, "same": [1, 2]}
    after = {"config": {"hnsw": {"m": 32}, "new": {"x": None}, "api_key": "b"}, "same": [1, 2]}
    assert [line.text for line in compare_json(before, after)] == [
        f"config.api_key: {MASK}",
        f"config.api_key: {MASK}",
        "config.gone: 1",
        "config.hnsw.m: 16",
        "config.hnsw.m: 32",
        'config.new: {"x": null}',
    ]


# -- a server's settings -----------------------------------------------------------------------------------------------


def _collection(**config: object) -> dict[str, object]:
    whole = {
        "params": {"vectors": {"size": 4, "distance": "Cosine"}, "shard_number": 1, "replication_factor": 1},
        "hnsw_config": {"m": 16, "ef_construct": 100},
        "optimizer_config": {"indexing_threshold": 10000, "max_segment_size": None},
        "wal_config": {"wal_capacity_mb": 32},
        "quantization_config": None,
        **config,
    }
    return {"config": whole, "payload_schema": {"lang": {"data_type": "keyword"}}, "placement": {"0": {"peers": [1]}}}


KB = Setting("primary", "collections", "kb")


def test_plan_settings__sends_what_differs_and_names_what_a_server_cannot_do() -> None:
    live = _collection(
        params={
            "vectors": {"size": 8, "distance": "Cosine", "on_disk": True},
            "shard_number": 2,
            "replication_factor": 2,
            "read_fan_out_factor": 1,
        },
        hnsw_config={"m": 32, "ef_construct": 100},
        optimizer_config={"indexing_threshold": 0, "max_segment_size": 1000},
        wal_config={"wal_capacity_mb": 64},
        quantization_config={"scalar": {"type": "int8"}},
        metadata={"new": 1, "kept": 2},
        strict_mode_config={"enabled": True},
    )
    live["payload_schema"] = {"year": {"data_type": "integer"}}
    wanted = _collection(metadata={"kept": 2, "old": 3}, strict_mode_config={"enabled": False})
    plan = plan_settings(KB, wanted, live, collections=["kb"])
    assert plan.patch == {
        "params": {"replication_factor": 1},
        "hnsw_config": {"m": 16},
        "optimizers_config": {"indexing_threshold": 10000},
        "strict_mode_config": {"enabled": False},
        "quantization_config": "Disabled",
        "metadata": {"new": None, "old": 3},
    }
    assert plan.indexes == {"lang": {"data_type": "keyword"}}
    told = "\n".join(plan.cannot)
    for what in (
        "size is 8",
        "shard_number is 2",
        "wal_capacity_mb is 64",
        "max_segment_size is 1000",
        "on_disk is True",
        "read_fan_out_factor is 1",
    ):
        assert what in told
    assert any("'year' was made since" in note for note in plan.notes)
    assert not plan_settings(KB, wanted, wanted, collections=["kb"]).does_something


def test_plan_settings__of_named_vectors() -> None:
    def vectors(**shapes: object) -> dict[str, object]:
        return _collection(params={"vectors": shapes, "sparse_vectors": {"bm25": {"modifier": "idf"}}})

    wanted = vectors(a={"size": 4, "distance": "Dot", "hnsw_config": {"m": 8}}, b={"size": 2, "distance": "Dot"})
    live = vectors(a={"size": 4, "distance": "Dot", "hnsw_config": {"m": 9}}, c={"size": 2, "distance": "Dot"})
    plan = plan_settings(KB, wanted, live, collections=["kb"])
    assert plan.patch == {"vectors": {"a": {"hnsw_config": {"m": 8}}}}
    assert plan.cannot == ("vector 'b' is gone: restore a backup instead", "vector 'c' was added since, and stays")


def test_plan_settings__of_aliases() -> None:
    """Missing ones are made, moved ones are moved back, those made since stay, and what cannot be is named."""
    aliases = Setting("primary", "aliases")
    wanted = {"aliases": {"kb": "kb-1", "moved": "kb-1", "lost": "kb-0", "taken": "kb-1"}}
    live = {"aliases": {"moved": "kb-2", "new": "kb-2"}}
    plan = plan_settings(aliases, wanted, live, collections=["kb-1", "kb-2", "taken"])
    assert plan.aliases == {"kb": "kb-1", "moved": "kb-1"}
    assert len(plan.cannot) == 2
    assert any("'new' was made since" in note for note in plan.notes)
    with pytest.raises(Refused, match="the deployment's"):
        plan_settings(Setting("primary", "server"), {}, {}, collections=[])
